"""What each kind of job does: a form that becomes the arguments of a `zssr-gan` command.

Paths are relative to the case's folder, so the command that is shown does the same in a terminal there.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from zssr_gan.errors import ZssrGanError
from zssr_gan.provenance import Label, first_problem
from zssr_gan.settings.zeroshot import is_small, learns_on_all
from zssr_gan.web import forms, results, tracks
from zssr_gan.web.body import Form
from zssr_gan.web.case_folder import Case, Original
from zssr_gan.web.methods import METHODS, PRESETS, Fusion

Size = tuple[int, int, int]
"""Width and height in pixels, and frames: 1 of an image, 0 where they are not counted yet."""

FOLLOWED_SIDE = 12
"""Pixels: the smallest side of a region that `zssr_gan.video.tracking` follows."""

_F = TypeVar("_F", bound=BaseModel)

_ONE_CAMERA = "The pictures are taken to be of one camera: enhance those of another in a job of their own."
_ONE_PICTURE = " The noise and JPEG compression that it shows are undone; its blur one picture does not tell."


class CommandError(ZssrGanError):
    """What was asked for is not possible with these files."""


_TIMES = "\u00d7"
_TITLES: Mapping[str, str] = {method.id: method.title for method in METHODS}
_MEANS: Mapping[Fusion, str] = {"fuse": "none", "fuse-own": "own"}


class Body(Form):
    """Of POST plan and POST jobs."""

    kind: Literal["degradation", "camera", "enhance", "track", "fuse", "video", "compare", "report", "package"]
    originals: list[forms.Name] = Field(default=[], max_length=10_000)
    options: dict[str, Any] = Field(default={})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do; nothing is run."""

    kind: str
    title: str
    argv: Callable[[int], list[str]]
    """From the job's number."""
    label: Label | None
    sentence: str
    notices: tuple[str, ...] = ()
    perhaps_internal: bool = False
    """Whether the label may turn out to be internal."""

    @property
    def method(self) -> str:
        """Of its command, see `method_of`."""
        return method_of(self.argv(0))


def plan(case: Case, body: Body, sizes: Mapping[str, Size]) -> Plan:
    """What a body asks for.

    Args:
        case: of the files.
        body: kind, originals by their ids, options.
        sizes: of originals, by their ids, as far as they are known.

    Raises:
        CommandError: the options are not of this kind, or the files are not.
        CaseError: no such original, track or estimate.
    """
    known = {one.id: one for one in case.originals()}
    if missing := [number for number in body.originals if number not in known]:
        case.original(missing[0])
    return _PLANS[body.kind](case, [known[number] for number in dict.fromkeys(body.originals)], body.options, sizes)


def method_of(argv: Sequence[str]) -> str:
    """The preset of a command, or what its fusion is pulled to, and its scale: jobs of one kind and method take alike
    long; "" of others."""
    options = dict(itertools.pairwise(argv))
    method = options.get("--preset", options.get("--mean", options.get("--models", "")))
    return f"{method} x{options['-s']}" if "-s" in options else method


def output_of(argv: Sequence[str]) -> str:
    """The file or folder that a command writes, relative to the case's folder."""
    return dict(itertools.pairwise(argv)).get("-o", "")


def _options(kind: str, form: type[_F], options: Mapping[str, Any]) -> _F:
    try:
        return form.model_validate_json(json.dumps(options))
    except ValidationError as error:
        raise CommandError(f"{kind}: {first_problem(error)}") from error


def _only(chosen: list[Original], kind: str, what: str, *, one: bool = False) -> list[Original]:
    """The files, where all are of a kind and there are enough. Raises CommandError."""
    if other := next((file for file in chosen if file.kind != kind), None):
        raise CommandError(f"{other.name}: is no {kind}, and {what} takes {'one' if one else f'{kind}s'} alone")
    if not chosen or (one and len(chosen) > 1):
        raise CommandError(f"{what} takes {f'one {kind}' if one else f'at least one {kind}'}: choose it first")
    return chosen


def _degradation(_case: Case, chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    _options("degradation", forms.Nothing, options)
    paths = [file.path for file in _only(chosen, "image", "an estimate of the camera")]
    return Plan(
        "degradation",
        f"Estimate the camera from {_named(chosen)}",
        lambda n: ["degradation", "estimate", *paths, "-o", f"results/{n}_degradation/estimate.json"],
        None,
        f"Estimates blur, noise and compression from {_count(len(paths), 'picture')}, which must be of one camera.",
        () if len(paths) >= 3 else ("One or two pictures tell little of their camera; give all that you have.",),
    )


def _camera(_case: Case, _chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    asked = _options("camera", forms.Camera, options)
    jpeg = [] if asked.jpeg is None else ["--jpeg", str(asked.jpeg)]
    values = ["--blur", f"{asked.blur:g}", "--noise", f"{asked.noise:g}", *jpeg]
    compression = "" if asked.jpeg is None else f", JPEG quality {asked.jpeg}"
    return Plan(
        "camera",
        f"Set the camera by hand: blur {asked.blur:g} px, noise {asked.noise:g} of 255{compression}",
        lambda n: ["degradation", "set", *values, "-o", f"results/{n}_camera/camera.json"],
        None,
        "Writes blur, noise and compression as they are set; nothing is estimated.",
    )


def _enhance(case: Case, chosen: list[Original], options: Mapping[str, Any], sizes: Mapping[str, Size]) -> Plan:
    asked = _options("enhance", forms.Enhance, options)
    paths = [file.path for file in _only(chosen, "image", "enhancing pictures")]
    more = ["--preset", asked.method, "-s", str(asked.scale), "--evidence", "--skip-existing"]
    estimate = None
    if asked.region is not None:
        _only(chosen, "image", "a region", one=True)
        _check_region(asked.region, sizes.get(chosen[0].id))
        more += ["--region", ",".join(map(str, asked.region))]
    if asked.degradation == "bicubic":
        more += ["--degradation", "bicubic"]
    elif asked.degradation != "auto":
        estimate = results.find(results.estimates(case), asked.degradation, "estimate")
        more += ["--degradation", estimate["_paths"]["record"].relative_to(case.folder).as_posix()]
    small = sum(is_small(*sizes[file.id][:2]) for file in chosen if file.id in sizes)
    together = learns_on_all(small, len(paths))
    anew = asked.degradation == "auto" and len(paths) > 1
    estimated = anew or (estimate is not None and not estimate["by_hand"])
    sentence = "A network learns on each picture alone, and enlarges it"
    if together:
        sentence = f"One network learns on all {len(paths)} pictures, since most are tiny, and enlarges each"
    elif estimated:
        sentence = "What the camera did is estimated from several pictures, a network learns on each one alone, and"
        sentence += " enlarges it"
    return Plan(
        "enhance",
        f"Enhance {'a region of ' * (asked.region is not None)}{_named(chosen)} {_shown(asked)}",
        lambda n: ["enhance", *paths, "-o", f"results/{n}_enhance/", *more],
        "case" if together or estimated else "internal",
        f"{sentence} {asked.scale} times a side."
        + _ONE_PICTURE * (asked.degradation == "auto" and len(paths) == 1)
        + " Where nothing can be estimated, the label is internal." * (anew and not together),
        (_ONE_CAMERA,) * (estimated and len(paths) > 1),
        perhaps_internal=anew and not together,
    )


def _track(_case: Case, chosen: list[Original], options: Mapping[str, Any], sizes: Mapping[str, Size]) -> Plan:
    asked = _options("track", forms.Track, options)
    (video,) = _only(chosen, "video", "following a region", one=True)
    if (asked.region is None) == (asked.corners is None):
        raise CommandError("mark a rectangle or four corners in a frame first")
    if asked.region is not None:
        _check_region(asked.region, sizes.get(video.id))
        _check_side(*asked.region[2:])
        mark = ["--region", ",".join(map(str, asked.region))]
    else:
        xs, ys = zip(*(asked.corners or ()), strict=True)
        _check_side(round(max(xs) - min(xs)), round(max(ys) - min(ys)))
        around = math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)), math.ceil(max(ys))
        _check_region((*around[:2], around[2] - around[0], around[3] - around[1]), sizes.get(video.id))
        mark = ["--corners", ",".join(f"{value:g}" for point in asked.corners or () for value in point)]
    stem = PurePosixPath(video.path).stem
    return Plan(
        "track",
        f"Follow a region through {video.name}",
        lambda n: [
            *("video", "track", video.path, *mark, "--frame", str(asked.frame)),
            *("-o", f"tracks/{n}_{stem}.json"),
        ],
        None,
        f"Follows the region through the video both ways from frame {asked.frame}, until it is lost.",
    )


def _fuse(case: Case, chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    asked = _options("fuse", forms.Fuse, options)
    more = ["-s", str(asked.scale), "--mean", _MEANS[asked.method]]
    if asked.track is not None:
        (video,) = _only(chosen, "video", "fusing a track", one=True)
        track = _track_of(case, video, asked.track)
        used = min(track["tracked"], asked.frames or track["tracked"])
        paths, stem, shown = [video.path], asked.track, f"{_count(used, 'frame')} of {track['name']}"
        more += ["--track", f"tracks/{asked.track}.json"]
        if asked.frames is not None:
            more += ["--frames", str(asked.frames)]
    else:
        paths, stem, used = [file.path for file in _only(chosen, "image", "fusing pictures")], "burst", len(chosen)
        shown = f"{_named(chosen)} as one burst"
        ids = [file.id for file in chosen]
        if asked.reference is not None and asked.reference not in ids:
            raise CommandError("the picture whose moment is shown is not among those that are fused")
        more += ["--reference", str(ids.index(asked.reference) if asked.reference else 0)]
    if used < 2:
        raise CommandError("fusing takes at least two frames of one scene")
    return Plan(
        "fuse",
        f"Fuse {shown} {_shown(asked)}",
        lambda n: ["fuse", *paths, "-o", f"results/{n}_fuse/{stem}_fused.png", *more],
        "fused" if asked.method == "fuse" else "internal",
        f"Fuses frames of one scene into one picture, {asked.scale} times as large a side; "
        "frames that show something else have no part.",
    )


def _track_of(case: Case, video: Original, name: str) -> results.Facts:
    """A track of a video. Raises CommandError, CaseError."""
    track = results.find(tracks.tracks(case), name, "track")
    if track["original"] != video.id:
        raise CommandError(f"{track['name']}: is a track of another video than {video.name}")
    return track


def _video(case: Case, chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    asked = _options("video", forms.Video, options)
    (video,) = _only(chosen, "video", "enhancing a video", one=True)
    more, name = ["--preset", asked.method, "-s", str(asked.scale), "--lossy"], video.name
    if asked.track is not None:
        name = _track_of(case, video, asked.track)["name"]
        more += ["--track", f"tracks/{asked.track}.json"]
    stem = PurePosixPath(video.path).stem
    return Plan(
        "video",
        f"Enhance {name}, frame by frame, {_shown(asked)}",
        lambda n: ["enhance", video.path, "-o", f"results/{n}_video/{stem}_x{asked.scale}.nut", *more],
        "internal",
        f"A network learns on frames of this video alone, and enlarges each frame {asked.scale} times a side. "
        "The result has no sound.",
    )


def _compare(_case: Case, chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    asked = _options("compare", forms.Compare, options)
    known = {"bicubic", "back-projected", *PRESETS}
    if unknown := [name for name in asked.methods if name not in known]:
        raise CommandError(f"there is no method {unknown[0]} to compare; choose among {', '.join(sorted(known))}")
    (image,) = _only(chosen, "image", "comparing methods", one=True)
    stem = PurePosixPath(image.path).stem
    return Plan(
        "compare",
        f"Compare {', '.join(_TITLES.get(name, name) for name in asked.methods)} on {image.name}",
        lambda n: [
            *("compare", image.path, "--models", ",".join(asked.methods), "--evidence"),
            *("-o", f"results/{n}_compare/{stem}.png"),
        ],
        "internal",
        f"Shows what {_count(len(asked.methods), 'method')} make of one picture, side by side on a sheet.",
    )


def _report(_case: Case, _chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    _options("report", forms.Nothing, options)
    return Plan(
        "report",
        "Make the report",
        lambda _n: ["case", "report", ".", "-o", "report/index.html", "--overwrite"],
        None,
        "Writes one page with every result beside its original, its label, its hashes and what was assumed.",
    )


def _package(_case: Case, _chosen: list[Original], options: Mapping[str, Any], _sizes: Mapping[str, Size]) -> Plan:
    _options("package", forms.Nothing, options)
    return Plan(
        "package",
        "Make the court package",
        lambda n: ["case", "package", ".", "-o", f"report/{n}_package.zip"],
        None,
        "Writes a zip of originals, results, records, tracks, report, commands and versions, with the hash of each.",
    )


def _check_side(width: int, height: int) -> None:
    if min(width, height) < FOLLOWED_SIDE:
        raise CommandError(
            f"the region of {width} x {height} pixels is too small to follow: mark {FOLLOWED_SIDE} a side or more"
        )


def _check_region(region: tuple[int, int, int, int], size: Size | None) -> None:
    left, top, width, height = region
    beyond = size is not None and (left + width > size[0] or top + height > size[1])
    if beyond or width < 1 or height < 1 or left < 0 or top < 0:
        inside = "" if size is None else f" of {size[0]} x {size[1]} pixels"
        raise CommandError(
            f"the region {','.join(map(str, region))} does not lie inside the picture{inside}; mark it again"
        )


def _named(chosen: list[Original]) -> str:
    more = f" and {_count(len(chosen) - 1, 'more picture')}" if len(chosen) > 1 else ""
    return f"{chosen[0].name}{more}"


def _shown(asked: forms.Enhance | forms.Fuse | forms.Video) -> str:
    return f"{_TIMES}{asked.scale} ({_TITLES[asked.method]})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_PLANS: Mapping[str, Callable[[Case, list[Original], Mapping[str, Any], Mapping[str, Size]], Plan]] = {
    "degradation": _degradation,
    "camera": _camera,
    "enhance": _enhance,
    "track": _track,
    "fuse": _fuse,
    "video": _video,
    "compare": _compare,
    "report": _report,
    "package": _package,
}
