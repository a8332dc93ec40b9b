"""The page in a Chromium, served by `zssr-gan web` in a process of its own."""

import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.browser import Page

ROOT = Path(__file__).parents[2]
_AXE = "https://registry.npmjs.org/axe-core/-/axe-core-4.10.2.tgz"
_AXE_SHA256 = "9ea2d2d6917da998122bdacfd3b473e31ead53f4b87146c716a12edf89158100"


@contextmanager
def served(cases: Path) -> Iterator[str]:
    """The address that lets one browser into a server, which ends in order."""
    command = [sys.executable, "-m", "zssr_gan", "web", "--cases", str(cases), "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.match(r"open (http://127\.0\.0\.1:\d+/enter\?token=\S+)", server.stdout.readline())
        assert found, server.communicate()[1]
        yield found[1]
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=180)[1]
        assert server.returncode == 128 + signal.SIGTERM, said


def press_button(page: Page, text: str) -> None:
    """Click the button or link whose text begins so, once it can be used and nothing lies over it."""
    page.wait(
        "(e => { e?.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e?.getBoundingClientRect();"
        " return e?.contains(document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2)) && (e.click(), true); })"
        "([...document.querySelectorAll('button, a')].find(e => !e.disabled && e.checkVisibility()"
        f" && e.textContent.trim().startsWith({json.dumps(text)})))"
    )


def settle(page: Page) -> None:
    """Wait until nothing that the page shows is still loading."""
    page.wait("document.querySelector('#top .brand') && !document.querySelector('[aria-busy=\"true\"]')")


def step(page: Page, name: str) -> None:
    """Go to a step of the open case."""
    page.value(f"location.hash = ['#/case', location.hash.split('/')[2], {json.dumps(name)}].join('/')")
    page.wait(f"document.querySelector('.view.{name}')")


def complaints(page: Page, url: str) -> list[Any]:
    """What the browser complained of, and what it asked of another than the server."""
    page.value("0")  # whatever was under way is reported before its answer
    host, found = urlsplit(url).netloc, []
    for event in page.events:
        if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            found.append(event["params"])
        if event["method"] == "Network.requestWillBeSent":
            asked = event["params"]["request"]["url"]
            if urlsplit(asked).netloc != host:
                found.append(asked)
    return found


def axe_script() -> str:
    """axe-core, of the npm registry, as its hash has it."""
    with urllib.request.urlopen(_AXE, timeout=60) as answer:
        data = answer.read()
    assert hashlib.sha256(data).hexdigest() == _AXE_SHA256
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def violations(page: Page, axe: str) -> list[Any]:
    """What axe-core finds in the page as it is now: `[rule, impact, elements]`."""
    page.value(f"{axe};0")
    run = "axe.run(document, {resultTypes: ['violations']})"
    shown = "found.violations.map(one => [one.id, one.impact, one.nodes.map(node => node.target.join(' '))])"
    found: list[Any] = page.value(f"{run}.then(found => {shown})")
    return found
