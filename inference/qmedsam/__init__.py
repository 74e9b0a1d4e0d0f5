"""QMedSAM Service: box prompts in, label maps out, on an ordinary processor.

What is exported is imported when it is first asked for: the command handles signals before that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .config import Settings
    from .core.segmentation import RatedLabelMap
    from .errors import InferenceError, InvalidCaseError, ModelError
    from .segmenter import Segmenter
    from .session import Session

__all__ = [
    "InferenceError",
    "InvalidCaseError",
    "ModelError",
    "RatedLabelMap",
    "Segmenter",
    "Session",
    "Settings",
    "__version__",
]
_MODULES = {
    "InferenceError": "errors",
    "InvalidCaseError": "errors",
    "ModelError": "errors",
    "RatedLabelMap": "core.segmentation",
    "Segmenter": "segmenter",
    "Session": "session",
    "Settings": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
