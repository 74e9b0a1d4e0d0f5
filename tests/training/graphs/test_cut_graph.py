"""A graph in two parts, held to the whole."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from training.graphs.cut_graph import CUT_NAME, cut_in_two

pytestmark = [pytest.mark.training, pytest.mark.model]


def constant(values) -> openvino.Node:
    return ops.constant(np.asarray(values, dtype=np.float32))


def chain(sums: int) -> openvino.Model:
    """x + 1 + 2 + ..., with a square root of each sum's square between two of them."""
    image = ops.parameter([1, 4], np.float32)
    x = image
    for number in range(1, sums + 1):
        x = ops.sqrt(ops.multiply(x, x))
        x = ops.add(x, constant([number]))
    outputs = [ops.relu(x), ops.negative(x)]
    for node, name in zip((image, *outputs), ("image", "first", "second"), strict=True):
        node.output(0).set_names({name})
    return openvino.Model(outputs, [image], "chain")


def run(model: openvino.Model, values: np.ndarray) -> dict[str, np.ndarray]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {output.any_name: found for output, found in compiled(values).items()}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_both_parts_after_each_other_compute_the_whole(share):
    image = np.array([[-3, 0, 1, 5]], dtype=np.float32)
    expected = run(chain(5), image)
    first, second = cut_in_two(chain(5), share)
    between = run(first, image)
    assert list(between) == [CUT_NAME]
    found = run(second, between[CUT_NAME])
    assert set(found) == {"first", "second"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values)


def test_the_share_says_where():
    sizes = [len(cut_in_two(chain(9), share)[0].get_ops()) for share in (0.2, 0.5, 0.8)]
    assert sizes == sorted(set(sizes))


def test_a_sum_that_a_path_goes_round_is_no_place_to_cut():
    image = ops.parameter([1, 4], np.float32)
    branch = ops.add(image, constant([1]))
    joined = ops.add(branch, ops.relu(image))
    model = openvino.Model([ops.relu(ops.negative(joined))], [image], "round")
    first, _ = cut_in_two(model, 0.0)
    assert sum(op.get_type_name() == "Add" for op in first.get_ops()) == 2


def test_a_graph_without_a_place_is_refused():
    image = ops.parameter([1, 4], np.float32)
    model = openvino.Model([ops.relu(image)], [image], "none")
    with pytest.raises(ValueError, match="must have a sum"):
        cut_in_two(model, 0.5)
