"""Graphs that run: what goes into each and comes out, and whether it is what the next one takes.

Names and shapes are compared before a graph first runs, so that a model whose files belong to
different ones, or to another manifest, is refused before its first case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.contract import LOW_RES_LOGITS_NAME
from ..errors import ModelError
from .runtime import openvino, said_by

ANY_3D = openvino.PartialShape([-1, -1, -1])


def check_encoder(
    parts: Mapping[Path, openvino.CompiledModel], given: Mapping[str, Sequence[int]]
) -> None:
    """Check that each part of an encoder takes what the part before it gives.

    Args:
        parts: in order, by their files.
        given: shapes of what the first one takes, by name.

    Raises:
        ModelError: it does not.
    """
    shapes = {name: openvino.PartialShape(list(shape)) for name, shape in given.items()}
    for file, part in parts.items():
        _check(file, "take", found=_shapes(part.inputs), wanted=shapes)
        shapes = _shapes(part.outputs)


def check_decoder(
    file: Path, decoder: openvino.CompiledModel, given: Mapping[str, NDArray[Any]]
) -> None:
    """Check that a decoder takes what it is given, and gives logits.

    Args:
        file: it was read from.
        decoder: compiled.
        given: arrays by name.

    Raises:
        ModelError: it does not.
    """
    shapes = {name: openvino.PartialShape(list(array.shape)) for name, array in given.items()}
    _check(file, "take", found=_shapes(decoder.inputs), wanted=shapes)
    outputs = _shapes(decoder.outputs)
    logits = {name: shape for name, shape in outputs.items() if name == LOW_RES_LOGITS_NAME}
    _check(file, "give", found=logits or outputs, wanted={LOW_RES_LOGITS_NAME: ANY_3D})


def joined(parts: Sequence[openvino.CompiledModel]) -> list[openvino.InferRequest]:
    """Return requests of graphs, each of which reads where the one before writes.

    Raises:
        ModelError, MemoryError: as of `infer`.
    """
    with _told():
        requests = [part.create_infer_request() for part in parts]
        for before, after in pairwise(requests):
            for output in before.model_outputs:
                after.set_tensor(_name(output), before.get_tensor(output))
        return requests


def infer(
    requests: Sequence[openvino.InferRequest], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Run joined requests on what the first one takes; return what the last one gives.

    Raises:
        ModelError: they cannot be run.
        MemoryError: they find no memory.
    """
    first, *rest = requests
    with _told():
        first.infer(inputs, share_inputs=True, share_outputs=True)
        for request in rest:
            request.infer(share_outputs=True)
        # The tensors belong to the request, whose next run overwrites them.
        last = requests[-1]
        return {
            _name(output): np.array(last.get_tensor(output).data, dtype=np.float32)
            for output in last.model_outputs
        }


@contextmanager
def _told() -> Iterator[None]:
    """Raise what OpenVINO raises as an error of the model, or of memory."""
    try:
        yield
    except RuntimeError as error:
        said = said_by(error)
        if "alloc" in said:  # another case may need less
            raise MemoryError(said) from error
        raise ModelError(f"Model cannot be run: {said}") from error


def _check(
    file: Path,
    verb: str,
    *,
    found: Mapping[str, openvino.PartialShape],
    wanted: Mapping[str, openvino.PartialShape],
) -> None:
    is_fit = found.keys() == wanted.keys() and all(
        shape.compatible(wanted[name]) for name, shape in found.items()
    )
    if not is_fit:
        raise ModelError(
            f"Model file {file} does not fit the manifest or the other graphs: it must {verb} "
            f"{_listed(wanted)}, got {_listed(found)}"
        )


def _listed(shapes: Mapping[str, openvino.PartialShape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())) or "nothing"


def _shapes(ports: Iterable[openvino.ConstOutput]) -> dict[str, openvino.PartialShape]:
    return {_name(port): port.partial_shape for port in ports}


def _name(port: openvino.ConstOutput) -> str:
    return min(port.names, default="")
