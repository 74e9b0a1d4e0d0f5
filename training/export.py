"""Write a network as ONNX and OpenVINO IR, with a manifest that inference checks.

    python -m training.export --checkpoint runs/train/stage-2/best.pt --output-dir models/mine

The graphs have batch normalization folded and compute only the one mask that is used. The export
is held to the PyTorch network before anything is put in place. `--qonnx` writes the quantized parts
for FINN instead.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from qmedsam.exit_status import DONE, NOTHING_RAN
from training.options import add_network_option, output_folder, weights_path
from training.published import DEFAULT_PATH, CheckpointError

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.export`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network_option(parser)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="best.pt of a stage of training, or published weights (default: LiteMedSAM's, "
        f"{DEFAULT_PATH})",
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--float",
        action="store_true",
        dest="in_float",
        help="of a quantized network, write its weights in float, without quantizers",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--both",
        action="store_true",
        help="of a quantized network, write int8 and float, in folders of these names",
    )
    kinds.add_argument(
        "--plain",
        action="store_true",
        help="write the IR as the ONNX files compute, slower, to compare",
    )
    kinds.add_argument(
        "--qonnx",
        action="store_true",
        help="write encoder.qonnx.onnx, and decoder.qonnx.onnx where it is quantized, and no model",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Export a checkpoint; 0 when the model is in place, 2 otherwise."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        path = weights_path(arguments.network, arguments.checkpoint, "--checkpoint")
        folder = output_folder(arguments.output_dir)
    except (CheckpointError, OSError) as error:
        logger.error("%s", error)
        return NOTHING_RAN
    # Here, as torch and Brevitas take three seconds.
    from training.graphs.check import ExportError
    from training.graphs.inference_graphs import inference_graphs, plain_graphs
    from training.graphs.model_folder import export_both, export_network
    from training.graphs.onnx_files import silence_exporters
    from training.graphs.qonnx_files import export_qonnx
    from training.loop.state import load_source

    silence_exporters()
    graphs_of = plain_graphs if arguments.plain else inference_graphs
    try:
        source = load_source(arguments.network, path, in_float=arguments.in_float)
        if arguments.both:
            if source.quant is None:
                raise CheckpointError(f"{path} must be of a quantized network to give both models")
            in_float = load_source(arguments.network, path, in_float=True)
            export_both(source, in_float, folder)
        elif arguments.qonnx:
            export_qonnx(source.network, folder)
        else:
            export_network(source, folder, graphs_of)
    except (CheckpointError, ExportError, OSError) as error:
        logger.error("%s", error)
        return NOTHING_RAN
    logger.info("Wrote %s", folder)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
