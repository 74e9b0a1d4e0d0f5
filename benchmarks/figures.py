"""Figures 2 and 3: image and box, truth, float and ours, for good and for bad cases.

    python -m benchmarks.figures

The cases that are drawn unless others are named may be redistributed: nuclei of the Data Science
Bowl 2018 (CC0) and the soft-tissue-sarcoma volumes of the IBSI validation set (CC BY 3.0).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from benchmarks.accuracy import compared_methods
from benchmarks.split import DEFAULT_ROOT, DEFAULT_WORK_DIR, Method, predict_cases
from inference.cases import read_case
from inference.preprocess import as_rgb
from inference.volume import boxes_2d
from training.checkpoint import DEFAULT_PATH
from training.metrics import score_case

FLOAT_TITLE = "PyTorch baseline f32"
# The best of these that exists is "ours".
OUR_TITLES = ("int8, rest bf16", "service bf16")
GOOD_CASES = ("MR/3DBox_MR_0004", "PET/3DBox_PET_0021", "Microscopy/2DBox_Microscopy_0029")
BAD_CASES = ("CT/3DBox_CT_0005", "PET/3DBox_PET_0019", "Microscopy/2DBox_Microscopy_0036")
OUTPUT_DIR = Path("docs/images")
PANEL_INCHES, DPI = 2.6, 110
MARGIN = 0.15  # of the extent of the boxes, round it
LEAST_SIDE_PX = 40
FILL_ALPHA = 0.45


@dataclass(frozen=True)
class Panels:
    """What one row of a figure shows, cut to where the boxes are.

    Attributes:
        image: (h, w, 3).
        boxes: (N, 4) of the cut image.
        label_maps: (h, w) by title: truth, float, ours.
        scores: DSC of the whole case by title.
    """

    name: str
    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    label_maps: dict[str, NDArray[np.integer]]
    scores: dict[str, float]


def read_panels(path: Path, predictions: dict[str, Path]) -> Panels:
    """Read a case, its truth and predictions; of a volume the slice where most is to be found.

    Args:
        path: of the case.
        predictions: label maps by title.
    """
    case = read_case(path)
    with np.load(path, allow_pickle=False) as archive:
        truth = archive["gts"]
    maps = {"truth": truth}
    for title, file in predictions.items():
        with np.load(file, allow_pickle=False) as archive:
            maps[title] = archive["segs"]
    scores = {title: score_case(truth, maps[title]).dsc for title in predictions}
    name, pixels, boxes = path.stem, case.pixels, case.boxes.astype(np.float32)
    if boxes.shape[1] == 6:
        z = int(np.argmax(np.count_nonzero(truth, axis=(1, 2))))
        boxes = boxes_2d(boxes[(boxes[:, 2] <= z) & (z <= boxes[:, 5])])
        pixels, name = pixels[z], f"{name}, slice {z}"
        maps = {title: label_map[z] for title, label_map in maps.items()}
    rows, columns = _cut(boxes, pixels.shape[:2])
    return Panels(
        name=name,
        image=as_rgb(pixels)[rows, columns],
        boxes=boxes - np.array([columns.start, rows.start] * 2, dtype=np.float32),
        label_maps={title: label_map[rows, columns] for title, label_map in maps.items()},
        scores=scores,
    )


def _cut(boxes: NDArray[np.float32], hw: Sequence[int]) -> tuple[slice, slice]:
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    margin = np.maximum(MARGIN * (high - low), (LEAST_SIDE_PX - (high - low)) / 2)
    left, top = np.maximum(np.floor(low - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(high + margin + 1), [hw[1], hw[0]]).astype(int)
    return slice(top, bottom), slice(left, right)


def draw_figure(rows: Sequence[Panels]) -> Figure:
    """Draw a row per case: image and boxes, then each label map over the image."""
    titles = ["image and boxes", *rows[0].label_maps]
    size = (PANEL_INCHES * len(titles), (PANEL_INCHES + 0.25) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes_row, panels in zip(grid, rows, strict=True):
        for axes, title in zip(axes_row, titles, strict=True):
            axes.imshow(panels.image)
            axes.set_axis_off()
            if title in panels.label_maps:
                _draw_labels(axes, panels.label_maps[title])
            else:
                for box in panels.boxes:
                    _draw_box(axes, box)
            score = panels.scores.get(title)
            caption = panels.name if title == titles[0] else title
            axes.set_title(caption if score is None else f"{caption}: {100 * score:.1f}", size=8)
    return figure


def _draw_box(axes: Axes, box: NDArray[np.float32]) -> None:
    x0, y0, x1, y1 = (float(value) for value in box)
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="yellow", lw=1))


def _draw_labels(axes: Axes, label_map: NDArray[np.integer]) -> None:
    """Fill the objects in colours that differ between neighbours."""
    colours = np.where(label_map > 0, 1 + label_map.astype(np.int64) % 10, 0)
    shown = np.ma.masked_equal(colours, 0)
    axes.imshow(shown, cmap="tab10", vmin=1, vmax=10, alpha=FILL_ALPHA, interpolation="nearest")
    if label_map.max() <= 3:
        for label in range(1, int(label_map.max()) + 1):
            axes.contour(label_map == label, [0.5], colors="white", linewidths=0.8)


def make_figure(
    names: Sequence[str], root: Path, work_dir: Path, methods: Sequence[Method]
) -> Figure:
    """Predict the cases where that is still to be done, and draw them."""
    paths = [root / f"{name}.npz" for name in names]
    folders = {method.title: predict_cases(method, paths, work_dir) for method in methods}
    rows = [
        read_panels(
            path,
            {title: folder / path.parent.name / path.name for title, folder in folders.items()},
        )
        for path in paths
    ]
    return draw_figure(rows)


def shown_methods() -> list[Method]:
    """Return the float baseline and what is ours."""
    methods = {method.title: method for method in compared_methods(DEFAULT_PATH, ("bf16",))}
    ours = next(title for title in OUR_TITLES if title in methods)
    return [methods[FLOAT_TITLE], methods[ours]]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.figures`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_ROOT, help="(default: %(default)s)")
    parser.add_argument(
        "--work-dir", type=Path, default=DEFAULT_WORK_DIR, help="(default: %(default)s)"
    )
    for kind, names in (("good", GOOD_CASES), ("bad", BAD_CASES)):
        parser.add_argument(
            f"--{kind}", nargs="+", default=list(names), metavar="MODALITY/CASE", help="to draw"
        )
    parser.add_argument(
        "--output-dir", type=Path, default=OUTPUT_DIR, help="(default: %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write figure-good.png and figure-bad.png."""
    arguments = build_parser().parse_args(argv)
    methods = shown_methods()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for kind, names in (("good", arguments.good), ("bad", arguments.bad)):
        figure = make_figure(names, arguments.data, arguments.work_dir, methods)
        path = arguments.output_dir / f"figure-{kind}.png"
        figure.savefig(path, dpi=DPI)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
