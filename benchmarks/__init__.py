"""Measurements that the documentation quotes; each is a command."""

# Before any package that would load OpenVINO's usage reports, which this import blocks.
from qmedsam.model import runtime as _runtime  # noqa: F401
