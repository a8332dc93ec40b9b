import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from zssr_gan.errors import ImageError
from zssr_gan.imaging import preview


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZSSR_GAN_PREVIEW", str(tmp_path / "p.png"))
    monkeypatch.setattr(preview, "_shown", float("-inf"))
    return tmp_path / "p.png"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGB")])
def test_a_preview_is_a_picture_of_the_image(file: Path, channels: int, mode: str) -> None:
    preview.show(lambda: torch.full((channels, 5, 7), 0.5).index_fill_(2, torch.tensor([0]), 1.5))
    with Image.open(file) as picture:
        assert (picture.mode, picture.size) == (mode, (7, 5))
        assert picture.convert("L").getpixel((0, 0)) == 255
        assert picture.convert("L").getpixel((3, 3)) == 128
    assert [path.name for path in file.parent.iterdir()] == ["p.png"]


@pytest.mark.usefixtures("file")
def test_previews_are_made_once_a_second_and_cost_a_fiftieth(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = [0.0], list[float]()
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def make() -> torch.Tensor:
        made.append(clock[0])
        clock[0] += 0.05
        return torch.zeros(1, 2, 2)

    while clock[0] < 20:
        clock[0] += 0.01
        preview.show(make)
    assert len(made) == 8
    clock[0] = made[-1] + 1.1
    preview.show(make, now=True)
    assert len(made) == 9
    preview.show(make, now=True)
    assert len(made) == 9


def test_without_a_file_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZSSR_GAN_PREVIEW", raising=False)
    preview.show(lambda: pytest.fail("made"), now=True)


def test_a_preview_that_cannot_be_written_fails_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSSR_GAN_PREVIEW", str(file / "no" / "folder.png"))
    preview.show(lambda: torch.zeros(1, 2, 2))


def test_the_image_in_front_alone_is_shown(file: Path) -> None:
    preview.bring_to_front("a")
    try:
        for image, shown in (("b", False), ("a", True)):

            def work(image: str = image) -> None:
                preview.works_on(image)
                preview.show(lambda: torch.zeros(1, 2, 2))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert file.exists() == shown
    finally:
        preview.bring_to_front(None)


def test_an_image_that_cannot_be_read_has_none(file: Path) -> None:
    def make() -> torch.Tensor:
        raise ImageError("broken")

    preview.show(make)
    assert not file.exists()
