"""Records as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.score_tables import percent

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


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; all columns but the first are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def engines_section(record: Entry) -> list[str]:
    """Return the section on engines: Tables 5 and 6."""
    sections = [
        "## Engines (Tables 5 and 6)",
        "One image and one box; medians over all runs, with the range of the whole. The speed-up "
        "is against PyTorch in f32. int8 is post-training quantization unless it says QAT; "
        '"rest" is the precision of what stays in floating point. The paper\'s seconds are of '
        "another machine.",
    ]
    for network in dict.fromkeys(row["network"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["network"] == network]
        base = rows[0]["whole"]["median_s"]
        weights = ""
        if network == "MedSAM" and record["medsam_weights"] == "random":
            weights = " (random weights, as its checkpoint was not given)"
        header = ["engine", "precision", "encoder", "decoder", "whole", "speed-up", "peak memory"]
        cells = [[*_engine_cells(row, base), _paper(row)] for row in rows]
        sections += [f"### {network}{weights}", table([*header, "paper"], cells)]
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
        f"{row['peak_mb']} MB",
    ]


def _paper(row: Entry) -> str:
    """Return the paper's figure where it has such a row: in f32, or in int8 without bf16."""
    key = (row["network"], row["engine"], "int8" in row["precision"])
    if "bf16" in row["precision"] or key not in PAPER_S:
        return ""
    return f"{PAPER_S[key]:.3f} s"


def cases_section(record: Entry) -> list[str]:
    """Return the section on cases: Table 8."""
    methods = list(record["cases"][0]["methods"])
    *services, baseline = methods
    header = ["case", "size", "objects", *(f"{name}" for name in methods)]
    header += [f"speed-up {name.removeprefix('service ')}" for name in services]
    header += [f"peak {name.removeprefix('service ')}" for name in services]
    rows = []
    for case in record["cases"]:
        found = case["methods"]
        seconds = [f"{found[name]['s']:.2f} s" for name in services]
        is_scaled = found[baseline]["visits"] != found[baseline]["walked"]
        seconds.append(f"{'~' if is_scaled else ''}{found[baseline]['s']:.1f} s")
        ratios = [f"{found[baseline]['s'] / found[name]['s']:.1f}x" for name in services]
        peaks = [f"{found[name]['peak_mb']:.0f} MB" for name in services]
        size = "x".join(str(side) for side in case["shape"])
        paper = [_seconds(value) for value in case["paper_s"]]
        row = [case["case"], size, str(case["objects"]), *seconds, *ratios, *peaks, *paper]
        rows.append(row)
    header += ["paper, baseline", "paper, proposed"]
    first = record["cases"][0]["methods"]
    text = (
        f"Medians of {first[services[0]]['runs']} runs of the service, "
        f"{first[baseline]['runs']} of the baseline."
    )
    return [
        "## Cases (Table 8)",
        "Each case alone in a fresh process, whole wall time, no cache of compiled models, 8 GiB; "
        "images are real ones brought to the size of the paper's cases, and objects cover as many "
        f"slices as the paper's baseline times imply. ~ is scaled from {record['most_slices']} "
        "slices of each object. The paper's seconds are of another machine; MLE is its memory "
        "limit exceeded.",
        table(header, rows),
        provenance(record, text),
    ]


def _seconds(value: float | None) -> str:
    return "MLE" if value is None else f"{value:.1f} s"


def accuracy_section(record: Entry) -> list[str]:
    """Return the section on accuracy: Table 7."""
    methods = record["methods"]
    return [
        "## Accuracy (Table 7)",
        "Validation split of real cases of eleven modalities, whole images and volumes, volumes by "
        "the default prompt; percent. The baseline is the published PyTorch pipeline, one box at a "
        "time, with propagation through volumes. The challenge's NSD takes an image for a slab of "
        "one voxel, whose surface is most of its area, and puts the spacing on the wrong axes of "
        "a volume.",
        *scores_by_modality(methods),
        _worst_losses(methods),
        provenance(record),
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
        for mean in ("mean_of_modalities", "mean_of_cases"):
            values = [percent(found[mean][mode][metric]) for found in methods.values()]
            rows.append([mean.replace("_", " "), "", *values])
        parts += [f"**{title}**", table(["modality", "cases", *methods], rows)]
    return parts


def _worst_losses(methods: Mapping[str, Entry]) -> str:
    """Say which modality each method loses most against the first, in DSC."""
    base_title, base = next(iter(methods.items()))
    lines = []
    for title, found in list(methods.items())[1:]:
        gains = {
            name: 100 * (found["modalities"][name]["correct"]["dsc"] - entry["correct"]["dsc"])
            for name, entry in base["modalities"].items()
        }
        worst = min(gains, key=lambda name: gains[name])
        lines.append(f"- {title}: {gains[worst]:+.2f} ({worst})")
    return f"Worst modality against {base_title}, DSC:\n\n" + "\n".join(lines)
