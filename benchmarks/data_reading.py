"""What training data costs in time and on disk: indexed archives against unpacked slices.

    python -m benchmarks.data_reading

Slices are drawn at random through the index and read from the archives with volumes kept in
memory, without, and from one `.npy` each for image and labels, as the LiteMedSAM baseline has them:
once with pixels as they are in the archive, once with the baseline's, three float64 channels of 0
to 1. All files are in the system's page cache, as they have just been read or written.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.command import add_record_option, keep_record, run_command
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.core.preprocess import as_rgb
from qmedsam.options import at_least
from training.data.index import DataIndex, build_index
from training.data.sampler import EpochSampler
from training.data.volumes import VolumeCache, open_case, read_layout

logger = logging.getLogger(__name__)

DEFAULT_ROOT = Path("../shared/data/train")
DEFAULT_RECORD = RESULTS_DIR / "data-reading.json"
SEED = 0
LABELS, PIXELS, BASELINE_PIXELS = "gts", "imgs", "baseline"  # what the unpacked files are named by

Place = tuple[str, int]  # file below the root and slice
Reader = Callable[[Place], object]


def volumes_only(index: DataIndex, root: Path) -> DataIndex:
    """Return the modalities whose files are volumes, as the boxes of their first say."""
    kept = {}
    for name, part in index.items():
        with open_case(root / part.entries[0].path) as archive:
            if read_layout(archive).is_volume:
                kept[name] = part
    return kept


def draw_places(index: DataIndex, count: int) -> list[Place]:
    """Draw slices at random, of each modality as many."""
    each = -(-count // len(index))
    sampler = EpochSampler(index, each, seed=SEED, batch_size=1)
    located = (index[draw.modality].locate(draw.number) for draw in chain.from_iterable(sampler))
    return [(entry.path, z) for entry, z in islice(located, count)]


def unpack(index: DataIndex, root: Path, output_dir: Path) -> None:
    """Write labels and image, the image in both ways, of every slice that carries an object."""
    for entry in chain.from_iterable(part.entries for part in index.values()):
        cache = VolumeCache(sys.maxsize)  # a file is read once, and then no longer held
        for z in entry.slices:
            data = cache.read_slice(root / entry.path, z)
            arrays = {
                LABELS: data.labels,
                PIXELS: data.image,
                BASELINE_PIXELS: as_rgb(data.image) / 255.0,
            }
            for kind, array in arrays.items():
                path = unpacked_file(output_dir, (entry.path, z), kind)
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array)


def unpacked_file(folder: Path, place: Place, kind: str) -> Path:
    """Return where a part of a slice is unpacked to."""
    path, z = place
    stem = folder / Path(path).with_suffix("")
    return stem.with_name(f"{stem.name}-{z:04d}-{kind}.npy")


def readers(root: Path, unpacked: Path, cache_bytes: int) -> dict[str, Reader]:
    """Return the ways to read a slice, each with nothing read yet."""
    kept, streamed = VolumeCache(cache_bytes), VolumeCache(0)
    return {
        "archives, volumes kept": lambda place: kept.read_slice(root / place[0], place[1]),
        "archives, nothing kept": lambda place: streamed.read_slice(root / place[0], place[1]),
        "unpacked": partial(_load, unpacked, PIXELS),
        "unpacked as the baseline does": partial(_load, unpacked, BASELINE_PIXELS),
    }


def _load(folder: Path, pixels: str, place: Place) -> list[NDArray[Any]]:
    """Return image and labels of an unpacked slice."""
    return [np.load(unpacked_file(folder, place, kind)) for kind in (pixels, LABELS)]


def measure(read: Reader, places: Sequence[Place]) -> float:
    """Return the seconds that reading some slices takes, one after the other."""
    started = time.perf_counter()
    for place in places:
        read(place)
    return time.perf_counter() - started


def summed_bytes(paths: Iterable[Path]) -> int:
    """Return the summed sizes of files."""
    return sum(path.stat().st_size for path in paths)


def unpacked_bytes(folder: Path, pixels: str) -> int:
    """Return the summed sizes of what is unpacked in one of the ways."""
    return sum(summed_bytes(folder.rglob(f"*-{kind}.npy")) for kind in (pixels, LABELS))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.data_reading`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_reading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=DEFAULT_ROOT,
        help="folder of modalities (default: %(default)s)",
    )
    parser.add_argument(
        "--slices", type=at_least(1), default=1000, help="slices to read (default: %(default)s)"
    )
    parser.add_argument(
        "--cache-mb",
        type=at_least(1),
        default=1024,
        help="memory for volumes that are kept (default: %(default)s)",
    )
    add_record_option(parser, DEFAULT_RECORD)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, print and record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_record(parser, arguments, ("root", "slices"))
    return run_command(lambda: _measure_all(arguments))


def _measure_all(arguments: argparse.Namespace) -> int:
    root = arguments.root
    with tempfile.TemporaryDirectory() as name:
        index_file, unpacked = Path(name) / "index.json", Path(name) / "unpacked"
        started = time.perf_counter()
        index = build_index(root, index_file, sys.stderr)
        index_s = time.perf_counter() - started
        unpack(index, root, unpacked)
        files = [root / entry.path for part in index.values() for entry in part.entries]
        sizes = {
            "archives": summed_bytes(files),
            "index": index_file.stat().st_size,
            "unpacked": unpacked_bytes(unpacked, PIXELS),
            "unpacked as the baseline does": unpacked_bytes(unpacked, BASELINE_PIXELS),
        }
        seconds = {}
        for title, part in (("volumes", volumes_only(index, root)), ("all modalities", index)):
            if part:
                places = draw_places(part, arguments.slices)
                ways = readers(root, unpacked, arguments.cache_mb << 20)
                seconds[title] = {way: measure(read, places) for way, read in ways.items()}
    _print(sizes, seconds, index_s)
    results = {
        "slices": arguments.slices,
        "cache_mb": arguments.cache_mb,
        "foreground_slices": {name: len(part) for name, part in index.items()},
        "index_s": index_s,
        "seconds": seconds,
        "size_bytes": sizes,
    }
    write_record(arguments.json, results)
    logger.info("Wrote %s", arguments.json)
    return 0


def _print(sizes: dict[str, int], seconds: dict[str, dict[str, float]], index_s: float) -> None:
    print(f"{'index made in':32}{index_s:9.2f} s")
    for title, ways in seconds.items():
        for way, taken_s in ways.items():
            print(f"{f'{title}: {way}':48}{taken_s:9.3f} s")
    for title, size in sizes.items():
        print(f"{title:32}{size / 2**20:9.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
