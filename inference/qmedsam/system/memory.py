"""How much memory this process may use, and how much it has used; Linux interfaces.

Where an interface is absent, the next one is asked, and physical memory last.
"""

from __future__ import annotations

import os
import resource

from ..errors import ModelError
from . import cgroups

# What the float model takes in f32 with one box in a batch, the case itself left out.
BASE_BYTES = 500 << 20
# What it takes more for each further grid whose encoder stays ready (docs/decisions.md), and the
# share of what the limit leaves beside the model that such encoders may take.
ENCODER_BYTES = 260 << 20
ENCODERS_SHARE = 0.2
MOST_ENCODERS = 3
# Growth of resident memory per box in a batch, measured on the exported decoder in f32.
DECODER_BYTES_PER_BOX = 40 << 20
# By precision: larger batches are little quicker for their memory (docs/decisions.md).
LARGEST_BOX_BATCH = {"f32": 2, "bf16": 4}
# What is read of a case may take this share of what the limit leaves beside the model: a case may
# be read, segmented and written at once, and its label map be twice as large as it is.
CASE_SHARE = 0.2


def memory_limit_bytes() -> int:
    """Return the smallest limit that applies: cgroup v2, cgroup v1 or physical memory."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = cgroups.read_limits("memory", "memory.max", "memory.limit_in_bytes")
    return min([physical, *(int(text) for text in limits if text.isdigit())])


def check_memory() -> None:
    """Check that the memory limit leaves room for cases beside the model.

    Raises:
        ModelError: it does not.
    """
    limit = memory_limit_bytes()
    if _beside_the_model_bytes() == 0:
        raise ModelError(
            f"The model takes {BASE_BYTES >> 20} MB of memory and cases need more beside it, the "
            f"limit is {limit >> 20} MB"
        )


def largest_array_bytes() -> int:
    """Return how large the arrays of a case may be, so that the memory limit is kept."""
    return int(_beside_the_model_bytes() * CASE_SHARE)


def largest_label_map_bytes() -> int:
    """Return how large a label map may be that is read, beside which there is no case."""
    return _beside_the_model_bytes() // 2


def automatic_box_batch_size(precision: str) -> int:
    """Return how many boxes to decode at once so that the memory limit is kept.

    It depends on the limit alone, and so do masks, which another batch may round otherwise.

    Args:
        precision: of the decoder, f32 or bf16.
    """
    boxes = _beside_the_model_bytes() // (2 * DECODER_BYTES_PER_BOX)
    return max(1, min(LARGEST_BOX_BATCH[precision], boxes))


def automatic_encoders() -> int:
    """Return for how many grids the encoders may stay ready so that the memory limit is kept.

    Masks do not depend on it: a grid whose encoder had to make room is compiled anew.
    """
    further = int(_beside_the_model_bytes() * ENCODERS_SHARE) // ENCODER_BYTES
    return min(MOST_ENCODERS, 1 + further)


def peak_memory_bytes() -> int:
    """Return the peak of resident memory since the start or the last reset."""
    peak = _status_kib("VmHWM")
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * 1024


def reset_peak_memory() -> None:
    """Begin a new peak where the system allows it; otherwise the old one stays."""
    try:
        (cgroups.PROC_SELF / "clear_refs").write_text("5")
    except OSError:
        return


def _beside_the_model_bytes() -> int:
    return max(0, memory_limit_bytes() - BASE_BYTES)


def _status_kib(field: str) -> int | None:
    for line in cgroups.read_text(cgroups.PROC_SELF / "status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return None
