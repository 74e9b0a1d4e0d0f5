"""The float network that a student's embeddings are held to, and a cache of what it makes.

An embedding of an image that was at most flipped is the same in every epoch and is kept on disk;
half precision costs three decimals of values around 0.1.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qmedsam.system.files import write_bytes
from training.data.augment import FREE
from training.data.dataset import Sample
from training.loop.losses import intersection_over_union, stability
from training.networks.network import PromptableNetwork

LEAST_STABILITY = 0.7  # of a mask that is worth imitating


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher says of a sample.

    Attributes:
        embedding: (256, h / 4, w / 4), 64 x 64 of a whole image.
        iou: of its masks with the truth, 0 to 1: how much it is worth listening to.
        other_logits: (K, h, w), of the sample's other boxes.
        trust: (K,), 0 to 1: how much each of these is worth.
    """

    embedding: Tensor
    iou: Tensor
    other_logits: Tensor
    trust: Tensor


class Teacher:
    """A float network in eval mode.

    Args:
        network: LiteMedSAM or MedSAM.
        name: tells its cache from that of another network or of other weights.
        student_size: side of the model frame in which samples have their boxes.
        cache_dir: for embeddings, 2 MB an image; None keeps nothing.

    Attributes:
        encode: (1, 3, h, w) to an embedding; the network's own unless another one is set that
            takes less time.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        *,
        name: str,
        student_size: int,
        cache_dir: Path | None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.encode: Callable[[Tensor], Tensor] = self.network.encode
        self._box_scale = network.image_size / student_size
        self._cache_dir = None if cache_dir is None else cache_dir / name
        if self._cache_dir is not None:
            self._cache_dir.mkdir(parents=True, exist_ok=True)

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        return self.network.image_size

    @torch.no_grad()
    def teach(self, samples: Sequence[Sample]) -> list[Lesson]:
        """Look at each sample as it is without a change of appearance."""
        return [self._lesson(sample) for sample in samples]

    def _lesson(self, sample: Sample) -> Lesson:
        device = next(self.network.parameters()).device
        embedding = self._embedding(sample).to(device)
        own = len(sample.boxes)
        # A coordinate names a pixel, whose centre keeps its place in a frame of another size.
        boxes = torch.from_numpy(np.concatenate([sample.boxes, sample.other_boxes]))
        boxes = (boxes + 0.5) * self._box_scale - 0.5
        logits = self.network.decode(embedding[None], boxes.to(device))
        masks = torch.from_numpy(sample.masks).to(device)
        iou = intersection_over_union(logits[:own], masks).mean()
        other_logits = logits[own:].float()
        sharpness = stability(other_logits)
        trust = torch.where(sharpness < LEAST_STABILITY, 0.0, sharpness)
        return Lesson(embedding, iou, other_logits, trust)

    def _embedding(self, sample: Sample) -> Tensor:
        path = self._cache_path(sample)
        if path is not None and path.is_file():
            return torch.from_numpy(np.load(path)).float()
        device = next(self.network.parameters()).device
        image = torch.from_numpy(sample.teacher_image)[None].to(device)
        image = image.contiguous(memory_format=torch.channels_last)
        embedding = self.encode(image)[0].float()
        if path is None:
            return embedding
        kept = np.ascontiguousarray(embedding.cpu().numpy(), dtype=np.float16)
        content = io.BytesIO()
        np.save(content, kept)
        write_bytes(path, content.getvalue())
        return torch.from_numpy(kept).float()

    def _cache_path(self, sample: Sample) -> Path | None:
        if self._cache_dir is None or sample.geometry == FREE:
            return None
        digest = hashlib.sha256(
            f"{sample.key} {sample.mtime_ns} {sample.geometry}".encode()
        ).hexdigest()[:32]
        return self._cache_dir / f"{digest}.npy"
