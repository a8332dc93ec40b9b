"""Pictures in, one picture out: stills of one scene fused, judged, and written with a record of every frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.estimate import read_estimate
from zssr_gan.degradation.estimator import Evidence, estimate_degradation, seen_compression
from zssr_gan.degradation.model import Degradation, Jpeg
from zssr_gan.degradation.noise import picture_noise
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging import preview
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.imaging.convert import like, picture_of
from zssr_gan.imaging.picture import Picture, quantise, seen_colours
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.inference.region import Region
from zssr_gan.provenance import CaseImage
from zssr_gan.video.blind import FEWEST, BurstCamera, burst_camera, words_of
from zssr_gan.video.case_mean import MeanKind, MeanOption, OnProgress, mean_model
from zssr_gan.video.coding import Coding, coding_of, coding_summary
from zssr_gan.video.crops import FRAMES, Crop, TrackSource, read_crops
from zssr_gan.video.frames import NOT_PREDICTED, Frame
from zssr_gan.video.fusion import Fused, fuse_burst
from zssr_gan.video.holdout import Verdict, fuse_alone, judge_fusion
from zssr_gan.video.learnt import FusedTrack, pulled
from zssr_gan.video.registration import Motion
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import Corners, read_track
from zssr_gan.zeroshot.shared import SharedModel

Camera = Degradation | DegradationFacts | Path | Literal["bicubic"] | None
"""A degradation, what a record says of one, the file of an estimate, or a word; None: estimated from the frames."""

NO_MEAN = MeanOption()


@dataclass(frozen=True, slots=True)
class BurstFrame:
    """A frame that came from a file, or from memory."""

    picture: Picture
    name: str
    sha256: str
    """Of the file, or of the pixels where they came from none."""
    jpeg: Jpeg | None = None
    """How its file was compressed."""
    frame: Frame | None = None
    """Of a video, without its planes."""
    box: Region | None = None
    """Where it lies in that frame: left and top edge, width and height; None: it is all of it."""

    @property
    def footage(self) -> bool | None:
        """Whether a video's codec changed it, by its frame or by its file; None: neither says so."""
        of_frame = None if self.frame is None else self.frame.footage
        return self.picture.footage if of_frame is None else of_frame

    @classmethod
    def of(cls, crop: Crop) -> "BurstFrame":
        """A track's region in one frame."""
        return cls(crop.picture, crop.name, crop.frame.sha256, frame=crop.frame, box=crop.box)


@dataclass(frozen=True, slots=True)
class FusedStills:
    """A result and what it rests on."""

    picture: Picture
    """Fused, or the reference frame restored alone where fusing does not pay."""
    plain: Picture
    """The reference frame enlarged by bicubic."""
    fused: Fused
    """From the frames alone, as it was judged."""
    verdict: Verdict
    degradation: DegradationFacts
    names: tuple[str, ...]
    """Of the frames."""
    shown: Fused
    """What `picture` is."""
    mean: SharedModel | None = None
    """What it was pulled to by; None: nothing was learnt."""
    stored: tuple[int, int] | None = None
    """Width and height before the shape of its pixels was corrected, where it was."""
    left_out: tuple[dict[str, object], ...] = ()
    """Frames of a video that had no part, and why."""
    compression: str | None = None
    """What a video's did, in words; None: of no such video."""

    @property
    def assumed(self) -> str:
        """Blur, noise and compression that were undone, in one line."""
        camera = self.degradation.values
        blur = words_of(camera.blur)
        noise = f"noise of {LEVELS * camera.noise.sigma:.1f} levels" if camera.noise else "no noise"
        jpeg = f"JPEG of quality {camera.jpeg.quality}" if camera.jpeg else "no compression"
        return f"{blur}, {noise}, {self.compression or jpeg}"

    @property
    def added(self) -> Tensor:
        """`sH sW`, 8-bit levels: how far the learnt mean moved the result, mean over channels."""
        return 255 * (self.shown.image - self.fused.image).abs().mean(0)


def fuse(
    images: Sequence[NDArray[Any] | Image.Image] | str | Path,
    scale: int = 2,
    *,
    reference: int | None = None,
    degradation: Degradation | str | Path | None = None,
    affine: bool = True,
    mean: MeanKind = "none",
    init_from: str | Path | None = None,
    region: Region | None = None,
    frame: int | None = None,
    corners: Corners | None = None,
    track: str | Path | None = None,
    frames: int = FRAMES,
) -> Any:
    """Fuse frames of one scene into one image: arrays in, array out; PIL in, PIL out; a video's path in, array out.

    Args:
        images: at least two frames of one size, as `enhance` takes one, cut alike from one scene; or a video.
        scale: per side, 1 to 4; 1 restores without enlarging.
        reference: the frame whose moment and place the result shows; None: the first, of a video the marked one.
        degradation: the camera's, or the file of an estimate; "bicubic"; None: estimated from the frames.
        affine: whether frames may turn and change size; else they shift alone.
        mean: "none" is arithmetic alone; "own" and "shared" pull the result to what a network learnt on these frames,
            or on the case, expects.
        init_from: of "shared": the file of a model, or a folder with a folder of frames for each track of the case.
        region: of a video: what is followed, left and top edge, width and height in the frame `frame`.
        frame: its index in the video.
        corners: of something flat: four (x, y) around it.
        track: or else the file of a track, of `zssr-gan video track`.
        frames: of the video to be fused, those nearest to the reference.

    Returns:
        The image, of the kind of the reference frame, without alpha. Where frames that are held out say that fusing
        does not pay, it is the reference frame restored alone.

    Raises:
        ImageError: fewer than two frames, of several sizes, too small, or holding NaN or infinity.
        SettingsError: a scale or reference out of range, or a degradation, region, frame or corners that are none.
        VideoError: the video cannot be read or followed.
    """
    camera = degradation if degradation is None or isinstance(degradation, Degradation) else camera_option(degradation)
    option = MeanOption(mean, None if init_from is None else Path(init_from))
    if isinstance(images, str | Path):
        video = Path(images)
        known = read_track(Path(track)) if track is not None else None
        found = known or follow(video, Mark.of(region, frame, corners), most=frames)
        crops = read_crops(TrackSource(video, found, reference, frames))
        cut = [BurstFrame.of(crop) for crop in crops.crops]
        done = fuse_stills(
            cut, scale, crops.reference, camera, affine=affine, start=crops.start, mask=crops.mask, mean=option
        )
        return like(np.empty((0, 0, 0)[: 2 + (len(done.picture.pixels) > 1)], np.uint8), done.picture)
    reference = 0 if reference is None else reference
    pictures = [picture_of(image) for image in images]
    stills = [
        BurstFrame(one, str(place), sha256_bytes(one.pixels.numpy().tobytes())) for place, one in enumerate(pictures)
    ]
    done = fuse_stills(stills, scale, reference, camera, affine=affine, mean=option)
    return like(images[reference], done.picture)


def camera_option(text: str | Path) -> Camera:
    """The value of --degradation: `auto`, `bicubic`, or the file of an estimate."""
    return None if text == "auto" else "bicubic" if text == "bicubic" else Path(text)


def fuse_stills(
    stills: Sequence[BurstFrame],
    scale: int = 2,
    reference: int = 0,
    camera: Camera = None,
    *,
    affine: bool = True,
    start: Motion | None = None,
    mask: Tensor | None = None,
    mean: MeanOption = NO_MEAN,
    on_progress: OnProgress | None = None,
) -> FusedStills:
    """Fuse stills, and judge by frames that are held out whether that pays (see `fuse`, `fuse_burst`)."""
    if not stills or (len(stills) < 2 and stills[0].frame is None):  # a video's others may repeat it
        raise SettingsError("one image alone cannot be fused: zssr-gan enhance enlarges it")
    if not 0 <= reference < len(stills):
        raise SettingsError(f"the reference is one of the frames 0 to {len(stills) - 1}, not {reference}")
    first, source = stills[0].picture.pixels.shape[1:], stills[reference].picture
    for still in stills:
        if still.picture.pixels.shape[1:] != first:
            sizes = " and ".join(f"{w}x{h}" for h, w in (first, still.picture.pixels.shape[1:]))
            raise ImageError(f"frames to be fused have one size, and {stills[0].name} and {still.name} have {sizes}")
    frames = _frames(stills)
    given = mean.model_in_file()
    if camera is None and given is not None and given.facts.cameras:
        camera = DegradationFacts.of(given.facts.cameras[0], "shared", "what the shared model was learnt for")
    _show("finding the camera", 0, source.pixels, scale, on_progress)
    known = _camera(stills, frames, reference, camera, scale, affine=affine, start=start, mask=mask)
    _show("fusing", 1, source.pixels, scale, on_progress)
    fused = fuse_burst(
        frames, known.values, scale, reference, affine=affine, start=start, mask=mask, coding=_coding(stills)
    )
    _show("judging by frames that are held out", 2, fused.image, 1, on_progress)
    verdict = judge_fusion(frames, known.values, fused, scale, affine=affine)
    shown, model = fused if verdict.fuse else fuse_alone(frames, known.values, fused, scale), None
    if verdict.fuse and mean.kind != "none":
        track = FusedTrack(tuple(CaseImage(name=still.name, sha256=still.sha256) for still in stills), fused)
        model = mean_model(mean, track, known.values, scale, affine=affine, on_progress=on_progress)
        shown = pulled(frames, known.values, fused, model, scale)
    plain = resize(source.pixels, (shown.image.shape[1], shown.image.shape[2])).clamp_(0, 1)
    return FusedStills(
        _like(source, shown.image), _like(source, plain), fused, verdict, known,
        tuple(still.name for still in stills), shown, model,
        compression=coding_summary([still.frame for still in stills], fused.coding),
    )  # fmt: skip


def _show(stage: str, done: int, image: Tensor, scale: int, on_progress: OnProgress | None) -> None:
    """Report one of three stages, with a preview."""
    if on_progress is not None:
        on_progress(stage, done, 3)
    size = (scale * image.shape[1], scale * image.shape[2])
    preview.show(lambda: image if scale == 1 else resize(image, size), now=True)


def _coding(stills: Sequence[BurstFrame]) -> Coding | None:
    """What a video's compression did; None where a still is of no video."""
    frames = [still.frame for still in stills if still.frame is not None]
    if len(frames) < len(stills):
        return None
    places = [(0, 0) if still.box is None else still.box[:2] for still in stills]
    height, width = stills[0].picture.pixels.shape[1:]
    return coding_of(frames, places, (height, width))


def _frames(stills: Sequence[BurstFrame]) -> Tensor:
    """`F C H W`, gray where no frame has colours."""
    seen = [seen_colours(still.picture) for still in stills]
    channels = max(len(one) for one in seen)
    return torch.stack([one.expand(channels, -1, -1) for one in seen])


def _like(source: Picture, pixels: Tensor) -> Picture:
    """A picture without alpha, rounded, with the channels of its source."""
    return quantise(replace(source, pixels=pixels.expand(len(source.pixels), -1, -1), alpha=None, notices=()))


def _camera(
    stills: Sequence[BurstFrame],
    frames: Tensor,
    reference: int,
    camera: Camera,
    scale: int,
    *,
    affine: bool,
    start: Motion | None,
    mask: Tensor | None,
) -> DegradationFacts:
    if camera == "bicubic":
        return DegradationFacts.of(Degradation(), "bicubic", "bicubic is assumed, as asked for")
    if isinstance(camera, DegradationFacts):
        return camera
    if isinstance(camera, Degradation):
        return DegradationFacts.of(camera, "given", "given")
    if isinstance(camera, Path):
        return DegradationFacts.estimated(read_estimate(camera))
    evidence = [
        Evidence(
            CaseImage(name=still.name, sha256=still.sha256), pixels, still.jpeg, still.footage, still.picture.webp_step
        )
        for still, pixels in zip(stills, frames, strict=True)
    ]
    predicted = any(still.footage and still.frame and still.frame.codec not in NOT_PREDICTED for still in stills)
    jpeg, looks_so = (None, True) if predicted else seen_compression(evidence)
    found = None if predicted else burst_camera(frames, reference, jpeg, scale, affine=affine, start=start, mask=mask)
    if found is not None and looks_so and found.white and not any(still.footage for still in stills):
        # Levels and colours of video are those of lossless video too, and a codec leaves no white noise.
        looks_so, evidence = False, [replace(one, footage=False) for one in evidence]
    if found is not None and found.blur_told and not looks_so:  # a video's errors are not those of stills
        images = tuple(sorted((one.image for one in evidence), key=lambda image: (image.sha256, image.name)))
        facts = DegradationFacts(source="estimate", images=images, why=found.why)
        return facts.model_copy(update={"values": found.degradation, "sha256": found.degradation.sha256})
    facts = DegradationFacts.estimated(estimate_degradation(evidence))
    if facts.fallback and not looks_so:
        why = f"bicubic is assumed: {FEWEST} or more frames that differ by sub-pixel shifts tell a camera, these do not"
        facts = facts.model_copy(update={"why": why})
    if facts.values.jpeg is None and not predicted:
        return _with_noise(facts, found, frames[0])
    return facts


def _with_noise(facts: DegradationFacts, found: BurstCamera | None, first: Tensor) -> DegradationFacts:
    """With the noise that frames tell together, which one picture tells worse, or else the first one's.

    Frames that are taken to be without noise are joined as if each pixel were exact, and their noise is made larger.
    """
    shown = picture_noise(first) if found is None else None
    noise = found.degradation.noise if found is not None else facts.values.noise or (shown and shown.noise)
    if noise is None or noise == facts.values.noise:
        return facts
    values = facts.values.model_copy(update={"noise": noise})
    why = facts.why if found is None else f"{facts.why}; {found.noise_why}"
    return facts.model_copy(update={"values": values, "sha256": values.sha256, "why": why})
