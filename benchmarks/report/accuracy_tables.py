"""Records of accuracy as sections of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.report.section import Entry, section
from training.scoring.score_tables import MEAN_OF_MODALITIES, MEANS, markdown_table, percent

SCORES = (
    ("DSC", "correct", "dsc"),
    ("NSD as the challenge computes it", "official", "nsd"),
    ("NSD, contours and spacing right", "correct", "nsd"),
)


def summary_section(accuracy: Entry, models: Entry) -> list[str]:
    """Return the section that has the baseline beside the models: DSC, and the mean NSD."""
    (title, baseline), *_ = accuracy["methods"].items()
    columns = {title: baseline, **models["methods"]}
    changes = worst_changes({**models["methods"], **columns})
    rows = [
        *_modality_rows(columns, "correct", "dsc"),
        _mean_row(columns, MEAN_OF_MODALITIES, "correct", "dsc"),
        ["worst against float", "", *(changes.get(name, "") for name in columns)],
        _mean_row(columns, MEAN_OF_MODALITIES, "official", "nsd", "mean NSD, the challenge's"),
    ]
    return [
        "## In short: accuracy",
        "Mean DSC by modality, percent, on 95 images and volumes of the validation split that this "
        "project was built with. The baseline is LiteMedSAM's published way to run the published "
        "weights, in PyTorch: one box at a time, propagation through volumes. The others run in "
        "this service, the layers that are not in int8 in f32: the float model, NNCF's "
        "post-training quantization of it, QMedSAM's scheme (`paper`) and ours (`deploy`), each "
        "calibrated only and trained; `deploy`, trained, is `models/int8` before its graphs were "
        "rewritten for speed, which changed its DSC by -0.30 (OCT) to +0.11 (MR; "
        "[study](studies/2026-11-26-speed-up.md)). All had the means of two processor cores.",
        markdown_table(["modality", "cases", *columns], rows),
        "`models/int8`, which runs by default on processors with VNNI, was trained further on "
        "images of the same sources as those of the validation split, so what it gains is what a "
        "research group gains by training on its own kind of images; on other sources expect less "
        "([model card](../models/README.md)).",
    ]


def accuracy_section(record: Entry) -> list[str]:
    """Return the section on accuracy: Table 7."""
    methods = record["methods"]
    return section(
        "Accuracy (Table 7)",
        "Validation split of real cases of eleven modalities, whole images and volumes, volumes by "
        "the default prompt; percent. The baseline is the published PyTorch pipeline, one box at a "
        "time, with propagation through volumes. The challenge's NSD takes an image for a slab of "
        "one voxel, whose surface is most of its area, and puts the spacing on the wrong axes of "
        "a volume. Volumes without a spacing (three of MR) count as 1 mm.",
        *scores_by_modality(methods),
        *_worst(methods),
        *_worst(dict(list(methods.items())[1:])),
        record=record,
    )


def volume_prompt_section(record: Entry) -> list[str]:
    """Return the section on the rules that prompt the slices of a volume."""
    return section(
        "Volume prompt",
        "Which box prompts a slice: the object's own (`fixed`), from the middle slice outward the "
        "box of the neighbour's mask (`propagate`), or that limited by the own box (`hybrid`). "
        "`fixed` is best on average and the default; on CT, where one structure changes its shape "
        "slowly, `hybrid` is better.",
        *scores_by_modality(record["methods"]),
        record=record,
        note=f"Precision {record['precision']}.",
    )


def models_section(record: Entry) -> list[str]:
    """Return the section on models that were quantized in different ways."""
    methods = record["methods"]
    return section(
        "Quantization",
        "The service with models quantized in different ways. `paper` is QMedSAM's scheme, 8 bits "
        "per tensor, symmetric, in encoder and decoder; `deploy` is what ships, 8 bits in the "
        "encoder, weights per channel, activations with a zero point.",
        *scores_by_modality(methods),
        *_worst(methods),
        *trained_steps(record["training"]),
        record=record,
        note=f"Other layers in {record['precision']}.",
    )


def scores_by_modality(methods: Mapping[str, Entry]) -> list[str]:
    """Return a table of each score: modalities down, methods across."""
    parts = []
    for title, mode, metric in SCORES:
        rows = _modality_rows(methods, mode, metric)
        rows += [_mean_row(methods, mean, mode, metric) for mean in MEANS]
        parts += [f"**{title}**", markdown_table(["modality", "cases", *methods], rows)]
    return parts


def _modality_rows(methods: Mapping[str, Entry], mode: str, metric: str) -> list[list[str]]:
    """Return a score of each method, a row for each modality of the first."""
    columns = [found["modalities"] for found in methods.values()]
    return [
        [name, str(entry["cases"]), *(percent(column[name][mode][metric]) for column in columns)]
        for name, entry in columns[0].items()
    ]


def _mean_row(
    methods: Mapping[str, Entry], mean: str, mode: str, metric: str, title: str | None = None
) -> list[str]:
    """Return a score of each method, averaged over all."""
    values = [percent(found[mean][mode][metric]) for found in methods.values()]
    return [title or mean.replace("_", " "), "", *values]


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


def worst_changes(methods: Mapping[str, Entry]) -> dict[str, str]:
    """Return of each method but the first where its DSC falls most against that, or rises least."""
    (_, base), *others = methods.items()
    worst = {}
    for title, found in others:
        changes = {}
        for name, entry in base["modalities"].items():
            was, now = entry["correct"]["dsc"], found["modalities"][name]["correct"]["dsc"]
            if was is not None and now is not None:
                changes[name] = 100 * (now - was)
        if changes:
            name = min(changes, key=lambda name: changes[name])
            worst[title] = f"{changes[name]:+.2f} ({name})"
    return worst


def _worst(methods: Mapping[str, Entry]) -> list[str]:
    lines = [f"- {title}: {change}" for title, change in worst_changes(methods).items()]
    base = next(iter(methods))
    return [f"Worst modality against {base}, DSC:", "\n".join(lines)] if lines else []
