"""Which volume of a file that holds several."""

from __future__ import annotations

from .scan import FormatError


def choose_volume(name: str, volume: int | None, *, count: int, shape: tuple[int, ...]) -> int:
    """Return the number of the volume to take, from 0.

    Args:
        name: of the file, for messages.
        volume: that was asked for; None is the only one.
        count: how many there are.
        shape: of one of them, for messages.

    Raises:
        FormatError: there are several and none was asked for, or there is no such one.
    """
    voxels = " x ".join(str(side) for side in shape)
    if volume is None:
        if count == 1:
            return 0
        raise FormatError(
            f"{name} must hold one volume, got {count} of {voxels} voxels: choose one with "
            f"--volume 0 to {count - 1}"
        )
    if isinstance(volume, bool) or not isinstance(volume, int) or not 0 <= volume < count:
        raise FormatError(
            f"{name} holds {count} of {voxels} voxels: --volume must be 0 to {count - 1}, got "
            f"{volume!r}"
        )
    return volume
