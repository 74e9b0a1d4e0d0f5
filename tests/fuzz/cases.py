"""Fuzzing of what reads a stranger's case.

An input is a file as it is, or the bytes of two members that are put into an archive, so that the
checksums of zip do not hide the parsers behind it. Whatever comes, the reader gives a case or an
InvalidCaseError, and a case that can be read is segmented.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from qmedsam.batch.case_file import open_case
from qmedsam.batch.cases import case_of, read_label_map_shape, read_outline
from qmedsam.batch.cost import work_of
from qmedsam.batch.results import is_own_label_map, is_result, mark_of
from qmedsam.core.planning import Planner
from qmedsam.core.prompts import check_prompts
from qmedsam.core.propagation import boxes_2d, fixed_visits, image_visits
from qmedsam.core.timing import Stopwatch
from qmedsam.errors import InvalidCaseError
from tests.conftest import FakeNetwork, segment_slices

CORPUS = Path(__file__).with_name("corpus") / "cases"
MEMBERS = b"M"  # what an input begins with whose rest is two members and not a file
LENGTH_BYTES = 2  # of the first member, before both
PLANNER = Planner()
MOST_PIXELS, MOST_OBJECTS = 1 << 16, 20  # that are segmented, to stay quick


def file_content(data: bytes) -> bytes:
    """Return the file that an input stands for."""
    if not data.startswith(MEMBERS):
        return data
    start = len(MEMBERS) + LENGTH_BYTES
    length = int.from_bytes(data[len(MEMBERS) : start], "little")
    members = {"imgs.npy": data[start : start + length], "boxes.npy": data[start + length :]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def check_file(path: Path) -> bool:
    """Read a file and segment what is in it; return whether it is a case.

    Raises:
        Anything but an InvalidCaseError is a fault of ours.
    """
    shape = read_label_map_shape(path)
    assert all(type(side) is int for side in shape or ()), f"no shape: {shape}"
    work_of(read_outline(path), PLANNER)
    is_own_label_map(path)
    try:
        with open_case(path) as opened:
            is_result(path, mark_of(opened, ""))
            case = case_of(opened)
        prompts = check_prompts(case.pixels, case.boxes)
    except InvalidCaseError:
        return False
    if case.pixels.size > MOST_PIXELS or len(prompts.objects) > MOST_OBJECTS:
        return True
    if prompts.is_volume:
        slices, boxes = case.pixels, boxes_2d(prompts.boxes)
        visits = fixed_visits(prompts.boxes, prompts.objects)
    else:
        slices, boxes = case.pixels[None], prompts.boxes
        visits = image_visits(prompts.objects)
    label_map = segment_slices(
        FakeNetwork(), slices, boxes=boxes, visits=visits, box_batch_size=4, stopwatch=Stopwatch()
    )
    found = label_map.shape if prompts.is_volume else label_map.shape[1:]
    assert found == shape, f"a label map of {found} where the headers say {shape}"
    assert label_map.max(initial=0) <= len(prompts.boxes)
    return True


def check_input(data: bytes) -> bool:
    """Check the file that an input stands for; see `check_file`."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(file_content(data))
        file.flush()
        return check_file(Path(file.name))


def write_corpus() -> None:
    """Write the inputs to begin with, a small one of each kind."""

    def member(array: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    CORPUS.mkdir(parents=True, exist_ok=True)
    cases = {
        "grey": (np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([[0, 0, 2, 2]])),
        "rgb": (np.zeros((3, 4, 3), np.uint8), np.array([[0.5, 0, 2, 2]])),
        "volume": (np.zeros((2, 3, 4), np.uint8), np.array([[0, 0, 0, 2, 2, 1]])),
        "no-boxes": (np.zeros((3, 4), np.uint8), np.zeros((0, 4), np.float32)),
        "ct": (np.zeros((3, 4), np.int16), np.array([[2, 2, 0, 0]], dtype=">i2")),
        "column-by-column": (np.zeros((3, 4), np.uint8, order="F"), np.array([0, 0, 2, 2])),
    }
    for name, (pixels, boxes) in cases.items():
        first, second = member(pixels), member(boxes)
        head = MEMBERS + len(first).to_bytes(LENGTH_BYTES, "little")
        (CORPUS / f"{name}.members").write_bytes(head + first + second)
        for save in (np.savez, np.savez_compressed):
            save(CORPUS / f"{name}-{save.__name__}.npz", imgs=pixels, boxes=boxes)
    # Headers that NumPy's reader takes, and no array can have.
    boxes = member(np.array([[0, 0, 2, 2]]))
    grey = member(cases["grey"][0])
    for name, before, after in (
        ("shape-of-booleans", b"(3, 4), }      ", b"(True, True), }"),
        ("values-of-no-size", b"'|u1'", b"'|S0'"),
        ("values-of-two", b"'|u1'", b"'2u1'"),
    ):
        assert before in grey
        first = grey.replace(before, after)
        head = MEMBERS + len(first).to_bytes(LENGTH_BYTES, "little")
        (CORPUS / f"{name}.members").write_bytes(head + first + boxes)
