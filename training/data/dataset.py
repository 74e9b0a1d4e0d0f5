"""Training samples: slices from disk, changed at random, as the networks take them.

Preprocessing and the mapping of boxes are those of inference. What a sample is depends on the seed
and its draw alone, not on which process makes it or when.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from qmedsam.core.contract import LOW_RES_SIZE
from qmedsam.core.geometry import Boxes, Mask, ModelFrame, mask_to_box
from qmedsam.core.preprocess import preprocess_image
from qmedsam.core.prompts import VOLUME_COLUMNS
from qmedsam.core.propagation import boxes_2d
from training.data.augment import (
    Augmentation,
    Scene,
    change_appearance,
    change_geometry,
    prompt_boxes,
)
from training.data.index import DataIndex
from training.data.sampler import Draw, EpochSampler
from training.data.volumes import DataError, SliceData, VolumeCache


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice with the prompts and masks of some of its objects.

    Attributes:
        key: path of the file below the root and the slice, `CT/a.npz#16`.
        mtime_ns: of the file.
        image: (3, S, S) float32, what the student sees.
        teacher_image: (3, T, T), the same place without a change of appearance, as the teacher
            sees it.
        boxes: (N, 4) float32, model frame, N at least 1.
        masks: (N, 256, 256) float32, 0 or 1, over the whole model frame.
        geometry: `none`, `h`, `v` or `hv` where at most flips happened, so that what a teacher
            makes of the image can be kept; else `free`.
    """

    key: str
    mtime_ns: int
    modality: str
    image: NDArray[np.float32]
    teacher_image: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: NDArray[np.float32]
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
    ) -> None:
        if objects_per_image < 1:
            raise ValueError(f"Objects of an image must be 1 or more, got {objects_per_image}")
        self._root, self._index = root, index
        self._settings, self._seed = settings, seed
        self._image_size, self._objects_per_image = image_size, objects_per_image
        self._teacher_size = teacher_size or image_size
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
        count = min(self._objects_per_image, objects.size)
        chosen = np.sort(generator.choice(objects, size=count, replace=False))
        scene = make_scene(data, chosen)
        scene, geometry = change_geometry(scene, self._settings, generator)
        masks, is_kept = low_res_masks([scene.labels == label for label in chosen])
        frame = ModelFrame.square(scene.hw, self._image_size)
        boxes = frame.boxes_to_model(prompt_boxes(scene, self._settings, frame, generator))
        seen = change_appearance(scene.image, self._settings, generator)
        image = preprocess_image(seen, self._image_size)[0]
        is_same = seen is scene.image and self._teacher_size == self._image_size
        teacher_image = image if is_same else preprocess_image(scene.image, self._teacher_size)[0]
        return Sample(
            key=key,
            mtime_ns=entry.mtime_ns,
            modality=draw.modality,
            image=image,
            teacher_image=teacher_image,
            boxes=boxes[is_kept],
            masks=masks,
            geometry=geometry,
        )


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


def low_res_masks(masks: list[Mask]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bring masks of the original image to the low-resolution frame.

    A mask too small to be seen there is left out; where all are, the largest is kept as what it
    touches.

    Returns:
        (N, 256, 256), 0 or 1, with zeros below and to the right, and which masks these are.
    """
    covers = np.stack([_low_res_cover(mask) for mask in masks])
    drawn = covers > 0.5
    is_kept: NDArray[np.bool_] = np.asarray(drawn.any(axis=(1, 2)))
    if not is_kept.any():
        largest = int(np.argmax([mask.sum() for mask in masks]))
        drawn[largest] = covers[largest] > 0
        is_kept[largest] = True
    return drawn[is_kept].astype(np.float32), is_kept


def make_loader(dataset: SliceDataset, sampler: EpochSampler, workers: int) -> DataLoader[Any]:
    """Return a loader of lists of samples, one a batch; 0 workers make them in this process."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=as_list,
        worker_init_fn=use_one_thread,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its draws are not those of training, which may be resumed
    )


def as_list(samples: list[Sample]) -> list[Sample]:
    """Keep the samples of a batch apart, as each has its own number of objects."""
    return samples


def use_one_thread(worker: int) -> None:
    """Keep a worker to one thread; OpenCV's pool does not survive the fork of its parent."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _box(mask: Mask) -> Boxes:
    box = mask_to_box(mask)
    if box is None:
        raise ValueError("Object must be present on the slice, got an empty mask")
    return box


def _low_res_cover(mask: Mask) -> NDArray[np.float32]:
    """Return which part of each low-resolution pixel a mask covers."""
    frame = ModelFrame.square((mask.shape[0], mask.shape[1]), LOW_RES_SIZE)
    height, width = frame.resized_hw
    interpolation = cv2.INTER_AREA if frame.scale < 1 else cv2.INTER_LINEAR
    covers: NDArray[Any] = np.zeros((LOW_RES_SIZE, LOW_RES_SIZE), dtype=np.float32)
    covers[:height, :width] = cv2.resize(
        mask.astype(np.float32), (width, height), interpolation=interpolation
    )
    return covers
