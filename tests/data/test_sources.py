"""Readers: what is an image, whom it shows, and what is said of a set that is not as published."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from tests.data.trees import SURVFACE, TINYFACE, make_tree, pixels, write_image, write_list, write_pairs
from zssr_gan.data import split
from zssr_gan.data.prepared import open_sources
from zssr_gan.data.qmul import SurvFace, TinyFace
from zssr_gan.data.sources import IMAGE_EXTENSIONS, NAMES, SIDE, Folder, Lfw, Listing, Photographs, Source
from zssr_gan.data.split import make_split
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.inference.outputs import READABLE
from zssr_gan.settings.data import DataSettings, RoleSettings, SourceSettings


def paths(listing: Listing) -> list[str]:
    return [entry.path for entry in listing.entries]


def identities(source: Source) -> dict[str, str | None]:
    return {entry.path: entry.identity for entry in source.listing().entries}


class TestFolder:
    def test_images_at_any_depth_in_the_order_of_their_paths(self, tmp_path: Path) -> None:
        make_tree(tmp_path, ["b.png", "a/z.JPG", "a/b/c.Tiff", "a.bmp", "notes.txt", ".hidden.png", "__MACOSX/a.png"])
        assert paths(Folder("folder", tmp_path).listing()) == ["a.bmp", "a/b/c.Tiff", "a/z.JPG", "b.png"]

    def test_what_else_is_there_is_told(self, tmp_path: Path) -> None:
        make_tree(
            tmp_path, ["00000/00001.png", "00000/00002.png", "LICENSE.txt", "00000/Thumbs.db", "00000/._00001.png"]
        )
        listing = Folder("ffhq", tmp_path).listing()
        assert paths(listing) == ["00000/00001.png", "00000/00002.png"]
        assert listing.notices == (
            "ffhq: 2 files whose names are no image's are left out, such as 00000/Thumbs.db",
            "ffhq: 1 hidden file or folder is left out, such as 00000/._00001.png",
        )

    def test_it_knows_the_extensions_that_the_command_knows(self) -> None:
        assert IMAGE_EXTENSIONS == READABLE

    def test_what_is_read(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", 9, 11)
        content = Folder("mine", tmp_path).read("a.png")
        assert content.sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
        assert (
            content.picture.pixels.mul(255).round().permute(1, 2, 0).numpy().tolist() == pixels("a.png", 9, 11).tolist()
        )

    def test_an_unreadable_one_is_named_by_its_id(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
        with pytest.raises(ImageError, match=r"^mine/a\.png: the PNG file is damaged"):
            Folder("mine", tmp_path).read("a.png")

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="none: cannot be opened as a folder of images"):
            Folder("mine", tmp_path / "none").listing()

    def test_links_are_followed_and_end(self, tmp_path: Path) -> None:
        make_tree(tmp_path, ["real/a.png", "set/b.png"])
        (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
        (tmp_path / "set" / "up").symlink_to(tmp_path / "set")
        assert paths(Folder("mine", tmp_path / "set").listing()) == ["b.png", "linked/a.png"]

    def test_a_name_that_is_no_text_is_listed_as_unusable(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png")
        try:
            shutil.copy(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
        except OSError:
            pytest.skip("this file system has only names in UTF-8")
        listing = Folder("mine", tmp_path).listing()
        assert paths(listing) == ["a.png"]
        assert listing.unusable == (("\\xff.png", "its name is not UTF-8"),)


class TestLfw:
    def test_a_hundred_gray_faces(self) -> None:
        source = Lfw("lfw")
        assert paths(source.listing()) == [f"face-{index:03}" for index in range(100)]
        content = source.read("face-007")
        levels = content.picture.pixels.mul(255).round()
        assert levels.shape == (1, 25, 25)
        assert content.sha256 == hashlib.sha256(bytes(levels.flatten().int().tolist())).hexdigest()

    @pytest.mark.parametrize("path", ["face-100", "face-", "7", "face--1"])
    def test_no_such_face(self, path: str) -> None:
        with pytest.raises(ImageError, match="there is no such face"):
            Lfw("lfw").read(path)


class TestPhotographs:
    def test_whole_tiles_of_each(self) -> None:
        source = Photographs("photographs")
        entries = source.listing().entries
        assert len(entries) == 64
        assert {entry.identity for entry in entries} == set(NAMES)
        tiles = {entry.path: source.read(entry.path) for entry in entries}
        assert {tuple(tile.picture.pixels.shape) for tile in tiles.values()} == {(3, SIDE, SIDE)}
        levels = tiles["coffee-1-2"].picture.pixels.mul(255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(levels, data.coffee()[128:256, 256:384])
        assert tiles["coffee-1-2"].sha256 == hashlib.sha256(levels.tobytes()).hexdigest()
        assert len({tile.sha256 for tile in tiles.values()}) == 64

    def test_no_photograph_is_on_both_sides(self) -> None:
        settings = DataSettings(sources=(SourceSettings(kind="photographs"),), size=None)
        settings = settings.model_copy(update={"roles": RoleSettings(zssr=0, generator=None)})
        made = make_split(settings, open_sources(settings), 0)
        sides = {part: {one.identity for one in made.entries if one.part == part} for part in ("train", "test")}
        assert not sides["train"] & sides["test"]
        assert (len(sides["train"]), len(sides["test"])) == (4, 1)

    @pytest.mark.parametrize("path", ["coffee-3-0", "coffee", "camera-0-0", "coffee-01-2", "../coffee-0-0"])
    def test_no_such_tile(self, path: str) -> None:
        with pytest.raises(ImageError, match="there is no such tile"):
            Photographs("photographs").read(path)


class TestCameras:
    @pytest.mark.parametrize(
        ("path", "camera"),
        [
            ("training_set/17/17_cam1_2.jpg", "cam1"),
            ("Face_Identification_Test_Set/gallery/17_CAM12_2.jpg", "cam12"),
            ("training_set/17/17_cam03_2", "cam3"),
            ("Face_Identification_Test_Set/unmated_probe/distractors_4.jpg", None),
            ("training_set/17_cam1_2/other.jpg", None),
        ],
    )
    def test_survface_names_them(self, path: str, camera: str | None) -> None:
        assert SurvFace("s", Path("nowhere")).camera(path) == camera

    @pytest.mark.parametrize("source", [Folder("f", Path("x")), Lfw("l"), TinyFace("t", Path("x"))], ids=str)
    def test_nobody_else_does(self, source: Source) -> None:
        assert source.camera("17/17_cam1_2.jpg") is None


class TestTinyFace:
    def test_as_published(self, tinyface: Path) -> None:
        source = TinyFace("tinyface", tinyface)
        assert source.listing().missing == source.listing().notices == source.listing().unusable == ()
        found = identities(source)
        assert set(found) == set(TINYFACE)
        assert found["Training_Set/2/2_1.jpg"] == "2"
        assert found["Testing_Set/Probe/11_1.jpg"] == found["Testing_Set/Gallery_Match/11_7.jpg"] == "11"
        assert found["Testing_Set/Gallery_Distractor/3_x_3_y.jpg"] is None

    def test_the_folder_above_does_too(self, tinyface: Path) -> None:
        assert TinyFace("t", tinyface.parent).listing() == TinyFace("t", tinyface).listing()
        path = "Testing_Set/Probe/11_1.jpg"
        assert TinyFace("t", tinyface.parent).read(path).sha256 == TinyFace("t", tinyface).read(path).sha256

    def test_what_a_list_names_and_is_not_there(self, tinyface: Path) -> None:
        (tinyface / "Testing_Set/Probe/12_2.jpg").unlink()
        listing = TinyFace("tinyface", tinyface).listing()
        assert listing.missing == ("Testing_Set/Probe/12_2.jpg",)

    def test_what_is_there_and_not_listed(self, tinyface: Path) -> None:
        write_image(tinyface / "Testing_Set/Probe/14_1.jpg")
        (notice,) = TinyFace("tinyface", tinyface).listing().notices
        assert "does not list 1 images" in notice

    def test_lists_give_identities_where_names_have_none(self, tinyface: Path) -> None:
        """By whom else the list has under that number; else by the number itself."""
        for name in ("someone.jpg", "stranger.jpg"):
            write_image(tinyface / "Testing_Set/Probe" / name)
        names, labels = ["11_1.jpg", "11_2.jpg", "someone.jpg", "stranger.jpg"], [1, 1, 1, 99]
        write_list(tinyface / "Testing_Set/probe_img_ID_pairs.mat", "probe", names, labels)
        found = identities(TinyFace("tinyface", tinyface))
        assert found["Testing_Set/Probe/someone.jpg"] == "11"
        assert found["Testing_Set/Probe/stranger.jpg"] == "list-99"

    def test_lists_that_disagree_with_the_names(self, tinyface: Path) -> None:
        names = [f"{person}_{photo}.jpg" for person in (11, 12, 13) for photo in (1, 2)]
        write_list(tinyface / "Testing_Set/probe_img_ID_pairs.mat", "probe", names, [1, 1, 2, 3, 3, 3])
        listing = TinyFace("tinyface", tinyface).listing()
        assert "the lists group 1 images otherwise than their names" in listing.notices[0]
        assert identities(TinyFace("tinyface", tinyface))["Testing_Set/Probe/12_2.jpg"] == "12"

    @pytest.mark.parametrize("content", [b"nonsense", None])
    def test_without_a_sound_list_names_are_used(self, tinyface: Path, content: bytes | None) -> None:
        file = tinyface / "Testing_Set/probe_img_ID_pairs.mat"
        file.unlink() if content is None else file.write_bytes(content)
        listing = TinyFace("tinyface", tinyface).listing()
        assert "names alone were read" in listing.notices[0]
        assert len(listing.entries) == len(TINYFACE)

    def test_a_part_that_is_missing_is_said(self, tinyface: Path) -> None:
        shutil.rmtree(tinyface / "Training_Set")
        assert "the folder Training_Set is not there" in TinyFace("tinyface", tinyface).listing().notices[0]

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            SettingsError, match=r"holds none of the folders Testing_Set, Training_Set; data/README\.md"
        ):
            TinyFace("tinyface", tmp_path).listing()
        with pytest.raises(SettingsError, match="does not exist"):
            TinyFace("tinyface", tmp_path / "none").listing()


class TestSurvFace:
    def test_as_published(self, survface: Path) -> None:
        source = SurvFace("survface", survface)
        assert source.listing().missing == source.listing().notices == ()
        found = identities(source)
        assert set(found) == set(SURVFACE)
        test = "Face_Identification_Test_Set"
        assert found["training_set/1/1_cam1_2.jpg"] == "1"  # the lists' number 1 is another person
        assert found[f"{test}/gallery/21_cam2_1.jpg"] == found[f"{test}/mated_probe/21_cam3_1.jpg"] == "21"
        assert found[f"{test}/unmated_probe/31_cam1_1.jpg"] == "31"
        assert found[f"{test}/unmated_probe/distractors_1.jpg"] is None
        assert found["Face_Verification_Test_Set/verification_images/22_cam2_1.jpg"] == "22"

    def test_lists_in_the_other_folder(self, survface: Path) -> None:
        (survface / "Face_Identification_Evaluation").mkdir()
        for file in (survface / "Face_Identification_Test_Set").glob("*.mat"):
            file.rename(survface / "Face_Identification_Evaluation" / file.name)
        assert SurvFace("survface", survface).listing().notices == ()

    def test_names_without_an_extension_or_in_capitals(self, survface: Path) -> None:
        gallery = survface / "Face_Identification_Test_Set/gallery"
        (gallery / "21_cam2_1.jpg").rename(gallery / "21_cam2_1")
        (gallery / "22_cam2_1.jpg").rename(gallery / "22_cam2_1.JPG")
        source = SurvFace("survface", survface)
        assert source.listing().missing == source.listing().notices == ()
        assert identities(source)["Face_Identification_Test_Set/gallery/21_cam2_1"] == "21"
        assert source.read("Face_Identification_Test_Set/gallery/21_cam2_1").picture.pixels.shape == (3, 20, 16)

    def test_pairs_are_held_against_the_images(self, survface: Path) -> None:
        folder = survface / "Face_Verification_Test_Set"
        wrong = [("21_cam2_1.jpg", "22_cam2_1.jpg"), ("21_cam2_1.jpg", "40_cam1_1.jpg")]
        write_pairs(folder / "positive_pairs_names.mat", "positive_pairs_names", wrong)
        listing = SurvFace("survface", survface).listing()
        assert listing.missing == ("Face_Verification_Test_Set/verification_images/40_cam1_1.jpg",)
        assert "1 pairs of the same person are otherwise" in listing.notices[0]


class Ending(Folder):
    """Ends the process that reads from it, as a system without memory does."""

    def __init__(self) -> None:
        super().__init__("ending", Path())

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


class TestCensus:
    @pytest.mark.parametrize("processes", [1, pytest.param(3, marks=pytest.mark.slow)])
    def test_in_order_with_reasons(self, many: Path, processes: int) -> None:
        names = [f"{index:03}.png" for index in range(600)]
        seen: list[int] = []
        found = list(split.examine(Folder("f", many), names, lambda p: seen.append(p.done), processes))
        assert len(found) == seen[-1] == 600
        assert found[7] == (hashlib.sha256((many / "007.png").read_bytes()).hexdigest(), 16, 20)
        assert found[300] == "is not an image of a kind that is read (PNG, JPEG, TIFF, BMP and WebP)"
        assert found[301] == "the BMP file is damaged or truncated"
        assert found[599] == "cannot be read (No such file or directory)"

    def test_another_process_finds_the_same(self, many: Path) -> None:
        """One only: each takes seconds to start."""
        names = [f"{index:03}.png" for index in range(600)]
        source = Folder("f", many)
        batches = [names[start : start + 70] for start in range(0, 600, 70)]
        found = split._in_processes(source, iter(batches), 1)
        assert [one for batch in found for one in batch] == list(split.examine(source, names, processes=1))

    def test_a_process_that_is_ended_is_one_sentence(self) -> None:
        with pytest.raises(split.CensusError, match="was ended"):
            list(split._in_processes(Ending(), iter([["a"], ["b"]]), 1))

    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        make_tree(tmp_path, [f"{index:03}.png" for index in range(600)])
        (tmp_path / "300.png").write_bytes(b"GIF89a")
        (tmp_path / "301.png").write_bytes((tmp_path / "302.png").read_bytes()[:200])
        (tmp_path / "599.png").unlink()
        return tmp_path


def test_every_kind_opens_and_travels_to_workers(tmp_path: Path) -> None:
    kinds = ("folder", "tinyface", "survface", "lfw", "photographs")
    roots = {kind: None if kind in ("lfw", "photographs") else str(tmp_path) for kind in kinds}
    sources = tuple(SourceSettings(kind=kind, root=roots[kind]) for kind in kinds)
    opened = open_sources(DataSettings(sources=sources))
    assert [source.name for source in opened] == list(kinds)
    assert pickle.loads(pickle.dumps(opened)) == opened
