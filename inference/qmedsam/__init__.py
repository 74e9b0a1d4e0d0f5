"""QMedSAM Service: box prompts in, label maps out, on an ordinary processor."""

from .config import Settings
from .core.segmentation import RatedLabelMap
from .errors import InferenceError, InvalidCaseError, ModelError
from .segmenter import Segmenter
from .session import Session
from .version import __version__

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
