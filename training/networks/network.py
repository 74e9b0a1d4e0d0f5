"""The two promptable networks, LiteMedSAM and MedSAM, behind one interface.

Both map an image in the model frame to an embedding of 256 channels by 64 x 64, and the embedding
with boxes to one 256 x 256 mask of logits per box.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from qmedsam.core.contract import (
    LITE_MEDSAM_IMAGE_SIZE,
    MEDSAM_IMAGE_SIZE,
    stretch_to_square,
    stride_of,
)
from training.networks.layers import fold_batch_norm
from training.networks.sam_heads import WHOLE_HW, MaskDecoder, PromptEncoder, dice_of
from training.networks.tiny_vit import CPU_SHAPE, TinyViT
from training.networks.vit import DEPTH as VIT_DEPTH
from training.networks.vit import VisionTransformer


class PromptableNetwork(nn.Module):
    """Image encoder, prompt encoder and mask decoder, named as in the checkpoints.

    Attributes:
        rates: whether the head that predicts a mask's IoU was trained, so that it is exported.
    """

    def __init__(self, image_encoder: nn.Module, image_size: int) -> None:
        super().__init__()
        self.rates = False
        self.image_size = image_size
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(image_size)
        self.mask_decoder = MaskDecoder()

    def encode(self, image: Tensor) -> Tensor:
        """Encode (B, 3, S, S), values 0 to 1, as image_embedding (B, 256, 64, 64).

        LiteMedSAM encodes grids too, (B, 3, h, w), as (B, 256, h / 4, w / 4).
        """
        return self.image_encoder(image)

    def decode(self, image_embedding: Tensor, boxes: Tensor) -> Tensor:
        """Decode N boxes on one image.

        Args:
            image_embedding: (1, 256, h, w); 64 x 64, or of LiteMedSAM on a grid.
            boxes: (N, 4), xyxy, pixels of the model frame or of the grid.

        Returns:
            low_res_logits (N, 4 h, 4 w).
        """
        return self.mask_decoder(*self._prompted(image_embedding, boxes))

    def decode_rated(self, image_embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Decode N boxes as `decode` does: the logits, and the IoU (N,) predicted of each mask."""
        return self.mask_decoder.rated(*self._prompted(image_embedding, boxes))

    def _prompted(self, image_embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pixels, their positions and the tokens of the boxes, as the decoder takes them."""
        # No mask prompt: the same vector is added to every pixel.
        pixels = image_embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        height, width = image_embedding.shape[2:]
        pixel_pe = self.prompt_encoder.dense_position_encoding((height, width))
        if (height, width) != WHOLE_HW:
            stride = stride_of(self.image_size)
            factors = stretch_to_square((height * stride, width * stride), self.image_size)
            boxes = (boxes + 0.5) * boxes.new_tensor(factors) - 0.5
        return pixels, pixel_pe, self.prompt_encoder(boxes)

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Segment N boxes (N, 4) on one image (1, 3, h, w): low_res_logits (N, 4 h / s, 4 w / s).

        The stride s of the embedding makes them 256 x 256 of a whole model frame.
        """
        return self.decode(self.encode(image), boxes)


class ImageEncoderGraph(nn.Module):
    """What the encoder file of an exported model computes."""

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.encode(image)


class MaskDecoderGraph(nn.Module):
    """What the decoder file of an exported model computes."""

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_embedding: Tensor, boxes: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.network.rates:
            return self.network.decode(image_embedding, boxes)
        logits, iou = self.network.decode_rated(image_embedding, boxes)
        return logits, dice_of(iou)


@dataclass(frozen=True)
class ParameterCounts:
    """Values in the three parts, as Table 1 of the paper counts them."""

    image_encoder: int
    prompt_encoder: int
    mask_decoder: int


def build_lite_medsam() -> PromptableNetwork:
    """Build LiteMedSAM (TinyViT, 256 px) with random weights."""
    return PromptableNetwork(TinyViT(), LITE_MEDSAM_IMAGE_SIZE)


def build_qmedsam() -> PromptableNetwork:
    """Build the network that is trained here (TinyViT of `CPU_SHAPE`) with random weights."""
    encoder = TinyViT(CPU_SHAPE)
    fold_batch_norm(encoder)
    return PromptableNetwork(encoder, LITE_MEDSAM_IMAGE_SIZE)


def build_medsam(depth: int = VIT_DEPTH) -> PromptableNetwork:
    """Build MedSAM (ViT-B, 1024 px) with random weights; fewer blocks make tests quick."""
    return PromptableNetwork(VisionTransformer(MEDSAM_IMAGE_SIZE, depth), MEDSAM_IMAGE_SIZE)


def count_parameters(network: PromptableNetwork) -> ParameterCounts:
    """Count every value that a checkpoint stores, running statistics and counters included.

    That is how Table 1 comes to its figures; the learned values of the encoder are 9,883 fewer.
    """
    return ParameterCounts(
        image_encoder=_stored(network.image_encoder),
        prompt_encoder=_stored(network.prompt_encoder),
        mask_decoder=_stored(network.mask_decoder),
    )


def _stored(module: nn.Module) -> int:
    return sum(value.numel() for value in module.state_dict().values())
