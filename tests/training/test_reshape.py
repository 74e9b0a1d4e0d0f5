"""The command that begins a training: what it refuses."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from training import reshape

pytestmark = pytest.mark.training


def test_without_the_published_checkpoint_nothing_is_written(tmp_path, caplog):
    output = tmp_path / "start.pt"
    arguments = ["--data", str(tmp_path), "--checkpoint", str(tmp_path / "none.pth")]
    assert reshape.main([*arguments, "--output", str(output)]) == 2
    assert "none.pth" in caplog.text
    assert not output.exists()
