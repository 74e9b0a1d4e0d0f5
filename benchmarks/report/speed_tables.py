"""Records of speed and memory as sections of Markdown."""

from __future__ import annotations

import math

from benchmarks.report.plots import speed_up
from benchmarks.report.section import Entry, section
from training.scoring.score_tables import MEMORY_EXCEEDED, markdown_table

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


OURS = "QAT int8, other layers in bf16"  # as a user gets it on the processor that was measured


def engines_section(record: Entry) -> list[str]:
    """Return the section on engines: Tables 5 and 6."""
    text = (
        "One image and one box; medians over all runs, with the range of the whole. The speed-up "
        'is against PyTorch in f32. "As exported" are the graphs of the ONNX files, which NNCF '
        'quantizes, too; "as served" is the same float network as it ships, whose decoder is given '
        "the whole embedding here and not the crop of the box. int8 is post-training quantization "
        "unless it says QAT, which is `models/int8`; the last column is how many times as long a "
        "row takes as that with its other layers in bf16. For ONNX Runtime NNCF "
        "quantized the ONNX graph, without SmoothQuant and from fewer images: that row is for "
        "speed. The paper's seconds are of another machine, its int8 is by QAT."
    )
    tables = []
    for network in dict.fromkeys(row["network"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["network"] == network]
        base = rows[0]["whole"]["median_s"]
        ours = [row["whole"]["median_s"] for row in rows if row["precision"] == OURS]
        weights = ""
        if network == "MedSAM" and record["medsam_weights"] == "random":
            weights = " (random weights, as its checkpoint was not given)"
        header = ["engine", "precision", "encoder", "decoder", "whole", "speed-up", "runs", "paper"]
        header.append("against `models/int8`")
        cells = [[*_engine_cells(row, base), _paper(row), *_against(row, ours)] for row in rows]
        tables += [f"### {network}{weights}", markdown_table(header, cells)]
    note = f"{record['threads']} threads, {record['rounds']} rounds of fresh processes."
    return section("Engines (Table 5)", text, *tables, record=record, note=note)


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


def _against(row: Entry, ours: list[float]) -> list[str]:
    return [f"{row['whole']['median_s'] / ours[0]:.1f}x" if ours else ""]


def _paper(row: Entry) -> str:
    """Return the paper's figure where it has such a row: in f32, or in int8 without bf16."""
    key = (row["network"], row["engine"], "int8" in row["precision"])
    if "bf16" in row["precision"] or key not in PAPER_S:
        return ""
    return f"{PAPER_S[key]:.3f} s"


def start_section(record: Entry) -> list[str]:
    """Return the section on what a process with one image takes."""
    rows = [
        [row["service"], f"{row['cold_s']:.2f} s", f"{row['cached_s']:.2f} s"]
        for row in record["rows"]
    ]
    return section(
        "One small image",
        "An image of 256x256 with one box in a fresh process, whole wall time, without a cache of "
        "compiled models and with one. `f32` and `bf16` are the float model, `int8` is the int8 "
        "model as a user gets it here.",
        markdown_table(["service", "no cache", "cache"], rows),
        record=record,
        note=f"Medians of {record['runs']} runs.",
    )


def cases_section(record: Entry) -> list[str]:
    """Return the section on cases: Table 8."""
    cases = record["cases"]
    *services, baseline = methods = list(cases[0]["methods"])
    header = ["case", "size", "objects", *methods, "paper, baseline", "paper, proposed"]
    times, speed_ups, peaks = [], [], []
    for case in cases:
        found = case["methods"]
        times.append(
            [
                case["case"],
                "x".join(str(side) for side in case["shape"]),
                str(case["objects"]),
                *(_case_seconds(found[name]) for name in methods),
                *(_paper_seconds(value) for value in case["paper_s"]),
            ]
        )
        values = [speed_up(found[baseline], found[name]) for name in services]
        speed_ups.append(
            [case["case"], *("" if math.isnan(value) else f"{value:.1f}x" for value in values)]
        )
        peaks.append([case["case"], *(f"{found[name]['peak_mb']:.0f} MB" for name in methods)])
    most = max(found["runs"] for case in cases for found in case["methods"].values())
    text = f"Medians of {most} runs; no run after the first began past {record['budget_s']:g} s."
    int8 = (
        " int8 is the model that ships, fine-tuned, the others have the published float weights."
        if any("int8" in name for name in services)
        else ""
    )
    return section(
        "Cases (Table 8)",
        "Each case alone in a fresh process, whole wall time, no cache of compiled models, at most "
        "8 GiB (MLE: memory limit exceeded); images are real ones brought to the size of the "
        "paper's cases, and objects cover as many slices as the paper's baseline times imply. "
        f"~: the baseline walked {record['most_slices']} slices of each object, and the others "
        "are added at the median time of one." + int8 + " The paper's seconds are of "
        "another machine.",
        markdown_table(header, times),
        f"How many times as fast as the {baseline}:",
        markdown_table(["case", *services], speed_ups),
        _span_table(cases, services, baseline),
        "Peak resident memory:",
        markdown_table(["case", *methods], peaks),
        record=record,
        note=text,
    )


def _span_table(cases: list[Entry], services: list[str], baseline: str) -> str:
    """Return the least and the most of the speed-ups of images, and of volumes."""
    rows = []
    for name in services:
        row = [name]
        for is_volume in (False, True):
            ratios = [
                speed_up(case["methods"][baseline], case["methods"][name])
                for case in cases
                if (case["shape"][2] != 3) == is_volume
            ]
            known = [ratio for ratio in ratios if not math.isnan(ratio)]
            row.append(f"{min(known):.1f} to {max(known):.1f}" if known else "")
        rows.append(row)
    return markdown_table(["", "images", "volumes"], rows)


def _case_seconds(found: Entry) -> str:
    if found["is_out_of_memory"]:
        return MEMORY_EXCEEDED
    return f"{'~' if found['visits'] != found['walked'] else ''}{found['s']:.2f} s"


def _paper_seconds(value: float | None) -> str:
    return MEMORY_EXCEEDED if value is None else f"{value:.1f} s"


def curves_section(record: Entry) -> list[str]:
    """Return the section on time and memory against boxes and slices."""
    parts = []
    for kind, by_precision in record["curves"].items():
        header = [kind]
        for precision in by_precision:
            header += [f"time, {precision}", f"peak, {precision}"]
        rows = []
        for points in zip(*by_precision.values(), strict=True):
            rows.append([str(points[0]["count"])])
            for point in points:
                rows[-1] += [f"{point['s']:.2f} s", f"{point['peak_mb']:.0f} MB"]
        parts.append(markdown_table(header, rows))
    return section(
        "More boxes and more slices",
        "The int8 model on a mammogram of 2604x1726 tiled with boxes, which are smaller the more "
        "there are, and on a CT of 512x512 slices with one object on all of them. Whole wall time "
        "and peak memory of fresh processes without a cache of compiled models, with the layers "
        "that are not in int8 in f32 and in bf16.",
        *parts,
        record=record,
        note=f"Medians of {record['runs']} runs.",
    )


def layers_section(record: Entry) -> list[str]:
    """Return the section on where a model's time goes."""
    parts = []
    for part, taken in record["milliseconds"].items():
        rows = [[kind, f"{value:.1f}"] for kind, value in taken.items()]
        rows.append(["sum", f"{sum(taken.values()):.1f}"])
        parts.append(markdown_table([part, "ms"], rows))
    work = ""
    if gmac := record.get("gmac"):
        work = (
            f" The encoder takes {gmac['encoder']:.1f} billion multiply-accumulates, the decoder "
            f"{gmac['decoder']:.2f}."
        )
    return section(
        "Layers",
        "Where the time of the int8 model goes, by OpenVINO's profile, which costs time itself: "
        "one image, and one box with the whole embedding for its crop. The encoder also computes "
        "what the decoder reads of an image." + work,
        *parts,
        record=record,
        note=f"Other layers in {record['precision']}.",
    )
