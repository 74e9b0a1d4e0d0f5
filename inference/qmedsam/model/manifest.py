"""What the exporter wrote about a model: its name, its frame and the digests of its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..core.contract import (
    CONTRACT_VERSION,
    DECODER_FILE,
    ENCODER_FILE,
    ENCODER_REST_FILE,
    LITE_MEDSAM_IMAGE_SIZE,
    MANIFEST_FILE,
    MEDSAM_IMAGE_SIZE,
    Grid,
    grids_up_to,
)
from ..errors import ModelError
from ..system.files import open_regular

T = TypeVar("T")
IMAGE_SIZES = (LITE_MEDSAM_IMAGE_SIZE, MEDSAM_IMAGE_SIZE)


@dataclass(frozen=True)
class Manifest:
    """What the exporter wrote about a model.

    Attributes:
        name: of the network.
        precision: in which the weights are stored.
        image_size: side of the model frame in pixels.
        sha256: digest of each file by its name.
        folder: of the model.
        shared: name of the folder beside it that has the files which it lacks, being those of
            another model, too; empty where it has all.
    """

    name: str
    precision: str
    image_size: int
    sha256: dict[str, str]
    folder: Path = Path()
    shared: str = ""

    @property
    def whole_grid(self) -> Grid:
        """The grid that is the model frame."""
        return self.image_size, self.image_size

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids that the encoder can be put on: of a network of another size only the whole.

        Neither are graphs rewritten that are not those of `training.graphs.inference_graphs`, of
        which the encoder is cut in two.
        """
        if self.image_size == LITE_MEDSAM_IMAGE_SIZE and ENCODER_REST_FILE in self.sha256:
            return grids_up_to(self.image_size)
        return (self.whole_grid,)

    @property
    def paths(self) -> list[Path]:
        """All files of the model, the manifest first."""
        return [self.folder / MANIFEST_FILE, *map(self.path, self.sha256)]

    def path(self, name: str) -> Path:
        """Return where a file of the model lies.

        Raises:
            OSError: its folder cannot be looked at, or its name cannot be that of a file.
        """
        own = self.folder / name
        if own.is_file() or not self.shared:
            return own
        return self.folder.parent / self.shared / name


def _of_type(document: Any, key: str, kind: type[T]) -> T:
    value = document[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} must be {kind.__name__}, got {value!r:.50}")
    return value


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def encoder_paths(manifest: Manifest) -> list[Path]:
    """Return the IR of an exported encoder, which is in one file or cut in two."""
    files = (ENCODER_FILE, ENCODER_REST_FILE)
    return [manifest.path(file) for file in files if file in manifest.sha256]


def read_manifest(model_dir: Path) -> Manifest:
    """Read the manifest of a model folder and check that its files are there.

    Raises:
        ModelError: the manifest, a digest or a file is missing or malformed, or of another
            contract.
    """
    path = model_dir / MANIFEST_FILE
    try:
        with open_regular(path) as stream:
            document = json.loads(stream.read().decode())
        version = document["contract_version"]
        manifest = Manifest(
            name=_of_type(document, "name", str),
            precision=_of_type(document, "precision", str),
            image_size=_of_type(document, "image_size", int),
            sha256=_of_type(document, "sha256", dict),
            folder=model_dir,
            shared=_of_type({"shared": "", **document}, "shared", str),
        )
    except OSError as error:
        raise ModelError(f"Model folder {model_dir} has no readable {MANIFEST_FILE}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a manifest: {error!r}") from error
    if manifest.image_size not in IMAGE_SIZES:
        raise ModelError(
            f"{path} must have an image_size of {IMAGE_SIZES}, got {manifest.image_size}"
        )
    if "/" in manifest.shared or manifest.shared == "..":
        raise ModelError(f"{path} must name a folder beside it as shared, got {manifest.shared!r}")
    if version != CONTRACT_VERSION:
        raise ModelError(f"{path} must have contract version {CONTRACT_VERSION}, got {version}")
    graphs = {ENCODER_FILE, DECODER_FILE} | ({ENCODER_REST_FILE} & manifest.sha256.keys())
    needed = graphs | {Path(name).with_suffix(".bin").name for name in graphs}
    unnamed = sorted(needed - manifest.sha256.keys())
    if unnamed:
        raise ModelError(f"{path} must have the SHA-256 of {', '.join(unnamed)}")
    try:
        missing = sorted(name for name in manifest.sha256 if not manifest.path(name).is_file())
    except OSError as error:
        raise ModelError(f"{path} must name files and folders, got: {error}") from error
    if missing:
        raise ModelError(f"Model folder {model_dir} lacks {', '.join(missing)}")
    return manifest
