from __future__ import annotations

import cv2
import numpy as np

from qmedsam.batch.png import encode_png, is_own_picture, is_picture_of


def test_png_keeps_red_red():
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    picture[..., 0] = 255
    decoded = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decoded, picture)


def test_a_picture_is_known_by_what_made_it_and_of_what(tmp_path):
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    path, plain = tmp_path / "a.png", tmp_path / "b.png"
    content = encode_png(picture, b"mark 1")
    path.write_bytes(content)
    plain.write_bytes(encode_png(picture))
    assert cv2.imread(str(path)).shape == (2, 2, 3)
    assert is_own_picture(path)
    assert is_own_picture(plain)
    assert is_picture_of(path, b"mark 1")
    for other in (b"mark 2", b"mark", b"mark 11"):
        assert not is_picture_of(path, other)
        assert not is_picture_of(plain, other)
    path.write_bytes(content[:-1])
    assert is_own_picture(path)
    assert not is_picture_of(path, b"mark 1")
    assert not is_picture_of(tmp_path, b"mark 1")
    assert not is_own_picture(tmp_path / "none.png")
