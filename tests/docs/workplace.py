"""A folder with the files that the documentation names, and its commands run there.

Commands of `qmedsam` and programs run in this process, which has the libraries imported and the
models compiled; what is for a shell, serves or starts processes runs in one of its own.
"""

from __future__ import annotations

import dataclasses
import os
import runpy
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from qmedsam import Settings, exit_status
from qmedsam.cli import main
from qmedsam.core.contract import Grid
from qmedsam.model.network import CompiledNetwork
from tests.conftest import EXAMPLES, HANGS_AFTER_S, ROOT, wait_for
from tests.docs.pages import Command

DOCUMENTED_PORT = "8000"
BRAIN, FUNDUS = EXAMPLES / "3DBox_MR_brain.npz", EXAMPLES / "2DBox_Fundus_retina.npz"
MODELS = {"float": "float", "int8": "int8", "mine": "int8", "medsam": "float"}
CT_SLICES, CT_SLICE_MM = 6, 2.5


class Workplace:
    """A prepared folder, of which each command gets a copy, and what all commands share.

    Args:
        parent: folder to make it in.
    """

    def __init__(self, parent: Path) -> None:
        self.prepared, self.cache = parent / "prepared", parent / "cache"
        self.copy = parent / "copy"
        self._networks: dict[tuple[Path, str, int], CompiledNetwork] = {}
        self._ran: set[tuple[str, ...]] = set()
        self.prepared.mkdir()
        _prepare(self.prepared)

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """Yield a copy of the folder, and remove it."""
        shutil.copytree(self.prepared, self.copy, symlinks=True)
        try:
            yield self.copy
        finally:
            shutil.rmtree(self.copy)

    def compiled(
        self, model_dir: Path, settings: Settings, *, grids: Sequence[Grid] | None
    ) -> CompiledNetwork:
        """Return a network, which is compiled once for all commands; stands for its class."""
        key = (Path(model_dir).resolve(), settings.precision, settings.threads)
        if key not in self._networks:
            cached = dataclasses.replace(settings, cache_dir=self.cache)
            self._networks[key] = CompiledNetwork(model_dir, cached, grids=grids)
        return self._networks[key]

    def is_first(self, command: Sequence[str]) -> bool:
        """Say whether a command has not been asked about before."""
        is_new = tuple(command) not in self._ran
        self._ran.add(tuple(command))
        return is_new

    def run_here(self, monkeypatch: pytest.MonkeyPatch, words: Sequence[str]) -> int:
        """Run `qmedsam` in this process and in the copy; return its exit status."""
        self._enter(monkeypatch)
        return main(list(words))

    def run_program(self, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        """Run a Python program in the copy."""
        program = self.copy / "program.py"
        program.write_text(code)
        if "multiprocessing" in code:  # its processes import it as their main module
            self.run([sys.executable, program.name])
            return
        self._enter(monkeypatch)
        runpy.run_path(str(program), run_name="__main__")

    def run(self, command: Sequence[str], **variables: str) -> None:
        """Run a command in the copy; its exit status must be 0."""
        result = subprocess.run(
            command,
            cwd=self.copy,
            env={**self.environment(), **variables},
            capture_output=True,
            text=True,
            timeout=HANGS_AFTER_S,
            check=False,
        )
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}"

    def environment(self) -> dict[str, str]:
        """Return the variables of a user who has installed the package."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("QMEDSAM_")}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**kept, "PATH": path, "QMEDSAM_CACHE_DIR": str(self.cache)}

    @contextmanager
    def serving(self, command: Command) -> Iterator[str]:
        """Start a page on a free port, yield the port once it answers, and stop it."""
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            port = str(chosen.getsockname()[1])
        words = [*command.words, "--port", port]
        process = subprocess.Popen(words, cwd=self.copy, env=self.environment())
        try:
            _wait_for(f"http://127.0.0.1:{port}/", process)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=HANGS_AFTER_S)

    def run_curl(self, command: Command, port: str) -> None:
        """Send a request to the page on a port; an answer that is an error fails."""
        words = [word.replace(f":{DOCUMENTED_PORT}/", f":{port}/") for word in command.words[1:]]
        options = ["--noproxy", "*", "--fail-with-body", "--silent", "--show-error"]
        self.run(["curl", *options, *words])
        self.check_written(command.outputs)

    def check_written(self, names: Sequence[str]) -> None:
        """Check that files and folders of the copy are there and not empty."""
        for name in names:
            path = self.copy / name
            has_content = any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
            assert has_content, f"{name} is empty"

    def _enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(self.copy)
        monkeypatch.setattr("qmedsam.segmenter.CompiledNetwork", self.compiled)
        for name in [name for name in os.environ if name.startswith("QMEDSAM_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("QMEDSAM_CACHE_DIR", str(self.cache))


def has_curl() -> bool:
    """Whether there is a curl with `--json`, which began with 7.82."""
    if shutil.which("curl") is None:
        return False
    options = subprocess.run(["curl", "--help", "all"], capture_output=True, text=True, check=False)
    return "--json" in options.stdout


def _prepare(folder: Path) -> None:
    """Fill a folder with all that a command on the pages takes for there."""
    for name in ("predict.sh", "inference", "examples"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("models", "masks", "path/to/cases", "inputs", "cases"):
        (folder / name).mkdir(parents=True)
    for name, source in MODELS.items():
        (folder / "models" / name).symlink_to(ROOT / "models" / source)
    for cases in ("path/to/cases", "inputs"):
        shutil.copy(FUNDUS, folder / cases)
    volume, image = np.load(BRAIN)["imgs"], np.load(FUNDUS)["imgs"]
    nifti = nibabel.Nifti1Image(volume.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
    nibabel.save(nifti, folder / "brain.nii.gz")
    np.savez_compressed(folder / "masks" / "brain.npz", segs=volume // 200)
    np.savez_compressed(folder / "cases" / "brain.npz", **np.load(BRAIN))
    cv2.imwrite(str(folder / "fundus.png"), image[..., ::-1])
    _write_series(folder / "ct_series")
    _write_labels(folder)
    (folder / "boxes.csv").write_text("x0,y0,z0,x1,y1,z1\n10,20,1,60,90,4\n")


def _write_series(folder: Path) -> None:
    folder.mkdir()
    uid = generate_uid()
    for number in range(CT_SLICES):
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        dataset.SeriesInstanceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + CT_SLICE_MM * number]
        dataset.save_as(folder / f"{number}.dcm")


def _write_labels(folder: Path) -> None:
    """Write labels of the series, as of other programs."""
    segs = np.zeros((CT_SLICES, 128, 128), dtype=np.uint8)
    segs[2:4, 30:60, 40:80] = 1
    np.savez_compressed(folder / "masks" / "ct.npz", segs=segs)
    words = ["convert", str(folder / "ct_series"), "--labels", str(folder / "masks" / "ct.npz")]
    for output in (["organs.nii.gz"], ["plan.dcm", "--as", "rtstruct"]):
        assert main([*words, "-o", str(folder / output[0]), *output[1:]]) == exit_status.DONE


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
