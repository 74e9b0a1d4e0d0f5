"""Which volume of a file that holds several."""

from __future__ import annotations

from .scan import FormatError, SeveralVolumesError


def choose_volume(name: str, volume: int | None, *, count: int, shape: tuple[int, ...]) -> int:
    """Return the index of the volume to take, from 0.

    Args:
        name: of the file, for messages.
        volume: the number, from 1, that was asked for; None is the only one.
        count: how many there are.
        shape: of one of them, for messages.

    Raises:
        SeveralVolumesError: there are several, and none was asked for.
        FormatError: there is no such one.
    """
    voxels = " x ".join(str(side) for side in shape)
    if volume is None and count > 1:
        raise SeveralVolumesError(
            f"{name} must hold one volume; choose with --volume, got {count} of {voxels} voxels: "
            f"1 to {count}",
            [(number, f"{number} of {count}") for number in range(1, count + 1)],
        )
    number = 1 if volume is None else volume
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= count:
        raise FormatError(
            f"{name} must hold a volume {number!r}, got 1 to {count} of {voxels} voxels"
        )
    return number - 1
