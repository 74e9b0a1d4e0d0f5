"""What all settings of training share: pydantic checks them when they are made, nothing after.

A key that is none is an error, and so is a value of another type; a whole number serves for one
with a point, and a list for a tuple, since TOML has no tuples.
"""

from __future__ import annotations

from typing import Annotated, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

T = TypeVar("T")


class CheckedSettings(BaseModel):
    """Settings that are checked when they are made and cannot be changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _lower_end_first(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("must have its lower end first")
    return values


List = Annotated[tuple[T, ...], Field(strict=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_lower_end_first)]


def explain(error: ValidationError, kind: type[CheckedSettings]) -> str:
    """Return a sentence on the first wrong setting: its key, what was expected, what came.

    Args:
        error: that making settings raised.
        kind: of those settings. A validator of them says what follows the key: "must be even".
    """
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"Key {key!r} is missing"
    if first["type"] == "extra_forbidden":
        return f"Unknown key {key}; there are {', '.join(_keys_beside(first['loc'], kind))}"
    if first["type"] == "model_type":
        expected = "must be a table"
    elif first["type"] == "value_error":
        expected = str(first["ctx"]["error"])
    else:  # "Input should be ..."
        expected = f"must {first['msg'].partition(' should ')[2].replace('tuple', 'list')}"
    return f"{key} {expected}, got {first['input']!r}"


def _keys_beside(loc: tuple[int | str, ...], kind: type[CheckedSettings]) -> list[str]:
    for name in loc[:-1]:
        kind = cast(type[CheckedSettings], kind.model_fields[str(name)].annotation)
    return list(kind.model_fields)
