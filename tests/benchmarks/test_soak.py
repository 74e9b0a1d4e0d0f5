"""Many cases in one process, looked at from outside."""

from __future__ import annotations

import os

import pytest

from benchmarks import soak
from benchmarks.harness.measured import RunError
from benchmarks.soak import look_at, measure_soak, write_cases
from qmedsam.batch.cases import read_case
from qmedsam.core.prompts import check_prompts


def test_this_process_is_looked_at():
    before = look_at(os.getpid())
    assert before["threads"] >= 1
    assert before["resident_mb"] > 10
    with open(os.devnull):
        assert look_at(os.getpid())["files"] == before["files"] + 1


def test_the_cases_are_images_and_volumes_that_can_be_segmented(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "DIFFERENT", 20)
    write_cases(tmp_path, 25)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 25
    assert paths[22].samefile(paths[2])
    prompts = [check_prompts(case.pixels, case.boxes) for case in map(read_case, paths)]
    assert sum(each.is_volume for each in prompts) == 2
    assert all(each.objects and not each.notes for each in prompts)


@pytest.mark.model
def test_a_short_soak_has_a_point_for_each_share():
    points = measure_soak(6)
    assert [point["done"] for point in points] == [1, 2, 3, 4, 5][: len(points)]
    assert len(points) >= 3
    assert all(point["resident_mb"] > 50 for point in points)


@pytest.mark.model
def test_missing_label_maps_end_the_benchmark(monkeypatch):
    monkeypatch.setattr(soak, "write_cases", lambda folder, count: (folder / "a.npz").touch())
    with pytest.raises(RunError, match="0 of 3 label maps"):
        measure_soak(3)
