"""A face followed through a video: how far the track is off, whether it drifts, and whether it stops when hidden.

    python -m benchmarks.track_video DATA/faces --count 6 --frames 101

Each face (32 px, luma) moves over a picture of scikit-image in frames of 160x120 px: along a curve of +-20 by +-12 px,
turned to 3 degrees, sized to 4 %, lit to 8 %, blurred (0.55 px), noise of 2 levels. It is written by PyAV, without loss
(FFV1) and by libx264 at crf 23 and 28 (default preset, B frames), and followed from the first frame. "Off" is the
distance of the corners from where they were drawn, HR pixels at x2. Then 9 frames around the middle are fused (x2, the
camera known) and their motion, refined, is compared with the truth over the pixels of the region. `--hidden` covers the
face in frames 40 to 43, and from frame 70 on.
"""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data

from benchmarks.protocol import parsed, show_row
from benchmarks.track import faces
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.video.crops import TrackSource, read_crops
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import Corners, crop_map, homography, motion_of, moved

Picture = NDArray[np.float64]
"""`H W`, 8-bit levels."""

SCALE = 2
_SIZE = (120, 160)
_FACE = 32
_FINE = 4  # samples a pixel of a frame, each way
_NOISE = 2.0
_HIDDEN = (range(40, 44), range(70, 1000))
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "FFV1": ("ffv1", "gray", {}),
    "H.264, crf 23": ("libx264", "yuv420p", {"crf": "23", "x264-params": "log-level=none"}),
    "H.264, crf 28": ("libx264", "yuv420p", {"crf": "28", "x264-params": "log-level=none"}),
}


def drawn(patch: Picture, corners: Corners, ground: Picture, size: tuple[int, int]) -> Picture:
    """A frame with a patch drawn into corners over the ground, sampled finely, blurred and shrunk."""
    fine = (size[0] * _FINE, size[1] * _FINE)
    columns, rows = np.meshgrid((np.arange(fine[1]) + 0.5) / _FINE, (np.arange(fine[0]) + 0.5) / _FINE)
    high, wide = patch.shape
    edges = ((0.0, 0.0), (float(wide), 0.0), (float(wide), float(high)), (0.0, float(high)))
    there = homography(corners, edges) @ np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size)])
    x, y = there[:2] / there[2]
    inside = ((x >= 0) & (y >= 0) & (x <= wide) & (y <= high)).reshape(fine)
    values = ndimage.map_coordinates(patch, [y - 0.5, x - 0.5], order=3, mode="nearest").reshape(fine)
    scene = np.where(inside, values, ndimage.zoom(ground, _FINE, order=1)[: fine[0], : fine[1]])
    blurred = ndimage.gaussian_filter(scene, 0.55 * _FINE)
    shrunk: Picture = blurred.reshape(size[0], _FINE, size[1], _FINE).mean((1, 3))
    return shrunk


def write(path: Path, frames: list[Picture], codec: str) -> None:
    """A video of gray pictures, full range where the codec is lossless."""
    name, pixel_format, options = CODECS[codec]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(name, rate=25, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape, pixel_format
        for time, pixels in enumerate(frames):
            levels = pixels.round().clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(levels, "gray").reformat(format=pixel_format)
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def places(count: int, seed: int) -> list[Corners]:
    """Corners of the face in each frame."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.6, 1.4, 4)
    found = []
    for n in range(count):
        a, b, turn, growth = np.sin(phase + speed * n / 12)
        angle, size = np.radians(3 * turn), _FACE / 2 * (1 + 0.04 * growth)
        across = size * np.array([np.cos(angle), np.sin(angle)])
        down = np.array([-across[1], across[0]])
        middle = np.array([80 + 20 * a, 60 + 12 * b])
        points = [middle - across - down, middle + across - down, middle + across + down, middle - across + down]
        found.append(tuple((float(x), float(y)) for x, y in points))
    return found  # type: ignore[return-value]


def main() -> None:
    """Draw, write, follow and fuse; print a table."""
    args = parsed(__doc__, "faces", count=6, frames=101, hidden=False)
    torch.set_num_threads(1)
    grounds = [getattr(data, name)()[:480:4, :640:4].astype(float) for name in ("gravel", "brick", "grass")]
    camera = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.55), noise=Noise(sigma=_NOISE / LEVELS))
    print("| codec | frames followed | off, mean | 95 % | last tenth | standard error | fused: off, mean | 95 % |")
    print("| --- |" + " ---: |" * 7)
    for codec in CODECS:
        off, late, errors, refined, followed = [], [], [], [], []
        for f, face in enumerate(faces(args.faces, args.count)):
            rng = np.random.default_rng(f)
            truth, patch = places(args.frames, f), face[0].double().numpy() * LEVELS
            ground = np.pad(grounds[f % 3], ((0, 120), (0, 160)), mode="reflect")[: _SIZE[0], : _SIZE[1]]
            light = 1 + 0.08 * np.sin(np.arange(args.frames) / 9 + f)
            frames = [g * drawn(patch, one, ground, _SIZE) for g, one in zip(light, truth, strict=True)]
            for n, frame in enumerate(frames):
                if args.hidden and any(n in hidden for hidden in _HIDDEN):
                    frame[20:100, 20:140] = ndimage.gaussian_filter(rng.normal(110, 200, (80, 120)), 3)
            frames = [frame + rng.normal(0, _NOISE, _SIZE) for frame in frames]
            with tempfile.TemporaryDirectory() as folder:
                clip = Path(folder) / "clip.mkv"
                write(clip, frames, codec)
                inner = np.array(truth[0])
                low, high = np.ceil(inner.min(0)).astype(int), np.floor(inner.max(0)).astype(int)
                region = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
                track = follow(clip, Mark.of(region, 0))
                used = [one for one in track.frames if one.status == "tracked"]
                real = {n: homography(truth[0], one) for n, one in enumerate(truth)}
                away = [
                    np.linalg.norm(moved(real[one.index], track.marked.corners) - one.corners, axis=1).mean() * SCALE
                    for one in used
                ]
                followed.append([one.index for one in used])
                off += away[1:]
                late += away[-len(away) // 10 :]
                errors += [SCALE * one.error_px for one in used if one.error_px]
                at = used[len(used) // 2].index
                crops = read_crops(TrackSource(clip, track, at, 9))
                pixels = torch.stack([crop.picture.pixels for crop in crops.crops])
                fused = fuse_burst(pixels, camera, SCALE, crops.reference, start=crops.start)
                maps = [crop_map(real[crop.frame.index], crop.box, track.region) for crop in crops.crops]
                known = motion_of(maps, torch.ones(len(maps), 2, dtype=torch.float64), flat=False)
                size = (region[3], region[2])
                apart = fused.motion.distance(known.relative_to(crops.reference), size)
                refined += [SCALE * float(one) for r, one in enumerate(apart) if r != crops.reference]
        if args.hidden:
            print(f"{codec}: last frame of each: {[one[-1] for one in followed]}; hidden frames used:", end=" ")
            print([[n for n in one if any(n in hidden for hidden in _HIDDEN)] for one in followed])
        cells = [f"{np.mean(off):.3f}", f"{np.quantile(off, 0.95):.3f}", f"{np.mean(late):.3f}"]
        cells += [f"{np.median(errors):.3f}", f"{np.mean(refined):.3f}", f"{np.quantile(refined, 0.95):.3f}"]
        show_row(codec, f"{sum(map(len, followed))} of {len(followed) * args.frames}", *cells)


if __name__ == "__main__":
    main()
