"""Whole stages with a small network, in processes of their own.

`drive` is the command of training itself, of which a process may be killed, alone or under torchrun
with its whole machine. `drive_forks` lets torchrun's launcher fork processes, which need not import
anything then; that takes longer than their training.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.distributed.launcher import LaunchConfig, elastic_launch

from tests.conftest import HANGS_AFTER_S, ROOT
from tests.training.small_networks import build_small_network, seeded_network
from training import train
from training.loop import command as command_of_stage
from training.loop import logbook, stage, state
from training.loop.state import Trained, read_document, save_document, trained_document

PROCESSES = "N-PROCESSES"  # in arguments, stands for the number of processes
THEN = "--then"  # between the arguments of two runs of the same processes
EXACT = "exact"  # name of a recipe that trains in single precision
NEVER = float("inf")
RECIPE = """
name = "small"
quantized = ["image_encoder"]
trained = ["image_encoder"]
calibration_images = 3
[data]
slices = 2
objects_per_image = 2
workers = 0
cache_mb = 1
[augmentation]
zoom = 0.5
photometric = 0.5
[optimizer]
name = "adamw"
learning_rate = 0.01
weight_decay = 0.01
clip_norm = 1.0
ema_decay = 0.9
[schedule]
warmup_epochs = 2
annealing_epochs = 2
[validation]
slices_per_volume = 1
objects_per_image = 2
"""


def drive(argv: list[str]) -> int:
    """Train with the small network.

    The environment says after which step to write a checkpoint, and before which to be killed. What
    each process saw is left beside the output folder.
    """
    torch.set_num_threads(1)
    if "LOCAL_RANK" in os.environ:  # the others would wait while curves are drawn
        logbook.draw_curves = lambda steps, epochs: Figure()
    state.BUILDERS["lite_medsam"] = build_small_network
    state.LOADERS["lite_medsam"] = small_teacher
    checkpoint_after, killed_before = (
        int(os.environ.get(name, "-1")) for name in ("CHECKPOINT_AFTER", "KILLED_BEFORE")
    )
    do_step, run, mean = stage.Stage._step, stage.Stage.run, stage.mean_over_processes
    autocast, own_losses = stage.Stage._autocast, []

    def step_or_be_killed(self, samples):
        if self.progress.step == killed_before and os.environ.get("LOCAL_RANK", "0") == "0":
            be_killed()
        stage.CHECKPOINT_EVERY_S = -1 if self.progress.step + 1 == checkpoint_after else NEVER
        return do_step(self, samples)

    def mean_of_noted(values):
        own_losses.append(values.tolist())
        return mean(values)

    def run_and_report(self, **options):
        own_losses.clear()
        run(self, **options)
        report = {"losses": own_losses, "digest": digest(self.network)}
        report_path(self.output_dir, self.rank.number).write_text(json.dumps(report))

    def autocast_or_not(self):
        return nullcontext() if self.recipe.name == EXACT else autocast(self)

    stage.Stage._step, stage.Stage.run = step_or_be_killed, run_and_report
    stage.Stage._autocast, stage.mean_over_processes = autocast_or_not, mean_of_noted
    runs = [list(run) for is_between, run in groupby(argv, THEN.__eq__) if not is_between]
    with command_of_stage.join_processes() as rank:  # of which a process can be part once
        command_of_stage.join_processes = lambda: nullcontext(rank)
        return max(train.main(run) for run in runs)


def drive_forks(argv: list[str]) -> int:
    """Train by each number of processes that the environment names, and in this one at last.

    Arguments say where the number goes.
    """
    numbers = [int(number) for number in os.environ.get("FORKS", "").split()]
    statuses = [status for number in numbers for status in fork(number, argv)]
    return max([*statuses, drive(numbered(argv, 1))])


def fork(number: int, argv: list[str]) -> Iterable[int]:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    return elastic_launch(config, drive)(numbered(argv, number)).values()


def numbered(argv: list[str], number: int) -> list[str]:
    return [argument.replace(PROCESSES, str(number)) for argument in argv]


def be_killed():
    """Let this process die at once, and torchrun before it; the others of a machine follow."""
    if "LOCAL_RANK" in os.environ:
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def small_teacher(path):
    return seeded_network(9)


def digest(network) -> str:
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(name.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()


def save(path, image, labels, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, imgs=image, gts=labels, boxes=np.array(boxes))


def save_image(path, shape, boxes, seed):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 120, shape, dtype=np.uint8)
    labels = np.zeros(shape[:2], dtype=np.uint8)
    for label, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0 : y1 + 1, x0 : x1 + 1] = label
        image[y0 : y1 + 1, x0 : x1 + 1] += np.uint8(100)
    save(path, image, labels, boxes)


def save_volume(path, seed):
    """Save four slices, the last three of which hold an object."""
    image = np.random.default_rng(seed).integers(0, 120, (4, 48, 48), dtype=np.uint8)
    labels = np.zeros_like(image)
    labels[1:, 10:30, 8:20] = 1
    image[labels > 0] += 100
    save(path, image, labels, [[8, 10, 1, 19, 29, 3]])


def write_data(folder):
    """Write a root of three modalities to train on and one of two to choose by."""
    pair = [[10, 20, 60, 50], [70, 60, 120, 90]]
    save_image(folder / "train/US/a.npz", (96, 128, 3), pair, 1)
    save_image(folder / "train/US/b.npz", (64, 64), [[5, 5, 40, 30]], 2)
    save_volume(folder / "train/CT/lung/c.npz", 3)
    save_image(folder / "train/XRay/d.npz", (128, 128), [*pair, [0, 100, 30, 127]], 4)
    save_image(folder / "val/US/v.npz", (96, 128, 3), pair, 5)
    save_volume(folder / "val/CT/w.npz", 6)


def make_workplace(folder):
    """Write data, a recipe, a float network to start from and the driver into a folder."""
    write_data(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    start = Trained("lite_medsam", seeded_network(), (), None, [], "ab12")
    save_document(trained_document(start), folder / "start.pt")
    (folder / "driver.py").write_text(
        "import sys\n"
        "from tests.training.small_runs import drive_forks\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(drive_forks(sys.argv[1:]))\n"
    )
    return folder


def command(output_dir, *options, changes=()) -> list[str]:
    """Return the arguments of a run in the workplace; a later option takes the place of one."""
    arguments = ["--recipe", "recipe.toml", "--data", "train", "--val", "val", "--init", "start.pt"]
    arguments += ["--checkpoint", "start.pt"]  # whose place another teacher takes
    arguments += ["--output-dir", str(output_dir), *options]
    return [*arguments, "--set", *changes] if changes else arguments


def launch(workplace, arguments, *, torchrun=(), **environment) -> tuple[int, str]:
    """Run the driver, under torchrun where that has options; return its status and its words."""
    return finish(begin(workplace, arguments, torchrun=torchrun, **environment))


def begin(workplace, arguments, *, torchrun=(), **environment) -> subprocess.Popen[str]:
    """Start what `launch` runs."""
    python = [sys.executable]
    if torchrun:
        python += ["-m", "torch.distributed.run", *torchrun]
    return subprocess.Popen(
        [*python, "driver.py", *arguments],
        cwd=workplace,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TORCH_COMPILE_DISABLE": "1",  # compiling takes longer than everything here
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # as docs/retraining.md says
            **{name.upper(): str(value) for name, value in environment.items()},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process) -> tuple[int, str]:
    """Wait for what `begin` started; return its status and its words."""
    with process:
        try:
            said, _ = process.communicate(timeout=HANGS_AFTER_S)
        finally:
            process.terminate()  # as torchrun then does with its own
    return process.returncode, said


def rows(path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)
        ]


def report_path(output_dir, rank) -> Path:
    return output_dir.with_name(f"{output_dir.name}-{rank}.json")


def report(output_dir, rank) -> dict:
    return json.loads(report_path(output_dir, rank).read_text())


def weights_of(path) -> dict[str, torch.Tensor]:
    return read_document(path)["network"]
