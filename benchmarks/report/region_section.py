"""The record of whole images against regions as a section of Markdown."""

from __future__ import annotations

from benchmarks.harness.region_table import SETTINGS, region_table
from benchmarks.report.section import Entry, section
from qmedsam.core.contract import LITE_MEDSAM_IMAGE_SIZE
from qmedsam.core.work import encoder_gmacs
from training.scoring.score_tables import markdown_table

SPLITS = {
    "val": "sources of which training sees other images",
    "val_other": "data sets that training sees nothing of",
    "val_large": "images at native size with small objects",
}


def regions_section(record: Entry) -> list[str]:
    """Return the section on regions: a table for each split and model, then the GMACs."""
    parts = []
    for split, found in record["splits"].items():
        for variant in (key for key in found if key != "gmacs"):
            compared = found[variant]
            title = f"**{split}, {SPLITS.get(split, '')}: {variant}**".replace(", :", ":")
            parts += [title, region_table(compared["rows"]), _changes(compared["changes"])]
    return section(
        "Regions",
        "Whole label maps by `--regions whole`, which reduces every image to 256 pixels, and by "
        "regions round the boxes, the default; volumes by the default prompt. DSC and NSD on "
        "contours (2 px or mm), percent; GMACs are the encoder's of a case. The networks were "
        "trained on whole images.",
        *parts,
        _gmacs(record),
        record=record,
    )


def region_times_section(record: Entry) -> list[str]:
    """Return the section on times by regions."""
    rows = []
    for case in record["cases"]:
        (before, after), peaks = ([case[key][one] for one in SETTINGS] for key in ("s", "peak_mb"))
        rows.append(
            [
                case["case"],
                "x".join(str(side) for side in case["shape"]),
                str(case["objects"]),
                f"{before:.2f} s",
                f"{after:.2f} s",
                f"{after / before:.2f}",
                *(f"{peak:.0f} MB" for peak in peaks),
                str(case["runs"]),
            ]
        )
    header = ["case", "size", "objects", "whole", "regions", "ratio", "peak", "regions", "runs"]
    return section(
        "Times by regions",
        f"The cases of Table 8 and a CT with one lesion of 40 px, each alone in a fresh process, "
        f"whole wall time, compiled models in the cache, the {record['service']} model; medians, "
        "`--regions whole` and regions in turn. An image of many small boxes may take twice the "
        "work, and each grid more takes 0.25 s to load. Where boxes are longer than 0.3 of the "
        "image both do the same, and what differs is the machine's mood.",
        markdown_table(header, rows),
        record=record,
    )


def _changes(changes: Entry) -> str:
    return " ".join(
        f"{metric.upper()} over cases: median {found['median']:+.1f}, mean {found['mean']:+.1f}; "
        f"worst row {found['worst_change']:+.1f} ({found['worst']})."
        for metric, found in changes.items()
    )


def _gmacs(record: Entry) -> str:
    """Say what the encoder takes for a slice; whole ones tell how many there are."""
    whole_slice = encoder_gmacs((LITE_MEDSAM_IMAGE_SIZE, LITE_MEDSAM_IMAGE_SIZE))
    before, after = SETTINGS
    said = []
    for split, found in record["splits"].items():
        gmacs = found["gmacs"]
        share = gmacs[after] / gmacs[before]
        said.append(f"{share * whole_slice:.1f} ({100 * share:.0f} %) in {split}")
    return f"The encoder takes {whole_slice:.1f} GMACs for a whole slice; with regions " + (
        ", ".join(said) + ", each slice counted once."
    )
