"""The ways to run the service: the wheel, the checkout in place, and predict.sh without either."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qmedsam import __version__
from tests.conftest import EXAMPLES, ROOT

pytestmark = pytest.mark.model

CASE = EXAMPLES / "2DBox_Fundus_retina.npz"
WHERE = ["python", "-P", "-c", "import qmedsam; print(qmedsam.__path__[0])"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    """One cache of compiled models for all runs."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folders(tmp_path) -> tuple[str, str]:
    """A folder with a case, and the name of one for its label map."""
    (tmp_path / "in").mkdir()
    shutil.copy(CASE, tmp_path / "in" / "case.npz")
    return str(tmp_path / "in"), str(tmp_path / "out")


def check_segmented(output: str) -> None:
    assert [path.name for path in Path(output).iterdir()] == ["case.npz"]
    with np.load(Path(output) / "case.npz") as archive:
        assert set(np.unique(archive["segs"])) == {0, 1, 2}


def test_nothing_is_installed_in_an_empty_environment(empty):
    with pytest.raises(AssertionError, match="No module named 'qmedsam'"):
        empty.run(WHERE)


def test_the_wheel_in_an_empty_environment_segments_with_the_model_that_ships(
    installed, folders, cache
):
    found = Path(installed.run(WHERE).strip())
    assert found.is_relative_to(installed.folder)
    inputs, output = folders
    installed.run(["qmedsam", "-i", inputs, "-o", output, "--cache-dir", cache])
    check_segmented(output)


def test_the_installed_command_knows_its_version(installed):
    assert installed.run(["qmedsam", "--version"]).strip() == f"qmedsam {__version__}"
    assert installed.run(["python", "-m", "qmedsam", "--version"]).split()[1] == __version__


def test_the_editable_install_is_the_checkout_and_segments(editable, folders, cache):
    assert Path(editable.run(WHERE).strip()) == ROOT / "inference" / "qmedsam"
    inputs, output = folders
    editable.run(["qmedsam", "-i", inputs, "-o", output, "--cache-dir", cache])
    check_segmented(output)


def test_predict_sh_in_a_checkout_needs_no_install_and_passes_options_on(empty, folders, cache):
    inputs, output = folders
    command = ["sh", "predict.sh", "--cache-dir", cache, "--box-batch-size", "1"]
    empty.run(command, cwd=ROOT, INPUT_DIR=inputs, OUTPUT_DIR=output)
    check_segmented(output)


@pytest.mark.parametrize("is_linked", [False, True], ids=["by its path", "through a link"])
def test_predict_sh_runs_from_any_folder(empty, folders, cache, tmp_path, is_linked):
    checkout = tmp_path / "a checkout of mine"
    checkout.mkdir()
    shutil.copy(ROOT / "predict.sh", checkout)
    for name in ("inference", "models"):
        (checkout / name).symlink_to(ROOT / name)
    program = checkout / "predict.sh"
    if is_linked:
        (tmp_path / "segment").symlink_to(program)
        program = tmp_path / "segment"
    inputs, output = folders
    command = ["sh", str(program), "--cache-dir", cache]
    empty.run(command, cwd=Path("/"), INPUT_DIR=inputs, OUTPUT_DIR=output)
    check_segmented(output)
