"""An image or volume that stays encoded while boxes are given again and again."""

from __future__ import annotations

import doctest
import threading

import numpy as np
import pytest

from qmedsam import InvalidCaseError, Segmenter, Session, Settings
from qmedsam import segmenter as segmenter_module
from qmedsam.batch.cases import read_case
from qmedsam.core.decoding import ObjectDecoder
from tests.conftest import EXAMPLES
from tests.qmedsam.conftest import FakeCompiledNetwork, alone

IMAGE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
VOLUME = np.random.default_rng(1).integers(0, 256, (5, 60, 80), dtype=np.uint8)
OVERLAPPING = [[20, 30, 200, 150], [100, 80, 280, 190]]


@pytest.fixture
def segmenter(monkeypatch) -> Segmenter:
    monkeypatch.setattr(segmenter_module, "CompiledNetwork", FakeCompiledNetwork)
    return Segmenter()


def test_an_image_is_encoded_once_for_all_boxes(segmenter):
    session = segmenter.open(IMAGE)
    for boxes in (OVERLAPPING, OVERLAPPING[:1], np.zeros((0, 4))):
        np.testing.assert_array_equal(session.segment(boxes), segmenter.segment(IMAGE, boxes))
    of_session = len(segmenter.network.encoded) - 2  # two of the calls of `segment` have boxes
    assert of_session == 1


def test_a_slice_is_encoded_ahead_of_its_first_box(segmenter):
    session = segmenter.open(VOLUME)
    session.encode(2)
    session.encode(2)
    assert len(segmenter.network.encoded) == 1
    session.propagate([[5, 5, 50, 40]], 2, (2, 2))
    assert len(segmenter.network.encoded) == 1
    with pytest.raises(InvalidCaseError, match="Slices must be from 0 to 4, got 5 to 5"):
        session.encode(5)
    image = segmenter.open(IMAGE)
    with pytest.raises(InvalidCaseError, match="of a volume"):
        image.encode(3)
    with pytest.raises(InvalidCaseError, match="of a volume"):
        image.propagate([[1, 2, 3, 4]], 2, (1, 3))
    image.encode()
    image.segment(OVERLAPPING)
    assert len(segmenter.network.encoded) == 2


def test_a_rated_answer_has_the_same_labels(segmenter, monkeypatch, caplog):
    monkeypatch.setattr(FakeCompiledNetwork, "rate", lambda self, boxes: np.full(len(boxes), 0.6))
    for rated, plain in (
        (segmenter.segment_rated(IMAGE, OVERLAPPING), segmenter.segment(IMAGE, OVERLAPPING)),
        (segmenter.open(IMAGE).segment_rated(OVERLAPPING), segmenter.segment(IMAGE, OVERLAPPING)),
        (
            segmenter.open(VOLUME).propagate_rated([[5, 5, 50, 40]], 2, (1, 3)),
            segmenter.open(VOLUME).propagate([[5, 5, 50, 40]], 2, (1, 3)),
        ),
    ):
        np.testing.assert_array_equal(rated.label_map, plain)
        np.testing.assert_allclose(rated.quality, 0.6)
    assert "may have poor masks: the model predicts a DSC below 0.7" in caplog.text


def test_a_model_that_does_not_rate_says_nothing_of_quality(segmenter, caplog):
    assert np.isnan(segmenter.segment_rated(IMAGE, OVERLAPPING).quality).all()
    assert caplog.text == ""


def test_masks_overlap_where_labels_do_not(segmenter):
    session = segmenter.open(IMAGE)
    masks, label_map = session.masks(OVERLAPPING), session.segment(OVERLAPPING)
    assert masks.shape == (2, 200, 300)
    assert masks.dtype == np.bool_
    assert (masks[0] & masks[1]).any()
    np.testing.assert_array_equal(masks[1], label_map == 2)
    np.testing.assert_array_equal(masks[0] & ~masks[1], label_map == 1)


def test_logits_are_positive_in_the_mask(segmenter):
    session = segmenter.open(IMAGE)
    boxes = [*OVERLAPPING, [400, 400, 500, 500]]
    logits = session.logits(boxes)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits > 0, session.masks(boxes))
    assert np.isneginf(logits[2]).all()  # a box outside the image
    assert len(segmenter.network.encoded) == 1


def test_a_volume_remembers_the_slices_used_last(segmenter):
    session = segmenter.open(VOLUME, remembered=3)
    encoded = segmenter.network.encoded
    first = session.segment([[5, 5, 0, 50, 40, 2]])
    assert (first.shape, len(encoded)) == ((5, 60, 80), 3)
    session.segment([[9, 9, 1, 30, 30, 2]])
    assert len(encoded) == 3
    session.segment([[9, 9, 3, 30, 30, 3]])
    session.segment([[9, 9, 1, 30, 30, 2]])
    assert len(encoded) == 4
    session.segment([[9, 9, 0, 30, 30, 0]])  # forgotten
    assert len(encoded) == 5
    np.testing.assert_array_equal(session.segment([[5, 5, 0, 50, 40, 2]]), first)


def test_masks_of_a_volume_have_its_depth(segmenter):
    masks = segmenter.open(VOLUME).masks([[5, 5, 0, 50, 40, 2], [5, 5, 1, 50, 40, 4]])
    assert masks.shape == (2, *VOLUME.shape)
    assert masks.any(axis=(2, 3)).tolist() == [[True] * 3 + [False] * 2, [False] + [True] * 4]


@pytest.mark.parametrize(
    ("pixels", "boxes", "message"),
    [
        (IMAGE / 255, OVERLAPPING, "must be uint8"),
        (IMAGE[0, 0], OVERLAPPING, "must be an image"),
        (IMAGE, [[1, 2, 3]], r"shape \(N, 4\)"),
        (IMAGE, [[0.1, 0.2, 0.3, 0.4]], "image, 300 x 200, got x and y from 0.1 to 0.4"),
    ],
)
def test_what_cannot_be_meant_is_refused(segmenter, pixels, boxes, message):
    with pytest.raises(InvalidCaseError, match=message):
        segmenter.open(pixels).segment(boxes)


def test_what_was_boxed_on_a_slice_is_followed_to_others(segmenter):
    session = segmenter.open(VOLUME)
    label_map = session.propagate([[9, 9, 30, 30], [40, 20, 60, 50]], 3, (1, 4))
    for label in (1, 2):
        present = (label_map == label).any(axis=(1, 2))
        assert present.tolist() == [False, True, True, True, True]
    # The network draws what it is prompted by: the first slice has the box, the others it grown.
    areas = [(label_map[z] == 1).sum() for z in (3, 4, 2, 1)]
    assert areas[0] < areas[1]
    assert areas[0] < areas[2] < areas[3]


def test_a_label_that_is_missing_is_warned_of(segmenter, caplog, blind_to_small_boxes):
    inner, outer, small = [60, 60, 120, 120], [20, 30, 200, 150], [250, 10, 255, 15]
    for segment in (
        lambda boxes: segmenter.segment(IMAGE, boxes),
        segmenter.open(IMAGE).segment,
    ):
        caplog.clear()
        assert np.unique(segment([inner, small, outer])).tolist() == [0, 3]
        assert [entry.getMessage() for entry in caplog.records] == [
            "Box 2 (250, 10, 255, 15) left no label, as nothing was found there",
            "Box 1 (60, 60, 120, 120) left no label, as later boxes cover all that was found there",
        ]
        assert {entry.levelname for entry in caplog.records} == {"WARNING"}


def test_a_label_that_is_missing_after_propagation_is_warned_of(
    segmenter, caplog, blind_to_small_boxes
):
    label_map = segmenter.open(VOLUME).propagate([[9, 9, 12, 12], [20, 20, 60, 50]], 3, (1, 4))
    assert np.unique(label_map).tolist() == [0, 2]
    assert [entry.getMessage() for entry in caplog.records] == [
        "Box 1 (9, 9, 1, 12, 12, 4) left no label, as nothing was found there"
    ]


def test_labels_that_are_all_there_are_not_warned_of(segmenter, caplog):
    segmenter.segment(IMAGE, OVERLAPPING)
    segmenter.segment(IMAGE, np.zeros((0, 4)))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("boxes", "z", "slices", "message"),
    [
        ([[9, 9, 30, 30]], 0, (1, 4), "Slice must be from 1 to 4, got 0"),
        ([[9, 9, 30, 30]], 2, (1, 5), "Slices must be from 0 to 4"),
        ([[9, 9, 0, 30, 30, 1]], 2, (1, 4), r"shape \(N, 4\)"),
    ],
)
def test_slices_that_cannot_be_meant_are_refused(segmenter, boxes, z, slices, message):
    with pytest.raises(InvalidCaseError, match=message):
        segmenter.open(VOLUME).propagate(boxes, z, slices)


def test_a_volume_is_not_encoded_without_naming_a_slice(segmenter):
    session = segmenter.open(VOLUME)
    with pytest.raises(InvalidCaseError, match="a slice must be named, from 0 to 4"):
        session.encode()
    assert segmenter.network.encoded == []


@pytest.mark.parametrize("z", [1.0, True, "1", np.float32(1), [1]])
def test_slices_are_named_by_whole_numbers(segmenter, z):
    session = segmenter.open(VOLUME)
    for call in (
        lambda: session.encode(z),
        lambda: session.propagate([[9, 9, 30, 30]], z, (0, 4)),
        lambda: session.propagate([[9, 9, 30, 30]], 1, (0, z)),
    ):
        with pytest.raises(InvalidCaseError, match="named by a whole number"):
            call()
    assert segmenter.network.encoded == []


@pytest.mark.parametrize("slices", [3, (1,), (0, 1, 2), None])
def test_slices_are_the_first_and_the_last(segmenter, slices):
    with pytest.raises(InvalidCaseError, match="the first and the last one"):
        segmenter.open(VOLUME).propagate([[9, 9, 30, 30]], 1, slices)


def test_slices_may_be_numbers_of_numpy(segmenter):
    session = segmenter.open(VOLUME)
    session.encode(np.int64(2))
    label_map = session.propagate([[9, 9, 30, 30]], np.uint8(2), np.array([1, 3]))
    assert label_map.any(axis=(1, 2)).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("remembered", [-1, 1.5, True, "3"])
def test_what_is_remembered_is_a_number_of_slices(segmenter, remembered):
    with pytest.raises(ValueError, match="Remembered slices must be 0 or more"):
        segmenter.open(VOLUME, remembered=remembered)


def test_nothing_need_be_remembered(segmenter):
    session = segmenter.open(VOLUME, remembered=0)
    expected = segmenter.segment(VOLUME, [[5, 5, 0, 50, 40, 2]])
    np.testing.assert_array_equal(session.segment([[5, 5, 0, 50, 40, 2]]), expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_boxes_of_a_volume_on_an_image_in_colour_are_refused(segmenter, channels):
    image = np.zeros((40, 50, channels), dtype=np.uint8)
    for call in (
        segmenter.open(image).segment,
        segmenter.open(image).masks,
        segmenter.open(image).logits,
        lambda boxes: segmenter.segment(image, boxes),
    ):
        for boxes in ([[1, 1, 0, 9, 9, 1]], np.zeros((0, 6))):
            with pytest.raises(InvalidCaseError, match="got an image in colour"):
                call(boxes)


def test_a_session_says_what_it_holds_and_forgets_it_at_its_end(segmenter):
    with segmenter.open(VOLUME) as session:
        session.encode(1)
        session.encode(2)
        assert repr(session) == "<Session: volume (5, 60, 80), 2 slices encoded>"
    assert repr(session) == "<Session: volume (5, 60, 80), 0 slices encoded>"
    assert repr(segmenter.open(IMAGE)).startswith("<Session: image (200, 300, 3)")
    session.encode(1)  # it may be used on, and encodes again
    assert len(segmenter.network.encoded) == 3


def test_a_segmenter_waits_at_its_end_and_says_what_it_runs(monkeypatch):
    monkeypatch.setattr(segmenter_module, "CompiledNetwork", FakeCompiledNetwork)
    waited = []
    with Segmenter() as segmenter:
        monkeypatch.setattr(segmenter.network, "wait", lambda: waited.append(1))
        assert segmenter.segment(IMAGE, OVERLAPPING).any()
    assert waited == [1]
    for word in ("Segmenter", segmenter.network.precision, str(segmenter.model_dir)):
        assert word in repr(segmenter)


def test_help_shows_what_there_is_to_call():
    public = {name for name in dir(Segmenter) if not name.startswith("_")}
    assert public == {"box_batch_size", "close", "open", "segment", "segment_rated"}
    public = {name for name in dir(Session) if not name.startswith("_")}
    made = {"close", "encode", "logits", "masks", "propagate", "segment"}
    assert public == made | {"has_preview", "preview", "propagate_rated", "segment_rated"}


def test_logits_of_a_volume_are_refused(segmenter):
    with pytest.raises(InvalidCaseError, match="got a volume"):
        segmenter.open(VOLUME).logits([[5, 5, 0, 50, 40, 2]])


def test_threads_take_turns(monkeypatch, waited):
    monkeypatch.setattr(segmenter_module, "CompiledNetwork", FakeCompiledNetwork)
    segmenter, inside, decode = Segmenter(), threading.Lock(), ObjectDecoder.decode
    waited.set()  # nobody else comes yet
    expected = {count: segmenter.segment(IMAGE, OVERLAPPING[:count]) for count in (1, 2)}
    waited.clear()

    def decode_alone(*arguments):
        with alone(inside, waited):
            yield from decode(*arguments)

    monkeypatch.setattr(ObjectDecoder, "decode", decode_alone)
    session, found = segmenter.open(IMAGE), []

    def segment(count):
        for _ in range(5):
            found.append((count, session.segment(OVERLAPPING[:count])))

    threads = [threading.Thread(target=segment, args=(count,)) for count in (1, 2, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    for count, label_map in found:
        np.testing.assert_array_equal(label_map, expected[count])


@pytest.mark.model
def test_a_second_box_costs_the_decoder_alone(monkeypatch):
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    segmenter = Segmenter(settings=Settings(precision="f32"))
    expected = segmenter.segment(case.pixels, case.boxes)
    session = segmenter.open(case.pixels)
    encoded = []
    encode = segmenter.network.encode
    monkeypatch.setattr(
        segmenter.network, "encode", lambda image: encoded.append(image) or encode(image)
    )
    for _ in range(3):
        np.testing.assert_array_equal(session.segment(case.boxes), expected)
    assert len(encoded) == 1
    logits = session.logits(case.boxes)
    masks = session.masks(case.boxes)
    differing = (logits > 0) != masks
    assert differing.mean() < 1e-4  # those of the whole embedding are rounded otherwise


@pytest.mark.model
def test_the_examples_of_the_documentation_run():
    assert doctest.testmod(segmenter_module).attempted >= 3
    assert doctest.testmod(segmenter_module).failed == 0
