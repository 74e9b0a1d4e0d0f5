"""The command writes QONNX files of a checkpoint of training, and refuses a float one."""

from __future__ import annotations

import logging

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import onnx  # noqa: E402

from qmedsam.exit_status import DONE, NOTHING_RAN  # noqa: E402
from tests.training.small_networks import BOTH, seeded_network  # noqa: E402
from training import export  # noqa: E402
from training.graphs.qonnx_files import QONNX_FILES  # noqa: E402
from training.loop.state import Trained, save_document, trained_document  # noqa: E402
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import quantize_network  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("small_lite_medsam")]


@pytest.fixture
def run(tmp_path):
    """Run the command on a checkpoint of the small network with these parts quantized."""

    def command(*parts):
        network, quant = seeded_network(), None
        if parts:
            quant = QuantConfig(scheme="paper")
            quantize_network(network, quant, parts)
        trained = Trained("lite_medsam", network, parts, quant, [], None)
        save_document(trained_document(trained), tmp_path / "best.pt")
        options = ["--checkpoint", str(tmp_path / "best.pt"), "--output-dir", str(tmp_path / "q")]
        return export.main(["--qonnx", *options])

    return command


def test_the_command_writes_both_parts_and_no_model(run, tmp_path):
    assert run(*BOTH) == DONE
    assert {path.name for path in (tmp_path / "q").iterdir()} == set(QONNX_FILES.values())
    for path in (tmp_path / "q").iterdir():
        assert "Quant" in {node.op_type for node in onnx.load(path).graph.node}


def test_the_command_refuses_a_float_checkpoint_in_a_sentence(run, tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        assert run() == NOTHING_RAN
    (said,) = caplog.messages
    assert said == "A network must be quantized to be written as QONNX, this one is float"
    assert not list((tmp_path / "q").iterdir())


def test_a_graph_for_comparison_and_qonnx_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        export.main(["--qonnx", "--plain", "--output-dir", "q"])
    assert "--plain: not allowed with argument --qonnx" in capsys.readouterr().err
