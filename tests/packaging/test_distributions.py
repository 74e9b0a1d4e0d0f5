"""What the wheel and the source distribution hold, and what they ask pip for."""

from __future__ import annotations

import ast
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

from qmedsam import __version__
from tests.conftest import ROOT
from tests.packaging.conftest import build

PACKAGE = ROOT / "inference" / "qmedsam"
RUNTIME = {"numpy", "opencv-python-headless", "openvino", "isal"}
# The sub-package that each extra is for.
OF_EXTRAS = {"io": "formats", "web": "web", "cluster": "cluster"}
COMMAND = [PACKAGE / "__init__.py", PACKAGE / "__main__.py"]


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel, tmp_path_factory) -> Distribution:
    folder = tmp_path_factory.mktemp("metadata")
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if ".dist-info/" in name]
        archive.extractall(folder, members)
    return Distribution.at(folder / f"qmedsam-{__version__}.dist-info")


def files_below(folder: Path) -> set[str]:
    """Return the files of a folder of the checkout that are not made by working in it."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".onnx"}
    }


def test_the_wheel_holds_the_package_and_the_models_and_nothing_else(names):
    own = {name for name in names if ".dist-info/" not in name}
    expected = {f"qmedsam/{name}" for name in files_below(PACKAGE)}
    expected |= {f"qmedsam/models/{name}" for name in files_below(ROOT / "models")}
    assert own == expected
    assert {name.split("/")[0] for name in names - own} == {f"qmedsam-{__version__}.dist-info"}


def test_the_wheel_is_typed_and_has_the_page_and_both_models(names):
    assert {"qmedsam/py.typed", "qmedsam/web/static/index.html"} < names
    for variant in ("float", "int8"):
        assert f"qmedsam/models/{variant}/encoder.bin" in names


def test_the_source_distribution_makes_the_same_wheel_and_holds_no_tests(names, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"qmedsam-{__version__}"
    assert not list(source.rglob("test*"))
    build(source, tmp_path / "again", "wheel")
    with zipfile.ZipFile(next((tmp_path / "again").iterdir())) as archive:
        assert set(archive.namelist()) == names


def test_the_description_has_no_links_that_hold_in_a_checkout_only(metadata):
    description = metadata.metadata.get_payload()
    assert description.startswith("# QMedSAM Service")
    targets = re.findall(r"\]\(([^)]*)\)", description)
    assert [target for target in targets if not target.startswith("https://")] == []


def requirements(package: Distribution, extra: str = "") -> set[str]:
    """Return the packages that one asks for, with an extra if any."""
    return {
        requirement.name
        for requirement in map(Requirement, package.requires or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    }


def with_their_own(names: set[str]) -> set[str]:
    """Add what packages ask for themselves, as those on this machine do."""
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        left |= requirements(distribution(name)) - found
    return found


def imports(path: Path) -> Iterator[str | Path]:
    """Yield what a module imports: an outside library by name, a module of the package by file.

    Imports inside functions count, too.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1]
            base = folder.joinpath(*(node.module or "").split("."))
            yield from own_modules([base, *(base / alias.name for alias in node.names)])


def own_modules(bases: list[Path]) -> Iterator[Path]:
    for base in bases:
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                yield path


def libraries(paths: list[Path]) -> set[str]:
    """Return the outside libraries that modules import, and all that these import in turn."""
    found: set[str] = set()
    seen, left = set(), list(paths)
    while left:
        path = left.pop()
        if path not in seen:
            seen.add(path)
            imported = list(imports(path))
            found |= {each for each in imported if isinstance(each, str)}
            left += [each for each in imported if isinstance(each, Path)]
    return found - sys.stdlib_module_names


def providers(library: str) -> set[str]:
    return set(packages_distributions()[library])


def test_pip_installs_the_runtime_and_nothing_else(metadata):
    assert requirements(metadata) == RUNTIME


def test_the_runtime_is_what_the_folder_command_imports():
    imported = libraries(COMMAND)
    assert all(providers(library) & RUNTIME for library in imported), imported
    assert len(imported) == len(RUNTIME)


def test_there_is_an_extra_for_each_sub_package_that_needs_more(metadata):
    assert set(metadata.metadata.get_all("Provides-Extra")) == set(OF_EXTRAS)


@pytest.mark.parametrize("extra", OF_EXTRAS)
def test_pip_installs_with_an_extra_what_its_code_imports(metadata, extra):
    imported = libraries(sorted((PACKAGE / OF_EXTRAS[extra]).glob("*.py")))
    assert imported - libraries(COMMAND), "it needs no extra"
    installed = with_their_own(requirements(metadata, extra))
    lacking = [library for library in imported if not providers(library) & installed]
    assert lacking == []


def pins(name: str) -> dict[str, str]:
    """Return the versions that a file of requirements pins, by package."""
    lines = (ROOT / name).read_text().splitlines()
    return dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([^\s\\]+)", "\n".join(lines), re.MULTILINE))


def test_the_pinned_versions_fit_the_ranges_of_the_package(metadata):
    pinned = pins("requirements.txt")
    assert set(pinned) == RUNTIME
    for requirement in map(Requirement, metadata.requires or []):
        if requirement.marker is None:
            assert pinned[requirement.name] in requirement.specifier


def test_the_container_installs_the_pinned_versions():
    assert pins("requirements.lock") == pins("requirements.txt")


@pytest.mark.parametrize("group", ["train", "bench", "test", "dev"])
def test_each_package_of_a_group_is_pinned_as_elsewhere(group):
    folders = {"train": "training", "bench": "benchmarks", "test": "tests", "dev": ".ci"}
    pinned = pins(str(PurePosixPath(folders[group]) / "requirements.txt"))
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    named = {Requirement(each).name for each in groups[group] if isinstance(each, str)}
    assert named <= set(pinned)
    for folder in folders.values():
        for name, version in pins(f"{folder}/requirements.txt").items():
            assert pinned.get(name, version) == version, name
