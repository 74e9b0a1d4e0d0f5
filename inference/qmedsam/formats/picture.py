"""Pictures: PNG and JPEG 2000 by imagecodecs, which keeps 16 bits of colours, TIFF by `tiff`.

JPEG, BMP, GIF and WebP are decoded by Pillow, which refuses what is cut off; it also reads the
headers of all but TIFF, and writes label maps.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import imagecodecs as imagecodecs_library
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from ..core.postprocess import LabelMap
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .label_notes import LabelNotes
from .raster import UPRIGHT, Raster
from .scan import FormatError, Scan, check_size
from .tiff import decode_tiff, is_tiff

imagecodecs: Any = imagecodecs_library
KINDS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "JPEG2000")  # as Pillow names them
KINDS_READ = "a PNG, JPEG, TIFF, BMP, GIF, WebP or JPEG 2000 image"
DECODERS: dict[str, Callable[[bytes], NDArray[Any]]] = {
    "PNG": imagecodecs.png_decode,
    "JPEG2000": imagecodecs.jpeg2k_decode,
}
VALUES_AS_THEY_ARE = ("L", "LA", "RGB", "RGBA", "RGBX", "I;16")  # modes of Pillow
ALPHA_CHANNELS = (2, 4)


class PictureScan(Scan):
    """An image in a picture file, as viewers show it.

    Args:
        name: of the file, for messages.
        content: of the file.
        window: of its values; None leaves 8 bits as they are and takes percentiles of more.

    Raises:
        FormatError: the file cannot be read, or has several pages.
        WindowError: the window does not fit its values.
    """

    label_suffixes = (".png",)

    def __init__(
        self, name: str, content: bytes, window: str | IntensityWindow | None = None
    ) -> None:
        raster = decode_picture(name, content)
        values = raster.upright()
        if window is None:
            window = AS_IT_IS if values.dtype == np.uint8 else PERCENTILES
        super().__init__(values, window, is_volume=False, remarks=raster.all_remarks())

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a label map as PNG; see `encode_label_png`."""
        return encode_label_png(label_map, notes)


def decode_picture(name: str, content: bytes) -> Raster:
    """Decode a picture of any kind that is read, whatever the end of its name.

    Raises:
        FormatError: it cannot be read, or does not fit in memory.
    """
    if is_tiff(content):
        return decode_tiff(name, content)
    kind = "picture"
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of large ones, which are checked here
            Image.open(io.BytesIO(content), formats=KINDS) as picture,
        ):
            kind = f"{picture.format} image"
            check_size(name, picture.width * picture.height * len(picture.getbands()))
            values = _values(picture, content)
            orientation = _orientation(picture)
            frames = getattr(picture, "n_frames", 1)
    except FormatError:
        raise
    except Image.DecompressionBombError as error:
        raise FormatError(f"{name} is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise FormatError(f"{name} must be {KINDS_READ}, got something else") from error
    except Exception as error:  # of a file that is broken, any
        raise FormatError(f"{name} must be a readable {kind}, got: {error}") from error
    if values.ndim == 3 and values.shape[2] in ALPHA_CHANNELS:
        values = values[..., :3] if values.shape[2] > 3 else values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise FormatError(f"{name} must have one channel, or those of RGB, got {values.shape}")
    remarks = (f"Of {frames} frames the first is taken.",) if frames > 1 else ()
    return Raster(values, orientation, remarks)


def encode_label_png(label_map: LabelMap, notes: LabelNotes) -> bytes:
    """Return a label map (H, W) as PNG of 8 or 16 bits, with the notes as its comment."""
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Comment", notes.as_json())
    content = io.BytesIO()
    Image.fromarray(label_map).save(content, "PNG", pnginfo=texts)
    return content.getvalue()


def _orientation(picture: Image.Image) -> int:
    """Return what Exif says; a broken one says nothing."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # Pillow's reader raises many kinds
        return UPRIGHT


def _values(picture: Image.Image, content: bytes) -> NDArray[Any]:
    """Return grey as it is stored, black and white as 0 and 255, and anything else as RGB."""
    decoder = DECODERS.get(picture.format or "")
    if decoder is not None:
        return decoder(content)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    is_kept = picture.mode in VALUES_AS_THEY_ARE
    return np.asarray(picture if is_kept else picture.convert("RGB"))
