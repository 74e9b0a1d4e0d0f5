"""Files for the commands that take one."""

from __future__ import annotations

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
VOLUME = np.random.default_rng(1).integers(1, 1000, (40, 30, 8)).astype(np.int16)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])  # right, front, up


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), IMAGE[..., ::-1])
    return path


@pytest.fixture
def nifti(tmp_path) -> Path:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), path)
    return path
