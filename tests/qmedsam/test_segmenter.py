"""The models that ship on objects whose pixels are known, small ones among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmedsam import Segmenter, Settings
from qmedsam import segmenter as segmenter_module
from qmedsam.core import planning
from qmedsam.model.manifest import Manifest

pytestmark = pytest.mark.model

BACKGROUND, OBJECT = 70, 180  # grey, as of a bright lesion
LEAST_DSC = 0.9


@pytest.fixture(scope="module", params=["float", "int8"])
def segmenter(request) -> Segmenter:
    return Segmenter(settings=Settings(variant=request.param, precision="f32"))


def square(side: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with a bright square on a background with a little noise, and its mask."""
    generator = np.random.default_rng(0)
    image = generator.integers(BACKGROUND, BACKGROUND + 3, (side, side), dtype=np.uint8)
    mask = np.zeros((side, side), dtype=bool)
    mask[first : last + 1, first : last + 1] = True
    image[mask] = OBJECT
    return image, mask


def segment(segmenter, image, first, last) -> np.ndarray:
    return segmenter.segment(image, [[first, first, last, last]]) > 0


@pytest.mark.parametrize(
    ("side", "first", "last"), [(8, 2, 5), (16, 5, 10), (64, 20, 40)], ids=["8", "16", "64"]
)
def test_a_square_on_a_small_image_comes_out_as_the_square(segmenter, side, first, last):
    image, mask = square(side, first, last)
    found = segment(segmenter, image, first, last)
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) >= LEAST_DSC


@pytest.mark.parametrize(
    ("side", "first", "last"),
    [(256, 128, 128), (64, 32, 32), (64, 30, 31)],
    ids=["one-of-256", "one-of-64", "two-of-64"],
)
def test_an_object_of_few_pixels_comes_out_as_these(segmenter, side, first, last):
    image, mask = square(side, first, last)
    np.testing.assert_array_equal(segment(segmenter, image, first, last), mask)


def test_a_filled_cache_has_what_whole_images_and_regions_need(tmp_path, monkeypatch):
    grids = [(64, 64), (256, 256)]
    monkeypatch.setattr(planning, "REGION_GRIDS", grids)
    settings = Settings(variant="float", precision="f32", cache_dir=tmp_path)
    segmenter_module.fill_cache(settings)
    filled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")}
    assert len(filled) == 8  # two parts of an encoder on each grid, two decoders, their positions
    for regions in ("whole", "auto"):
        one = replace(settings, regions=regions)
        Segmenter(settings=one, grids=grids if regions == "auto" else ()).close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")} == filled


@pytest.mark.parametrize("precision", ["int8", "f32"])
@pytest.mark.parametrize("has_it", [True, False], ids=["vnni", "no-vnni"])
def test_int8_without_vnni_is_warned_of(fake_model, monkeypatch, caplog, precision, has_it):
    monkeypatch.setattr(segmenter_module, "has_vnni", lambda: has_it)
    monkeypatch.setattr(fake_model, "manifest", Manifest("fake", precision, 256, {}))
    Segmenter("mine")
    is_warned = "Model mine is in int8, and this processor has no VNNI" in caplog.text
    assert is_warned == (precision == "int8" and not has_it)


@pytest.mark.parametrize("settings", [{}, {"threads": 1}, "auto", 0, Settings], ids=str)
def test_settings_of_another_type_are_refused(fake_model, settings):
    with pytest.raises(TypeError, match=r"Settings must be Settings of qmedsam, got \w+"):
        Segmenter(settings=settings)


@pytest.mark.parametrize("path", [b"models", 3, ["models"], True], ids=str)
def test_folders_of_another_type_are_refused(fake_model, path):
    with pytest.raises(TypeError, match=r"Model folder must be a str or pathlib.Path, got \w+"):
        Segmenter(path)
    with pytest.raises(TypeError, match=r"Cache folder must be a str or pathlib.Path, got \w+"):
        Settings(cache_dir=path)


def test_a_cache_folder_may_be_a_string_and_threads_are_whole():
    assert Settings(cache_dir="folder").cache_dir == Path("folder")
    assert Settings(threads=np.int64(2)).threads == 2
    with pytest.raises(ValueError, match=r"whole number, 0 or more, got 1\.5"):
        Settings(threads=1.5)
    with pytest.raises(ValueError, match=r"whole number, 1 or more, got 1\.5"):
        Settings(box_batch_size=1.5)
