"""A sheet of the frames of a track: the region drawn into what lies around it, with its error."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from zssr_gan.imaging import preview
from zssr_gan.imaging.colour import to_levels
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet
from zssr_gan.video.tracks import Track, TrackFrame

_MOST = 400  # cells; of longer tracks every second frame is shown, or every fourth, ...
_CELL = 160  # pixels
_SHOWN = 480  # of the preview of a frame
_AROUND = 2.0  # times the region's sides that a cell shows
_FOUND, _NOT_USED = (60, 220, 60), (255, 70, 50)


class TrackSheet:
    """Cells of a sheet, gathered while a region is followed (`follow`'s `on_frame`), so that no frame has to stay."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, bool], tuple[str, NDArray[np.uint8]]] = {}
        self._every, self._given = 1, 0

    def add(self, frame: TrackFrame, image: Tensor) -> None:
        """Draw a frame, luma `H W`."""
        preview.show(lambda: torch.from_numpy(_drawn(frame, image, _SHOWN)).permute(2, 0, 1).float().div_(255))
        self._given += 1
        if (self._given - 1) % self._every == 0:
            self._cells[frame.index, frame.field == "bottom"] = _caption(frame), _drawn(frame, image)
        if len(self._cells) > _MOST:
            self._cells = dict(list(self._cells.items())[::2])
            self._every *= 2

    def encode(self, track: Track) -> bytes:
        """The PNG file."""
        cells = [
            (caption, torch.from_numpy(levels).permute(2, 0, 1).float().div_(255))
            for _, (caption, levels) in sorted(self._cells.items())
        ]
        columns = max(4, math.ceil(1.2 * len(cells) ** 0.5))
        shown = "" if self._every == 1 else f", of which one in {self._every} is shown"
        title = (
            f"{track.file}: region {','.join(map(str, track.region))} of frame {track.reference}, "
            f"{len(track.frames)} frames{shown}. First: {track.ended[0]}. Last: {track.ended[1]}."
        )
        rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        return encode_sheet(contact_sheet(rows, title=title, cell=_CELL), "track sheet")


def _caption(frame: TrackFrame) -> str:
    name = f"{frame.index}{'' if frame.field is None else f' {frame.field}'}"
    time = "" if frame.pts is None else f", PTS {frame.pts}"
    what = frame.status
    if what == "tracked":
        what = "marked" if frame.backward_px is None else f"error {frame.error_px:.3f} px"
    return f"{name}{time}: {what}"


def _drawn(frame: TrackFrame, image: Tensor, cell_px: int = _CELL) -> NDArray[np.uint8]:
    """`H W 3`: the surroundings of the region, enlarged to their pixels, with its corners joined."""
    corners = np.array(frame.corners)
    middle, side = (corners.max(0) + corners.min(0)) / 2, _AROUND * float(np.ptp(corners, 0).max())
    left, top = (round(float(at) - side / 2) for at in middle)
    wide = max(2, round(side))
    padded = np.zeros((wide, wide), np.uint8)
    levels = to_levels(image).numpy()
    y0, x0, y1, x1 = max(0, top), max(0, left), min(len(levels), top + wide), min(levels.shape[1], left + wide)
    if y1 > y0 and x1 > x0:
        padded[y0 - top : y1 - top, x0 - left : x1 - left] = levels[y0:y1, x0:x1]
    factor = cell_px / wide
    sampling = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    cell = Image.fromarray(padded).resize((cell_px, cell_px), sampling).convert("RGB")
    points = [(float(x - left) * factor, float(y - top) * factor) for x, y in corners]
    ImageDraw.Draw(cell).line([*points, points[0]], _FOUND if frame.status == "tracked" else _NOT_USED)
    return np.asarray(cell).copy()
