"""Which slices are scored, and how scores become one for each modality."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import Tensor, nn

from qmedsam.core.regions import Region
from tests.conftest import FakeNetwork
from training.data.index import build_index
from training.loop import validation
from training.loop.recipe import ValidationSettings
from training.loop.validation import ValidationSlice, overall, validate, validation_slices

pytestmark = pytest.mark.training

SIZE = 256


class BoxNetwork(nn.Module):
    """Draws each box as its mask; remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[tuple[int, ...], bool, bool]] = []

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        self.calls.append((tuple(image.shape), autocast, torch.is_grad_enabled()))
        logits = torch.from_numpy(FakeNetwork().draw(boxes.numpy(), tuple(image.shape[2:])))
        return logits.to(torch.bfloat16) if autocast else logits


class CoarseNetwork(BoxNetwork):
    """Draws a box that is larger than the one it is asked for."""

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        return super().forward(image, boxes + torch.tensor([0.0, 0.0, 11.0, 7.0]))


class StrayNetwork(BoxNetwork):
    """Draws a mark in the corner beside each box."""

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        corner = torch.tensor([[200.0, 200.0, 210.0, 210.0]]).expand_as(boxes)
        return torch.maximum(super().forward(image, boxes), super().forward(image, corner))


def save(path, image, labels, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, imgs=image, gts=labels, boxes=np.array(boxes))


def labels_of(hw, boxes):
    labels = np.zeros(hw, dtype=np.uint8)
    for label, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0 : y1 + 1, x0 : x1 + 1] = label
    return labels


def save_image(path, hw, boxes):
    save(path, np.full((*hw, 3), 90, dtype=np.uint8), labels_of(hw, boxes), boxes)


def save_stairs(path, slices, depth=16):
    """Save a volume whose object is z + 1 pixels long on each of some slices."""
    labels = np.zeros((depth, 32, 32), dtype=np.uint8)
    for z in slices:
        labels[z, 5, : z + 1] = 1
    image = np.zeros_like(labels)
    save(path, image, labels, [[0, 5, min(slices), max(slices), 5, max(slices)]])


def read(root, slices_per_volume=4, objects_per_image=8):
    settings = ValidationSettings(
        slices_per_volume=slices_per_volume, objects_per_image=objects_per_image
    )
    return validation_slices({root: build_index(root)}, settings, SIZE)


def slice_of(modality, case, *hits, z=0):
    """A slice of 256x256 with objects that are drawn as they are, or elsewhere."""
    boxes, masks = [], []
    for place, is_hit in enumerate(hits):
        box = [10, 20 * place, 29, 20 * place + 9]
        masks.append(labels_of((SIZE, SIZE), [box]) == 1)
        boxes.append(box if is_hit else [100, *box[1:2], 110, box[3]])
    return ValidationSlice(
        modality,
        case,
        z,
        Region(0, 0, (SIZE, SIZE), (SIZE, SIZE)),
        np.zeros((1, 3, SIZE, SIZE), dtype=np.float32),
        np.array(boxes, dtype=np.float32),
        tuple(masks),
    )


def test_perfect_masks_score_one_whatever_the_size_of_the_image(tmp_path):
    save_image(tmp_path / "US" / "same.npz", (SIZE, SIZE), [[3, 4, 30, 40], [100, 90, 255, 255]])
    save_image(tmp_path / "US" / "wide.npz", (128, SIZE), [[0, 0, 9, 127]])
    save_image(tmp_path / "XRay" / "large.npz", (512, 256), [[20, 10, 39, 29], [50, 300, 99, 511]])
    volume = np.zeros((3, 64, 64), dtype=np.uint8)
    volume[1:, 16:32, 8:24] = 1
    save(tmp_path / "CT" / "small.npz", volume, volume, [[8, 16, 1, 23, 31, 2]])
    slices = read(tmp_path)
    assert [item.case for item in slices] == [
        "CT/small.npz",
        "CT/small.npz",
        "US/same.npz",
        "US/wide.npz",
        "XRay/large.npz",
    ]
    assert validate(BoxNetwork(), slices, nullcontext()) == {"CT": 1, "US": 1, "XRay": 1}


def test_by_regions_objects_are_seen_on_grids_and_score_as_one_slice(tmp_path):
    boxes = [[20, 10, 59, 49], [700, 500, 739, 539], [710, 510, 730, 530]]
    save_image(tmp_path / "US" / "large.npz", (600, 800), boxes)
    settings = ValidationSettings(regions="auto")
    slices = validation_slices({tmp_path: build_index(tmp_path)}, settings, SIZE)
    assert [item.image.shape for item in slices] == [(1, 3, 128, 128)] * 3
    assert [len(item.boxes) for item in slices] == [1, 1, 1]
    # Of the second object the third covers a part in the labels.
    network = BoxNetwork()
    covered = 2 * (40 * 40 - 21 * 21) / (2 * 40 * 40 - 21 * 21)
    found = validate(network, slices, nullcontext())
    assert found == {"US": pytest.approx((1 + covered + 1) / 3, abs=0.01)}
    assert {shape for shape, *_ in network.calls} == {(1, 3, 128, 128)}


def test_of_several_folders_the_means_are_averaged(tmp_path):
    for folder, modality in (("val", "US"), ("val", "CT"), ("other", "US")):
        save_image(tmp_path / folder / modality / "a.npz", (64, 64), [[3, 4, 30, 40]])
    roots = [tmp_path / "val", tmp_path / "other"]
    indices = {root: build_index(root) for root in roots}
    slices = validation_slices(indices, ValidationSettings(), SIZE)
    assert [item.modality for item in slices] == ["val/CT", "val/US", "other/US"]
    assert overall({"val/CT": 0.2, "val/US": 0.4, "other/US": 0.9}) == pytest.approx(0.6)
    assert overall({"CT": 0.2, "US": 0.4}) == pytest.approx(0.3)


def test_contours_may_count_as_much_as_areas():
    """Of a box of 20 by 10 the left half is missed, and half of its contour with it."""
    item = slice_of("US", "a", True)
    item.boxes[0, 0] += 10
    both = validate(BoxNetwork(), [item], nullcontext(), contours=True)["US"]
    alone = validate(BoxNetwork(), [item], nullcontext())["US"]
    assert alone == pytest.approx(2 * 100 / (100 + 200))
    # Within 2 px of the other contour lie 34 of 60 pixels of the true one, and 34 of 40 of it.
    assert 2 * both - alone == pytest.approx((34 + 34) / 100, abs=0.05)
    item.boxes[0, 0] -= 10
    assert validate(BoxNetwork(), [item], nullcontext(), contours=True) == {"US": 1}


def test_what_lies_far_outside_the_box_is_cut_as_in_serving():
    assert validate(StrayNetwork(), [slice_of("US", "a", True)], nullcontext()) == {"US": 1}


def test_a_missed_object_counts_nothing_and_half_a_mask_two_thirds():
    missed = slice_of("US", "a", True, False)
    assert validate(BoxNetwork(), [missed], nullcontext()) == {"US": pytest.approx(0.5)}
    half = slice_of("US", "a", True)
    half.boxes[0, 2] = 19.5  # ten of twenty columns: 2 * 100 / (100 + 200)
    assert validate(BoxNetwork(), [half], nullcontext()) == {"US": pytest.approx(2 / 3)}


def test_means_are_over_objects_then_slices_then_cases():
    slices = [
        slice_of("MR", "MR/a", True, False),  # 1/2
        slice_of("MR", "MR/a", True, z=1),  # 1; the case 3/4
        slice_of("MR", "MR/b", False, False, False),  # 0
        slice_of("CT", "CT/a", True, True),
        slice_of("CT", "CT/a", False, z=7),  # 1/2
    ]
    scores = validate(BoxNetwork(), slices, nullcontext())
    # Over the seven objects of MR it would be 2/6, over its three slices 1/2.
    assert scores == {"MR": pytest.approx((3 / 4 + 0) / 2), "CT": pytest.approx(1 / 2)}


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_the_cases_and_have_the_score_of_one(tmp_path, monkeypatch, world_size):
    save_stairs(tmp_path / "CT" / "a.npz", [1, 2, 13])
    for place, name in enumerate("bcd"):
        box = [0, 0, 30 + 10 * place, 20]
        save_image(tmp_path / "US" / f"{name}.npz", (SIZE, 100), [box, [50, 50, 90, 77 + place]])
    network, index = CoarseNetwork(), build_index(tmp_path)
    whole = validation_slices({tmp_path: index}, ValidationSettings(), SIZE)
    expected = validate(network, whole, nullcontext())
    shares = [
        validation_slices(
            {tmp_path: index}, ValidationSettings(), SIZE, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    assert sorted(item.case for share in shares for item in share) == [item.case for item in whole]
    assert len({item.case for item in shares[0]}) == 4 // world_size
    told = []
    monkeypatch.setattr(validation, "from_all", lambda own: told.append(own) or [own])
    for share in shares:
        validate(network, share, nullcontext())
    monkeypatch.setattr(validation, "from_all", lambda own: told[::-1])
    assert validate(network, shares[0], nullcontext()) == expected
    assert 0 < expected["CT"] < 1
    assert 0 < expected["US"] < 1


def test_cases_of_one_name_in_two_modalities_are_two():
    slices = [slice_of("CT", "a", True), slice_of("MR", "a", False)]
    assert validate(BoxNetwork(), slices, nullcontext()) == {"CT": 1, "MR": 0}


def test_slices_are_scored_one_by_one_in_half_precision_without_gradients():
    network = BoxNetwork()
    slices = [slice_of("CT", "a", True), slice_of("CT", "b", True, True)]
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    assert validate(network, slices, autocast) == {"CT": 1}
    assert network.calls == [((1, 3, SIZE, SIZE), True, False)] * 2
    assert not torch.is_autocast_enabled("cpu")


def test_slices_of_a_volume_are_chosen_evenly_among_those_with_objects(tmp_path):
    save_stairs(tmp_path / "CT" / "a.npz", range(2, 11))  # nine slices
    # Of nine the middles of four parts: 1.1, 3.4, 5.6 and 7.9 from the first on.
    assert [item.masks[0].sum() - 1 for item in read(tmp_path, 4)] == [3, 5, 7, 9]
    assert [item.masks[0].sum() - 1 for item in read(tmp_path, 1)] == [6]
    assert [item.masks[0].sum() - 1 for item in read(tmp_path, 9)] == list(range(2, 11))
    assert [item.masks[0].sum() - 1 for item in read(tmp_path, 50)] == list(range(2, 11))


def test_slices_without_objects_are_never_chosen(tmp_path):
    save_stairs(tmp_path / "CT" / "a.npz", [1, 2, 13])
    assert [item.masks[0].sum() - 1 for item in read(tmp_path, 3)] == [1, 2, 13]


def test_objects_are_chosen_evenly(tmp_path):
    boxes = [[0, 20 * place, 10 + place, 20 * place + 5] for place in range(12)]
    save_image(tmp_path / "US" / "a.npz", (SIZE, SIZE), boxes)
    (item,) = read(tmp_path, objects_per_image=3)
    # The middles of three parts of twelve: 2, 6 and 10 from the first on.
    assert item.boxes.tolist() == [boxes[2], boxes[6], boxes[10]]
    assert [mask.sum() for mask in item.masks] == [13 * 6, 17 * 6, 21 * 6]


def test_the_choice_is_the_same_every_time(tmp_path):
    save_stairs(tmp_path / "CT" / "a.npz", range(1, 15))
    save_image(tmp_path / "US" / "b.npz", (64, 96), [[1, 2, 30, 40], [50, 2, 60, 12]])
    once, again = read(tmp_path, 3, 1), read(tmp_path, 3, 1)
    assert len(once) == len(again) == 4
    for one, other in zip(once, again, strict=True):
        assert (one.case, one.region) == (other.case, other.region)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.masks, other.masks)


def test_a_slice_is_prompted_by_the_box_of_the_volume(tmp_path):
    labels = np.zeros((3, 64, 64), dtype=np.uint8)
    labels[0, 16:32, 8:24] = 1
    labels[1, 16:20, 8:12] = 1
    save(tmp_path / "CT" / "a.npz", labels, labels, [[8, 16, 0, 23, 31, 1]])
    large, small = read(tmp_path)
    assert large.boxes.tolist() == small.boxes.tolist() == [[8, 16, 23, 31]]
    assert small.region == Region(0, 0, (64, 64), (SIZE, SIZE))
    assert (large.masks[0].sum(), small.masks[0].sum()) == (256, 16)
    assert large.masks[0].shape == (64, 64)
    assert large.image.shape == (1, 3, SIZE, SIZE)
