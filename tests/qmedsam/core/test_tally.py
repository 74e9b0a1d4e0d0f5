from __future__ import annotations

import pytest

from qmedsam.core.crops import Crop
from qmedsam.core.tally import Tally
from qmedsam.core.work import decoder_gmacs, encoder_gmacs


def test_nothing_done_is_no_work():
    assert Tally().gmacs == 0


def test_work_is_that_of_all_regions_and_boxes():
    tally = Tally()
    tally.encoded.update({(64, 64): 2, (256, 256): 1})
    tally.add_decoded((64, 64), [Crop(0, 0, 16, 16)] * 4)
    tally.add_decoded((256, 256), [Crop(0, 0, 64, 64)])
    assert tally.decoded == {(64, 64): 4, (256, 256): 1}
    assert tally.gmacs == pytest.approx(
        2 * encoder_gmacs((64, 64))
        + encoder_gmacs((256, 256))
        + 4 * decoder_gmacs((64, 64))
        + decoder_gmacs((256, 256), 64 * 64)
    )
