"""The tables of docs/scaling.md, from the records of what was measured.

Each table stands in the page between two comments, of which the first names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.report.section import Entry, provenance
from qmedsam.batch.cost import BOX_S, CASE_S, SLICE_S, VOXEL_S
from training.scoring.score_tables import markdown_table

DEFAULT_PAGE = Path("docs/scaling.md")
SERVED = "QAT int8, other layers in bf16"
FLOAT = "f32, as served"
# Of NNCF's int8 with other layers in bf16, the whole of an image and box, on an EPYC without AMX
# and on the Xeon with it (docs/studies/2026-11-25-engines.md).
WITHOUT_AMX_S, WITH_AMX_S = 0.2624, 0.1893
# A CT volume of the page: needed slices of 512 x 512, and objects on six of ten of them.
SLICES, BOXES, VOXELS = 150, 315, 150 * 512 * 512
PACKED_IN = 0.42  # bytes a voxel, of the CT that this project has
VOLUMES = 100_000
PRICE = 0.04  # dollars of an hour of a core; docs/scaling.md says where it is from
STORAGE_BYTES_S = 1e9  # of a shared file system that many read from
WORKERS = (1, 10, 100, 1000, 10_000)


def volume_s() -> float:
    """Return what the CT volume takes on one core of the machine that was measured."""
    return CASE_S + SLICE_S * SLICES + BOX_S * BOXES + VOXEL_S * VOXELS


def speed_table(cluster: Entry) -> list[str]:
    """Return what the runs of the cluster took."""
    one = cluster["runs"][0]["work_s"]
    rows = [
        [
            f"{run['workers']} workers" + (", one killed" if run["lost_workers"] else ""),
            f"{run['wall_s']:.1f}",
            f"{run['work_s']:.1f}",
            f"{one / run['work_s']:.2f}",
            "yes" if run["is_same"] else "NO",
        ]
        for run in cluster["runs"]
    ]
    rows[0][0] = "1 worker"
    folder = ["folder command, two threads", f"{cluster['folder_s']:.1f}", "-", "-", "-"]
    header = ["", "whole, s", "without Ray's start, s", "speed-up", "label maps the same"]
    text = f"{cluster['cases']} cases of all modalities, one thread a worker."
    return [markdown_table(header, [folder, *rows]), provenance(cluster, text)]


def cost_table(cluster: Entry) -> list[str]:
    """Return the cost model beside what was measured."""
    costs = cluster["costs"]
    rows = [
        ["a slice or image, encoded", f"{1e3 * costs['slice_s']:.0f} ms", f"{1e3 * SLICE_S:g} ms"],
        ["a box on it, decoded", f"{1e3 * costs['box_s']:.1f} ms", f"{1e3 * BOX_S:g} ms"],
        ["a voxel, read and written", f"{1e9 * costs['voxel_s']:.1f} ns", f"{1e9 * VOXEL_S:g} ns"],
    ]
    measured = cluster["runs"][0]["work_s"]
    text = (
        f"The model expects {cluster['expected_s']:.0f} s for these {cluster['cases']} cases on "
        f"one core; they took {measured:.0f} s, {100 * (measured / cluster['expected_s'] - 1):+.0f}"
        " %."
    )
    return [markdown_table(["", "measured", "`inference/qmedsam/batch/cost.py`"], rows), text]


def money_table(engines: Entry) -> list[str]:
    """Return what the volumes cost by kind of machine."""
    rows = []
    for name, factor in _machines(engines):
        hours = factor * volume_s() * VOLUMES / 3600
        rows.append(
            [
                name,
                f"{factor:.2f}",
                f"{factor * volume_s():.0f}",
                f"{hours:,.0f}",
                f"{PRICE * hours:,.0f}",
            ]
        )
    header = ["processor", "time", "s a volume", "core-hours", f"dollars at {PRICE:g} a core-hour"]
    return [markdown_table(header, rows)]


def traffic_table(cluster: Entry) -> list[str]:
    """Return at each number of workers what it takes, and what holds it up."""
    header = ["workers", "hours", "read, MB/s", "cases a second", "held up by"]
    rows = []
    for workers in WORKERS:
        cases_s = workers / volume_s()
        read = cases_s * PACKED_IN * VOXELS
        fed_s = STORAGE_BYTES_S / (PACKED_IN * VOXELS)
        rows.append(
            [
                f"{workers:,}",
                f"{VOLUMES / min(cases_s, fed_s) / 3600:,.1f}",
                f"{read / 1e6:,.1f}",
                f"{cases_s:,.2f}",
                _bottleneck(read, cases_s, cluster["dispatch_s"]),
            ]
        )
    return [markdown_table(header, rows)]


def render(page: str, records: Mapping[str, Entry]) -> str:
    """Return the page with its tables made anew.

    Raises:
        ValueError: a table has no place in it.
    """
    tables = {
        "speed": speed_table(records["cluster"]),
        "cost": cost_table(records["cluster"]),
        "money": money_table(records["engines"]),
        "traffic": traffic_table(records["cluster"]),
    }
    for name, paragraphs in tables.items():
        begin, end = f"<!-- table: {name} -->", "<!-- end -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"The page has no place for the table {name}")
        page = before + "\n\n".join([begin, *paragraphs, end]) + after
    return page


def _machines(engines: Entry) -> list[tuple[str, float]]:
    """Return kinds of processors, and their time for the work of the first."""
    without_vnni = _whole_s(engines, FLOAT) / _whole_s(engines, SERVED)
    return [
        ("with AMX: Xeon of 2023 and later (int8, bf16)", 1.0),
        ("with VNNI, without AMX: an EPYC with AVX-512 (int8, bf16)", WITHOUT_AMX_S / WITH_AMX_S),
        ("the Xeon without VNNI and AMX (float)", without_vnni),
    ]


def _whole_s(record: Entry, precision: str) -> float:
    found = [
        row["whole"]["median_s"]
        for row in record["rows"]
        if (row["network"], row["engine"], row["precision"])
        == ("LiteMedSAM", "OpenVINO", precision)
    ]
    return float(found[0])


def _bottleneck(read_bytes_s: float, cases_s: float, dispatch_s: float) -> str:
    if cases_s * dispatch_s > 1:
        return "the scheduler"
    if read_bytes_s > STORAGE_BYTES_S:
        return "storage of 1 GB/s"
    return "processors"
