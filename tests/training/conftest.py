"""Shared by the tests of quantized networks."""

from __future__ import annotations

import pytest


@pytest.fixture
def quick_tensors(monkeypatch):
    """Seeded, on one thread for tensors this small, and without the compilation."""
    import torch

    from training import fake_quant

    torch.manual_seed(0)
    monkeypatch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
    monkeypatch.setattr(fake_quant, "_compiled_backward", fake_quant._backward)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_lite_medsam(monkeypatch, quick_tensors):
    """Put the small network in the place of LiteMedSAM."""
    from tests.training.networks import build_small_network
    from training import state

    monkeypatch.setitem(state.BUILDERS, "lite_medsam", build_small_network)
