"""The command line: the list of commands, their help, and which one runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib

import pytest

from qmedsam import __version__
from qmedsam.cli import COMMANDS, build_parser, load, main
from qmedsam.exit_status import DONE, NOTHING_RAN
from tests.conftest import ROOT
from tests.qmedsam.conftest import write_case

# What some commands need and the folder command does without.
OF_EXTRAS = ("nibabel", "pydicom", "highdicom", "PIL", "fastapi", "uvicorn", "ray", "fsspec")
ROOMS_OF_EXTRAS = ("qmedsam.formats", "qmedsam.web", "qmedsam.cluster")


def help_of(words, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == DONE
    return capsys.readouterr().out


def run_python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_all_commands_are_in_the_help_with_a_line_each(capsys):
    shown = " ".join(help_of([], capsys).split())
    for name in COMMANDS:
        assert f"{name} {load(name).HELP}" in shown
    assert "qmedsam -i cases -o masks" in shown
    assert "Exit status" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_its_examples(name, capsys):
    shown = help_of([name], capsys)
    assert shown.startswith(f"usage: qmedsam {name} ")
    assert load(name).EXAMPLES in shown
    assert "Exit status" in shown


@pytest.mark.parametrize(
    "example", [line for name in COMMANDS for line in load(name).EXAMPLES.splitlines()]
)
def test_an_example_has_options_that_there_are(example):
    program, *words = shlex.split(example)
    assert program == "qmedsam"
    name = words.pop(0) if words and words[0] in COMMANDS else "run"
    build_parser(name).parse_args(words)


def test_help_needs_no_extra():
    """Nothing of them can be imported, as where the runtime alone is installed."""
    code = (
        "import sys\n"
        f"for name in {OF_EXTRAS}: sys.modules[name] = None\n"
        "from qmedsam.cli import COMMANDS, main\n"
        "for words in [[], *([name] for name in COMMANDS)]:\n"
        "    try: main([*words, '--help'])\n"
        "    except SystemExit as ended: assert ended.code == 0\n"
    )
    assert run_python(code).count("usage: qmedsam") == 1 + len(COMMANDS)


def test_the_folder_command_imports_no_room_of_an_extra():
    code = (
        "import sys\n"
        "from qmedsam.cli import build_parser, main\n"
        "build_parser()\n"
        "assert main(['-i', '/none', '-o', '/none']) == 2\n"
        f"wanted = {ROOMS_OF_EXTRAS + OF_EXTRAS}\n"
        "print([name for name in sys.modules if name.startswith(wanted)])"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize(
    ("words", "extra", "missing"),
    [
        (["segment", "a.nii", "-o", "b.nii"], "io", "qmedsam.formats.statistics"),
        (["convert", "a.nii", "-o", "b.npz"], "io", "qmedsam.formats.conversion"),
        (["serve"], "web", "qmedsam.web.server"),
        (["cluster", "-i", "in", "-o", "out"], "cluster", "qmedsam.cluster.driver"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_without_its_extra_a_command_says_how_to_get_it(monkeypatch, caplog, words, extra, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    # Where it was imported before, its package has it as an attribute.
    package, _, name = missing.rpartition(".")
    monkeypatch.delattr(sys.modules.get(package, package), name, raising=False)
    assert main(words) == NOTHING_RAN
    assert f"The libraries of the extra '{extra}' must be installed, got: " in caplog.text
    assert f"pip install '.[{extra}]' in a checkout of the repository installs them" in caplog.text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("name", [[], ["run"]], ids=["without-a-name", "run"])
def test_options_without_a_command_are_those_of_run(folders, fake_model, name):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert main([*name, "-i", str(folders[0]), "-o", str(folders[1]), "--quiet"]) == DONE
    assert [path.name for path in folders[1].iterdir()] == ["case.npz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["segmnt", "a.nii"], "invalid choice: 'segmnt'"),
        (["-i", "in"], "the following arguments are required: -o/--output-dir"),
        (["-i", "in", "-o", "out", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["-i", "in", "-o", "out", "--threads", "-1"], "must be a number of 0 or more"),
        (["-i", "in", "-o", "out", "--threads", "x"], "must be a number of 0 or more"),
        (["-i", "in", "-o", "out", "--box-batch-size", "0"], "must be a number of 1 or more"),
    ],
)
def test_wrong_words_exit_with_2(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == NOTHING_RAN
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["-i", "in", "-o", "out"], *([name] for name in COMMANDS)])
def test_the_version_is_printed(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--version"])
    assert stopped.value.code == DONE
    assert capsys.readouterr().out.strip() == f"qmedsam {__version__}"
