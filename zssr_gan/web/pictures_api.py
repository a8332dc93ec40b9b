"""The routes of pictures: of originals, of frames of videos."""

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from zssr_gan.web import log
from zssr_gan.web.case_folder import Case, Original
from zssr_gan.web.pictures import CHANGED, SECONDS, key_of
from zssr_gan.web.refusals import Refusal
from zssr_gan.web.site import Person, Site

_PATIENCE_S = 1.5  # until frames that are known by now are given
_WINDOW = 24  # frames that are decoded at once
_POLL_S = 0.02
_HASHED_A_SECOND = 50_000_000  # bytes, at least

PICTURE = {"cache-control": "private, max-age=3600"}  # its address names what never changes
_ATTACHMENT = {"content-security-policy": "sandbox; default-src 'none'"}


async def picture(path: Path) -> Response:
    """A PNG as an answer."""
    return Response(await asyncio.to_thread(path.read_bytes), media_type="image/png", headers=PICTURE)


async def download(site: Site, request: Request, person: Person, case: Case, path: Path, name: str = "") -> Response:
    """A file to be saved, never shown as a page of this server; first the log has who takes which bytes."""

    def note() -> None:
        shown = path.relative_to(case.folder).as_posix() if path.is_relative_to(case.folder) else str(path)
        log.append(case.folder, person.name, "downloaded", file=shown, sha256=site.hash_of(path))

    if request.method == "GET":  # HEAD takes nothing
        await asyncio.to_thread(note)
    return FileResponse(path, media_type="application/octet-stream", filename=name or path.name, headers=_ATTACHMENT)


async def wait_for(work: Future[None], seconds: float) -> bool:
    """Wait at most so long; whether the work has ended. Raises Refusal where it could not be done."""
    waiting = asyncio.wrap_future(work)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # also where nobody waits any more
    ended, _ = await asyncio.wait([waiting], timeout=seconds)
    for one in ended:
        one.result()
    return bool(ended)


def look(site: Site, case: Case, original: Original) -> Future[None]:
    """Begin to find the facts of an original; those who look at its case are told when they are there."""
    arguments = {"path": str(case.path_of(original)), "sha256": original.sha256}
    seconds = SECONDS + original.bytes // _HASHED_A_SECOND
    return site.pictures.make(
        _key(case, original),
        _look_task(original),
        arguments,
        seconds=seconds,
        then=lambda: site.events.changed(case.id),
    )


def _key(case: Case, original: Original) -> str:
    return key_of(case.path_of(original), original.sha256)


def _look_task(original: Original) -> str:
    return "look_at_video" if original.kind == "video" else "look_at_image"


def facts_of(site: Site, case: Case, original: Original) -> dict[str, Any]:
    """An original as the page gets it; `pending` while its facts are not known.

    `frames` and `seconds` of a video are what its container says; once all frames are listed, these are counted.
    """
    known: dict[str, Any] = {"width": None, "height": None, "frames": None, "seconds": None, "facts": []}
    problem, pending = None, False
    if original.kind == "other":
        problem = "is neither an image nor a video by the ending of its name: it is stored with its hash, no more"
    elif (facts := site.pictures.facts(_key(case, original))) is not None:
        known |= facts
        if original.kind == "video" and (length := site.pictures.length(_key(case, original))) is not None:
            known |= _counted(known, *length)
    else:
        problem = site.pictures.problem(_key(case, original), _look_task(original))
        if pending := problem is None:
            look(site, case, original)
    return original.model_dump(mode="json", exclude={"path"}) | known | {"problem": problem, "pending": pending}


def _counted(known: Mapping[str, Any], frames: int, seconds: float | None) -> dict[str, Any]:
    """Frames and seconds of a video as they were counted; the container's seconds where it holds all that it says."""
    is_told = known["seconds"] is not None and frames >= (known["frames"] or 0)
    return {"frames": frames, "seconds": known["seconds"] if is_told or seconds is None else seconds}


async def thumb(site: Site, request: Request, person: Person) -> Response:
    """GET .../originals/O/thumb.png."""
    case, original = await _original(site, request, person)
    return await _looked(site, case, original, "thumb.png")


async def view(site: Site, request: Request, person: Person) -> Response:
    """GET .../originals/O/view.png: an image with all its pixels; of a video, its first frame."""
    case, original = await _original(site, request, person)
    if original.kind == "video":
        return await _frame(site, case, original, 0)
    return await _looked(site, case, original, "view.png")


async def file(site: Site, request: Request, person: Person) -> Response:
    """GET .../originals/O/file: its bytes, to be saved."""
    case, original = await _original(site, request, person)
    path = case.path_of(original)
    if not path.is_file():
        raise Refusal(404, f"{original.name}: is not there any more.")
    if await asyncio.to_thread(site.hash_of, path) != original.sha256:
        raise Refusal(409, f"{original.name}: {CHANGED}.")
    return await download(site, request, person, case, path)


async def look_again(site: Site, request: Request, person: Person) -> Response:
    """POST .../originals/O/look: read a file anew that could not be read."""
    case, original = await _original(site, request, person)
    site.pictures.forget_problems(_key(case, original))
    return JSONResponse(facts_of(site, case, original))


async def frames(site: Site, request: Request, person: Person) -> Response:
    """GET .../originals/O/frames: those that are known by now, and whether these are all."""
    case, original = await _video(site, request, person)
    if (found := await asyncio.to_thread(listed, site, case, original)) is None:
        await wait_for(list_frames(site, case, original), _PATIENCE_S)
        found = await asyncio.to_thread(listed, site, case, original)
    if found is None:
        part = site.pictures.place(_key(case, original), "frames.part")
        lines = [] if part is None else part.read_bytes().split(b"\n")[:-1]
        known = [json.loads(line) for line in lines if line.startswith(b"{")]  # a power cut leaves zeros
        found = {"count": len(known), "complete": False, "frames": known}
    return JSONResponse(found)


def list_frames(site: Site, case: Case, original: Original) -> Future[None]:
    """Begin to list all frames of a video; those who look at its case are told when it is done."""
    return site.pictures.make(
        _key(case, original),
        "list_frames",
        {"path": str(case.path_of(original))},
        long=True,
        then=lambda: site.events.changed(case.id),
    )


def listed(site: Site, case: Case, original: Original) -> Any:
    """The frames of a video with their `count`, once all are known; else None."""
    return site.pictures.stored(_key(case, original), "frames.json")


async def frame(site: Site, request: Request, person: Person) -> Response:
    """GET .../originals/O/frames/N.png."""
    case, original = await _video(site, request, person)
    return await _frame(site, case, original, request.path_params["frame"])


async def _frame(site: Site, case: Case, original: Original, number: int) -> Response:
    """A frame, with those around it: stepping from one to the next, most are there already."""
    name, window = f"frame-{number}.png", number // _WINDOW
    if (path := site.pictures.place(_key(case, original), name)) is None:
        if (known := await asyncio.to_thread(listed, site, case, original)) is not None and number >= known["count"]:
            raise Refusal(404, f"{original.name}: has no frame {number}.")
        making = _window(site, case, original, window)
        while (path := site.pictures.place(_key(case, original), name)) is None and not making.done():
            await asyncio.sleep(_POLL_S)
        if path is None:
            making.result()
            path = site.pictures.place(_key(case, original), name)
    if path is None:
        raise Refusal(404, f"{original.name}: has no frame {number}.")
    if number % _WINDOW >= _WINDOW // 2:
        _window(site, case, original, window + 1)
    return await picture(path)


def _window(site: Site, case: Case, original: Original, window: int) -> Future[None]:
    first = window * _WINDOW
    return site.pictures.make(
        _key(case, original),
        "show_frames",
        {"path": str(case.path_of(original)), "first": first, "last": first + _WINDOW - 1},
        once=f"frames-{window}",
    )


async def _looked(site: Site, case: Case, original: Original, name: str) -> Response:
    if original.kind == "other":
        raise Refusal(404, f"{original.name}: is no picture.")
    if (path := site.pictures.place(_key(case, original), name)) is None:
        await asyncio.wrap_future(look(site, case, original))
        path = site.pictures.place(_key(case, original), name)
    assert path is not None
    return await picture(path)


async def _original(site: Site, request: Request, person: Person) -> tuple[Case, Original]:
    def find() -> tuple[Case, Original]:
        case = site.case(request.path_params["case"], person)
        original = site.originals(case).get(number := request.path_params["original"])
        if original is None:
            raise Refusal(404, f"the case {case.facts.title} has no original {number}; load the page again.")
        return case, original

    return await asyncio.to_thread(find)


async def _video(site: Site, request: Request, person: Person) -> tuple[Case, Original]:
    case, original = await _original(site, request, person)
    if original.kind != "video":
        raise Refusal(404, f"{original.name}: is no video.")
    if site.pictures.facts(_key(case, original)) is None:
        await asyncio.wrap_future(look(site, case, original))
    return case, original
