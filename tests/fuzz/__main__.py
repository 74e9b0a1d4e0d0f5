"""Coverage-guided fuzzing of the readers of strangers' files; `make fuzz`.

    python -m tests.fuzz nifti runs/fuzz/nifti -max_total_time=600

The first argument is `cases` or a format of `tests/fuzz/formats.py`, the second a folder that keeps
the inputs between runs, the others are libFuzzer's.
"""

from __future__ import annotations

import logging
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

# Whose paths are followed: those in Python that read. All of pydicom would write slowly, too.
READERS = ["qmedsam", "nibabel", "pydicom.filereader", "pydicom.values", "tifffile"]
ADDRESSES = 8 << 30  # bytes of address space that a process may take, far more than it needs


def main() -> None:
    """Fuzz until the time is over or an input is found that is not handled."""
    target, folder = sys.argv[1], Path(sys.argv[2])
    with atheris.instrument_imports(include=READERS, enable_loader_override=False):
        from tests.fuzz import cases, formats
    logging.disable()  # of libraries, which the commands do not show
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    check: Callable[[bytes], object]
    if target == "cases":
        check = cases.check_input
        seeds = [path.read_bytes() for path in sorted(cases.CORPUS.iterdir())]
    else:
        check = lambda data: formats.check_input(target, data)  # noqa: E731
        seeds = formats.inputs(target)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    atheris.Setup([sys.argv[0], str(folder), f"-artifact_prefix={folder}-", *sys.argv[3:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
