"""How a network is quantized: the scheme, the bits and how the ranges start.

`paper` is QMedSAM's: symmetric, per tensor, signed. `deploy` is what OpenVINO's CPU plugin runs
fastest: unsigned activations with a zero point in front of convolutions and linear layers, weights
per output channel, symmetric queries, keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Scheme = Literal["paper", "deploy"]
RangeMethod = Literal["mse", "percentile"]
ActivationName = Literal["gelu", "hard_swish"]
Part = Literal["image_encoder", "mask_decoder"]
PARTS: tuple[Part, ...] = get_args(Part)  # of the network that can be quantized and trained

FEWEST_BITS, MOST_BITS = 2, 8


@dataclass(frozen=True)
class QuantConfig:
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
    weight_bits: int = 8
    activation_bits: int = 8
    activation: ActivationName = "gelu"
    ranges: RangeMethod = "mse"
    percentile: float = 99.99
    smoothing: float = 0.5
    correct_biases: bool = True

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"Scheme must be one of {get_args(Scheme)}, got {self.scheme!r}")
        for bits in (self.weight_bits, self.activation_bits):
            if not FEWEST_BITS <= bits <= MOST_BITS:
                raise ValueError(f"Bits must be {FEWEST_BITS} to {MOST_BITS}, got {bits}")
        if self.activation not in get_args(ActivationName):
            raise ValueError(
                f"Activation must be one of {get_args(ActivationName)}, got {self.activation!r}"
            )
        if self.scheme == "paper" and self.activation != "gelu":
            raise ValueError("The paper's scheme keeps the network's own activation, gelu")
        if self.ranges not in get_args(RangeMethod):
            raise ValueError(f"Ranges must be one of {get_args(RangeMethod)}, got {self.ranges!r}")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"Percentile must be above 50, at most 100, got {self.percentile}")
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"Smoothing must be 0 to 1, got {self.smoothing}")
