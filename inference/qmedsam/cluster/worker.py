"""What runs on each machine: a segmenter that loads its model once, and cases one after another."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from ..batch.case_run import CaseRun
from ..batch.outputs import Outputs
from ..batch.report import CaseRecord, describe_model
from ..batch.results import maker_of
from ..config import OnError, Settings
from ..errors import ModelError
from ..segmenter import Segmenter
from ..version import __version__
from .storage import Storage, staged

LANES = 2  # calls at once: one case is read or written while another is segmented


@dataclass(frozen=True)
class Job:
    """What is the same for all cases of a run.

    Attributes:
        inputs: folder of the cases.
        outputs: folder for label maps.
        settings: of the segmenter; its threads are those of one worker.
        model_dir: None is one of those that ship.
        on_error: as of `Outputs`.
        keeps_earlier: as of `Outputs`.
        overwrites: as of `Outputs`.
    """

    inputs: Storage
    outputs: Storage
    settings: Settings
    model_dir: Path | None = None
    on_error: OnError = "skip"
    keeps_earlier: bool = False
    overwrites: bool = False


@dataclass(frozen=True)
class Description:
    """Who a worker is.

    Attributes:
        host: name of its machine.
        process: its number there.
        version: of this package there.
        model: of `describe_model`.
    """

    host: str
    process: int
    version: str
    model: dict[str, Any]


class Worker:
    """Segments cases by name, once it is loaded; several threads may call it.

    Args:
        job: of the run.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._segmenter: Segmenter | None = None

    def load(self) -> Description:
        """Load the model and say who this is; Ray would hide what is wrong in the constructor.

        Raises:
            ModelError: the model cannot be loaded.
        """
        cv2.setNumThreads(max(1, self._job.settings.threads))
        self._segmenter = Segmenter(self._job.model_dir, self._job.settings)
        model = describe_model(self._segmenter)
        return Description(socket.gethostname(), os.getpid(), __version__, model)

    def run(self, name: str) -> CaseRecord:
        """Segment a case and write its label map; return what happened.

        Raises:
            ModelError: no case can be run.
        """
        assert self._segmenter is not None, "it must be loaded first"
        job = self._job
        record = CaseRecord(name)
        try:
            with staged(
                job.inputs,
                job.outputs,
                name,
                keeps_earlier=job.keeps_earlier,
                overwrites=job.overwrites,
            ) as (case, output_dir):
                network = self._segmenter.network
                outputs = Outputs(
                    output_dir,
                    on_error=job.on_error,
                    maker=maker_of(network.manifest, network.precision, job.settings),
                    keeps_earlier=job.keeps_earlier,
                    overwrites=job.overwrites,
                )
                run = CaseRun(case, outputs)
                run.read().segment(self._segmenter)
                record = run.write()
        except ModelError:
            raise
        # A storage may raise anything (`storage.py`); errors of the case are in its record.
        except Exception as error:
            return replace(record, error=f"{type(error).__name__}: {error}")
        return record
