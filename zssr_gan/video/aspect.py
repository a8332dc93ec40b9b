"""The shape in which a frame is to be shown: analogue cameras' pixels are not square.

Sources: ITU-R BT.601 (704 active samples a row); D. Spreadborough and others on 960H, as in docs/video.md.
"""

from fractions import Fraction
from typing import Literal

from zssr_gan.errors import VideoError
from zssr_gan.video.frames import Frame

Display = tuple[int, int] | Literal["auto"] | None
"""(width, height) of the stills, "auto" by the file's sample aspect ratio, None as stored."""

READINGS = {
    (704, 480): ((640, 480),), (704, 576): ((768, 576),), (352, 240): ((320, 240),), (352, 288): ((384, 288),),
    (704, 240): ((640, 480),), (704, 288): ((768, 576),), (960, 480): ((854, 480), (640, 480)),
}  # fmt: skip
"""The usual sizes in which stored ones are shown: of 240 and 288 rows at full width, which are fields, with all rows;
of 960x480, by a 16:9 camera and by a 4:3 camera."""


def display_size(frame: Frame, ratio: Fraction | None, display: Display) -> tuple[int, int] | None:
    """Rows and columns in which a frame is shown: its height, and its width by the ratio; None: as stored.

    A single field gets the rows of its frame. Raises VideoError where the ratio is not known, naming usual readings.
    """
    if display is None:
        return None
    rows, columns = frame.planes[0].shape
    if display != "auto":
        return display[1], display[0]
    if ratio is None:
        usual = " or ".join(f"--aspect {width}x{height}" for width, height in READINGS.get((columns, rows), ()))
        hint = f"usual for {columns}x{rows}: {usual}" if usual else "say it, as in --aspect 640x480"
        raise VideoError(f"its sample aspect ratio is not known; {hint}.")
    return rows * (2 if frame.field else 1), max(1, round(columns * ratio))
