"""The errors that inference raises on purpose.

Programming mistakes stay built-in types.
"""


class InferenceError(Exception):
    """Base of all errors of this package."""


class InvalidCaseError(InferenceError):
    """One input is bad: skip it and go on."""


class OutputError(InferenceError):
    """What was found for one input cannot be written: go on with the next."""


class ModelError(InferenceError):
    """The model cannot be loaded or run: nothing can go on."""
