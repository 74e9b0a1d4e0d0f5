"""The loop over cases: threads that read and write beside the work, and what one case may break."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qmedsam.batch import run as batch
from qmedsam.batch.outputs import Outputs
from qmedsam.batch.run import ReadAhead, run_batch
from qmedsam.core.pipeline import Pipeline
from qmedsam.errors import ModelError
from qmedsam.system.signals import Stopped
from tests.conftest import FakeNetwork


class FakeSegmenter:
    """Draws boxes, and says when it begins with a case."""

    def __init__(self, on_case=lambda number: None) -> None:
        self.pipeline = self
        self.on_case = on_case
        self.cases = 0
        self._pipeline = Pipeline(
            FakeNetwork(), volume_prompt="fixed", regions="whole", box_batch_size=2
        )

    def segment(self, pixels, prompts, *, stopwatch):
        self.on_case(self.cases)
        self.cases += 1
        return self._pipeline.segment(pixels, prompts, stopwatch=stopwatch)


@pytest.fixture
def folders(tmp_path):
    """Three cases with one, two and three boxes, and where label maps go."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    outputs.mkdir()
    for count in (1, 2, 3):
        boxes = np.array([[10, 20, 30, 40], [50, 50, 70, 70], [5, 60, 25, 90]])[:count]
        np.savez(inputs / f"{count}.npz", imgs=np.zeros((100, 100), np.uint8), boxes=boxes)
    return SimpleNamespace(paths=sorted(inputs.iterdir()), outputs=Outputs(outputs))


def run_all(folders, segmenter, on_case=lambda record: None):
    records = []

    def keep(record):
        records.append(record)
        on_case(record)

    with closing(ReadAhead(folders.paths, folders.outputs)) as cases:
        run_batch(segmenter, cases, on_case=keep)
    return records


def labels_of(path: Path) -> set[int]:
    with np.load(path) as archive:
        return set(np.unique(archive["segs"]).tolist()) - {0}


def test_each_case_gets_its_own_label_map_and_is_told_in_order(folders):
    told = []
    records = run_all(folders, FakeSegmenter(), told.append)
    assert told == records
    assert [record.name for record in records] == ["1.npz", "2.npz", "3.npz"]
    for count in (1, 2, 3):
        path = folders.outputs.output_dir / f"{count}.npz"
        assert labels_of(path) == set(range(1, count + 1))
    assert [record.boxes for record in records] == [1, 2, 3]
    for record in records:
        assert record.error is None
        assert {"read", "encode", "decode", "write"} <= record.seconds.keys()
        assert record.total_s >= record.seconds["write"] > 0


def test_a_case_that_is_done_is_told_while_the_next_is_segmented(folders):
    told = threading.Event()

    def on_segmenting(number):
        if number == 1:
            assert told.wait(10), "the first case is not told of while the second is segmented"

    records = run_all(folders, FakeSegmenter(on_segmenting), lambda record: told.set())
    assert [record.error for record in records] == [None] * 3


def test_a_label_map_that_cannot_be_written_fails_its_case_alone(folders, caplog):
    (folders.outputs.output_dir / "2.npz").mkdir()
    records = run_all(folders, FakeSegmenter())
    assert [record.error is None for record in records] == [True, False, True]
    assert records[1].error.endswith("is something else; --overwrite replaces it")
    assert "2.npz must be a label map of an earlier run to be" in caplog.text
    assert sorted(path.name for path in folders.outputs.output_dir.iterdir()) == [
        "1.npz",
        "2.npz",
        "3.npz",
    ]


def test_a_run_that_is_stopped_does_not_wait_for_a_write_that_never_ends(folders, monkeypatch):
    monkeypatch.setattr(batch, "STOP_S", 0.01)
    is_writing, may_end, has_ended = (threading.Event() for _ in range(3))

    def never_end(record):
        is_writing.set()
        may_end.wait(20)
        has_ended.set()

    def stop(number):
        if number == 1:
            assert is_writing.wait(20)
            raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped):
        run_all(folders, FakeSegmenter(stop), never_end)
    assert not has_ended.is_set()
    may_end.set()


def test_a_run_that_is_stopped_writes_what_it_has(folders):
    def stop(number):
        if number == 1:
            raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped):
        run_all(folders, FakeSegmenter(stop))
    assert [path.name for path in folders.outputs.output_dir.iterdir()] == ["1.npz"]


def test_no_thread_is_left(folders):
    before = threading.active_count()
    run_all(folders, FakeSegmenter())
    assert threading.active_count() == before


def test_a_model_that_fails_leaves_no_thread(folders):
    def fail(number):
        raise ModelError("broken")

    before = threading.active_count()
    with pytest.raises(ModelError, match="broken"):
        run_all(folders, FakeSegmenter(fail))
    assert threading.active_count() == before
