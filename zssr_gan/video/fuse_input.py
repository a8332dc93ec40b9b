"""What is fused, read from files or from a video's track; what a record says of it, and how it is found again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.files import relative_path, sha256_bytes
from zssr_gan.imaging.io import decode_picture, read_image_bytes
from zssr_gan.imaging.picture import Picture, quantise
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.request import find_file
from zssr_gan.inference.verify import Check, check_files
from zssr_gan.video.coding import coding_facts
from zssr_gan.video.crops import TrackSource, read_crops
from zssr_gan.video.folder import TABLE, still_frames
from zssr_gan.video.frames import Frame
from zssr_gan.video.fuse import BurstFrame, FusedStills
from zssr_gan.video.registration import Motion
from zssr_gan.video.tracks import Track


@dataclass(frozen=True, slots=True)
class FusionInput:
    """What is fused, and what a record says of it."""

    stills: tuple[BurstFrame, ...]
    reference: int
    files: Mapping[Path, str]
    """With their hashes."""
    frames: tuple[dict[str, Any], ...]
    """For each still."""
    start: Motion | None = None
    mask: Tensor | None = None
    video: dict[str, Any] | None = None
    left_out: tuple[dict[str, object], ...] = ()

    @classmethod
    def of(cls, source: Sequence[Path] | TrackSource, reference: int, folder: Path) -> "FusionInput":
        """Read stills, or a track's frames; paths in the record are relative to `folder`."""
        if not isinstance(source, TrackSource):
            tables = {one: still_frames(one) for one in {path.parent for path in source} if (one / TABLE).is_file()}
            stills = tuple(_read(path, tables.get(path.parent, {})) for path in source)
            files = {path: one.sha256 for path, one in zip(source, stills, strict=True)}
            listed = (
                {"path": relative_path(path, folder), "sha256": one.sha256, **coding_facts(one.frame)}
                for path, one in zip(source, stills, strict=True)
            )
            return cls(stills, reference, files, tuple(listed))
        found, track = read_crops(source), source.track
        return cls(
            tuple(BurstFrame.of(crop) for crop in found.crops),
            found.reference,
            {source.file: track.sha256},
            tuple(crop.facts for crop in found.crops),
            found.start,
            found.mask,
            {
                "path": relative_path(source.file, folder),
                "sha256": track.sha256,
                "most": source.most,
                "display": source.display,
                "masked": found.mask is not None,
                "left_out": list(found.left_out),
                "info": found.info,
                "track_edited": track.edited,
                "track": track.model_dump(mode="json"),
            },
            found.left_out,
        )


def recorded_source(record: dict[str, Any], folder: Path) -> tuple[Sequence[Path] | TrackSource, list[Check]]:
    """What a record's result was fused from, and whether it is there unchanged."""
    if (video := record.get("video")) is None:
        frames = [find_file(frame["path"], folder) for frame in record["frames"]]
        return frames, list(check_files(folder, *(("frame", frame) for frame in record["frames"])))
    file = find_file(video["path"], folder)
    display = video["display"]
    source = TrackSource(
        file.parent if file.name == TABLE else file,
        Track.model_validate(video["track"]),
        record["frames"][record["reference"]]["index"],
        video["most"],
        tuple(display) if isinstance(display, list) else display,
    )
    return source, list(check_files(folder, ("video", video)))


def shown_as_asked(done: FusedStills, source: TrackSource, still: BurstFrame) -> FusedStills:
    """With the shape of its pixels corrected, where that was asked for: the last step."""
    rows, columns = done.picture.pixels.shape[1:]
    size = source.shown_size((rows, columns), still.frame.field if still.frame else None)
    if size == (rows, columns):
        return done
    picture, plain = (
        quantise(replace(one, pixels=resize(one.pixels, size).clamp_(0, 1))) for one in (done.picture, done.plain)
    )
    return replace(done, picture=picture, plain=plain, stored=(columns, rows))


def size_of(picture: Picture) -> list[int]:
    """Width and height."""
    return [picture.pixels.shape[2], picture.pixels.shape[1]]


def _read(path: Path, frames: Mapping[str, Frame]) -> BurstFrame:
    """A still, with what its folder's table says of the frame of its hash."""
    data = read_image_bytes(path)
    sha256 = sha256_bytes(data)
    return BurstFrame(decode_picture(data, str(path)), path.name, sha256, jpeg_of(data), frames.get(sha256))
