"""Records of speed and memory as Markdown tables."""

from __future__ import annotations

import math

from benchmarks.report.plots import speed_up
from benchmarks.report.tables import Entry, provenance
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


def engines_section(record: Entry, title: str) -> list[str]:
    """Return a section on engines: Tables 5 and 6."""
    graphs = (
        ' "As exported" are the graphs of the ONNX files, which NNCF quantizes, too; "as served" '
        "is the same float network as it ships, whose decoder is given the whole embedding here "
        "and not the window of the box."
        if any("as served" in row["precision"] for row in record["rows"])
        else ""
    )
    sections = [
        f"## {title}",
        "One image and one box; medians over all runs, with the range of the whole. The speed-up "
        f"is against PyTorch in f32.{graphs} int8 is post-training quantization unless it says "
        'QAT; "rest" is the precision of what stays in floating point. For ONNX Runtime NNCF '
        "quantized the ONNX graph, without SmoothQuant and from fewer images: that row is for "
        "speed. The paper's seconds are of another machine, its int8 is by QAT.",
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


def start_section(record: Entry) -> list[str]:
    """Return the section on what a process with one image takes."""
    rows = [
        [row["service"], f"{row['cold_s']:.2f} s", f"{row['cached_s']:.2f} s"]
        for row in record["rows"]
    ]
    return [
        "## One small image",
        "An image of 256x256 with one box in a fresh process, whole wall time, without a cache of "
        "compiled models and with one. `f32` and `bf16` are the float model, `int8` is the int8 "
        "model as a user gets it here.",
        markdown_table(["service", "no cache", "cache"], rows),
        provenance(record, f"Medians of {record['runs']} runs."),
    ]


def cases_section(record: Entry) -> list[str]:
    """Return the section on cases: Table 8."""
    cases = record["cases"]
    *services, baseline = methods = list(cases[0]["methods"])
    ratios = [(name, baseline) for name in services if not name.startswith("before")]
    ratios += [
        (name, earlier)
        for name in services
        if (earlier := name.replace("service", "before")) in services and earlier != name
    ]
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
        values = [speed_up(found[slower], found[faster]) for faster, slower in ratios]
        speed_ups.append(
            [case["case"], *("" if math.isnan(value) else f"{value:.1f}x" for value in values)]
        )
        peaks.append([case["case"], *(f"{found[name]['peak_mb']:.0f} MB" for name in methods)])
    most = max(found["runs"] for case in cases for found in case["methods"].values())
    text = f"Medians of {most} runs; no run after the first began past {record['budget_s']:g} s."
    before = (
        " `before` is the service as it was before its decoder was folded, its model cut in two "
        "and its steps overlapped (commit 6fba49a)."
        if any(name.startswith("before") for name in services)
        else ""
    )
    int8 = (
        " int8 is the model that ships, fine-tuned, the others have the published float weights."
        if any("int8" in name for name in services)
        else ""
    )
    return [
        "## Cases (Table 8)",
        "Each case alone in a fresh process, whole wall time, no cache of compiled models, at most "
        "8 GiB (MLE: memory limit exceeded); images are real ones brought to the size of the "
        "paper's cases, and objects cover as many slices as the paper's baseline times imply. "
        f"~: the baseline walked {record['most_slices']} slices of each object, and the others "
        "are added at the median time of one." + int8 + before + " The paper's seconds are of "
        "another machine.",
        markdown_table(header, times),
        "How many times faster:",
        markdown_table(["case", *(f"{new} than {old}" for new, old in ratios)], speed_ups),
        "Peak resident memory:",
        markdown_table(["case", *methods], peaks),
        provenance(record, text),
    ]


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
            header += [f"time, rest {precision}", f"peak, rest {precision}"]
        rows = []
        for points in zip(*by_precision.values(), strict=True):
            rows.append([str(points[0]["count"])])
            for point in points:
                rows[-1] += [f"{point['s']:.2f} s", f"{point['peak_mb']:.0f} MB"]
        parts.append(markdown_table(header, rows))
    return [
        "## More boxes and more slices",
        "The int8 model on a mammogram of 2604x1726 tiled with boxes, which are smaller the more "
        "there are, and on a CT of 512x512 slices with one object on all of them. Whole wall time "
        "and peak memory of fresh processes without a cache of compiled models.",
        *parts,
        provenance(record, f"Medians of {record['runs']} runs."),
    ]


def layers_section(record: Entry) -> list[str]:
    """Return the section on where a model's time goes."""
    models = record["models"]
    parts = []
    for part in next(iter(models.values())):
        kinds = dict.fromkeys(kind for model in models.values() for kind in model[part])
        rows = [
            [
                kind,
                *(
                    f"{model[part][kind]:.1f}" if kind in model[part] else ""
                    for model in models.values()
                ),
            ]
            for kind in kinds
        ]
        rows.append(["sum", *(f"{sum(model[part].values()):.1f}" for model in models.values())])
        parts += [f"**{part}, ms**", markdown_table(["layers", *models], rows)]
    return [
        "## Layers",
        "Where the time of the int8 model goes, by OpenVINO's profile, which costs time itself: "
        "one image, and one box with the whole embedding for its window. `before` is the model as "
        "it was exported before its decoder was folded, the encoder's attention and neck rewritten "
        "and zero points moved into biases; the encoder of `now` also computes what the decoder "
        "reads of an image.",
        *parts,
        provenance(record, f"The rest in {record['precision']}."),
    ]


def scaling_section(record: Entry) -> list[str]:
    """Return the section on threads and the processor's limit."""
    rows = [
        [
            row["precision"],
            str(row["threads"]),
            f"{1000 * row['encoder_s']:.0f} ms",
            f"{row['gmac_per_s']:.0f}",
            f"{row['peak_gmac_per_s']:.0f}",
            f"{100 * row['gmac_per_s'] / row['peak_gmac_per_s']:.0f} %",
        ]
        for row in record["rows"]
    ]
    header = ["encoder", "threads", "time", "GMAC/s", "peak, GMAC/s", "share of the peak"]
    return [
        "## Threads and the limit",
        f"The encoder takes {record['rows'][0]['gmac']:.1f} billion multiply-accumulates for an "
        "image. The peak is that of large matrix products in the same precision, measured with "
        "OpenVINO in the same run; in int8 it includes rounding what goes in and comes out.",
        markdown_table(header, rows),
        provenance(record),
    ]


def limits_section(record: Entry) -> list[str]:
    """Return the section on memory limits and CPU quotas."""
    rows = [
        [
            row["case"],
            f"{row['limit_mb']:.0f} MB",
            "all" if row["cores"] is None else f"{row['cores']:g}",
            f"{row['s']:.1f} s",
            f"{row['peak_mb']:.0f} MB",
            str(row["threads"]),
            str(row["box_batch_size"]),
        ]
        for row in record["rows"]
    ]
    header = ["case", "memory limit", "cores", "time", "peak memory", "threads", "block"]
    return [
        "## Limits",
        "The largest cases under limits that a control group enforces, as those of a container: "
        "memory, files that are read included, and time of the processor. No cache of compiled "
        "models.",
        markdown_table(header, rows),
        provenance(record),
    ]


def soak_section(record: Entry) -> list[str]:
    """Return the section on many cases in one process."""
    points = record["points"]
    tenth = len(points) // 10
    header = ["cases done", "cases a second", "resident memory", "open files", "threads"]
    rows = []
    for first, last in ((tenth, 2 * tenth), (5 * tenth, 6 * tenth), (9 * tenth, 10 * tenth - 1)):
        share = points[first : last + 1]
        rate = (share[-1]["done"] - share[0]["done"]) / (share[-1]["s"] - share[0]["s"])
        rows.append(
            [
                f"{share[0]['done']} to {share[-1]['done']}",
                f"{rate:.1f}",
                f"at most {max(point['resident_mb'] for point in share):.0f} MB",
                f"at most {max(point['files'] for point in share):.0f}",
                f"at most {max(point['threads'] for point in share):.0f}",
            ]
        )
    return [
        "## Long runs",
        f"{record['cases']} small images and short volumes of several sizes in one process, looked "
        "at from outside.",
        markdown_table(header, rows),
        provenance(record),
    ]
