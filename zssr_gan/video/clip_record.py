"""The record of an enhanced video: one a clip, with every frame's time and hashes."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from zssr_gan.inference.record import (
    InputFile,
    OptionFile,
    RequestFacts,
    Times,
    Tool,
    WrittenFile,
    encode_json,
)
from zssr_gan.inference.region import Region
from zssr_gan.provenance import LABELS, STATEMENT, FileModel, Label, label_of, strongest
from zssr_gan.video.encode import LOSSY
from zssr_gan.video.io import Fields, Raw

METHOD = (
    "super-resolution of luma by a network learnt on frames of this video: Shocher et al. 2018",
    "averaging along time where nothing moves: Dubois and Sabri 1984; noise by Immerkaer 1996",
    "U and V by cubic interpolation: Keys 1981",
    "coding: FFV1, RFC 9043",
)


class ClipOptions(FileModel):
    """How a video is read and written."""

    fields: Fields = "auto"
    raw: Raw | None = None
    views: Literal[1, 8] = Field(1, description="flips and turns of a frame that the network sees")
    steady: bool = Field(True, description="whether frames are averaged with those around them where nothing moves")
    pixel_format: str | None = Field(None, description="of the result; none: the frames' own")
    lossy: bool = Field(False, description="whether an H.264 copy lies beside it")


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """One frame; small, as a long video has many.

    `index`: in the order in which the decoder shows frames, from 0. `pts`: of the input, in units of the time base;
    None: not known. `sha256`: of the planes as decoded. `same_as`: index of the frame before it that has the same
    planes. `box`: left and top edge, width and height of what is shown of it. `averaged`: mean number of frames that a
    pixel was averaged over before the network. `result_sha256`: of the planes of the result.
    """

    index: int
    field: Literal["top", "bottom"] | None
    pts: int | None
    sha256: str
    same_as: int | None
    corrupt: bool
    box: Region
    averaged: float
    result_sha256: str


class ClipTimes(FileModel):
    """How the result's container holds the times; fractions of a second."""

    time_base: str | None = Field(description="of the input's times, and of those in the table; none: not known")
    container_time_base: str
    shifted_by: int = Field(description="ticks that times in the container are later, as it holds none below 0")
    largest_rounding: str = Field(description="seconds by which a time in the container is off")


class Flicker(FileModel):
    """Root mean square difference of frames in succession where they are stillest, in levels of 255."""

    result: float
    bicubic: float = Field(description="of the frames enlarged plainly")


class ClipResult(WrittenFile):
    """The video that was written."""

    width: int
    height: int
    frames: int
    pixel_format: str
    codec: Literal["ffv1"] = "ffv1"


class ClipRecord(FileModel):
    """The record of a clip, as it lies on disk."""

    clip_version: Literal[1] = 1
    tool: Tool
    label: Label
    label_means: str
    statement: str = STATEMENT
    method: tuple[str, ...] = METHOD
    request: RequestFacts
    options: ClipOptions
    track: OptionFile | None = Field(description="whose box is shown of each frame")
    input: InputFile
    video: dict[str, JsonValue] = Field(description="what the input's container says")
    sound: Literal["left out"] = "left out"
    noise: float = Field(description="standard deviation that frames in succession show, [0, 1] units")
    flicker: Flicker | None = Field(description="none where no two frames that are shown differ")
    times_of_frames: ClipTimes
    output: ClipResult
    table: WrittenFile
    lossy: WrittenFile | None
    notices: tuple[str, ...]
    device_name: str
    versions: dict[str, str]
    times: Times
    frames: tuple[FrameFacts, ...]

    def encode(self) -> bytes:
        """The file: a line for each frame."""
        frames = b",\n".join(b"    " + json.dumps(asdict(frame)).encode() for frame in self.frames)
        head = encode_json(self.model_dump(mode="json", exclude={"frames"})).removesuffix(b"\n}\n")
        return head + b',\n  "frames": [\n' + frames + b"\n  ]\n}\n"

    def least_label(self) -> Label:
        """What the result was learnt from, by what the record lists."""
        return clip_label(self.request, {frame.sha256 for frame in self.frames})


def clip_label(request: RequestFacts, frames: Collection[str]) -> Label:
    """The label of a clip with frames of these hashes: internal, if nothing but them was learnt from."""
    learnt_from = [*request.degradation.learnt_from, *(image.sha256 for image in request.case or ())]
    strangers = [one for one in learnt_from if one not in frames]
    label = label_of("", strangers, generator=request.model is not None)
    return strongest(label, "internal")


def label_means(request: RequestFacts, label: Label) -> str:
    """What a label means of a clip."""
    if label != "internal":
        return LABELS[label]
    many = len(request.case or ())
    return (
        f"Every pixel was computed from frames of this video alone, by a network learnt on {many} of them, which the "
        "record lists and hashes; no other image had a part in it."
    )


def outputs(path: Path, *, lossy: bool) -> tuple[Path, ...]:
    """The files of a clip: video, table, lossy copy where one is wanted, and the record, which vouches for them."""
    stem = path.with_suffix("")
    copy = (path.with_name(f"{stem.name}{LOSSY}"),) if lossy else ()
    return path, path.with_suffix(".csv"), *copy, path.with_suffix(".json")
