"""The REST endpoints, with a fake network."""

from __future__ import annotations

import io
import re
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from starlette.testclient import TestClient

from qmedsam import Segmenter
from qmedsam.formats.scan import Scan
from qmedsam.web.app import create_app
from qmedsam.web.shelf import MOST_SCANS
from tests.qmedsam.conftest import FakeCompiledNetwork
from tests.qmedsam.formats.conftest import series

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
VOLUME = np.random.default_rng(1).integers(1, 1000, (40, 30, 8)).astype(np.int16)
BOX = [10, 12, 50, 40]


@pytest.fixture
def shared(fake_model) -> Segmenter:
    return Segmenter()


@pytest.fixture
def client(shared) -> TestClient:
    app = create_app(shared, host="127.0.0.1", most_bytes=1 << 20)
    return TestClient(app, base_url="http://localhost:8000")


def png() -> bytes:
    return cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()


def nifti() -> bytes:
    return nibabel.Nifti1Image(VOLUME, np.diag([-1.0, -1, 3, 1])).to_bytes()


def opened(client, name="image.png", content=None) -> dict:
    response = client.post("/api/scans", params={"name": name}, content=content or png())
    assert response.status_code == 200, response.text
    return response.json()


def body_of(*folders) -> dict:
    contents = [path.read_bytes() for folder in folders for path in folder.glob("*.dcm")]
    sizes = {"X-File-Sizes": ",".join(str(len(content)) for content in contents)}
    return {"params": {"name": "ct.dcm"}, "content": b"".join(contents), "headers": sizes}


def labels_of(client, path: str, number: int) -> bytes:
    asked = {"objects": [{"id": number}], "name": "a.nii"}
    return client.post(f"{path}/labels", json=asked).content


def test_an_image_is_opened_seen_segmented_and_downloaded(client):
    scan = opened(client)
    assert (scan["depth"], scan["height"], scan["width"]) == (1, 60, 80)
    assert (scan["is_volume"], scan["window_name"]) == (False, "as-it-is")
    path = f"/api/scans/{scan['id']}"
    seen = client.get(f"{path}/slices/0").content
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(seen, np.uint8), 1), IMAGE[..., ::-1])
    found = client.post(f"{path}/contours", json={"box": BOX}).json()
    (polygon,) = found["contours"]["0"]
    drawn = cv2.fillPoly(np.zeros((60, 80), np.uint8), [np.array(polygon)], 1)
    other = client.post(f"{path}/contours", json={"box": [0, 0, 5, 5]}).json()
    objects = [{"id": found["id"], "name": "disc"}, {"id": other["id"]}]
    labels = {"objects": objects, "name": "labels.png"}
    content = client.post(f"{path}/labels", json=labels).content
    label_map = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(label_map == 1, drawn == 1)
    assert label_map.max() == 2
    assert b'"labels": {"1": "disc", "2": "Object 2"}' in content
    client.post(f"{path}/contours", json={"box": BOX})  # not among those asked for
    assert client.post(f"{path}/labels", json=labels).content == content


@pytest.mark.usefixtures("blind_to_small_boxes")
def test_a_box_in_which_nothing_is_found_has_no_outlines(client):
    for name, content in (("image.png", None), ("scan.nii", nifti())):
        scan = opened(client, name, content) if content else opened(client)
        asked = {"box": [3, 4, 5, 6], "slice": 0}
        found = client.post(f"/api/scans/{scan['id']}/contours", json=asked)
        assert (found.status_code, found.json()["contours"]) == (200, {})


@pytest.mark.usefixtures("blind_to_small_boxes")
def test_a_warning_in_the_log_has_the_name_of_the_image(client, caplog):
    for name in ("scan.nii", "bad\nname.nii"):
        asked = {"box": [5, 4, 3, 6], "slice": 0}
        client.post(f"/api/scans/{opened(client, name, nifti())['id']}/contours", json=asked)
    box = "Box 1 (5, 4, 0, 3, 6, 0)"
    assert [record.getMessage() for record in caplog.records if record.name.startswith("qmed")] == [
        f"{shown}: {box} {said}"
        for shown in ("scan.nii", r"'bad\nname.nii'")
        for said in (
            "was put in order, minimum first",
            "left no label, as nothing was found there",
        )
    ]


@pytest.mark.parametrize(
    ("rated", "quality", "is_poor"),
    [(None, None, False), (0.5, 0.5, True), (0.75, 0.75, False)],
    ids=["unknown", "poor", "good"],
)
def test_what_is_found_says_how_good_it_may_be(client, monkeypatch, rated, quality, is_poor):
    answer = None if rated is None else np.array([rated], dtype=np.float32)
    monkeypatch.setattr(FakeCompiledNetwork, "rate", lambda self, boxes: answer)
    for name, content, z in (("image.png", None, 0), ("scan.nii", nifti(), 2)):
        scan = opened(client, name, content) if content else opened(client)
        asked = {"box": [3, 4, 25, 26], "slice": z}
        found = client.post(f"/api/scans/{scan['id']}/contours", json=asked).json()
        assert (found["quality"], found["is_poor"]) == (quality, is_poor)


def test_normalised_boxes_are_refused_in_a_sentence(client):
    for scan, extent, z in (
        (opened(client), "80 x 60", 0),
        (opened(client, "a.nii", nifti()), "40 x 30", 3),
    ):
        asked = {"box": [0.1, 0.2, 0.5, 0.9], "slice": z}
        response = client.post(f"/api/scans/{scan['id']}/contours", json=asked)
        assert response.status_code == 422
        assert response.json()["detail"] == (
            f"Boxes must be in pixels of the original image, {extent}, got x and y from 0.1 to "
            "0.9, which read like normalised ones"
        )


def test_the_object_that_is_named_later_wins_an_overlap(client):
    path = f"/api/scans/{opened(client)['id']}"
    boxes = ([10, 12, 50, 40], [30, 20, 70, 50])  # that share 40, 30
    numbers = [client.post(f"{path}/contours", json={"box": box}).json()["id"] for box in boxes]
    for order in (numbers, numbers[::-1]):
        asked = {"objects": [{"id": number} for number in order], "name": "labels.png"}
        content = client.post(f"{path}/labels", json=asked).content
        label_map = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert label_map[30, 40] == 2
        assert label_map[15, 15] == 1 + order.index(numbers[0])


def test_what_was_boxed_on_a_slice_is_followed(client):
    scan = opened(client, "scan.nii", nifti())
    assert (scan["depth"], scan["height"], scan["width"]) == (8, 30, 40)
    path = f"/api/scans/{scan['id']}"
    wanted = {"box": [5, 6, 20, 20], "slice": 3, "slices": [2, 5]}
    found = client.post(f"{path}/contours", json=wanted).json()
    assert sorted(found["contours"]) == ["2", "3", "4", "5"]
    asked = {"objects": [{"id": found["id"]}], "name": "a.nii"}
    content = client.post(f"{path}/labels", json=asked).content
    labels = np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
    assert labels.any(axis=(0, 1)).tolist() == [z in (2, 3, 4, 5) for z in range(8)]


@pytest.fixture
def large() -> tuple[bytes, bytes]:
    """An image and a volume in which a small box gets a region of its own."""
    pixels = np.random.default_rng(2).integers(1, 256, (240, 320, 3), dtype=np.uint8)
    volume = nibabel.Nifti1Image(pixels, np.diag([-1.0, -1, 3, 1]))
    return cv2.imencode(".png", pixels)[1].tobytes(), volume.to_bytes()


@pytest.mark.usefixtures("all_grids")
@pytest.mark.parametrize("z", [None, 2], ids=["image", "volume"])
def test_a_preview_is_by_the_slice_that_is_encoded_ahead(client, shared, large, z):
    name, content = ("a.png", large[0]) if z is None else ("a.nii", large[1])
    scan = opened(client, name, content)
    assert scan["has_preview"]
    path, asked = f"/api/scans/{scan['id']}", {"box": [10, 10, 30, 51], "slice": z or 0}
    client.post(f"{path}/slices/{z or 0}/encoding")
    preview = client.post(f"{path}/preview", json=asked).json()
    assert len(shared.network.encoded) == 1
    found = client.post(f"{path}/contours", json=asked).json()
    assert len(shared.network.encoded) == 2
    assert found["id"] == 1, "the preview was kept"
    assert list(preview) == ["contours", "seconds"]
    assert list(preview["contours"]) == list(found["contours"]) == [str(z or 0)]


@pytest.mark.usefixtures("all_grids")
def test_the_preview_of_what_is_followed_is_of_its_own_slice(client, large):
    path = f"/api/scans/{opened(client, 'a.nii', large[1])['id']}"
    asked = {"box": [10, 10, 30, 51], "slice": 1, "slices": [0, 2]}
    assert list(client.post(f"{path}/preview", json=asked).json()["contours"]) == ["1"]
    assert list(client.post(f"{path}/contours", json=asked).json()["contours"]) == ["0", "1", "2"]


def test_what_is_seen_whole_has_no_preview(client):
    assert not opened(client)["has_preview"]  # the fake has one grid


@pytest.mark.usefixtures("all_grids", "blind_to_small_boxes")
def test_a_preview_without_an_outline_is_empty_and_one_of_a_bad_box_refused(client, large):
    path = f"/api/scans/{opened(client, 'a.nii', large[1])['id']}"
    asked = {"box": [3, 4, 5, 6], "slice": 1}
    assert client.post(f"{path}/preview", json=asked).json()["contours"] == {}
    for wrong in ({"slice": 9}, {"box": [0.1, 0.1, 0.9, 0.9]}):
        assert client.post(f"{path}/preview", json={**asked, **wrong}).status_code == 422


def test_a_window_changes_what_is_seen(client):
    scan = opened(client, "scan.nii", nifti())
    path = f"/api/scans/{scan['id']}"
    before = client.get(f"{path}/slices/0").content
    found = client.post(f"{path}/contours", json={"box": [5, 6, 20, 20], "slice": 3}).json()
    seen = labels_of(client, path, found["id"])
    changed = client.put(f"{path}/window", json={"window": "100,50"}).json()
    assert (changed["window"], changed["window_name"]) == ("window L 100 W 50", "")
    assert client.get(f"{path}/slices/0").content != before
    assert labels_of(client, path, found["id"]) == seen  # as it was found, in its window
    assert b"L 100 W 50" not in labels_of(client, path, found["id"])
    named = client.put(f"{path}/window", json={"window": "lung"}).json()
    assert (named["window"], named["window_name"]) == ("window lung", "lung")
    refused = client.put(f"{path}/window", json={"window": "liver"})
    assert refused.status_code == 422
    assert "Window must be one of" in refused.json()["detail"]


def test_a_box_keeps_the_window_in_which_it_was_asked_for(client, shared, monkeypatch):
    is_encoding, may_go_on = threading.Event(), threading.Event()
    encode, seen = shared.network.encode, []

    def slow_encode(image):
        seen.append(image)
        is_encoding.set()
        assert may_go_on.wait(20)
        return encode(image)

    monkeypatch.setattr(shared.network, "encode", slow_encode)
    path = f"/api/scans/{opened(client, 'scan.nii', nifti())['id']}"
    wanted = {"box": [5, 6, 20, 20], "slice": 3}
    with ThreadPoolExecutor() as threads:
        finding = threads.submit(client.post, f"{path}/contours", json=wanted)
        assert is_encoding.wait(20)
        client.put(f"{path}/window", json={"window": "100,50"})
        may_go_on.set()
        first = finding.result().json()["id"]
    assert b"L 100 W 50" not in labels_of(client, path, first)
    second = client.post(f"{path}/contours", json=wanted).json()["id"]
    assert b"L 100 W 50" in labels_of(client, path, second)
    assert len(seen) == 2
    assert not np.array_equal(*seen)


def test_two_windows_at_once_do_not_mix(client, monkeypatch):
    is_changing, may_go_on = threading.Event(), threading.Event()
    set_window = Scan.set_window

    def slow_set_window(scan, window):
        set_window(scan, window)
        if window == "lung":
            is_changing.set()
            assert may_go_on.wait(20)

    path = f"/api/scans/{opened(client, 'scan.nii', nifti())['id']}"
    lung, bone = (
        client.put(f"{path}/window", json={"window": name}) and client.get(f"{path}/slices/0")
        for name in ("lung", "bone")
    )
    assert lung.content != bone.content
    monkeypatch.setattr(Scan, "set_window", slow_set_window)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(client.put, f"{path}/window", json={"window": "lung"})
        assert is_changing.wait(20)
        assert client.get(f"{path}/slices/0").content == bone.content  # until all of it is there
        second = threads.submit(client.put, f"{path}/window", json={"window": "bone"})
        may_go_on.set()
        assert first.result().json()["window_name"] == "lung"
        assert second.result().json()["window_name"] == "bone"
    assert client.get(f"{path}/slices/0").content == bone.content


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_slices_of_a_dicom_series_come_in_one_body(client, tmp_path):
    scan = client.post("/api/scans", **body_of(series(tmp_path / "ct"))).json()
    assert (scan["depth"], scan["window_name"]) == (6, "soft-tissue")


@pytest.mark.parametrize("sizes", ["1,2", "9" * 5000, "1,-1", ",", "x"])
def test_sizes_that_are_none_are_refused(client, sizes):
    send = {"params": {"name": "ct.dcm"}, "content": b"1234"}
    wrong = client.post("/api/scans", headers={"X-File-Sizes": sizes}, **send)
    assert wrong.status_code == 422
    assert "add up to 4 bytes" in wrong.json()["detail"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_of_several_series_is_chosen(client, tmp_path):
    body = body_of(series(tmp_path / "one"), series(tmp_path / "two", count=4))
    refused = client.post("/api/scans", **body)
    assert refused.status_code == 422
    assert refused.json()["detail"] == "There are 2 series; choose one with `series`."
    depths = []
    for one in refused.json()["series"]:
        body["params"]["series"] = one["uid"]
        depths.append(client.post("/api/scans", **body).json()["depth"])
        assert f"{depths[-1]} files" in one["text"]
    assert sorted(depths) == [4, 6]


def phases(folder):
    """Write a series of two phases, of six slices each."""
    series(folder)
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.AcquisitionNumber, dataset.SOPInstanceUID = 9, generate_uid()
        dataset.save_as(folder / f"late_{path.name}")
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_of_several_volumes_is_chosen(client, tmp_path):
    body = body_of(phases(tmp_path / "ct"))
    refused = client.post("/api/scans", **body)
    assert refused.status_code == 422
    found = refused.json()
    assert found["detail"] == "There are 2 volumes or images; choose one with `volume`."
    assert [one["number"] for one in found["volumes"]] == [1, 2]
    texts = sorted(one["text"] for one in found["volumes"])
    assert texts[0].startswith("acquisition 2, 6 axial slices of 128 x 128, ")
    assert texts[1].startswith("acquisition 9, 6 axial slices of 128 x 128, ")
    assert re.search(r", ct\.dcm, file \d+ of 12$", texts[1])
    body["params"]["volume"] = 2
    assert client.post("/api/scans", **body).json()["depth"] == 6
    body["params"]["volume"] = 3
    assert "must hold a volume 3, got 1 to 2" in client.post("/api/scans", **body).json()["detail"]
    body["params"]["volume"] = 0
    assert client.post("/api/scans", **body).status_code == 422


def test_a_volume_is_opened_in_a_plane(client):
    planes = ["axial", "coronal", "sagittal"]
    shapes = {"auto": (8, 30, 40), "axial": (8, 30, 40), "coronal": (30, 8, 40)}
    for plane, shape in {**shapes, "sagittal": (40, 8, 30)}.items():
        params = {"name": "scan.nii", "plane": plane}
        scan = client.post("/api/scans", params=params, content=nifti()).json()
        assert (scan["depth"], scan["height"], scan["width"]) == shape
        assert (scan["plane"], scan["planes"]) == (plane.replace("auto", "axial"), planes)
    path, box = f"/api/scans/{scan['id']}", [5, 2, 20, 6]  # y runs from front to back
    found = client.post(f"{path}/contours", json={"box": box, "slice": 7}).json()
    content = labels_of(client, path, found["id"])
    labels = np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
    assert labels.shape == VOLUME.shape
    assert np.unique(np.nonzero(labels)[0]).tolist() == [40 - 1 - 7]  # the patient's right first


def test_pictures_leave_no_choice_of_a_plane(client):
    slice_content = nibabel.Nifti1Image(VOLUME[:, :, :1], np.eye(4)).to_bytes()
    for scan in (opened(client), opened(client, "slice.nii", slice_content)):
        assert (scan["plane"], scan["planes"]) == ("", [])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_plane_of_another_format_or_an_unknown_one_is_refused_as_in_the_command(client, tmp_path):
    of_others = "A plane can be chosen of NIfTI, NRRD and MetaImage alone, not of {}"
    wrong = "Plane must be one of auto, axial, coronal, sagittal, got 'oblique'"
    for body, plane, message in (
        ({"params": {"name": "a.png"}, "content": png()}, "axial", of_others.format("a.png")),
        (body_of(series(tmp_path / "ct")), "coronal", of_others.format("ct.dcm")),
        ({"params": {"name": "scan.nii"}, "content": nifti()}, "oblique", wrong),
    ):
        body["params"]["plane"] = plane
        response = client.post("/api/scans", **body)
        assert (response.status_code, response.json()["detail"]) == (422, message)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_series_may_be_an_archive(client, tmp_path):
    folder = series(tmp_path / "ct")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    assert opened(client, "ct.zip", stream.getvalue())["depth"] == 6


def test_a_case_is_opened(client):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, imgs=VOLUME.T.astype(np.uint8), boxes=np.zeros((0, 6)))
    scan = opened(client, "case.npz", buffer.getvalue())
    assert (scan["depth"], scan["is_volume"]) == (8, True)
    assert scan["label_suffixes"] == [".npz"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dicom_file_needs_no_suffix(client, tmp_path):
    content = (series(tmp_path / "ct") / "0.dcm").read_bytes()
    assert opened(client, "IM0001", content)["window_name"] == "soft-tissue"


@pytest.mark.parametrize(
    ("name", "content", "status", "message"),
    [
        ("a.txt", b"text", 422, "must "),
        ("a.png", b"text", 422, "must be a PNG"),
        ("a.nii.gz", b"text", 422, "readable NIfTI"),
        ("a.npz", b"text", 422, ".npz archive"),
        ("a.png", bytes((1 << 20) + 1), 413, "1 MB at most"),
    ],
)
def test_what_cannot_be_opened_is_said_in_a_sentence(client, name, content, status, message):
    response = client.post("/api/scans", params={"name": name}, content=content)
    assert response.status_code == status
    assert message in response.json()["detail"]


def test_what_is_wrong_with_a_box_is_said(client):
    volume = opened(client, "scan.nii", nifti())["id"]
    asked = {"box": [1, 2, 3, 4], "slice": 3, "slices": [4, 5]}
    response = client.post(f"/api/scans/{volume}/contours", json=asked)
    assert response.status_code == 422
    assert "Slice must be from 4 to 5" in response.json()["detail"]
    assert client.get(f"/api/scans/{volume}/slices/8").status_code == 404
    response = client.post(f"/api/scans/{volume}/slices/8/encoding")
    assert "Slices must be from 0 to 7, got 8 to 8" in response.json()["detail"]
    asked = {"objects": [{"id": 7}], "name": "a.nii"}
    response = client.post(f"/api/scans/{volume}/labels", json=asked)
    assert (response.status_code, response.json()["detail"]) == (
        422,
        "Object 7 is not one of this image's.",
    )


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"slice": 1e15}, "1000000000000000"),
        ({"slice": -1}, "-1"),
        ({"slices": [-5, 5]}, "-5"),
        ({"slice": 0, "slices": [0, 2]}, "2"),
    ],
)
@pytest.mark.parametrize("endpoint", ["contours", "preview"])
def test_slices_that_an_image_does_not_have_are_refused(client, more, shown, endpoint):
    path = f"/api/scans/{opened(client)['id']}"
    response = client.post(f"{path}/{endpoint}", json={"box": BOX, **more})
    assert response.status_code == 422
    assert response.json()["detail"] == f"An image has slice 0 alone, got {shown}."
    same = client.post(f"{path}/{endpoint}", json={"box": BOX, "slice": 0, "slices": [0, 0]})
    assert same.status_code == 200
    assert client.post(f"{path}/slices/0/encoding").status_code == 200
    assert client.post(f"{path}/slices/1/encoding").status_code == 422


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"box": [1, 2, 3]}, "body.box.3: Field required"),
        ({"box": [1, 2, 3, "x"]}, "body.box.3: Input should be a valid number"),
        ({"box": BOX, "slices": [0, 1.5]}, "body.slices.1: Input should be a valid integer"),
        ({"box": BOX, "slcie": 0}, "body.slcie: Extra inputs are not permitted"),
        ({}, "body.box: Field required"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_a_sentence(client, body, message):
    response = client.post(f"/api/scans/{opened(client)['id']}/contours", json=body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"The request is not as it must be: {message}")
    assert response.json()["detail"].endswith(".")


def test_what_nobody_thought_of_is_a_sentence_too(shared, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("of a reader")

    monkeypatch.setattr("qmedsam.web.app.read_scan", broken)
    app = create_app(shared, host="127.0.0.1", most_bytes=1 << 20)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    response = client.post("/api/scans", params={"name": "a.png"}, content=b"x")
    assert response.status_code == 500
    assert response.json()["detail"] == "That failed, and should not have (ZeroDivisionError)."
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_objects_are_not_kept_without_end(client, monkeypatch):
    monkeypatch.setattr("qmedsam.web.shelf.MOST_OBJECTS", 2)
    path = f"/api/scans/{opened(client)['id']}/contours"
    answers = [client.post(path, json={"box": BOX}).status_code for _ in range(3)]
    assert answers == [200, 200, 422]


def test_a_slice_is_encoded_ahead_of_its_first_box(client, shared):
    encoded = shared.network.encoded
    path = f"/api/scans/{opened(client, 'scan.nii', nifti())['id']}"
    assert client.post(f"{path}/slices/3/encoding").status_code == 200
    assert len(encoded) == 1
    client.post(f"{path}/contours", json={"box": [5, 6, 20, 20], "slice": 3})
    assert len(encoded) == 1


def test_few_images_stay_open(client):
    numbers = [opened(client)["id"] for _ in range(MOST_SCANS + 1)]
    gone = client.get(f"/api/scans/{numbers[0]}/slices/0")
    assert gone.status_code == 404
    assert "not open any more" in gone.json()["detail"]
    assert client.get(f"/api/scans/{numbers[1]}/slices/0").status_code == 200
    client.delete(f"/api/scans/{numbers[1]}")
    assert client.get(f"/api/scans/{numbers[1]}/slices/0").status_code == 404


@pytest.mark.parametrize(("most_bytes", "remaining"), [(60_000, 2), (50_000, 1), (1, 1)])
def test_large_images_make_room_but_for_the_newest(shared, monkeypatch, most_bytes, remaining):
    monkeypatch.setattr("qmedsam.web.shelf.largest_array_bytes", lambda: most_bytes)
    app = create_app(shared, host="127.0.0.1", most_bytes=1 << 20)
    client = TestClient(app, base_url="http://localhost")
    numbers = [opened(client)["id"] for _ in range(3)]  # 14,400 bytes of values, and of pixels
    found = [client.get(f"/api/scans/{number}/slices/0").status_code for number in numbers]
    assert found == [404] * (3 - remaining) + [200] * remaining


def test_the_page_loads_nothing_from_elsewhere(client):
    for path in (
        "/",
        "/api",
        "/static/app.js",
        "/static/drawing.js",
        "/static/api.js",
        "/static/style.css",
    ):
        response = client.get(path)
        assert response.status_code == 200
        assert "://" not in response.text
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_requests_from_elsewhere_are_refused_in_a_sentence(client):
    path = f"/api/scans/{opened(client)['id']}"
    foreign = {"Origin": "http://evil.example"}
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
    assert client.get(f"{path}/slices/0", headers=foreign).status_code == 200  # is not let read it
    for method, below in [("POST", "/contours"), ("PUT", "/window"), ("DELETE", "")]:
        response = client.request(method, f"{path}{below}", headers=foreign)
        assert response.status_code == 403
        assert "Only the page of this server" in response.json()["detail"]
    own = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.delete(path, headers=own).status_code == 200


def test_the_endpoints_are_described(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/api/scans",
        "/api/scans/{number}",
        "/api/scans/{number}/window",
        "/api/scans/{number}/slices/{z}",
        "/api/scans/{number}/slices/{z}/encoding",
        "/api/scans/{number}/preview",
        "/api/scans/{number}/contours",
        "/api/scans/{number}/labels",
    }
