from pathlib import Path

import pytest

from zssr_gan.web.names import job_number, kind_of, slug


@pytest.mark.parametrize(
    "name",
    ["../x", "..", "", "a/b\\c", "\x00", "con", "NUL.png", "-rf", ".hidden", "a" * 300 + ".png", "x.p n/g", "Ün é.JPG"],
)  # fmt: skip
def test_a_slug_is_a_plain_file_name(name: str) -> None:
    plain = slug(name)
    assert plain
    assert plain == Path(plain).name
    assert plain.isascii()
    assert len(plain) <= 100
    assert plain[0] not in "-."
    assert "\0" not in plain
    assert plain.count(".") <= 1
    assert slug(plain) == plain


def test_kinds_follow_the_ending() -> None:
    assert [kind_of(Path(name)) for name in ("a.JPG", "b.mkv", "c.txt")] == ["image", "video", "other"]


@pytest.mark.parametrize(
    ("name", "number"), [("3_enhance", 3), ("x_3", 0), ("_", 0), ("\u0663_x", 0), ("9" * 30 + "_x", 0), ("007_fuse", 7)]
)
def test_a_folder_tells_its_job(name: str, number: int) -> None:
    assert job_number(Path("results") / name) == number
