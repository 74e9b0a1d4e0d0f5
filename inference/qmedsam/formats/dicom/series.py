"""Which of several series is taken, and which broken files matter to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from ...system.files import printable
from ..scan import FormatError, SeveralSeriesError
from .headers import BrokenFile, Header, Headers

MOST_LISTED = 8  # series or volumes, in a message


def choose_series(found: Headers, name: str, series: str | None) -> list[Header]:
    """Return the files of a series by its number or UID; None is the only one.

    Raises:
        SeveralSeriesError: there are several.
        FormatError: there is none of that number or UID, or a file that may belong to it is broken.
    """
    if not found.images:
        raise _nothing(found, name)
    by_uid: dict[str, list[Header]] = {}
    for header in found.images:
        by_uid.setdefault(header.series_uid, []).append(header)
    chosen = [
        uid
        for uid, headers in by_uid.items()
        if series is None or series in (uid, headers[0].attributes.lenient("SeriesNumber"))
    ]
    if len(chosen) == 1:
        _check_broken(by_uid[chosen[0]], found.broken)
        return by_uid[chosen[0]]
    choices = [(uid, _described(by_uid[uid])) for uid in chosen or by_uid]
    listed = in_short([f"{text}, UID {printable(uid)}" for uid, text in choices])
    if not chosen:
        raise FormatError(f"{name} must hold a series {series}, got {listed}")
    raise SeveralSeriesError(
        f"{name} must hold one series; choose with --series, got {len(chosen)}: {listed}", choices
    )


def in_short(texts: Sequence[str]) -> str:
    """Return a list for a message, of which the first are named."""
    return "; ".join(texts[:MOST_LISTED]) + ("; ..." if len(texts) > MOST_LISTED else "")


def _described(headers: list[Header]) -> str:
    first = headers[0].attributes
    what = f"{first.shown('Modality')} {first.shown('SeriesDescription')}".strip()
    return f"{first.shown('SeriesNumber') or '?'}: {what}, {len(headers)} files"


def _check_broken(chosen: list[Header], broken: list[BrokenFile]) -> None:
    """Check that no slice is missing because its file is broken.

    A file that does not say of which series it is may be of this one if it lies beside files of it.

    Raises:
        FormatError: one may be.
    """
    folders = {PurePath(header.file.name).parent for header in chosen}
    mattering = [
        each
        for each in broken
        if each.series_uid == chosen[0].series_uid
        or (not each.series_uid and PurePath(each.name).parent in folders)
    ]
    if mattering:
        more = f" ({len(mattering) - 1} more like it)" if len(mattering) > 1 else ""
        raise FormatError(f"{mattering[0].problem}{more}")


def _nothing(found: Headers, name: str) -> FormatError:
    """Return an error: there is no image at all."""
    if found.broken:
        return FormatError(found.broken[0].problem)
    what = ", ".join(sorted(set(found.others))) or "no DICOM"
    return FormatError(f"{name} must be readable DICOM with pixels, got {what}")
