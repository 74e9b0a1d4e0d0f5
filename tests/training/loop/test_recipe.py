"""Recipes: what they say, and what is refused."""

from __future__ import annotations

import itertools
import tomllib

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from tests.conftest import ROOT
from training.data.augment import Augmentation
from training.loop.recipe import (
    DataSettings,
    LossSettings,
    OptimizerSettings,
    Recipe,
    RecipeError,
    ScheduleSettings,
    ValidationSettings,
    read_recipe,
    recipe_of,
)
from training.quantization.config import QuantConfig

pytestmark = pytest.mark.training

RECIPES = sorted((ROOT / "training" / "recipes").glob("*.toml"))
NOWHERE_DEFAULT = Recipe(
    name="all differs",
    quantized=("image_encoder", "mask_decoder"),
    trained=("mask_decoder",),
    frozen=("mask_decoder.transformer.layers.0", "mask_decoder.iou_token"),
    calibration_images=3,
    needs_init=True,
    seed=9,
    quant=QuantConfig(
        scheme="paper",
        weight_bits=4,
        activation_bits=6,
        ranges="percentile",
        percentile=99.0,
        smoothing=0.0,
        correct_biases=False,
    ),
    data=DataSettings(
        slices=7,
        exclude=("CT/Aorta",),
        terms="allowed",
        balance="files",
        regions=0.4,
        batch_size=3,
        global_batch=12,
        objects_per_image=2,
        other_boxes=4,
        workers=0,
        cache_mb=1,
    ),
    augmentation=Augmentation(
        flip_horizontal=0.1,
        flip_vertical=0.2,
        box_shift_px=(-2.0, 3.0),
        own_box=0.3,
        zoom=0.4,
        zoom_range=(0.5, 2.0),
        photometric=0.6,
        grey=0.7,
    ),
    loss=LossSettings(
        dice=2.0, focal=3.0, distillation=0.0, quality=0.5, imitation=0.3, focal_gamma=1.0
    ),
    optimizer=OptimizerSettings(
        name="adamw",
        learning_rate=0.1,
        range_rate=2.0,
        momentum=0.5,
        weight_decay=0.2,
        clip_norm=3.0,
        ema_decay=0.5,
    ),
    schedule=ScheduleSettings(warmup_epochs=2, annealing_epochs=3),
    validation=ValidationSettings(
        slices_per_volume=1, contours=True, objects_per_image=2, regions="auto"
    ),
)


def write(tmp_path, text):
    path = tmp_path / "stage.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path) -> str:
    """Return the message with which a recipe is refused; it begins with the file."""
    with pytest.raises(RecipeError) as raised:
        read_recipe(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def assert_holds(settings, document):
    """Compare settings with what TOML says, key by key."""
    for name, expected in document.items():
        value = getattr(settings, name)
        if isinstance(expected, dict):
            assert_holds(value, expected)
        else:
            assert value == (tuple(expected) if isinstance(expected, list) else expected), name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_project_is_read_as_it_stands(path):
    recipe = read_recipe(path)
    assert_holds(recipe, tomllib.loads(path.read_text(encoding="utf-8")))
    assert recipe_of(recipe.model_dump()) == recipe


@pytest.mark.parametrize("family", ["deploy", "paper"])
def test_the_stages_of_a_family_follow_each_other(family):
    # A checkpoint is refused by a stage that quantizes otherwise, and nothing becomes float again.
    stages = [read_recipe(path) for path in RECIPES if path.stem.startswith(f"{family}-")]
    assert [recipe.trained for recipe in stages] == [
        ("image_encoder",),
        ("mask_decoder",),
        ("image_encoder", "mask_decoder"),
    ]
    assert len({recipe.quant for recipe in stages}) == 1
    for before, after in itertools.pairwise(stages):
        assert set(before.quantized) <= set(after.quantized)


def test_what_a_recipe_leaves_out_is_the_papers(tmp_path):
    recipe = read_recipe(write(tmp_path, 'name = "short"'))
    assert recipe == Recipe(name="short")
    assert (recipe.optimizer.name, recipe.optimizer.momentum) == ("sgd", 0.9)
    assert recipe.data.slices == "min"


def test_the_last_epoch_of_the_warm_up_is_the_first_of_the_annealing():
    assert ScheduleSettings(warmup_epochs=5, annealing_epochs=10).epochs == 14
    assert ScheduleSettings(warmup_epochs=1, annealing_epochs=1).epochs == 1


def test_every_setting_of_the_second_recipe_differs_from_the_first():
    # What the next test shows would otherwise be true of a default as well.
    for one, other in (
        (NOWHERE_DEFAULT, Recipe(name="plain")),
        *(
            (getattr(NOWHERE_DEFAULT, name), getattr(Recipe(name="plain"), name))
            for name in ("data", "augmentation", "loss", "optimizer", "schedule", "validation")
        ),
    ):
        same = [
            name for name in type(one).model_fields if getattr(one, name) == getattr(other, name)
        ]
        assert same == []


def test_a_recipe_is_what_its_dict_says():
    document = NOWHERE_DEFAULT.model_dump()
    assert recipe_of(document) == NOWHERE_DEFAULT
    document["augmentation"]["box_shift_px"] = [-2.0, 3.0]  # as TOML has it
    document["quantized"] = ["image_encoder", "mask_decoder"]
    assert recipe_of(document) == NOWHERE_DEFAULT
    document["loss"]["dice"] = 2.5
    assert recipe_of(document) != NOWHERE_DEFAULT


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        pytest.param('name = "a"\nepochs = 3', "epochs", "schedule", id="top"),
        pytest.param(
            'name = "a"\n[data]\nbatchsize = 3', "data.batchsize", "batch_size", id="data"
        ),
        pytest.param('name = "a"\n[quant]\nbits = 8', "quant.bits", "weight_bits", id="quant"),
        pytest.param(
            'name = "a"\n[augmentation]\nflip = 1',
            "augmentation.flip",
            "own_box",
            id="augmentation",
        ),
        pytest.param('name = "a"\n[optimiser]\nname = "sgd"', "optimiser", "optimizer", id="table"),
    ],
)
def test_an_unknown_key_is_named_with_those_there_are(tmp_path, text, key, known):
    message = refused(write(tmp_path, text))
    assert f"Unknown key {key};" in message
    assert known in message.split("there are")[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            'trained = ["decoder"]',
            "trained.0 must be 'image_encoder' or 'mask_decoder'",
            id="part",
        ),
        pytest.param('quantized = ["prompt_encoder"]', "got 'prompt_encoder'", id="quantized"),
        pytest.param("trained = []", "trained must have at least 1 item", id="nothing-trained"),
        pytest.param("data = 3", "data must be a table, got 3", id="no-table"),
        pytest.param(
            '[optimizer]\nname = "adam"',
            "optimizer.name must be 'sgd' or 'adamw', got 'adam'",
            id="optimizer",
        ),
        pytest.param(
            "[optimizer]\nema_decay = 1.0", "ema_decay must be less than 1, got 1.0", id="ema"
        ),
        pytest.param(
            "[schedule]\nwarmup_epochs = 0", "must be greater than 0, got 0", id="no-warm-up"
        ),
        pytest.param(
            "[schedule]\nannealing_epochs = 0", "must be greater than 0, got 0", id="no-annealing"
        ),
        pytest.param(
            '[schedule]\nwarmup_epochs = "two"',
            "must be a valid integer, got 'two'",
            id="epochs-in-words",
        ),
        pytest.param(
            '[quant]\nscheme = "mine"',
            "quant.scheme must be 'paper' or 'deploy', got 'mine'",
            id="scheme",
        ),
        pytest.param("[quant]\nweight_bits = 9", "less than or equal to 8, got 9", id="bits"),
        pytest.param(
            "[augmentation]\nzoom = 2.0", "less than or equal to 1, got 2.0", id="probability"
        ),
        pytest.param("[augmentation]\nbox_shift_px = [5, 1]", "lower end first", id="range"),
    ],
)
def test_a_wrong_value_is_explained(tmp_path, text, expected):
    assert expected in refused(write(tmp_path, f'name = "a"\n{text}'))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[optimizer]\nlearning_rate = "high"', id="rate-in-words"),
        pytest.param("[optimizer]\nlearning_rate = -1.0", id="rate-below-zero"),
        pytest.param("[optimizer]\nclip_norm = -1.0", id="gradients-turned-round"),
        pytest.param("[loss]\ndistillation = -1.0", id="away-from-the-teacher"),
        pytest.param("seed = -1", id="seed-below-zero"),
        pytest.param('[data]\nslices = "many"', id="slices"),
        pytest.param("[data]\nbatch_size = 0", id="batch-size"),
        pytest.param("[data]\nglobal_batch = -1", id="global-batch"),
        pytest.param('[data]\nbalance = "boxes"', id="no-balance"),
        pytest.param("[validation]\nslices_per_volume = 0", id="no-validation"),
        pytest.param("[schedule]\nwarmup_epochs = 2.5", id="half-an-epoch"),
        pytest.param('frozen = "image_encoder.neck"', id="frozen-is-no-list"),
        pytest.param('seed = "x"', id="seed"),
    ],
)
def test_a_value_that_no_stage_can_use_is_refused_when_it_is_read(tmp_path, text):
    refused(write(tmp_path, f'name = "a"\n{text}'))


def test_each_process_takes_its_share_of_a_global_batch():
    assert DataSettings(batch_size=3).batch_of_each(4) == 3
    assert [DataSettings(global_batch=12).batch_of_each(n) for n in (1, 2, 4, 12)] == [12, 6, 3, 1]


@pytest.mark.parametrize("global_batch", [2, 6])
def test_a_global_batch_that_processes_cannot_share_is_refused(global_batch):
    with pytest.raises(RecipeError, match=f"number of processes, 4, got {global_batch}"):
        DataSettings(global_batch=global_batch).batch_of_each(4)


def test_a_recipe_needs_a_name(tmp_path):
    assert "'name'" in refused(write(tmp_path, "seed = 1"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'name = "a', id="open-string"),
        pytest.param(b"name: a", id="yaml"),
        pytest.param(b'name = "a"\nname = "b"', id="twice"),
        pytest.param(b'name = "\xff\xfe"', id="no-utf-8"),
    ],
)
def test_what_is_no_toml_is_refused(tmp_path, content):
    path = tmp_path / "stage.toml"
    path.write_bytes(content)
    assert len(refused(path)) > 10


def test_a_recipe_may_be_changed_key_by_key(tmp_path):
    path = write(tmp_path, 'name = "a"\n[data]\nslices = 3\nworkers = 0\n[loss]\ndice = 2.0')
    changes = ["data.slices=900", 'optimizer.name="adamw"', "trained = ['mask_decoder']"]
    changed = read_recipe(path, changes)
    assert changed.data == DataSettings(slices=900, workers=0)
    assert changed.optimizer == OptimizerSettings(name="adamw")
    assert changed.trained == ("mask_decoder",)
    parts = {name: getattr(changed, name) for name in ("data", "optimizer", "trained")}
    assert read_recipe(path).model_copy(update=parts) == changed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("data.slice=900", "Unknown key data.slice;"),
        ("quant.weight_bits=1", "quant.weight_bits must be greater than or equal to 2, got 1"),
        ("data.slices=", "Invalid value"),
        ("data=3", "data must be a table"),
    ],
)
def test_a_wrong_change_is_refused_as_the_recipe_would_be(tmp_path, change, expected):
    path = write(tmp_path, 'name = "a"\n[data]\nslices = 3')
    with pytest.raises(RecipeError, match=expected) as raised:
        read_recipe(path, [change])
    assert str(raised.value).startswith("--set")
    assert str(path) not in str(raised.value)


def test_a_wrong_recipe_is_blamed_itself_whatever_is_changed(tmp_path):
    path = write(tmp_path, 'name = "a"\nepochs = 3')
    with pytest.raises(RecipeError, match=r"stage\.toml: Unknown key epochs"):
        read_recipe(path, ["seed=3"])


def test_a_missing_recipe_is_named(tmp_path):
    assert "must be a recipe, but cannot be read" in refused(tmp_path / "none.toml")
    assert "must be a recipe, but cannot be read" in refused(tmp_path)
