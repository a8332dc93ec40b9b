"""The frames of a video as a table, a line each, and as a summary."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from zssr_gan.video.frames import Frame

COLUMNS = (
    "index", "field", "line_offset", "stream", "pts", "time_base", "duration", "picture_type", "key", "interlaced",
    "top_field_first", "corrupt", "after_damage", "same_as", "width", "height", "pixel_format", "bits", "codec",
    "colour_range", "matrix", "qp_mean", "qp_min", "qp_max", "sha256",
)  # fmt: skip


def row(frame: Frame) -> dict[str, str]:
    """What a table says of a frame: integers and fractions; 1 and 0 for yes and no; nothing where it is not known."""

    def text(value: object) -> str:
        return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)

    height, width = frame.planes[0].shape
    found: dict[str, object] = {name: getattr(frame, name, None) for name in COLUMNS}
    found |= {"width": width, "height": height}
    if frame.qp is not None:
        found |= {"qp_mean": f"{frame.qp.mean():.2f}", "qp_min": frame.qp.min(), "qp_max": frame.qp.max()}
    return {name: text(value) for name, value in found.items()}


def csv_lines(rows: Iterable[Mapping[str, str]], columns: Iterable[str] = COLUMNS) -> Iterator[bytes]:
    """The lines of a CSV file (RFC 4180), the head first, as the rows come."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns))
    writer.writeheader()
    for one in rows:
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(one)
    yield buffer.getvalue().encode()


@dataclass(slots=True)
class Summary:
    """What is counted of the frames of a video. `corrupt` and the like: runs of indices, [first, last] each."""

    frames: int = 0
    picture_types: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    key_frames: int = 0
    interlaced: dict[str, int] = field(default_factory=dict)
    corrupt: list[list[int]] = field(default_factory=list)
    after_damage: list[list[int]] = field(default_factory=list)
    repeated: list[list[int]] = field(default_factory=list)
    first_pts: int | None = None
    last_pts: int | None = None

    @property
    def unsound(self) -> list[tuple[str, list[list[int]]]]:
        """Frames that carry nothing new, or are not to be relied on, where there are any: what they do, and runs."""
        found = [
            ("repeat the one before", self.repeated),
            ("are corrupt", self.corrupt),
            ("may be predicted from damaged ones", self.after_damage),
        ]
        return [(name, runs) for name, runs in found if runs]

    def add(self, frame: Frame) -> None:
        """Count a frame; they come in order."""
        order = {True: "top field first", False: "bottom field first", None: "order not known"}
        counted = [
            (self.picture_types, frame.picture_type or "not known"),
            (self.sizes, f"{frame.planes[0].shape[1]}x{frame.planes[0].shape[0]}"),
        ]
        if frame.interlaced:
            counted.append((self.interlaced, order[frame.top_field_first]))
        for counts, name in counted:
            counts[name] = counts.get(name, 0) + 1
        self.frames += 1
        self.key_frames += frame.key
        for runs, here in (
            (self.corrupt, frame.corrupt),
            (self.after_damage, frame.after_damage),
            (self.repeated, frame.same_as is not None),
        ):
            if here and runs and runs[-1][1] == frame.index - 1:
                runs[-1][1] = frame.index
            elif here:
                runs.append([frame.index, frame.index])
        if frame.pts is not None:
            self.first_pts = frame.pts if self.first_pts is None else self.first_pts
            self.last_pts = frame.pts
