"""DSC and NSD on masks small enough to draw, and the official mode against an independent one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

pytest.importorskip("surface_distance", reason="training/requirements.txt is not installed")

from surface_distance import lookup_tables

from tests.conftest import mask_of
from training.scoring.metrics import dsc, nsd, score_case

pytestmark = pytest.mark.training

OFFICIAL_TOLERANCE = 1e-4
VAL_CASES = 20


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        pytest.param([1, 1, 0, 0], [1, 1, 0, 0], 1.0, id="equal"),
        pytest.param([1, 1, 0, 0], [0, 1, 1, 0], 0.5, id="half"),
        pytest.param([1, 1, 0, 0], [0, 0, 1, 1], 0.0, id="disjoint"),
        pytest.param([0, 0], [0, 0], 1.0, id="both-empty"),
        pytest.param([0, 0], [0, 1], 0.0, id="one-empty"),
    ],
)
def test_dsc_of_masks_worked_out_by_hand(truth, predicted, expected):
    assert dsc(np.array(truth, dtype=bool), np.array(predicted, dtype=bool)) == expected


# The surface of a pixel is its four corners, each with the same length; of two pixels three apart
# the near corners are 2 px from the other pixel and the far ones 3 px: half of the surface is
# within 2 mm.
@pytest.mark.parametrize(
    ("truth", "predicted", "spacing", "expected"),
    [
        pytest.param(["#....."], ["#....."], [1, 1], 1.0, id="equal"),
        pytest.param(["#....."], [".#...."], [1, 1], 1.0, id="next-pixel"),
        pytest.param(["#....."], ["...#.."], [1, 1], 0.5, id="three-apart"),
        pytest.param(["#....."], ["....#."], [1, 1], 0.0, id="four-apart"),
        pytest.param(["#....."], ["...#.."], [1, 2], 0.0, id="wide-pixels"),
        pytest.param(["#....."], ["...#.."], [2, 1], 0.5, id="high-pixels"),
        pytest.param(["#....."], ["....#."], [1, 0.5], 1.0, id="narrow-pixels"),
        pytest.param(["......"], ["......"], [1, 1], 1.0, id="both-empty"),
        pytest.param(["#....."], ["......"], [1, 1], 0.0, id="nothing-predicted"),
        pytest.param(["......"], ["#....."], [1, 1], 0.0, id="nothing-there"),
    ],
)
def test_nsd_of_images_worked_out_by_hand(truth, predicted, spacing, expected):
    assert nsd(mask_of(truth), mask_of(predicted), spacing) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("axis", "spacing", "expected"),
    [
        pytest.param(0, [1, 1, 1], 0.5, id="z"),
        pytest.param(2, [1, 1, 1], 0.5, id="x"),
        pytest.param(0, [2, 1, 1], 0.0, id="thick-slices"),
        pytest.param(0, [1, 1, 2], 0.5, id="wide-voxels-do-not-matter-along-z"),
    ],
)
def test_nsd_of_two_voxels_three_apart(axis, spacing, expected):
    truth, predicted = np.zeros((2, 8, 8, 8), dtype=bool)
    truth[2, 2, 2] = True
    place = [2, 2, 2]
    place[axis] += 3
    predicted[tuple(place)] = True
    assert nsd(truth, predicted, spacing) == pytest.approx(expected)


def test_nsd_of_a_square_in_a_square_by_lengths():
    # Corners of a mask of 5 x 5 pixels: 4 cut ones of length sqrt(1/2) and 16 straight ones of
    # length 1. The inner pixel's four corners lie 2 px from the nearest; of the outer square those
    # within 2 px of the inner corners are the middle two of each side.
    truth = mask_of(["#####", "#####", "#####", "#####", "#####"])
    predicted = mask_of([".....", ".....", "..#..", ".....", "....."])
    cut = math.sqrt(0.5)
    expected = (8 * 1 + 4 * cut) / (16 * 1 + 4 * cut + 4 * cut)
    assert nsd(truth, predicted, [1, 1]) == pytest.approx(expected)


def label_maps(*rows: str) -> np.ndarray:
    return np.array([[int(value) for value in row] for row in rows], dtype=np.uint8)


@pytest.mark.parametrize("mode", ["official", "correct"])
def test_a_case_is_the_mean_over_its_labels(mode):
    score = score_case(label_maps("1100330"), label_maps("1100300"), mode=mode)
    assert [label.label for label in score.labels] == [1, 3]
    assert score.dsc == pytest.approx((1 + 2 / 3) / 2)
    assert score.nsd == pytest.approx(np.mean([label.nsd for label in score.labels]))


def test_a_label_that_neither_has_is_left_out():
    for mode in ("official", "correct"):
        score = score_case(label_maps("1003"), label_maps("1003"), mode=mode)
        assert [label.label for label in score.labels] == [1, 3]
        assert score.dsc == score.nsd == 1


def test_a_label_that_is_only_predicted_scores_zero_but_beyond_the_truth_in_correct_mode_only():
    truth, predicted = label_maps("1003"), label_maps("1243")
    official = score_case(truth, predicted, mode="official")
    correct = score_case(truth, predicted, mode="correct")
    assert [(score.label, score.dsc) for score in official.labels] == [(1, 1), (2, 0), (3, 1)]
    assert [(score.label, score.dsc) for score in correct.labels] == [
        *((1, 1), (2, 0), (3, 1)),
        (4, 0),
    ]


def test_a_case_without_any_label_has_no_score():
    score = score_case(label_maps("000"), label_maps("000"))
    assert math.isnan(score.dsc)
    assert math.isnan(score.nsd)


@pytest.mark.parametrize("mode", ["official", "correct"])
def test_255_labels_of_8_bits_are_all_scored(mode):
    truth = np.arange(256, dtype=np.uint8).reshape(16, 16)
    score = score_case(truth, truth, mode=mode)
    assert [label.label for label in score.labels] == list(range(1, 256))
    assert score.dsc == score.nsd == 1


def test_the_official_mode_counts_no_nsd_up_to_a_dsc_of_a_fifth():
    # 1 of 9 pixels: DSC 0.2; the contours are close nevertheless.
    truth, predicted = label_maps("111111111"), label_maps("100000000")
    assert score_case(truth, predicted, mode="official").nsd == 0
    assert score_case(truth, predicted, mode="correct").nsd > 0
    assert score_case(truth, label_maps("110000000"), mode="official").nsd > 0


def test_the_official_mode_puts_the_spacing_on_the_axes_in_the_files_order():
    truth, predicted = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    truth[2, 2, 2] = predicted[5, 2, 2] = 1  # three slices apart
    spacing_mm = [1, 1, 2]  # (z, y, x)
    correct = score_case(truth, predicted, spacing_mm=spacing_mm, mode="correct")
    official = score_case(truth, predicted, spacing_mm=spacing_mm, mode="official")
    assert correct.labels[0].nsd == pytest.approx(0.5)
    assert official.labels[0].nsd == 0  # as if slices were 2 mm apart


def test_the_official_mode_takes_an_image_for_a_slab_whose_faces_are_surface():
    truth = np.ones((9, 9), dtype=np.uint8)
    predicted = np.zeros_like(truth)
    predicted[3:6, 3:6] = 1  # its contour is 3 px inside the other
    assert score_case(truth, predicted, mode="correct").nsd == 0
    predicted[2:7, 2:7] = 1  # 2 px, and a DSC above the gate
    assert score_case(truth, predicted, mode="official").nsd > 0.8


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [
        pytest.param((4, 4), (4, 5), id="other-size"),
        pytest.param((4,), (4,), id="no-image"),
        pytest.param((2, 2, 2, 2), (2, 2, 2, 2), id="too-many-axes"),
    ],
)
def test_shapes_that_cannot_be_scored_are_named(truth, predicted):
    with pytest.raises(ValueError, match="Truth and prediction must both be"):
        score_case(np.zeros(truth, np.uint8), np.zeros(predicted, np.uint8))


def official_slowly(truth, predicted, spacing_xyz) -> tuple[float, float]:
    """Follow the challenge's script step by step, with nearest points instead of a distance map."""
    labels = range(1, int(truth.max()) + 1)
    pairs = [(truth == label, predicted == label) for label in labels]
    mean_dsc = np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
    if mean_dsc <= 0.2:
        return mean_dsc, 0.0
    if truth.ndim == 2:
        pairs, spacing_xyz = [(a[..., None], b[..., None]) for a, b in pairs], [1, 1, 1]
    return mean_dsc, np.mean([surface_dice_slowly(a, b, spacing_xyz) for a, b in pairs])


def surface_dice_slowly(truth, predicted, spacing) -> float:
    occupied = (truth | predicted).nonzero()  # around which a volume is mostly empty
    box = tuple(slice(places.min(), places.max() + 1) for places in occupied)
    points, areas = zip(
        *(surface_points(mask[box], spacing) for mask in (truth, predicted)), strict=True
    )
    if not (len(points[0]) and len(points[1])):
        return 0.0
    near = [cKDTree(points[other]).query(points[one])[0] <= 2 for one, other in ((0, 1), (1, 0))]
    close = areas[0][near[0]].sum() + areas[1][near[1]].sum()
    return close / (areas[0].sum() + areas[1].sum())


def surface_points(mask, spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of voxels at which a mask's surface passes, in mm, and its area there."""
    table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    weights = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    padded = np.pad(mask, 1)
    corners = tuple(side + 1 for side in mask.shape)
    codes = np.zeros(corners, dtype=np.int64)
    for offset in np.ndindex(2, 2, 2):
        shifted = tuple(slice(o, o + n) for o, n in zip(offset, corners, strict=True))
        codes += padded[shifted] * int(weights[offset])
    places = np.argwhere((codes > 0) & (codes < 255))
    return places * np.asarray(spacing, dtype=float), table[codes[tuple(places.T)]]


def disturbed(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a plausible prediction: the truth moved a little, with some of its pixels lost."""
    shift = [int(value) for value in generator.integers(-2, 3, truth.ndim)]
    moved = np.roll(truth, shift, axis=tuple(range(truth.ndim)))
    return np.where(generator.random(truth.shape) < 0.02, 0, moved).astype(truth.dtype)


@pytest.mark.parametrize("lost_label", [0, 2], ids=["all-found", "one-lost"])
@pytest.mark.parametrize("shape", [(40, 50), (12, 20, 24)], ids=["image", "volume"])
def test_official_mode_equals_the_script_on_random_cases(shape, lost_label):
    generator = np.random.default_rng(0)
    for _ in range(5):
        coarse = generator.integers(0, 4, [-(-side // 6) for side in shape])
        truth = np.kron(coarse, np.ones([6] * len(shape), dtype=np.uint8)).astype(np.uint8)
        truth = truth[tuple(slice(side) for side in shape)]
        predicted = disturbed(truth, generator)
        predicted[predicted == lost_label] = 0
        spacing_xyz = [0.8, 1.0, 2.5]
        score = score_case(truth, predicted, spacing_mm=spacing_xyz[::-1], mode="official")
        assert (score.dsc, score.nsd) == pytest.approx(
            official_slowly(truth, predicted, spacing_xyz), abs=1e-9
        )


def test_official_mode_equals_the_script_on_validation_cases(val_data):
    generator = np.random.default_rng(0)
    paths = sorted(val_data.glob("*/*.npz"))
    chosen = paths[:: len(paths) // VAL_CASES][:VAL_CASES]
    assert len(chosen) == VAL_CASES
    for path in chosen:
        with np.load(path, allow_pickle=False) as archive:
            truth = archive["gts"]
            spacing_xyz = archive["spacing"] if "spacing" in archive.files else np.ones(3)
        predicted = disturbed(truth, generator)
        score = score_case(truth, predicted, spacing_mm=spacing_xyz[::-1], mode="official")
        expected = official_slowly(truth, predicted, spacing_xyz)
        assert (score.dsc, score.nsd) == pytest.approx(expected, abs=OFFICIAL_TOLERANCE), path.name
