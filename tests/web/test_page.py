"""The page in a real Chromium, against the real server, while no other host can be reached."""

import base64
import json
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

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")

FILES = ".drop input[multiple]"
MINUTES = 600.0  # seconds that a job may take beside other tests


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_of_a_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that lets the browser into a server."""
    with served(tmp_path_factory.mktemp("web") / "cases") as address:
        yield address


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_script()


@pytest.fixture(params=[(1280, False), (390, True)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Page) -> Page:
    width, phone = request.param
    browser.leave()
    browser.resize(width, 844, phone=phone)
    browser.media(dark=phone)
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
    upload_goes_on_in_another_window(tmp_path, page)
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


def case_is_deleted_in_another_window(page: Page) -> None:
    delete = """(async () => {
        const headers = {"X-Zssr-Gan": "1"}, place = `/api/cases/${location.hash.split("/")[2]}`;
        const {title} = await (await fetch(place)).json();
        await fetch(place, {method: "DELETE", headers, body: JSON.stringify({title})});
    })()"""
    page.value(delete)
    page.wait(
        "location.hash === '#/' && document.querySelector('.notice.error')?.innerText.includes('there is no case')"
    )


def open_frame(page: Page, number: int) -> None:
    """In *Mark*, go from the first frame of the clip to another, and wait for its picture."""
    page.wait("document.querySelector('.frame-stage img').naturalWidth === 96")
    page.wait("document.querySelector('.scrub').max === '8'")
    settle(page)
    for _ in range(number):
        page.press("ArrowRight", 39)
    page.wait(f"document.querySelector('.frame-facts').textContent.startsWith('Frame {number} of 8')")
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
    page.wait("document.querySelector('.frame-facts').textContent.includes('Frame 4 of 8, 0.160 s · ')")
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
