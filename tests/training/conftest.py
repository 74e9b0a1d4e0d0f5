"""Shared by the tests of quantized networks."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def seeded():
    """The same random tensors and layers in every run; those made on import are not covered."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)


@pytest.fixture
def quick_tensors(monkeypatch, seeded):
    """On one thread for tensors this small, and without the compilation."""
    import torch

    from training.quantization import fake_quant

    monkeypatch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
    monkeypatch.setattr(fake_quant, "_compiled_backward", fake_quant._backward)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_lite_medsam(monkeypatch, quick_tensors):
    """Put the small network in the place of LiteMedSAM."""
    from tests.training.small_networks import build_small_network
    from training.loop import state

    monkeypatch.setitem(state.BUILDERS, "lite_medsam", build_small_network)


@pytest.fixture
def cells():
    """What splits the lines of a Markdown table into their cells."""

    def split(table: str) -> list[list[str]]:
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]

    return split
