"""What lies in a case: results by their records, estimates of the camera; as the page shows them.

Files may come from another machine, so nothing in them is taken as a path, and what cannot be read is left out. Keys
that begin with `_` are for the server: `_paths` names files by what they are ("result", "record", "plain", "evidence",
"input", "lossy", "sheet", "plot"), and holds those that are there.
"""

import json
import struct
from pathlib import Path
from typing import Any

from zssr_gan.files import canonical_sha256
from zssr_gan.provenance import LABELS, scale_text
from zssr_gan.web import log
from zssr_gan.web.case_folder import Case, CaseError
from zssr_gan.web.names import job_number
from zssr_gan.web.opened import results_in

Facts = dict[str, Any]

_HANDED_OVER = ("report", "package")
_SAID = "sound is left out"  # which `made` says of every video
_EDITS = {
    "received": "the file {}",
    "track edited": "an edit of the track {}",
    "track named": "the name {} of a track",
    "case edited": "an edit of the title, number or operator of the case",
}

_BLURS = {  # as `summary` of `zssr_gan.degradation.model` has them, which needs torch
    "gaussian": "blur of {sigma_major:.2f} x {sigma_minor:.2f} LR pixels at {angle_degrees:.0f} degrees",
    "motion": "motion of {length:.2f} LR pixels at {angle_degrees:.0f} degrees",
    "defocus": "defocus, a disk with a radius of {radius:.2f} LR pixels",
    "kernel": "a blur kernel",
}

MAPS = {
    "views": (
        "levels of 255",
        "How far turned and flipped views disagree. Bright: a guess. Dark: consistent with the input, not proven.",
    ),
    "frames": (
        "frames",
        "How many frames each pixel rests on, in effect. Bright: few, so a guess. Dark: many, not proven.",
    ),
}
"""The evidence maps by what they show: unit, and meaning. Bright is doubt in all of them."""

# Of a file whose content is another than its kind has.
BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, RecursionError)


def results(case: Case) -> list[Facts]:
    """The results in the order of their jobs, then those of the folder that was opened."""
    commands, found = _commands(case), []
    folders = [case.folder / "results", *([Path(case.facts.opened_from)] if case.facts.opened_from else [])]
    by_hash = {one.sha256: one for one in reversed(case.originals())}
    for path in (path for folder in folders for path in results_in(folder)):
        try:
            content = json.loads(path.read_bytes())
            one = _result(path, content)
            job = _job_of(case, path)
            inputs = [by_hash[sha256] for sha256 in dict.fromkeys(one.pop("inputs")) if sha256 in by_hash]
            if inputs:
                one["_paths"]["input"] = case.path_of(inputs[0])
            one |= {
                "id": _id(case, path),
                "job": job,
                "originals": [original.id for original in inputs],
                "command": commands.get(job) or one["command"],
                "evidence": "evidence" in one["_paths"],
                "bicubic": "plain" in one["_paths"] or (one["plain"] and bool(inputs)),
                "record": _shown(case, path),
            }
            found.append(one)
        except BROKEN:
            continue
    return sorted(found, key=lambda one: (one["job"] is None, one["job"] or 0, one["record"]))


def estimates(case: Case) -> list[Facts]:
    """The estimates of the camera."""
    found = []
    records = (
        path for kind in ("degradation", "camera") for path in (case.folder / "results").glob(f"*_{kind}/*.json")
    )
    for number, path in sorted((job_number(path.parent), path) for path in records):
        try:
            content = json.loads(path.read_bytes())
            images = len(content["images"])
            found.append(
                {
                    "id": str(number),
                    "name": f"Estimate {number}, from {images} image{'' if images == 1 else 's'}"
                    if images
                    else f"Set by hand ({number})",
                    "by_hand": images == 0,
                    "summary": _summary(path) or str(content["why"]),
                    "why": str(content["why"]),
                    "certain": not content["fallback"],
                    "plot": path.with_suffix(".png").is_file(),
                    "_paths": there(record=path, plot=path.with_suffix(".png")),
                }
            )
        except BROKEN:
            continue
    return found


def find(found: list[Facts], name: str, what: str) -> Facts:
    """The one of this id. Raises CaseError."""
    for one in found:
        if one["id"] == name:
            return one
    raise CaseError(f"the case has no {what} {name}; load the page again")


def handed_over(case: Case) -> dict[str, Facts | None]:
    """When the report and the package were made last, and what came since; None of what was not made.

    `since` lists what is not in it, or only in part: jobs, files and edits, in the order of the log.
    """
    made: dict[str, tuple[str, int]] = {}  # the time, and the last line of the log that it knows of
    names, began, came = dict[str, tuple[str, str]](), dict[str, int](), list[tuple[int, str]]()
    for entry in log.read_log(case.folder):
        act, facts, line, job = entry["act"], entry["facts"], entry["n"], str(entry["facts"].get("job"))
        kind, name = names.get(job, ("", f"job {job}"))
        if act == "job queued":
            names[job] = str(facts.get("kind")), f"job {job} ({facts.get('title')})"
        elif act == "job started":
            began[job] = line
        elif act == "job ended":
            start = began.pop(job, line)
            if kind in _HANDED_OVER and facts.get("state") == "done":
                made[kind] = entry["time"], start
            elif kind not in _HANDED_OVER and facts.get("files"):
                came.append((line, name))
        elif act == "report made":
            of = facts.get("of_entries")
            made["report"] = entry["time"], of if isinstance(of, int) else line
        elif act in _EDITS:
            came.append((line, _EDITS[act].format(facts.get("name") or facts.get("track"))))
    running = [f"{names[job][1]}, which runs" for job in began if job in names and names[job][0] not in _HANDED_OVER]
    handed: dict[str, Facts | None] = dict.fromkeys(_HANDED_OVER)
    for kind, (time, known) in made.items():
        handed[kind] = {"made": time, "since": [text for line, text in came if line > known] + running}
    return handed


def latest_package(case: Case) -> Path | None:
    """The last package that was made of the case."""
    found = (path for path in (case.folder / "report").glob("*_package.zip") if not path.is_symlink())
    made = sorted(found, key=job_number)
    return made[-1] if made else None


def _result(path: Path, content: Facts) -> Facts:
    """What a record of any kind says; `inputs`: SHA-256 of what it was made of."""
    output = path.with_name(Path(content["output"]["name"]).name)
    label = content["label"] if content["label"] in LABELS else None
    one: Facts = {"name": output.name, "label": label, "tag": label, "command": "", "assumed": _assumed(content)}
    one["means"] = str(content["label_means"])
    if "fusion_version" in content:
        width, height = _png_size(output)
        hashes = [frame["sha256"] for frame in content["frames"]]
        video = content["video"]["sha256"] if content.get("video") else None
        stem = output.stem
        plain, evidence = output.with_name(f"{stem}_bicubic{output.suffix}"), output.with_name(f"{stem}_evidence.png")
        return one | {
            "kind": "image",
            "map": "frames",
            "plain": False,
            "region": None,
            "frame": None,
            "frames": None,
            "inputs": [hashes[content["reference"]], *hashes] if video is None else [video],
            "width": width,
            "height": height,
            "scale": scale_text((content["scale"], content["scale"])),
            "method": "fused" if content["mean"] is None else "fused and learnt",
            "camera": _camera(content["degradation"]),
            "area": canonical_sha256([content["frames"][content["reference"]].get(key) for key in ("sha256", "box")]),
            **_verdict(content),
            **_of_one_frame(content, label),
            "_paths": there(result=output, record=path, plain=plain, evidence=evidence),
        }
    request, is_clip = content["request"], "clip_version" in content
    work = content if is_clip else content["enhancement"]
    paths = {"result": output, "record": path}
    if not is_clip and content["evidence"]:
        paths["evidence"] = path.with_name(Path(content["evidence"]["name"]).name)
    if is_clip and content["lossy"]:
        paths["lossy"] = path.with_name(Path(content["lossy"]["name"]).name)
    first = content["frames"][0] if is_clip else {"index": None, "field": None, "box": request["region"]}
    made = f"{len(content['frames'])} frames of the video, without its sound" if is_clip else ""
    return one | {
        "kind": "video" if is_clip else "image",
        "map": "views",
        "plain": first["field"] is None,
        "inputs": [content["input"]["sha256"]],
        "width": int(content["output"]["width"]),
        "height": int(content["output"]["height"]),
        "scale": scale_text(request["scale"]),
        "region": first["box"],
        "frame": first["index"],
        "frames": len(content["frames"]) if is_clip else None,
        "method": str(request["preset"]),
        "camera": _camera(request["degradation"]),
        "area": canonical_sha256([content["input"]["sha256"], first["index"], first["box"]]),
        "made": made,
        "notices": [text for text in map(str, (*work.get("warnings", ()), *work["notices"])) if _SAID not in text],
        "command": str(content.get("command_line", "")),
        "_paths": there(**paths),
    }


def _of_one_frame(fusion: Facts, label: str | None) -> Facts:
    """What the label is shown as and means, where fusing did not pay; empty where several frames are fused."""
    if fusion["verdict"]["fuse"]:
        return {}
    means = f"This is one frame, not several fused: {fusion['verdict']['reason']}. {fusion['label_means']}"
    return {"tag": f"{label}: one frame alone", "means": means}


def _verdict(fusion: Facts) -> Facts:
    """What was made of the frames: `made` is a sentence, `notices` are what to be wary of."""
    frames, video, verdict = fusion["frames"], fusion["video"] or {}, fusion["verdict"]
    used = sum(frame["rejected"] is None for frame in frames)
    without = [*video.get("left_out", ()), *(frame for frame in frames if frame["rejected"] is not None)]
    made, notices = f"{used} frames fused", list[str]()
    if not verdict["fuse"]:
        made = "one frame, restored alone: fusing the others with it does not pay"
    if video.get("track_edited"):
        moved = [str(frame["index"]) for frame in video.get("track", {}).get("frames", ()) if frame.get("edited")]
        by_hand = f" Corners set by hand: frames {', '.join(moved)}." if moved else ""
        notices.append(f"The track was edited after it was written, and is used as it was edited.{by_hand}")
    if without:
        numbers = ", ".join(str(frame.get("index", frame.get("name"))) for frame in without[:20])
        notices.append(f"Frames left out: {numbers}{', ...' if len(without) > 20 else ''}. The record says why.")
    if verdict["fuse"] and (share := fusion["reference_alone"]):
        notices.append(
            f"In {share:.0%} of the region the other frames show something else: the reference counts alone."
        )
    return {"made": f"{made} ({verdict['reason']})" if verdict["fuse"] else made, "notices": notices}


def _assumed(content: Facts) -> str:
    """What was taken for the camera's doing, and why."""
    assumed = content["degradation"] if "fusion_version" in content else content["request"]["degradation"]
    values = assumed["values"] or {}
    blur, noise, jpeg = (values.get(name) for name in ("blur", "noise", "jpeg"))
    parts = [
        blur and _blur(blur),
        noise and f"noise {255 * noise['sigma']:.1f}/255",
        content.get("compression") or (jpeg and f"JPEG compression of quality {jpeg['quality']}"),
    ]
    return "; ".join(filter(None, [", ".join(filter(None, parts)), str(assumed["why"])]))


def _blur(blur: dict[str, Any]) -> str:
    if blur["kind"] == "kernel" and blur["values"] == [[blur["values"][0][0]] * blur["scale"][1]] * blur["scale"][0]:
        return "square pixels, with no other blur"
    return _BLURS[blur["kind"]].format_map(blur)


def _camera(assumed: Facts) -> str:
    """What was taken for the camera's doing, in a few words that tell two results apart."""
    values = assumed["values"] or {}
    blur, noise, jpeg = (values.get(name) for name in ("blur", "noise", "jpeg"))
    size = blur and next((blur[key] for key in ("sigma_major", "length", "radius") if key in blur), None)
    parts = [
        blur and ("blur" if size is None else f"blur {size:.2g} px"),
        noise and f"noise {255 * noise['sigma']:.2g}",
        jpeg and f"JPEG {jpeg['quality']}",
    ]
    return ", ".join(filter(None, parts)) or "no camera assumed"


def _commands(case: Case) -> dict[int | None, str]:
    """The command of each job, by its log."""
    lines = (entry["facts"] for entry in log.read_log(case.folder) if entry["act"] == "job queued")
    return {facts.get("job"): log.command_of(facts) for facts in lines}


def _job_of(case: Case, path: Path) -> int | None:
    """The number of the job in whose folder a record lies."""
    folder = case.folder / "results"
    return job_number(Path(path.relative_to(folder).parts[0])) or None if path.is_relative_to(folder) else None


def _id(case: Case, path: Path) -> str:
    return canonical_sha256(_shown(case, path))[:16]


def _shown(case: Case, path: Path) -> str:
    """A path as a command in the case's folder takes it."""
    return path.relative_to(case.folder).as_posix() if path.is_relative_to(case.folder) else str(path)


def there(*, record: Path, **paths: Path) -> dict[str, Path]:
    """The files that are there, as `_paths`. Raises OSError where the record itself is none, or lies behind a link."""
    if record.is_symlink() or record.parent.is_symlink() or not record.is_file():
        raise FileNotFoundError(record)
    paths["record"] = record
    return {name: path for name, path in paths.items() if path.is_file() and not path.is_symlink()}


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height in the header of a PNG. Raises ValueError."""
    with path.open("rb") as file:
        head = file.read(24)
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)


def _summary(estimate: Path) -> str:
    """What the command said that is assumed."""
    try:
        lines = estimate.with_name("printed.txt").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((line.removeprefix("assumed").strip() for line in lines if line.startswith("assumed ")), "")
