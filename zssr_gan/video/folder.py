"""A folder of stills with a `frames.csv`: written from a video without loss of its luma, and read back as a video.

The folder is whole or absent: it is written under a hidden name beside its place and renamed at the end.
"""

import csv
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zssr_gan.errors import ImageError, OutputError, VideoError
from zssr_gan.files import atomic_write, sha256_bytes, sha256_file, why_unreadable
from zssr_gan.imaging.coding import coding_text
from zssr_gan.imaging.io import decode_picture, read_image_bytes
from zssr_gan.imaging.picture import Metadata, Samples, to_samples
from zssr_gan.imaging.png import encode_png
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import VERSION
from zssr_gan.signals import uninterrupted
from zssr_gan.video.aspect import Display, display_size
from zssr_gan.video.frames import Frame, Video, VideoInfo, planes_sha256, with_repeats
from zssr_gan.video.pixels import rgb
from zssr_gan.video.table import COLUMNS, csv_lines, row

TABLE, RECORD = "frames.csv", "video.json"

STILL_COLUMNS = (*COLUMNS, "file", "file_sha256", "levels", "rgb_by")

Pixels = Literal["auto", "luma", "rgb"]


def write_stills(
    video: Video,
    source: Path,
    folder: Path,
    *,
    pixels: Pixels = "auto",
    display: Display = None,
    overwrite: bool = False,
) -> int:
    """Write every frame of a video as a PNG file, with `frames.csv` and `video.json`; the number of stills.

    Args:
        video: as `open_video` gives it.
        source: its file, named in the record.
        folder: to write.
        pixels: "luma" writes the luma plane as stored, "rgb" three channels, "auto" luma where a frame has no colours.
        display: size of the stills, by which their aspect is corrected as the last step; see `display_size`.
        overwrite: replace a folder that this function wrote.

    Raises:
        OutputError: the folder exists, or the disk refuses.
        VideoError: as `open_video`, or the aspect is not known.
    """
    check_folder(folder, overwrite=overwrite)
    if folder.exists() and folder.samefile(source):
        raise OutputError(f"{folder}: is the input, and an input is never written over; choose another folder.")
    hidden = folder.absolute().parent / f".zssr-gan-{secrets.token_hex(8)}.tmp"
    resampled: set[tuple[int, int, int, int]] = set()
    stills = 0

    def written() -> Iterator[dict[str, str]]:
        nonlocal stills
        for frame in video.frames:
            samples, facts = _still(frame, pixels)
            size = display_size(frame, video.info.sample_aspect_ratio, display)
            if size is not None:
                resampled.add((*samples.shape[1::-1], *size[::-1]))
                samples = _resampled(samples, size)
            name = f"{_stem(frame)}.png"
            data = encode_png(samples.copy(), Metadata(), _texts(frame, video.info))
            atomic_write(hidden / name, data)
            stills += 1
            yield {**row(frame), **facts, "file": name, "file_sha256": sha256_bytes(data)}

    try:
        atomic_write(hidden / TABLE, csv_lines(written(), STILL_COLUMNS))
        atomic_write(hidden / RECORD, _record(video, source, stills, sorted(resampled), display).encode())
        try:
            with uninterrupted():
                retired = hidden.with_suffix(".old")
                if folder.is_dir():
                    folder.rename(retired)
                hidden.rename(folder)
            shutil.rmtree(retired, ignore_errors=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another folder.") from error
    except OutputError as error:
        raise OutputError(str(error).replace(str(hidden), str(folder))) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return stills


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that exists, unless it is empty, or holds what `write_stills` wrote and is to be replaced.

    Raises OutputError.
    """
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise OutputError(f"{folder}: is a file, and the stills need a folder; choose another name.")
        return
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    try:
        ours = {TABLE, RECORD} | {one.get("file", "") for one in _table(folder)} if RECORD in found else set[str]()
    except VideoError:
        ours = set()
    if others := sorted(found - ours):
        raise OutputError(f"{folder}: holds files that are no stills of a video ({others[0]}); choose another folder.")
    if not overwrite:
        raise OutputError(f"{folder}: holds the stills of a video already; --overwrite replaces them.")


def read_folder(folder: Path) -> Video:
    """Stills with a `frames.csv` as a video: what `write_stills` wrote, or any pictures with columns `file` and `pts`.

    Raises VideoError where there is no such table, or it cannot be used; also while frames are gone through.
    """
    rows = _table(folder)
    record: dict[str, Any] = {}
    if (folder / RECORD).is_file():
        try:
            record = json.loads((folder / RECORD).read_text("utf-8"))
            ratio = record["info"]["sample_aspect_ratio"]
            original = {"original_sha256": str(record["info"]["sha256"]), "original_file": str(record["file"])}
            rotation, resampled = int(record["info"]["rotation"]), bool(record["resampled"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VideoError(f"{folder / RECORD}: cannot be read as the record of stills ({error!r}).") from error
    else:
        ratio, original, rotation, resampled = None, dict[str, str](), 0, False
    first = _frame(folder, rows[0], 0)
    info = VideoInfo(
        sha256=sha256_file(folder / TABLE), size_bytes=(folder / TABLE).stat().st_size, container="folder of stills",
        codec="", codec_name="stills", profile=None, stream=first.stream, video_streams=1,
        width=first.planes[0].shape[1], height=first.planes[0].shape[0],
        sample_aspect_ratio=Fraction(1) if resampled else None if ratio is None else Fraction(ratio),
        pixel_format=first.pixel_format, colour_range=first.colour_range, matrix=first.matrix, rotation=rotation,
        time_base=first.time_base, average_rate=None, base_rate=None, start_pts=first.pts, duration_ticks=None,
        declared_frames=len(rows), field_order=None, metadata=original, decoder={},
    )  # fmt: skip
    frames = (first if place == 0 else _frame(folder, one, place) for place, one in enumerate(rows))
    return Video(info, with_repeats(frames), [], {})


def files_of(video: Path) -> list[Path]:
    """The files that a video is read from: itself, or of a folder of stills the table and all that it lists."""
    if not video.is_dir():
        return [video]
    return [video / TABLE, *(video / one["file"] for one in _table(video) if one.get("file"))]


def still_frames(folder: Path) -> dict[str, Frame]:
    """What the table of a folder says of the coding of its stills, by the SHA-256 of their files; no planes.

    Raises VideoError where the table cannot be read.
    """
    try:
        return {
            one["file_sha256"]: Frame(
                planes=(),
                index=place,
                codec=one.get("codec", ""),
                picture_type=one.get("picture_type", ""),
                qp=_quantiser(one),
            )
            for place, one in enumerate(_table(folder))
            if one.get("file_sha256")
        }
    except ValueError as error:
        raise VideoError(f"{folder / TABLE}: {error}; quantisers are numbers.") from error


def _quantiser(one: Mapping[str, str]) -> NDArray[np.int16] | None:
    """The mean of a frame's, of a row of the table, as the one of all its blocks."""
    return np.array([[round(float(one["qp_mean"]))]], np.int16) if one.get("qp_mean") else None


def _table(folder: Path) -> list[dict[str, str]]:
    path = folder / TABLE
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except FileNotFoundError as error:
        raise VideoError(f"{folder}: is a folder without {TABLE}, which names each still and its time.") from error
    except OSError as error:
        raise VideoError(f"{path}: {why_unreadable(path, error)}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise VideoError(f"{path}: cannot be read as a table ({error}).") from error
    if not rows or "file" not in rows[0]:
        raise VideoError(f"{path}: {'has no column file' if rows else 'names no frames'}.")
    return rows


def _frame(folder: Path, one: Mapping[str, str], place: int) -> Frame:
    """The frame of a row of the table. Raises VideoError."""
    at = f"{folder / TABLE}: line {place + 2}"
    name = PurePosixPath(one["file"])
    if not one["file"] or name.is_absolute() or ".." in name.parts:
        raise VideoError(f"{at}: names no file in its folder ({one['file']!r}).")
    path = folder / name
    try:
        data = read_image_bytes(path)
        if one.get("file_sha256") and one["file_sha256"] != sha256_bytes(data):
            raise VideoError(f"{path}: is not the still that {TABLE} lists (its hash is another).")
        picture = decode_picture(data, str(path))
    except VideoError:
        raise
    except ImageError as error:
        raise VideoError(str(error)) from error

    def number(column: str) -> int | None:
        return int(one[column]) if one.get(column) else None

    try:
        samples = to_samples(picture)[:, :, : len(picture.pixels)]
        depth = number("bits") or picture.bits
        gray = samples.shape[2] == 1
        bits = depth if gray and picture.bits == 16 else picture.bits
        planes = tuple(
            np.ascontiguousarray(samples[:, :, c] >> picture.bits - bits) for c in ((0,) if gray else (1, 2, 0))
        )
        pts = number("pts")
        base = one.get("time_base")
        field = one.get("field") or None
        index = number("index")
        return Frame(
            planes=planes, index=place if index is None else index, stream=number("stream") or 0, pts=pts,
            time_base=Fraction(base) if base and pts is not None else None, duration=number("duration"),
            picture_type=one.get("picture_type", ""), key=bool(number("key")), interlaced=bool(number("interlaced")),
            top_field_first=None if (first := number("top_field_first")) is None else bool(first),
            corrupt=bool(number("corrupt")), after_damage=bool(number("after_damage")), bits=bits,
            pixel_format=("gray" if gray else "gbrp") + "16le" * (bits > 8),
            colour_range=one.get("levels") or "full", matrix=one.get("rgb_by") or None, sha256=planes_sha256(planes),
            field="top" if field == "top" else "bottom" if field == "bottom" else None,
            codec=one.get("codec", ""), qp=_quantiser(one),
        )  # fmt: skip
    except (ValueError, ZeroDivisionError) as error:
        raise VideoError(f"{at}: {error}; times are integers, a time base is a fraction such as 1/90000.") from error


def _still(frame: Frame, pixels: Pixels) -> tuple[Samples, dict[str, str]]:
    """`H W C` of a still: luma as stored (in the upper bits where it has more than 8), or RGB; what the table says."""
    wide = frame.bits > 8
    if pixels == "luma" and frame.is_rgb:
        raise VideoError("it stores red, green and blue, and no luma: --pixels auto or rgb.")
    if pixels == "luma" or (pixels == "auto" and frame.is_gray):
        stored = frame.planes[0][:, :, None]
        levels = frame.assumed_range
        samples = stored.astype(np.uint16) * np.uint16(1 << (16 - frame.bits)) if wide else stored
        return samples, {"levels": levels, "rgb_by": ""}
    top = 65535 if wide else 255
    if frame.is_rgb and frame.bits in (8, 16) and frame.assumed_range == "full":
        samples = np.stack([frame.planes[2], frame.planes[0], frame.planes[1]], 2)
    else:
        levels_HWC = rgb(frame).mul(top).round().clamp(0, top).permute(1, 2, 0).numpy()
        samples = levels_HWC.astype(np.uint16 if wide else np.uint8)
    return samples, {"levels": "full", "rgb_by": "rgb" if frame.is_rgb else frame.assumed_matrix}


def _resampled(samples: Samples, size: tuple[int, int]) -> Samples:
    top = 255 if samples.dtype == np.uint8 else 65535
    x_CHW = torch.from_numpy(samples.transpose(2, 0, 1).astype(np.float32))
    levels = resize(x_CHW, size).round().clamp(0, top).permute(1, 2, 0).numpy()
    return levels.astype(np.uint8) if samples.dtype == np.uint8 else levels.astype(np.uint16)


def _stem(frame: Frame) -> str:
    field = ""
    if frame.field is not None:
        later = (frame.field == "bottom") != (frame.top_field_first is False)
        field = f"{'b' if later else 'a'}-{frame.field}"
    return f"{frame.index:06}{field}_pts{'-unknown' if frame.pts is None else frame.pts}"


def _texts(frame: Frame, info: VideoInfo) -> dict[str, str]:
    time = "not known" if frame.pts is None else f"PTS {frame.pts} x {frame.time_base or 'unknown'} s"
    lossless = frame.footage is False
    coding = coding_text(frame.codec, frame.pixel_format, frame.assumed_range, lossless=lossless) if frame.codec else {}
    return {
        "zssr-gan:frame": f"{frame.name}, stream {frame.stream}, {time}",
        "zssr-gan:original": f"SHA-256 {info.sha256}",
        **coding,
    }


def _record(
    video: Video, source: Path, stills: int, resampled: list[tuple[int, int, int, int]], display: Display
) -> str:
    content = {
        "zssr_gan": VERSION,
        "file": source.name,
        "info": asdict(video.info),
        "stills": stills,
        "colours": "U and V interpolated linearly from where they lie, then the matrix of rgb_by; luma as stored",
        "resampled": [
            {"from": [width, height], "to": [new_width, new_height], "by": "antialiased bicubic (Keys, a = -0.5)"}
            for width, height, new_width, new_height in resampled
        ],
        "aspect": "as stored"
        if display is None
        else "sample aspect ratio of the file"
        if display == "auto"
        else "asked for",
        "notices": video.notices,
    }
    return json.dumps(content, indent=1, default=str) + "\n"
