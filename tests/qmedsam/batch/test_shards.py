"""Parts of a folder: all cases once, about as much work in each."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmedsam.batch import case_file
from qmedsam.batch.cases import list_cases, read_outline
from qmedsam.batch.cost import read_works
from qmedsam.batch.shards import Shard, assign, cases_of_shard
from qmedsam.cli import main
from qmedsam.config import REGIONS
from qmedsam.core.planning import Planner
from qmedsam.exit_status import DONE, NOTHING_RAN, SOME_FAILED
from qmedsam.system.files import open_regular

COUNT = 4


@pytest.fixture
def skewed(tmp_path):
    """A case of a quarter of all work, some large ones, many small ones, and a broken one."""
    folder = tmp_path / "in"
    folder.mkdir()
    depths = [120, *(range(10, 60, 10)), *([1, 2, 3] * 30)]
    for number, depth in enumerate(depths):
        boxes = [[1, 1, 0, 12, 10, depth - 1]] * (1 + number % 3)
        pixels = np.zeros((depth, 12, 14), np.uint8)
        np.savez(folder / f"{number:03}.npz", imgs=pixels, boxes=boxes)
    (folder / "broken.npz").write_bytes(b"no archive")
    return folder


@pytest.mark.parametrize("regions", REGIONS)
def test_shards_have_every_case_once_and_loads_within_a_tenth(skewed, regions):
    paths, planner = list_cases(skewed), Planner(regions)
    shards = [cases_of_shard(paths, Shard(index, COUNT), planner) for index in range(COUNT)]
    assert sorted(path for shard in shards for path in shard) == paths
    works = [read_works(shard, planner, read_outline) for shard in shards]
    loads = [sum(work.seconds for work in each) for each in works]
    assert max(loads) < 1.1 * min(loads)
    assert all(shard == sorted(shard) for shard in shards)


@pytest.mark.parametrize("regions", REGIONS)
def test_the_command_runs_its_shard_alone(skewed, tmp_path, fake_model, regions):
    written: list[str] = []
    for index in range(COUNT):
        output = tmp_path / str(index)
        words = ["--shard", f"{index}/{COUNT}", "--regions", regions]
        status = main(["-i", str(skewed), "-o", str(output), *words])
        shard = cases_of_shard(list_cases(skewed), Shard(index, COUNT), Planner(regions))
        names = sorted(path.name for path in output.iterdir())
        is_whole = names == [path.name for path in shard]
        assert is_whole or names == [path.name for path in shard if path.name != "broken.npz"]
        assert status == (DONE if is_whole else SOME_FAILED)
        written += names
    assert sorted(written) == [path.name for path in list_cases(skewed)][:-1]


def test_a_shard_without_cases_is_done(skewed, tmp_path, fake_model):
    words = ["-i", str(skewed), "-o", str(tmp_path / "out"), "--shard", "998/999"]
    assert main(words) == DONE
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_system_that_fails_ends_the_task(skewed, tmp_path, fake_model, monkeypatch, caplog):
    """It would deal the cases out otherwise than the other tasks do."""

    def fail(path):
        if path.name == "003.npz":
            raise OSError(errno.ESTALE, "Stale file handle")
        return open_regular(path)

    monkeypatch.setattr(case_file, "open_regular", fail)
    words = ["-i", str(skewed), "-o", str(tmp_path / "out"), "--shard", "0/4"]
    assert main(words) == NOTHING_RAN
    assert "Stale file handle" in caplog.text


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "1/", "a/b", "0/0"])
def test_what_is_no_shard_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["-i", "in", "-o", "out", f"--shard={text}"])
    assert "must be I/N" in capsys.readouterr().err


@given(
    st.lists(st.floats(0, 1e4), max_size=200),
    st.integers(1, 20),
)
def test_no_load_exceeds_graham_bound(costs, count):
    places = assign(costs, count)
    loads = np.bincount(places, weights=costs, minlength=count) if costs else np.zeros(count)
    fair = max(sum(costs) / count, max(costs, default=0))
    assert loads.max() <= (2 - 1 / count) * fair * (1 + 1e-9)


def test_there_may_be_far_more_shards_than_cases():
    assert assign([3.0, 5.0], 10**12) == [1, 0]
    assert assign([], 10**12) == []
