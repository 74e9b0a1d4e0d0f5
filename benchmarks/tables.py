"""Records as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plots import speed_up
from training.score_tables import MEANS, MEMORY_EXCEEDED, markdown_table, percent

# What the paper measured on an i7-8750H, Tables 5 and 6, by network, engine and whether quantized.
PAPER_S = {
    ("LiteMedSAM", "PyTorch", False): 1.180,
    ("LiteMedSAM", "ONNX Runtime", False): 0.787,
    ("LiteMedSAM", "OpenVINO", False): 0.574,
    ("LiteMedSAM", "ONNX Runtime", True): 0.769,
    ("LiteMedSAM", "OpenVINO", True): 0.585,
    ("MedSAM", "PyTorch", False): 10.181,
    ("MedSAM", "ONNX Runtime", False): 5.707,
    ("MedSAM", "OpenVINO", False): 4.202,
    ("MedSAM", "ONNX Runtime", True): 4.531,
    ("MedSAM", "OpenVINO", True): 3.558,
}
SCORES = (
    ("DSC", "correct", "dsc"),
    ("NSD as the challenge computes it", "official", "nsd"),
    ("NSD, contours and spacing right", "correct", "nsd"),
)
Entry = Mapping[str, Any]


def provenance(record: Entry, text: str = "") -> str:
    """Say by which command, where and when a record was measured."""
    machine = record["machine"]
    features = ", ".join(name.upper().replace("_", "-") for name in machine["features"])
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    return (
        f"*`{record['command']}`, {record['date']}: {machine['cores']} cores of an "
        f"{machine['processor']} ({features}), {machine['memory_gb']} GB, Python "
        f"{machine['python']}, {packages}. {text}*".replace(". *", ".*")
    )


def engines_section(record: Entry, title: str) -> list[str]:
    """Return a section on engines: Tables 5 and 6."""
    sections = [
        f"## {title}",
        "One image and one box; medians over all runs, with the range of the whole. The speed-up "
        "is against PyTorch in f32. int8 is post-training quantization unless it says QAT; "
        '"rest" is the precision of what stays in floating point. For ONNX Runtime NNCF quantized '
        "the ONNX graph, without SmoothQuant and from fewer images: that row is for speed. The "
        "paper's seconds are of another machine, its int8 is by QAT.",
    ]
    for network in dict.fromkeys(row["network"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["network"] == network]
        base = rows[0]["whole"]["median_s"]
        weights = ""
        if network == "MedSAM" and record["medsam_weights"] == "random":
            weights = " (random weights, as its checkpoint was not given)"
        header = ["engine", "precision", "encoder", "decoder", "whole", "speed-up", "runs", "paper"]
        cells = [[*_engine_cells(row, base), _paper(row)] for row in rows]
        sections += [f"### {network}{weights}", markdown_table(header, cells)]
    text = f"{record['threads']} threads, {record['rounds']} rounds of fresh processes."
    return [*sections, provenance(record, text)]


def _engine_cells(row: Entry, base_s: float) -> list[str]:
    whole = row["whole"]
    return [
        row["engine"],
        row["precision"],
        *(f"{1000 * row[part]['median_s']:.0f} ms" for part in ("encoder", "decoder")),
        f"{1000 * whole['median_s']:.0f} ms "
        f"({1000 * whole['min_s']:.0f} to {1000 * whole['max_s']:.0f})",
        f"{base_s / whole['median_s']:.1f}x",
        str(row["runs"]),
    ]


def _paper(row: Entry) -> str:
    """Return the paper's figure where it has such a row: in f32, or in int8 without bf16."""
    key = (row["network"], row["engine"], "int8" in row["precision"])
    if "bf16" in row["precision"] or key not in PAPER_S:
        return ""
    return f"{PAPER_S[key]:.3f} s"


def cases_section(record: Entry) -> list[str]:
    """Return the section on cases: Table 8."""
    *services, baseline = methods = list(record["cases"][0]["methods"])
    short = [name.removeprefix("service ") for name in services]
    header = ["case", "size", "objects", *methods]
    header += [f"speed-up {name}" for name in short]
    header += [f"peak {name}" for name in (*short, "baseline")]
    header += ["paper, baseline", "paper, proposed"]
    rows = []
    for case in record["cases"]:
        found = case["methods"]
        ratios = [speed_up(found[baseline], found[name]) for name in services]
        rows.append(
            [
                case["case"],
                "x".join(str(side) for side in case["shape"]),
                str(case["objects"]),
                *(_case_seconds(found[name]) for name in methods),
                *("" if math.isnan(ratio) else f"{ratio:.1f}x" for ratio in ratios),
                *(f"{found[name]['peak_mb']:.0f} MB" for name in methods),
                *(_paper_seconds(value) for value in case["paper_s"]),
            ]
        )
    most = max(found["runs"] for case in record["cases"] for found in case["methods"].values())
    text = f"Medians of {most} runs; no run after the first began past {record['budget_s']:g} s."
    return [
        "## Cases (Table 8)",
        "Each case alone in a fresh process, whole wall time, no cache of compiled models, at most "
        "8 GiB (MLE: memory limit exceeded); images are real ones brought to the size of the "
        "paper's cases, and objects cover as many slices as the paper's baseline times imply. "
        f"~: the baseline walked {record['most_slices']} slices of each object, and the others "
        "are added at the median time of one. The paper's seconds are of another machine.",
        markdown_table(header, rows),
        provenance(record, text),
    ]


def _case_seconds(found: Entry) -> str:
    if found["is_out_of_memory"]:
        return MEMORY_EXCEEDED
    return f"{'~' if found['visits'] != found['walked'] else ''}{found['s']:.2f} s"


def _paper_seconds(value: float | None) -> str:
    return MEMORY_EXCEEDED if value is None else f"{value:.1f} s"


def accuracy_section(record: Entry) -> list[str]:
    """Return the section on accuracy: Table 7."""
    methods = record["methods"]
    return [
        "## Accuracy (Table 7)",
        "Validation split of real cases of eleven modalities, whole images and volumes, volumes by "
        "the default prompt; percent. The baseline is the published PyTorch pipeline, one box at a "
        "time, with propagation through volumes. The challenge's NSD takes an image for a slab of "
        "one voxel, whose surface is most of its area, and puts the spacing on the wrong axes of "
        "a volume. Volumes without a spacing (three of MR) count as 1 mm.",
        *scores_by_modality(methods),
        *worst_changes(methods),
        *worst_changes(dict(list(methods.items())[1:])),
        provenance(record),
    ]


def data_section(record: Entry) -> list[str]:
    """Return the section on reading training data."""
    ways = list(next(iter(record["seconds"].values())))
    seconds = [
        [title, *(f"{taken[way]:.2f} s" for way in ways)]
        for title, taken in record["seconds"].items()
    ]
    sizes = [[title, f"{size / 2**20:.2f} MB"] for title, size in record["size_bytes"].items()]
    slices = sum(record["foreground_slices"].values())
    return [
        "## Training data",
        f"Seconds to read {record['slices']} random slices with objects, of {slices} in all, one "
        f"after the other in one process that keeps up to {record['cache_mb']} MB of volumes. The "
        "other ways are archives without anything kept, and two `.npy` files for each slice, image "
        "and labels, with the archive's pixels or with three channels of float64, which is how the "
        "LiteMedSAM baseline unpacks its data before it trains.",
        markdown_table(["slices of", *ways], seconds),
        markdown_table(["on disk", "size"], sizes),
        provenance(record, f"The index was made in {record['index_s']:.1f} s."),
    ]


def scores_by_modality(methods: Mapping[str, Entry]) -> list[str]:
    """Return a table of each score: modalities down, methods across."""
    first = next(iter(methods.values()))
    parts = []
    for title, mode, metric in SCORES:
        rows = [
            [name, str(entry["cases"])]
            + [percent(found["modalities"][name][mode][metric]) for found in methods.values()]
            for name, entry in first["modalities"].items()
        ]
        for mean in MEANS:
            values = [percent(found[mean][mode][metric]) for found in methods.values()]
            rows.append([mean.replace("_", " "), "", *values])
        parts += [f"**{title}**", markdown_table(["modality", "cases", *methods], rows)]
    return parts


def trained_steps(training: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Say of each model that was trained how many steps made it what it is, by stage."""
    lines = []
    for title, stages in training.items():
        if any(stage["steps"] for stage in stages):
            kept = "; ".join(
                f"{stage['stage']} {stage['steps']} ({stage['images']} images)" for stage in stages
            )
            lines.append(f"- {title}: {kept}")
    text = "Steps to the epoch that was kept, 0 where none was better than what a stage began with:"
    return [text, "\n".join(lines)] if lines else []


def worst_changes(methods: Mapping[str, Entry]) -> list[str]:
    """Say of each method in which modality its DSC falls most against the first, or rises least."""
    base_title, base = next(iter(methods.items()))
    lines = []
    for title, found in list(methods.items())[1:]:
        changes = {}
        for name, entry in base["modalities"].items():
            was, now = entry["correct"]["dsc"], found["modalities"][name]["correct"]["dsc"]
            if was is not None and now is not None:
                changes[name] = 100 * (now - was)
        if changes:
            worst = min(changes, key=lambda name: changes[name])
            lines.append(f"- {title}: {changes[worst]:+.2f} ({worst})")
    return [f"Worst modality against {base_title}, DSC:", "\n".join(lines)] if lines else []
