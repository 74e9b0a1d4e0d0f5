"""How a network is quantized: the scheme, the bits and how the ranges start.

`paper` is QMedSAM's: symmetric, per tensor, signed. `deploy` is what OpenVINO's CPU plugin runs
fastest: unsigned activations with a zero point in front of convolutions and linear layers, weights
per output channel, symmetric queries, keys and values.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from training.settings import CheckedSettings

Scheme = Literal["paper", "deploy"]
RangeMethod = Literal["mse", "percentile"]
ActivationName = Literal["gelu", "hard_swish"]
Part = Literal["image_encoder", "mask_decoder"]
PARTS: tuple[Part, ...] = get_args(Part)  # of the network that can be quantized and trained

FEWEST_BITS, MOST_BITS = 2, 8
Bits = Annotated[int, Field(ge=FEWEST_BITS, le=MOST_BITS)]


class QuantConfig(CheckedSettings):
    """Frozen settings of a quantized network.

    Attributes:
        scheme: `paper` or `deploy`.
        weight_bits: 2 to 8; 7 for processors without VNNI, where sums of pairs of products
            saturate at 16 bits.
        activation_bits: 2 to 8.
        activation: `gelu`, the network's own, or the cheaper `hard_swish` between the encoder's
            convolutions (`training.quantization.hard_swish`).
        ranges: how the range of an activation starts: `mse` makes the squared error of rounding
            smallest, `percentile` cuts the tails.
        percentile: of the values that lie within the range, for `percentile`.
        smoothing: exponent with which SmoothQuant moves the spread of the channels behind a layer
            normalization into the weights; 0 is off.
        correct_biases: whether the mean error of each layer's output is taken off its bias after
            calibration.
    """

    scheme: Scheme = "deploy"
    weight_bits: Bits = 8
    activation_bits: Bits = 8
    activation: ActivationName = "gelu"
    ranges: RangeMethod = "mse"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    smoothing: Annotated[float, Field(ge=0, le=1)] = 0.5
    correct_biases: bool = True

    @field_validator("activation")
    @classmethod
    def _keeps_the_papers(cls, value: ActivationName, info: ValidationInfo) -> ActivationName:
        if info.data.get("scheme") == "paper" and value != "gelu":
            raise ValueError("must be 'gelu', the network's own, in the paper's scheme")
        return value
