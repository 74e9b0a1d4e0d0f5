"""The columns of statistics, with units in their names, and how a table of them is known again.

Whoever adds a column to a table or takes one away makes it a table of their own.
"""

from __future__ import annotations

from pathlib import Path

CHANNELS = {1: ("",), 3: ("_red", "_green", "_blue")}  # how columns of each end
AXES = "xyz"
SIDES = ("left", "posterior", "superior")  # where the axes of patient coordinates lead
LINE_END = "\r\n"


def titles(channels: int) -> list[str]:
    """Return the names of all columns, of values with so many channels."""
    return [
        *("label", "name", "quality", "voxels", "volume_mm3", "area_mm2"),
        *(
            f"{what}{channel}"
            for what in ("mean", "deviation", "min", "max")
            for channel in CHANNELS[channels]
        ),
        *(f"centre_{axis}" for axis in AXES),
        *(f"{axis}_min" for axis in AXES),
        *(f"{axis}_max" for axis in AXES),
        *(f"centre_{side}_mm" for side in SIDES),
        *(f"{side}_min_mm" for side in SIDES),
        *(f"{side}_max_mm" for side in SIDES),
    ]


def is_own_table(path: Path) -> bool:
    """Say whether a file begins as a table of statistics that this program wrote."""
    firsts = [f"{','.join(titles(channels))}{LINE_END}".encode() for channels in CHANNELS]
    try:
        with path.open("rb") as stream:
            beginning = stream.read(max(map(len, firsts)))
    except OSError:
        return False
    return any(beginning.startswith(first) for first in firsts)
