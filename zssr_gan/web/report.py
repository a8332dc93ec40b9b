"""The report of a case: one HTML page that needs no other file and no network."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import atomic_write, canonical_sha256, locked, sha256_bytes, sha256_file
from zssr_gan.imaging.io import decode_picture, encode_picture, read_image_bytes
from zssr_gan.imaging.picture import Metadata, Picture, quantise
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import LABELS, VERSION
from zssr_gan.web import log, results, tracks
from zssr_gan.web.case_folder import LOCK, Case, Original, read_case
from zssr_gan.web.decoding import frame_picture, map_picture, plain_picture
from zssr_gan.web.memo import stamp

REPORT = "report/index.html"

LARGEST_SIDE = 1200
"""Pixels; larger pictures are shown smaller, and the page says so."""

_SMALLEST_SIDE = 360  # pixels on the page
_LINES = 500

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
td, th { border-bottom: 1px solid #bbb } td { overflow-wrap: break-word } th, .number { overflow-wrap: normal; white-space: nowrap }
code { font-size: .85em; overflow-wrap: anywhere }
@media (max-width: 600px) { tr:has(th) { display: none } td { display: block; border: 0; padding: 0 } tr { display: block; padding: .5rem 0; border-bottom: 1px solid #bbb } td[data-name]:not(:empty)::before { content: attr(data-name) ": "; color: #555 } }
figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100% } img { max-width: 100% } .enlarged { image-rendering: pixelated }
.lead { border: 3px solid #a00; padding: .75rem 1rem; font-weight: 600 } section { break-inside: avoid }
"""  # noqa: E501


def make_report(case: Case) -> bytes:
    """The page: originals with their hashes, each result beside its plain enlargement, tracks, estimates, the log."""
    facts, chain = case.facts, log.verify_log(case.folder)
    originals = case.originals()
    head = [("Number", facts.number), ("Operator", facts.operator), ("Opened from", facts.opened_from or "")]
    head.append(("Made", f"{_time(log.now())}, by zssr-gan {VERSION}"))
    acts = [
        (one["n"], _time(one["time"]), one["user"], one["act"], _about(one["facts"]))
        for one in log.read_log(case.folder)
    ]
    parts = [
        f"<h1>{_text(facts.title)}</h1>",
        _table([], [(name, value) for name, value in head if value]),
        '<p class="lead">An investigative lead, not an identification. Enlarged detail can be wrong: look at the plain '
        "enlargement and the evidence map beside each result.</p>",
        "<h2>Originals</h2>",
        _table(
            ["", "Name", "Bytes", "SHA-256", "Received", "Now"],
            [
                (one.id, one.name, f"{one.bytes:,}", _Code(one.sha256), _time(one.received), _state(case, one))
                for one in originals
            ],
        ),
        "<h2>Results</h2>",
        *(_result(case, one) for one in results.results(case)),
        "<h2>Labels</h2>",
        _table(["Label", "What it means"], list(LABELS.items())),
        "<h2>Tracks</h2>",
        _table(
            ["Track", "Frames used", "Not used", "Corners set by hand", "Ended"],
            [
                (one["name"], one["tracked"], one["lost"], len(one["edited"]), "; ".join(one["ended"]))
                for one in tracks.tracks(case)
            ],
        ),
        "<h2>Estimates of the camera</h2>",
        _table(
            ["Estimate", "What is assumed", "Why"],
            [(one["name"], one["summary"], one["why"]) for one in results.estimates(case)],
        ),
        "<h2>Log</h2>",
        f"<p>{_text(chain.text if chain.ok else 'BROKEN: ' + chain.text)}.</p>",
        _table(["", "Time", "User", "Act", "What"], acts[-_LINES:]),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(facts.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
    )
    return (page + "\n".join(parts) + "\n</body></html>\n").encode("utf-8", "replace")


def renew_report(case: Case, files: Mapping[str, Path]) -> None:
    """Make the report of a case, and log its hash; again where the log or a file of the case is another than then.

    Args:
        case: of the report.
        files: all of the case by their names; the report itself does not count.

    Raises:
        OutputError: it cannot be written.
    """
    with locked(case.folder / LOCK):  # the title is that of these lines
        path, entries, case = case.folder / REPORT, log.read_log(case.folder), read_case(case.folder)
    found = {name: stamp(file) for name, file in files.items() if name != REPORT}
    known = canonical_sha256({name: list(one[1:]) for name, one in found.items() if one is not None})
    last = entries[-1]["facts"] if entries else {}
    if last.get("of_files") == known and path.is_file() and last.get("files") == {REPORT: sha256_file(path)}:
        return
    data = make_report(case)
    atomic_write(path, data, overwrite=True)
    facts = {"of_entries": len(entries), "of_files": known, "files": {REPORT: sha256_bytes(data)}}
    log.append(case.folder, "zssr-gan", "report made", **facts)


def _state(case: Case, original: Original) -> str:
    """Whether an original is the file that was received."""
    found = _hash_now(case.path_of(original))
    return {original.sha256: "unchanged", "": "MISSING"}.get(found, "CHANGED after it was received")


def _hash_now(path: Path) -> str:
    """SHA-256 of a file; "" where there is none (any more), as of a job that runs."""
    try:
        return sha256_file(path)
    except OSError:
        return ""


class _Code(str):
    """Shown in a fixed width."""

    __slots__ = ()


def _text(value: object) -> str:
    return html.escape(str(value))


def _time(iso: str) -> str:
    """A time as the page shows it, in its own zone."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment:%d %b %Y, %H:%M:%S} {moment.tzname() or ''}".rstrip()


def _table(heads: Sequence[str], rows: Sequence[Iterable[object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    body = "\n".join(f"<tr>{''.join(map(_cell, row, heads or [''] * 2))}</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if heads else ''}\n{body}\n</table>"


def _cell(value: object, head: str) -> str:
    text = _text(value)
    name = f' data-name="{_text(head)}"' if head else ""
    number = ' class="number"' if text.replace(",", "").isdecimal() else ""
    return f"<td{name}{number}>{f'<code>{text}</code>' if isinstance(value, _Code) else text}</td>"


def _about(facts: dict[str, Any]) -> str:
    """The facts of a line of the log, short."""
    shown = {key: f"{len(value)} files" if key == "files" else value for key, value in facts.items() if key != "argv"}
    return ", ".join(f"{key}: {value}" for key, value in shown.items() if value not in ("", None))[:300]


def _result(case: Case, one: results.Facts) -> str:
    paths: dict[str, Path] = one["_paths"]
    figures = []
    if "result" in paths:
        try:
            is_video = one["kind"] == "video"
            shown = frame_picture(paths["result"], 0) if is_video else _picture(paths["result"])
            pictures = {"result": shown, "plain enlargement (bicubic)": _plain(paths, one, shown)}
            if is_video:
                pictures = {f"{name}, frame {one['frame']}": picture for name, picture in pictures.items()}
            if "evidence" in paths:
                pictures |= _evidence(paths["evidence"], one)
            figures = [_figure(name, picture) for name, picture in pictures.items() if picture is not None]
        except (ZssrGanError, OSError) as error:
            figures = [f"<p>{_text(error)}</p>"]
    names = {original.id: original.name for original in case.originals()}
    rows: list[tuple[object, object]] = [
        ("Made of", ", ".join(names[number] for number in one["originals"][:20]) or "files that are not in this case"),
        ("Label", f"{one['tag']}. {one['means']}"),
        *(("Made of frames", one["made"]) for _ in [0] if one["made"]),
        ("Size", f"{one['width']} x {one['height']} pixels, {one['scale']} times a side"),
        ("Assumed of the camera", one["assumed"]),
        *(("Note", notice) for notice in one["notices"]),
        *(("Command", _Code(one["command"])) for _ in [0] if one["command"]),
        *((f"SHA-256 of {path.name}", _Code(_hash_now(path))) for kind, path in paths.items() if kind != "input"),
    ]
    return f"<section><h3>{_text(one['name'])}</h3>\n{''.join(figures)}\n{_table([], rows)}</section>"


def _picture(path: Path) -> Picture:
    return decode_picture(read_image_bytes(path, name=path.name), path.name)


def _plain(paths: dict[str, Path], one: results.Facts, shown: Picture) -> Picture | None:
    """The plain enlargement: the file, or that of the original, its region or its frame."""
    if "plain" in paths:
        return _picture(paths["plain"])
    if not one["bicubic"]:
        return None
    size = (shown.pixels.shape[-2], shown.pixels.shape[-1])
    return plain_picture(paths["input"], size, one["region"], one["frame"])


def _evidence(path: Path, one: results.Facts) -> dict[str, Picture]:
    """The sheet of maps; of a fusion its first map alone, in the colours of the page, where bright is doubt."""
    if one["map"] == "views":
        return {"evidence map": _picture(path)}
    unit, text = results.MAPS[one["map"]]
    shown, limit = map_picture(path, (one["height"], one["width"]), reverse=True)
    scale = "" if limit is None else f" Brightest: 0 {unit}; darkest: {limit:g} or more."
    return {f"evidence map: {text}{scale}": shown}


def _figure(name: str, picture: Picture) -> str:
    pixels = picture.pixels
    height, width = pixels.shape[-2:]
    note, size, most = "", "", max(height, width)
    if most > LARGEST_SIDE:
        smaller = round(height * LARGEST_SIDE / most), round(width * LARGEST_SIDE / most)
        pixels, note = resize(pixels, smaller).clamp_(0, 1), f", shown smaller than its {width} x {height} pixels"
    elif (factor := _SMALLEST_SIDE // most) > 1:
        size, note = f'class="enlarged" width="{factor * width}" ', f", each pixel shown as {factor} x {factor}"
    data = encode_picture(quantise(Picture(pixels, None, 8, Metadata())), ".png", {})
    text = _text(name)
    image = f'<img alt="{text}" {size}src="data:image/png;base64,{base64.b64encode(data).decode()}">'
    return f"<figure>{image}<figcaption>{text}{note}</figcaption></figure>"
