"""What the options are where nobody gives them."""

from __future__ import annotations

from pathlib import Path

from qmedsam.options import default_cache_dir


def test_the_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("QMEDSAM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache_dir() == Path("/somewhere/qmedsam")
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", "")
    assert default_cache_dir() is None


def test_a_user_without_a_home_has_no_cache_folder(monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("QMEDSAM_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert default_cache_dir() is None
