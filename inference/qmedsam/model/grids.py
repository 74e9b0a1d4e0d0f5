"""An exported encoder rewritten for another grid than the one that it was exported for.

A grid is (height, width) of the encoder's input. The weights know nothing of it; what does are the
constants that shapes are made by. They are derived anew from the shapes before and after, operation
by operation, whatever these are called; where a constant is not understood, nothing runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..core.contract import EMBEDDING_SIZE, Grid
from ..errors import ModelError
from .positions import is_of_pixels, resampled
from .runtime import openvino, ops

# Counts the changes of what graphs become, for those that were compiled before.
REWRITING = 1
HALVINGS = 2  # of an image on its way through the encoder, to the embedding
WINDOWED_RANK = 6  # (1, rows, columns, ...) of windows by pixels of a window, in either order
# The whole numbers that they read name axes, or are weights.
WITHOUT_SIZES = {"Convert", "MVN", "Transpose"}

Shape = list[int]


def encoder_on_grid(graph: openvino.Model, grid_hw: Grid) -> None:
    """Rewrite an encoder, or one of the two parts that it was cut into, for a grid.

    Args:
        graph: as it was exported, for a square of four times the embedding's side; it is changed.
        grid_hw: height and width of the image that it is to take.

    Raises:
        ModelError: an operation of the graph is not understood.
    """
    rewriting = _Rewriting(graph, grid_hw)
    for operation in graph.get_ordered_ops():
        rewriting.rewrite(operation)
    graph.validate_nodes_and_infer_types()


class _Rewriting:
    """One graph on its way to a grid; operations come in order, after those that they read."""

    def __init__(self, graph: openvino.Model, grid_hw: Grid) -> None:
        height, width = grid_hw
        self._old_shapes = {
            (operation.get_name(), output.get_index()): output.get_shape()
            for operation in graph.get_ordered_ops()
            for output in operation.outputs()
        }
        # What the side of the square becomes, whole, halved and halved again.
        self._hw = {
            (EMBEDDING_SIZE << HALVINGS) >> i: (height >> i, width >> i)
            for i in range(HALVINGS + 1)
        }
        # By rows (and columns) before and side of a window: rows and columns of windows now.
        self._windows: dict[tuple[int, int], Grid] = {}
        self._rules: dict[str, Callable[[openvino.Node], None]] = {
            "Add": self._add,
            "Pad": self._pad,
            "Parameter": self._parameter,
            "Reshape": self._reshape,
            "Result": self._result,
            "Slice": self._slice,
        }

    def rewrite(self, operation: openvino.Node) -> None:
        """Derive the constants of an operation anew, and the shapes of its outputs."""
        kind = operation.get_type_name()
        if kind in self._rules:
            self._rules[kind](operation)
        elif kind not in WITHOUT_SIZES and _reads_whole_numbers(operation):
            raise _not_understood(operation)
        try:
            operation.validate_and_infer_types()
        except RuntimeError as error:
            raise _not_understood(operation) from error

    def _old_shape(self, output: openvino.Output) -> Shape:
        return list(self._old_shapes[output.get_node().get_name(), output.get_index()])

    def _by_pixel(self, old: Shape) -> Shape | None:
        """Return what an image (1, C, S, S), or its pixels (1, S * S, C), become."""
        for side, (height, width) in self._hw.items():
            if len(old) == 4 and old[2:] == [side, side]:
                return [*old[:2], height, width]
            if len(old) == 3 and old[1] == side**2:
                return [old[0], height * width, old[2]]
        return None

    def _parameter(self, parameter: openvino.Node) -> None:
        new = self._by_pixel(self._old_shape(parameter.output(0)))
        if new is None:
            raise _not_understood(parameter)
        parameter.set_partial_shape(openvino.PartialShape(new))

    def _result(self, result: openvino.Node) -> None:
        source = result.input_value(0)
        if list(source.get_shape()) != self._by_pixel(self._old_shape(source)):
            raise _not_understood(result)

    def _add(self, add: openvino.Node) -> None:
        for place in range(add.get_input_size()):
            constant = add.input_value(place).get_node()
            if is_of_pixels(constant):
                values = ops.constant(resampled(constant.data, self._hw[EMBEDDING_SIZE]))
                add.input(place).replace_source_output(values.output(0))

    def _pad(self, pad: openvino.Node) -> None:
        window = self._window_after(pad)
        source = pad.input_value(0)
        old, new = self._old_shape(source), list(source.get_shape())
        begins, ends = _integers(pad, 1), _integers(pad, 2)
        if any(begins) or len(old) != 4 or ends != _missing(old, window):
            raise _not_understood(pad)
        _replace_integers(pad, 2, _missing(new, window))

    def _window_after(self, pad: openvino.Node) -> int:
        """Return the side of the windows that a padded image is split into next."""
        operation = pad
        while operation.get_type_name() != "Reshape":
            readers = list(operation.output(0).get_target_inputs())
            if len(readers) != 1:
                raise _not_understood(pad)
            operation = readers[0].get_node()
        target = self._old_shape(operation.output(0))
        if len(target) != WINDOWED_RANK or target[2] != target[4]:
            raise _not_understood(pad)
        return target[2]

    def _slice(self, corner: openvino.Node) -> None:
        starts, stops, steps, axes = (_integers(corner, place) for place in range(1, 5))
        is_understood = not any(starts) and set(steps) == {1} and axes == [1, 2]
        if not is_understood or stops[0] != stops[1] or stops[0] not in self._hw:
            raise _not_understood(corner)
        _replace_integers(corner, 2, self._hw[stops[0]])

    def _reshape(self, reshape: openvino.Node) -> None:
        source = reshape.input_value(0)
        old, new = self._old_shape(source), list(source.get_shape())
        if new == old:  # a weight, or the grid is the square
            return
        old_target = self._old_shape(reshape.output(0))
        target: Shape = []
        for axes, sides in _groups(old, old_target):
            is_kept = all(new[axis] == old[axis] for axis in axes)
            count = math.prod(new[axis] for axis in axes)
            target += sides if is_kept else self._split(count, sides, old_target)
        if math.prod(target) != math.prod(new) or len(target) != len(old_target):
            raise _not_understood(reshape)
        if len(target) == WINDOWED_RANK and target[2] == target[4]:
            self._windows[old_target[1], target[2]] = target[1], target[3]
        _replace_integers(reshape, 1, target)

    def _split(self, count: int, old: Shape, old_target: Shape) -> Shape:
        """Return what the sides become that share the values of an axis; none if unknown."""
        if len(old) == 1:  # joined
            return [count]
        if len(old) == 2 and old[0] == old[1] and old[0] in self._hw:  # pixels
            return list(self._hw[old[0]])
        is_windowed = len(old_target) == WINDOWED_RANK
        if len(old) == 2 and is_windowed:  # a side of whole windows
            return [count // old[1], old[1]]
        if len(old) == 3 and is_windowed:  # windows, back to their places
            return [1, *self._windows.get((old[1], old_target[3]), ())]
        return []


def _groups(old: Shape, target: Shape) -> Iterator[tuple[list[int], Shape]]:
    """Yield axes of a shape and the sides that their values get, as few of both as possible.

    The shapes hold equally many values; sides of one that are left at the end are not yielded, and
    axes of one get another.
    """
    axes, sides = iter(range(len(old))), iter(target)
    for axis in axes:
        group, shared = [axis], [next(sides, 1)]
        while (size := math.prod(old[one] for one in group)) != math.prod(shared):
            if size < math.prod(shared):
                group.append(next(axes))
            else:
                shared.append(next(sides))
        yield group, shared


def _missing(shape: Shape, window: int) -> Shape:
    """Return what an image (1, H, W, C) lacks at each axis's end to be of whole windows."""
    return [0, -shape[1] % window, -shape[2] % window, 0]


def _reads_whole_numbers(operation: openvino.Node) -> bool:
    constants = (value.get_node() for value in operation.input_values())
    return any(
        constant.get_type_name() == "Constant" and constant.get_element_type().is_integral_number()
        for constant in constants
    )


def _integers(operation: openvino.Node, place: int) -> list[int]:
    constant = operation.input_value(place).get_node()
    if constant.get_type_name() != "Constant":
        raise _not_understood(operation)
    return [int(value) for value in constant.data.ravel()]


def _replace_integers(operation: openvino.Node, place: int, values: Sequence[int]) -> None:
    constant = ops.constant(np.array(values, dtype=np.int64))
    operation.input(place).replace_source_output(constant.output(0))


def _not_understood(operation: openvino.Node) -> ModelError:
    name, kind = operation.get_friendly_name(), operation.get_type_name()
    return ModelError(f"Encoder cannot be put on another grid: {kind} {name} is not understood")
