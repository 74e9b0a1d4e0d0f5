"""What the endpoints take and give, as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MOST_OBJECTS = 1000  # of an image or volume


class Asked(BaseModel):
    """The body of a request, in which a key that is unknown, as by a slip, is refused."""

    model_config = ConfigDict(extra="forbid")


class Opened(BaseModel):
    """An image or volume that is open."""

    id: int
    name: str
    depth: int = Field(description="slices; 1 of an image")
    height: int
    width: int
    is_volume: bool
    has_preview: bool = Field(description="whole slices, encoded ahead, give a first answer")
    window: str = Field(description="how values became 8 bits, in words")
    window_name: str = Field(description="the name of that window; empty of a level and width")
    windows: list[str] = Field(description="names that the window may have")
    plane: str = Field(description="in which it is cut into slices; empty where there is no choice")
    planes: list[str] = Field(description="in which it may be opened")
    label_suffixes: list[str] = Field(description="in which names of label maps may end")
    remarks: list[str] = Field(description="what to know of the file")


class Series(BaseModel):
    """One of several DICOM series."""

    uid: str
    text: str = Field(description="its number, what it is called and how many files it has")


class Volume(BaseModel):
    """One of several volumes or images in a DICOM series."""

    number: int = Field(description="from 1")
    text: str = Field(description="what tells it from the others, and its size")


class Refusal(BaseModel):
    """Why something was not done."""

    detail: str = Field(description="a sentence")
    series: list[Series] = Field([], description="of which one has to be chosen")
    volumes: list[Volume] = Field([], description="of which one has to be chosen")


class Window(Asked):
    """How values become 8 bits."""

    window: str = Field(description="a name, or LEVEL,WIDTH")


class Object(Asked):
    """What was boxed on a slice, and to which slices it goes."""

    box: tuple[float, float, float, float] = Field(
        description="x0, y0, x1, y1: its first and its last pixel"
    )
    slice: int = Field(0, description="the slice that the box is of")
    slices: tuple[int, int] | None = Field(
        None, description="first and last slice to follow it to; None is that slice alone"
    )


class Outlines(BaseModel):
    """What was found in a box."""

    contours: dict[int, list[list[tuple[int, int]]]] = Field(
        description="polygons of x, y by slice, through the outermost pixels"
    )
    seconds: float


class Found(Outlines):
    """What was found in a box; it is kept until the scan is closed."""

    id: int
    quality: float | None = Field(
        None, description="the DSC, 0 to 1, that the model predicts; null where it does not say"
    )
    is_poor: bool = Field(False, description="that is low: its outline is worth a look")


class Chosen(Asked):
    """An object of a label map."""

    id: int
    name: str = ""


class Labels(Asked):
    """Which objects go into a label map, and the name of its file."""

    objects: list[Chosen] = Field(
        description="in the order of their labels, which count from 1", max_length=MOST_OBJECTS
    )
    name: str
