"""Whole stages with a small network: what they write, and that a killed one is the same."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from tests.conftest import ROOT
from tests.training.small_networks import BOTH, build_small_network
from tests.training.small_runs import (
    NEVER,
    command,
    launch,
    make_workplace,
    rows,
    small_teacher,
    weights_of,
)
from training import pace, train
from training.data.index import build_index
from training.loop import logbook, stage, state
from training.loop.beginning import calibration_images
from training.loop.recipe import Recipe
from training.loop.state import load_trained, read_document

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("small_lite_medsam")]

# Three modalities of two slices, two a step: 3 steps an epoch, 9 in 3 epochs.
STEPS = 9
SECOND_STAGE = [
    'name="second"',
    'quantized=["image_encoder","mask_decoder"]',
    'trained=["mask_decoder"]',
    "loss.distillation=0.0",
]
QUICK = ["data.slices=1", "schedule.warmup_epochs=1"]  # 2 steps an epoch, 2 epochs
STOPPED = ["schedule.warmup_epochs=1"]  # 3 steps an epoch, 2 epochs


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def killed_and_resumed(workplace):
    """The end of a run that is killed and of the one that goes on, beside the tests till then."""
    # Samples come from a worker here and from the process itself in the other run.
    arguments = command("killed", changes=["data.workers=1"])

    def kill_and_resume():
        killed = launch(workplace, arguments, checkpoint_after=4, killed_before=5)
        shutil.copytree(workplace / "killed", workplace / "as-it-was-killed")
        return killed, launch(workplace, [*arguments, "--resume"])

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(kill_and_resume)


@pytest.fixture(scope="module")
def whole(workplace, killed_and_resumed):
    """A run that nothing interrupts, in a process of its own."""
    status, said = launch(workplace, command("whole"))
    assert status == 0, said
    return workplace / "whole"


@pytest.fixture
def here(workplace, monkeypatch):
    """Run the command in this process, in the workplace, without the time that curves take."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(logbook, "draw_curves", lambda steps, epochs: Figure())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(state.LOADERS, "lite_medsam", small_teacher)
    return train.main


def stop_at(monkeypatch, step, *, checkpoint_after=None):
    """Interrupt a run in this process before a step; return what lets the next one pass."""
    do_step = stage.Stage._step

    def interrupted(self, samples):
        if self.progress.step == step:
            raise KeyboardInterrupt
        every_s = -1 if self.progress.step + 1 == checkpoint_after else NEVER
        monkeypatch.setattr(stage, "CHECKPOINT_EVERY_S", every_s)
        return do_step(self, samples)

    monkeypatch.setattr(stage.Stage, "_step", interrupted)
    return lambda: monkeypatch.setattr(stage.Stage, "_step", do_step)


def score_by_list(monkeypatch, *scores):
    """Let the epochs have these scores, one after the other."""
    left = list(scores)
    monkeypatch.setattr(stage, "validate", lambda *_, **__: {"CT": left.pop(0)})


def changed_parts(before, after) -> set[str]:
    """Return the parts in which a weight of both networks differs."""
    common = set(before) & set(after)
    return {name.split(".")[0] for name in common if not before[name].equal(after[name])}


def test_a_run_writes_checkpoints_tables_and_curves(whole):
    assert {path.name for path in whole.iterdir()} == {
        "start.pt",
        "last.pt",
        "best.pt",
        "steps.csv",
        "epochs.csv",
        "curves.png",
        "tensorboard",
    }
    steps = rows(whole / "steps.csv")
    assert [row["step"] for row in steps] == list(range(STEPS))
    assert all(np.isfinite(list(row.values())).all() for row in steps)
    for row in steps:
        parts = row["dice"] + row["focal"] + row["distillation"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
        assert min(row["dice"], row["focal"], row["distillation"]) > 0
    epochs = rows(whole / "epochs.csv")
    assert [(row["epoch"], row["step"]) for row in epochs] == [(0, 0), (1, 3), (2, 6), (3, 9)]
    assert list(epochs[0]) == ["epoch", "step", "mean", "CT", "US"]
    for row in epochs:
        assert row["mean"] == pytest.approx((row["CT"] + row["US"]) / 2)
    assert cv2.imread(str(whole / "curves.png")).ndim == 3
    assert len(list((whole / "tensorboard").glob("events.out.tfevents.*"))) == 1


def test_the_rate_follows_the_schedule_over_the_steps(whole):
    rates = [row["rate"] for row in rows(whole / "steps.csv")]
    assert rates[0] == pytest.approx(0.01 * 0.01)
    assert rates[4] == pytest.approx(0.01)  # the middle of 9 steps: the first of 2 epochs ends
    assert rates[-1] == pytest.approx(0.01 * 0.001)


def test_the_last_checkpoint_says_how_far_the_run_came(whole):
    document = read_document(whole / "last.pt")
    assert document["progress"]["step"] == STEPS
    assert document["progress"]["images"] == 2 * STEPS
    best = max(row["mean"] for row in rows(whole / "epochs.csv"))
    assert document["progress"]["best_score"] == pytest.approx(best)
    assert document["history"] == []


def test_the_best_checkpoint_can_be_loaded_and_says_how_it_came_to_be(whole):
    best = load_trained(whole / "best.pt")
    assert (best.quantized, best.source_sha256) == (("image_encoder",), "ab12")
    (account,) = best.history
    row = max(rows(whole / "epochs.csv"), key=lambda row: row["mean"])
    assert (account["steps"], account["images"]) == (row["step"], 2 * row["step"])
    assert account["validation"] == pytest.approx(
        {name: row[name] for name in ("mean", "CT", "US")}
    )
    assert account["recipe"]["name"] == "small"


def test_only_what_is_trained_moves(whole, workplace):
    start, last = weights_of(whole / "start.pt"), weights_of(whole / "last.pt")
    assert list(start) == list(last)
    assert changed_parts(start, last) == {"image_encoder"}


def test_the_start_is_kept_as_it_was_calibrated(whole, workplace):
    start = load_trained(whole / "start.pt")
    assert start.quantized == ("image_encoder",)
    assert [account["steps"] for account in start.history] == [0]
    # The scores of epoch 0 are its own.
    first = rows(whole / "epochs.csv")[0]
    assert start.history[0]["validation"]["CT"] == pytest.approx(first["CT"])
    # Quantizing rounds weights in passing and moves biases alone.
    before, after = weights_of(workplace / "start.pt"), weights_of(whole / "start.pt")
    moved = {name for name in set(before) & set(after) if not before[name].equal(after[name])}
    assert moved == {"image_encoder.2.bias"}


def test_a_killed_run_goes_on_with_the_losses_it_would_have_had(
    workplace, whole, killed_and_resumed
):
    (status_of_killed, _), (status, said) = killed_and_resumed.result()
    assert status_of_killed == -signal.SIGKILL
    killed = workplace / "as-it-was-killed"
    assert read_document(killed / "last.pt")["progress"]["step"] == 4  # in the middle of an epoch
    assert [row["step"] for row in rows(killed / "steps.csv")] == [0, 1, 2, 3, 4]
    killed = workplace / "killed"
    assert status == 0, said
    assert "Resuming after step 4 of 9" in said
    assert rows(killed / "steps.csv") == rows(whole / "steps.csv")
    assert rows(killed / "epochs.csv") == rows(whole / "epochs.csv")
    for name in ("last.pt", "best.pt"):
        for key, value in weights_of(whole / name).items():
            torch.testing.assert_close(weights_of(killed / name)[key], value, rtol=0, atol=0)
    assert not list(killed.glob(".*"))


def test_a_second_stage_begins_with_the_best_of_the_first(workplace, whole, here):
    arguments = command("second", "--init", str(whole / "best.pt"), changes=SECOND_STAGE + QUICK)
    assert here(arguments) == 0
    first = weights_of(whole / "best.pt")
    last = weights_of(workplace / "second" / "last.pt")
    assert changed_parts(first, last) == {"mask_decoder"}
    assert {name for name in first if name.startswith("image_encoder.")} == {
        name for name in last if name.startswith("image_encoder.")
    }
    best = load_trained(workplace / "second" / "best.pt")
    assert best.quantized == BOTH
    assert [account["recipe"]["name"] for account in best.history] == ["small", "second"]
    assert all(row["distillation"] == 0 for row in rows(workplace / "second" / "steps.csv"))


def test_the_rate_is_the_schedule_s_also_where_ranges_alone_move(workplace, whole, here):
    frozen = 'frozen=["mask_decoder.token","mask_decoder.pixel"]'
    changes = [*SECOND_STAGE, *QUICK, frozen, "optimizer.range_rate=0.1"]
    assert here(command("ranges", "--init", str(whole / "best.pt"), changes=changes)) == 0
    rates = [row["rate"] for row in rows(workplace / "ranges" / "steps.csv")]
    assert rates[0] == pytest.approx(0.01)


def test_a_network_that_was_quantized_otherwise_is_refused(workplace, whole, here, caplog):
    changes = [*SECOND_STAGE, "quant.weight_bits=7"]
    assert here(command("other", "--init", str(whole / "best.pt"), changes=changes)) == 2
    assert "Quantization must be QuantConfig(" in caplog.text
    assert not list((workplace / "other").glob("*.pt"))


def test_a_run_is_not_overwritten(whole, here, caplog):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert here(command("whole")) == 2
    assert "whole/last.pt is there; pass --resume or another --output-dir" in caplog.text
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_a_run_does_not_go_on_with_another_recipe(whole, here, caplog):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert here(command("whole", "--resume", changes=["optimizer.learning_rate=0.02"])) == 2
    assert "of another recipe: it has optimizer.learning_rate 0.01 and not 0.02. Go" in caplog.text
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_a_run_does_not_go_on_with_other_data(whole, workplace, here, caplog, tmp_path):
    shutil.copytree(workplace / "train", tmp_path / "more")
    path = next((tmp_path / "more").rglob("*.npz"))
    shutil.copy(path, path.with_name("another.npz"))
    changed = ["--resume", "--data", str(tmp_path / "more")]
    assert here(command("whole", *changed)) == 2
    assert "whole/last.pt began with another set of training data; go on with" in caplog.text


def test_a_run_that_is_done_has_nothing_to_resume(whole, here, tmp_path):
    done = tmp_path / "done"
    shutil.copytree(whole, done)
    before = {name: (done / name).read_bytes() for name in ("steps.csv", "epochs.csv", "last.pt")}
    assert here(command(done, "--resume")) == 0
    assert {name: (done / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        pytest.param(["--recipe", "none.toml"], [], "none.toml must be a recipe", id="recipe"),
        pytest.param([], ["data.slice=3"], " --set: Unknown key data.slice", id="key"),
        pytest.param(
            ["--init", "none.pt"], [], "none.pt must be a checkpoint, but is mi", id="init"
        ),
        pytest.param(
            ["--init", "val"], [], "val must be a checkpoint, but is a f", id="init-folder"
        ),
        pytest.param(["--data", "none"], [], "none must be a folder", id="data"),
        pytest.param(["--output-dir", "start.pt"], [], "start.pt is a file", id="output"),
        pytest.param(["--checkpoint", "none.pt"], [], "none.pt must be a checkp", id="teacher"),
        pytest.param(["--val", "whole"], [], "must hold <Modality>/*.npz", id="val"),
        pytest.param(
            [],
            ['frozen=["image_encoder.neck"]'],
            "'image_encoder.neck' to freeze is not in the network",
            id="frozen",
        ),
        pytest.param(
            [],
            ['data.slices="many"'],
            "min, tenth, all or a number",
            id="slices",
        ),
    ],
)
def test_what_cannot_run_is_explained(whole, here, caplog, tmp_path, options, changes, expected):
    assert here(command(tmp_path / "none", *options, changes=changes)) == 2
    assert expected in caplog.text


def test_a_stage_that_follows_another_must_be_told_its_best(here, caplog, tmp_path):
    arguments = command(tmp_path / "second", changes=["needs_init=true"])
    place = arguments.index("--init")
    assert here(arguments[:place] + arguments[place + 2 :]) == 2
    assert "'small' goes on from another stage: --init must name its best.pt" in caplog.text


def test_a_network_without_published_weights_on_the_net_needs_its_checkpoint(
    here, caplog, tmp_path
):
    arguments = command(tmp_path / "medsam", "--network", "medsam")
    place = arguments.index("--init")
    assert here(arguments[:place] + arguments[place + 2 :]) == 2
    assert "--network medsam needs --init" in caplog.text


def test_arguments_are_checked_before_torch_is_imported(tmp_path):
    for module, options in (
        ("train", ["--recipe", "none.toml", "--data", "a", "--val", "b", "--output-dir", "c"]),
        ("export", ["--checkpoint", str(tmp_path), "--output-dir", "c"]),
    ):
        script = f"import sys; from training.{module} import main; status = main(sys.argv[1:]); "
        script += "sys.exit(90 + status if 'torch' in sys.modules else status)"
        run = subprocess.run([sys.executable, "-c", script, *options], cwd=ROOT, check=False)
        assert run.returncode == 2, module


def test_a_file_that_breaks_during_a_run_ends_it_with_a_sentence(
    here, workplace, caplog, tmp_path, monkeypatch
):
    shutil.copytree(workplace / "train", tmp_path / "train")
    do_step = stage.Stage._step

    def break_one(self, samples):
        if self.progress.step == 1:
            for path in (tmp_path / "train").rglob("*.npz"):
                path.write_bytes(b"PK")
        return do_step(self, samples)

    monkeypatch.setattr(stage.Stage, "_step", break_one)
    arguments = command(tmp_path / "out", "--data", str(tmp_path / "train"))
    assert here([*arguments, "--set", "data.cache_mb=0"]) == 2
    assert "File must be a .npz archive" in caplog.text
    assert "Traceback" not in caplog.text
    assert read_document(tmp_path / "out" / "last.pt")["progress"]["step"] == 2


def test_a_run_says_what_it_found_and_what_is_best(here, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "LINE_EVERY_S", -1)
    score_by_list(monkeypatch, 0.1, 0.5, 0.3)
    with caplog.at_level(logging.INFO):
        assert here(command(tmp_path, changes=QUICK)) == 0
    assert "To train on: 4 files with 6 slices: CT 1 (3), US 2 (2), XRay 1 (1)" in caplog.text
    assert "To validate on, val: 2 files with 4 slices: CT 1 (3), US 1 (1)" in caplog.text
    assert "Calibration, image 3 of 9, of all passes" in caplog.text
    assert "Step 2 of 4, epoch 1, loss " in caplog.text
    assert "Best is epoch 1, after step 2: DSC 50.00, at the start 10.00; " in caplog.text


def test_the_account_of_a_run_has_its_data_and_hours(whole):
    (account,) = load_trained(whole / "best.pt").history
    assert account["data"] == {
        "CT/lung": "1 cases, terms not stated",
        "US": "2 cases, BUSI, fetal heads: not stated",
        "XRay": "1 cases, terms not stated",
    }
    assert 0 <= account["hours"] < 1


def test_a_broken_checkpoint_is_named(workplace, here, caplog, tmp_path):
    content = (workplace / "start.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(content[: len(content) // 2])
    assert here(command(tmp_path, "--resume")) == 2
    assert f"{tmp_path / 'last.pt'} " in caplog.text


def test_a_network_without_a_stage_cannot_be_resumed(workplace, here, caplog, tmp_path):
    shutil.copy(workplace / "start.pt", tmp_path / "last.pt")
    assert here(command(tmp_path, "--resume")) == 2
    assert str(tmp_path / "last.pt") in caplog.text


def test_the_epoch_with_the_highest_score_is_kept(here, monkeypatch, tmp_path):
    score_by_list(monkeypatch, 0.1, 0.5, 0.3)
    assert here(command(tmp_path, changes=QUICK)) == 0
    assert [row["mean"] for row in rows(tmp_path / "epochs.csv")] == [0.1, 0.5, 0.3]
    (account,) = load_trained(tmp_path / "best.pt").history
    assert (account["steps"], account["validation"]) == (2, {"mean": 0.5, "CT": 0.5})
    assert read_document(tmp_path / "last.pt")["progress"]["best_score"] == 0.5


def test_what_was_calibrated_stays_the_best_where_training_makes_it_worse(
    here, monkeypatch, tmp_path
):
    score_by_list(monkeypatch, 0.6, 0.5, 0.6)
    assert here(command(tmp_path, changes=QUICK)) == 0
    (account,) = load_trained(tmp_path / "best.pt").history
    assert (account["steps"], account["validation"]["mean"]) == (0, 0.6)


def test_a_network_can_be_calibrated_and_no_more(here, tmp_path, workplace):
    assert here(command(tmp_path, "--calibrate-only", changes=SECOND_STAGE)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "start.pt",
        "best.pt",
        "epochs.csv",
        "curves.png",
        "tensorboard",
    }
    start = load_trained(tmp_path / "start.pt")
    assert start.quantized == BOTH
    assert [account["steps"] for account in start.history] == [0]
    assert [row["step"] for row in rows(tmp_path / "epochs.csv")] == [0]


def test_the_score_of_the_start_counts_in_a_run_that_was_stopped_before_its_first_checkpoint(
    here, monkeypatch, tmp_path
):
    score_by_list(monkeypatch, 0.6, 0.6, 0.5, 0.4)
    assert here(command(tmp_path, "--calibrate-only", changes=QUICK)) == 0
    assert here(command(tmp_path, changes=QUICK)) == 0
    (account,) = load_trained(tmp_path / "best.pt").history
    assert (account["steps"], account["validation"]["mean"]) == (0, 0.6)


@pytest.mark.parametrize("epoch", [1, 2], ids=["in-between", "at-the-end"])
def test_an_epoch_whose_validation_was_killed_is_validated_by_the_next_run(
    here, monkeypatch, tmp_path, epoch
):
    validate = stage.Stage._validate

    def killed_at(self, book, **which):
        if which["epoch"] == epoch:
            raise KeyboardInterrupt
        validate(self, book, **which)

    monkeypatch.setattr(stage, "CHECKPOINT_EVERY_S", -1)
    monkeypatch.setattr(stage.Stage, "_validate", killed_at)
    with pytest.raises(KeyboardInterrupt):
        here(command(tmp_path, changes=QUICK))
    monkeypatch.setattr(stage.Stage, "_validate", validate)
    assert here(command(tmp_path, "--resume", changes=QUICK)) == 0
    assert [row["epoch"] for row in rows(tmp_path / "epochs.csv")] == [0, 1, 2]


def test_the_best_is_still_known_to_a_run_that_was_killed_after_its_validation(
    here, monkeypatch, tmp_path
):
    validate = stage.Stage._validate

    def killed_after(self, book, **which):
        validate(self, book, **which)
        if which["epoch"] == 1:
            raise KeyboardInterrupt

    score_by_list(monkeypatch, 0.1, 0.8, 0.6)
    monkeypatch.setattr(stage, "CHECKPOINT_EVERY_S", -1)
    monkeypatch.setattr(stage.Stage, "_validate", killed_after)
    with pytest.raises(KeyboardInterrupt):
        here(command(tmp_path, changes=QUICK))
    monkeypatch.setattr(stage.Stage, "_validate", validate)
    assert here(command(tmp_path, "--resume", changes=QUICK)) == 0
    assert [row["mean"] for row in rows(tmp_path / "epochs.csv")] == [0.1, 0.8, 0.6]
    (account,) = load_trained(tmp_path / "best.pt").history
    assert (account["steps"], account["validation"]["mean"]) == (2, 0.8)


def test_the_best_is_kept_by_a_run_that_was_killed_while_it_drew_the_curves(
    here, monkeypatch, tmp_path
):
    def killed_at(steps, epochs):
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return Figure()

    score_by_list(monkeypatch, 0.1, 0.8, 0.6)
    monkeypatch.setattr(stage, "CHECKPOINT_EVERY_S", -1)
    monkeypatch.setattr(logbook, "draw_curves", killed_at)
    with pytest.raises(KeyboardInterrupt):
        here(command(tmp_path, changes=QUICK))
    assert [row["mean"] for row in rows(tmp_path / "epochs.csv")] == [0.1, 0.8]
    monkeypatch.setattr(logbook, "draw_curves", lambda steps, epochs: Figure())
    assert here(command(tmp_path, "--resume", changes=QUICK)) == 0
    (account,) = load_trained(tmp_path / "best.pt").history
    assert (account["steps"], account["validation"]["mean"]) == (2, 0.8)


class Noise(nn.Module):
    """Drops values at random, also outside of training, by the generator of torch."""

    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


def build_noisy_network():
    network = build_small_network()
    network.image_encoder.append(Noise())
    return network


def test_the_state_of_the_generator_is_resumed(here, monkeypatch, tmp_path):
    monkeypatch.setitem(state.BUILDERS, "lite_medsam", build_noisy_network)
    score_by_list(monkeypatch, *[0.5] * 6)
    assert here(command(tmp_path / "whole", changes=STOPPED)) == 0
    let_pass = stop_at(monkeypatch, 2, checkpoint_after=1)
    with pytest.raises(KeyboardInterrupt):
        here(command(tmp_path / "stopped", changes=STOPPED))
    let_pass()
    assert here(command(tmp_path / "stopped", "--resume", changes=STOPPED)) == 0
    assert rows(tmp_path / "stopped/steps.csv") == rows(tmp_path / "whole/steps.csv")


def test_a_stopped_run_that_keeps_embeddings_has_the_same_losses(here, monkeypatch, tmp_path):
    # Flips alone, so that they are kept.
    changes = [*STOPPED, "augmentation.zoom=0.0"]
    score_by_list(monkeypatch, *[0.5] * 6)
    cache = ["--teacher-cache", str(tmp_path / "one")]
    assert here(command(tmp_path / "whole", *cache, changes=changes)) == 0
    cache = ["--teacher-cache", str(tmp_path / "two")]
    let_pass = stop_at(monkeypatch, 2, checkpoint_after=1)
    with pytest.raises(KeyboardInterrupt):
        here(command(tmp_path / "stopped", *cache, changes=changes))
    let_pass()
    assert here(command(tmp_path / "stopped", *cache, "--resume", changes=changes)) == 0
    assert rows(tmp_path / "stopped/steps.csv") == rows(tmp_path / "whole/steps.csv")


def test_calibration_draws_each_modality_equally_and_changes_nothing(workplace):
    recipe = Recipe(name="any", calibration_images=5)
    index = build_index(workplace / "train")
    drawn = calibration_images(workplace / "train", index, recipe, 256)
    again = calibration_images(workplace / "train", index, recipe, 256)
    assert len(drawn) == 6  # two of each of three
    for (image, boxes), (image_again, boxes_again) in zip(drawn, again, strict=True):
        assert image.shape == (1, 3, 256, 256)
        assert torch.equal(image, image_again)
        assert torch.equal(boxes, boxes_again)
    # The edges of the file's box, unmoved: 4 * 8 - 1/2 would be of 64 pixels; here 256 / 48.
    of_volume = [boxes for _, boxes in drawn if len(boxes) == 1 and boxes[0, 3] > 150]
    expected = np.array([8, 10, 20, 30]) * 256 / 48 - 0.5
    assert any(boxes[0].tolist() == pytest.approx(expected) for boxes in of_volume)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_a_run_to_stop(number):
    """In a process of its own, so that no signal of a test can end all tests."""
    code = (
        "import signal\n"
        "from training.loop.stopping import stop_requests\n"
        "with stop_requests() as request:\n"
        f"    signal.raise_signal({int(number)})\n"
        "    assert request\n"
        "    try: request.check()\n"
        "    except BaseException as stopped: print(stopped.status)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, f"{128 + number}\n"), result.stderr


def test_a_signal_ends_a_run_after_its_step_and_says_how_to_go_on(
    here, tmp_path, monkeypatch, caplog
):
    do_step = stage.Stage._step

    def signalled(self, samples):
        parts = do_step(self, samples)
        if self.progress.step == 2:
            self.stop.take(signal.SIGTERM)  # as the handler of the signal does
        return parts

    monkeypatch.setattr(stage.Stage, "_step", signalled)
    arguments = command(tmp_path / "stopped", changes=STOPPED)
    assert here(arguments) == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM; the same command with --resume goes on" in caplog.text
    assert read_document(tmp_path / "stopped" / "last.pt")["progress"]["step"] == 2
    monkeypatch.setattr(stage.Stage, "_step", do_step)
    assert here([*arguments, "--resume"]) == 0
    assert len(rows(tmp_path / "stopped" / "steps.csv")) == 6


def test_a_signal_ends_a_validation(here, tmp_path, monkeypatch):
    validate = stage.Stage._validate

    def signalled(self, *arguments, **options):
        self.stop.take(signal.SIGINT)
        return validate(self, *arguments, **options)

    monkeypatch.setattr(stage.Stage, "_validate", signalled)
    assert here(command(tmp_path / "stopped", changes=STOPPED)) == 128 + signal.SIGINT


def test_changes_of_a_recipe_add_up():
    parser = train.build_parser()
    changed = ["--set", "seed=1", "data.slices=2", "--set", "loss.dice=2.0"]
    arguments = parser.parse_args(command("out") + changed)
    assert arguments.set == ["seed=1", "data.slices=2", "loss.dice=2.0"]
