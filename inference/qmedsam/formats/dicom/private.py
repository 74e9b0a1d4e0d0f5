"""What this program says in DICOM files of its own, in a private block behind all that is there."""

from __future__ import annotations

import io
import json

from pydicom.dataset import Dataset as PydicomDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_partial
from pydicom.filewriter import write_dataset

from ..seal import OPEN_SEAL
from .attributes import Dataset

GROUP = 0x7FE1  # behind pixels; an odd one, as private ones are
CREATOR = "QMEDSAM"
SEAL_ELEMENT = 1


def with_open_seal(content: bytes) -> bytes:
    """Return a DICOM file with room for a seal at its end.

    Args:
        content: of the file, with no element of a higher group, and not deflated as a whole.
    """
    header = read_partial(io.BytesIO(content), stop_when=lambda *_: True)
    syntax = header.file_meta.TransferSyntaxUID
    more: Dataset = PydicomDataset()
    block = more.private_block(GROUP, CREATOR, create=True)
    block.add_new(SEAL_ELEMENT, "UT", json.dumps(OPEN_SEAL))
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = True, syntax.is_implicit_VR
    write_dataset(written, more)
    return content + written.getvalue()
