"""Synthetic plates in a video: what a fixed template matcher reads of one frame, and of 16 frames that are fused.

    python -m benchmarks.plates --count 6

Seven characters (no I, O, Q) in frames of 144x72 px over bricks, seen obliquely, the perspective changing as the plate
comes nearer by 8 % and moves by 1.3 px a frame; blur 0.55 px, noise of 5 levels; written by PyAV without loss (FFV1) or
by libx264 at crf 28. The four corners are given in one frame (the ninth), as an analyst would mark them (off by up to
0.3 px), and followed; the camera's blur and noise are known (of H.264 the noise alone cannot tell what is lost). The
matcher turns a result (x2) into a straight plate by these corners, and takes for each character's cell the template of
the largest normalised correlation within a pixel of its place. It knows the font, the cells and nothing else.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage import data
from torch import Tensor

from benchmarks.protocol import parsed, show_row
from benchmarks.track_video import drawn, write
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import font
from zssr_gan.video.crops import TrackCrops, TrackSource, read_crops
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.holdout import judge_fusion
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import Corners, homography

LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
_COUNT, _FRAMES, _MARKED, _SCALE = 7, 16, 8, 2
_CELL = (96, 84)  # rows (a character's height) and columns of a cell as it is drawn
_MARGIN = (24, 32)  # around the characters
_NOISE = 5.0
_SIZE = (72, 144)


def plate(text: str) -> NDArray[np.float64]:
    """A plate as it is drawn, 8-bit levels."""
    image = Image.new("L", (_CELL[1] * len(text) + 2 * _MARGIN[1], _CELL[0] + 2 * _MARGIN[0]), 205)
    draw = ImageDraw.Draw(image)
    for place, letter in enumerate(text):
        x = _MARGIN[1] + _CELL[1] * (place + 0.5)
        draw.text((x, _MARGIN[0] + _CELL[0]), letter, 45, font(132), "ms")
    return np.asarray(image, np.float64)


def corners_of(height: float, count: int, rng: np.random.Generator) -> list[Corners]:
    """Corners of a plate in each frame; `height`: of its characters, in pixels, about."""
    high, wide = (height / _CELL[0] * (_CELL[a] * (1, _COUNT)[a] + 2 * _MARGIN[a]) for a in (0, 1))
    slant, drift = rng.uniform(-0.12, 0.12, 2), rng.uniform(-1, 1, 2)
    found = []
    for n in range(count):
        t = (n - _MARKED) / count
        size = 1 + 0.08 * t
        far = 0.18 + 0.12 * t  # of its height, that the right side is lower
        middle = np.array([72 + 1.3 * (n - _MARKED) * 0.5 + drift[0], 36 + 0.6 * t * 8 + drift[1]])
        points = np.array([[-1, -1], [1, -1 + far], [1, 1 - far], [-1, 1]]) * [0.9 * wide / 2, high / 2] * size
        points[:, 1] += slant[0] * points[:, 0] * (1 + t)
        found.append(tuple((float(x), float(y)) for x, y in points + middle))
    return found  # type: ignore[return-value]


def straightened(image: Tensor, corners: Corners, box: tuple[int, int, int, int], height: int) -> NDArray[np.float64]:
    """A result `1 sH sW` of a box of a frame as a plate, 8-bit levels; `height`: of its characters, in pixels."""
    rows, columns = (round(height / _CELL[0] * (_CELL[a] * (1, _COUNT)[a] + 2 * _MARGIN[a])) for a in (0, 1))
    edges = ((0.0, 0.0), (float(columns), 0.0), (float(columns), float(rows)), (0.0, float(rows)))
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    there = homography(edges, corners) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    u, v = (_SCALE * (there[a] / there[2] - box[a]) - 0.5 for a in (0, 1))
    pixels = image[0].double().numpy() * LEVELS
    found: NDArray[np.float64] = ndimage.map_coordinates(pixels, [v, u], order=3, mode="nearest").reshape(rows, columns)
    return found


def read(straight: NDArray[np.float64], height: int) -> str:
    """The characters of a straight plate."""
    factor, text = height / _CELL[0], ""
    shape, top = (height + 2, round(_CELL[1] * factor)), round(_MARGIN[0] * factor) - 1
    for place in range(_COUNT):
        best = (-2.0, "")
        for down in (-1, 0, 1):
            for along in (-1, 0, 1):
                left = round((_MARGIN[1] + place * _CELL[1]) * factor) + along
                cell = straight[max(0, top + down) :, max(0, left) :][: shape[0], : shape[1]]
                for letter, template in _templates(height).items():
                    if cell.shape == template.shape:
                        best = max(best, (float(np.corrcoef(cell.ravel(), template.ravel())[0, 1]), letter))
        text += best[1]
    return text


@cache
def _templates(height: int) -> dict[str, NDArray[np.float64]]:
    """A cell with each character."""
    factor, found = height / _CELL[0], {}
    top, left = round(_MARGIN[0] * factor) - 1, round(_MARGIN[1] * factor)
    for letter in LETTERS:
        drawn_large = torch.from_numpy(plate(letter))[None].float()
        small = resize(drawn_large, (round(drawn_large.shape[1] * factor), round(drawn_large.shape[2] * factor)))
        found[letter] = small[0, top : top + height + 2, left : left + round(_CELL[1] * factor)].double().numpy()
    return found


def followed(text: str, height: float, codec: str, seed: int) -> tuple[TrackCrops, Corners]:
    """The crops of a plate that was followed, and the corners that were marked."""
    rng = np.random.default_rng(seed)
    ground = data.brick()[: _SIZE[0] * 2 : 2, : _SIZE[1] * 2 : 2].astype(float)
    truth = corners_of(height, _FRAMES, rng)
    frames = [drawn(plate(text), one, ground, _SIZE) + rng.normal(0, _NOISE, _SIZE) for one in truth]
    marked = np.array(truth[_MARKED]) + rng.uniform(-0.3, 0.3, (4, 2))
    corners: Corners = tuple((float(x), float(y)) for x, y in marked)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mkv"
        write(clip, frames, codec)
        track = follow(clip, Mark.of(None, _MARKED, corners))
        return read_crops(TrackSource(clip, track, None, _FRAMES)), corners


def main() -> None:
    """Draw, write, follow, fuse and read; print a table and the wrong readings."""
    args = parsed(__doc__, count=6, heights="12,8,6", codecs="FFV1;H.264, crf 28")
    torch.set_num_threads(1)
    camera = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.55), noise=Noise(sigma=_NOISE / LEVELS))
    print(
        "| height, codec | frames | bicubic | one frame restored | fused | fused by the gate |\n| --- |" + " ---: |" * 5
    )
    wrong: list[str] = []
    for codec in args.codecs.split(";"):
        for height in map(int, args.heights.split(",")):
            right, used, gate = {"bicubic": 0, "one frame": 0, "fused": 0}, [], 0
            for n in range(args.count):
                rng = np.random.default_rng(100 * height + n)
                text = "".join(rng.choice(list(LETTERS), _COUNT))
                crops, corners = followed(text, height, codec, 100 * height + n)
                pixels = torch.stack([crop.picture.pixels for crop in crops.crops])
                fused = fuse_burst(pixels, camera, _SCALE, crops.reference, start=crops.start, mask=crops.mask)
                gate += judge_fusion(pixels, camera, fused, _SCALE).fuse
                one = pixels[[crops.reference]]
                used.append(sum(fact.rejected is None for fact in fused.frames))
                images = {
                    "bicubic": resize(one[0], (fused.image.shape[1], fused.image.shape[2])),
                    "one frame": fuse_burst(one, camera, _SCALE).image,
                    "fused": fused.image,
                }
                box = crops.crops[crops.reference].box
                said = {
                    name: read(straightened(image, corners, box, _SCALE * height), _SCALE * height)
                    for name, image in images.items()
                }
                for name, reading in said.items():
                    right[name] += sum(a == b for a, b in zip(reading, text, strict=True))
                if any(reading != text for reading in said.values()):
                    readings = ", ".join(f"{reading} ({name})" for name, reading in said.items())
                    wrong.append(f"{height} px, {codec}: {text} read as {readings}")
            total = args.count * _COUNT
            shares = [f"{one} of {total}" for one in right.values()]
            show_row(f"{height} px, {codec}", float(np.mean(used)), *shares, f"{gate} of {args.count}")
    print("\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
