"""A network and how it is used: which grids it gets ready for, what it counts and takes."""

from __future__ import annotations

import numpy as np

from qmedsam.core.pipeline import Pipeline
from qmedsam.core.prompts import check_prompts
from qmedsam.core.timing import Stopwatch


def test_the_stopwatch_takes_every_step(fake_network):
    stopwatch = Stopwatch()
    pipeline = Pipeline(fake_network, volume_prompt="fixed", regions="auto", box_batch_size=4)
    image = np.zeros((64, 64), np.uint8)
    pipeline.segment(image, check_prompts(image, np.array([[1, 1, 9, 9]])), stopwatch=stopwatch)
    took = {step for step, seconds in stopwatch.seconds.items() if seconds > 0}
    assert took == {"preprocess", "encode", "decode", "postprocess"}
