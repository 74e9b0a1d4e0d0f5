"""The exported model that ships, compiled for this processor."""

from __future__ import annotations

import hashlib
import json
import locale
import logging
import re
import shutil

import numpy as np
import pytest

from qmedsam import ModelError, Segmenter, Settings
from qmedsam.batch.cases import read_case, write_label_map
from qmedsam.cli import main
from qmedsam.core.contract import (
    DECODER_FILE,
    EMBEDDING_SIZE,
    ENCODER_FILE,
    MANIFEST_FILE,
    UPSCALING,
)
from qmedsam.core.crops import SIDES, Crop
from qmedsam.model import compiling
from qmedsam.model.cache import ModelCache
from qmedsam.model.compiling import Compiler
from qmedsam.model.manifest import read_manifest
from qmedsam.model.network import CompiledNetwork
from qmedsam.model.requests import infer
from qmedsam.model.variant import default_model_dir
from tests.conftest import EXAMPLES

pytestmark = pytest.mark.model

CACHED = {"encoder", "encoder_rest", "decoder-open", "positions_128", "positions_256"}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(settings=Settings(precision="f32"))


def sign(folder) -> None:
    """Bring the digests of a manifest up to date."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in manifest["sha256"]
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def supports_bf16() -> bool:
    try:
        Segmenter(settings=Settings(precision="bf16"))
    except ModelError:
        return False
    return True


def test_the_manifest_holds_the_digests_of_the_files():
    folder = default_model_dir("float")
    for name, digest in read_manifest(folder).sha256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", [MANIFEST_FILE, ENCODER_FILE])
def test_a_missing_file_is_named(tmp_path, name):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        CompiledNetwork(folder, Settings())


def test_a_manifest_of_another_contract_is_refused(tmp_path):
    manifest = json.loads((default_model_dir("float") / MANIFEST_FILE).read_text())
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest | {"contract_version": 999}))
    with pytest.raises(ModelError, match="got 999"):
        read_manifest(tmp_path)


def test_a_graph_that_is_none_is_a_model_error(tmp_path):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    (folder / ENCODER_FILE).write_text("<net>")
    sign(folder)
    with pytest.raises(ModelError, match="cannot be compiled"):
        CompiledNetwork(folder, Settings())


def change_manifest(folder, change) -> None:
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def of_another_size(folder) -> None:
    change_manifest(folder, lambda manifest: manifest.update(image_size=1024))


def without_the_rest(folder) -> None:
    for name in ("encoder_rest.xml", "encoder_rest.bin"):
        change_manifest(folder, lambda manifest, name=name: manifest["sha256"].pop(name))


def with_the_first_part_twice(folder) -> None:
    for kind in ("xml", "bin"):
        shutil.copy(folder / f"encoder.{kind}", folder / f"encoder_rest.{kind}")
    sign(folder)


def with_an_encoder_for_a_decoder(folder) -> None:
    without_the_rest(folder)
    for kind in ("xml", "bin"):
        shutil.copy(folder / f"encoder_rest.{kind}", folder / f"decoder.{kind}")
    sign(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            of_another_size,
            r"encoder\.xml .* must take image \[1,3,1024,1024\], got image \[1,3,256",
        ),
        (
            without_the_rest,
            r"decoder\.xml .* must take between \[1,4096,160\], boxes .*, got boxes",
        ),
        (with_the_first_part_twice, r"encoder_rest\.xml .* must take between .*, got image"),
        (
            with_an_encoder_for_a_decoder,
            r"decoder\.xml .* must take between .*, boxes .* got betwee",
        ),
    ],
    ids=["size", "rest", "twice", "decoder"],
)
def test_graphs_that_do_not_fit_are_refused_and_cost_no_earlier_result(
    tmp_path, caplog, change, message
):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    change(folder)
    name = "2DBox_Fundus_retina.npz"
    for each in ("in", "out"):
        (tmp_path / each).mkdir()
    shutil.copy(EXAMPLES / name, tmp_path / "in")
    write_label_map(tmp_path / "out" / name, np.eye(4, dtype=np.uint8))
    earlier = (tmp_path / "out" / name).read_bytes()
    command = [
        "-i",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "--cache-dir",
        str(tmp_path),
    ]
    assert main([*command, "--model-dir", str(folder)]) == 2
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert re.search(message, record.getMessage())
    assert (tmp_path / "out" / name).read_bytes() == earlier


def test_a_decoder_without_logits_is_refused(tmp_path):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    graph = folder / DECODER_FILE
    graph.write_text(graph.read_text().replace("low_res_logits", "logits"))
    sign(folder)
    network = CompiledNetwork(folder, Settings(regions="whole"))
    encoded = network.encode(np.zeros((1, 3, 256, 256), dtype=np.float32))
    with pytest.raises(ModelError, match=r"must give low_res_logits \[\?,\?,\?\], got logits"):
        network.decode(encoded, np.array([[1, 2, 3, 4]], dtype=np.float32))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("The input tensor is incompatible", ModelError),
        ("[CPU] Node can't alloc", MemoryError),
        ("Failed to allocate 29360128 bytes of memory", MemoryError),
        ("std::bad_alloc", MemoryError),
    ],
)
def test_a_graph_that_cannot_be_run_is_an_error_of_the_model_or_of_memory(said, error):
    class Broken:
        def infer(self, *_, **__):
            raise RuntimeError(f"Exception from src/inference.cpp:75:\n{said}\n\n")

    with pytest.raises(error) as raised:
        infer([Broken()], {})
    assert str(raised.value).endswith(said)


def change_weights(path):
    weights = bytearray(path.read_bytes())
    weights[1 << 20] ^= 1
    path.write_bytes(weights)


def run_once(folder):
    network = CompiledNetwork(folder, Settings())
    encoded = network.encode(np.zeros((1, 3, 256, 256), dtype=np.float32))
    network.decode(encoded, np.array([[10, 20, 100, 120]], dtype=np.float32))


@pytest.mark.parametrize("name", ["encoder.bin", "encoder_rest.bin", "decoder.bin"])
def test_changed_weights_are_refused(tmp_path, name):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    run_once(folder)
    change_weights(folder / name)
    with pytest.raises(ModelError, match=rf"{re.escape(name)} must have SHA-256"):
        run_once(folder)


def test_the_cache_serves_the_weights_that_the_manifest_names(tmp_path):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    settings = Settings(cache_dir=tmp_path / "cache")
    image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    network = CompiledNetwork(folder, settings)
    expected = network.encode(image)
    network.wait()  # the files are mapped into memory until then
    change_weights(folder / "encoder_rest.bin")
    found = CompiledNetwork(folder, settings).encode(image)
    for name, values in expected.values.items():
        np.testing.assert_array_equal(found.values[name], values)


def test_the_cache_tells_one_model_from_another(tmp_path):
    """The runtime's own key sees only the graph, not the weights."""
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    settings = Settings(precision="f32", cache_dir=tmp_path / "cache")
    image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    boxes = np.array([[10, 20, 100, 120]], dtype=np.float32)
    network = CompiledNetwork(folder, settings)
    encoded = network.encode(image)
    before = network.decode(encoded, boxes).low_res_logits
    network.wait()
    layer = re.search(
        r'element_type="f32" shape="256, 2048" offset="(\d+)" size="(\d+)"',
        (folder / "decoder.xml").read_text(),
    )
    offset, size = (int(number) // 4 for number in layer.groups())
    weights = np.fromfile(folder / "decoder.bin", dtype=np.float32)
    weights[offset : offset + size] *= -1
    weights.tofile(folder / "decoder.bin")
    sign(folder)
    changed = CompiledNetwork(folder, settings).decode(encoded, boxes).low_res_logits
    assert np.abs(changed - before).max() > 1


def test_outputs_outlive_the_next_inference(segmenter):
    network = segmenter.network
    image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    encoded = network.encode(image)
    before = {name: values.copy() for name, values in encoded.values.items()}
    network.encode(image[:, ::-1].copy())
    for name, values in before.items():
        np.testing.assert_array_equal(encoded.values[name], values)


@pytest.mark.parametrize("variant", ["float", "int8"])
def test_crops_hold_what_the_whole_does(variant):
    network = CompiledNetwork(default_model_dir(variant), Settings(precision="f32"))
    image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    encoded = network.encode(image)
    boxes = np.array([[10, 20, 100, 120], [150, 130, 230, 250]], dtype=np.float32)
    whole = network.decode(encoded, boxes).low_res_logits
    for side in SIDES:
        rest = EMBEDDING_SIZE - side
        crops = [Crop(rest // 3, 0, side, side), Crop(rest, rest // 2, side, side)]
        found = network.decode(encoded, boxes, crops).low_res_logits
        for one, logits, crop in zip(found, whole, crops, strict=True):
            rows, columns = (
                slice(UPSCALING * start, UPSCALING * (start + side))
                for start in (crop.top, crop.left)
            )
            np.testing.assert_allclose(one, logits[rows, columns], atol=1e-3)


def test_the_box_batch_size_does_not_change_the_masks_of_the_real_model(segmenter):
    case = read_case(EXAMPLES / "2DBox_Microscopy_ihc.npz")
    expected = segmenter.segment(case.pixels, case.boxes)
    alone = Segmenter(settings=Settings(precision="f32", box_batch_size=1))
    np.testing.assert_array_equal(alone.segment(case.pixels, case.boxes), expected)


def test_the_optic_disc_is_found(segmenter):
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    disc = segmenter.segment(case.pixels, case.boxes[:1]) == 1
    x0, y0, x1, y1 = case.boxes[0].astype(int)
    # The disc is a bright ellipse that fills its box but for the corners (pi / 4).
    assert 0.65 < disc[y0:y1, x0:x1].mean() < 0.9
    assert disc.sum() == pytest.approx(disc[y0:y1, x0:x1].sum(), rel=0.05)
    assert case.pixels[disc].mean() > 1.3 * case.pixels[~disc].mean()


@pytest.mark.parametrize("rule", ["fixed", "propagate"])
def test_a_volume_is_segmented_in_its_slices_only(rule):
    segmenter = Segmenter(settings=Settings(volume_prompt=rule))
    case = read_case(EXAMPLES / "3DBox_MR_brain.npz")
    volume, boxes = case.pixels[:6], case.boxes[:2].copy()
    boxes[:, 2], boxes[:, 5] = 2, 4
    label_map = segmenter.segment(volume, boxes)
    assert label_map.shape == volume.shape
    np.testing.assert_array_equal(
        label_map.any(axis=(1, 2)), [False, False, True, True, True, False]
    )
    assert set(np.unique(label_map)) == {0, 1, 2}


def test_one_cache_folder_serves_two_precisions(tmp_path):
    """The runtime alone would load the model of the other precision, and draw nothing."""
    if not supports_bf16():
        pytest.skip("this processor has no bf16")
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    areas = {}
    for precision in ("f32", "bf16", "f32"):
        settings = Settings(precision=precision, cache_dir=tmp_path)
        segmenter = Segmenter(settings=settings)
        assert segmenter.network.precision == precision
        areas[precision] = np.bincount(segmenter.segment(case.pixels, case.boxes).ravel())
        segmenter.network.wait()
    np.testing.assert_allclose(areas["bf16"], areas["f32"], rtol=0.1)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cached_model_gives_the_same_masks(tmp_path):
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    settings = Settings(precision="f32", cache_dir=tmp_path)
    label_maps = []
    for _ in range(2):
        segmenter = Segmenter(settings=settings)
        label_maps.append(segmenter.segment(case.pixels, case.boxes))
        segmenter.network.wait()
    np.testing.assert_array_equal(*label_maps)


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(ModelCache, "store", lambda *_: pytest.fail("was put into bytes"))
    CompiledNetwork(
        default_model_dir("float"), Settings(cache_dir=tmp_path / "file" / "cache")
    ).wait()


def test_a_compiled_model_that_cannot_be_kept_serves_all_the_same(tmp_path, monkeypatch, caplog):
    def refuse(self, name, blob):
        raise OSError("disk full")

    monkeypatch.setattr(ModelCache, "store", refuse)
    caplog.set_level(logging.INFO)
    CompiledNetwork(default_model_dir("float"), Settings(cache_dir=tmp_path)).wait()
    assert caplog.text.count("is not cached: disk full") == 3


@pytest.mark.parametrize("name", ["encoder.xml", "encoder_rest.bin", "decoder.bin"])
def test_a_manifest_without_a_digest_is_refused(tmp_path, name):
    """The cache names compiled models after them."""
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    del manifest["sha256"][name]
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=rf"must have the SHA-256 of {re.escape(name)}"):
        read_manifest(folder)


def test_a_cached_model_is_not_compiled_again(tmp_path, monkeypatch):
    settings = Settings(precision="f32", cache_dir=tmp_path, regions="whole")
    Segmenter(settings=settings).network.wait()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")}
    assert {path.stem for path in before} == {"encoder", "encoder_rest", "decoder"}
    made = []

    def compiled(self, graph):
        made.append(compile_graph(self, graph))
        return made[-1]

    compile_graph = Compiler.compile
    monkeypatch.setattr(Compiler, "compile", compiled)
    Segmenter(settings=settings).network.wait()
    assert [part.is_new for part in made] == [False] * 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")} == before


def test_compiling_side_by_side_leaves_the_locale_as_it_was(tmp_path):
    """The cache of OpenVINO sets it to C now and then, where two threads use it."""
    before = locale.setlocale(locale.LC_ALL, None)
    for _ in range(3):
        Segmenter(settings=Settings(precision="f32", cache_dir=tmp_path)).network.wait()
        assert locale.setlocale(locale.LC_ALL, None) == before


def test_the_decoder_that_cannot_be_compiled_is_a_model_error(tmp_path):
    folder = shutil.copytree(default_model_dir("float"), tmp_path / "model")
    (folder / DECODER_FILE).write_text("<net>")
    sign(folder)
    network = CompiledNetwork(folder, Settings())
    encoded = network.encode(np.zeros((1, 3, 256, 256), dtype=np.float32))
    with pytest.raises(ModelError, match=r"decoder\.xml cannot be compiled"):
        network.decode(encoded, np.array([[1, 2, 3, 4]], dtype=np.float32))


@pytest.mark.parametrize("damage", ["broken", "flipped"])
def test_a_damaged_cache_is_compiled_anew_and_mended(tmp_path, caplog, damage):
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    settings = Settings(precision="f32", cache_dir=tmp_path)
    segmenter = Segmenter(settings=settings)
    expected = segmenter.segment(case.pixels, case.boxes)
    segmenter.network.wait()
    blobs = list(tmp_path.rglob("*.blob"))
    for blob in blobs:
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 1
        blob.write_bytes(b"broken" if damage == "broken" else content)
    again = Segmenter(settings=settings)
    np.testing.assert_array_equal(again.segment(case.pixels, case.boxes), expected)
    assert caplog.text.count("is damaged") == len(blobs) == len(CACHED)
    again.network.wait()
    caplog.clear()
    Segmenter(settings=settings).network.wait()
    assert not caplog.text


def test_a_cached_model_that_is_none_is_compiled_anew(tmp_path, caplog):
    settings = Settings(precision="f32", cache_dir=tmp_path)
    Segmenter(settings=settings).network.wait()
    folder = next(path.parent for path in tmp_path.rglob("decoder-open.blob"))
    ModelCache(folder).store("decoder-open", b"no model, but whole")
    network = Segmenter(settings=settings).network
    network.wait()
    assert "Cached model of decoder.xml is compiled anew" in caplog.text
    encoded = network.encode(np.zeros((1, 3, 256, 256), dtype=np.float32))
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    assert network.decode(encoded, boxes).low_res_logits.any()


@pytest.mark.parametrize(("variant", "spleen"), [("float", 0.7), ("int8", 0.6)])
def test_real_cases_are_segmented_well(val_data, variant, spleen):
    """A polyp and a spleen; on the spleen int8 is 5 points behind the published weights."""
    segmenter = Segmenter(settings=Settings(variant=variant, precision="f32"))
    for name, slices, lowest in [
        ("Endoscopy/2DBox_Endoscopy_0033.npz", slice(None), 0.9),
        ("CT/3DBox_CT_0016.npz", slice(8, 18), spleen),  # its middle half
    ]:
        with np.load(val_data / name) as archive:
            pixels, truth = archive["imgs"][slices], archive["gts"][slices] > 0
            boxes = archive["boxes"].astype(np.float32)
            if slices.start is not None:
                boxes[:, [2, 5]] = 0, len(pixels) - 1  # all of them
            found = segmenter.segment(pixels, boxes) > 0
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > lowest, name


@pytest.mark.parametrize(
    ("wanted", "cores", "used"), [(0, 1, 1), (1, 2, 1), (9, 2, 2)], ids=["quota", "fewer", "more"]
)
def test_no_more_threads_than_cores_are_used(monkeypatch, caplog, wanted, cores, used):
    monkeypatch.setattr(compiling, "available_cores", lambda: cores)
    monkeypatch.setattr(compiling.os, "cpu_count", lambda: 2)
    network = CompiledNetwork(default_model_dir("float"), Settings(threads=wanted))
    assert network.threads == used
    assert ("2 threads are used, not 9" in caplog.text) == (wanted > cores)


def test_the_cache_serves_any_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "available_cores", lambda: 2)
    for threads in (1, 2):
        network = CompiledNetwork(
            default_model_dir("float"), Settings(threads=threads, cache_dir=tmp_path)
        )
        network.wait()
        assert network.threads == threads
        (folder,) = tmp_path.iterdir()
        written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        if threads == 1:
            first = written
    assert written == first
    assert len(written) == len(CACHED)
