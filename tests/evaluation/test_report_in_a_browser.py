"""The report in a real Chromium, opened from the disk: it moves, its pictures are there, and nothing is asked for."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageChops

from tests.browser import CHROMIUM, Page, page_of_a_browser
from tests.reports import views, written_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")

SLIDER, OVERLAY = "#part-1-scene-1 .slider", "#part-1-scene-1 .overlay"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_of_a_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(params=[(1280, False), (390, True)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Page, file: Path) -> Iterator[Page]:
    """The report, just opened; after the test the browser has complained of nothing and asked for nothing."""
    width, phone = request.param
    browser.events.clear()
    browser.resize(width, 900, phone=phone)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=phone)
    browser.open(file)
    yield browser
    browser.value("0")  # whatever was under way is reported before its answer
    heard = [event["method"] for event in browser.events]
    assert not {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} & set(heard), browser.events
    asked = {
        urlsplit(event["params"]["request"]["url"]).scheme
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked == {"file", "data"}


def looks(page: Page) -> Image.Image:
    """What is to be seen of the two views that lie over each other."""
    page.value(
        f"Promise.all([...document.querySelectorAll('{OVERLAY} img')].map(one => one.decode())).then(() => true)"
    )
    box = page.value(
        f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const b = e.getBoundingClientRect();"
        f" return {{x: b.x, y: b.y, width: b.width, height: b.height, scale: 1}}; }})"
        f"(document.querySelector('{OVERLAY}'))"
    )
    return page.picture(box)


def differ(one: Image.Image, other: Image.Image, start: float, end: float) -> bool:
    """Whether two pictures differ between these shares of their width; their edges, half a pixel, are left out."""
    strip = (round(one.width * start) + 2, 4, round(one.width * end) - 2, one.height // 4)
    return ImageChops.difference(one, other).crop(strip).getbbox() is not None


def share(page: Page) -> float:
    return float(page.value(f"document.querySelector('{SLIDER}').value"))


def test_all_pictures_are_there_and_the_page_is_not_too_wide(page: Page) -> None:
    page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait("[...document.querySelectorAll('main img')].every(one => one.complete)")
    images = page.value(
        "[...document.querySelectorAll('main img')].map(one => [one.alt, one.complete && one.naturalWidth])"
    )
    assert len(images) > 4 * len(views())
    assert all(alt and width for alt, width in images)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    # What is folded is printed too.
    page.value("document.querySelectorAll('details').forEach(one => one.open = false)")
    assert page.pdf().startswith(b"%PDF")
    page.value("dispatchEvent(new Event('beforeprint'))")
    assert page.value("document.querySelectorAll('details:not([open])').length") == 0
    page.value("dispatchEvent(new Event('afterprint'))")
    assert page.value("document.querySelectorAll('details:not([open])').length") > 2


def test_the_slider_uncovers_what_lies_below(page: Page) -> None:
    """By dragging, by a click or a touch, and by keys; the share is to be seen in the picture."""
    middle = looks(page)
    page.drag(SLIDER, 0.5, 0.9)
    assert share(page) == pytest.approx(90, abs=2)
    moved = looks(page)
    assert moved.size == middle.size
    assert differ(middle, moved, 0.55, 0.85)
    assert not differ(middle, moved, 0.0, 0.45)
    (page.touch if page.value("navigator.maxTouchPoints > 0") else page.click)(SLIDER, 0.25)
    assert share(page) == pytest.approx(25, abs=2)
    page.value(f"document.querySelector('{SLIDER}').focus()")
    before = share(page)
    page.press("ArrowRight", 39)
    assert share(page) == before + 0.5
    page.press("End", 35)
    assert share(page) == 100


def test_other_views_can_be_chosen(page: Page) -> None:
    chosen = "document.querySelector('#part-1-scene-1 .side-{side}').selectedOptions[0].text"
    mark = "document.querySelector('#part-1-scene-1 .mark-right').textContent"
    assert page.value(chosen.format(side="left")) == "bicubic"
    assert page.value(chosen.format(side="right")) == views()[-2].caption
    assert page.value(mark) == "generative"
    before = looks(page)
    page.value("document.querySelector('#part-1-scene-1 .side-right').focus()")
    page.press("ArrowDown", 40)
    assert page.value(chosen.format(side="right")) == "truth"
    assert page.value(mark) == ""
    after = looks(page)
    assert differ(before, after, 0.55, 1.0)
    assert not differ(before, after, 0.0, 0.45)


def test_pictures_can_be_enlarged(page: Page) -> None:
    lens = "document.getElementById('lens')"
    page.value("document.querySelector('#part-1-scene-1 .stage-zoom').focus()")
    page.press("Home", 36)
    assert page.value(f"document.querySelector('{OVERLAY}').clientWidth") == 50
    page.press("ArrowRight", 39)
    assert page.value(f"document.querySelector('{OVERLAY}').clientWidth") == 100
    page.click("#part-1-scene-1 .views li:nth-child(2) button")
    page.wait(f"{lens}.open")
    page.value("document.getElementById('lens-zoom').focus()")
    page.press("Home", 36)
    page.press("ArrowRight", 39)
    assert page.value("document.getElementById('lens-image').clientWidth") == 100
    assert page.value("getComputedStyle(document.getElementById('lens-image')).imageRendering") == "pixelated"
    assert page.value("document.getElementById('lens-caption').textContent") == "face 0: bicubic (internal)"
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    page.press("Escape", 27)
    assert not page.value(f"{lens}.open")


def test_without_its_script_everything_is_to_be_seen(browser: Page, file: Path) -> None:
    browser.resize(1280, 900)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(file)
        seen = browser.value(
            "[...document.querySelectorAll('#part-1-scene-1 .views img')].map(one => one.getBoundingClientRect().width)"
        )
        assert len(seen) == len(views())
        assert min(seen) > 90
        assert browser.value("document.querySelector('.compare').getBoundingClientRect().height") == 0
        assert browser.value("document.querySelector('svg').getBoundingClientRect().height") > 100
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
