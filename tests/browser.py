"""A real Chromium without a window, driven by the DevTools protocol over a pipe: no port, no driver, no dependency."""

import base64
import fcntl
import io
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE = 120.0  # seconds that one answer may take on a busy machine


class Page:
    """A page of a running browser; `events` keeps what it reported, the oldest first."""

    def __init__(self, writes: int, reads: int) -> None:
        self._writes, self._reads, self._number, self._rest = writes, reads, 0, b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **arguments: Any) -> Any:
        """Ask the browser, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path) -> None:
        """Open a file from the disk, and wait until all of it is there."""
        self.visit(path.resolve().as_uri())

    def visit(self, url: str) -> None:
        """Open an address, and wait until all of it is there."""
        before = len(self.events)
        went = self.call("Page.navigate", url=url)
        assert "errorText" not in went, f"{url}: {went['errorText']}"
        while "loaderId" in went and not any(_is_loaded(event, went["loaderId"]) for event in self.events[before:]):
            self.events.append(self._next())

    def leave(self) -> None:
        """Leave the page for an empty one, and forget what was reported of it."""
        self.visit("about:blank")
        self.value("0")  # whatever was under way is reported before its answer
        self.events.clear()

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives in the page; of a promise, what it ends in."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = _PATIENCE) -> Any:
        """Wait until an expression of JavaScript is true, or an element that is there; returns its value, of an
        element True. What is read must be in the expression: the page may draw an element anew before the next one.
        An expression that fails, as while the page is loaded, is not true yet.
        """
        until, why = time.monotonic() + seconds, ""
        while True:
            try:
                if found := self.value(f"(found => found instanceof Node || found)({expression})"):
                    return found
            except AssertionError as error:
                why = f" ({error})"
            if time.monotonic() > until:
                shown = self.value("document.body.innerText")
                raise AssertionError(f"not within {seconds:.0f} s: {expression}{why}\nThe page shows:\n{shown}")
            time.sleep(0.05)

    def choose_files(self, selector: str, files: list[Path]) -> None:
        """What the browser's file chooser would put into an input."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        node = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        names = [str(file.resolve()) for file in files]
        self.call("DOM.setFileInputFiles", files=names, objectId=node["result"]["objectId"])

    def media(self, *, dark: bool = False) -> None:
        """Dark or light, as the person's system asks for."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window's size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def click(self, selector: str, across: float = 0.5, *, meanwhile: str = "0") -> None:
        """Press and release the mouse on an element, so much of its width from its left; `meanwhile` is an expression
        of JavaScript that the page does before the release.
        """
        x, y = self._places(selector, (across, 0.5))[0]
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
            if kind == "mousePressed":
                self.value(meanwhile)

    def drag(
        self, selector: str, start: float, end: float, *, down: tuple[float, float] = (0.5, 0.5), button: str = "left"
    ) -> None:
        """Press the mouse on an element, move it and let go; places as shares of the element's width and height."""
        begin, stop = self._places(selector, (start, down[0]), (end, down[1]))
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=begin[0], y=begin[1])
        for kind, (x, y) in (("mousePressed", begin), ("mouseMoved", stop), ("mouseReleased", stop)):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button=button,
                buttons=4 if button == "middle" else 1,
                clickCount=1,
            )

    def touch(self, selector: str, across: float) -> None:
        """Put a finger on an element and lift it."""
        self.fingers(selector, [(across, 0.5)])

    def fingers(self, selector: str, *moments: list[tuple[float, float]]) -> None:
        """Put fingers on an element, move them and lift them: where each is at each moment, as shares of the element's
        width and height when the first of them came.
        """
        flat = self._places(selector, *(place for moment in moments for place in moment))
        for number, moment in enumerate(moments):
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(flat[: len(moment)])]
            flat = flat[len(moment) :]
            self.call("Input.dispatchTouchEvent", type="touchMove" if number else "touchStart", touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, code: int, *kinds: str) -> None:
        """A key, by its DOM name and its number; `kinds`: "keyDown" or "keyUp" alone."""
        for kind in kinds or ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, in place of what it holds; "" empties it."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"(e => {{ e.focus(); e.select(); return e === document.activeElement; }})({field})")
        if text:
            self.call("Input.insertText", text=text)
        else:
            self.press("Backspace", 8)

    def picture(self, box: dict[str, float]) -> Image.Image:
        """What the window shows of a box (`x`, `y`, `width`, `height`, `scale`), in CSS pixels from its corner."""
        top = self.call("Page.getLayoutMetrics")["cssVisualViewport"]
        clip = {**box, "x": box["x"] + top["pageX"], "y": box["y"] + top["pageY"]}
        made = self.call("Page.captureScreenshot", format="png", clip=clip)
        with Image.open(io.BytesIO(base64.b64decode(made["data"]))) as picture:
            return picture.convert("RGB")

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])

    def _places(self, selector: str, *shares: tuple[float, float]) -> list[tuple[float, float]]:
        """Places on an element, once it is where it was a moment ago and nothing lies over the first of them."""
        across, down = shares[0]
        find = (
            "(e => { e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            f" return e.contains(document.elementFromPoint(b.x + b.width * {across}, b.y + b.height * {down}))"
            f" && [b.x, b.y, b.width, b.height]; }})(document.querySelector({json.dumps(selector)}))"
        )
        before, box = None, self.wait(find)
        while box != before:
            time.sleep(0.05)
            before, box = box, self.wait(find)
        return [(box[0] + box[2] * x, box[1] + box[3] * y) for x, y in shares]

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reads], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser did not answer within {_PATIENCE:.0f} s"
            piece = os.read(self._reads, 1 << 20)
            assert piece, "the browser ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


def _is_loaded(event: dict[str, Any], loader: str) -> bool:
    facts = event["params"]
    return event["method"] == "Page.lifecycleEvent" and (facts["name"], facts["loaderId"]) == ("load", loader)


@contextmanager
def page_of_a_browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, which ends with it."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
    # What the browser would fetch for itself is none of the page's requests.
    command += ["--disable-background-networking", "--disable-component-update", "--disable-gpu"]
    command += [
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium has none for root
    # The browser reads from 3 and writes to 4: ends with higher numbers are not in the way of these.
    theirs, ours = os.pipe(), os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs[0], ours[1])]
    quiet = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, ends[0], 3), (os.POSIX_SPAWN_DUP2, ends[1], 4)]
    process = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=actions)
    for end in (theirs[0], ours[1], *ends, quiet):
        os.close(end)
    try:
        yield Page(theirs[1], ours[0])
    finally:
        os.close(theirs[1])  # it ends by this
        os.close(ours[0])
        _end(process)


def _end(process: int) -> None:
    """Wait for the browser's end; after some seconds, make one."""
    for _ in range(100):
        if os.waitpid(process, os.WNOHANG)[0]:
            return
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
