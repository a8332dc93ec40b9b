"""The tracks of a case: regions that were followed through a video, which people edit and name."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zssr_gan.files import atomic_write, locked, sha256_bytes
from zssr_gan.web import log
from zssr_gan.web.case_folder import LOCK, Case, CaseError
from zssr_gan.web.names import job_number
from zssr_gan.web.results import BROKEN, Facts, find, there

_LONGEST_NAME = 80
_EDITED = re.compile(r"-edited-(\d+)$")


def tracks(case: Case) -> list[Facts]:
    """The tracks, by the numbers of their jobs; edited ones follow the track that they were made of."""
    originals = {one.sha256: one for one in reversed(case.originals())}
    found = list[Facts]()
    for path in sorted((case.folder / "tracks").glob("*.json"), key=lambda path: (job_number(path), path.stem)):
        try:
            content = json.loads(path.read_bytes())
            original, frames = originals.get(content["sha256"]), content["frames"]
            used = sum(frame["status"] == "tracked" for frame in frames)
            found.append(
                {
                    "id": path.stem,
                    "name": original.name if original else "",
                    "original": original.id if original else None,
                    "region": [int(side) for side in content["region"]],
                    "reference": int(content["reference"]),
                    "tracked": used,
                    "lost": len(frames) - used,
                    "edited": [int(frame["index"]) for frame in frames if frame.get("edited")],
                    "ended": [str(why) for why in content["ended"]],
                    "_paths": there(record=path, sheet=path.with_suffix(".png")),
                }
            )
        except BROKEN:
            continue
    entries = log.read_log(case.folder)
    names, numbers = _names(entries), _numbers(entries, found)
    return [one | {"name": names.get(one["id"]) or _unnamed(one["id"], numbers, one["name"])} for one in found]


def edit_track(case: Case, name: str, frames: list[Mapping[str, Any]], user: str) -> Facts:
    """Write a track with other corners or states of frames as a new file, and log it.

    Args:
        case: of the track.
        name: its id.
        frames: `index`, and `corners` (four of x, y) or `status` ("tracked", or why the frame is left out), or both.
        user: who edits.

    Raises:
        CaseError: no such track or frame, or corners that are no numbers.
        OutputError: it cannot be written.
    """
    with locked(case.folder / LOCK):
        path = find(tracks(case), name, "track")["_paths"]["record"]
        data = _edited(json.loads(path.read_bytes()), name, frames)
        base = _EDITED.sub("", name)
        targets = (path.with_name(f"{base}-edited-{number}.json") for number in itertools.count(1))
        target = next(one for one in targets if not one.exists())
        atomic_write(target, data)
        facts = {"track": name, "written": f"tracks/{target.name}", "sha256": sha256_bytes(data), "frames": len(frames)}
        log.append(case.folder, user, "track edited", **facts)
        return find(tracks(case), target.stem, "track")


def _edited(content: Facts, name: str, frames: list[Mapping[str, Any]]) -> bytes:
    """The file of a track with edited frames. Raises CaseError."""
    own = {frame["index"]: frame for frame in content["frames"]}
    for edit in frames:
        if (frame := own.get(edit.get("index"))) is None:
            raise CaseError(f"the track {name} has no frame {edit.get('index')}")
        if (corners := edit.get("corners")) is not None:
            # The figures are of the place where it was found.
            frame |= {"corners": _corners(corners, frame["index"]), "edited": True}
            frame |= {"error_px": None, "backward_px": None, "correlation": None}
        if (status := edit.get("status")) is not None:
            frame["status"] = " ".join(str(status).split())[:200] or "left out"
    lines = ",\n".join(f"  {json.dumps(frame)}" for frame in content.pop("frames"))
    head = json.dumps(content, indent=1).removesuffix("\n}")
    return f'{head},\n "frames": [\n{lines}\n ]\n}}\n'.encode()


def name_track(case: Case, track: str, name: str, user: str) -> Facts:
    """Give a track a name, which its log has; the file keeps its own. Raises CaseError: no such track, or no name."""
    find(tracks(case), track, "track")
    name = " ".join(name.split())
    if not (name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
        raise CaseError(f"the name of a track has 1 to {_LONGEST_NAME} characters that can be printed; type one")
    log.append(case.folder, user, "track named", track=track, name=name)
    return find(tracks(case), track, "track")


def _unnamed(stem: str, numbers: Mapping[str, int], video: str) -> str:
    """A track that nobody named: by its number, its video, and how often it was edited."""
    edited, number = _EDITED.search(stem), numbers.get(_EDITED.sub("", stem))
    parts = [
        f"Track {number}" if number else stem,
        f"of {video}" if video else "",
        f"(edit {edited[1]})" if edited and number else "",
    ]
    return " ".join(filter(None, parts))


def _numbers(entries: list[dict[str, Any]], found: list[Facts]) -> dict[str, int]:
    """1, 2, 3 of the tracks of each video, by ids, in the order in which the log has the ends of their jobs.

    So a track keeps its number when a job that was queued before its own ends later. Edited tracks are none of their
    own, and files that no job made have no number.
    """
    ended = [entry["facts"].get("files") for entry in entries if entry["act"] == "job ended"]
    paths = dict.fromkeys(path for files in ended if isinstance(files, dict) for path in files)
    order = {path: place for place, path in enumerate(paths)}
    videos = {_EDITED.sub("", one["id"]): one["original"] for one in found if job_number(Path(one["id"]))}
    counts, numbers = Counter[str | None](), dict[str, int]()
    for stem in sorted(videos, key=lambda one: (order.get(f"tracks/{one}.json", len(order)), job_number(Path(one)))):
        counts[videos[stem]] += 1
        numbers[stem] = counts[videos[stem]]
    return numbers


def _names(entries: list[dict[str, Any]]) -> dict[str, str]:
    """The names that people gave, by ids."""
    named = (entry["facts"] for entry in entries if entry["act"] == "track named")
    return {str(facts.get("track")): str(facts.get("name")) for facts in named}


def _corners(corners: Any, index: int) -> list[list[float]]:
    try:
        points = [[float(x), float(y)] for x, y in corners]
    except (TypeError, ValueError):
        points = []
    if len(points) != 4 or not all(abs(value) < 1e6 for point in points for value in point):  # NaN is not below
        raise CaseError(f"the corners of frame {index} are not four pairs of numbers x, y")
    return points
