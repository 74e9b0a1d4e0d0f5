"""What whole images and regions are compared by."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import regions


def test_each_model_is_compared_with_itself_seeing_all():
    methods = regions.compared_methods(["float", "int8"])
    assert [method.title for method in methods.values()] == [
        *("float, whole", "float, auto"),
        *("int8, whole", "int8, auto"),
    ]
    assert len({method.key for method in methods.values()}) == 4


def test_a_small_object_in_a_large_image_takes_less_of_the_encoder(tmp_path):
    path = tmp_path / "CT" / "a.npz"
    path.parent.mkdir()
    np.savez(path, imgs=np.zeros((512, 512, 3), np.uint8), boxes=np.array([[9, 9, 40, 40]]))
    whole, auto = (regions.encoder_gmacs_of([path], setting) for setting in ("whole", "auto"))
    assert whole == {"CT/a": pytest.approx(37.88, abs=0.01)}
    assert 0 < auto["CT/a"] < whole["CT/a"] / 2


def test_a_record_of_one_split_is_not_that_of_all(capsys):
    with pytest.raises(SystemExit):
        regions.COMMAND.main(["--splits", "val"])
    assert "--splits needs a --json of its own" in capsys.readouterr().err
