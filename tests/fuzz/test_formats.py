"""What the fuzzers of other formats begin with, and once found, is read by every run of tests."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz.formats import CHECKS, SEEDS, check_input, inputs

# Libraries warn of what is broken; highdicom of what pydicom plans.
pytestmark = pytest.mark.filterwarnings("ignore")
CHANGED = {"dicom": 1, "nifti": 40, "nrrd": 15, "tiff": 15, "labels": 40}  # times an input is


@pytest.mark.parametrize("name", [name for name in SEEDS if name != "dicom"])
def test_what_fuzzing_begins_with_is_read(name):
    assert all(check_input(name, data) for data in SEEDS[name]())


def test_so_is_dicom_but_for_slices_with_odd_values():
    whole = [check_input("dicom", data) for data in SEEDS["dicom"]() if data[:1] == b"\0"]
    assert all(whole)
    assert len(whole) == 8


@pytest.mark.parametrize("name", CHECKS)
def test_what_was_found_and_what_is_changed_is_read_or_refused(name):
    generator = np.random.default_rng(0)
    refused = 0
    for data in inputs(name):
        check_input(name, data)
        for _ in range(CHANGED[name]):
            changed = bytearray(data)
            for place in generator.integers(0, len(data), generator.integers(1, 6)):
                changed[place] = generator.integers(256)
            kept = len(data) if generator.random() < 0.8 else generator.integers(1, len(data) + 1)
            refused += not check_input(name, bytes(changed[:kept]))
    assert refused > 5
