"""The options of each kind of job, as the page sends them."""

from typing import Annotated, Literal

from pydantic import Field

from zssr_gan.web.body import Form
from zssr_gan.web.methods import PRESETS, Fusion, Preset

_Index = Annotated[int, Field(ge=0, le=10**6)]
_Place = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=200)]


class Nothing(Form):
    """Of a kind without options."""


class Camera(Form):
    """Blur in pixels, noise in levels of 255 (standard deviations), and JPEG quality; what is left out is none."""

    blur: Annotated[float, Field(ge=0, le=8, allow_inf_nan=False)] = 0
    noise: Annotated[float, Field(ge=0, le=127, allow_inf_nan=False)] = 0
    jpeg: Annotated[int, Field(ge=1, le=100)] | None = None


class Enhance(Form):
    """`degradation`: auto, bicubic, or an estimate's id."""

    method: Preset = "fast"
    scale: Literal[2, 3, 4] = 2
    degradation: Name = "auto"
    region: tuple[_Index, _Index, _Index, _Index] | None = None


class Track(Form):
    """A region, or four corners, in a frame."""

    frame: _Index
    region: tuple[_Index, _Index, _Index, _Index] | None = None
    corners: Annotated[list[tuple[_Place, _Place]], Field(min_length=4, max_length=4)] | None = None


class Fuse(Form):
    """Frames of a track, or pictures of which one is the reference."""

    method: Fusion = "fuse"
    track: Name | None = None
    reference: Name | None = None
    frames: Annotated[int, Field(ge=2, le=1000)] | None = None
    scale: Literal[1, 2, 3, 4] = 2


class Video(Form):
    """Whole frames, or a track's region."""

    method: Preset = "fast"
    track: Name | None = None
    scale: Literal[2, 3, 4] = 2


class Compare(Form):
    """Methods to show side by side."""

    methods: Annotated[list[Name], Field(min_length=1, max_length=8)] = Field(default=[*PRESETS])
