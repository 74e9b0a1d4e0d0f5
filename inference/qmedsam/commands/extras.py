"""Libraries that a command needs beyond those of the folder command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InferenceError


class MissingLibraryError(InferenceError):
    """A library of an extra is not installed."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Say what to install where an import within fails.

    Args:
        extra: of the package, which installs what is imported.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingLibraryError(
            f"The libraries of the extra {extra!r} must be installed, got: {error}; pip install "
            f"'.[{extra}]' in a checkout of the repository installs them"
        ) from error
