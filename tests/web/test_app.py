"""The REST endpoints, with a fake network."""

from __future__ import annotations

import io
import sys

import cv2
import nibabel
import numpy as np
import pytest
from starlette.testclient import TestClient

from inference import Segmenter, segmenter
from inference.cli import main
from inference.web.app import MOST_SCANS, create_app
from tests.formats.test_dicom import series
from tests.inference.test_cli import FakeCompiledNetwork

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
VOLUME = np.random.default_rng(1).integers(1, 1000, (40, 30, 8)).astype(np.int16)
BOX = [10, 12, 50, 40]


@pytest.fixture
def shared(monkeypatch) -> Segmenter:
    monkeypatch.setattr(segmenter, "CompiledNetwork", FakeCompiledNetwork)
    return Segmenter()


@pytest.fixture
def client(shared) -> TestClient:
    app = create_app(shared, hosts=["localhost"], most_bytes=1 << 20)
    return TestClient(app, base_url="http://localhost")


def png() -> bytes:
    return cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()


def nifti() -> bytes:
    return nibabel.Nifti1Image(VOLUME, np.diag([-1.0, -1, 3, 1])).to_bytes()


def opened(client, name="image.png", content=None) -> dict:
    response = client.post("/api/scans", params={"name": name}, content=content or png())
    assert response.status_code == 200, response.text
    return response.json()


def labels_of(client, path: str, number: int) -> bytes:
    asked = {"objects": [{"id": number}], "name": "a.nii"}
    return client.post(f"{path}/labels", json=asked).content


def test_an_image_is_opened_seen_segmented_and_downloaded(client):
    scan = opened(client)
    assert (scan["depth"], scan["height"], scan["width"]) == (1, 60, 80)
    assert (scan["is_volume"], scan["window"]) == (False, "window as-it-is")
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


def test_a_window_changes_what_is_seen(client):
    scan = opened(client, "scan.nii", nifti())
    path = f"/api/scans/{scan['id']}"
    before = client.get(f"{path}/slices/0").content
    found = client.post(f"{path}/contours", json={"box": [5, 6, 20, 20], "slice": 3}).json()
    seen = labels_of(client, path, found["id"])
    changed = client.put(f"{path}/window", json={"window": "100,50"}).json()
    assert changed["window"] == "window L 100 W 50"
    assert client.get(f"{path}/slices/0").content != before
    assert labels_of(client, path, found["id"]) == seen  # as it was found, in its window
    assert b"L 100 W 50" not in labels_of(client, path, found["id"])
    refused = client.put(f"{path}/window", json={"window": "liver"})
    assert refused.status_code == 422
    assert "Window must be one of" in refused.json()["detail"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_slices_of_a_dicom_series_come_in_one_body(client, tmp_path):
    contents = [path.read_bytes() for path in series(tmp_path / "ct").glob("*.dcm")]
    sizes = {"X-File-Sizes": ",".join(str(len(content)) for content in contents)}
    send = {"params": {"name": "ct.dcm"}, "content": b"".join(contents)}
    scan = client.post("/api/scans", headers=sizes, **send).json()
    assert (scan["depth"], scan["window"]) == (6, "window soft-tissue")
    wrong = client.post("/api/scans", headers={"X-File-Sizes": "1,2"}, **send)
    assert wrong.status_code == 422
    assert "add up" in wrong.json()["detail"]


def test_a_case_is_opened(client):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, imgs=VOLUME.T.astype(np.uint8), boxes=np.zeros((0, 6)))
    scan = opened(client, "case.npz", buffer.getvalue())
    assert (scan["depth"], scan["is_volume"]) == (8, True)


@pytest.mark.parametrize(
    ("name", "content", "status", "message"),
    [
        ("a.txt", b"text", 422, "must end in"),
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
    assert "Slice must be from 0 to 7, got 8" in response.json()["detail"]
    asked = {"objects": [{"id": 7}], "name": "a.nii"}
    response = client.post(f"/api/scans/{volume}/labels", json=asked)
    assert (response.status_code, response.json()["detail"]) == (
        422,
        "Object 7 is not one of this image's.",
    )


def test_objects_are_not_kept_without_end(client, monkeypatch):
    monkeypatch.setattr("inference.web.app.MOST_OBJECTS", 2)
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


def test_the_page_loads_nothing_from_elsewhere(client):
    for path in ("/", "/api", "/static/app.js", "/static/api.js", "/static/style.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert "://" not in response.text
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_another_name_for_this_machine_is_refused(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_the_endpoints_are_described(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/api/scans",
        "/api/scans/{number}",
        "/api/scans/{number}/window",
        "/api/scans/{number}/slices/{z}",
        "/api/scans/{number}/slices/{z}/encoding",
        "/api/scans/{number}/contours",
        "/api/scans/{number}/labels",
    }


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "inference.web.command", None)
    assert main(["serve"]) == 2
    assert "pip install 'qmedsam[web]'" in capsys.readouterr().err
