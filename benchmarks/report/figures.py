"""Figures 2 and 3: image and box, truth, float and ours, for good and for bad cases.

    python -m benchmarks.report.figures

The cases that are drawn unless others are named may be redistributed. Of a large image with small
objects a part is shown.
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

from benchmarks.accuracy import our_method
from benchmarks.harness.command import keep_record, run_command
from benchmarks.harness.methods import baseline_method
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.split import DEFAULT_ROOT, add_data_options, predict_cases
from qmedsam.batch.cases import read_case
from qmedsam.core.preprocess import as_rgb, normalize_min_max
from qmedsam.core.propagation import boxes_2d
from training.scoring.metrics import score_case

GOOD_CASES = ("MR/3DBox_MR_0004", "PET/3DBox_PET_0021", "Microscopy/2DBox_Microscopy_0029")
BAD_CASES = ("CT/3DBox_CT_0005", "PET/3DBox_PET_0019", "Microscopy/2DBox_Microscopy_0036")
TERMS = (
    "Nuclei: Data Science Bowl 2018 (CC0). CT, MR and PET: M. Vallières et al., "
    "Soft-tissue-Sarcoma, The Cancer Imaging Archive (2015), as prepared for the IBSI validation "
    "set (CC BY 3.0); cut, and masks drawn on."
)
UNKNOWN_TERMS = "The terms of these images were not checked: do not publish them."
OUTPUT_DIR = Path("docs/images")
DEFAULT_RECORD = RESULTS_DIR / "figures.json"
PANEL_INCHES, DPI = 2.6, 110
MARGIN = 0.15  # of the extent of the boxes, round it
LEAST_SIDE_PX = 40
MOST_SIDES = 15  # of a typical box across a panel
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
    boxes = readable_boxes(boxes)
    rows, columns = _cut(boxes, pixels.shape[:2])
    return Panels(
        name=name,
        image=as_rgb(pixels)[rows, columns],
        boxes=boxes - np.array([columns.start, rows.start] * 2, dtype=np.float32),
        label_maps={title: label_map[rows, columns] for title, label_map in maps.items()},
        scores=scores,
    )


def readable_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the boxes where most are, when all together would be too small to see."""
    extent = (boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)).max()
    side = np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
    reach = MOST_SIDES * side
    if extent <= reach:
        return boxes
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    is_near = np.abs(centres[:, None] - centres[None]).max(axis=2) <= reach / 2
    return boxes[is_near[is_near.sum(axis=1).argmax()]]


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
            axes.imshow(normalize_min_max(panels.image))  # dark images as the network sees them
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


def case_panels(names: Sequence[str], arguments: argparse.Namespace) -> list[Panels]:
    """Predict the cases, MODALITY/CASE, where that is still to be done, and read them."""
    paths = [arguments.data / f"{name}.npz" for name in names]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"Cases are missing: {', '.join(missing)}")
    folders = {
        method.title: predict_cases(method, paths, arguments.work_dir)
        for method in (baseline_method(), our_method("f32"))
    }
    return [
        read_panels(
            path,
            {title: folder / path.parent.name / path.name for title, folder in folders.items()},
        )
        for path in paths
    ]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.report.figures`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_options(parser, DEFAULT_RECORD)
    for kind, names in (("good", GOOD_CASES), ("bad", BAD_CASES)):
        parser.add_argument(
            f"--{kind}", nargs="+", default=list(names), metavar="MODALITY/CASE", help="to draw"
        )
    parser.add_argument(
        "--output-dir", type=Path, default=OUTPUT_DIR, help="(default: %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write figure-good.png, figure-bad.png and the record of what they show."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_record(parser, arguments, ["good", "bad", "data"])
    return run_command(lambda: _draw_all(arguments))


def _draw_all(arguments: argparse.Namespace) -> int:
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    shown = {}
    for kind in ("good", "bad"):
        rows = case_panels(getattr(arguments, kind), arguments)
        path = arguments.output_dir / f"figure-{kind}.png"
        draw_figure(rows).savefig(path, dpi=DPI)
        shown[kind] = {panels.name: panels.scores for panels in rows}
        print(path)
    names = [*arguments.good, *arguments.bad]
    is_default = names == [*GOOD_CASES, *BAD_CASES] and arguments.data == DEFAULT_ROOT
    write_record(arguments.json, {"dsc": shown, "terms": TERMS if is_default else UNKNOWN_TERMS})
    return 0


if __name__ == "__main__":
    sys.exit(main())
