"""The first pass over a video that is to be enhanced: its frames counted, and what they teach together."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from torch import Tensor

from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Degradation, Jpeg, Noise
from zssr_gan.devices import Machine
from zssr_gan.errors import VideoError
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.inference.case import with_network, with_shared
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.inference.region import Region
from zssr_gan.inference.request import Request
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import SMALLEST_SIDE
from zssr_gan.video.clip_record import ClipOptions
from zssr_gan.video.encode import format_of
from zssr_gan.video.frames import Frame, Video
from zssr_gan.video.journal import Journal
from zssr_gan.video.planes import check_size, stored
from zssr_gan.video.steady import noise_between
from zssr_gan.zeroshot.case import LRImage
from zssr_gan.zeroshot.shared import LARGEST_SIDE, read_shared

BoxOf = Callable[[Frame], Region | None]
"""The part of a frame that is shown; None: the frame is not."""

Report = Callable[[str, int, int | None, str], None]
"""Called with the stage, how much of it is done, how much there is, and figures beside."""

Say = Callable[[str], None]
"""Gets what a user should know, a sentence at a time."""


MOST_LEARNT_FROM = 32
"""Frames that are learnt from, evenly spread: more say little more, and memory must not grow with the length."""

_BLOCK = 16  # a codec's, between which a part to learn from is cut

_FINE = 22.0
"""Mean quantiser of I and P frames (H.264) up to which a codec has changed them little: steps below 8 levels."""

_MILD = 75  # quality of JPEG that stands for such a codec

_LEAST_NOISE = 2 / LEVELS  # of luma, that the network learns to remove: less does no harm


@dataclass(slots=True)
class Survey:
    """What the first pass finds."""

    frames: int = 0
    """That are shown."""
    damaged: int = 0
    repeated: int = 0
    interlaced: int = 0
    increasing: bool = True
    """Whether the times of those that are shown are known and increase."""
    first_pts: int | None = None
    footage: bool | None = None
    """Whether the codec changed any frame that is learnt from; None: they are of no video."""
    images: list[tuple[CaseImage, Tensor]] = field(default_factory=list)
    """To learn from: name and hash of a frame, and `C H W` of its part."""
    noises: list[float] = field(default_factory=list)
    quantisers: list[float] = field(default_factory=list)
    """Mean of each I and P frame of H.264 among those that are learnt from."""

    @property
    def noise(self) -> float:
        """Standard deviation that frames in succession show, [0, 1] units."""
        return median(self.noises) if self.noises else 0.0


def survey(video: Video, box_of: BoxOf, pixel_format: str | None, report: Report) -> Survey:
    """Go through a video once; `pixel_format` is that of the result, where one is asked for.

    Raises:
        VideoError: it has no frame that is shown, frames of several sizes, or such as are too small.
        SettingsError: a region beyond the frames, or another pixel format than it can have.
    """
    found, before, latest = Survey(), None, None
    stride, shown = 1, 0
    for number, frame in enumerate(video.frames, 1):
        if number == 1:
            size = frame.planes[0].shape
            format_of(frame, pixel_format)
        check_size(frame, size)
        report("reading the video", number, video.info.declared_frames, "")
        box = box_of(frame)
        if box is None:
            continue
        found.frames += 1
        found.damaged += bool(frame.damage)
        found.repeated += frame.same_as is not None
        found.interlaced += frame.field is not None
        if frame.pts is None or (latest is not None and frame.pts <= latest):
            found.increasing = False
        latest = frame.pts
        if found.first_pts is None:
            found.first_pts = frame.pts
        if frame.damage or (frame.same_as is not None and shown):
            continue
        if shown % stride == 0:
            x = _part(stored(frame), box)
            found.images.append((CaseImage(name=frame.name, sha256=frame.sha256), x))
            found.footage = found.footage or frame.footage
            if frame.codec == "h264" and frame.qp is not None and frame.picture_type in ("I", "P"):
                found.quantisers.append(float(frame.qp.mean()))
            if before is not None:
                found.noises.append(noise_between(_part(before, box), x))
            if len(found.images) > MOST_LEARNT_FROM:
                del found.images[1::2]
                stride *= 2
        before = stored(frame) if (shown + 1) % stride == 0 else before
        shown += 1
    if not found.frames:
        raise VideoError("holds no frame that is shown.")
    if not found.images:
        raise VideoError("all its frames are damaged: there is none to learn from.")
    if min(found.images[0][1].shape[-2:]) < SMALLEST_SIDE:
        rows, columns = found.images[0][1].shape[-2:]
        raise VideoError(f"its frames have {columns}x{rows} pixels; {SMALLEST_SIDE} a side are needed to learn from.")
    return found


def _part(x: Tensor, box: Region) -> Tensor:
    """What is learnt from of a frame: around the box, as much as a network takes, cut between blocks."""
    if max(x.shape[-2:]) <= LARGEST_SIDE:
        return x
    spans = []
    for first, side, most in zip((box[1], box[0]), (box[3], box[2]), x.shape[-2:], strict=True):
        begin = min(max(0, first + side // 2 - LARGEST_SIDE // 2), max(0, most - LARGEST_SIDE)) // _BLOCK * _BLOCK
        spans.append(slice(begin, begin + LARGEST_SIDE))
    return x[:, *spans].clone()


def learn(found: Survey, request: Request, folder: Path, used: Machine, report: Report) -> tuple[Request, list[str]]:
    """The request with the camera that a video's frames show, and the network learnt on them; a line for each.

    The network lies in `folder` as shared-HASH.safetensors, where the next run, or a rerun, finds it.

    Raises:
        OutputError: the disk refuses.
        NumericalError: NaN or infinity came out.
    """
    lines = []
    if request.to_estimate:
        facts = _camera(found, request, report)
        request = replace(request, degradation=facts, to_estimate=None)
        lines.append(f"degradation: {facts.why}")
    if not request.to_learn:
        return request, lines
    images = [LRImage(image, x, x) for image, x in found.images]
    request, line = with_network(
        images,
        [request.degradation.values] * len(images),
        request,
        folder,
        used,
        lambda now: report("learning", now.iteration, now.total, f"loss {now.loss:.4f}"),
        f"{len(images)} of the {found.frames} frames",
        parts=[list(x.shape) for _, x in found.images],
    )
    return request, [*lines, line]


def _camera(found: Survey, request: Request, report: Report) -> DegradationFacts:
    footage = found.footage
    evidence = [
        Evidence(image, x.expand(1 if len(x) == 1 else 3, -1, -1), footage=footage) for image, x in found.images
    ]
    estimate = estimate_degradation(
        evidence,
        seed=request.seed,
        on_estimate=lambda what, done, total: report(f"degradation: {what}", done, total, ""),
    )
    facts = DegradationFacts.estimated(estimate)
    if footage and facts.fallback and found.quantisers and (mean := fmean(found.quantisers)) <= _FINE:
        why = (
            f"the codec has changed the frames little (quantisers of I and P frames: {mean:.0f}), as JPEG {_MILD} would"
        )
        return DegradationFacts.of(Degradation(jpeg=Jpeg.of_quality(_MILD)), "picture", why)
    if facts.values != Degradation() or footage or found.noise < _LEAST_NOISE:
        return facts
    levels = LEVELS * found.noise
    why = f"frames in succession show noise of {levels:.1f} of {LEVELS} levels where nothing moves; {facts.why}"
    return DegradationFacts.of(Degradation(noise=Noise(sigma=min(0.5, found.noise))), "picture", why)


def shown_lines(found: Survey, video: Video) -> list[str]:
    """What a user should know of a video, a sentence each."""
    lines = ["sound is left out: the result holds the frames alone"]
    if found.repeated:
        lines.append(f"{found.repeated} frames repeat the one before, and so do their results")
    if found.damaged:
        lines.append(
            f"{found.damaged} frames are damaged, or predicted from damaged ones: nothing is learnt or averaged of them"
        )
    if found.interlaced:
        lines.append(
            f"interlaced frames are parted into {found.interlaced} fields of half the rows with their own times"
        )
    if not found.increasing:
        lines.append("times that are not known, or do not increase, are replaced by 25 frames a second in the result")
    if video.info.rotation:
        lines.append(f"players turn it by {video.info.rotation} degrees; the result is as stored")
    ratio = video.info.sample_aspect_ratio
    if ratio is not None and ratio != 1:
        lines.append(f"its pixels are {ratio.numerator}:{ratio.denominator}; the result's container does not say so")
    return lines + list(video.notices)


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What the first pass settles; it is the journal's first entry."""

    request: Request
    """Of whose run nothing is left to be learnt."""
    frames: int
    increasing: bool
    noise: float
    notices: tuple[str, ...]


def planned(
    video: Video,
    request: Request,
    options: ClipOptions,
    box_of: BoxOf,
    folder: Path,
    journal: Journal,
    used: Machine,
    report: Report,
    say: Say,
) -> ClipPlan:
    """The plan of the journal, or, where there is none, a new one."""
    facts, _ = next(journal.entries(), ({}, b""))
    if "plan" in facts and (plan := _read_plan(facts["plan"], request, folder)) is not None:
        say(f"{journal.frames} of {plan.frames} frames are there from an earlier run")
        return plan
    journal.clear()
    found = survey(video, box_of, options.pixel_format, report)
    notices = shown_lines(found, video)
    for line in notices:
        say(line)
    request, lines = learn(found, request, folder, used, report)
    for line in lines:
        say(line)
    plan = ClipPlan(request, found.frames, found.increasing, found.noise, tuple(notices))
    shared = request.files.get("init-from")
    journal.append(
        {
            "plan": {
                "frames": plan.frames,
                "increasing": plan.increasing,
                "noise": plan.noise,
                "notices": notices,
                "degradation": request.degradation.model_dump(mode="json"),
                "network": None if shared is None else [shared.path, shared.sha256],
            }
        }
    )
    return plan


def _read_plan(facts: dict[str, Any], request: Request, folder: Path) -> ClipPlan | None:
    """A journal's plan; None where its network is no longer there."""
    request = replace(request, degradation=DegradationFacts.model_validate(facts["degradation"]), to_estimate=None)
    if request.to_learn:
        path = folder / Path(facts["network"][0]).name
        if not path.is_file():
            return None
        shared = read_shared(path)
        if shared.sha256 != facts["network"][1]:
            return None
        request = with_shared(request, shared, path)
    return ClipPlan(request, facts["frames"], facts["increasing"], facts["noise"], tuple(facts["notices"]))
