"""Shared fixtures: a fake network whose masks are its boxes, and real data where it is there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qmedsam.core.contract import LOW_RES_SIZE, UPSCALING, Grid
from qmedsam.core.crops import Crop
from qmedsam.core.decoding import DecodedObject, ObjectDecoder
from qmedsam.core.embeddings import EncodedImage
from qmedsam.core.network import DecodedBoxes
from qmedsam.core.planning import Planner
from qmedsam.core.postprocess import LabelCanvas, LabelMap
from qmedsam.core.propagation import Schedule, follow_mask
from qmedsam.core.regions import RegionPlan
from qmedsam.core.tally import Tally
from qmedsam.core.timing import Stopwatch
from qmedsam.core.whereabouts import Whereabouts

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "cases"
SHARED_DATA = ROOT.parent / "shared" / "data"
# A test waits for an event, and after so long takes it for one that never comes. Slow and busy
# machines need a tenth of it.
HANGS_AFTER_S = 240

# Shells start what is in the background with Ctrl-C ignored, which processes of tests would heed.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def send_itself(number: signal.Signals) -> None:
    """Send this process a signal; where it would end all tests, fail instead."""
    assert signal.getsignal(number) is not signal.SIG_DFL, f"nothing takes {number.name}"
    signal.raise_signal(number)


class FakeNetwork:
    """Draws each box as its mask and counts its calls.

    The logit of a low-resolution pixel is positive where its centre is inside the box. The
    embedding carries the mean of the image, so that a test can tell slices apart.

    Args:
        grids: that it encodes; with the square alone everything is seen whole.
    """

    image_size = 256

    def __init__(self, grids: tuple[Grid, ...] = ((256, 256),)) -> None:
        self.grids = grids
        self.prepared: list[Grid] = []
        self.encoded: list[float] = []
        self.decoded: list[NDArray[np.float32]] = []

    def prepare(self, grids: Sequence[Grid]) -> None:
        self.prepared.extend(grids)

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        return EncodedImage(image.shape[2:], {"image_embedding": self.embed(image)})

    def decode(
        self, encoded: EncodedImage, boxes: NDArray[np.float32], crops: Sequence[Crop]
    ) -> DecodedBoxes:
        assert encoded.grid_hw in self.grids
        logits = cut(self.draw(boxes, encoded.grid_hw), crops)
        return DecodedBoxes(logits, self.rate(boxes))

    def rate(self, boxes: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return what is predicted of the masks of boxes: nothing."""
        return None

    def embed(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embedding (1, 256, h / 4, w / 4) of an image."""
        height, width = image.shape[2:]
        assert image.shape[:2] == (1, 3)
        assert (height, width) in self.grids
        assert image.dtype == np.float32
        self.encoded.append(float(image.mean()))
        return np.full((1, 256, height // 4, width // 4), image.mean(), dtype=np.float32)

    def draw(
        self, boxes: NDArray[np.float32], grid_hw: Grid = (LOW_RES_SIZE, LOW_RES_SIZE)
    ) -> NDArray[np.float32]:
        """Return the logits (N, h, w) of boxes on a grid."""
        assert boxes.dtype == np.float32
        assert boxes.shape[1] == 4
        self.decoded.append(boxes.copy())
        rows, columns = (np.arange(side) for side in grid_hw)
        x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
        inside = np.minimum(
            np.minimum(columns - x0, x1 - columns),
            np.minimum(rows[:, None] - y0, y1 - rows[:, None]),
        )
        return np.clip(inside, -1, 1).astype(np.float32)


def decode_slices(
    network,
    slices,
    boxes,
    visits,
    *,
    follow=follow_mask,
    planner=None,
    plan=None,
    tally=None,
    box_batch_size=16,
    stopwatch=None,
    memory=None,
) -> Iterator[DecodedObject]:
    """Yield what is decoded of boxes (N, 4), slices seen whole where no plan is given."""
    hw = slices[0].shape[:2]
    planner = planner or Planner("whole")
    plan = plan or RegionPlan((planner.whole(hw),), (0,) * len(boxes))
    decoder = ObjectDecoder(
        network,
        slices,
        box_batch_size=box_batch_size,
        stopwatch=stopwatch or Stopwatch(),
        tally=Tally() if tally is None else tally,
        memory=memory,
    )
    schedule = Schedule(np.asarray(boxes, dtype=np.float32), visits, follow)
    return decoder.decode(schedule, Whereabouts(plan, planner, hw))


def segment_slices(network, slices, boxes, visits, **options) -> LabelMap:
    """Return the label map (D, H, W) of what `decode_slices` yields."""
    canvas = LabelCanvas((len(slices), *slices[0].shape[:2]), len(boxes))
    for one in decode_slices(network, slices, boxes, visits, **options):
        canvas.paint(one.z, one.patch, one.index + 1)
    return canvas.label_map


def cut(logits: NDArray[np.float32], crops: Sequence[Crop]) -> NDArray[np.float32]:
    """Cut the crops of one size out of (N, 256, 256) logits."""
    assert len({(crop.height, crop.width) for crop in crops}) == 1
    cuts = []
    for one, crop in zip(logits, crops, strict=True):
        top, left = UPSCALING * crop.top, UPSCALING * crop.left
        height, width = UPSCALING * crop.height, UPSCALING * crop.width
        cuts.append(one[top : top + height, left : left + width])
        assert cuts[-1].shape == (height, width)
    return np.stack(cuts)


def mask_of(rows: list[str]) -> NDArray[np.bool_]:
    """Read a mask that is drawn in the source: # is set."""
    return np.array([[character == "#" for character in row] for row in rows])


def wait_for(is_so: Callable[[], bool], what: str, process: Popen[Any] | None = None) -> None:
    """Look until something is so; a process that ends before is a failure at once."""
    until = time.monotonic() + HANGS_AFTER_S
    while not is_so():
        has_ended = process is not None and process.poll() is not None
        assert not has_ended or is_so(), f"{what} does not come: the process has ended"
        assert time.monotonic() < until, f"{what} does not come"
        time.sleep(0.005)


@pytest.fixture
def fake_network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory) -> Path:
    """A folder for compiled models that all processes of the tests share."""
    return tmp_path_factory.mktemp("model-cache")


@pytest.fixture(scope="session")
def val_data() -> Path:
    folder = SHARED_DATA / "val"
    if not folder.is_dir():
        pytest.skip("the validation split is not on this machine (it may not be redistributed)")
    return folder
