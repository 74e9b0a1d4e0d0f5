"""What passes cost; tests/benchmarks/test_layers.py holds it to the graphs that ship."""

from __future__ import annotations

import pytest

from qmedsam.core.contract import grids_up_to
from qmedsam.core.work import decoder_gmacs, encoder_gmacs

GRIDS = grids_up_to(256)


def test_the_largest_grid_costs_most():
    assert max(GRIDS, key=encoder_gmacs) == (256, 256)
    assert encoder_gmacs((256, 256)) == pytest.approx(37.88, abs=0.005)


def test_windows_are_filled_up_so_that_four_small_grids_cost_more_than_one():
    assert 4 * encoder_gmacs((64, 64)) > encoder_gmacs((128, 128)) > 3 * encoder_gmacs((64, 64))


@pytest.mark.parametrize("work", [encoder_gmacs, decoder_gmacs])
def test_a_turned_grid_costs_the_same(work):
    assert all(work((height, width)) == work((width, height)) for height, width in GRIDS)


def test_decoding_a_box_costs_less_than_encoding_for_it():
    assert all(decoder_gmacs(grid) < encoder_gmacs(grid) / 20 for grid in GRIDS)
