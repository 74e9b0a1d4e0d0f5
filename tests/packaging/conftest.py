"""The distributions, built once of a checkout in use, and environments to install them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = (
    *("inference", "models", "tests/packaging"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"),
)
# What lies in a checkout that was worked in, and must not be installed.
LEFTOVERS = (
    "build/lib/qmedsam/deleted.py",
    "dist/qmedsam-0.0.1.tar.gz",
    "inference/qmedsam/__pycache__/deleted.cpython-311.pyc",
    "models/float/encoder.onnx",
)
LIBRARIES = ("numpy", "cv2", "openvino", "isal", "hatchling", "editables", "pathspec")


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the libraries of this one, but without its qmedsam."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def install(self, *arguments: str) -> None:
        """Install something by pip, without a network."""
        command = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install"]
        self.run([*command, "--quiet", "--no-deps", "--no-index", *arguments])

    def run(self, command: list[str], *, cwd: Path | None = None, **variables: str) -> str:
        """Run a command with this environment's programs first, and return what it writes."""
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        result = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={**outside, "PATH": f"{self.bin}{os.pathsep}{outside['PATH']}", **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}"
        return result.stdout


def create_environment(folder: Path) -> Environment:
    venv.create(folder, symlinks=True)
    found = {name: find_spec(name) for name in LIBRARIES}
    lines = {str(Path(spec.origin).parents[1]) for spec in found.values() if spec and spec.origin}
    # The paths that a .pth names are not searched for other ones: editable installs stay outside.
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "libraries.pth").write_text("\n".join(sorted(lines)))
    return Environment(folder)


def build(source: Path, folder: Path, *targets: str) -> None:
    """Build distributions of a source; a warning is an error."""
    chosen = [word for target in targets for word in ("--target", target)]
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "hatchling",
        "build",
        "--directory",
        str(folder),
    ]
    result = subprocess.run(
        [*command, *chosen], cwd=source, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "warn" not in result.stderr.lower(), result.stderr


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution of a checkout with leftovers."""
    source = tmp_path_factory.mktemp("packaging") / "source"
    for name in SOURCES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        else:
            shutil.copy(ROOT / name, source / name)
    for name in LEFTOVERS:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("left over")
    folder = source.with_name("distributions")
    build(source, folder, "wheel", "sdist")
    return folder


@pytest.fixture(scope="session")
def wheel(distributions) -> Path:
    return next(distributions.glob("*.whl"))


@pytest.fixture(scope="session")
def sdist(distributions) -> Path:
    return next(distributions.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory) -> Environment:
    """An environment in which nothing is installed."""
    return create_environment(tmp_path_factory.mktemp("empty") / "venv")


@pytest.fixture(scope="session")
def installed(tmp_path_factory, wheel) -> Environment:
    """An environment in which the wheel is installed."""
    environment = create_environment(tmp_path_factory.mktemp("installed") / "venv")
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="session")
def editable(tmp_path_factory) -> Environment:
    """An environment in which the checkout is installed in place."""
    environment = create_environment(tmp_path_factory.mktemp("editable") / "venv")
    environment.install("--no-build-isolation", "--editable", str(ROOT))
    return environment
