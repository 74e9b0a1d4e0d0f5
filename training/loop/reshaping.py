"""The published encoder brought to the shape that is trained here, before any training.

Windows grow, the inverted bottlenecks lose half of their channels, and hard swish takes the place
of GELU. After each change the linear layer behind it is fitted anew, by least squares on some
images, so that what leaves the block is as near as may be to what leaves it in the published
network, errors made before it included.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.networks.layers import fold_batch_norm
from training.networks.tiny_vit import (
    BasicLayer,
    TinyViTBlock,
    attend_in_windows,
    extended_biases,
    to_image,
    to_tokens,
)
from training.quantization.hard_swish import best_scales, move_scales

SAMPLE = 3000  # pixels of each image that a layer is fitted on
SCALE_SAMPLE = 400  # and that a hard swish is fitted on
RIDGE = 1e-4  # of the mean square of what enters, towards the weights that were there


@dataclass(frozen=True, eq=False)
class Pair:
    """One image on its way through both encoders.

    Attributes:
        old: what the published encoder makes of it, (1, C, h, w).
        new: what the new one does.
    """

    old: Tensor
    new: Tensor


class Fit:
    """Least squares from rows of inputs to rows of outputs, gathered image by image."""

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(0)

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add some of the rows of (..., C) and (..., D)."""
        inputs, outputs = inputs.flatten(0, -2), outputs.flatten(0, -2)
        rows = torch.randint(len(inputs), (SAMPLE,), generator=self._generator)
        self._inputs.append(inputs[rows])
        self._outputs.append(outputs[rows])

    def inputs(self) -> Tensor:
        """Return all rows of inputs, (rows, C)."""
        return torch.cat(self._inputs)

    def solve(self, layer: Any, kept: Tensor | None = None) -> None:
        """Set weight and bias of a linear layer or 1x1 convolution.

        Args:
            layer: whose weights before the solution stays near.
            kept: columns of the inputs that it reads; None is all.
        """
        inputs = self.inputs().double()
        inputs = inputs if kept is None else inputs[:, kept]
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
        before = layer.weight.flatten(1).double()
        start = torch.cat([before, layer.bias.double()[:, None]], dim=1).T  # (C + 1, D)
        gram = inputs.T @ inputs
        pull = RIDGE * gram.diagonal().mean()
        wanted = inputs.T @ torch.cat(self._outputs).double() + pull * start
        found = torch.linalg.solve(gram + pull * torch.eye(len(gram), dtype=gram.dtype), wanted).T
        layer.weight.copy_(found[:, :-1].reshape(layer.weight.shape))
        layer.bias.copy_(found[:, -1])


@torch.no_grad()
def reshape_encoder(published: nn.Module, images: Sequence[Tensor], new: Any) -> None:
    """Let an encoder of another shape compute about what the published one does, in place.

    Args:
        published: a `TinyViT` in eval mode; it is not changed.
        images: to fit on, (1, 3, h, w) of any grids.
        new: a `TinyViT` whose batch normalization is folded, with any weights.
    """
    old: Any = copy.deepcopy(published)
    fold_batch_norm(old)
    new.neck.load_state_dict(old.neck.state_dict())
    _copy_conv_pair(old.patch_embed.seq, new.patch_embed.seq, images)
    pairs = [Pair(old.patch_embed(image), new.patch_embed(image)) for image in images]
    for before, after in zip(old.layers, new.layers, strict=True):
        pairs = _reshape_layer(before, after, pairs)


def _reshape_layer(old: BasicLayer, new: BasicLayer, pairs: list[Pair]) -> list[Pair]:
    old_blocks: Any = old.blocks
    new_blocks: Any = new.blocks
    for before, after in zip(old_blocks, new_blocks, strict=True):
        step = _reshape_attention if old.has_tokens else _reshape_bottleneck
        pairs = step(before, after, pairs)
    if old.downsample is None or new.downsample is None:
        return pairs
    return _reshape_merging(old.downsample, new.downsample, pairs)


def _reshape_bottleneck(old: Any, new: Any, pairs: list[Pair]) -> list[Pair]:
    """Keep the channels that matter most, and let them stand in for the others."""
    trial = copy.deepcopy(old)
    _use_hard_swish(trial, [pair.new for pair in pairs], new)
    fit = Fit()
    for pair in pairs:
        hidden = trial.act2(trial.conv2(trial.act1(trial.conv1(pair.new))))
        wanted = _before_last_activation(old, pair.old) - pair.new
        fit.add(_rows(hidden), _rows(wanted))
    weight = trial.conv3.weight.flatten(1)
    matters = fit.inputs().var(0) * weight.square().sum(0)
    kept = matters.argsort(descending=True)[: new.conv3.in_channels].sort().values
    for name in ("conv1", "conv2"):
        source, target = getattr(trial, name), getattr(new, name)
        target.weight.copy_(source.weight[kept])
        target.bias.copy_(source.bias[kept])
    new.conv3.weight.copy_(trial.conv3.weight[:, kept])
    new.conv3.bias.copy_(trial.conv3.bias)
    fit.solve(new.conv3, kept)
    return [Pair(old(pair.old), new(pair.new)) for pair in pairs]


def _before_last_activation(block: Any, x: Tensor) -> Tensor:
    conv3: Tensor = block.conv3(block.act2(block.conv2(block.act1(block.conv1(x)))))
    return conv3 + x


def _reshape_merging(old: Any, new: Any, pairs: list[Pair]) -> list[Pair]:
    trial = copy.deepcopy(old)
    _use_hard_swish(trial, [pair.new for pair in pairs], new)
    new.load_state_dict(trial.state_dict())
    fit, wanted = Fit(), [old(pair.old) for pair in pairs]
    for pair, output in zip(pairs, wanted, strict=True):
        fit.add(_rows(new.act2(new.conv2(new.act1(new.conv1(pair.new))))), _rows(output))
    fit.solve(new.conv3)
    return [Pair(output, new(pair.new)) for pair, output in zip(pairs, wanted, strict=True)]


def _reshape_attention(old: TinyViTBlock, new: TinyViTBlock, pairs: list[Pair]) -> list[Pair]:
    """Take over all weights, biases for larger distances those of the largest known one."""
    weights = old.state_dict()
    biases = "attn.attention_biases"
    weights[biases] = extended_biases(weights[biases], new.window)
    new.load_state_dict(weights)
    mixed = [Pair(_mixed(old, pair.old), _mixed(new, pair.new)) for pair in pairs]
    fc1, fc2 = new.mlp.fc1, new.mlp.fc2
    if isinstance(new.mlp.act, nn.Hardswish):
        seen = [fc1(new.mlp.norm(to_tokens(pair.new))) for pair in mixed]
        move_scales(fc1, fc2, _best_scales(seen))
    fit, reached = Fit(), []
    for pair in mixed:
        x, tokens = to_tokens(pair.old), to_tokens(pair.new)
        wanted = x + old.mlp(x)
        fit.add(new.mlp.act(fc1(new.mlp.norm(tokens))), wanted - tokens)
        reached.append(wanted)
    fit.solve(fc2)
    found = []
    for pair, wanted in zip(mixed, reached, strict=True):
        hw, tokens = (pair.new.shape[2], pair.new.shape[3]), to_tokens(pair.new)
        found.append(Pair(to_image(wanted, hw), to_image(tokens + new.mlp(tokens), hw)))
    return found


def _mixed(block: TinyViTBlock, image: Tensor) -> Tensor:
    """Return (1, C, h, w) after attention and convolution, before the MLP."""
    hw, x = (image.shape[2], image.shape[3]), to_tokens(image)
    x = x + attend_in_windows(block.attn, x.unflatten(1, hw), block.window)
    return block.local_conv(to_image(x, hw))


def _use_hard_swish(module: Any, inputs: Sequence[Tensor], shaped: Any) -> None:
    """Replace the activations of a module of three convolutions where the new shape has others."""
    for name, before, behind in (("act1", "conv1", "conv2"), ("act2", "conv2", "conv3")):
        if not isinstance(getattr(shaped, name), nn.Hardswish):
            continue
        seen = []
        for x in inputs:
            y = module.conv1(x)
            seen.append(_rows(y if name == "act1" else module.conv2(module.act1(y))))
        move_scales(getattr(module, before), getattr(module, behind), _best_scales(seen))
        setattr(module, name, nn.Hardswish())


def _copy_conv_pair(old: Any, new: Any, images: Sequence[Tensor]) -> None:
    """Take over two convolutions with an activation between them."""
    new.load_state_dict(old.state_dict())
    if isinstance(new[1], nn.Hardswish):
        move_scales(new[0], new[2], _best_scales([_rows(new[0](image)) for image in images]))


def _best_scales(seen: Sequence[Tensor]) -> Tensor:
    """Return `best_scales` of a sample of what enters, (..., channels) of each image."""
    generator = torch.Generator().manual_seed(0)
    rows = [values.flatten(0, -2) for values in seen]
    sample = [x[torch.randint(len(x), (SCALE_SAMPLE,), generator=generator)] for x in rows]
    return best_scales(torch.cat(sample))


def _rows(image: Tensor) -> Tensor:
    """Turn (1, C, h, w) into (1, h, w, C)."""
    return image.movedim(1, -1)
