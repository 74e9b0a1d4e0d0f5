"""The variants that the ablations compare, held to what they say they are."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from benchmarks.ablations import (
    ablation_methods,
    build_parser,
    main,
    pad_after,
    pad_before,
    threshold_first,
    training_of,
)
from benchmarks.harness.methods import service_method
from qmedsam import Settings
from qmedsam.core.geometry import ModelFrame
from qmedsam.core.postprocess import logits_to_patch


def test_padding_before_makes_the_padding_the_darkest_value():
    image = np.full((2, 4, 3), 100, dtype=np.uint8)
    image[0] = 200
    before = pad_before(cv2.INTER_NEAREST).prepare(image, 4)[0, 0]
    after = pad_after(cv2.INTER_NEAREST).prepare(image, 4)[0, 0]
    assert before.tolist() == [[1] * 4, [0.5] * 4, [0] * 4, [0] * 4]
    assert after.tolist() == [[1] * 4, [0] * 4, [0] * 4, [0] * 4]


def test_thresholding_first_sees_signs_only():
    frame = ModelFrame((512, 512), 256)
    logits = np.full((256, 256), -1.0, dtype=np.float32)
    logits[100:120, 100:120] = 1.0
    first = threshold_first(logits, frame).whole(frame.original_hw)
    served = logits_to_patch(logits, frame).whole(frame.original_hw)
    np.testing.assert_array_equal(first, served)  # equal steps on both sides: the same border
    logits[100:120, 100:120] = 30.0  # sure inside: upsampled logits put the border further out
    np.testing.assert_array_equal(threshold_first(logits, frame).mask, first)
    assert logits_to_patch(logits, frame).whole(frame.original_hw).sum() > first.sum()


def test_thresholding_first_cuts_the_padding_off():
    frame = ModelFrame((100, 200), 256)
    logits = np.ones((256, 256), dtype=np.float32)
    assert threshold_first(logits, frame).mask.shape == (100, 200)
    assert threshold_first(logits, frame).mask.all()


@pytest.mark.parametrize(
    ("name", "kind", "titles"),
    [
        ("volume-prompt", "3D", ["fixed", "propagate", "hybrid"]),
        ("threshold", "all", ["threshold, then upsample", "as served"]),
        (
            "window",
            "all",
            [
                f"{variant}, {window}"
                for variant in ("float", "int8")
                for window in ("whole", "margin 0", "margin 1", "as served")
            ],
        ),
    ],
)
def test_an_ablation_compares_the_variants_of_one_choice(name, kind, titles):
    found_kind, methods = ablation_methods(name, "f32", {})
    assert (found_kind, [method.title for method in methods]) == (kind, titles)
    assert len({method.key for method in methods}) == len(methods)


def test_what_is_served_is_predicted_once_for_all_ablations():
    keys = [
        {method.key for method in ablation_methods(name, "bf16", {})[1]}
        for name in ("volume-prompt", "preprocessing", "threshold", "window")
    ]
    served = service_method(Settings(precision="bf16"), title="any")
    assert set.intersection(*keys) == {served.key} == {"service-bf16-fixed"}


def test_what_a_model_was_trained_by_is_read_from_its_manifest(tmp_path):
    stages = [{"recipe": {"name": "first", "seed": 0}, "steps": 3, "images": 6, "scores": None}]
    (tmp_path / "manifest.json").write_text(json.dumps({"training": stages}))
    assert training_of(tmp_path) == [{"stage": "first", "steps": 3, "images": 6}]
    (tmp_path / "manifest.json").write_text("{}")
    assert training_of(tmp_path) == []


def test_exported_models_can_be_compared(tmp_path):
    arguments = build_parser().parse_args(["models", "--model", f"a={tmp_path}"])
    _, methods = ablation_methods("models", "f32", dict(arguments.model))
    assert [method.title for method in methods] == ["a"]
    for wrong in (
        ["models"],
        ["threshold", "--model", f"a={tmp_path}"],
        ["models", "--model", "a"],
    ):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
