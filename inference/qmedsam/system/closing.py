"""What has an end, as a context manager."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class ClosedAtTheEnd:
    """A `with` block calls `close` at its end, whatever happens in it."""

    def close(self) -> None:
        """End what there is to end."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
