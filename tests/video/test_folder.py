"""Stills of a video: written whole or not at all, and read back as the same video."""

import csv
import errno
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.video import clips
from zssr_gan.errors import OutputError, VideoError
from zssr_gan.imaging.io import read_picture
from zssr_gan.provenance import is_ours
from zssr_gan.video import folder as stills
from zssr_gan.video.folder import still_frames, write_stills
from zssr_gan.video.frames import Frame, Video
from zssr_gan.video.io import open_video
from zssr_gan.video.pixels import luma, picture_of_frame, rgb


def export(path: Path, folder: Path, *, split: str = "auto", **options: object) -> int:
    with open_video(path, split=split) as video:
        return write_stills(video, path, folder, **options)


def frames_of(path: Path, **options: object) -> list[Frame]:
    with open_video(path, **options) as video:
        return list(video.frames)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_stills_are_read_back_as_the_video(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "v.mkv", pts=clips.VFR, time_base=Fraction(1, 1000))
    frames = frames_of(path)
    assert export(path, tmp_path / "out") == 6
    again = frames_of(tmp_path / "out")
    for one, other in zip(frames, again, strict=True):
        for name in ("index", "stream", "pts", "time_base", "duration", "picture_type", "key", "corrupt", "field"):
            assert getattr(one, name) == getattr(other, name), name
        assert (rgb(one).clamp(0, 1) - rgb(other)).abs().max() <= 0.5 / 255 + 1e-6
    rows = table(tmp_path / "out")
    assert [row["file"] for row in rows][:2] == ["000000_pts0.png", "000001_pts7.png"]
    assert [row["sha256"] for row in rows] == [frame.sha256 for frame in frames]
    record = json.loads((tmp_path / "out" / "video.json").read_text())
    assert (record["stills"], record["file"], record["resampled"]) == (6, "v.mkv", [])
    assert record["info"]["sha256"] == stills.sha256_file(path)
    still = tmp_path / "out" / "000000_pts0.png"
    assert not is_ours(still)  # `enhance` takes it as a source
    with Image.open(still) as image:
        assert "frame 0, stream 0, PTS 0 x 1/1000 s" in image.text["zssr-gan:frame"]


@pytest.mark.parametrize(
    ("codec", "pixel_format", "options", "footage"),
    [
        ("libx264", "yuv420p", None, True),
        ("libx264", "yuv420p", clips.X264 | {"qp": "0"}, False),
        ("libx265", "yuv420p", None, True),
        ("mpeg4", "yuv420p", None, True),
        ("mjpeg", "yuvj420p", None, True),
        ("ffv1", "yuv420p", None, False),
        ("huffyuv", "yuv422p", None, False),
        ("rawvideo", "yuv420p", None, False),
    ],
)
def test_a_still_tells_whether_its_codec_changed_it(
    codec: str, pixel_format: str, options: dict[str, str] | None, footage: bool, tmp_path: Path
) -> None:
    path = clips.write(tmp_path / "v.nut", codec, pixel_format=pixel_format, options=options)
    export(path, tmp_path / "out")
    files = sorted((tmp_path / "out").glob("*.png"))
    assert [read_picture(file).footage for file in files] == [footage] * 6
    with Image.open(files[3]) as image:
        told = json.loads(image.text["zssr-gan:coding"])
    row = table(tmp_path / "out")[3]
    assert told == {
        "codec": row["codec"],
        "pixel_format": pixel_format,
        "colour_range": "full" if codec == "mjpeg" else "limited",
        "lossless": not footage,
    }
    for frame in (*frames_of(path), *frames_of(tmp_path / "out"), *still_frames(tmp_path / "out").values()):
        assert frame.footage is footage
    assert picture_of_frame(frames_of(path)[3]).footage is footage


def test_stills_of_no_video_do_not_tell_their_coding(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(clips.picture(0)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "frames.csv").write_text("file\na.png\n")
    export(tmp_path / "in", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.png")
    assert read_picture(file).footage is None


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "yuv420p"])
def test_luma_of_what_has_no_colours_is_as_stored(pixel_format: str, tmp_path: Path) -> None:
    pictures = [clips.picture(n, gray=True) for n in range(2)]
    path = clips.write(tmp_path / "g.mkv", "ffv1", pixel_format=pixel_format, pictures=pictures)
    export(path, tmp_path / "out")
    for one, other in zip(frames_of(path), frames_of(tmp_path / "out"), strict=True):
        assert len(other.planes) == 1
        assert np.array_equal(one.planes[0], other.planes[0])
        assert torch.equal(luma(one), luma(other))


def test_luma_of_a_colour_video_as_stored(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "c.mkv", "ffv1")
    export(path, tmp_path / "out", pixels="luma")
    for one, other in zip(frames_of(path), frames_of(tmp_path / "out"), strict=True):
        assert np.array_equal(one.planes[0], other.planes[0])
    assert {(row["levels"], row["rgb_by"]) for row in table(tmp_path / "out")} == {("limited", "")}


def test_rgb_is_stored_as_it_is(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "c.nut", "rawvideo", pixel_format="rgb24")
    export(path, tmp_path / "out")
    first = read_picture(tmp_path / "out" / "000000_pts0.png").pixels.mul(255).round().byte()
    assert np.array_equal(first.permute(1, 2, 0).numpy(), clips.picture(0))
    assert frames_of(tmp_path / "out")[3].sha256 == frames_of(path)[3].sha256
    with pytest.raises(VideoError, match="no luma"):
        export(path, tmp_path / "luma", pixels="luma")
    assert not (tmp_path / "luma").exists()


def test_fields_are_stills_of_their_own(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "i.mkv", "ffv1", field="bff")
    assert export(path, tmp_path / "out") == 12
    rows = table(tmp_path / "out")
    assert [row["file"] for row in rows][:2] == ["000000a-bottom_pts0.png", "000000b-top_pts40.png"]
    assert [row["line_offset"] for row in rows][:2] == ["1/2", "0"]
    again = frames_of(tmp_path / "out")
    assert [(f.field, f.pts, f.time_base) for f in again] == [(f.field, f.pts, f.time_base) for f in frames_of(path)]
    assert export(path, tmp_path / "woven", split="woven") == 6


class TestAspect:
    def export(self, tmp_path: Path, display: object, size: tuple[int, int] = (704, 480), **options: object) -> str:
        pictures = [clips.picture(0, gray=True, width=size[0], height=size[1])]
        path = clips.write(tmp_path / "a.mp4", pictures=pictures, **options)
        export(path, tmp_path / "out", display=display)
        [name] = (tmp_path / "out").glob("*pts0.png")
        with Image.open(name) as image:
            return f"{image.width}x{image.height}"

    def test_it_stays_unless_asked_for(self, tmp_path: Path) -> None:
        assert self.export(tmp_path, None, sample_aspect_ratio=Fraction(10, 11)) == "704x480"

    @pytest.mark.parametrize(
        ("size", "ratio", "shown"),
        [((704, 480), "10/11", "640x480"), ((704, 576), "12/11", "768x576"), ((960, 480), "8/9", "853x480")],
    )
    def test_by_the_file(self, tmp_path: Path, size: tuple[int, int], ratio: str, shown: str) -> None:
        assert self.export(tmp_path, "auto", size, sample_aspect_ratio=Fraction(ratio)) == shown
        record = json.loads((tmp_path / "out" / "video.json").read_text())
        width, height = map(int, shown.split("x"))
        assert record["resampled"][0]["from"] == [*size]
        assert record["resampled"][0]["to"] == [width, height]
        with open_video(tmp_path / "out") as video:
            assert video.info.sample_aspect_ratio == 1

    def test_a_field_gets_the_rows_of_its_frame(self, tmp_path: Path) -> None:
        pictures = [clips.picture(0, gray=True, width=704, height=576)]
        options = {**clips.X264, "flags": "+ildct"}
        path = clips.write(
            tmp_path / "a.mp4", pictures=pictures, options=options, field="tff", sample_aspect_ratio=Fraction(12, 11)
        )
        export(path, tmp_path / "out", display="auto")
        for name in (tmp_path / "out").glob("*.png"):
            with Image.open(name) as image:
                assert image.size == (768, 576)

    def test_an_unknown_one_is_not_guessed(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match="not known; usual for 704x480: --aspect 640x480"):
            self.export(tmp_path, "auto")
        assert not (tmp_path / "out").exists()
        assert self.export(tmp_path, (640, 480)) == "640x480"


class TestWriting:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        return clips.write(
            tmp_path / "a.mkv", "ffv1", pixel_format="gray", pictures=[clips.picture(0), clips.picture(1)]
        )

    def left(self, tmp_path: Path) -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    def test_nothing_is_left_after_a_failure(self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(video: Video) -> Video:
            def frames() -> object:
                yield next(video.frames)
                raise VideoError("damaged")

            return Video(video.info, frames(), [], {})

        with open_video(clip) as video, pytest.raises(VideoError, match="damaged"):
            write_stills(broken(video), clip, tmp_path / "out")
        assert self.left(tmp_path) == {"a.mkv"}

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="disk is full"):
            export(clip, tmp_path / "out")
        assert self.left(tmp_path) == {"a.mkv"}

    def test_only_stills_of_ours_are_replaced(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        export(clip, out)
        with pytest.raises(OutputError, match="--overwrite replaces them"):
            export(clip, out)
        before = (out / "frames.csv").read_bytes()
        export(clip, out, overwrite=True)
        assert (out / "frames.csv").read_bytes() == before
        (out / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"no stills of a video \(notes.txt\)"):
            export(clip, out, overwrite=True)
        assert (out / "notes.txt").read_text() == "mine"
        assert self.left(tmp_path) == {"a.mkv", "out"}

    def test_other_places(self, clip: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert export(clip, tmp_path / "empty") == 2
        assert export(clip, tmp_path / "new" / "deep") == 2
        with pytest.raises(OutputError, match="is a file"):
            export(clip, clip)
        with pytest.raises(OutputError, match="an input is never written over"):
            export(tmp_path / "empty", tmp_path / "empty", overwrite=True)
        with pytest.raises(OutputError, match="a part of its path is a file"):
            export(clip, clip / "out")


class TestForeignFolders:
    """Stills that another program wrote, with a table of their times."""

    def folder(self, tmp_path: Path, lines: str) -> Path:
        for number in range(2):
            Image.fromarray(clips.picture(number)).save(tmp_path / f"{number}.png")
        (tmp_path / "frames.csv").write_text(lines)
        return tmp_path

    def test_files_and_times_are_enough(self, tmp_path: Path) -> None:
        frames = frames_of(self.folder(tmp_path, "file,pts,time_base\n0.png,0,1/25\n1.png,3,1/25\n"))
        assert [(frame.index, frame.pts, frame.time_base) for frame in frames] == [
            (0, 0, Fraction(1, 25)),
            (1, 3, Fraction(1, 25)),
        ]
        assert np.array_equal(rgb(frames[1]).mul(255).round().byte().permute(1, 2, 0), clips.picture(1))
        assert {frame.pts for frame in frames_of(self.folder(tmp_path, "file\n0.png\n"))} == {None}

    @pytest.mark.parametrize(
        ("lines", "sentence"),
        [
            ("", "names no frames"),
            ("name,pts\n0.png,0\n", "has no column file"),
            ("file,pts\n0.png,0.5\n", "line 2: .*times are integers"),
            ("file,pts,time_base\n0.png,0,1/0\n", "line 2: .*a fraction such as 1/90000"),
            ("file,pts\n0.png,0\n7.png,1\n", "7.png: no such file"),
            ("file,pts\n../0.png,0\n", "line 2: names no file in its folder"),
            ("file,pts\nframes.csv,0\n", "is not an image"),
            ("file,file_sha256\n0.png,00\n", "its hash is another"),
        ],
    )
    def test_what_cannot_be_used_is_a_sentence(self, lines: str, sentence: str, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=sentence):
            frames_of(self.folder(tmp_path, lines))
