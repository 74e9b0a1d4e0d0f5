"""Files that a stage writes while it runs."""

from __future__ import annotations

import csv

import cv2
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from training.loop.logbook import (
    CURVES_FILE,
    EPOCHS_FILE,
    STEPS_FILE,
    TENSORBOARD_DIR,
    Logbook,
    draw_curves,
)

pytestmark = pytest.mark.training

SCORES = {"mean": 0.5, "CT": 0.25, "US": 0.75}


def losses(step: int) -> dict[str, float]:
    """Losses that fall, and no binary fractions, so that digits would be lost in rounding."""
    return {
        "loss": 3.3 / (step + 1),
        "dice": 1.1 / (step + 1),
        "focal": 0.1 / (step + 1),
        "distillation": 0.7 / (step + 1),
        "quality": 0.2 / (step + 1),
        "imitation": 0.3 / (step + 1),
        "rate": 1e-4,
    }


def rows(path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)
        ]


def keep_book(folder, epochs=2, steps_of_an_epoch=4):
    """Write what a run of some epochs writes."""
    book = Logbook(folder, 0)
    book.add_epoch(0, 0, SCORES)
    for epoch in range(epochs):
        for step in range(epoch * steps_of_an_epoch, (epoch + 1) * steps_of_an_epoch):
            book.add_step(step, losses(step))
        later = {name: score + 0.1 * (epoch + 1) for name, score in SCORES.items()}
        book.add_epoch(epoch + 1, (epoch + 1) * steps_of_an_epoch, later)
    book.close()


def test_each_step_is_a_row_with_all_its_digits(tmp_path):
    book = Logbook(tmp_path, 0)
    for step in range(3):
        book.add_step(step, losses(step))
        assert rows(tmp_path / STEPS_FILE)[-1] == {"step": step, **losses(step)}  # at once
    book.close()
    text = (tmp_path / STEPS_FILE).read_text(encoding="utf-8").splitlines()
    assert text[0] == "step,loss,dice,focal,distillation,quality,imitation,rate"
    assert len(text) == 4


def test_each_epoch_is_a_row_of_scores(tmp_path):
    keep_book(tmp_path)
    header = (tmp_path / EPOCHS_FILE).read_text(encoding="utf-8").splitlines()[0]
    assert header == "epoch,step,mean,CT,US"
    found = rows(tmp_path / EPOCHS_FILE)
    assert [(row["epoch"], row["step"]) for row in found] == [(0, 0), (1, 4), (2, 8)]
    assert [row["CT"] for row in found] == pytest.approx([0.25, 0.35, 0.45])


def test_a_run_that_goes_on_drops_the_steps_it_does_again(tmp_path):
    keep_book(tmp_path)
    book = Logbook(tmp_path, 6)
    # The epoch that ended with step 8 was validated by weights that are gone.
    assert [row["step"] for row in book.steps] == [0, 1, 2, 3, 4, 5]
    assert [row["epoch"] for row in book.epochs] == [0, 1]
    assert rows(tmp_path / STEPS_FILE) == [{"step": step, **losses(step)} for step in range(6)]
    assert [row["epoch"] for row in rows(tmp_path / EPOCHS_FILE)] == [0, 1]
    book.add_step(6, losses(60))
    book.close()
    assert rows(tmp_path / STEPS_FILE)[5:] == [
        {"step": 5, **losses(5)},
        {"step": 6, **losses(60)},
    ]


def test_a_run_that_goes_on_after_an_epoch_keeps_its_scores(tmp_path):
    keep_book(tmp_path)
    book = Logbook(tmp_path, 4)
    book.close()
    assert [row["step"] for row in book.steps] == [0, 1, 2, 3]
    assert [row["epoch"] for row in book.epochs] == [0, 1]


def test_a_book_that_is_opened_and_closed_stays_as_it_is(tmp_path):
    keep_book(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in (STEPS_FILE, EPOCHS_FILE)}
    Logbook(tmp_path, 8).close()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_run_from_the_beginning_keeps_no_step(tmp_path):
    keep_book(tmp_path)
    book = Logbook(tmp_path, 0)
    book.close()
    assert book.steps == []
    assert not (tmp_path / STEPS_FILE).exists()


def test_a_last_row_that_was_cut_short_is_dropped(tmp_path):
    keep_book(tmp_path, epochs=1)
    path = tmp_path / STEPS_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines)[: -(len(lines[-1]) // 2)], encoding="utf-8")
    book = Logbook(tmp_path, 3)
    book.close()
    assert [row["step"] for row in book.steps] == [0, 1, 2]


def test_another_split_to_validate_on_adds_columns(tmp_path):
    keep_book(tmp_path, epochs=1)
    book = Logbook(tmp_path, 4)
    book.add_epoch(2, 4, {"mean": 0.5, "PET": 0.5})
    book.close()
    lines = (tmp_path / EPOCHS_FILE).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "epoch,step,mean,CT,US,PET"
    assert lines[-1] == "2.0,4.0,0.5,,,0.5"
    again = Logbook(tmp_path, 4)
    again.close()
    assert again.epochs == book.epochs
    assert again.epochs[-1] == {"epoch": 2, "step": 4, "mean": 0.5, "PET": 0.5}


def test_curves_are_drawn_after_every_epoch(tmp_path):
    book = Logbook(tmp_path, 0)
    assert not (tmp_path / CURVES_FILE).exists()
    book.add_epoch(0, 0, SCORES)  # before there is any step
    pictures = [cv2.imread(str(tmp_path / CURVES_FILE))]
    for step in range(30):
        book.add_step(step, losses(step))
    book.add_epoch(1, 30, {name: score + 0.1 for name, score in SCORES.items()})
    pictures.append(cv2.imread(str(tmp_path / CURVES_FILE)))
    book.close()
    for picture, width in zip(pictures, (780, 1320), strict=True):  # without losses at first
        assert picture.shape == (540, width, 3)
    assert (pictures[1][:, :660] != 255).mean() > 0.01
    assert (pictures[1][:, 660:] != 255).mean() > 0.01
    # Six lines, each in a colour of its own.
    assert len({tuple(colour) for colour in pictures[1].reshape(-1, 3).tolist()}) > 6


def test_curves_go_on_where_a_resumed_run_left_them(tmp_path):
    keep_book(tmp_path / "whole")
    keep_book(tmp_path / "resumed")
    book = Logbook(tmp_path / "resumed", 6)
    for step in (6, 7):
        book.add_step(step, losses(step))
    book.add_epoch(2, 8, {name: score + 0.1 * 2 for name, score in SCORES.items()})
    book.close()
    pictures = [cv2.imread(str(tmp_path / name / CURVES_FILE)) for name in ("whole", "resumed")]
    assert (pictures[0] == pictures[1]).all()


def test_the_left_axis_says_of_how_many_steps_it_shows_the_mean():
    steps = [{"step": float(step), **losses(0), "loss": float(step + 1)} for step in range(40)]
    left, _ = draw_curves(steps, [{"epoch": 0.0, "step": 0.0, **SCORES}]).axes
    drawn = {line.get_label(): line.get_ydata() for line in left.lines}
    assert left.get_ylabel() == "Loss, mean of 20 steps"
    assert drawn["loss"][0] == 1
    assert drawn["loss"][9] == pytest.approx(5.5)  # 1 to 10
    assert drawn["loss"][39] == pytest.approx(30.5)  # 21 to 40


def test_a_part_of_the_loss_that_is_left_out_has_no_line():
    steps = [{"step": 0.0, **losses(0), "quality": 0.0}]
    left, _ = draw_curves(steps, [{"epoch": 0.0, "step": 0.0, **SCORES}]).axes
    names = ["loss", "dice", "focal", "distillation", "imitation"]
    assert [line.get_label() for line in left.lines] == names


def test_the_right_axis_shows_percents_of_every_modality():
    (right,) = draw_curves([], [{"epoch": 0.0, "step": 0.0, **SCORES}]).axes
    assert {line.get_label(): line.get_ydata()[0] for line in right.lines} == {
        "mean": 50,
        "CT": 25,
        "US": 75,
    }


def test_every_modality_of_the_challenge_has_a_look_of_its_own():
    names = ["mean", *(f"modality {number}" for number in range(11))]
    (right,) = draw_curves([], [{"epoch": 0.0, "step": 0.0, **dict.fromkeys(names, 0.5)}]).axes
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in right.lines}
    assert len(looks) == 12


@pytest.mark.parametrize("is_opened_again", [False, True])
def test_tensorboard_gets_every_number_once(tmp_path, is_opened_again):
    keep_book(tmp_path)
    if is_opened_again:
        Logbook(tmp_path, 8).close()
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    events = event_accumulator.EventAccumulator(str(tmp_path / TENSORBOARD_DIR))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(8))
    assert [event.value for event in events.Scalars("val/CT")] == pytest.approx([0.25, 0.35, 0.45])
    assert [event.step for event in events.Scalars("val/CT")] == [0, 4, 8]
