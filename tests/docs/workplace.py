"""A folder with the files that the documentation names, and its commands run there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import nibabel
import numpy as np

from tests.conftest import EXAMPLES, HANGS_AFTER_S, ROOT, wait_for
from tests.docs.pages import Command
from tests.qmedsam.formats.conftest import series

DOCUMENTED_PORT = "8000"
BRAIN, FUNDUS = EXAMPLES / "3DBox_MR_brain.npz", EXAMPLES / "2DBox_Fundus_retina.npz"
# Stands for what `pip install .` makes; that it does is in tests/packaging/test_installed.py.
QMEDSAM = '#!/bin/sh\nexec python -m qmedsam "$@"\n'
MODELS = {"float": "float", "int8": "int8", "mine": "int8", "medsam": "float"}


def prepare(folder: Path) -> None:
    """Fill a folder with all that a command on the pages takes for there."""
    shutil.copy(ROOT / "predict.sh", folder)
    (folder / "examples").symlink_to(ROOT / "examples")
    for name in ("models", "bin", "masks", "path/to/cases", "inputs", "cases"):
        (folder / name).mkdir(parents=True)
    for name, source in MODELS.items():
        (folder / "models" / name).symlink_to(ROOT / "models" / source)
    (folder / "bin" / "qmedsam").write_text(QMEDSAM)
    (folder / "bin" / "qmedsam").chmod(0o755)
    for cases in ("path/to/cases", "inputs"):
        shutil.copy(FUNDUS, folder / cases)
    _write_scans(folder)
    np.savez_compressed(folder / "cases" / "brain.npz", **np.load(BRAIN))
    (folder / "boxes.csv").write_text("x0,y0,z0,x1,y1,z1\n10,20,1,60,90,4\n")


def _write_scans(folder: Path) -> None:
    volume, image = np.load(BRAIN)["imgs"], np.load(FUNDUS)["imgs"]
    nifti = nibabel.Nifti1Image(volume.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
    nibabel.save(nifti, folder / "brain.nii.gz")
    np.savez_compressed(folder / "masks" / "brain.npz", segs=volume // 200)
    cv2.imwrite(str(folder / "fundus.png"), image[..., ::-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what its own test files have
        series(folder / "ct_series")


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QMEDSAM_")}
    programs = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **kept,
        "PATH": os.pathsep.join(programs),
        "PYTHONPATH": str(ROOT),
        "QMEDSAM_CACHE_DIR": str(folder.parent / "cache"),
    }


def run(folder: Path, command: Sequence[str], **variables: str) -> None:
    """Run a command in a folder; its exit status must be 0."""
    result = subprocess.run(
        command,
        cwd=folder,
        env={**environment(folder), **variables},
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}"


def check_written(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        has_content = any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
        assert has_content, f"{name} is empty"


@contextmanager
def serving(folder: Path, command: Command) -> Iterator[str]:
    """Start a page on a free port, yield the port once it answers, and stop it."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = str(chosen.getsockname()[1])
    words = [*command.words, "--port", port]
    process = subprocess.Popen(words, cwd=folder, env=environment(folder))
    try:
        _wait_for(f"http://127.0.0.1:{port}/", process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=HANGS_AFTER_S)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers() -> bool:
        try:
            with opener.open(address) as answer:
                assert b"<html" in answer.read()
        except urllib.error.URLError:
            return False
        return True

    wait_for(answers, f"An answer of {address}", process)


def has_curl() -> bool:
    """Whether there is a curl with `--json`, which began with 7.82."""
    if shutil.which("curl") is None:
        return False
    options = subprocess.run(["curl", "--help", "all"], capture_output=True, text=True, check=False)
    return "--json" in options.stdout


def run_curl(folder: Path, command: Command, port: str) -> None:
    """Send a request to the page on a port; an answer that is an error fails."""
    words = [word.replace(f":{DOCUMENTED_PORT}/", f":{port}/") for word in command.words[1:]]
    run(folder, ["curl", "--noproxy", "*", "--fail-with-body", "--silent", "--show-error", *words])
    check_written(folder, command.outputs)
