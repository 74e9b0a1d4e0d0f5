"""What can be wrong with the arguments of a stage, said before torch is imported."""

from __future__ import annotations

import argparse

from training.data.volumes import DataError
from training.loop.recipe import Recipe, RecipeError, read_recipe
from training.options import output_folder, weights_path
from training.published import CheckpointError, check_is_file

LAST_FILE = "last.pt"  # in the output folder: what a run that was stopped goes on from


def check_beforehand(arguments: argparse.Namespace) -> Recipe:
    """Read the recipe and check that there is what the arguments name; see `training.train`.

    What to begin with is filled in where it is not given.

    Raises:
        CheckpointError: a checkpoint is missing, or a run is there that is not to go on.
        DataError: a folder of data is missing.
        OSError: the output folder cannot be written.
        RecipeError: the recipe is no recipe, or needs `--init`.
    """
    recipe = read_recipe(arguments.recipe, arguments.set)
    for folder in (arguments.data, *arguments.val):
        if not folder.is_dir():
            raise DataError(f"{folder} must be a folder of modalities, got none")
    if recipe.needs_init and arguments.init is None:
        raise RecipeError(
            f"{recipe.name!r} goes on from another stage: --init must name its best.pt"
        )
    arguments.init = weights_path(arguments.network, arguments.init, "--init")
    if recipe.loss.distillation:
        check_is_file(arguments.teacher or arguments.checkpoint)
    last = output_folder(arguments.output_dir) / LAST_FILE
    if last.is_file() and not arguments.resume:
        raise CheckpointError(f"{last} is there; pass --resume or another --output-dir")
    return recipe
