"""Training samples: slices from disk, changed at random, as the networks take them.

Preprocessing and the mapping of boxes are those of inference. What a sample is depends on the seed
and its draw alone, not on which process makes it or when.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from qmedsam.core.geometry import Boxes, Mask, ModelFrame, clip_boxes, mask_to_box
from qmedsam.core.preprocess import preprocess_image, preprocess_to_frame
from qmedsam.core.prompts import VOLUME_COLUMNS
from qmedsam.core.propagation import boxes_2d
from qmedsam.core.regions import Region
from training.data.augment import (
    FREE,
    Augmentation,
    Scene,
    change_appearance,
    change_geometry,
    prompt_boxes,
)
from training.data.index import DataIndex
from training.data.sampler import Draw, EpochSampler
from training.data.views import low_res_frame, planner_of
from training.data.volumes import DataError, SliceData, VolumeCache

OTHER_SIDES = (0.08, 0.8)  # of boxes that are drawn anywhere, of the longer side of the image
OTHER_STRETCH = 0.35  # of such a box, natural logarithm: sides of 1 to 2 at most
OBJECTS_OF_A_PLAN = 16  # of a slice, at most, whose regions are planned together


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice with the prompts and masks of some of its objects.

    Attributes:
        key: path of the file below the root and the slice, `CT/a.npz#16`.
        mtime_ns: of the file.
        image: (3, h, w) float32, what the student sees: a square of S, or the grid of a region.
        teacher_image: the same place without a change of appearance, as the teacher sees it; a
            whole image on its own square, (3, T, T).
        boxes: (N, 4) float32, pixels of the grid, N at least 1.
        masks: (N, h, w) float32, 0 or 1, over all logits of the grid, 256 x 256 of a square.
        other_boxes: (K, 4) float32, pixels of the grid, drawn anywhere, whatever they hold.
        geometry: `none`, `h`, `v` or `hv` where a whole image was flipped at most, so that what a
            teacher makes of it can be kept; else `free`.
    """

    key: str
    mtime_ns: int
    modality: str
    image: NDArray[np.float32]
    teacher_image: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: NDArray[np.float32]
    other_boxes: NDArray[np.float32]
    geometry: str


class SliceDataset(Dataset[Sample]):
    """Makes the sample of a draw.

    Args:
        root: folder of the data.
        index: of `root`.
        settings: what may happen to a slice.
        seed: of the whole training.
        image_size: S, side of the model frame.
        teacher_size: T, side of the teacher's; None is the same.
        objects_per_image: at most so many of the objects on a slice, chosen at random.
        cache_bytes: for decompressed volumes, in each process.
        regions: probability that of a slice one of the regions is shown that serving would choose.
        other_boxes: how many are drawn anywhere on an image.
    """

    def __init__(
        self,
        root: Path,
        index: DataIndex,
        *,
        settings: Augmentation,
        seed: int,
        image_size: int,
        objects_per_image: int,
        cache_bytes: int,
        teacher_size: int | None = None,
        regions: float = 0.0,
        other_boxes: int = 0,
    ) -> None:
        if objects_per_image < 1:
            raise ValueError(f"Objects of an image must be 1 or more, got {objects_per_image}")
        if regions and teacher_size not in (None, image_size):
            raise DataError(
                f"Regions are for a teacher of {image_size} px as the student, got {teacher_size}"
            )
        self._root, self._index = root, index
        self._settings, self._seed = settings, seed
        self._image_size, self._objects_per_image = image_size, objects_per_image
        self._teacher_size = teacher_size or image_size
        self._regions, self._planner = regions, planner_of("auto", image_size)
        self._other_boxes = other_boxes
        self._cache = VolumeCache(cache_bytes)

    def __getitem__(self, draw: Draw) -> Sample:
        """Make one sample.

        Raises:
            DataError: the file is broken, or no longer as it was when the index was made.
        """
        generator = np.random.default_rng((self._seed, draw.epoch, draw.position))
        entry, z = self._index[draw.modality].locate(draw.number)
        data = self._cache.read_slice(self._root / entry.path, z)
        key = f"{entry.path}#{z}"
        objects = present_objects(data)
        if objects.size == 0:
            raise DataError(f"{key} must carry an object as when it was indexed, got none")
        by_region = self._regions > 0 and generator.random() < self._regions
        most = max(self._objects_per_image, OBJECTS_OF_A_PLAN) if by_region else None
        count = min(most or self._objects_per_image, objects.size)
        chosen = np.sort(generator.choice(objects, size=count, replace=False))
        scene = make_scene(data, chosen)
        scene, geometry = change_geometry(scene, self._settings, generator)
        look = self._look_closer if by_region else self._look_at_all
        region, rows, prompts = look(scene, generator)
        masks, is_kept = low_res_masks(
            [region.cut(scene.labels) == label for label in chosen[rows]],
            low_res_frame(region, self._image_size),
        )
        boxes = region.boxes_to_model(prompts)
        seen = change_appearance(scene.image, self._settings, generator)
        image = preprocess_to_frame(region.cut(seen), region.frame)[0]
        is_same = seen is scene.image and self._teacher_size == self._image_size
        teacher_image = image if is_same else self._as_taught(scene, region)
        return Sample(
            key=key,
            mtime_ns=entry.mtime_ns,
            modality=draw.modality,
            image=image,
            teacher_image=teacher_image,
            boxes=boxes[is_kept],
            masks=masks,
            other_boxes=boxes_anywhere(region.frame.resized_hw, self._other_boxes, generator),
            geometry=FREE if by_region else geometry,
        )

    def _look_at_all(
        self, scene: Scene, generator: np.random.Generator
    ) -> tuple[Region, NDArray[np.intp], Boxes]:
        """Return the whole image, all rows of the objects, and the boxes that prompt them."""
        region = Region(0, 0, scene.hw, (self._image_size, self._image_size))
        boxes = prompt_boxes(scene, self._settings, region.frame.scale, generator)
        return region, np.arange(len(boxes)), boxes

    def _look_closer(
        self, scene: Scene, generator: np.random.Generator
    ) -> tuple[Region, NDArray[np.intp], Boxes]:
        """Return the region of an object chosen at random, and rows and boxes of some in it."""
        planned = self._planner.plan_image(clip_boxes(scene.mask_boxes, scene.hw), scene.hw)
        scales = [planned.regions[place].frame.scale for place in planned.of_object]
        boxes = prompt_boxes(scene, self._settings, np.array(scales)[:, None], generator)
        plan = self._planner.plan_image(boxes, scene.hw)
        of_object = np.array(plan.of_object)
        place = of_object[generator.integers(len(boxes))]
        rows = np.flatnonzero(of_object == place)
        if len(rows) > self._objects_per_image:
            rows = np.sort(generator.choice(rows, size=self._objects_per_image, replace=False))
        return plan.regions[place], rows, boxes[rows]

    def _as_taught(self, scene: Scene, region: Region) -> NDArray[np.float32]:
        if self._teacher_size == self._image_size:
            return preprocess_to_frame(region.cut(scene.image), region.frame)[0]
        return preprocess_image(scene.image, self._teacher_size)[0]


def present_objects(data: SliceData) -> NDArray[np.intp]:
    """Return the labels on a slice that have a row in the boxes, ascending."""
    labels = np.unique(data.labels)
    return labels[(labels >= 1) & (labels <= len(data.boxes))].astype(np.intp)


def make_scene(data: SliceData, objects: NDArray[np.intp]) -> Scene:
    """Take the chosen objects' boxes, those of the file and those of their masks."""
    rows = data.boxes[objects - 1]
    file_boxes = boxes_2d(rows) if rows.shape[1] == VOLUME_COLUMNS else rows
    mask_boxes = [_box(data.labels == label) for label in objects]
    return Scene(data.image, data.labels, file_boxes, np.stack(mask_boxes))


def boxes_anywhere(
    hw: tuple[int, int], count: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Draw (N, 4) boxes inside an image, small ones as often as large ones.

    Args:
        hw: of the image.
        count: N.
        generator: decides.
    """
    height, width = hw
    shortest, longest = np.log(OTHER_SIDES)
    scale = max(hw) * np.exp(generator.uniform(shortest, longest, count))
    stretch = np.exp(generator.uniform(-OTHER_STRETCH, OTHER_STRETCH, count))
    sides = np.minimum(np.stack([scale * stretch, scale / stretch], axis=1), [width, height])
    corners = generator.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32) - np.float32(0.5)


def low_res_masks(
    masks: list[Mask], frame: ModelFrame
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bring masks of an image or of a region of it to its low-resolution frame.

    A mask too small to be seen there is left out; where all are, the largest is kept as what it
    touches.

    Returns:
        (N, h, w), 0 or 1, with zeros below and to the right, and which masks these are.
    """
    covers = np.stack([_low_res_cover(mask, frame) for mask in masks])
    drawn = covers > 0.5
    is_kept: NDArray[np.bool_] = np.asarray(drawn.any(axis=(1, 2)))
    if not is_kept.any():
        largest = int(np.argmax([mask.sum() for mask in masks]))
        drawn[largest] = covers[largest] > 0
        is_kept[largest] = True
    return drawn[is_kept].astype(np.float32), is_kept


class Batches:
    """The batches of samples of an epoch, as the sampler has it; to be gone through again.

    Args:
        dataset: makes the samples.
        sampler: of one process.
        workers: processes that make them; 0 is this one.
    """

    def __init__(self, dataset: SliceDataset, sampler: EpochSampler, workers: int) -> None:
        atexit.register(_kill_workers)
        self._loader: DataLoader[Any] = DataLoader(
            _WithErrors(dataset),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=as_list,
            worker_init_fn=use_one_thread,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # its draws are not those of training, which may resume
        )

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield lists of samples.

        Raises:
            DataError: a file is broken, or no longer as it was when the index was made.
        """
        for samples in self._loader:
            for sample in samples:
                if isinstance(sample, DataError):
                    raise sample
            yield samples


class _WithErrors(Dataset[Sample | DataError]):
    """Returns the errors of a dataset: a worker that raises one adds its traceback to the words."""

    def __init__(self, dataset: SliceDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, draw: Draw) -> Sample | DataError:
        try:
            return self._dataset[draw]
        except DataError as error:
            return error


def as_list(samples: list[Sample]) -> list[Sample]:
    """Keep the samples of a batch apart, as each has its own number of objects."""
    return samples


def use_one_thread(worker: int) -> None:
    """Keep a worker to one thread; OpenCV's pool does not survive the fork of its parent.

    Ctrl-C, which a terminal sends to all, is for the parent. So is a first SIGTERM, which may be
    sent to all as well: a parent that loses a worker cannot end its step. By a second one the
    parent ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_by_the_next)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _kill_workers() -> None:
    """Let a process end that did not come to close its batches.

    It would send each worker the SIGTERM that goes by, and wait for its end.
    """
    for process in multiprocessing.active_children():
        if process.daemon:  # as all workers are
            process.kill()


def _end_by_the_next(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


def _box(mask: Mask) -> Boxes:
    box = mask_to_box(mask)
    if box is None:
        raise ValueError("Object must be present on the slice, got an empty mask")
    return box


def _low_res_cover(mask: Mask, frame: ModelFrame) -> NDArray[np.float32]:
    """Return which part of each low-resolution pixel a mask covers."""
    height, width = frame.resized_hw
    interpolation = cv2.INTER_AREA if frame.scale < 1 else cv2.INTER_LINEAR
    covers: NDArray[Any] = np.zeros(frame.grid_hw, dtype=np.float32)
    covers[:height, :width] = cv2.resize(
        mask.astype(np.float32), (width, height), interpolation=interpolation
    )
    return covers
