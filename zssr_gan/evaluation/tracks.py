"""Part `tracks`: each truth in several frames, as of a face in a video, fused into one image.

A truth is shifted by up to 2.5 HR pixels each way, turned to 3 degrees, sized to 4 % and lit to 8 % (quintic spline, at
its own resolution), blurred, shrunk, given noise of 2 of 255 levels and compressed to JPEG 75. The first frame shows
the truth in its place. Motion is known to no method.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.errors import SettingsError
from zssr_gan.evaluation.blind import Shot, capture
from zssr_gan.evaluation.cache import Results, hash_of
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.measure import measure, scenes
from zssr_gan.evaluation.methods import Method, interpolate
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.evaluation.part import Part
from zssr_gan.evaluation.run import Images
from zssr_gan.evaluation.tables import compared
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.provenance import label_of
from zssr_gan.seeds import derive_seed
from zssr_gan.video.fuse import BurstFrame, fuse_stills
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.registration import SMALLEST_SIDE

FRAMES = 9

CAMERA = Degradation(
    blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.4, angle_degrees=30),
    noise=Noise(sigma=2 / 255),
    jpeg=Jpeg.of_quality(75),
)

_FARTHEST, _TURN, _GROWTH, _LIGHT, _BIAS = 2.5, 3.0, 0.04, 0.08, 0.016
_BORDER = 4


def tracks(work: Evaluator) -> Part:
    """Bicubic and one frame restored, against frames fused with the camera known and estimated."""
    all_truths, notices = work.truths
    wanted, scale = work.settings.evaluate.truth, round(work.scale[0])
    assert wanted is not None
    if not wanted.tracks:
        raise SettingsError("evaluate.truth.tracks: is 0, so that there are no tracks: set it to 12.")
    if scale != work.scale[0] or scale > 4:
        raise SettingsError(f"evaluate.truth.tracks: frames are fused at scale 2, 3 or 4, not {work.scale[0]:g}.")
    size = (all_truths.lr[0].shape[-2], all_truths.lr[0].shape[-1])
    if min(size) < SMALLEST_SIDE:
        raise SettingsError(
            f"evaluate.truth.side: frames of {min(size)} pixels cannot be fused: {SMALLEST_SIDE} or more."
        )
    ids = all_truths.ids[: wanted.tracks]
    truths = (all_truths.truths or ())[: wanted.tracks]
    seeds = [derive_seed(work.settings.seed, "tracks", n) for n in range(len(ids))]
    shots = [capture(moved(truth, seed), CAMERA, size, seed) for truth, seed in zip(truths, seeds, strict=True)]
    camera = CAMERA.downscale
    images = Images(ids, tuple(one[0].pixels for one in shots), (camera,) * len(ids), truths, cameras=(camera,))
    methods = [interpolate(work, "bicubic", images)]
    for name, frames, make in (
        ("one frame restored, camera known", 1, partial(_alone, scale)),
        (f"{FRAMES} frames fused, camera known", FRAMES, partial(_fused, scale, CAMERA)),
        (f"{FRAMES} frames fused, camera estimated", FRAMES, partial(_fused, scale, None)),
    ):
        methods.append(_method(work, name, make, [track[:frames] for track in shots]))
    _, alone, fused, _ = methods
    paid = sum(not torch.equal(a, b) for a, b in zip(alone.images, fused.images, strict=True))
    title = f"Tracks: {len(ids)} images in {FRAMES} frames each, x{scale}"
    metrics = [psnr("Y", _BORDER), ssim("Y", _BORDER)]
    tables = compared(
        title,
        [metric.definition for metric in metrics],
        measure(work, "tracks", methods, metrics, images),
        baseline="bicubic",
        gains="Tracks: differences to bicubic",
        remarks=(f"With the camera known, fusing was said to pay for {paid} of {len(ids)}; else one frame is shown",),
    )
    text = (__doc__ or "").split("\n\n", 1)[1].strip().replace("\n", " ")
    return Part("tracks", "Several frames of one scene", (text, *notices), tables, scenes=scenes(work, images, methods))


def moved(truth: Tensor, seed: int) -> Tensor:
    """`F C H W`: a truth `C H W` as it lies in each frame, before the camera."""
    rng, pixels = np.random.default_rng(seed), truth.double().numpy()
    grid = np.indices(pixels.shape[1:]).astype(float)
    middle = (np.array(pixels.shape[1:]) - 1)[:, None, None] / 2
    frames = [truth]
    for _ in range(FRAMES - 1):
        shift = rng.uniform(-_FARTHEST, _FARTHEST, 2)
        turn, growth, light, bias = rng.uniform(-1, 1, 4) * (np.radians(_TURN), _GROWTH, _LIGHT, _BIAS)
        matrix = (1 + growth) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        places = middle + np.tensordot(matrix, grid - middle, 1) + shift[:, None, None]
        warped = np.stack([ndimage.map_coordinates(plane, places, order=5, mode="mirror") for plane in pixels])
        frames.append(torch.from_numpy((1 + light) * warped + bias).clamp(0, 1).float())
    return torch.stack(frames)


def _method(
    work: Evaluator, name: str, make: Callable[[Sequence[Shot]], Tensor], tracks: Sequence[Sequence[Shot]]
) -> Method:
    """A way of making an image from each track, cached."""

    def compute() -> Results:
        images, began = [], time.perf_counter()
        for number, shots in enumerate(tracks):
            work.bar.update(name, number, len(tracks))
            images.append(rounded(make(shots)))
        return Results(tuple(images), (time.perf_counter() - began) / len(tracks))

    key = {"method": name, "frames": [hash_of([shot.pixels for shot in shots]) for shots in tracks]}
    label = label_of("", frames=[hash_of([shot.pixels]) for shot in tracks[0][1:]])
    return Method(name, label, work.cache.results("tracks", key, compute), "these frames alone")


def _alone(scale: int, shots: Sequence[Shot]) -> Tensor:
    return fuse_burst(shots[0].pixels[None], CAMERA, scale).image


def _fused(scale: int, camera: Degradation | None, shots: Sequence[Shot]) -> Tensor:
    stills = [
        BurstFrame(Picture(shot.pixels, None, 8, Metadata()), str(n), hash_of([shot.pixels]), jpeg_of(shot.file or b""))
        for n, shot in enumerate(shots)
    ]
    return fuse_stills(stills, scale, camera=camera).picture.pixels
