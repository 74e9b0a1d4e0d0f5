from __future__ import annotations

import pytest

from qmedsam.core.tally import Tally
from qmedsam.core.work import decoder_gmacs, encoder_gmacs


def test_nothing_done_is_no_work():
    assert Tally().gmacs == 0


def test_work_is_that_of_all_regions_and_boxes():
    tally = Tally()
    tally.encoded.update({(64, 64): 2, (256, 256): 1})
    tally.decoded[64, 64] = 5
    assert tally.gmacs == pytest.approx(
        2 * encoder_gmacs((64, 64)) + encoder_gmacs((256, 256)) + 5 * decoder_gmacs((64, 64))
    )
