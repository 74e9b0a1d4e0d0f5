from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from tests.conftest import ROOT  # noqa: E402
from training import checkpoint  # noqa: E402
from training.checkpoint import load_lite_medsam, load_medsam, main, read_tensors  # noqa: E402
from training.networks.network import build_medsam  # noqa: E402
from training.published import (  # noqa: E402
    DEFAULT_PATH,
    SIZE_BYTES,
    CheckpointError,
    fetch_lite_medsam,
)

pytestmark = pytest.mark.training


def test_a_missing_checkpoint_says_how_to_get_it(tmp_path, caplog):
    assert main(["verify", "--path", str(tmp_path / "none.pth")]) == 2
    assert "python -m training.checkpoint fetch" in caplog.text


def test_a_file_of_another_size_is_refused(tmp_path):
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="39370479 bytes, got 5"):
        load_lite_medsam(path)


def test_a_changed_file_of_the_right_size_is_refused(tmp_path):
    path = tmp_path / "lite_medsam.pth"
    with path.open("wb") as stream:
        stream.truncate(SIZE_BYTES)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_lite_medsam(path)


def test_a_bad_file_in_place_is_not_overwritten_by_fetch(tmp_path):
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="bytes, got 4"):
        fetch_lite_medsam(path)
    assert path.read_bytes() == b"mine"


def test_the_published_checkpoint_loads_strictly():
    if not (ROOT / DEFAULT_PATH).is_file():
        pytest.skip("run `python -m training.checkpoint fetch` first")
    network = load_lite_medsam(ROOT / DEFAULT_PATH)
    assert not network.training


def test_a_medsam_checkpoint_loads_by_its_published_names(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "build_medsam", lambda: build_medsam(depth=1))
    state = build_medsam(depth=1).state_dict()
    assert "image_encoder.blocks.0.attn.rel_pos_h" in state
    assert "image_encoder.pos_embed" in state
    torch.save(state, tmp_path / "medsam_vit_b.pth")
    loaded = load_medsam(tmp_path / "medsam_vit_b.pth").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def trained_document():
    return {
        "format": 1,
        "name": "small",
        "network": {"weight": torch.arange(6.0).view(2, 3).T, "steps": torch.tensor(3)},
        "history": [{"recipe": {"name": "one", "trained": ["image_encoder"]}, "steps": 5}],
        "quant": None,
    }


def test_a_kept_checkpoint_says_the_same_and_has_the_same_bytes(tmp_path, caplog):
    document = trained_document()
    torch.save(document, tmp_path / "best.pt")
    kept = [tmp_path / "a.safetensors", tmp_path / "new" / "b.safetensors"]
    for path in kept:
        assert main(["keep", "--from", str(tmp_path / "best.pt"), "--path", str(path)]) == 0
    assert kept[0].read_bytes() == kept[1].read_bytes()
    found = read_tensors(kept[0])
    assert {key: found[key] for key in found if key != "network"} == {
        key: document[key] for key in document if key != "network"
    }
    assert found["network"].keys() == document["network"].keys()
    for name, value in document["network"].items():
        assert torch.equal(found["network"][name], value)
        assert found["network"][name].dtype == value.dtype


def test_what_cannot_be_kept_is_explained(tmp_path, caplog):
    torch.save({**trained_document(), "optimizer": {}}, tmp_path / "last.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    for name in ("last.pt", "weights.pth"):
        arguments = ["keep", "--from", str(tmp_path / name)]
        assert main([*arguments, "--path", str(tmp_path / "kept.safetensors")]) == 2
        assert f"{name} must be best.pt or start.pt of a stage of training" in caplog.text
    with pytest.raises(SystemExit):
        main(["keep", "--path", str(tmp_path / "kept.safetensors")])
    with pytest.raises(SystemExit):
        main(["keep", "--from", "best.pt", "--path", str(tmp_path / "kept.pt")])
    (tmp_path / "broken.safetensors").write_bytes(b"12345678{")
    with pytest.raises(CheckpointError, match="is no checkpoint, or cut short"):
        read_tensors(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("content", [b"", b"no checkpoint"], ids=["empty", "text"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setattr(checkpoint, "build_medsam", lambda: build_medsam(depth=1))
    (tmp_path / "medsam_vit_b.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="is no checkpoint, or cut short"):
        load_medsam(tmp_path / "medsam_vit_b.pth")


def test_a_checkpoint_of_another_network_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "build_medsam", lambda: build_medsam(depth=1))
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_medsam(tmp_path / "other.pth")
