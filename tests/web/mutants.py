"""Requests that are damaged in every way: bodies, uploads, headers, paths."""

import io
import json
import random
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.video import clips

NAMES = (
    "../../../evil.png", "/etc/cron.d/evil.png", "a\0b.png", "C:\\evil.mp4", "CON.png", ".png", "..", "a/../../b.mkv",
    "x" * 300 + ".png", "\u202egnp.exe", "a.png\r\nx: y", "%2e%2e%2f.png", "~root/.ssh/a.png", "a.mkv", "a.jpg",
    "a.tif", "a.zip", "\ud800.png", "",
)  # fmt: skip

VALUES: tuple[object, ...] = (
    None, True, -1, 0, 1, 10**30, 1e308, "", "x" * 3000, "\0", "../..", [], {}, [[]], [1] * 500, {"a": {"b": [None]}},
    "a", "1", 2.5,
)  # fmt: skip

PATHS = (
    "/", "/static/app.js", "/enter?token=x", "/api/me", "/api/events/x", "/api/cases", "/api/cases/CASE",
    "/api/cases/CASE/uploads/UPLOAD", "/api/cases/CASE/originals/1/thumb.png", "/api/cases/CASE/originals/1/view.png",
    "/api/cases/CASE/originals/1/file", "/api/cases/CASE/originals/2/frames", "/api/cases/CASE/results/x/view.png",
    "/api/cases/CASE/originals/2/frames/3.png", "/api/cases/CASE/results/x/evidence.png", "/api/cases/CASE/tracks/x",
    "/api/cases/CASE/estimates/1/plot.png", "/api/cases/CASE/package.zip", "/api/cases/CASE/report/index.html",
    "/api/jobs", "/api/jobs/1/preview.png", "/api/methods",
)  # fmt: skip

POSTS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("POST", "/api/login", {"name": "a", "password": "b"}),
    ("POST", "/api/cases/open", {"folder": "/nowhere"}),
    ("DELETE", "/api/cases/CASE", {"title": "another"}),
    ("POST", "/api/cases/CASE/uploads", {"name": "a.png", "bytes": 5}),
    ("POST", "/api/cases/CASE/plan", {"kind": "enhance", "originals": ["1"], "options": {"method": "fast"}}),
    ("POST", "/api/cases/CASE/plan", {"kind": "track", "originals": ["2"], "options": {"frame": 1, "region": [1] * 4}}),
    ("POST", "/api/cases/CASE/plan", {"kind": "fuse", "originals": ["2"], "options": {"track": "1"}}),
    ("POST", "/api/cases/CASE/plan", {"kind": "video", "originals": ["2"], "options": {"scale": 2}}),
    ("POST", "/api/cases/CASE/plan", {"kind": "compare", "originals": ["1"], "options": {"methods": ["fast"]}}),
    ("PUT", "/api/cases/CASE/tracks/1", {"frames": [{"index": 1, "corners": [[0, 0]] * 4, "status": "x"}]}),
    ("POST", "/api/jobs/1/stop", {}),
    ("POST", "/api/jobs/1/resume", {}),
    ("POST", "/api/jobs/1/move", {"place": 1}),
)

HEADERS = (
    "host", "origin", "sec-fetch-site", "cookie", "x-zssr-gan", "upload-offset", "range", "if-none-match", "if-range",
    "accept-encoding", "content-type", "transfer-encoding", "expect", "x-forwarded-for", "te",
)  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    """A small sound file of several kinds, by their endings."""
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 256, (24, 31, 3), np.uint8))
    made = {}
    for kind in ("png", "jpeg", "tiff", "bmp", "webp", "avif"):
        with io.BytesIO() as file:
            picture.save(file, kind)
            made[kind] = file.getvalue()
    for kind in ("mp4", "mkv", "avi"):
        made[kind] = clips.write(folder / f"a.{kind}").read_bytes()
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("../../evil", bytes(1000))
        made["zip"] = file.getvalue()
    return made


def damaged(draw: random.Random, whole: bytes) -> bytes:
    """A copy with a few damages, half of them in its head."""
    data = bytearray(whole)
    for _ in range(draw.randint(0, 5)):
        at = draw.randrange(draw.choice((min(len(data), 128), len(data))) or 1)
        kind = draw.randrange(4)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", draw.randbytes(4)))
        elif kind == 2:
            del data[at : at + draw.randint(1, 64)]
        else:
            data = data[:at]
    return bytes(data)


def mutated(draw: random.Random, value: object) -> object:
    """A JSON value with something in it replaced, left out or added."""
    if draw.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return draw.choice(VALUES)
    if isinstance(value, list):
        at = draw.randrange(len(value))
        return [*value[:at], mutated(draw, value[at]), *value[at + 1 :]]
    key = draw.choice(sorted(value))
    kind = draw.randrange(4)
    if kind == 0:
        return {name: one for name, one in value.items() if name != key}
    if kind == 1:
        return {**value, draw.choice(("x", "__class__", "\0", key.upper())): draw.choice(VALUES)}
    return {**value, key: mutated(draw, value[key])}


def requests(draw: random.Random, case: str, upload: str) -> Iterator[tuple[str, str, dict[str, str | None], bytes]]:
    """Method, path, headers (None: left out) and body of damaged requests without end."""

    def placed(path: str) -> str:
        return path.replace("CASE", case).replace("UPLOAD", upload)

    while True:
        kind = draw.randrange(4)
        headers: dict[str, str | None] = {}
        if kind == 0:
            method, path, content = draw.choice(POSTS)
            body = json.dumps(mutated(draw, content)).encode()
            yield method, placed(path), headers, damaged(draw, body) if draw.random() < 0.3 else body
        elif kind == 1:
            parts = placed(draw.choice(PATHS)).split("/")
            parts[draw.randrange(1, len(parts))] = draw.choice(
                ("..", ".", "", "%2e%2e", "%2f..%2f", "%00", "%ff", "x" * 5000, "%0d%0aX:y", "*", "-1", "9" * 40, "CON",
                 urllib.parse.quote(draw.choice(NAMES).encode("utf-8", "replace")), "\\..\\", ";", "?a=b", "%252e%252e")
            )  # fmt: skip
            yield (
                draw.choice(("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW")),
                "/".join(parts),
                headers,
                b"",
            )
        elif kind == 2:
            method, path = "GET", placed(draw.choice(PATHS))
            for _ in range(draw.randint(1, 3)):
                headers[draw.choice(HEADERS)] = draw.choice(
                    (None, "", "x", "\xff", "0", "-1", "1e9", "bytes=0-0,5-9,-1", "bytes=9-1", "evil.example",
                     "*", "x" * 2000, "=;", "chunked", "100-continue", "127.0.0.1", 'zssr_gan_1="\\',
                     "bytes=0-" + ",0-" * 99)
                )  # fmt: skip
            yield method, path, headers, b""
        else:
            offset = draw.choice(("0", "1", "5", "99", "-0", "+1", "0x1", "\u00b2", "", "1" * 19, None))
            body = draw.randbytes(draw.randrange(40))
            yield "PUT", placed("/api/cases/CASE/uploads/UPLOAD"), {"upload-offset": offset}, body
