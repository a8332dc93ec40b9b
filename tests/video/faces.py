"""Clips of a face that moves over ground: where it lies is known in each frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import data

from tests.video import clips
from zssr_gan.video.tracks import Corners, homography, moved

REGION = (36, 26, 24, 20)
SIZE = (72, 96)
FACE = np.ascontiguousarray(data.astronaut()[60:180, 170:290, :].mean(2))
GROUND = ndimage.zoom(data.gravel()[:144, :192].astype(float), 0.5)


def scene(corners: Corners, *, gain: float = 1.0, hidden: bool = False) -> np.ndarray:
    """`H W 3`: a face, drawn into corners of the frame over ground; sampled at twice the size, then halved."""
    fine = (2 * SIZE[0], 2 * SIZE[1])
    rows, columns = np.indices(fine)
    places = np.stack([columns.ravel() / 2 + 0.25, rows.ravel() / 2 + 0.25], 1)
    face = ((0.0, 0.0), (120.0, 0.0), (120.0, 120.0), (0.0, 120.0))
    x, y = moved(homography(corners, face), [tuple(place) for place in places]).T
    inside = ((x >= 0) & (y >= 0) & (x <= 120) & (y <= 120)).reshape(fine)
    blurred = ndimage.gaussian_filter(FACE, 1.5)
    drawn = ndimage.map_coordinates(blurred, [y - 0.5, x - 0.5], order=1, mode="nearest").reshape(fine)
    picture = np.where(inside, gain * drawn, ndimage.zoom(GROUND, 2, order=0))
    small = picture.reshape(SIZE[0], 2, SIZE[1], 2).mean((1, 3))
    if hidden:
        small[20:60, 25:75] = 90
    return small.round().clip(0, 255).astype(np.uint8)[:, :, None].repeat(3, 2)


def shifted(corners: Corners, x: float, y: float) -> Corners:
    a, b, c, d = ((px + x, py + y) for px, py in corners)
    return a, b, c, d


def write(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    return clips.write(path, "ffv1", pictures=pictures, pixel_format="gray")
