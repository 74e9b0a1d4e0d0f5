"""Commands that cannot run say so in a line."""

from __future__ import annotations

import pytest

from benchmarks import accuracy, cases, engines, nncf_int8, time_cases
from benchmarks.harness.command import run_command
from benchmarks.report import figures

NO_DATA = ["--data", "nowhere", "--json", "{tmp}/record.json"]


def test_the_status_is_that_of_the_body():
    assert run_command(lambda: 1) == 1


@pytest.mark.parametrize(
    ("main", "options", "message"),
    [
        pytest.param(
            accuracy.main,
            ["--data", "nowhere", "--json", "{tmp}/r"],
            "nowhere must hold",
            id="accuracy",
        ),
        pytest.param(
            figures.main,
            ["--data", "nowhere", "--json", "{tmp}/r"],
            "Cases are missing",
            id="figures",
        ),
        pytest.param(nncf_int8.main, ["--model-dir", "nowhere"], "nowhere", id="nncf"),
        pytest.param(nncf_int8.main, ["--calibration", "nowhere"], "nowhere", id="calibration"),
        pytest.param(time_cases.main, ["--cases", "nowhere"], "nowhere", id="time-cases"),
        pytest.param(time_cases.main, ["--cases", "{tmp}"], "must hold .npz files", id="no-cases"),
    ],
)
def test_a_missing_folder_is_a_sentence_and_status_2(main, options, message, tmp_path, caplog):
    assert main([option.format(tmp=tmp_path) for option in options]) == 2
    assert message in caplog.text


@pytest.mark.parametrize(
    ("main", "options"),
    [
        pytest.param(cases.main, "--only 2DBox_US_0525", id="cases"),
        pytest.param(engines.main, "--network medsam", id="engines"),
        pytest.param(accuracy.main, "--precision f32", id="accuracy"),
        pytest.param(figures.main, "--good US/a", id="figures"),
    ],
)
def test_a_part_of_a_run_does_not_overwrite_the_record_of_the_whole(main, options, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(options.split())
    assert "needs a --json of its own" in capsys.readouterr().err
