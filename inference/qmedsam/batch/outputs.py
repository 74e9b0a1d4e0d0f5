"""What a run leaves of each case: its label map and, where that is wanted, its picture.

What is there already is replaced where an earlier run left it, or where that is asked for.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import OnError
from ..core.postprocess import LabelMap
from ..errors import OutputError
from ..system.files import printable, write_bytes
from .cases import CASE_SUFFIX, write_label_map
from .overlay import Picture
from .png import encode_png, is_own_picture, is_picture_of
from .results import is_own_label_map, is_result

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """What a run leaves behind.

    Attributes:
        output_dir: folder of the label maps.
        overlay_dir: folder of the pictures; None draws none.
        measures_memory: begin a new memory peak with each case. The kernel's figure of the whole
            process begins anew too, so that this is off unless it is asked for.
        on_error: `empty` leaves a label map of background for a case that failed, where the shape
            of its pixels can be read; `skip` leaves none.
        maker: model and settings, as of `results.maker_of`; label maps are marked with it.
        keeps_earlier: a whole label map that is there already is kept, and its case not run again,
            where it is of the same inputs, model and settings.
        overwrites: files that are no label maps of an earlier run are replaced, too.
    """

    output_dir: Path
    overlay_dir: Path | None = None
    measures_memory: bool = False
    on_error: OnError = "skip"
    maker: str = ""
    keeps_earlier: bool = False
    overwrites: bool = False


class CaseOutputs:
    """The files of one case.

    Args:
        case: its file.
        outputs: of the run; the folders exist.
    """

    def __init__(self, case: Path, outputs: Outputs) -> None:
        self._shown = printable(case)
        self._overwrites = outputs.overwrites
        self._label_map = outputs.output_dir / case.name
        folder = outputs.overlay_dir
        self._picture = None if folder is None else folder / picture_name(case.name)

    def are_done(self, mark: bytes) -> bool:
        """Say whether an earlier run left all that is wanted, made of what the mark says."""
        is_drawn = self._picture is None or is_picture_of(self._picture, mark)
        return is_drawn and is_result(self._label_map, mark)

    def write(
        self, label_map: LabelMap, mark: bytes = b"", info: NDArray[np.str_] | None = None
    ) -> None:
        """Write the label map; see `write_label_map`.

        Raises:
            OutputError: it cannot be written, or would take the place of something else.
        """
        path = self._label_map
        # Of a link no more is replaced than the link.
        is_kept = os.path.exists(path) and not os.path.islink(path)
        if is_kept and not self._overwrites and not is_own_label_map(path):
            raise OutputError(
                f"{printable(path)} must be a label map of an earlier run to be replaced, "
                "and is something else; --overwrite replaces it"
            )
        try:
            write_label_map(path, label_map, mark, info)
        except OSError as error:
            raise OutputError(f"Label map cannot be written: {error}") from error

    def draw(self, picture: Picture, mark: bytes) -> None:
        """Write the picture of a case whose label map is safe, with the same mark.

        Raises:
            OutputError: it cannot be written, or would take the place of something else.
        """
        path = self._picture
        assert path is not None, "no picture is wanted"
        if path.exists() and not self._overwrites and not is_own_picture(path):
            raise OutputError(
                f"{printable(path)} is no picture of an earlier run; --overwrite replaces it"
            )
        content = encode_png(picture, mark)
        try:
            write_bytes(path, content)
        except OSError as error:
            raise OutputError(f"It cannot be written: {error}") from error

    def discard(self) -> None:
        """Remove what an earlier run left of a case that has failed now."""
        if is_own_label_map(self._label_map):
            self._remove(self._label_map, "label map")
        self.discard_picture()

    def discard_picture(self) -> None:
        """Remove the picture that an earlier run left of a case that has none now."""
        if self._picture is not None and is_own_picture(self._picture):
            self._remove(self._picture, "picture")

    def _remove(self, path: Path, what: str) -> None:
        try:
            path.unlink()
        except OSError as error:
            logger.error("%s: its %s of an earlier run stays: %s", self._shown, what, error)
            return
        logger.warning("%s: its %s of an earlier run is removed", self._shown, what)


def picture_name(case_name: str) -> str:
    """Return the name of the picture of a case, which no other case's picture has.

    Letters of the ending keep their case: `a.npz` becomes `a.png`, `a.NPZ` becomes `a.PNG`.
    """
    stem, ending = case_name[: -len(CASE_SUFFIX)], case_name[-len(CASE_SUFFIX) :]
    return stem + ending.translate(str.maketrans("npzNPZ", "pngPNG"))
