"""The page in a real Chromium, against the real server, while no other host can be reached."""

import base64
import getpass
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipelines.demo import FACE, write_clip
from tests.browser import CHROMIUM, Page, page_of_a_browser
from tests.web.pages import axe_script, complaints, press_button, served, settle, step, violations
from zssr_gan.cli.main import app
from zssr_gan.web.case_folder import create_case

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")

FILES = ".drop input[multiple]"
MINUTES = 600.0  # seconds that a job may take beside other tests


@pytest.fixture(scope="module", params=[(1280, False), (390, True)], ids=["desktop", "phone"])
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser for each kind of window: one that becomes a phone's after it was touched is not told of touches."""
    width, phone = request.param
    with page_of_a_browser(tmp_path_factory.mktemp("profile")) as page:
        page.resize(width, 844, phone=phone)
        page.media(dark=phone)
        page.call("Emulation.setTouchEmulationEnabled", enabled=phone, maxTouchPoints=5 if phone else 1)
        yield page


@pytest.fixture(scope="module")
def url(browser: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: ARG001 (one a browser)
    """The address that lets this browser into a server."""
    with served(tmp_path_factory.mktemp("web") / "cases") as address:
        yield address


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_script()


@pytest.fixture
def page(browser: Page) -> Page:
    browser.leave()
    return browser


def picture(folder: Path) -> Path:
    file = folder / "face one.png"
    pixels = torch.randint(0, 255, (24, 20, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(file)
    return file


def test_a_picture_becomes_a_case(tmp_path: Path, page: Page, url: str) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture(tmp_path).read_bytes()[:600])
    page.visit(url)
    page.choose_files(FILES, [tmp_path / "face one.png", cut])
    page.wait("document.querySelectorAll('.card').length === 2 && document.querySelector('.card.problem .wrong')")
    page.wait(
        "[...document.querySelectorAll('.card')].some("
        "e => /face one.png[^]*20\u00a0\u00d7\u00a024\u00a0px/.test(e.innerText))"
    )
    settle(page)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    help_can_be_read(page)
    news = "import('/static/state.js').then(state => state.changed('case'))"
    page.value("document.querySelectorAll('.card details')[1].open = true")
    page.value(news)
    assert page.value("[...document.querySelectorAll('.card details')].map(e => e.open)") == [False, True]
    upload_goes_on_in_another_window(tmp_path, page)
    camera_is_set_by_hand(page)
    news_take_nothing_away(page, news)
    assert complaints(page, url) == []
    case_is_deleted_in_another_window(page)


def upload_goes_on_in_another_window(folder: Path, page: Page) -> None:
    """A part is on the server, as of a window that was closed; the same file is chosen again."""
    whole = folder / "other.png"
    Image.effect_noise((20, 20), 50).save(whole)
    data = whole.read_bytes()
    send = """(async () => {
        const headers = {"X-Zssr-Gan": "1"}, place = `/api/cases/${location.hash.split("/")[2]}/uploads`;
        const body = JSON.stringify({name: "other.png", bytes: BYTES});
        const {id} = await (await fetch(place, {method: "POST", headers, body})).json();
        headers["Upload-Offset"] = "0";
        await fetch(`${place}/${id}`, {method: "PUT", headers, body: new Uint8Array(PART)});
        return location.href;
    })()"""
    address = page.value(send.replace("BYTES", str(len(data))).replace("PART", json.dumps([*data[:100]])))
    page.visit("about:blank")
    page.visit(address)
    page.wait("document.querySelector('main')?.innerText.includes('1 upload not finished')")
    page.choose_files(FILES, [whole])
    page.wait(
        "[...document.querySelectorAll('.card')].some("
        "e => /other.png[^]*20\u00a0\u00d7\u00a020\u00a0px/.test(e.innerText))"
    )
    page.wait("!document.querySelector('main').innerText.includes('not finished')")
    sent = [event["params"]["request"] for event in page.events if event["method"] == "Network.requestWillBeSent"]
    offsets = [one["headers"]["Upload-Offset"] for one in sent if "Upload-Offset" in one["headers"]]
    assert offsets[-1] == "100"


def help_can_be_read(page: Page) -> None:
    page.press("?", 191)
    page.wait("document.querySelector('dialog').open && document.querySelector('dialog').scrollTop === 0")
    assert page.value("Math.min(...[...document.querySelectorAll('dialog dd')].map(e => e.clientWidth))") >= 120
    assert page.value("document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth")
    page.press("Escape", 27)
    page.wait("!document.querySelector('dialog').open")


def says(page: Page, selector: str, sentence: str, *, off: bool = True) -> None:
    """Wait for the sentence at a number, which is told to screen readers too, and see whether a button is off."""
    page.wait(
        f"(e => e.ariaInvalid === 'true' && e.getAttribute('aria-describedby').split(' ').map(id =>"
        f" document.getElementById(id).innerText).includes({json.dumps(sentence)}))"
        f"(document.querySelector({json.dumps(selector)}))"
    )
    found = "document.querySelector('.numbers')?.parentNode.querySelector('button:disabled')"
    page.wait(f"Boolean({found}) === {str(off).lower()}")


def camera_is_set_by_hand(page: Page) -> None:
    step(page, "camera")
    page.value("document.querySelector('details.part').open = true")
    for name, text, sentence in (
        ("blur", "9", "Blur: 9 is not possible; give a number from 0 to 8."),
        ("noise", "-", "Noise: this is no number; give a number from 0 to 127."),
        ("noise", "", "Noise: is empty; give a number from 0 to 127."),
        ("jpeg", "70.5", "JPEG: 70.5 is not possible; give a whole number from 1 to 100."),
    ):
        page.fill(f"[name={name}]", text)
        says(page, f"[name={name}]", sentence)
    for name, text in (("blur", "0.85"), ("noise", "3"), ("jpeg", "")):
        page.fill(f"[name={name}]", text)
    page.wait("!document.querySelector('.number-field [aria-invalid]')")
    press_button(page, "Use these values")
    page.wait("document.querySelector('[name=camera]:checked').parentNode.innerText.startsWith('Set by hand')")


def news_take_nothing_away(page: Page, news: str) -> None:
    """The camera's step is drawn anew while the mouse or Space is down, and while a number is typed."""
    by_hand = "(e => e.innerText.startsWith('Set by hand') && e.querySelector('input').checked)"
    page.value("document.querySelector('.options').dataset.drawn = 'before'")
    page.click("[name=camera][value=bicubic]", meanwhile=news)
    assert page.wait("document.querySelector('[name=camera]:checked').value === 'bicubic'", 5)
    page.click("[name=camera][value=auto]", meanwhile=news)
    assert page.wait("document.querySelector('[name=camera]:checked').value === 'auto'", 5)
    page.wait("!document.querySelector('.options').dataset.drawn")  # it was drawn anew, later
    page.value("[...document.querySelectorAll('[name=camera]')].find(e => Number(e.value)).focus()")
    page.press(" ", 32, "keyDown")
    page.value(news)
    page.press(" ", 32, "keyUp")
    assert page.wait(f"[...document.querySelectorAll('.option')].some({by_hand})", 5)
    page.fill("[name=blur]", "0.5")
    page.press("ArrowLeft", 37)
    page.value(news)
    page.call("Input.insertText", text="2")
    assert page.wait("document.querySelector('[name=blur]').value === '0.25'", 5)


def case_is_deleted_in_another_window(page: Page) -> None:
    delete = """(async () => {
        const headers = {"X-Zssr-Gan": "1"}, place = `/api/cases/${location.hash.split("/")[2]}`;
        const {title} = await (await fetch(place)).json();
        await fetch(place, {method: "DELETE", headers, body: JSON.stringify({title})});
    })()"""
    page.value(delete)
    page.wait(
        "location.hash === '#/' &&"
        " document.querySelector('[role=alert] > .notice.error')?.innerText.includes('there is no case')"
    )
    page.wait(  # at the end of the page it lies over nothing
        "(scrollTo(0, document.body.scrollHeight), document.querySelector('#notices').getBoundingClientRect().top"
        " >= document.querySelector('#frame').getBoundingClientRect().bottom - 1)"
    )
    page.press("Escape", 27)
    page.wait("!document.querySelector('.notice')")


def open_frame(page: Page, number: int) -> None:
    """In *Mark*, go from the first frame of the clip to another, and wait for its picture."""
    page.wait("document.querySelector('.frame-stage img').naturalWidth === 96")
    page.wait("document.querySelector('.scrub').max === '8'")
    settle(page)
    for _ in range(number):
        page.press("ArrowRight", 39)
    page.wait(f"document.querySelector('.frame-facts').textContent.startsWith('Frame {number} (of 0 to 8)')")
    settle(page)


def planned_anew_while_the_plan_stays(page: Page) -> None:
    """The edited track is planned from the first, and another scale leaves its command until the next is here."""
    shown = "document.querySelector('.plan .command code')?.innerText"
    settle(page)
    assert "-edited-1.json" in page.wait(shown)
    seen = """(new Promise(done => {
        const seen = [], look = () => seen.push(SHOWN ?? "nothing"), scale = document.querySelector("[name=scale]");
        new MutationObserver((_, watch) => {
            look();
            if (seen.at(-1).includes("-s 3")) { watch.disconnect(); done(seen); }
        }).observe(document.querySelector(".view"), {childList: true, subtree: true});
        scale.value = "3";
        scale.dispatchEvent(new Event("change"));
    }))"""
    assert all("-edited-1.json" in one for one in page.value(seen.replace("SHOWN", shown)))
    page.value(
        "(e => { e.value = '2'; e.dispatchEvent(new Event('change')); })(document.querySelector('[name=scale]'))"
    )
    page.wait(f"{shown}?.includes('-s 2')")


@pytest.mark.slow
def test_from_drop_to_package(tmp_path: Path, page: Page, url: str, axe: str) -> None:
    clip = tmp_path / "clip.mkv"
    write_clip(clip)
    left, top, width, height = map(int, FACE.split(","))
    found = []

    def check(state: str) -> None:
        settle(page)
        found.extend((state, *one) for one in violations(page, axe))
        assert page.value("document.documentElement.scrollWidth <= innerWidth"), state

    page.visit(url)
    page.wait(f"document.querySelector({json.dumps(FILES)})")
    check("home")
    page.choose_files(FILES, [clip])
    page.wait("[...document.querySelectorAll('.view.files a')].some(e => e.innerText === 'Mark a face or plate')")
    check("files")
    press_button(page, "Mark a face or plate")
    open_frame(page, 4)
    across, down = (left / 96, (left + width) / 96), (top / 80, (top + height) / 80)
    page.drag(".frame-stage", *across, down=down)
    page.wait(f"[...document.querySelectorAll('.numbers input')].map(e => e.value).join() === {json.dumps(FACE)}")
    check("marked")
    press_button(page, "Follow it")
    page.wait("document.querySelectorAll('.tick.tracked').length === 9", MINUTES)
    page.wait("document.querySelector('.frame-facts').textContent.includes('Frame 4 (of 0 to 8), 0.160 s · ')")
    check("track")
    page.press("ArrowRight", 39)
    page.wait("document.querySelector('.tick[aria-current=true]').dataset.index === '5'")
    page.press("x", 88)
    page.wait("document.querySelectorAll('.tick.edited.unused').length === 1")
    press_button(page, "Save 1 changed frame")
    page.wait(
        "[...document.querySelectorAll('.pick')].some(e => e.ariaPressed === 'true' && /8 used/.test(e.innerText))"
    )
    press_button(page, "Fuse these frames")
    planned_anew_while_the_plan_stays(page)
    check("enhance")
    press_button(page, "Start fusing")
    page.wait("document.querySelector('.viewer .under')?.naturalWidth === 72", MINUTES)
    page.wait("document.querySelector('.about')?.innerText.includes('identification')")
    page.wait(
        r"/^plain enlargement\s+fused\s+job \d+ · fused · /.test(document.querySelector('.tags')?.innerText.trim())"
    )
    page.drag(".overlay", 0.5, 0.9)
    page.wait("Number(document.querySelector('.slider').value) > 80")
    for key, code, mode in (("d", 68, "side"), ("b", 66, "blink"), ("e", 69, "evidence")):
        page.press(key, code)  # the slider has the focus
        page.wait(f"document.querySelector('.viewer').dataset.mode === '{mode}'")
        check(key)
    page.wait("document.querySelector('.map').naturalWidth && document.querySelector('.map-scale .ramp')")
    check("map")
    step(page, "handover")
    check("handover")
    press_button(page, "Make the package")
    link = "[...document.querySelectorAll('a')].find(a => a.textContent === 'Download the package')"
    page.wait(link, MINUTES)
    check("package")
    read = "new Promise(done => { const r = new FileReader(); r.onload = () => done(r.result); r.readAsDataURL(b); })"
    package = page.value(f"fetch({link}.href).then(r => r.blob()).then(b => {read})")
    assert package.startswith("data:application/octet-stream;base64,"), package[:500]
    assert complaints(page, url) == []
    (tmp_path / "case.zip").write_bytes(base64.b64decode(package.partition(",")[2]))
    verified = CliRunner().invoke(app, ["verify", str(tmp_path / "case.zip"), "--rerun"])
    assert verified.exit_code == 0, verified.output
    assert [one for one in found if one[2] in ("serious", "critical")] == []


PANE = ".film-pane"
"""What a marked frame is moved in."""

_SHOWN = """(() => {
    const pane = document.querySelector(".film-pane"), box = pane.getBoundingClientRect();
    const frame = document.querySelector(".frame-stage").getBoundingClientRect();
    return {
        x: (box.x + box.width / 2 - frame.x) / frame.width, y: (box.y + box.height / 2 - frame.y) / frame.height,
        across: frame.width / box.width, corners: document.querySelectorAll(".handle-corner:not([hidden])").length,
        zoom: document.querySelector(".scrubber output").textContent,
    };
})()"""


def mark_in_clip(page: Page, url: str, clip: Path, frame: int) -> None:
    """Drop a clip that is made for it, and open a frame of it in *Mark*."""
    write_clip(clip)
    page.visit(url)
    page.choose_files(FILES, [clip])
    press_button(page, "Mark a face or plate")
    open_frame(page, frame)


@pytest.mark.slow
def test_an_enlarged_frame_is_moved_by_mouse_and_fingers(tmp_path: Path, page: Page, url: str) -> None:
    mark_in_clip(page, url, tmp_path / "clip.mkv", 0)
    for _ in range(2):
        page.press("+", 187)
    page.wait(f"{_SHOWN}.zoom === '4 \u00d7'")
    begun = page.value(_SHOWN)
    page.drag(PANE, 0.7, 0.4, down=(0.52, 0.5), button="middle")
    moved = page.value(_SHOWN)
    assert (moved["x"] - begun["x"]) * begun["across"] == pytest.approx(0.3, abs=0.02)
    assert moved["y"] > begun["y"]
    page.press(" ", 32, "keyDown")  # the mouse is over the frame
    page.drag(PANE, 0.4, 0.7)
    page.press(" ", 32, "keyUp")
    back = page.value(_SHOWN)
    assert (back["x"], back["y"]) == pytest.approx((begun["x"], moved["y"]), abs=0.02)
    page.fingers(PANE, *([(0.5 - apart, 0.5), (0.5 + apart, 0.5)] for apart in (0.4, 0.3, 0.2)))
    page.wait(f"{_SHOWN}.zoom === '2 \u00d7'")
    closer = page.value(_SHOWN)
    assert (closer["x"], closer["y"]) == pytest.approx((back["x"], back["y"]), abs=0.02)  # what was between them
    page.fingers(PANE, *([(0.3 + by, 0.5), (0.5 + by, 0.5)] for by in (0, 0.1, 0.2)))
    page.wait(f"Math.abs(({closer['x']} - {_SHOWN}.x) * {_SHOWN}.across - 0.2) < 0.02")
    moved = page.value(_SHOWN)
    assert moved["zoom"] == "2 \u00d7"
    assert moved["corners"] == 0  # nothing was drawn by any of it
    page.drag(".frame-stage", 0.4, 0.6, down=(0.4, 0.6))
    page.wait(f"{_SHOWN}.corners === 4")
    page.fill("[name=width]", "200")
    says(page, "[name=width]", "Width: 200 is not possible; give a whole number from 12 to 58.")
    page.fill("[name=width]", "30")
    page.wait("[...document.querySelectorAll('button')].some(e => e.innerText.startsWith('Follow it') && !e.disabled)")
    for name, shown in (
        ("files", "9 frames \u00b7 under 1\u00a0s"),
        ("enhance", "every frame (9 frames, under 1\u00a0s)"),
    ):
        step(page, name)
        page.wait(f"document.querySelector('.view').innerText.includes({json.dumps(shown)})")
    assert complaints(page, url) == []


def hold_answers(page: Page, path: str) -> None:
    """Keep back the answers to what is asked of such a path until the page calls `answer()`."""
    hold = """(() => {
        const real = fetch, waits = new Promise(done => { window.answer = () => { window.fetch = real; done(); }; });
        window.fetch = async (path, ...rest) => {
            const found = await real(path, ...rest);
            if (/PATH/.test(path)) await waits;
            return found;
        };
    })()"""
    page.value(hold.replace("PATH", path))


@pytest.mark.slow
def test_late_answers_take_no_mark_away(tmp_path: Path, page: Page, url: str) -> None:
    mark_in_clip(page, url, tmp_path / "clip.mkv", 4)
    page.drag(".frame-stage", 0.45, 0.83, down=(0.19, 0.7))
    hold_answers(page, "^.api.cases.[^/]*$")
    press_button(page, "Follow it")
    page.wait("document.querySelector('.view .job')")
    press_button(page, "Draw it again")
    page.drag(".frame-stage", 0.1, 0.4, down=(0.1, 0.5))
    marked = "[...document.querySelectorAll('.numbers input')].map(e => e.value).join()"
    page.wait("!document.querySelector('.view .job')", MINUTES)
    page.value("answer()")
    page.wait("document.querySelectorAll('.pick').length === 1")
    assert page.value(marked) == "10,8,28,32"
    page.click(".pick")
    page.wait("document.querySelectorAll('.tick.tracked').length === 9")
    page.press("x", 88)
    hold_answers(page, "tracks.[^/]*$")
    press_button(page, "Save 1 changed frame")
    page.press("ArrowRight", 39)
    page.press("x", 88)
    page.wait("document.querySelectorAll('.tick.edited.unused').length === 2")
    page.value("answer()")
    page.wait("document.querySelectorAll('.pick').length === 2")
    page.wait("document.querySelectorAll('.tick.unused').length === 2")
    assert page.wait("document.querySelectorAll('.tick.edited').length === 1", 5)  # the one that is not saved yet
    hold_answers(page, "tracks.[^/]*$")
    press_button(page, "Save 1 changed frame")
    page.press("x", 88)  # undone while it is saved
    page.wait("document.querySelectorAll('.tick.unused').length === 1")
    page.value("answer()")
    page.wait("document.querySelectorAll('.pick').length === 3")
    page.wait("document.querySelectorAll('.tick.edited').length === 1")  # the new track has it otherwise
    page.wait("document.querySelectorAll('.tick.unused').length === 1")
    hold_answers(page, "tracks.[^/]*$")
    press_button(page, "Save 1 changed frame")
    press_button(page, "Mark something else")
    page.drag(".frame-stage", 0.1, 0.4, down=(0.1, 0.5))
    page.wait(f"{marked} === '10,8,28,32'")
    page.value("answer()")
    page.wait("document.querySelectorAll('.pick').length === 4")
    assert page.value(marked) == "10,8,28,32"
    assert complaints(page, url) == []


def a_result_that_was_opened_stays(page: Page, place: Path) -> None:
    """While a job is watched, a person opens another result; the job's comes later, and waits in the list."""
    job = "{id: 2, kind: 'video', case: state.state.open.id, title: 'Enhance', state: 'running'}"
    page.value(f"import('/static/state.js').then(state => state.changed('job', state.keep({job})))")
    look = "location.hash = ['#/case', location.hash.split('/')[2], 'look', %s].join('/')"
    shown = "document.querySelector('.viewer')?.checkVisibility() === %s && !document.querySelector('.watch') === %s"
    for address, seen in ((place.name, "true"), ("job-2", "false"), (place.name, "true")):
        page.value(look % json.dumps(address))
        page.wait(shown % (seen, seen))
    shutil.copytree(place, place.with_name("2_video"))
    news = "import('/static/state.js').then(state => state.refresh().then(() => state.state.open.results.length === 2))"
    page.wait(news)
    assert page.value("document.querySelectorAll('.results li').length") == 2
    assert page.value("document.querySelector('h1').innerText").startswith("clip_x2.mkv\njob 1 ")
    page.value(look % "'job-2'")
    page.wait("document.querySelector('h1').innerText.includes('job 2 ')")


@pytest.mark.slow
def test_any_frame_of_a_video_result_is_looked_at(tmp_path: Path, page: Page) -> None:
    clip = tmp_path / "clip.mkv"
    write_clip(clip)
    case = create_case(tmp_path / "cases", "A clip", getpass.getuser())
    shutil.copy(clip, tmp_path / "received")
    original = case.add_original(tmp_path / "received", "clip.mkv", getpass.getuser())
    place = case.folder / "results" / "1_video"
    place.mkdir()
    shutil.copy(clip, place / "clip_x2.mkv")
    record = {
        **{"clip_version": 1, "label": "internal", "label_means": "m", "lossy": None, "notices": []},
        "request": {"degradation": {"values": None, "why": "a"}, "scale": [2, 2], "region": None, "preset": "fast"},
        "output": {"name": "clip_x2.mkv", "width": 96, "height": 80},
        "input": {"sha256": original.sha256},
        "frames": [{"index": index, "field": None, "box": [8, 4, 48, 40]} for index in (0, 1, 2, 4, 6, 7, 8)],
    }
    (place / "clip_x2.json").write_text(json.dumps(record))
    with served(tmp_path / "cases") as url:
        page.visit(url)
        page.wait("[...document.querySelectorAll('a')].some(e => e.innerText === 'A clip')")
        hold_answers(page, "frames$")
        press_button(page, "A clip")
        page.fill("[name=frame]", "12")
        page.value("answer()")
        status, tags = (
            f"document.querySelector('{one}').innerText" for one in (".frame-choice [role=status]", ".tags")
        )
        shown = f"[{status}, {tags}]"
        page.wait(f"{shown}.every(text => /[Ff]rame 0 ?/.test(text))")
        says(page, "[name=frame]", "Frame: 12 is not possible; give a whole number from 0 to 6.", off=False)
        for name, number, index in (("Last frame", 6, 8), ("Middle frame", 3, 4), ("First frame", 0, 0)):
            page.click(f"[aria-label='{name}']")
            page.wait(f"document.querySelector('[name=frame]').value === '{number}'")
            page.wait(f"{shown}.every(text => /[Ff]rame {index}/.test(text))")
        page.fill("[name=frame]", "7")
        says(page, "[name=frame]", "Frame: 7 is not possible; give a whole number from 0 to 6.", off=False)
        page.fill("[name=frame]", "5")
        page.wait(f"{shown}.every(text => /[Ff]rame 7/.test(text))")
        for image in (".under", ".over"):
            page.wait(f"(e => e.src.endsWith('frame=5') && e.naturalWidth === 96)(document.querySelector('{image}'))")
        a_result_that_was_opened_stays(page, place)
        assert complaints(page, url) == []
        press_button(page, "Keys and help")
        page.wait("document.querySelector('dialog').open")
        page.value("fetch('/api/logout', {method: 'POST', headers: {'X-Zssr-Gan': '1'}}).then(answer => answer.text())")
        page.value("import('/static/state.js').then(state => state.refresh()).catch(() => 0)")
        page.wait("document.querySelector('h1')?.innerText === 'Open the address that the command printed'")
        assert not page.value("document.querySelector('dialog').open")
        assert page.value("document.querySelector('#top').innerText.trim()") == "zssr-gan"
