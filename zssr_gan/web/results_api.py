"""The routes of what jobs made: results, estimates, tracks, report and package."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from zssr_gan.web import results, tracks
from zssr_gan.web.body import Form, body
from zssr_gan.web.case_folder import Case, CaseError
from zssr_gan.web.pictures import key_of
from zssr_gan.web.pictures_api import download, picture
from zssr_gan.web.refusals import Refusal, sentence
from zssr_gan.web.site import Person, Site

# The report is one file with its own style; it can load nothing, and without scripts it leads nowhere by itself.
_REPORT = {
    "content-security-policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'"
}
_LOSSY = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm"}


class EditedFrame(Form):
    """One of PUT .../tracks/T."""

    index: int
    corners: list[list[float]] | None = None
    status: Annotated[str, Field(max_length=200)] | None = None


class EditedTrack(Form):
    """Of PUT .../tracks/T: the frames that changed."""

    frames: Annotated[list[EditedFrame], Field(max_length=100_000)]


class TrackName(Form):
    """Of PUT .../tracks/T/name."""

    name: Annotated[str, Field(max_length=200)]


async def view(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/view.png: a result with all its pixels; of a video, its frame ?frame=N."""
    _, one = await _result(site, request, person)
    path = _path(one, "result")
    if one["kind"] == "video":
        number, _ = await asyncio.to_thread(_frame, one, request)
        return await _made(site, path, "show_frames", f"frame-{number}.png", {"first": number, "last": number})
    if path.suffix.lower() == ".png":
        return await picture(path)
    return await _made(site, path, "show_result", "view.png")


async def bicubic(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/bicubic.png: the plain enlargement, at the result's size; of a video's frame ?frame=N."""
    _, one = await _result(site, request, person)
    if (plain := one["_paths"].get("plain")) is not None:
        if plain.suffix.lower() == ".png":
            return await picture(plain)
        return await _made(site, plain, "show_result", "view.png")
    size = {name: one[name] for name in ("width", "height", "region", "frame")}
    if one["kind"] == "video":
        _, of = await asyncio.to_thread(_frame, one, request)
        size |= {"region": of["box"], "frame": of["index"]}
    name = f"bicubic-{hashlib.sha256(json.dumps(size).encode()).hexdigest()[:16]}.png"
    return await _made(site, _path(one, "input"), "show_bicubic", name, {**size, "name": name})


async def frames(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/frames: of each frame of a video, which one of the original it is."""
    _, one = await _result(site, request, person)
    return JSONResponse([frame["index"] for frame in await asyncio.to_thread(_frames, one)])


async def evidence(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/evidence.png: the first evidence map at the result's size, with its scale in a header."""
    _, one = await _result(site, request, person)
    path, reverse = _path(one, "evidence"), one["map"] == "frames"
    size = {"width": one["width"], "height": one["height"], "reverse": reverse}
    name = f"map-{one['width']}x{one['height']}{'-reverse' * reverse}.png"
    await asyncio.to_thread(site.pictures.stored, key_of(path), f"{name}.json")  # a damaged one goes
    answer = await _made(site, path, "show_map", name, {**size, "name": name}, beside=f"{name}.json")
    known = await asyncio.to_thread(site.pictures.stored, key_of(path), f"{name}.json")
    limit = None if known is None else known["limit"]
    unit, text = results.MAPS[one["map"]]
    dark, bright = (limit, 0) if reverse else (0, limit)
    answer.headers["x-zssr-gan-scale"] = json.dumps({"dark": dark, "bright": bright, "unit": unit, "text": text})
    return answer


async def record(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/record.json."""
    _, one = await _result(site, request, person)
    return FileResponse(_path(one, "record"), media_type="application/json")


async def file(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/file: the result itself, to be saved."""
    case, one = await _result(site, request, person)
    return await download(site, request, person, case, _path(one, "result"))


async def lossy(site: Site, request: Request, person: Person) -> Response:
    """GET .../results/R/lossy: the copy of a video that a browser plays, by ranges."""
    _, one = await _result(site, request, person)
    path = _path(one, "lossy")
    return FileResponse(path, media_type=_LOSSY.get(path.suffix.lower(), "application/octet-stream"))


async def plot(site: Site, request: Request, person: Person) -> Response:
    """GET .../estimates/E/plot.png."""
    _, one = await _found(site, request, person, results.estimates, "estimate")
    return await picture(_path(one, "plot"))


async def track(site: Site, request: Request, person: Person) -> Response:
    """GET .../tracks/T: its file, with id, name and original."""
    _, one = await _found(site, request, person, tracks.tracks, "track")
    content = json.loads(await asyncio.to_thread(_path(one, "record").read_bytes))
    return JSONResponse({**content, **{name: one[name] for name in ("id", "name", "original")}})


async def sheet(site: Site, request: Request, person: Person) -> Response:
    """GET .../tracks/T/sheet.png: its frames side by side."""
    _, one = await _found(site, request, person, tracks.tracks, "track")
    return await picture(_path(one, "sheet"))


async def edit_track(site: Site, request: Request, person: Person) -> Response:
    """PUT .../tracks/T: a new track with what was edited."""
    form = await body(request, EditedTrack)
    edits: list[Mapping[str, Any]] = [frame.model_dump(exclude_none=True) for frame in form.frames]

    def edit() -> dict[str, Any]:
        case = site.case(request.path_params["case"], person)
        made = tracks.edit_track(case, request.path_params["track"], edits, person.name)
        site.events.changed(case.id)
        return public(made)

    return JSONResponse(await asyncio.to_thread(edit), 201)


async def name_track(site: Site, request: Request, person: Person) -> Response:
    """PUT .../tracks/T/name."""
    form = await body(request, TrackName)

    def name() -> dict[str, Any]:
        case = site.case(request.path_params["case"], person)
        named = tracks.name_track(case, request.path_params["track"], form.name, person.name)
        site.events.changed(case.id)
        return public(named)

    return JSONResponse(await asyncio.to_thread(name))


async def package(site: Site, request: Request, person: Person) -> Response:
    """GET .../package.zip: the last one that was made."""
    case = await asyncio.to_thread(site.case, request.path_params["case"], person)
    path = await asyncio.to_thread(results.latest_package, case)
    if path is None:
        raise Refusal(404, "no package was made of this case yet: make one first.")
    return await download(site, request, person, case, path, f"{case.id}.zip")


async def report(site: Site, request: Request, person: Person) -> Response:
    """GET .../report/index.html."""
    case = await asyncio.to_thread(site.case, request.path_params["case"], person)
    path = case.folder / "report" / "index.html"
    if not path.is_file() or path.is_symlink():
        raise Refusal(404, "no report was made of this case yet: make one first.")
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=_REPORT)


def public(one: dict[str, Any]) -> dict[str, Any]:
    """What the page gets of a result, an estimate or a track: without the server's own keys."""
    return {name: value for name, value in one.items() if not name.startswith("_")}


def keys_of(case: Case) -> set[str]:
    """The names under which pictures of a case's files are stored."""
    made = {path for one in results.results(case) for path in one["_paths"].values()}
    return {key_of(path) for path in made} | {key_of(case.path_of(one), one.sha256) for one in case.originals()}


async def _result(site: Site, request: Request, person: Person) -> tuple[Case, dict[str, Any]]:
    return await _found(site, request, person, results.results, "result")


async def _found(
    site: Site, request: Request, person: Person, kind: Callable[[Case], list[dict[str, Any]]], what: str
) -> tuple[Case, dict[str, Any]]:
    def find() -> tuple[Case, dict[str, Any]]:
        case = site.case(request.path_params["case"], person)
        try:
            return case, results.find(site.made(case, f"{what}s", kind), request.path_params[what], what)
        except CaseError as error:
            raise Refusal(404, sentence(error)) from error

    return await asyncio.to_thread(find)


def _frames(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames of a video, as its record has them."""
    if one["kind"] != "video":
        raise Refusal(404, f"{one['name']}: is no video.")
    content: list[dict[str, Any]] = json.loads(_path(one, "record").read_bytes())["frames"]
    return content


def _frame(one: dict[str, Any], request: Request) -> tuple[int, dict[str, Any]]:
    """The number of the frame that is asked for, of the first where none is, and the frame."""
    asked, known = request.query_params.get("frame", "0"), _frames(one)
    if not re.fullmatch(r"[0-9]{1,9}", asked) or int(asked) >= len(known):
        raise Refusal(404, f"{one['name']}: has no frame {asked[:20]}; it has {len(known)}, from 0 on.")
    return int(asked), known[int(asked)]


def _path(one: dict[str, Any], name: str) -> Path:
    path: Path | None = one["_paths"].get(name)
    if path is None:
        raise Refusal(404, f"{one['name']}: has no {name}, or it is not there any more.")
    return path


async def _made(
    site: Site, path: Path, task: str, name: str, arguments: dict[str, Any] | None = None, *, beside: str | None = None
) -> Response:
    """A picture of a file of ours, made with `beside` when it is first asked for, and again where the file changed."""
    key = key_of(path)
    if (made := site.pictures.place(key, name)) is None or not site.pictures.place(key, beside or name):
        await asyncio.wrap_future(site.pictures.make(key, task, {"path": str(path), **(arguments or {})}, once=name))
        made = site.pictures.place(key, name)
    if made is None:
        raise Refusal(404, f"{path.name}: has no such picture.")
    return await picture(made)
