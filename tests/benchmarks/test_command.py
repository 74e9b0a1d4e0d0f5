"""Commands that cannot run say so in a line."""

from __future__ import annotations

import pytest

from benchmarks import accuracy, cases, figures, nncf_int8, time_cases
from benchmarks.command import run_command


def test_the_status_is_that_of_the_body():
    assert run_command(lambda: 1) == 1


@pytest.mark.parametrize(
    ("main", "options", "message"),
    [
        pytest.param(accuracy.main, ["--data", "nowhere"], "nowhere must hold", id="accuracy"),
        pytest.param(figures.main, ["--data", "nowhere"], "Cases are missing", id="figures"),
        pytest.param(nncf_int8.main, ["--model-dir", "nowhere"], "nowhere", id="nncf"),
        pytest.param(nncf_int8.main, ["--calibration", "nowhere"], "nowhere", id="calibration"),
        pytest.param(time_cases.main, ["--cases", "nowhere"], "nowhere", id="time-cases"),
        pytest.param(time_cases.main, ["--cases", "{tmp}"], "must hold .npz files", id="no-cases"),
    ],
)
def test_a_missing_folder_is_a_sentence_and_status_2(main, options, message, tmp_path, caplog):
    assert main([option.format(tmp=tmp_path) for option in options]) == 2
    assert message in caplog.text


@pytest.mark.parametrize("options", ["--only CT", "--only 2DBox_US_0525", "--runs 0"])
def test_the_record_of_all_cases_is_not_overwritten_by_a_few(options):
    with pytest.raises(SystemExit, match="2"):
        cases.main(options.split())
