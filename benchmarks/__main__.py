"""Run a measurement by its name.

A measurement is imported when it runs, so that timing a container needs neither PyTorch nor what
else others compare with.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.harness.command import Command
from qmedsam.exit_status import NOTHING_RAN

# Its name, which its module has with underscores, and what it measures.
MEASUREMENTS = {
    "accuracy": "DSC and NSD by modality of the PyTorch baseline, the service and its peers",
    "cases": "the fourteen cases of the paper's Table 8, in fresh processes against the baseline",
    "cluster": "one and two workers of `qmedsam cluster`, and two of which one is killed",
    "curves": "time and memory by the number of boxes and of slices",
    "engines": "PyTorch, ONNX Runtime and OpenVINO on one image with one box",
    "layers": "milliseconds by kind of layer, and multiply-accumulates",
    "models": "DSC and NSD by modality of exported models",
    "nncf-int8": "make the peer: int8 by NNCF's post-training quantization",
    "quality": "the quality that is predicted of masks against their DSC, object by object",
    "regions": "DSC, NSD and GMACs by modality of whole images and of regions",
    "region-times": "seconds of the cases of Table 8 by whole images and by regions",
    "start": "a fresh process with one small image, with a cache of compiled models and without",
    "time-cases": "the challenge's timing loop: a container for each case",
    "volume-prompt": "DSC and NSD by the rule that prompts the slices of a volume",
}
REPORTS = {"results": "docs/results.md and the tables of docs/scaling.md, from the records"}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks`."""
    names = {**MEASUREMENTS, **REPORTS}
    lines = (f"  {name:14} {text}" for name, text in names.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="\n".join(
            ["Run a measurement, or make a report of what was measured.", *lines]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python -m benchmarks NAME [options]",
        epilog="`python -m benchmarks NAME --help` has the options. Exit status: 0 done, 2 nothing "
        "could run.",
    )
    parser.add_argument("name", choices=names, metavar="NAME", help="one of these")
    return parser


def load(name: str) -> Command:
    """Import a measurement or report."""
    package = "benchmarks.report" if name in REPORTS else "benchmarks"
    module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
    command: Command = module.COMMAND
    return command


def main(argv: list[str] | None = None) -> int:
    """Run what the first word names."""
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser().parse_args(words[:1])
    try:
        command = load(arguments.name)
    except ModuleNotFoundError as error:
        print(
            f"{arguments.name} needs more libraries: pip install -r benchmarks/requirements.txt "
            f"({error})",
            file=sys.stderr,
        )
        return NOTHING_RAN
    return command.main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
