"""The score that every epoch is validated by, on a fixed choice of slices, by modality.

Prompts and masks are as in serving, where `fixed` is the volume prompt: each slice gets the box of
the file, logits are brought to the original image and thresholded there. Regions are those of the
slice alone, where serving plans a volume as a whole. Several processes share the cases, and the
score is the same.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qmedsam.config import Regions
from qmedsam.core.geometry import Boxes, Mask, clip_boxes
from qmedsam.core.postprocess import cut_far_islands, logits_to_patch
from qmedsam.core.preprocess import preprocess_to_frame
from qmedsam.core.regions import Region
from training.data.dataset import make_scene, present_objects
from training.data.index import DataIndex
from training.data.views import planner_of
from training.data.volumes import VolumeCache
from training.loop.distributed import from_all
from training.loop.recipe import ValidationSettings
from training.networks.network import PromptableNetwork
from training.scoring.metrics import dsc, nsd

CACHE_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class ValidationSlice:
    """A slice to be scored, or the objects of one region of it.

    Attributes:
        z: the slice; 0 of an image.
        region: of the slice, that is seen.
        image: (1, 3, h, w) float32, of the region's grid.
        boxes: (N, 4), pixels of the original image.
        masks: N of (H, W), in the original image.
    """

    modality: str
    case: str
    z: int
    region: Region
    image: NDArray[np.float32]
    boxes: Boxes
    masks: tuple[Mask, ...]


def validation_slices(
    indices: Mapping[Path, DataIndex],
    settings: ValidationSettings,
    image_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> list[ValidationSlice]:
    """Read the slices that a process scores, in the order of the index: whole cases, by turns.

    Args:
        indices: of each folder of data; of several, modalities are named with their folder.
        settings: what is read.
        image_size: side of the model frame.
        rank: of this process.
        world_size: how many processes there are.
    """
    cache = VolumeCache(CACHE_BYTES)
    chosen = []
    cases = [
        (root, modality if len(indices) == 1 else f"{root.name}/{modality}", entry)
        for root, index in indices.items()
        for modality in sorted(index)
        for entry in index[modality].entries
    ]
    for root, modality, entry in cases[rank::world_size]:
        for z in _evenly(entry.slices, settings.slices_per_volume):
            data = cache.read_slice(root / entry.path, z)
            objects = _evenly(present_objects(data).tolist(), settings.objects_per_image)
            scene = make_scene(data, np.array(objects))
            boxes = clip_boxes(scene.file_boxes, scene.hw)
            for region, rows in _regions_of(boxes, scene.hw, settings.regions, image_size):
                chosen.append(
                    ValidationSlice(
                        modality,
                        entry.path,
                        z,
                        region,
                        preprocess_to_frame(region.cut(scene.image), region.frame),
                        boxes[rows],
                        tuple(scene.labels == objects[row] for row in rows),
                    )
                )
    return chosen


@torch.no_grad()
def validate(
    network: PromptableNetwork,
    slices: Sequence[ValidationSlice],
    autocast: AbstractContextManager[None],
    *,
    contours: bool = False,
    on_slice: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the mean score of each modality, 0 to 1: over objects, then slices, then cases.

    Args:
        network: the same in every process.
        slices: of the cases of this process.
        autocast: that the network runs in.
        contours: whether the score is the mean of DSC and NSD on contours, not DSC alone.
        on_slice: called after each slice.
    """
    device = next(network.parameters()).device
    by_slice: dict[tuple[str, str, int], list[float]] = {}
    for item in slices:
        image = torch.from_numpy(item.image).to(device, memory_format=torch.channels_last)
        boxes = torch.from_numpy(item.region.boxes_to_model(item.boxes)).to(device)
        with autocast:
            logits = network(image, boxes).float().cpu().numpy()
        found = by_slice.setdefault((item.modality, item.case, item.z), [])
        for one, box, mask in zip(logits, item.boxes, item.masks, strict=True):
            patch = logits_to_patch(one, item.region.frame)
            in_image = cut_far_islands(patch.moved(item.region.top, item.region.left), box)
            drawn = in_image.whole((mask.shape[0], mask.shape[1]))
            score = dsc(mask, drawn)
            found.append((score + nsd(mask, drawn, (1.0, 1.0))) / 2 if contours else score)
        on_slice()
    by_case: dict[tuple[str, str], list[float]] = {}
    for (modality, case, _), scores in by_slice.items():
        by_case.setdefault((modality, case), []).append(float(np.mean(scores)))
    own = [(modality, statistics.fmean(scores)) for (modality, _), scores in by_case.items()]
    by_modality: dict[str, list[float]] = {}
    for modality, score in sorted(itertools.chain.from_iterable(from_all(own))):
        by_modality.setdefault(modality, []).append(score)
    return {modality: statistics.fmean(scores) for modality, scores in by_modality.items()}


def overall(by_modality: Mapping[str, float]) -> float:
    """Return the mean over modalities; of several folders, the mean of their means."""
    by_folder: dict[str, list[float]] = {}
    for name, score in by_modality.items():
        by_folder.setdefault(name.rpartition("/")[0], []).append(score)
    return statistics.fmean(statistics.fmean(scores) for scores in by_folder.values())


def _regions_of(
    boxes: Boxes, original_hw: tuple[int, int], regions: Regions, image_size: int
) -> list[tuple[Region, list[int]]]:
    """Return the regions of the objects of a slice, and the rows of the objects in each."""
    plan = planner_of(regions, image_size).plan_image(boxes, original_hw)
    rows_of: dict[Region, list[int]] = {}
    for row, place in enumerate(plan.of_object):
        rows_of.setdefault(plan.regions[place], []).append(row)
    return list(rows_of.items())


def _evenly(values: Sequence[int], most: int) -> list[int]:
    """Choose at most so many values, evenly, the ends left out."""
    if len(values) <= most:
        return list(values)
    places = (np.arange(most) + 0.5) * len(values) / most
    return [values[int(place)] for place in places]
