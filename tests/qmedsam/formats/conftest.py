"""DICOM to read: files of pydicom itself, and a series made of one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

SPACING_MM = 2.5
OF_ANOTHER_PROGRAM = {  # what highdicom asks of a SEG
    "series_instance_uid": "1.2.3.4.9",
    "series_number": 9,
    "sop_instance_uid": "1.2.3.4.9.1",
    "instance_number": 1,
    "manufacturer": "Other",
    "manufacturer_model_name": "Program",
    "software_versions": "1",
    "device_serial_number": "1",
}


def pydicom_file(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def series(folder: Path, count: int = 6, *, step=SPACING_MM, **attributes) -> Path:
    """Write slices of a CT under names out of order, each brighter than the one below it."""
    folder.mkdir()
    uid = generate_uid()
    for number in range(count):
        dataset = pydicom.dcmread(pydicom_file("CT_small.dcm"))
        dataset.SeriesInstanceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + step * number]
        dataset.InstanceNumber = number + 1
        values = np.full((128, 128), 24 + 100 * number, dtype=np.int16)  # -1000 to -500 HU
        values[:, :64] += 1024
        dataset.PixelData = values.tobytes()
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / f"{(number * 5) % 7}.dcm")
    (folder / "notes.txt").write_text("beside the slices")
    return folder
