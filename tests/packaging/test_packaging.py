"""What `pip install .` puts on a user's machine, and what a checkout promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from qmedsam import __version__
from tests.conftest import EXAMPLES, ROOT
from tests.qmedsam.test_imports import OF_EXTRAS, PACKAGE, imports

pytestmark = pytest.mark.model

RUNTIME = {"numpy", "opencv-python-headless", "openvino", "isal"}
PACKAGE_OF = {"io": "formats", "web": "web", "cluster": "cluster"}
SOURCES = ["inference", "models", "LICENSE", "README.md", "pyproject.toml"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds just what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.onnx")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def run_installed(installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "qmedsam", *arguments]
    result = subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_only_the_package_lands_in_site_packages(installed):
    names = {path.name for path in installed.iterdir()}
    assert names == {"qmedsam", f"qmedsam-{__version__}.dist-info"}


@pytest.fixture(scope="module")
def wheel(installed) -> Distribution:
    return Distribution.at(installed / f"qmedsam-{__version__}.dist-info")


def asked_for(package: Distribution, extra: str = "") -> set[str]:
    """Return the packages that one asks for, with an extra if any, those of other extras too."""
    found: set[str] = set()
    for requirement in map(Requirement, package.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            if requirement.name == package.name:
                found |= {name for each in requirement.extras for name in asked_for(package, each)}
            else:
                found.add(requirement.name)
    return found


def with_their_own(names: set[str]) -> set[str]:
    """Add what packages ask for themselves, as those on this machine do."""
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        left |= asked_for(distribution(name)) - found
    return found


def test_pip_installs_the_runtime_and_nothing_else(wheel):
    assert asked_for(wheel) == RUNTIME


def test_the_wheel_has_the_extra_that_each_command_asks_for(wheel):
    assert set(wheel.metadata.get_all("Provides-Extra")) == set(PACKAGE_OF)


@pytest.mark.parametrize("extra", PACKAGE_OF)
def test_pip_installs_with_an_extra_what_its_code_imports(wheel, extra):
    names = with_their_own(asked_for(wheel, extra))
    assert asked_for(wheel, extra) > RUNTIME
    own = PACKAGE_OF[extra]
    reached = {
        module.split(".")[0]
        for path in (PACKAGE / own).glob("*.py")
        for module, is_relative in imports(path)
        if is_relative
    }
    for package in {own} | (reached & set(OF_EXTRAS)):
        for library in OF_EXTRAS[package]:
            providers = set(packages_distributions()[library])
            assert providers & names, f"{extra} lacks {library}, which {package} imports"


def test_the_installed_command_segments_with_the_model_that_ships(installed, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(EXAMPLES / "2DBox_Fundus_retina.npz", tmp_path / "in" / "case.npz")
    cache = ["--cache-dir", str(tmp_path / "cache")]
    run_installed(installed, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *cache)
    with np.load(tmp_path / "out" / "case.npz") as archive:
        assert set(np.unique(archive["segs"])) == {0, 1, 2}


def test_the_installed_command_knows_its_version(installed):
    assert run_installed(installed, "--version").strip() == f"qmedsam {__version__}"


def test_predict_sh_is_posix_and_passes_options_on(tmp_path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "INPUT_DIR": str(EXAMPLES),
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    command = ["sh", "predict.sh", "--cache-dir", str(tmp_path / "cache"), "--box-batch-size", "1"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(path.name for path in EXAMPLES.iterdir())


def test_the_pinned_versions_fit_the_ranges_of_the_package():
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().split() if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for dependency in project["dependencies"]:
        name, _, rest = dependency.partition(">=")
        lowest, _, highest = rest.partition(",<")
        version = [int(part) for part in pins.pop(name).split(".")]
        assert version >= [int(part) for part in lowest.split(".")]
        assert not highest or version < [int(part) for part in highest.split(".")]
    assert pins == {}


def test_the_image_carries_the_version_of_the_package():
    label = f'org.opencontainers.image.version="{__version__}"'
    assert label in (ROOT / "Dockerfile").read_text()
