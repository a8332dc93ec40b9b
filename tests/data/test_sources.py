"""Readers: what is an image, whom it shows, and what is said of a set that is not as published."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from tests.data.trees import SURVFACE, TINYFACE, make_tree, opened, pixels, write_image, write_list, write_pairs
from zssr_gan.data.prepared import open_sources
from zssr_gan.data.sources import FOLDER, HIDDEN, NOT_READ, Folder, Listing, Source, examine, images_in
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.settings.data import DataSettings, SourceSettings


def paths(listing: Listing) -> list[str]:
    return list(listing.entries)


def names_in(folder: Path, *, recursive: bool = True) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in images_in(folder, recursive=recursive)[0]]


def identities(source: Source) -> dict[str, str | None]:
    return dict(source.listing().entries)


class TestFolder:
    def test_images_at_any_depth_and_what_else_is_there(self, tmp_path: Path) -> None:
        make_tree(tmp_path, ["b.png", "a/z.JPG", "a/b/c.Tiff", "a.bmp", "LICENSE.txt", "a/Thumbs.db", "a/._z.JPG"])
        listing = opened("folder", tmp_path, "mine").listing()
        assert paths(listing) == ["a.bmp", "a/b/c.Tiff", "a/z.JPG", "b.png"]
        assert listing.notices == (
            "mine: 2 files whose names are no image's are left out, such as LICENSE.txt",
            "mine: 1 hidden file or folder is left out, such as a/._z.JPG",
        )
        assert names_in(tmp_path) == ["a.bmp", "b.png", "a/z.JPG", "a/b/c.Tiff"]
        images, left_out = images_in(tmp_path, recursive=False)
        assert images == [tmp_path / "a.bmp", tmp_path / "b.png"]
        assert left_out == {FOLDER: ["a"]}
        assert images_in(tmp_path)[1] == {HIDDEN: ["a/._z.JPG"]}

    def test_every_ending_that_is_read_is_taken(self, tmp_path: Path) -> None:
        endings = ["png", "jpg", "jpeg", "jpe", "JFIF", "tif", "tiff", "bmp", "webp", "avif", "HEIC", "heif", "hif"]
        expected = sorted(f"photo.{ending}" for ending in endings)
        make_tree(tmp_path, expected)
        assert names_in(tmp_path) == paths(opened("folder", tmp_path, "mine").listing()) == expected

    def test_pictures_and_videos_that_are_not_read_are_named(self, tmp_path: Path) -> None:
        others = ["a.xyz", "b.MOV", "c.cr2", "d.gif", "e.png~", "sub/f.mp4"]
        make_tree(tmp_path, [*others, "ok.png", "binary", ".h/a.png", "__MACOSX/a.png"])
        for name in ("notes.txt", "ok_x2.json", "README", ".hidden.mov", "model.safetensors"):
            (tmp_path / name).write_text("text")
        os.mkfifo(tmp_path / "pipe.png")
        images, left_out = images_in(tmp_path)
        assert images == [tmp_path / "ok.png"]
        assert left_out[NOT_READ] == ["a.xyz", "b.MOV", "binary", "c.cr2", "d.gif", "e.png~", "pipe.png", "sub/f.mp4"]

    def test_a_link_that_leads_nowhere_is_an_image_that_fails(self, tmp_path: Path) -> None:
        make_tree(tmp_path, ["b.png"])
        for name, target in (("a.png", "gone.png"), ("c.jpg", "c.jpg"), ("d.txt", "gone"), ("folder", "gone")):
            (tmp_path / name).symlink_to(target)
        assert names_in(tmp_path, recursive=False) == ["a.png", "b.png", "c.jpg"]
        assert images_in(tmp_path, recursive=False)[1] == {"is a broken link": ["d.txt", "folder"]}
        assert names_in(tmp_path) == ["a.png", "b.png", "c.jpg", "d.txt", "folder"]
        listing = opened("folder", tmp_path, "mine").listing()
        assert paths(listing) == ["b.png"]
        reasons = ("is a broken link", "is a loop of links", "is a broken link", "is a broken link")
        assert listing.unusable == tuple(zip(("a.png", "c.jpg", "d.txt", "folder"), reasons, strict=True))

    def test_folders_that_cannot_be_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user's own fails, one inside it is named."""
        make_tree(tmp_path, ["a.png", "locked/b.png", "open/c.png"])
        scandir = os.scandir

        def refuse(path: Path) -> object:
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        assert names_in(tmp_path) == ["a.png", "locked", "open/c.png"]
        with pytest.raises(ImageError, match="none: the folder cannot be listed"):
            images_in(tmp_path / "none")
        with pytest.raises(SettingsError, match="none: cannot be opened as a folder of images"):
            opened("folder", tmp_path / "none", "mine").listing()

    def test_what_is_read(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", 9, 11)
        content = opened("folder", tmp_path, "mine").read("a.png")
        assert content.sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
        levels = content.picture.pixels.mul(255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(levels, pixels("a.png", 9, 11))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
        with pytest.raises(ImageError, match=r"^mine/a\.png: the PNG file is damaged"):
            opened("folder", tmp_path, "mine").read("a.png")

    def test_links_are_followed_and_end(self, tmp_path: Path) -> None:
        make_tree(tmp_path, ["real/a.png", "set/b.png"])
        (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
        (tmp_path / "set" / "up").symlink_to(tmp_path / "set")
        assert paths(opened("folder", tmp_path / "set", "mine").listing()) == ["b.png", "linked/a.png"]
        (tmp_path / "set" / "again").symlink_to(tmp_path / "real")
        (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
        assert names_in(tmp_path / "set") == ["b.png", "again/a.png"]

    def test_a_name_that_is_no_text_is_listed_as_unusable(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png")
        try:
            shutil.copy(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
        except OSError:
            pytest.skip("this file system has only names in UTF-8")
        listing = opened("folder", tmp_path, "mine").listing()
        assert paths(listing) == ["a.png"]
        assert listing.unusable == (("\\xff.png", "its name is not UTF-8"),)


class TestBuiltIn:
    def test_a_hundred_gray_faces(self) -> None:
        source = opened("lfw", name="mine")
        assert paths(source.listing()) == [f"face-{index:03}" for index in range(100)]
        content = source.read("face-007")
        levels = content.picture.pixels.mul(255).round()
        assert levels.shape == (1, 25, 25)
        assert content.sha256 == hashlib.sha256(bytes(levels.flatten().int().tolist())).hexdigest()

    def test_whole_tiles_of_each_photograph(self) -> None:
        source = opened("photographs", name="mine")
        entries = source.listing().entries
        assert {*entries.values()} == {"astronaut", "chelsea", "coffee", "motorcycle", "rocket"}
        tiles = {path: source.read(path) for path in entries}
        assert {tuple(tile.picture.pixels.shape) for tile in tiles.values()} == {(3, 128, 128)}
        levels = tiles["coffee-1-2"].picture.pixels.mul(255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(levels, data.coffee()[128:256, 256:384])
        assert tiles["coffee-1-2"].sha256 == hashlib.sha256(levels.tobytes()).hexdigest()
        assert len({tile.sha256 for tile in tiles.values()}) == 64

    @pytest.mark.parametrize("path", ["face-100", "face-", "coffee-3-0", "coffee-01-2", "../face-000"])
    def test_no_such_image(self, path: str) -> None:
        with pytest.raises(ImageError, match=r"mine/.*: there is no such image: they are face-000 to face-099"):
            opened("lfw", name="mine").read(path)
        with pytest.raises(ImageError, match="they are astronaut-0-0 to rocket-2-4"):
            opened("photographs", name="mine").read(path)


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
def test_survface_alone_names_its_cameras(path: str, camera: str | None) -> None:
    root = Path("nowhere")
    assert opened("survface", root).camera(path) == camera
    for other in (opened("folder", root, "f"), opened("lfw"), opened("tinyface", root)):
        assert other.camera(path) is None


class TestTinyFace:
    @pytest.fixture
    def source(self, tinyface: Path) -> Source:
        return opened("tinyface", tinyface)

    def test_as_published(self, tinyface: Path, source: Source) -> None:
        listing = source.listing()
        assert listing.missing == listing.notices == listing.unusable == ()
        found = identities(source)
        assert set(found) == set(TINYFACE)
        assert found["Training_Set/2/2_1.jpg"] == "2"
        assert found["Testing_Set/Probe/11_1.jpg"] == found["Testing_Set/Gallery_Match/11_7.jpg"] == "11"
        assert found["Testing_Set/Gallery_Distractor/3_x_3_y.jpg"] is None
        above, path = opened("tinyface", tinyface.parent), "Testing_Set/Probe/11_1.jpg"
        assert above.listing() == listing
        assert above.read(path).sha256 == source.read(path).sha256

    def test_images_and_lists_that_differ(self, tinyface: Path, source: Source) -> None:
        (tinyface / "Testing_Set/Probe/12_2.jpg").unlink()
        write_image(tinyface / "Testing_Set/Probe/14_1.jpg")
        shutil.rmtree(tinyface / "Training_Set")
        listing = source.listing()
        assert listing.missing == ("Testing_Set/Probe/12_2.jpg",)
        assert listing.notices == (
            "tinyface: the folder Training_Set is not there.",
            "tinyface: Testing_Set/probe_img_ID_pairs.mat does not list 1 images that are there.",
        )

    @pytest.mark.parametrize(
        ("names", "labels", "notices", "found"),
        [  # a person without a name is whom else the list has under that number; else the number itself
            (["11_1", "11_2", "someone", "stranger"], [1, 1, 1, 99], 1, {"someone": "11", "stranger": "list-99"}),
            (["11_1", "11_2", "12_1", "12_2", "13_1", "13_2"], [1, 1, 2, 3, 3, 3], 2, {"12_2": "12"}),
        ],
        ids=["names without a person", "lists that disagree with the names"],
    )
    def test_names_and_lists(
        self, tinyface: Path, source: Source, names: list[str], labels: list[int], notices: int, found: dict[str, str]
    ) -> None:
        folder = tinyface / "Testing_Set/Probe"
        for name in ("someone.jpg", "stranger.jpg"):
            write_image(folder / name)
        write_list(folder.with_name("probe_img_ID_pairs.mat"), "probe", [f"{name}.jpg" for name in names], labels)
        assert {name: identities(source)[f"Testing_Set/Probe/{name}.jpg"] for name in found} == found
        said = source.listing().notices
        assert len(said) == notices
        assert notices == 1 or "the lists group 1 images otherwise than their names" in said[1]

    @pytest.mark.parametrize("content", [b"nonsense", None, "probe", "other"])
    def test_without_a_sound_list_names_are_used(
        self, tinyface: Path, source: Source, content: bytes | str | None
    ) -> None:
        file = tinyface / "Testing_Set/probe_img_ID_pairs.mat"
        if isinstance(content, str):  # a name too few, or no such variable
            write_list(file, content, ["11_1.jpg"], [1, 2])
        else:
            file.unlink() if content is None else file.write_bytes(content)
        listing = source.listing()
        assert "names alone were read" in listing.notices[0]
        assert len(listing.entries) == len(TINYFACE)

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="holds none of the folders Testing_Set, Training_Set; data/README"):
            opened("tinyface", tmp_path).listing()
        with pytest.raises(SettingsError, match="does not exist"):
            opened("tinyface", tmp_path / "none").listing()


class TestSurvFace:
    @pytest.fixture
    def source(self, survface: Path) -> Source:
        return opened("survface", survface)

    def test_as_published(self, source: Source) -> None:
        assert source.listing().missing == source.listing().notices == ()
        found = identities(source)
        assert set(found) == set(SURVFACE)
        test = "Face_Identification_Test_Set"
        assert found["training_set/1/1_cam1_2.jpg"] == "1"  # the lists' number 1 is another person
        assert found[f"{test}/gallery/21_cam2_1.jpg"] == found[f"{test}/mated_probe/21_cam3_1.jpg"] == "21"
        assert found[f"{test}/unmated_probe/31_cam1_1.jpg"] == "31"
        assert found[f"{test}/unmated_probe/distractors_1.jpg"] is None
        assert found["Face_Verification_Test_Set/verification_images/22_cam2_1.jpg"] == "22"

    def test_lists_elsewhere_and_names_without_extension_or_in_capitals(self, survface: Path, source: Source) -> None:
        (survface / "Face_Identification_Evaluation").mkdir()
        for file in (survface / "Face_Identification_Test_Set").glob("*.mat"):
            file.rename(survface / "Face_Identification_Evaluation" / file.name)
        gallery = survface / "Face_Identification_Test_Set/gallery"
        (gallery / "21_cam2_1.jpg").rename(gallery / "21_cam2_1")
        (gallery / "22_cam2_1.jpg").rename(gallery / "22_cam2_1.JPG")
        assert source.listing().missing == source.listing().notices == ()
        assert identities(source)["Face_Identification_Test_Set/gallery/21_cam2_1"] == "21"
        assert source.read("Face_Identification_Test_Set/gallery/21_cam2_1").picture.pixels.shape == (3, 20, 16)

    def test_pairs_are_compared_with_the_images(self, survface: Path, source: Source) -> None:
        file = survface / "Face_Verification_Test_Set/positive_pairs_names.mat"
        wrong = [("21_cam2_1.jpg", "22_cam2_1.jpg"), ("21_cam2_1.jpg", "40_cam1_1.jpg")]
        write_pairs(file, "positive_pairs_names", wrong)
        listing = source.listing()
        assert listing.missing == ("Face_Verification_Test_Set/verification_images/40_cam1_1.jpg",)
        assert "1 pairs of the same person are otherwise" in listing.notices[0]
        write_pairs(file, "positive_pairs_names", [["21_cam2_1.jpg"]])
        assert source.listing().notices == ("survface: positive_pairs_names.mat: it is no list of pairs.",)
        file.write_bytes(b"nonsense")
        assert source.listing().notices == ("survface: positive_pairs_names.mat: cannot be read as a MATLAB file.",)


class Ending(Folder):
    """Ends the process that reads from it, as a system without memory does."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


class TestExamine:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_in_order_with_reasons(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
        monkeypatch.chdir(tmp_path)
        names = [f"{index:03}.png" for index in range(300)]
        make_tree(tmp_path, names[:-1])
        (tmp_path / "200.png").write_bytes(b"GIF89a")
        (tmp_path / "201.png").write_bytes((tmp_path / "202.png").read_bytes()[:200])
        seen: list[tuple[str, int, int | None]] = []
        found = list(examine(opened("folder", Path(), "f"), names, lambda *done: seen.append(done), processes))
        assert len(found) == 300
        assert seen[-1] == ("f", 300, 300)
        assert found[7] == (hashlib.sha256((tmp_path / "007.png").read_bytes()).hexdigest(), 16, 20)
        assert found[200] == "is not an image of a kind that is read (PNG, JPEG, TIFF, BMP, WebP, AVIF and HEIC)"
        assert found[201] == "the BMP file is damaged or truncated"
        assert found[299] == "no such file", "without the working directory, which differs between machines"

    def test_a_process_that_is_ended_is_one_sentence(self) -> None:
        with pytest.raises(ImageError, match="was ended"):
            list(examine(Ending(SourceSettings(kind="folder", root=".")), ["a", "b"], processes=2))


def test_every_kind_opens_and_travels_to_workers(tmp_path: Path) -> None:
    kinds = ("folder", "tinyface", "survface", "lfw", "photographs")
    roots = {kind: None if kind in ("lfw", "photographs") else str(tmp_path) for kind in kinds}
    sources = tuple(SourceSettings(kind=kind, root=roots[kind]) for kind in kinds)
    every = open_sources(DataSettings(sources=sources))
    assert [source.name for source in every] == list(kinds)
    assert pickle.loads(pickle.dumps(every)) == every
