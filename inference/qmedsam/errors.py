"""The errors that inference raises on purpose.

Programming mistakes stay built-in types.
"""


class InferenceError(Exception):
    """Base of all errors of this package."""


class UsageError(InferenceError):
    """A folder, file or variable that a command was given cannot be used."""


class InvalidCaseError(InferenceError):
    """One input is invalid: skip it and go on."""


class OutputError(InferenceError):
    """What was found for one input cannot be written: go on with the next."""


class ModelError(InferenceError):
    """The model cannot be loaded or run: nothing can go on."""
