"""A folded decoder opened for embeddings of any number of pixels, with their positions as inputs.

What the graph holds for each pixel of the 64 x 64 embedding, row by row, belongs to the place of
the pixel, from one border to the other. A grid's pixels have places of the same range, and so have
the corners of boxes (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..core.contract import EMBEDDING_SIZE, Grid
from ..errors import ModelError
from .runtime import openvino, ops

PIXELS = EMBEDDING_SIZE**2
NEAREST = 12  # pixels along an axis that a value is interpolated between
PIXEL_AXIS = 1  # of (1, P, C)
PIXELS_NAME = "pixels"
POSITION_CHANNELS = (256, 128)  # of the two inputs

Positions = Mapping[str, NDArray[np.float32]]


def position_name(channels: int) -> str:
    """Return the name of the input that has so many channels."""
    return f"positions_{channels}"


POSITION_NAMES = tuple(position_name(channels) for channels in POSITION_CHANNELS)


def open_pixels(decoder: openvino.Model) -> dict[str, NDArray[np.float32]]:
    """Let a folded decoder take embeddings of any number of pixels.

    Args:
        decoder: as it was exported, for 64 x 64 pixels; it is changed.

    Returns:
        What was constant for each pixel, (1, 4096, C), by the name of what is now an input.

    Raises:
        ModelError: it is no folded decoder, or holds the number of pixels elsewhere.
    """
    for parameter in decoder.get_parameters():
        shape = parameter.get_partial_shape()
        if shape.rank.get_length() == 3 and shape[PIXEL_AXIS] == PIXELS:
            shape[PIXEL_AXIS] = -1
            parameter.set_partial_shape(shape)
    positions: dict[str, NDArray[np.float32]] = {}
    for operation in decoder.get_ordered_ops():
        if is_of_pixels(operation):
            name = position_name(operation.data.shape[-1])
            positions[name] = operation.data.copy()
            decoder.add_parameters([_input_instead(operation, name)])
        elif _holds_count(operation):
            _replace(operation, _pixel_count(decoder))
    if sorted(positions) != sorted(POSITION_NAMES):
        raise ModelError(f"Decoder must have {POSITION_NAMES} to open, has {sorted(positions)}")
    decoder.validate_nodes_and_infer_types()
    return positions


def is_of_pixels(operation: openvino.Node) -> bool:
    """Say whether an operation is a constant (1, 4096, C), which belongs to places."""
    if operation.get_type_name() != "Constant":
        return False
    shape = list(operation.get_output_shape(0))
    return len(shape) == 3 and shape[PIXEL_AXIS] == PIXELS


def resampled(positions: NDArray[np.float32], embedding_hw: Grid) -> NDArray[np.float32]:
    """Return the (1, h * w, C) of a grid's embedding, by the (1, 4096, C) of the square's.

    Both cover the same range of positions. What a graph holds of them is smooth, sums
    of waves many pixels long, so that interpolation gives what the network computes, to 1e-6.
    """
    if embedding_hw == (EMBEDDING_SIZE, EMBEDDING_SIZE):
        return positions
    channels = positions.shape[-1]
    rows, columns = (_interpolation(side) for side in embedding_hw)
    in_rows = rows @ positions.reshape(EMBEDDING_SIZE, -1).astype(np.float64)
    values = columns @ in_rows.reshape(-1, EMBEDDING_SIZE, channels)
    return np.asarray(values.reshape(1, -1, channels), dtype=np.float32)


@cache
def _interpolation(side: int) -> NDArray[np.float64]:
    """Return the (side, 64) weights of Lagrange's interpolation between the nearest pixels."""
    weights = np.zeros((side, EMBEDDING_SIZE))
    for place in range(side):
        position = (place + 0.5) * EMBEDDING_SIZE / side - 0.5
        first = int(np.floor(position)) + 1 - NEAREST // 2
        first = min(max(0, first), EMBEDDING_SIZE - NEAREST)
        nodes = np.arange(first, first + NEAREST)
        for node in nodes:
            others = nodes[nodes != node]
            weights[place, node] = np.prod((position - others) / (node - others))
    return weights


def _input_instead(constant: openvino.Node, name: str) -> openvino.Node:
    """Put an input of as many channels in the place of a constant, and return it."""
    shape = [1, -1, constant.data.shape[-1]]
    parameter = ops.parameter(shape, np.float32, name=name)
    parameter.output(0).set_names({name})
    _replace(constant, parameter)
    return parameter


def _holds_count(operation: openvino.Node) -> bool:
    """Say whether an operation is the number of pixels, by which rows of boxes are counted."""
    is_integral = operation.get_type_name() == "Constant" and (
        operation.get_element_type().is_integral_number()
    )
    if not is_integral or PIXELS not in operation.data:
        return False
    if operation.data.size > 1:
        name = operation.get_friendly_name()
        raise ModelError(f"Decoder cannot be opened: {name} is not understood")
    return True


def _pixel_count(decoder: openvino.Model) -> openvino.Node:
    """Return the number of pixels, (1, 1), of the embedding that a decoder is given."""
    pixels = decoder.input(PIXELS_NAME)
    axis = ops.constant(np.array([[PIXEL_AXIS]]))
    return ops.gather(ops.shape_of(pixels), axis, ops.constant(0))


def _replace(before: openvino.Node, after: openvino.Node) -> None:
    for reader in before.output(0).get_target_inputs():
        reader.replace_source_output(after.output(0))
