"""What is enhanced and what the results are called; what would be written over something is refused beforehand."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zssr_gan.errors import ImageError, OutputError, SettingsError
from zssr_gan.inference.outputs import (
    RunPlan,
    collect_sources,
    parse_scale,
    plan_run,
    unique_stems,
)
from zssr_gan.inference.request import Request
from zssr_gan.provenance import MARK, scale_text
from zssr_gan.settings.zeroshot import ZeroShotSettings


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def results(plan: RunPlan) -> list[str]:
    return [task.result.name for task in plan.todo]


@pytest.mark.parametrize(
    ("text", "scale"), [("2", (2, 2)), ("1.5", (1.5, 1.5)), ("2x3", (3, 2)), (" 8X1 ", (1, 8)), ("2.0", (2, 2))]
)
def test_scales_are_read_width_first(text: str, scale: tuple[float, float]) -> None:
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["", "two", "0.5", "9", "2x", "x2", "2x3x4", "nan", "inf", "-2", "1e1", "2,5", "2x9"])
def test_other_scales_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="scale"):
        Request(ZeroShotSettings(), parse_scale(text))


@given(st.tuples(*[st.decimals(1, 8, places=3)] * 2))
def test_scale_text_is_the_inverse(factors: tuple[object, object]) -> None:
    scale = parse_scale(f"{factors[0]}x{factors[1]}")
    assert parse_scale(scale_text(scale)) == scale


@given(st.lists(st.lists(st.sampled_from("aAb_"), min_size=1, max_size=4).map("".join), min_size=1, max_size=12))
def test_names_never_collide(names: list[str]) -> None:
    parts = [Path("/x", *name.split("_")) for name in names if name.strip("_")]
    sources = sorted({path.with_name(path.name + end) for path in parts for end in (".png", ".jpg")})
    stems = unique_stems([path.relative_to("/x") for path in sources])
    assert len({stem.casefold() for stem in stems}) == len(sources)
    assert not any("/" in stem for stem in stems)


def test_a_unique_stem_is_kept_and_others_take_their_path() -> None:
    sources = [Path("a.png"), Path("s/a.png"), Path("b.png"), Path("t/c.png"), Path("t/c.jpg")]
    assert unique_stems(sources) == ["a", "s__a", "b", "t__c_png", "t__c_jpg"]


def test_a_name_too_long_for_a_disk_is_cut() -> None:
    (stem,) = unique_stems([Path("ä" * 120 + ".png")])
    assert len(os.fsencode(f"{stem}_x2_evidence.png")) <= 255


def test_each_file_is_taken_once_in_order(tmp_path: Path) -> None:
    touch(
        tmp_path / "b.PNG",
        tmp_path / "a.webp",
        tmp_path / "notes.txt",
        tmp_path / ".hidden.png",
        tmp_path / "s" / "c.tif",
    )
    sources, _ = collect_sources([tmp_path, tmp_path / "b.PNG"])
    assert [path.name for path in sources] == ["a.webp", "b.PNG"]
    sources, _ = collect_sources([tmp_path], recursive=True)
    assert [path.name for path in sources] == ["a.webp", "b.PNG", "c.tif"]


def test_our_own_results_in_a_folder_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    (tmp_path / "a_x2.png").write_bytes(b"PNG" + MARK.encode())
    notice = "left out 1 results of earlier runs found in the folders"
    assert collect_sources([tmp_path]) == ([tmp_path / "a.png"], (notice,))
    # ... but what is named outright is meant.
    assert collect_sources([tmp_path / "a_x2.png"]) == ([tmp_path / "a_x2.png"], ())


def test_what_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.png", "b.mov", "c.xyz", "notes.txt", "s/d.gif", "s/e.cr2")))
    notice, folders = plan_run([tmp_path]).notices
    assert folders == "left out 1 folder, such as s: --recursive looks into folders"
    assert notice == (
        "left out 2 files, such as b.mov, c.xyz: not of a kind that is read "
        "('zssr-gan video frames b.mov -o DIR' writes a video's frames as images)"
    )
    (notice,) = plan_run([tmp_path], recursive=True).notices
    assert notice.startswith("left out 4 files, such as b.mov, c.xyz, s/d.gif: ")
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        ImageError, match=r"no image of a kind that is read .*; left out 2 files, such as b\.mov, c\.xyz"
    ):
        plan_run([tmp_path])


@pytest.mark.parametrize("recursive", [False, True])
def test_links_and_hidden_things_are_named(tmp_path: Path, recursive: bool) -> None:
    touch(*(tmp_path / name for name in ("in/a.png", "in/.b.png", "in/.c/d.png", "in/.DS_Store", "else/e.png")))
    links = {"broken": "gone", "broken.png": "gone.png", "loop": "loop", "loop.png": "pool.png", "pool.png": "loop.png"}
    for name, target in {**links, "linked": "../else"}.items():
        (tmp_path / "in" / name).symlink_to(target)
    sources, notices = collect_sources([tmp_path / "in"], recursive=recursive)
    names = ["a.png", "broken.png", "loop.png", "pool.png"]  # of these the links fail by name in their turn
    hidden = "left out 2 items, such as .b.png, .c: hidden"
    if recursive:
        assert sorted(path.name for path in sources) == sorted([*names, "broken", "loop", "e.png"])
        assert notices == (hidden,)
        return
    assert [path.name for path in sources] == names
    assert set(notices) == {
        hidden,
        "left out 1 item, such as broken: a broken link",
        "left out 1 item, such as loop: a loop of links",
        "left out 1 folder, such as linked: --recursive looks into folders",
    }


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken.png", "is a broken link (to gone.png)."),
        ("loop.png", "is a loop of links (to pool.png)."),
        ("gone.png", "no such file or folder in the working directory {}."),
    ],
)
def test_an_input_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str) -> None:
    monkeypatch.chdir(tmp_path)
    for link, target in {"broken.png": "gone.png", "loop.png": "pool.png", "pool.png": "loop.png"}.items():
        Path(link).symlink_to(target)
    with pytest.raises(ImageError) as caught:
        collect_sources([Path(name)])
    assert str(caught.value) == f"{name}: {why.format(tmp_path)}"


@pytest.mark.parametrize("name", ["missing.png", "empty"])
def test_nothing_to_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=name):
        collect_sources([tmp_path / name])


def test_results_lie_beside_the_input_or_in_the_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "s" / "a.tiff")
    inputs = [tmp_path / "a.jpg", tmp_path / "s" / "a.tiff"]
    beside = [task.result.relative_to(tmp_path).as_posix() for task in plan_run(inputs).todo]
    assert beside == ["a_x2.png", "s/a_x2.tif"]
    together = plan_run(inputs, output=tmp_path / "out", scale=(3, 1.5), extension="png")
    assert results(together) == ["a_x1.5x3.png", "s__a_x1.5x3.png"]


def test_one_input_may_name_its_result(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (task,) = plan_run([tmp_path / "a.jpg"], output=tmp_path / "new" / "big.TIF", evidence=True).todo
    assert [path.name for path in task.targets] == ["big.TIF", "big.json", "big_evidence.png"]
    with pytest.raises(OutputError, match="more than one input"):
        plan_run([tmp_path / "a.jpg", tmp_path / "b.jpg"], output=tmp_path / "big.png")
    with pytest.raises(OutputError, match="without loss"):
        plan_run([tmp_path / "a.jpg"], output=tmp_path / "big.jpg")
    with pytest.raises(OutputError, match="--suffix"):
        plan_run([tmp_path / "a.jpg"], output=tmp_path / "big.png", suffix="_big")


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink"])
def test_an_input_is_never_written_over(tmp_path: Path, link: str) -> None:
    source, target = tmp_path / "a.png", tmp_path / "out" / "a.png"
    touch(source, target)
    target.unlink()
    if link == "symlink":
        target.symlink_to(source)
    elif link == "hardlink":
        target.hardlink_to(source)
    else:
        target = source
    with pytest.raises(OutputError, match="is an input"):
        plan_run([source], output=target, overwrite=True)


def test_nor_another_input_nor_by_the_sheet(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a_x2.png")
    with pytest.raises(OutputError, match="is an input"):
        plan_run([tmp_path / "a.png", tmp_path / "a_x2.png"], overwrite=True)
    with pytest.raises(OutputError, match="is an input"):
        plan_run([tmp_path / "a.png"], compare=tmp_path / "a.png", overwrite=True)


@pytest.mark.parametrize("name", ["a_x2.png", "a_x2.json", "a_x2_evidence.png", "sheet.png"])
def test_what_exists_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a.png", tmp_path / name)
    with pytest.raises(OutputError, match="exists already"):
        plan_run([tmp_path / "a.png"], evidence=True, compare=tmp_path / "sheet.png")
    assert plan_run([tmp_path / "a.png"], evidence=True, compare=tmp_path / "sheet.png", overwrite=True).todo


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(OutputError, match="written twice"):
        plan_run([tmp_path / "a.png"], compare=tmp_path / "a_x2.png")


def test_a_place_that_cannot_be_written_is_found_beforehand(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "file")
    with pytest.raises(OutputError, match="not a folder"):
        plan_run([tmp_path / "a.png"], output=tmp_path / "file" / "deeper")
    (tmp_path / "a_x2.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        plan_run([tmp_path / "a.png"], overwrite=True)


@pytest.mark.parametrize("suffix", ["/x", "..\\x"])
def test_a_suffix_stays_in_the_folder(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(SettingsError, match="suffix"):
        plan_run([tmp_path / "a.png"], suffix=suffix)


def test_only_what_is_complete_is_skipped(tmp_path: Path) -> None:
    sources = [tmp_path / "a.png", tmp_path / "b.png"]
    touch(*sources, tmp_path / "a_x2.png", tmp_path / "a_x2.json")

    def planned(**options: bool) -> tuple[list[str], list[str]]:
        plan = plan_run(sources, **options)
        return [task.source.name for task in plan.todo], [task.source.name for task in plan.skipped]

    assert planned(skip_existing=True) == (["b.png"], ["a.png"])
    (tmp_path / "a_x2.json").unlink()
    with pytest.raises(OutputError, match="interrupted"):
        planned(skip_existing=True)
    assert planned(skip_existing=True, overwrite=True) == (["a.png", "b.png"], [])
    assert planned(skip_existing=True, record=False) == (["b.png"], ["a.png"])


@pytest.mark.parametrize("left", [["a_x2_evidence.png"], ["a_x2_evidence.png", "a_x2.png"], ["a_x2.png"]])
def test_what_a_killed_run_left_without_its_record_is_made_anew(tmp_path: Path, left: list[str]) -> None:
    touch(tmp_path / "a.png")
    for name in left:
        (tmp_path / name).write_bytes(b"PNG" + MARK.encode())
    with pytest.raises(OutputError, match="exists already"):
        plan_run([tmp_path / "a.png"], evidence=True)  # only where that was asked for
    plan = plan_run([tmp_path / "a.png"], evidence=True, skip_existing=True)
    assert [{path.name for path in task.replaced} for task in plan.todo] == [set(left)]
    # Nothing is missing where no record is asked for.
    if left == ["a_x2.png"]:
        assert plan_run([tmp_path / "a.png"], record=False, skip_existing=True).skipped
    # What is not ours is kept, and so is what lies beside a record.
    (tmp_path / left[0]).write_bytes(b"someone else's")
    with pytest.raises(OutputError, match="exists already"):
        plan_run([tmp_path / "a.png"], evidence=True, skip_existing=True)
    (tmp_path / left[0]).write_bytes(MARK.encode())
    (tmp_path / "a_x2.json").touch()
    if len(left) == 1:
        with pytest.raises(OutputError, match="interrupted"):
            plan_run([tmp_path / "a.png"], evidence=True, skip_existing=True)
