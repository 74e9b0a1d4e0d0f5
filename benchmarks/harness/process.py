"""Fresh processes, timed from outside: wall time, peak memory, exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The service by model and precision of what is not in int8; `auto` is what a user gets.
SERVICES = {
    "f32": ("--variant", "float", "--precision", "f32"),
    "bf16": ("--variant", "float", "--precision", "bf16"),
    "int8": ("--variant", "int8", "--precision", "auto"),
}


@dataclass(frozen=True)
class Finished:
    """A process that has ended.

    Attributes:
        peak_bytes: largest resident memory of it or one of its children.
        output: what it wrote to standard error.
    """

    status: int
    wall_s: float
    peak_bytes: int
    output: str


def run_fresh(
    command: Sequence[str | Path],
    *,
    variables: Mapping[str, str] | None = None,
    limit_bytes: int | None = None,
) -> Finished:
    """Run a command in the repository, with this interpreter first in PATH.

    Args:
        command: to run.
        variables: of the environment, on top of this process's own.
        limit_bytes: most private memory that it may map; beyond it allocations fail. A container
            counts resident memory instead, which is never more.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    launch = [sys.executable, "-I", "-S", Path(__file__).with_name("launch.py"), limit_bytes or 0]
    launched = subprocess.run(
        [str(part) for part in (*launch, *command)],
        cwd=ROOT,
        env={**os.environ, "PATH": path, **(variables or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return Finished(output=launched.stderr, **json.loads(launched.stdout))


def run_predict_script(
    inputs: Path,
    outputs: Path,
    *,
    options: Sequence[str] = (),
    cache: Path | None = None,
    limit_bytes: int | None = None,
) -> Finished:
    """Run `sh predict.sh` on a folder; `cache` is of compiled models, None is off."""
    variables = {
        "INPUT_DIR": str(inputs.resolve()),
        "OUTPUT_DIR": str(outputs.resolve()),
        "QMEDSAM_CACHE_DIR": "" if cache is None else str(cache.resolve()),
    }
    command = ["sh", "predict.sh", *options]
    return run_fresh(command, variables=variables, limit_bytes=limit_bytes)
