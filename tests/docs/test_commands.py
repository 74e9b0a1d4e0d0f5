"""What the documentation shows can be run: every command, every program, every link.

What takes hours, or a container, is read by the parser of its module, and a test that runs it
whole is named; so is what `make` says it would run, where CI does not make it. A command that
nothing here knows is a failure.
"""

from __future__ import annotations

import argparse
import importlib
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from qmedsam import cli, exit_status
from tests.conftest import ROOT
from tests.docs import makefile
from tests.docs.pages import PAGES, Command, anchors, blocks, find_commands, links, named_outputs
from tests.docs.workplace import Workplace, has_curl

RUN, SHELL, NAMED, SERVED, REQUEST = "run", "shell", "named", "served", "request"
CLUSTERED, CONTAINER, TRAINED, PARSED = "clustered", "container", "trained", "parsed"
MEASURED, COLLECTED, MADE = "measured", "collected", "made"
INSTALLED, ELSEWHERE = "installed", "elsewhere"
# What the pages write for any measurement and any model, and a model to try it with.
ANY_NAME, ANY_MODEL, ONE_MODEL = "NAME", "NAME=DIR", f"mine={ROOT / 'models' / 'float'}"
NAME_ALONE = re.compile(r"(qmedsam|python -m qmedsam)( \w+)?( --help)?")
# How a command begins, and how it is tried; the first that fits counts.
KINDS = {
    r"(qmedsam|python -m qmedsam) serve\b": SERVED,
    r"qmedsam cluster\b": CLUSTERED,
    r"(qmedsam|python -m qmedsam)\b": RUN,
    r"(sh predict\.sh|mkdir|chmod)\b": SHELL,
    r"curl ": REQUEST,
    r"docker container run ": CONTAINER,
    r"(torchrun .*)?(python )?-m training\.train\b": TRAINED,
    r"python -m training\.\w+": PARSED,
    r"python -m benchmarks\b(?!\.)": MEASURED,
    r"python -m pytest\b": COLLECTED,
    r"make ": MADE,
    r"pip install ": INSTALLED,
    r"docker (build|save|load) |\. \.venv/bin/activate|sbatch |kubectl ": ELSEWHERE,
    r"ray (start|get-auth-token) |export |qonnx-inference-cost ": ELSEWHERE,
    r"(PYTHONPATH=inference )?python -m tests\.public_files ": ELSEWHERE,
}
PUBLIC_FILES = ("tests/test_public_files.py", '"tests.public_files"')
# Where commands are run that a test here cannot run, and in which words.
RUN_ELSEWHERE = {
    "docker build": ("tests/container/run.sh", "docker build -t"),
    "docker save": ("tests/container/run.sh", "docker save"),
    "docker load": ("tests/container/run.sh", "docker load -i"),
    "docker container run": ("tests/container/run.sh", "docker container run --rm"),
    ". .venv/bin/activate": ("Makefile", "-m venv .venv"),
    "sbatch": ("tests/deploy/test_slurm.py", '"slurm-array.sh"'),
    "ray get-auth-token": ("docs/threat-model.md", "ray get-auth-token --generate"),
    "export": ("docs/threat-model.md", "`RAY_AUTH_MODE=token`"),
    "ray start": ("tests/qmedsam/commands/test_cluster.py", "cluster.add_node("),  # does the same
    "qonnx-inference-cost": (
        "tests/training/graphs/test_qonnx_files.py",
        "import inference_cost",  # which the command runs
    ),
    "PYTHONPATH=inference python -m tests.public_files": PUBLIC_FILES,
    "python -m tests.public_files": PUBLIC_FILES,
    "kubectl": ("tests/deploy/test_kubernetes.py", '"kubernetes-job.yaml"'),
}
# What else `make` runs that CI does not: on files of its own alone, or tried where it says.
OF_RECIPES = {
    r"(mkdir -p|touch|rm -rf|uv pip compile) |python3\.11 -m venv ": None,
    r"for each in cases .*python -m tests\.fuzz ": (
        "tests/fuzz/test_formats.py",
        "from tests.fuzz.formats import",
    ),
}
COMMANDS = find_commands()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def kind_of(command: Command) -> str | None:
    is_name = command.is_in_sentence and NAME_ALONE.fullmatch(command.plain)
    if is_name and not command.plain.endswith(" serve"):  # which runs as it is
        return NAMED
    return next((kind for begin, kind in KINDS.items() if re.match(begin, command.plain)), None)


def each(kind: str):
    """Run a test for each command of a kind."""
    chosen = [command for command in COMMANDS if kind_of(command) == kind]
    assert chosen, f"No command is of the kind {kind}"
    return pytest.mark.parametrize("command", chosen, ids=lambda command: command.plain[:60])


def check_elsewhere(path: str, words: str) -> None:
    assert words in (ROOT / path).read_text(), f"{path} does not have {words!r}"


def of_qmedsam(command: Command) -> list[str]:
    """Return the words behind the command's name."""
    return command.words[1 if command.words[0] == "qmedsam" else 3 :]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("docs"))


@pytest.fixture
def place(shared) -> Iterator[Workplace]:
    with shared.copied():
        yield shared


def test_something_tries_each_command():
    unknown = [f"{each.page}: {each.text}" for each in COMMANDS if kind_of(each) is None]
    assert not unknown, "Nothing tries these commands; see KINDS"


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")  # of the libraries of other formats, which users see as well
@each(RUN)
def test_a_command_writes_what_it_names(place, monkeypatch, command):
    for name in command.outputs:
        (place.copy / name).unlink(missing_ok=True)  # that is an input elsewhere
    assert place.run_here(monkeypatch, of_qmedsam(command)) == exit_status.DONE
    place.check_written(command.outputs)


@pytest.mark.model
@each(SHELL)
def test_a_line_of_a_shell_writes_what_it_names(place, command):
    place.run(["sh", "-c", "\n".join([*command.before, command.text])])
    place.check_written(command.outputs)


@pytest.mark.model
@each(CONTAINER)
def test_what_runs_in_a_container_runs_outside(place, command):
    check_elsewhere(*RUN_ELSEWHERE["docker container run"])
    words = command.words
    at = next(i for i, word in enumerate(words) if word.split(":")[0] == "qmedsam")
    for mount in (word for word in words[:at] if word.startswith("$PWD/")):
        name = re.fullmatch(r"\$PWD/(\w+)/?:/workspace/(\w+)/?(:ro)?", mount)
        assert name, f"{mount} must be a folder of /workspace"
        assert name[1] == name[2]
    inside = words[at + 1 :] or ["/bin/bash", "-c", "sh predict.sh"]  # the image's command
    if place.is_first(inside):
        place.run(inside, INPUT_DIR="inputs", OUTPUT_DIR="outputs")
        place.check_written(["outputs", *named_outputs(inside[-1].split())])


@each(NAMED)
def test_a_command_that_is_named_has_a_help(capsys, command):
    words = [word for word in of_qmedsam(command) if word != "--help"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    assert " ".join(["qmedsam", *words]) in capsys.readouterr().out


@pytest.mark.model
@each(SERVED)
def test_the_page_is_served(place, command):
    with place.serving(command) as port:
        if not has_curl():
            pytest.skip("the page is served; its requests need curl 7.82 or later")
        for request in COMMANDS:
            if kind_of(request) == REQUEST:
                place.run_curl(request, port)


@each(CLUSTERED)
def test_a_command_for_a_cluster_has_its_options(command):
    cli.build_parser("cluster").parse_args(command.words[2:])  # tests/qmedsam/cluster runs it


@pytest.mark.model
def test_a_cluster_of_this_machine_runs(place):
    """The longest command without an address, and its report with it."""
    own = [one for one in COMMANDS if kind_of(one) == CLUSTERED and "--address" not in one.text]
    command = max(own, key=lambda one: len(one.words))
    place.run(command.words)
    place.check_written(command.outputs)


@pytest.mark.training
@each(TRAINED)
def test_training_has_its_options_recipe_and_settings(command):
    check_training(command)


@pytest.mark.training
@each(PARSED)
def test_a_module_has_the_options_that_are_named(command):
    check_module(command)


@pytest.mark.training
@each(MEASURED)
def test_a_measurement_has_the_options_that_are_named(command):
    check_measurement(command)


def check_training(command: Command) -> None:
    pytest.importorskip("torch", reason="training/requirements.txt is not installed")
    from torch.distributed.run import get_args_parser

    from training.loop.recipe import read_recipe
    from training.train import build_parser

    options = command.words[3:]
    if command.words[0] == "torchrun":
        launched = get_args_parser().parse_args(command.words[1:])
        assert (launched.module, launched.training_script) == (True, "training.train")
        options = launched.training_script_args
    if options or not command.is_in_sentence:
        arguments = build_parser().parse_args(options)
        read_recipe(ROOT / arguments.recipe, arguments.set)
    assert_a_test_runs("training.train")


def check_module(command: Command) -> None:
    pytest.importorskip("torch", reason="training/requirements.txt is not installed")
    name, options = command.words[2], command.words[3:]
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):  # a package runs its `__main__`
        module = importlib.import_module(f"{name}.__main__")
    parse(command, module.build_parser(), options)
    assert_a_test_runs(name)


def check_measurement(command: Command) -> None:
    pytest.importorskip("torch", reason="benchmarks/requirements.txt is not installed")
    from benchmarks import __main__ as measurements

    name, *options = [word for word in command.words[3:] if word != "--help"] or [ANY_NAME]
    if name == ANY_NAME:
        assert ANY_NAME in measurements.build_parser().format_usage()
        return
    measurement = measurements.load(name)
    options = [word.replace(ANY_MODEL, ONE_MODEL) for word in options]
    parse(command, measurement.build_parser(), options)
    assert_a_test_runs(measurement.run.__module__)


def parse(command: Command, parser: argparse.ArgumentParser, options: list[str]) -> None:
    if options or not command.is_in_sentence:
        parser.parse_args(options)


def assert_a_test_runs(module: str) -> None:
    package, _, name = module.rpartition(".")
    imported = re.compile(
        rf"from {package} import [^\n]*\b{name}\b|from {module} import|import {module}\b"
    )
    tests = (ROOT / "tests" / package.partition(".")[0]).rglob("test_*.py")
    assert any(imported.search(path.read_text()) for path in tests), f"No test of {module}"


@each(COLLECTED)
def test_pytest_has_the_file_and_the_options(command):
    check_pytest(command)


def check_pytest(command: Command) -> None:
    """Check files, and the options that the pages and the Makefile use."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-m", default="")
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args(command.words[3:])
    markers = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(re.findall(r"\w+", arguments.m)) - {"and", "or", "not"} <= markers
    for path in arguments.paths:
        assert re.search(r"^def test_", (ROOT / path).read_text(), re.MULTILINE)


@each(MADE)
def test_a_target_is_made(command):
    """All that `make` would run is known here, or CI makes it."""
    text = (ROOT / "Makefile").read_text()
    for name in (word.partition("=")[0] for word in command.words[1:] if "=" in word):
        assert re.search(rf"^{name} [:?]?=", text, re.MULTILINE), f"The Makefile has no {name}"
    lines = makefile.recipe(command)
    assert lines
    for line in lines:
        assert line.text in makefile.run_by_ci() or is_tried(line), f"Nothing tries {line.text}"


def is_tried(line: Command) -> bool:
    """Whether a line of a recipe is tried here, in part by the test below."""
    if kind_of(line) == INSTALLED:
        named = [value for option, value in pairwise(line.words) if option == "-r"]
        return all((ROOT / name).is_file() for name in named)
    for begin, elsewhere in OF_RECIPES.items():
        if re.match(begin, line.plain):
            if elsewhere:
                check_elsewhere(*elsewhere)
            return True
    return kind_of(line) in CHECKS


CHECKS = {
    TRAINED: check_training,
    PARSED: check_module,
    MEASURED: check_measurement,
    COLLECTED: check_pytest,
}


@pytest.mark.training
@each(MADE)
def test_what_a_target_runs_has_its_options(command):
    for line in makefile.recipe(command):
        if kind_of(line) in CHECKS and line.text not in makefile.run_by_ci():
            CHECKS[kind_of(line)](line)


@each(INSTALLED)
def test_an_extra_is_one_of_the_package(command):
    extras = re.fullmatch(r"\.(?:\[(.+)\])?", command.words[-1])
    assert extras, "What is installed must be this package"
    for extra in (extras[1] or "").split(",") if extras[1] else []:
        assert extra in PROJECT["project"]["optional-dependencies"]


@each(ELSEWHERE)
def test_a_command_is_run_elsewhere(command):
    begin = next(begin for begin in RUN_ELSEWHERE if command.plain.startswith(begin))
    check_elsewhere(*RUN_ELSEWHERE[begin])


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")  # of the libraries of other formats, which users see as well
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page, "python"), 1)
    ],
)
def test_a_program_runs(place, monkeypatch, code):
    place.run_program(monkeypatch, code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for path, anchor in links(page):
        assert path.exists(), f"{path} is missing"
        assert not anchor or anchor in anchors(path), f"{path.name} has no heading #{anchor}"


def test_the_index_has_every_page():
    index = ROOT / "docs" / "README.md"
    indexed = {path.resolve() for path, _ in links(index)}
    assert set((ROOT / "docs").glob("*.md")) - {index} <= indexed
