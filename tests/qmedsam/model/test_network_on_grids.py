"""The models that ship, on grids smaller than the model frame."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qmedsam import ModelError, Settings
from qmedsam.core.contract import (
    BOXES_NAME,
    CONTRACT_VERSION,
    CROPS_NAME,
    DECODER_FILE,
    ENCODER_FILE,
    IMAGE_EMBEDDING_NAME,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
    MANIFEST_FILE,
    grids_up_to,
)
from qmedsam.core.crops import Crop, crop_around
from qmedsam.model import network as network_module
from qmedsam.model.compiling import Compiler
from qmedsam.model.manifest import file_sha256, read_manifest
from qmedsam.model.network import CompiledNetwork
from qmedsam.model.runtime import openvino, ops
from qmedsam.model.variant import default_model_dir
from tests.conftest import HANGS_AFTER_S

pytestmark = pytest.mark.model

WHOLE, SMALL = (256, 256), (64, 64)
SQUARE_DSC = 0.6  # without VNNI, sums of products of int8 saturate


def squares_on(grid_hw):
    """Return an image with a bright square at two corners, and their boxes."""
    height, width = grid_hw
    image = np.random.default_rng(height + width).normal(0.3, 0.05, (1, 3, height, width))
    boxes = []
    for top, left, side in [(10, 14, 20), (height - 26, width - 24, 16)]:
        image[..., top : top + side, left : left + side] += 0.4
        boxes.append([left, top, left + side - 1, top + side - 1])
    return image.clip(0, 1).astype(np.float32), np.array(boxes, dtype=np.float32)


@pytest.fixture
def compiled_names(monkeypatch):
    """The names under which graphs are compiled or read from the cache, and whether anew."""
    names = []
    compile_graph = Compiler.compile

    def compiled(self, graph):
        made = compile_graph(self, graph)
        names.append((graph.name, made.is_new))
        return made

    monkeypatch.setattr(Compiler, "compile", compiled)
    return names


@pytest.mark.parametrize("variant", ["float", "int8"])
def test_squares_are_found_where_they_are_on_every_grid(variant):
    network = CompiledNetwork(default_model_dir(variant), Settings(precision="f32"), grids=[])
    assert len(network.grids) == 16
    for grid_hw in network.grids:
        image, boxes = squares_on(grid_hw)
        logits = network.decode(network.encode(image), boxes).low_res_logits
        assert logits.shape == (2, *grid_hw)
        for one, (x0, y0, x1, y1) in zip(logits, boxes.astype(int), strict=True):
            found, truth = one > 0, np.zeros(grid_hw, dtype=bool)
            truth[y0 : y1 + 1, x0 : x1 + 1] = True
            dsc = 2 * (found & truth).sum() / (found.sum() + truth.sum())
            assert dsc > SQUARE_DSC, grid_hw


def test_crops_on_a_grid_hold_what_the_whole_does():
    grid_hw = (128, 192)
    network = CompiledNetwork(default_model_dir("float"), Settings(precision="f32"), grids=[])
    image, boxes = squares_on(grid_hw)
    encoded = network.encode(image)
    whole = network.decode(encoded, boxes).low_res_logits
    crops = [crop_around(box, grid_hw, 4) for box in boxes]
    assert crops == [Crop(0, 0, 16, 16), Crop(16, 32, 16, 16)]
    for chosen in (crops, [Crop(0, 0, 32, 48), Crop(0, 0, 32, 48)], [Crop(4, 0, 24, 48)] * 2):
        found = network.decode(encoded, boxes, chosen).low_res_logits
        for one, logits, crop in zip(found, whole, chosen, strict=True):
            rows = slice(4 * crop.top, 4 * (crop.top + crop.height))
            columns = slice(4 * crop.left, 4 * (crop.left + crop.width))
            np.testing.assert_allclose(one, logits[rows, columns], atol=1e-3)


def is_ready(network, grid_hw) -> bool:
    """Say whether an image of a grid can be encoded without waiting for the compiler."""
    parts = network._parts.get(grid_hw, [])
    return bool(parts) and all(part.done() and part.exception() is None for part in parts)


def test_images_of_several_grids_are_decoded_in_turns():
    network = CompiledNetwork(default_model_dir("int8"), Settings(precision="f32"))
    grids = [WHOLE, SMALL, (64, 256)]
    prepared = [squares_on(grid_hw) for grid_hw in grids]
    encoded = [network.encode(image) for image, _ in prepared]
    assert [one.grid_hw for one in encoded] == grids
    first, second = (
        [
            network.decode(one, boxes).low_res_logits
            for one, (_, boxes) in zip(encoded, prepared, strict=True)
        ]
        for _ in range(2)
    )
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_grid_is_compiled_when_it_is_first_used(compiled_names):
    network = CompiledNetwork(default_model_dir("float"), Settings(precision="f32"))
    network.wait()
    assert is_ready(network, WHOLE)
    assert not is_ready(network, SMALL)
    assert {name for name, _ in compiled_names} == {"encoder", "encoder_rest", "decoder-open"}
    compiled_names.clear()
    for _ in range(2):
        network.encode(squares_on(SMALL)[0])
    assert is_ready(network, SMALL)
    assert {name for name, _ in compiled_names} == {"encoder-64x64", "encoder_rest-64x64"}
    assert len(compiled_names) == 2


def test_only_the_grids_that_are_asked_for_are_compiled(compiled_names):
    network = CompiledNetwork(
        default_model_dir("float"), Settings(precision="f32"), grids=[SMALL, (64, 128)]
    )
    assert is_ready(network, SMALL)
    assert is_ready(network, (64, 128))
    assert not is_ready(network, WHOLE)
    network.wait()
    assert "encoder" not in dict(compiled_names)


def test_of_more_grids_than_stay_ready_the_first_are_compiled_once_each(compiled_names):
    grids = [(64, 64), (64, 128), (128, 64), (128, 128)]
    network = CompiledNetwork(default_model_dir("int8"), Settings(precision="f32"), grids=grids)
    network.wait()
    names = [name for name, _ in compiled_names]
    assert len(names) == len(set(names)) == 2 * 3 + 1


def test_what_is_prepared_by_several_threads_is_compiled_once(compiled_names):
    network = CompiledNetwork(default_model_dir("float"), Settings(precision="f32"), grids=[])
    assert network.precision == "f32"  # with no encoder
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(network.prepare, [[SMALL]] * 32))
    network.wait()
    assert is_ready(network, SMALL)
    assert len(compiled_names) == 3


def test_grids_are_cached_by_their_sides(tmp_path, compiled_names):
    settings = Settings(precision="f32", cache_dir=tmp_path)
    image = squares_on((64, 128))[0]
    found = []
    for _ in range(2):
        network = CompiledNetwork(default_model_dir("float"), settings, grids=[(64, 128)])
        found.append(network.encode(image))
        network.wait()
    names = {"encoder-64x128", "encoder_rest-64x128", "decoder-open"}
    positions = {"positions_128", "positions_256"}
    assert {path.stem for path in tmp_path.rglob("*.blob")} == names | positions
    assert sorted(compiled_names) == sorted((name, new) for name in names for new in (True, False))
    for name, values in found[0].values.items():
        np.testing.assert_array_equal(found[1].values[name], values)


def test_a_cached_decoder_without_its_positions_is_compiled_anew(tmp_path, compiled_names):
    settings = Settings(precision="f32", cache_dir=tmp_path)
    CompiledNetwork(default_model_dir("float"), settings, grids=[]).wait()
    next(tmp_path.rglob("positions_128.blob")).unlink()
    CompiledNetwork(default_model_dir("float"), settings, grids=[]).wait()
    assert compiled_names == [("decoder-open", True)] * 2
    CompiledNetwork(default_model_dir("float"), settings, grids=[]).wait()
    assert compiled_names[-1] == ("decoder-open", False)


@pytest.mark.parametrize("grid_hw", [(100, 100), (0, 64), (320, 64)], ids=str)
def test_an_image_of_no_grid_is_refused(grid_hw):
    network = CompiledNetwork(default_model_dir("float"), Settings(), grids=[])
    with pytest.raises(ValueError, match="Grids must be of"):
        network.encode(np.zeros((1, 3, *grid_hw), dtype=np.float32))
    with pytest.raises(ValueError, match="Grids must be of"):
        network.prepare([grid_hw])


def test_of_other_grids_those_not_used_for_longest_make_room():
    grids = [(64, 64), (64, 128), (128, 64), (128, 128)]
    network = CompiledNetwork(default_model_dir("int8"), Settings(precision="f32"), grids=[])
    for grid_hw in (*grids[:3], grids[0]):
        network.encode(squares_on(grid_hw)[0])
    network.prepare([grids[3]])
    network.wait()
    assert [grid_hw for grid_hw in grids if is_ready(network, grid_hw)] == [
        grids[0],
        grids[2],
        grids[3],
    ]
    network.prepare(grids)
    network.wait()
    assert [is_ready(network, grid_hw) for grid_hw in grids] == [True, True, True, False]


def test_where_memory_is_short_grids_take_turns_and_embeddings_are_the_same(monkeypatch):
    grids = [(64, 64), (64, 128), (128, 64)]
    settings = Settings(precision="f32")
    roomy = CompiledNetwork(default_model_dir("int8"), settings, grids=grids)
    monkeypatch.setattr(network_module, "automatic_encoders", lambda: 1)
    tight = CompiledNetwork(default_model_dir("int8"), settings, grids=grids)
    for grid_hw in (*grids, *grids):
        image = squares_on(grid_hw)[0]
        expected, found = roomy.encode(image), tight.encode(image)
        for name, values in expected.values.items():
            np.testing.assert_array_equal(found.values[name], values)
        assert [is_ready(tight, one) for one in grids] == [one == grid_hw for one in grids]


def test_a_model_that_cannot_be_compiled_is_refused_at_once_whatever_the_grids(tmp_path):
    """Compiling of the grids behind is given up, and nothing waits for it."""
    folder = shutil.copytree(default_model_dir("int8"), tmp_path / "model")
    (folder / "encoder.bin").write_bytes(b"changed")
    grids = [(64, 64), (64, 128), (128, 64)]
    raised = []

    def make():
        try:
            CompiledNetwork(folder, Settings(precision="f32"), grids=grids)
        except ModelError as error:
            raised.append(str(error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(HANGS_AFTER_S)
    assert "encoder.bin must have SHA-256" in raised[0]


def test_a_grid_that_fails_is_tried_again(tmp_path):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    network = CompiledNetwork(folder, Settings(precision="f32"))
    network.wait()
    (folder / "encoder_rest.bin").rename(folder / "kept")
    shutil.copy(folder / "encoder.bin", folder / "encoder_rest.bin")
    network.prepare([SMALL])
    image = squares_on(SMALL)[0]
    with pytest.raises(ModelError, match=r"encoder_rest\.bin must have SHA-256"):
        network.encode(image)
    assert not is_ready(network, SMALL)
    (folder / "kept").rename(folder / "encoder_rest.bin")
    assert network.encode(image).grid_hw == SMALL


def write_plain_model(folder):
    """Write a model as `plain_graphs` makes them: the decoder reads the image's embedding."""
    image = ops.parameter([1, 3, 256, 256], np.float32)
    pooled = ops.avg_pool(image, [4, 4], [0, 0], [0, 0], [4, 4], exclude_pad=True)
    boxes = ops.parameter([-1, 4], np.float32)
    crops = ops.parameter([-1, -1, -1], np.int64)
    embedding = ops.parameter([1, 3, 64, 64], np.float32)
    mean = ops.reduce_mean(embedding, ops.constant([0, 1, 2, 3]), keep_dims=False)
    logits = ops.add(ops.convert(crops, np.float32), mean)
    kept = ops.add(logits, ops.multiply(ops.reduce_mean(boxes, [0, 1], False), np.float32(0)))
    for node, name in (
        (image, IMAGE_NAME),
        (pooled, IMAGE_EMBEDDING_NAME),
        (embedding, IMAGE_EMBEDDING_NAME),
        (boxes, BOXES_NAME),
        (crops, CROPS_NAME),
        (kept, LOW_RES_LOGITS_NAME),
    ):
        node.output(0).set_names({name})
    openvino.save_model(openvino.Model([pooled], [image]), folder / ENCODER_FILE, False)
    decoder = openvino.Model([kept], [embedding, boxes, crops])
    openvino.save_model(decoder, folder / DECODER_FILE, False)
    manifest = {
        "contract_version": CONTRACT_VERSION,
        "name": "plain",
        "precision": "f32",
        "image_size": 256,
        "sha256": {path.name: file_sha256(path) for path in folder.iterdir()},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_a_model_whose_decoder_is_not_folded_is_used_as_it_is(tmp_path, compiled_names):
    model_dir, cache_dir = tmp_path / "model", tmp_path / "cache"
    model_dir.mkdir()
    write_plain_model(model_dir)
    network = CompiledNetwork(model_dir, Settings(precision="f32", cache_dir=cache_dir))
    assert network.grids == (WHOLE,)
    encoded = network.encode(np.full((1, 3, 256, 256), 0.5, dtype=np.float32))
    assert list(encoded.values) == [IMAGE_EMBEDDING_NAME]
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    logits = network.decode(encoded, boxes, [Crop(1, 2, 2, 2)]).low_res_logits
    assert logits.tolist() == [[[66.5, 67.5], [130.5, 131.5]]]
    with pytest.raises(ValueError, match="Grids must be of"):
        network.prepare([SMALL])
    network.wait()
    assert sorted(compiled_names) == [("decoder", True), ("encoder", True)]
    assert {path.stem for path in cache_dir.rglob("*.blob")} == {"decoder", "encoder"}


def test_the_manifest_says_which_grids_a_model_has(tmp_path):
    folder = default_model_dir("int8")
    assert read_manifest(folder).grids == grids_up_to(256)
    assert {(64, 64), (64, 256), (192, 128)} < set(grids_up_to(256))
    larger = shutil.copytree(folder, tmp_path / "model") / MANIFEST_FILE
    larger.write_text(json.dumps(json.loads(larger.read_text()) | {"image_size": 1024}))
    assert read_manifest(larger.parent).grids == ((1024, 1024),)
