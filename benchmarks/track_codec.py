"""Tracks of one face in H.264 and H.265 video, and what fusing their frames gains over the best single frame.

    python -m benchmarks.track_codec DATA/faces --sets A,C --crf 23,28,33 --count 24 --shared
    python -m benchmarks.track_codec DATA/faces --sets C --crf 28 --codec libx265 --reference 4

A face moves as in a set of `track` before one of scikit-image's photographs, which pans by 3/8 px of a frame; both are
blurred, halved, given noise and written as luma of 96x80 px by PyAV with the encoder's defaults (libx264: I, P and B
frames). The decoder gives picture types and, for H.264, quantisers. The truth is the original as it lies in the
reference frame, halved. `--shared` learns one network (`fast`, bicubic assumed) on all frames of a set and enlarges the
reference frames by it, and the I frames, each compared with its own truth: the better one is the best single frame.
`--mean` also pulls the fused images, and the reference frames restored alone, to a mean learnt on the set's fused ones.
`--oracle` fuses with the true motion, then frames with the error of another clip's frame in place of their own (each of
another clip's: as large, but not alike; `independent`), then frames that were not compressed.
PSNR and SSIM on Y (16 to 235), 4 pixels of border cropped; intervals of 95 % over faces. Every 17th face (by name) is
left out: the constants were chosen on those (`--development`).
"""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data
from torch import Tensor

from benchmarks.protocol import Score, parsed, picture
from benchmarks.track import SETS, Conditions, drawn_motion, faces, learnt, scored, show_gains
from zssr_gan.degradation.model import Degradation, DegradedDownscale
from zssr_gan.devices import RunOptions, machine
from zssr_gan.imaging.colour import LEVELS, luma_of
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.enhance import enhance_picture
from zssr_gan.provenance import CaseImage
from zssr_gan.video.coding import Coding, coding_of
from zssr_gan.video.frames import Frame
from zssr_gan.video.fusion import Fused, fuse_burst
from zssr_gan.video.holdout import fuse_alone, judge_fusion
from zssr_gan.video.io import open_video
from zssr_gan.video.learnt import FusedTrack, learn_mean, pulled
from zssr_gan.video.pixels import luma
from zssr_gan.video.registration import Motion

_SIZE = (80, 96)  # of a frame, rows and columns
_SIDE = 32  # of a face in it
_AROUND = 16  # pixels of the original that the face reaches beyond its crop, mirrored
_PAN = 1.5  # pixels of the original that the background moves by from frame to frame


@dataclass(frozen=True, slots=True)
class Clip:
    """A face in a video, as it was decoded."""

    frames: tuple[Frame, ...]
    corner: tuple[int, int]
    """Of the face's crop, row and column."""
    motion: Motion
    truths: Tensor
    """`F 1 64 64`, of each frame."""
    sources: Tensor
    """`F 32 32`: the crops before compression, not rounded."""
    conditions: Conditions


def film(original: Tensor, conditions: Conditions, count: int, seed: int, codec: str, crf: int) -> Clip:
    """Render, encode and decode a clip of a face `1 128 128` in [0, 1]."""
    rng = np.random.default_rng(seed)
    motion = drawn_motion(conditions, count, rng)
    tall, wide = (4 * side for side in _SIZE)
    background = _photograph(seed, (tall + 16, wide + 64))
    face = original[0].double().numpy()
    corner = tuple(int(rng.integers(8, side - _SIDE - 8)) for side in _SIZE)
    top, left = (4 * place - _AROUND for place in corner)
    height = len(face) + 2 * _AROUND
    grid = np.indices((height, height)).astype(float) - _AROUND
    middle = (len(face) - 1) / 2
    camera = DegradedDownscale(conditions.degradation.model_copy(update={"noise": None, "jpeg": None}))
    frames, truths = [], []
    for f in range(count):
        matrix = motion.linear[f].numpy() + np.eye(2)
        place = middle + np.tensordot(matrix, grid - middle, 1) + 4 * motion.shift[f].numpy()[:, None, None]
        layer = ndimage.map_coordinates(face, place, order=5, mode="mirror").clip(0, 1)
        scene = background[:tall, round(_PAN * f) : round(_PAN * f) + wide].copy()
        scene[top : top + height, left : left + height] = layer
        gain, bias = float(motion.gain[f]), float(motion.bias[f])
        shown = torch.from_numpy(layer[_AROUND:-_AROUND, _AROUND:-_AROUND].copy())[None]
        truths.append(gain * resize(shown, (2 * _SIDE, 2 * _SIDE)).clamp(0, 1) + bias)
        half = resize(torch.from_numpy(scene)[None, None], (tall // 2, wide // 2))
        small = camera(half, _SIZE)[0, 0].numpy()
        frames.append(gain * small + bias + conditions.noise / LEVELS * rng.standard_normal(small.shape))
    taken = (slice(corner[0], corner[0] + _SIDE), slice(corner[1], corner[1] + _SIDE))
    return Clip(
        frames=decoded(frames, codec, crf),
        corner=(corner[0], corner[1]),
        motion=motion,
        truths=torch.stack(truths).float(),
        sources=torch.from_numpy(np.stack([one[taken] for one in frames])).float(),
        conditions=conditions,
    )


def _photograph(seed: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """`H W` luma in [0, 1] of one of scikit-image's photographs."""
    image = getattr(data, ("camera", "coffee", "chelsea", "astronaut", "brick")[seed % 5])()
    pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1).double() / 255
    return resize(luma_of(pixels.expand(3, -1, -1)).clamp(0, 1)[None], size)[0].clamp(0, 1).numpy()


def decoded(frames: list[NDArray[np.float64]], codec: str, crf: int) -> tuple[Frame, ...]:
    """Luma `H W` in [0, 1] through an encoder at its defaults and the package's decoder."""
    import av  # the extra `bench`
    from av.video.stream import VideoStream

    options = {"crf": str(crf), f"{codec[3:]}-params": "log-level=none"}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        with av.open(str(path), "w") as video:
            stream = video.add_stream(codec, rate=25, options=options)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = _SIZE
            stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
            for time, pixels in enumerate(frames):
                plane = np.rint(16 + 219 * pixels).clip(16, 235).astype(np.uint8)
                chroma = np.full((_SIZE[0] // 2, _SIZE[1]), 128, np.uint8)
                frame = av.VideoFrame.from_ndarray(np.concatenate([plane, chroma]), "yuv420p")
                frame.pts = time
                video.mux(stream.encode(frame))
            video.mux(stream.encode())
        with open_video(path) as read:
            return tuple(read.frames)


def crops(clip: Clip) -> tuple[Tensor, Coding | None]:
    """`F 1 32 32` in [0, 1] of the decoded face, and what the decoder tells of its coding."""
    y, x = clip.corner
    frames = torch.stack([luma(frame)[:, y : y + _SIDE, x : x + _SIDE] for frame in clip.frames])
    return frames.clamp(0, 1), coding_of(clip.frames, [(x, y)] * len(frames), (_SIDE, _SIDE))


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one clip."""

    scores: dict[str, Score]
    fuse: bool
    """What the gate says."""
    errors: list[tuple[str, float, float]]
    """Of each frame: its type, its coding error as it was fused, and as it is; levels."""
    fused: Fused
    """With the first of the cameras."""


def measured(clip: Clip, reference: int, cameras: tuple[str, ...]) -> Figures:
    """Bicubic, the restored reference frame, and the fused image, with the camera known or taken as bicubic."""
    frames, coding = crops(clip)
    truth = clip.truths[reference]
    images = {"bicubic": resize(frames[reference], (truth.shape[1], truth.shape[2]))}
    for camera in cameras:
        known = clip.conditions.degradation.model_copy(update={"jpeg": None})
        degradation = known if camera == "known" else Degradation()
        fused = fuse_burst(frames, degradation, 2, reference, affine=clip.conditions.affine, coding=coding)
        name = "" if camera == "known" else f", {camera}"
        images |= {f"one frame{name}": fuse_alone(frames, degradation, fused).image, f"fused{name}": fused.image}
        if camera == cameras[0]:
            verdict = judge_fusion(frames, degradation, fused, affine=clip.conditions.affine)
            assert fused.coding is not None
            true = 255 * (frames[:, 0] - clip.sources).square().mean((1, 2)).sqrt()
            taken, first = 255 * fused.coding.error, fused
    types = [frame.picture_type for frame in clip.frames]
    errors = list(zip(types, taken.tolist(), true.tolist(), strict=True))
    return Figures({name: scored(image, truth) for name, image in images.items()}, verdict.fuse, errors, first)


def with_mean(clips: list[Clip], results: list[Figures], seed: int) -> None:
    """Add the results, and the reference frames restored alone, pulled to a mean learnt on the set's results."""
    degradation = clips[0].conditions.degradation.model_copy(update={"jpeg": None})
    tracks = [FusedTrack((CaseImage(name=str(n), sha256=str(n)),), one.fused) for n, one in enumerate(results)]
    with machine(RunOptions("cpu", threads=1)) as used:
        model = learn_mean(tracks, degradation, 2, seed=seed, machine=used)
    for clip, result in zip(clips, results, strict=True):
        frames, fused, place = crops(clip)[0], result.fused, [result.fused.reference]
        alone = fuse_alone(frames, degradation, fused)
        for name, burst, one in (("fused", frames, fused), ("one frame", frames[place], alone)):
            image = pulled(burst, degradation, one, model, 2).image
            result.scores[f"{name}, shared mean"] = scored(image, clip.truths[fused.reference])


def oracles(clips: list[Clip], place: int, reference: int) -> dict[str, Score]:
    """What fusing a clip would give if motion were known, and errors were those of other clips, or none."""
    clip = clips[place]
    degradation, sources = clip.conditions.degradation.model_copy(update={"jpeg": None}), clip.sources[:, None]
    (frames, coding), motion = crops(clip), clip.motion.relative_to(reference)
    assert coding is not None
    others = [clips[(place + 1 + f) % len(clips)] for f in range(len(frames))]
    strangers = torch.stack([crops(one)[0][f] - one.sources[f] for f, one in enumerate(others)])
    single = replace(coding, predicted=torch.zeros_like(coding.predicted))
    images = {
        "true motion": fuse_burst(frames, degradation, 2, reference, motion=motion, coding=coding),
        "independent": fuse_burst(sources + strangers, degradation, 2, reference, motion=motion, coding=single),
        "no codec": fuse_burst(sources, degradation, 2, reference, motion=motion),
    }
    return {name: scored(one.image, clip.truths[reference]) for name, one in images.items()}


def shared_results(clips: list[Clip], reference: int, seed: int) -> tuple[list[Score], list[Score]]:
    """The reference frames, and the I frames (each with its own truth), by a network learnt on all frames."""
    request = learnt([frame for clip in clips for frame in crops(clip)[0]], Degradation(), 2, seed)
    results = []
    for place in (reference, 0):
        images = [enhance_picture(picture(crops(clip)[0][place]), request).picture.pixels for clip in clips]
        results.append([scored(image, clip.truths[place]) for image, clip in zip(images, clips, strict=True)])
    return results[0], results[1]


def main() -> None:
    """Film faces, fuse them, and print a table for each set and quality."""
    args = parsed(
        __doc__, "faces", sets="A,C", crf="23,28,33", codec="libx264", frames=9, reference=0, count=24, seeds="0",
        cameras="known,bicubic", shared=False, mean=False, oracle=False, development=False,
    )  # fmt: skip
    torch.set_num_threads(1)
    originals = faces(args.faces, args.count, development=args.development)
    for name, crf, seed in product(
        args.sets.split(","), map(int, args.crf.split(",")), map(int, args.seeds.split(","))
    ):
        clips = [
            film(one, SETS[name], args.frames, 1000 * seed + place, args.codec, crf)
            for place, one in enumerate(originals)
        ]
        results = [measured(clip, args.reference, tuple(args.cameras.split(","))) for clip in clips]
        if args.shared:
            for result, *scores in zip(results, *shared_results(clips, args.reference, seed), strict=True):
                result.scores.update(zip(("shared model", "shared model, I frame"), scores, strict=True))
        if args.mean:
            with_mean(clips, results, seed)
        for place, result in enumerate(results if args.oracle else ()):
            result.scores.update(oracles(clips, place, args.reference))
        types = "".join(kind for kind, *_ in results[0].errors)
        print(
            f"\n{name}, {args.codec} crf {crf}, {args.frames} frames ({types} "
            f"and others), reference {args.reference}, {len(clips)} faces, seed {seed}; the gate says fuse for "
            f"{sum(result.fuse for result in results)}\n"
        )
        rows = [error for result in results for error in result.errors]
        for kind in sorted({kind for kind, *_ in rows}):
            taken, true = (np.mean([row[i] for row in rows if row[0] == kind]) for i in (1, 2))
            print(f"{kind} frames: error of {true:.1f} levels, taken for {taken:.1f}")
        show_gains([result.scores for result in results])


if __name__ == "__main__":
    main()
