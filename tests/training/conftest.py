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
