"""The fuzzer's corpus, and what it once found, go through the reader on every run of the tests."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz.cases import CORPUS, check_input

INPUTS = sorted(CORPUS.iterdir())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_each_input_is_a_case_or_refused(path):
    check_input(path.read_bytes())


def test_the_corpus_holds_cases_of_each_kind():
    cases = {path.name for path in INPUTS if check_input(path.read_bytes())}
    assert {"grey.members", "rgb-savez.npz", "volume-savez_compressed.npz"} <= cases
    assert "ct.members" not in cases


def test_inputs_with_bytes_changed_are_cases_or_refused():
    generator = np.random.default_rng(0)
    refused = 0
    for path in INPUTS:
        content = path.read_bytes()
        for _ in range(40):
            changed = bytearray(content)
            for place in generator.integers(0, len(content), generator.integers(1, 6)):
                changed[place] = generator.integers(256)
            refused += not check_input(bytes(changed[: generator.integers(1, len(content) + 1)]))
    assert refused > len(INPUTS) * 20
