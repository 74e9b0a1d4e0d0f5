"""What a case costs, held to what a run of it does."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam import Settings
from qmedsam.batch.cases import Outline, read_outline
from qmedsam.batch.cost import (
    BOX_S,
    CASE_S,
    SLICE_S,
    VOXEL_S,
    Work,
    grids_of,
    planner_of,
    read_works,
    work_of,
)
from qmedsam.config import REGIONS
from qmedsam.core.pipeline import Pipeline
from qmedsam.core.planning import REGION_GRIDS, Planner
from qmedsam.core.prompts import check_prompts
from qmedsam.core.work import encoder_gmacs
from qmedsam.errors import ModelError
from tests.conftest import ROOT, FakeNetwork

WHOLE, SQUARE = Planner("whole"), (256, 256)
BYTES = np.dtype(np.uint8)


def outline(shape, boxes, dtype=BYTES) -> Outline:
    return Outline(shape, dtype, np.asarray(boxes))


VOLUME = outline((10, 6, 7), [[0, 0, 2, 5, 5, 5], [0, 0, 4, 5, 5, 9], [0, 0, 50, 5, 5, 60]])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(VOLUME, Work(slices=8, decodes=4 + 6, voxels=420), id="volume"),
        pytest.param(outline((6, 7, 3), [[0, 0, 5, 5], [1, 1, 3, 3]]), Work(1, 2, 126), id="image"),
        pytest.param(outline((6, 7), np.zeros((0, 4))), Work(voxels=42), id="no-boxes"),
        pytest.param(outline((6, 7), [[20, 20, 30, 30]]), Work(voxels=42), id="box-outside"),
        pytest.param(outline((1, 900), [[0, 0, 5, 0]]), Work(1, 1, 900), id="thin"),
        pytest.param(outline((6, 7), [[0, 0, 5, 5]], np.dtype(np.float32)), Work(), id="floats"),
        pytest.param(outline((6, 7), [[0, 0, 5, np.nan]]), Work(), id="bad-box"),
        pytest.param(None, Work(), id="unreadable"),
    ],
)
def test_work_seen_whole_is_counted_by_slices_and_boxes(case, expected):
    assert work_of(case, WHOLE) == expected
    one_grid = Planner("auto", (1024, 1024), ((1024, 1024),))  # MedSAM's, which has no other
    assert work_of(case, one_grid) == expected


def test_a_small_grid_takes_its_share_of_a_slice_and_half_a_box_in_any_case():
    # 40 pixels and a context of 100 in all, enlarged by 1.2: 120.
    work = work_of(outline((1000, 1000), [[480, 480, 519, 519]]), Planner())
    assert work.slices == pytest.approx(encoder_gmacs((128, 128)) / encoder_gmacs(SQUARE))
    assert work.decodes == pytest.approx(0.5 + 0.5 * (128 * 128) / (256 * 256))
    assert work.seconds == pytest.approx(
        CASE_S + SLICE_S * work.slices + BOX_S * work.decodes + VOXEL_S * 1_000_000
    )


def cases_to_run():
    rng = np.random.default_rng(0)
    for count in (1, 7, 40):
        low = rng.integers(0, 400, (count, 2))
        high = low + rng.integers(5, 90, (count, 2))
        yield pytest.param(
            rng.integers(0, 256, (480, 500), dtype=np.uint8),
            np.concatenate([low, high], axis=1),
            id=f"image-{count}",
        )
        first = rng.integers(0, 5, count)
        last = first + rng.integers(0, 5, count)
        yield pytest.param(
            rng.integers(0, 256, (10, 480, 500), dtype=np.uint8),
            np.concatenate([low, first[:, None], high, last[:, None]], axis=1),
            id=f"volume-{count}",
        )


@pytest.mark.parametrize(("pixels", "boxes"), list(cases_to_run()))
def test_the_grids_are_those_that_a_run_makes_ready(pixels, boxes):
    network = FakeNetwork(REGION_GRIDS)
    pipeline = Pipeline(network, volume_prompt="fixed", regions="auto", box_batch_size=8)
    pipeline.segment(pixels, check_prompts(pixels, boxes))
    assert grids_of(outline(pixels.shape, boxes), pipeline.planner) == network.prepared


@pytest.mark.parametrize(
    "case", [None, outline((6, 7), np.zeros((0, 4))), outline((6, 7), [[0, 0, 5, np.nan]])]
)
def test_a_case_without_prompts_needs_no_grids(case):
    assert grids_of(case, Planner()) == []


@pytest.mark.parametrize("regions", REGIONS)
@pytest.mark.parametrize(("pixels", "boxes"), list(cases_to_run()))
def test_the_work_is_what_a_run_does(pixels, boxes, regions):
    network = FakeNetwork(REGION_GRIDS)
    pipeline = Pipeline(network, volume_prompt="fixed", regions=regions, box_batch_size=8)
    tally = pipeline.segment(pixels, check_prompts(pixels, boxes)).tally
    work = work_of(outline(pixels.shape, boxes), pipeline.planner)
    encoded = sum(count * encoder_gmacs(grid) for grid, count in tally.encoded.items())
    decoded = sum(
        count * (0.5 + 0.5 * height * width / 65536)
        for (height, width), count in tally.decoded.items()
    )
    assert work.slices == pytest.approx(encoded / encoder_gmacs(SQUARE))
    assert work.decodes == pytest.approx(decoded)


def test_no_value_is_looked_at_of_what_only_says_how_large_it_is():
    # Whose lowest value would be looked for among a million million.
    endless = outline((1_000_000, 1_000_000), [[1, 2, 3, 4]], np.dtype(np.float64))
    assert work_of(endless, WHOLE) == Work()
    assert grids_of(endless, WHOLE) == []


def test_works_come_in_the_order_of_their_cases(tmp_path):
    paths = []
    for depth in (3, 1, 2):
        paths.append(tmp_path / f"{depth}.npz")
        boxes = [[0, 0, 0, 5, 5, depth - 1]]
        np.savez(paths[-1], imgs=np.zeros((depth, 6, 7), np.uint8), boxes=boxes)
    works = read_works([*paths, tmp_path / "missing.npz"], WHOLE, read_outline)
    assert [work.slices for work in works] == [3, 1, 2, 0]


def test_regions_are_planned_as_the_model_will_be_run(tmp_path):
    assert planner_of(Settings(), None) == Planner()
    assert planner_of(Settings(regions="whole"), ROOT / "models" / "float").regions == "whole"
    with pytest.raises(ModelError, match=r"no readable manifest\.json"):
        planner_of(Settings(), tmp_path)


@pytest.mark.parametrize(
    "broken",
    [outline((True, True), [[0, 0, 0, 0]]), Outline((4, 4), BYTES, [[0, 0, 1, 1]])],
    ids=["booleans", "boxes-of-no-array"],
)
def test_whatever_is_wrong_with_a_case_it_costs_nothing(broken):
    assert work_of(broken, WHOLE) == Work()
    assert grids_of(broken, WHOLE) == []
