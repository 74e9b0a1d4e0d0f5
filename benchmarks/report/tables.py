"""Records of accuracy and of training data as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.scoring.score_tables import MEANS, markdown_table, percent

SCORES = (
    ("DSC", "correct", "dsc"),
    ("NSD as the challenge computes it", "official", "nsd"),
    ("NSD, contours and spacing right", "correct", "nsd"),
)
LARGEST_CASE_LOSS = 0.1  # DSC that a change for speed may cost a case
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


def masks_section(record: Entry) -> list[str]:
    """Return the section on label maps before and after the changes for speed."""
    header = ["modality", "cases", "pixels", "differ", "most of a case"]
    header += ["DSC before", "DSC now", "NSD before", "NSD now"]
    parts = []
    for service, found in record["services"].items():
        before, now = (found["scores"][name] for name in ("before", "now"))
        rows = []
        for modality, counted in found["differences"].items():
            pair = [scores["modalities"][modality] for scores in (before, now)]
            rows.append(
                [
                    modality,
                    str(counted["cases"]),
                    str(counted["pixels"]),
                    str(counted["differing"]),
                    f"{counted['worst_share']:.1e}",
                    *(percent(scores["correct"]["dsc"]) for scores in pair),
                    *(percent(scores["official"]["nsd"]) for scores in pair),
                ]
            )
        parts += [f"**{service}**", markdown_table(header, rows)]
        parts += worst_changes({"before": before, "now": now})
    return [
        "## Masks before and after the changes for speed",
        "Label maps of the validation split by the service as it was before its decoder was folded "
        "(`before`, commit 6fba49a, as in the table of cases) and as it is: `f32` is the float "
        "model in f32, where only the order of sums differs and what lies far outside a box is not "
        "decoded; "
        "`int8` the int8 model as a user gets it here, where a sum in another order may round an "
        "activation to the next step. NSD as the challenge computes it.",
        *parts,
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


def case_losses(methods: Mapping[str, Entry], of: str) -> str:
    """Say of each method in how many cases it loses against that of its model that is named `of`.

    Args:
        methods: by titles "model, what is varied".
        of: what is varied in the one that the others are held against.
    """
    lines = []
    for title, found in methods.items():
        model, varied = title.split(", ")
        if varied == of:
            continue
        whole = methods[f"{model}, {of}"]["cases"]
        losses = {
            f"{now['modality']} {now['case']}": 100
            * (was["correct"]["dsc"] - now["correct"]["dsc"])
            for was, now in zip(whole, found["cases"], strict=True)
            if was["correct"]["dsc"] is not None
        }
        worst = max(losses, key=lambda name: losses[name])
        more = sum(loss > LARGEST_CASE_LOSS for loss in losses.values())
        lines.append(f"- {title}: {more} of {len(losses)}; {losses[worst]:.2f} ({worst})")
    text = (
        f"Cases that lose more than {LARGEST_CASE_LOSS} DSC against {of}; the largest loss of one:"
    )
    return "\n\n".join([text, "\n".join(lines)])
