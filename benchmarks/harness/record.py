"""Results of a run: what was measured, by which command, where and when.

A record is JSON; what has hundreds of lines is a table beside it, CSV of the same name.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qmedsam.system.files import write_bytes
from qmedsam.system.processor import processor_flags

# Where `make results` looks; committed, so that the page can be made again anywhere.
RESULTS_DIR = Path("benchmarks/results")
PACKAGES = ("numpy", "openvino", "torch", "onnxruntime", "nncf")
# What decides how fast int8 and bf16 run.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def machine() -> dict[str, Any]:
    """Describe this machine's class: processor, cores, memory; nothing that names the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    present = processor_flags()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": name.group(1).strip() if name else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "features": [feature for feature in FEATURES if feature in present],
        "memory_gb": round(memory / 2**30),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def write_record(path: Path, results: Mapping[str, Any]) -> None:
    """Write results together with the command, the machine and the date."""
    record = {
        "command": shlex.join(["python", "-m", "benchmarks", *_quotable(sys.argv[1:])]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        **results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())


def write_table(record: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table beside a record; all rows have the keys of the first."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(record.with_suffix(".csv"), buffer.getvalue().encode())


def read_table(record: Path) -> list[dict[str, str]]:
    """Read the table beside a record; empty where it has none."""
    path = record.with_suffix(".csv")
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _quotable(arguments: list[str]) -> list[str]:
    """Leave out where the record itself goes, and of absolute paths all but the name."""
    kept = [argument for argument in arguments if not argument.startswith("--json=")]
    if "--json" in kept:
        at = kept.index("--json")
        del kept[at : at + 2]
    return [Path(argument).name if argument.startswith("/") else argument for argument in kept]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
