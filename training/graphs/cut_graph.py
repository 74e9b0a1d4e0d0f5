"""A graph cut in two, to be compiled side by side.

Compiling takes one core, and most of the time in which a process with one image waits. The cut goes
through the one tensor that all which follows depends on.
"""

from __future__ import annotations

import numpy as np
import openvino  # type: ignore[import-untyped]
from openvino import opset13 as ops

CUT_NAME = "between"


def cut_in_two(graph: openvino.Model, share: float) -> tuple[openvino.Model, openvino.Model]:
    """Return what comes before and after a sum in the graph.

    The graph given is used up. The first has one output and the second one input, both
    `CUT_NAME`.

    Args:
        graph: with one input.
        share: of the operations, constants left out, about so many come before.

    Raises:
        ValueError: no sum has all paths from input to output through it.
    """
    operations = [op for op in graph.get_ordered_ops() if op.get_type_name() != "Constant"]
    places = _cut_places(operations)
    if not places:
        raise ValueError("Graph must have a sum that all paths go through, got none")
    place = min(places, key=lambda place: abs(place - share * len(operations)))
    source = operations[place].output(0)
    entrance = ops.parameter(source.get_shape(), np.float32, name=CUT_NAME)
    entrance.output(0).set_names({CUT_NAME})
    for target in source.get_target_inputs():
        target.replace_source_output(entrance.output(0))
    source.set_names({CUT_NAME})
    name = graph.get_name()
    return (
        openvino.Model([ops.result(source)], graph.get_parameters(), name),
        openvino.Model(graph.get_results(), [entrance], name),
    )


def _cut_places(operations: list[openvino.Node]) -> list[int]:
    """Return the places of sums behind which nothing reads an earlier operation but the sum."""
    place_of = {op.get_friendly_name(): place for place, op in enumerate(operations)}
    last_reader = [
        max(
            (
                place_of[target.get_node().get_friendly_name()]
                for output in op.outputs()
                for target in output.get_target_inputs()
            ),
            default=0,
        )
        for op in operations
    ]
    places, furthest = [], 0
    for place, op in enumerate(operations):
        if op.get_type_name() == "Add" and furthest <= place < len(operations) - 2:
            places.append(place)
        furthest = max(furthest, last_reader[place])
    return places
