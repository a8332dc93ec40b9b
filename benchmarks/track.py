"""Bursts of one face, rendered with a known motion, and what fusing them gains over one frame.

    python -m benchmarks.track DATA/faces --sets A,C,D --frames 9 --count 24 --seeds 0
    python -m benchmarks.track DATA/faces --sets A,C,D --frames 9 --count 24 --shared

`--mean` also pulls the fused images to a mean that is learnt on those of the set (`zssr_gan.video.learnt`).
`--found` also fuses with the camera that the frames themselves tell, as `zssr-gan fuse` does.
`--shared` also learns one network (`fast`) on all frames of all tracks of a set, with the camera known, and enlarges
the reference frames by it: the best single-frame result.

A frame is rendered from the 128 px original: warp (quintic spline), halve, blur, halve, noise, 8 bits, JPEG; the truth
is the original halved (64 px). Sets: A shift, noise of 2 levels | C turn to 3 degrees, size to 4 %, light to 8 %, noise
2, JPEG 75 | D as C, with the mouth moved by up to 1.5 HR pixels and an occluder in a fifth of the frames | B as A
without blur | E as A with noise 5 | G, H as A and C without JPEG at x4, 16 px frames | Q as B, each pixel the average
over its square. Shifts are even in +-2.5 HR pixels. The camera is known to every method, the motion to none. PSNR and
SSIM on Y (16 to 235), 4 pixels of border cropped; intervals of 95 % over faces. Every 17th face (by name) is left out:
the constants were chosen on those.
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from benchmarks.protocol import Score, parsed, picture, score, show_row, some_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.devices import RunOptions, machine
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.colour import LEVELS, from_levels, luma_of, to_levels
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.enhance import enhance_picture
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.inference.request import Request
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.video.blind import burst_camera, square_pixels
from zssr_gan.video.fusion import Fused, fuse_burst
from zssr_gan.video.learnt import FusedTrack, learn_mean, pulled
from zssr_gan.video.registration import Motion
from zssr_gan.zeroshot.case import learn_case, read_lr

_FARTHEST, _TURN, _GROWTH, _LIGHT = 2.5, 3.0, 0.04, 0.08
_BORDER = 4


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a set's frames are made."""

    scale: int = 2
    noise: float = 2
    blur: bool = True
    affine: bool = False
    jpeg: int | None = None
    deformed: bool = False
    square: bool = False

    @property
    def degradation(self) -> Degradation:
        """The camera, as it is given to the methods."""
        blur: GaussianBlur | KernelBlur | None = None
        if self.square:
            blur = square_pixels(self.scale)
        elif self.blur:
            blur = GaussianBlur(sigma_major=1.1 / self.scale, sigma_minor=0.8 / self.scale, angle_degrees=30)
        return Degradation(
            blur=blur,
            noise=Noise(sigma=self.noise / LEVELS),
            jpeg=None if self.jpeg is None else Jpeg.of_quality(self.jpeg),
        )


SETS = {
    "A": Conditions(),
    "B": Conditions(blur=False),
    "C": Conditions(affine=True, jpeg=75),
    "D": Conditions(affine=True, jpeg=75, deformed=True),
    "E": Conditions(noise=5),
    "G": Conditions(scale=4),
    "H": Conditions(scale=4, affine=True),
    "Q": Conditions(square=True),
}


@dataclass(frozen=True, slots=True)
class Burst:
    """Frames `F h w`, the first is the reference; the truth `1 H W`; and how the frames came about."""

    frames: Tensor
    truth: Tensor
    motion: Motion
    conditions: Conditions


def drawn_motion(conditions: Conditions, count: int, rng: np.random.Generator) -> Motion:
    """Of frames 0, the reference, to count - 1."""
    away = np.arange(count)[:, None] > 0
    shift = rng.uniform(-_FARTHEST, _FARTHEST, (count, 2)) * away / conditions.scale
    turn, growth, gain, bias = (rng.uniform(-1, 1, count) * away[:, 0] for _ in range(4))
    if not conditions.affine:
        turn, growth, gain, bias = (np.zeros(count) for _ in range(4))
    angle, size = np.radians(_TURN) * turn, 1 + _GROWTH * growth
    matrix = size[:, None, None] * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    ).transpose(2, 0, 1)
    return Motion(*(torch.from_numpy(x) for x in (shift, matrix - np.eye(2), 1 + _LIGHT * gain, 0.016 * bias)))


def render(original: Tensor, conditions: Conditions, count: int, seed: int) -> Burst:
    """A burst of `count` frames of `1 128 128` in [0, 1]."""
    rng = np.random.default_rng(seed)
    side = original.shape[-1] // 2
    lr, fine = side // conditions.scale, 2 * conditions.scale  # pixels of the original per pixel of a frame
    motion = drawn_motion(conditions, count, rng)
    shift, matrix, gain, bias = (x.numpy() for x in (motion.shift, motion.linear, motion.gain, motion.bias))
    matrix = matrix + np.eye(2)
    mouths, hidden, places = rng.uniform(-1.5, 1.5, count), rng.random(count), rng.random((count, 2))
    mouths[0] = 0
    pixels = original[0].double().numpy()
    grid = np.indices(pixels.shape).astype(float)
    camera = DegradedDownscale(conditions.degradation.model_copy(update={"noise": None, "jpeg": None}))
    frames = []
    for f in range(count):
        middle = (len(pixels) - 1) / 2
        place = middle + np.tensordot(matrix[f], grid - middle, 1) + fine * shift[f][:, None, None]
        if conditions.deformed:
            y, x = (place - np.array([0.72, 0.5])[:, None, None] * len(pixels)) / (0.14 * len(pixels))
            place[0] -= 2 * mouths[f] * np.exp(-(y**2 + (x / 1.5) ** 2) / 2)
        image = torch.from_numpy(ndimage.map_coordinates(pixels, place, order=5, mode="mirror"))[None, None]
        if conditions.deformed and f > 0 and hidden[f] < 0.2:
            top, left = (places[f] * len(pixels) * 0.6).astype(int)
            image[..., top : top + int(0.4 * len(pixels)), left : left + int(0.4 * len(pixels))] = 0.35
        small = camera(resize(image.clamp(0, 1), (side, side)), (lr, lr))[0, 0].numpy()
        noisy = gain[f] * small + bias[f] + conditions.noise / LEVELS * rng.standard_normal(small.shape)
        levels = to_levels(torch.from_numpy(noisy))
        if conditions.jpeg is not None:
            file = io.BytesIO()
            Image.fromarray(levels.numpy()).save(file, "JPEG", quality=conditions.jpeg)
            levels = torch.from_numpy(np.array(Image.open(file)))
        frames.append(from_levels(levels))
    truth = resize(original, (side, side)).clamp(0, 1).float()
    return Burst(torch.stack(frames), truth, motion, conditions)


def faces(folder: Path, count: int, *, development: bool = False) -> list[Tensor]:
    """So many faces `1 128 128` (luma), half of them london's; 0 takes all. `development`: of every 17th."""
    found = []
    for names in ("london_*.png", "utk_*.png"):
        files = [file for place, file in enumerate(sorted(folder.glob(names))) if (place % 17 == 0) == development]
        found += some_of(files, count // 2)
    return [luma_of(read_picture(file).pixels)[None] for file in found]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one burst; PSNR in dB and SSIM of each method."""

    scores: dict[str, Score]
    away: Tensor
    """Distance from the true motion of each frame but the reference, HR pixels."""
    seconds: float
    """CPU time of registration and fusion."""
    fused: Fused


def measured(burst: Burst, *, found: bool = False) -> Figures:
    """Bicubic, the restored reference frame, and the fused image, also with the camera that the frames tell."""
    frames, scale, camera = burst.frames[:, None], burst.conditions.scale, burst.conditions.degradation
    began = time.process_time()
    fused = fuse_burst(frames, camera, scale, affine=burst.conditions.affine)
    seconds = time.process_time() - began
    images = {
        "bicubic": resize(frames[0], (burst.truth.shape[1], burst.truth.shape[2])),
        "one frame": fuse_burst(frames[:1], camera, scale).image,
        "fused": fused.image,
    }
    if found:
        told = burst_camera(frames, 0, camera.jpeg, scale, affine=burst.conditions.affine)
        known = Degradation() if told is None else told.degradation
        images["fused, camera found"] = fuse_burst(frames, known, scale, affine=burst.conditions.affine).image
    away = scale * fused.motion.distance(burst.motion, (frames.shape[2], frames.shape[3]))[1:]
    return Figures({name: scored(image, burst.truth) for name, image in images.items()}, away, seconds, fused)


def scored(image: Tensor, truth: Tensor) -> Score:
    """PSNR and SSIM on Y of an image in [0, 1], rounded to 8 bits, against its truth."""
    return score(rounded(image.clamp(0, 1)), rounded(truth), _BORDER)


def learnt(frames: list[Tensor], degradation: Degradation, scale: int, seed: int) -> Request:
    """Enlarging by one network (`fast`) that is learnt on frames `1 h w`."""
    settings, options = load_preset("fast").for_case(), RunOptions("cpu", "auto", 1)
    facts = DegradationFacts.of(degradation, "given", "the camera of the set")
    factors = (float(scale), float(scale))
    with machine(options) as used:
        images = [read_lr(CaseImage(name=str(place), sha256=""), one, None) for place, one in enumerate(frames)]
        shared = learn_case(
            images, seed=seed, degradations=degradation.downscale, settings=settings, scale=factors, machine=used
        ).shared
    return Request(settings, factors, seed=seed, shared=shared, options=options, degradation=facts)


def shared_results(bursts: list[Burst], seed: int) -> list[Score]:
    """The reference frames enlarged by a network learnt on all frames."""
    conditions = bursts[0].conditions
    pixels = [frame[None] for burst in bursts for frame in burst.frames]
    request = learnt(pixels, conditions.degradation, conditions.scale, seed)
    return [scored(enhance_picture(picture(burst.frames[:1]), request).picture.pixels, burst.truth) for burst in bursts]


def show_gains(results: list[dict[str, Score]]) -> None:
    """A table of methods: means over the bursts, and by how much `fused` is better."""
    print("| method | PSNR-Y | SSIM-Y | fused is better by | worst | better |\n| --- |" + " ---: |" * 5)
    fused = np.array([scores["fused"].psnr for scores in results])
    for method in results[0]:
        psnr = np.array([scores[method].psnr for scores in results])
        ssim = float(np.mean([scores[method].ssim for scores in results]))
        gain = fused - psnr
        half = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        better = f"{int((gain > 0).sum())} of {len(gain)}"
        gains = ("", "", "") if method == "fused" else (f"{gain.mean():+.2f} +- {half:.2f}", float(gain.min()), better)
        show_row(method, float(psnr.mean()), f"{ssim:.4f}", *gains)


def with_mean(bursts: list[Burst], fused: list[Fused], seed: int) -> list[Score]:
    """The fused images pulled to a mean learnt on all of them."""
    conditions = bursts[0].conditions
    camera, scale = conditions.degradation, conditions.scale
    tracks = [FusedTrack((CaseImage(name=str(n), sha256=str(n)),), one) for n, one in enumerate(fused)]
    with machine(RunOptions("cpu", threads=1)) as used:
        model = learn_mean(tracks, camera, scale, seed=seed, machine=used)
    return [
        scored(pulled(burst.frames[:, None], camera, one, model, scale).image, burst.truth)
        for burst, one in zip(bursts, fused, strict=True)
    ]


def main() -> None:
    """Render bursts, fuse them, and print a table for each set."""
    args = parsed(__doc__, "faces", sets="A,C,D", frames=9, count=24, seeds="0", shared=False, mean=False, found=False)
    torch.set_num_threads(1)
    originals = faces(args.faces, args.count)
    for name in args.sets.split(","):
        for seed in map(int, args.seeds.split(",")):
            bursts = [render(one, SETS[name], args.frames, 1000 * seed + f) for f, one in enumerate(originals)]
            results = [measured(burst, found=args.found) for burst in bursts]
            if args.shared:
                for result, one in zip(results, shared_results(bursts, seed), strict=True):
                    result.scores["shared model"] = one
            if args.mean:
                for result, one in zip(results, with_mean(bursts, [r.fused for r in results], seed), strict=True):
                    result.scores["fused, shared mean"] = one
            away = torch.cat([result.away for result in results])
            print(
                f"\n{name}, {args.frames} frames, {len(bursts)} faces, seed {seed}: motion off by {away.mean():.4f} HR "
                f"pixels in the mean, {away.quantile(0.95):.4f} at 95 %, {away.max():.2f} at most; "
                f"{np.median([result.seconds for result in results]):.2f} CPU s a burst\n"
            )
            show_gains([result.scores for result in results])


if __name__ == "__main__":
    main()
