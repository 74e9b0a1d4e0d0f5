"""What a stage writes while it runs: CSV files, TensorBoard and a picture of the curves."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from qmedsam.system.files import write_bytes
from training.loop.losses import LOSS_PARTS

STEPS_FILE, EPOCHS_FILE, CURVES_FILE = "steps.csv", "epochs.csv", "curves.png"
TENSORBOARD_DIR = "tensorboard"
SMOOTHED_OVER = 20  # steps
COLOURS = 10  # that a plot has for its lines


class Logbook:
    """Rows by step and by epoch; rows that a resumed run makes again are dropped first.

    Args:
        folder: where the files go.
        step: rows of this step and later ones are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self.steps = [row for row in _read(folder / STEPS_FILE) if row["step"] < step]
        self.epochs = [row for row in _read(folder / EPOCHS_FILE) if row["step"] <= step]
        _write(folder / STEPS_FILE, self.steps)
        _write(folder / EPOCHS_FILE, self.epochs)
        self._writer = SummaryWriter(str(folder / TENSORBOARD_DIR), purge_step=step)
        for row in self.epochs:  # TensorBoard purges the step itself, too
            if row["step"] == step:
                self._add_scores(step, row)

    def add_step(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the losses of a step."""
        row = {"step": float(step), **values}
        _append(self._folder / STEPS_FILE, row, is_first=not self.steps)
        self.steps.append(row)
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def add_epoch(self, epoch: int, step: int, scores: Mapping[str, float]) -> None:
        """Keep the scores of an epoch and draw the curves anew."""
        row = {"epoch": float(epoch), "step": float(step), **scores}
        self.epochs = [*(kept for kept in self.epochs if kept["epoch"] != epoch), row]
        _write(self._folder / EPOCHS_FILE, self.epochs)
        self._add_scores(step, scores)
        self._writer.flush()
        content = io.BytesIO()
        draw_curves(self.steps, self.epochs).savefig(content, format="png", dpi=120)
        write_bytes(self._folder / CURVES_FILE, content.getvalue())

    def _add_scores(self, step: int, scores: Mapping[str, float]) -> None:
        for name in scores.keys() - {"epoch", "step"}:
            self._writer.add_scalar(f"val/{name}", scores[name], step)

    def close(self) -> None:
        """Finish the files of TensorBoard."""
        self._writer.close()


def draw_curves(steps: list[dict[str, float]], epochs: list[dict[str, float]]) -> Figure:
    """Draw losses over steps, smoothed, and the scores of the modalities over epochs.

    Before the first step there are scores alone.
    """
    figure = Figure(figsize=(11 if steps else 6.5, 4.5), layout="constrained")
    *left, right = figure.subplots(1, 2 if steps else 1, squeeze=False)[0]
    for axes in left:
        _draw_losses(axes, steps)
    _draw_scores(right, epochs)
    return figure


def _draw_losses(axes: Axes, steps: list[dict[str, float]]) -> None:
    for name in LOSS_PARTS:
        values = [row.get(name, 0.0) for row in steps]  # of a run of an earlier version
        if not any(values):  # a part that the recipe leaves out
            continue
        smooth = [
            statistics.fmean(values[max(0, end - SMOOTHED_OVER) : end])
            for end in range(1, len(values) + 1)
        ]
        axes.plot([row["step"] for row in steps], smooth, label=name)
    axes.set(xlabel="Step", ylabel=f"Loss, mean of {SMOOTHED_OVER} steps", yscale="log")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=5, frameon=False)


def _draw_scores(axes: Axes, epochs: list[dict[str, float]]) -> None:
    names = [name for name in chain.from_iterable(epochs) if name not in ("epoch", "step")]
    for number, name in enumerate(dict.fromkeys(names)):
        is_mean = name == "mean"
        axes.plot(
            [row["step"] for row in epochs],
            [100 * row.get(name, math.nan) for row in epochs],
            label=name,
            color="black" if is_mean else None,
            linewidth=2.5 if is_mean else 1,
            linestyle="-" if number <= COLOURS else "--",
            marker=".",
        )
    axes.set(xlabel="Step", ylabel="Validation score, %")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _read(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):  # cut short when a run was killed
        del lines[-1]
    return [
        {name: float(value) for name, value in row.items() if value}
        for row in csv.DictReader(lines)
    ]


def _write(path: Path, rows: list[dict[str, float]]) -> None:
    """Write all rows anew, the file as it was or as it will be; what a row lacks stays empty."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, list(dict.fromkeys(chain.from_iterable(rows))))
    writer.writeheader()
    writer.writerows(rows)
    if rows:
        write_bytes(path, content.getvalue().encode())
    else:
        path.unlink(missing_ok=True)


def _append(path: Path, row: Mapping[str, float], *, is_first: bool) -> None:
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if is_first:
            writer.writeheader()
        writer.writerow(row)
