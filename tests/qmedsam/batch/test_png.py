from __future__ import annotations

import cv2
import numpy as np

from qmedsam.batch.png import encode_png


def test_png_keeps_red_red():
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    picture[..., 0] = 255
    decoded = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decoded, picture)
