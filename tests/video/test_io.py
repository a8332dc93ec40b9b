"""Reading videos: what comes of each kind of file, and one sentence for what is none."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video import clips
from zssr_gan.errors import ImageError, VideoError
from zssr_gan.imaging.io import read_picture
from zssr_gan.video import io
from zssr_gan.video.frames import Frame, VideoInfo
from zssr_gan.video.io import open_video


def read(path: Path, **options: object) -> tuple[VideoInfo, list[Frame], list[str]]:
    with open_video(path, **options) as video:
        frames = list(video.frames)
    return video.info, frames, video.notices


def refused(path: Path, **options: object) -> str:
    with pytest.raises(VideoError) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


class TestCodecs:
    def test_h264(self, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "a.mp4")
        info, frames, notices = read(path)
        assert (info.codec, info.width, info.height, info.declared_frames) == ("h264", 64, 48, 6)
        assert info.container == "QuickTime / MOV"
        assert info.sample_aspect_ratio is info.display_aspect_ratio is None
        assert {frame.picture_type for frame in frames} == {"I", "P", "B"}
        assert [frame.key for frame in frames] == [True] + [False] * 5
        assert [(frame.index, frame.pts) for frame in frames] == [(n, 512 * n) for n in range(6)]
        assert {frame.time_base for frame in frames} == {Fraction(1, 12800)}
        assert [frame.sha256 for frame in frames] == clips.framehash(path)
        assert [plane.shape for plane in frames[0].planes] == [(48, 64), (24, 32), (24, 32)]
        assert not notices
        with av.open(str(path)) as container:  # as PyAV itself decodes it
            stream = container.streams.video[0]
            stream.codec_context.options = {"export_side_data": "venc_params"}
            for ours, theirs in zip(frames, container.decode(stream), strict=True):
                assert np.array_equal(ours.planes[0], theirs.to_ndarray()[:48])
                assert np.array_equal(ours.qp, theirs.side_data["VIDEO_ENC_PARAMS"].qp_map())

    @pytest.mark.parametrize(
        ("codec", "name", "pixel_format"),
        [
            ("libx265", "a.mkv", "yuv420p"),
            ("libx265", "a.mkv", "yuv420p10le"),
            ("mjpeg", "a.avi", "yuvj422p"),
            ("mpeg4", "a.mp4", "yuv420p"),
            ("ffv1", "a.mkv", "gray"),
            ("ffv1", "a.mkv", "gray10le"),
            ("rawvideo", "a.nut", "gbrp"),
        ],
    )
    def test_others(self, codec: str, name: str, pixel_format: str, tmp_path: Path) -> None:
        if codec not in av.codecs_available:
            pytest.skip(f"this build of PyAV has no {codec}")
        path = clips.write(tmp_path / name, codec, pixel_format=pixel_format)
        info, frames, _ = read(path)
        assert info.pixel_format == pixel_format
        assert [frame.sha256 for frame in frames] == clips.framehash(path)
        assert frames[0].bits == (10 if "10" in pixel_format else 8)
        assert frames[0].is_gray == pixel_format.startswith("gray")

    @pytest.mark.parametrize(
        ("packed", "planar"),
        [("rgb24", "gbrp"), ("bgra", "gbrp"), ("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("gray16be", "gray16le")],
    )
    def test_packed_pixels_come_apart_without_loss(self, packed: str, planar: str, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "a.nut", "rawvideo", pixel_format=packed, pictures=[clips.picture(0)])
        _, [frame], _ = read(path)
        assert frame.pixel_format == planar
        source = av.VideoFrame.from_ndarray(clips.picture(0), "rgb24").reformat(format=packed)
        stored = np.frombuffer(source.planes[0], np.uint8).reshape(48, -1)
        if packed == "nv12":
            pairs = np.frombuffer(source.planes[1], np.uint8).reshape(24, -1)[:, :64]
            expected = [stored[:, :64], pairs[:, ::2], pairs[:, 1::2]]
        elif packed == "yuyv422":
            expected = [stored[:, : 2 * 64 : 2], stored[:, 1 : 2 * 64 : 4], stored[:, 3 : 2 * 64 : 4]]
        elif packed == "gray16be":
            expected = [stored[:, : 2 * 64].copy().view(">u2")]
        else:
            size = 3 if packed == "rgb24" else 4
            place = (1, 2, 0) if packed == "rgb24" else (1, 0, 2)
            expected = [stored[:, start : size * 64 : size] for start in place]
        assert all(np.array_equal(plane, known) for plane, known in zip(frame.planes, expected, strict=True))


class TestTimes:
    @pytest.mark.parametrize(
        ("name", "codec", "time_base"),
        [
            ("v.mkv", "libx264", Fraction(1, 1000)),
            ("v.mp4", "libx264", Fraction(1, 12800)),
            ("v.mp4", "mpeg4", Fraction(1, 30000)),
            ("v.nut", "ffv1", Fraction(1, 90000)),
        ],
    )
    def test_variable_frame_rate_stays(self, name: str, codec: str, time_base: Fraction, tmp_path: Path) -> None:
        _, frames, notices = read(clips.write(tmp_path / name, codec, pts=clips.VFR, time_base=time_base))
        assert [(frame.pts, frame.time_base) for frame in frames] == [(pts, time_base) for pts in clips.VFR]
        assert all(isinstance(frame.pts, int) for frame in frames)
        assert not notices

    def test_avi_has_times_of_decoding_alone(self, tmp_path: Path) -> None:
        _, frames, notices = read(clips.write(tmp_path / "a.avi"))
        times = [frame.pts for frame in frames]
        assert times == list(range(times[0], times[0] + 6))
        assert "B" in {frame.picture_type for frame in frames}
        assert any("when frames are decoded" in notice for notice in notices)

    def test_bare_streams_are_read_on_request_without_times(self, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "a.h264", kind="h264")
        assert "--raw h264" in refused(path)
        info, frames, _ = read(path, raw="h264")
        assert info.time_base is info.average_rate is None
        assert {(frame.pts, frame.time_base) for frame in frames} == {(None, None)}
        assert len(frames) == 6
        wrapped = tmp_path / "a.dav"
        wrapped.write_bytes(b"VENDOR\x01\x02" * 40 + path.read_bytes())
        assert "--raw h264" in refused(wrapped)
        assert len(read(wrapped, raw="h264")[1]) == 6


class TestFields:
    @pytest.mark.parametrize(("field", "order"), [("tff", ("top", "bottom")), ("bff", ("bottom", "top"))])
    def test_both_fields_of_interlaced_frames(self, field: str, order: tuple[str, str], tmp_path: Path) -> None:
        path = clips.write(tmp_path / "i.mkv", "ffv1", pixel_format="yuv420p", field=field)
        _, woven, _ = read(path, split="woven")
        _, frames, _ = read(path)
        assert [frame.field for frame in frames] == [*order] * 6
        assert {frame.top_field_first for frame in woven} == {field == "tff"}
        offsets = {"top": Fraction(0), "bottom": Fraction(1, 2)}
        for whole, first, second in zip(woven, frames[::2], frames[1::2], strict=True):
            assert first.index == second.index == whole.index
            assert first.time_base == whole.time_base / 2
            assert (first.pts, second.pts) == (2 * whole.pts, 2 * whole.pts + whole.duration)
            for one in (first, second):
                assert one.line_offset == offsets[one.field]
                start = int(one.field == "bottom")
                assert all(np.array_equal(a, b[start::2]) for a, b in zip(one.planes, whole.planes, strict=True))

    def test_h264_flags(self, tmp_path: Path) -> None:
        options = {**clips.X264, "flags": "+ildct"}
        _, frames, _ = read(clips.write(tmp_path / "i.mp4", options=options, field="tff"), split="woven")
        assert {(frame.interlaced, frame.top_field_first) for frame in frames} == {(True, True)}

    def test_progressive_frames_are_taken_apart_on_request_alone(self, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "p.mkv", "ffv1", pixel_format="gray")
        assert len(read(path)[1]) == 6
        assert len(read(path, split="separate")[1]) == 12

    def test_combing_is_said(self, tmp_path: Path) -> None:
        woven = [
            np.where(np.arange(48)[:, None, None] % 2, clips.picture(2 * n + 1), clips.picture(2 * n)) for n in range(8)
        ]
        path = clips.write(tmp_path / "c.mkv", "ffv1", pictures=woven)
        _, frames, notices = read(path, combing=True)
        assert not any(frame.interlaced for frame in frames)
        assert any("flagged as progressive and look interlaced" in notice for notice in notices)
        path = clips.write(tmp_path / "p.mkv", "ffv1", pictures=[clips.picture(4 * n) for n in range(8)], field="tff")
        assert any("flagged as interlaced and look progressive" in notice for notice in read(path, combing=True)[2])


class TestOddVideos:
    def test_what_is_stated_is_shown(self, tmp_path: Path) -> None:
        path = clips.write(
            tmp_path / "a.mp4", rotation=90, sample_aspect_ratio=Fraction(10, 11), color_range=1, colorspace=1
        )
        info, frames, _ = read(path)
        assert info.rotation in (90, -90)
        assert info.sample_aspect_ratio == Fraction(10, 11)
        assert info.display_aspect_ratio == Fraction(40, 33)
        assert (info.colour_range, info.matrix) == ("limited", "bt709")
        assert frames[0].planes[0].shape == (48, 64)  # not turned, not resampled

    def test_repeated_frames_are_named(self, tmp_path: Path) -> None:
        pictures = [clips.picture(n) for n in (0, 1, 1, 2, 2, 2, 0)]
        _, frames, _ = read(clips.write(tmp_path / "r.mkv", "ffv1", pictures=pictures))
        assert [frame.same_as for frame in frames] == [None, None, 1, None, 3, 3, None]

    def test_a_truncated_video_gives_what_is_left(self, tmp_path: Path) -> None:
        whole = clips.write(tmp_path / "a.mkv").read_bytes()
        path = tmp_path / "cut.mkv"
        path.write_bytes(whole[: len(whole) * 2 // 3])
        _, frames, notices = read(path)
        assert 0 < len(frames) < 7
        assert f"it is cut short: {len(whole)} bytes by its container, {len(whole) * 2 // 3} in the file" in notices

    def test_frames_that_are_missing_are_counted(self, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "a.mp4", "mjpeg", pixel_format="yuvj420p")
        data = path.read_bytes()
        start, end = data.rindex(b"\xff\xd8\xff"), data.index(b"moov") - 4  # the last frame
        path.write_bytes(data[:start] + bytes(end - start) + data[end:])
        _, frames, notices = read(path)
        assert len(frames) == 5
        assert "its container declares 6 frames, and 5 can be decoded" in notices
        assert "1 of its packets cannot be decoded, so that frames may be missing" in notices

    def test_damaged_frames_are_flagged(self, tmp_path: Path) -> None:
        data = bytearray(clips.write(tmp_path / "a.h264", kind="h264").read_bytes())
        second = data.index(b"\0\0\1\x41") if b"\0\0\1\x41" in data else data.index(b"\0\0\1\x61")
        data[second + 20 : second + 60] = bytes(40)
        path = tmp_path / "damaged.h264"
        path.write_bytes(data)
        _, frames, notices = read(path, raw="h264")
        assert any(frame.damage for frame in frames)
        assert any(frame.corrupt for frame in frames) or any("cannot be decoded" in notice for notice in notices)

    def test_a_wrong_ending_does_not_matter(self, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "a.mp4").rename(tmp_path / "a.jpg")
        assert len(read(path)[1]) == 6


class TestRefusals:
    def test_what_is_no_video(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        assert refused(tmp_path / "empty.mp4") == "is empty."
        (tmp_path / "text.mp4").write_text("not a video\n" * 50)
        assert "no video of a kind that is read" in refused(tmp_path / "text.mp4")
        assert refused(tmp_path / "missing.mp4") == "no such file or folder."
        (tmp_path / "link.mp4").symlink_to("nowhere.mp4")
        assert refused(tmp_path / "link.mp4") == "is a broken link (to nowhere.mp4)."
        assert "is a folder without frames.csv" in refused(tmp_path)
        clips.write(tmp_path / "one.png", "png", pixel_format="rgb24", pictures=[clips.picture(0)], kind="image2")
        assert "is a picture" in refused(tmp_path / "one.png")

    def test_playlists_open_nothing(self, tmp_path: Path) -> None:
        clips.write(tmp_path / "a.ts", kind="mpegts")
        (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
        refused(tmp_path / "list.m3u8")
        (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'a.ts'}'\n")
        refused(tmp_path / "list.txt")

    def test_a_picture_reader_says_what_reads_it(self, tmp_path: Path) -> None:
        for name in ("a.mp4", "a.mkv", "a.avi"):
            with pytest.raises(ImageError, match="is a video: 'zssr-gan video frames' writes its frames as images"):
                read_picture(clips.write(tmp_path / name))

    def test_sound_alone(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            sound.sample_rate = 8000
            container.mux(stream.encode(sound))
        assert "holds no video" in refused(tmp_path / "a.wav")

    def test_frames_that_are_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        small = tmp_path / "decoder.py"
        small.write_text(Path(io._DECODER).read_text().replace("MAX_PIXELS = 100_000_000", "MAX_PIXELS = 3_000"))
        monkeypatch.setattr(io, "_DECODER", str(small))
        assert refused(clips.write(tmp_path / "a.mp4")).startswith("its frames have 64x48 px, more than ")

    def test_pixels_that_are_no_integers(self, tmp_path: Path) -> None:
        path = clips.write(tmp_path / "f.nut", "rawvideo", pixel_format="gbrpf32le")
        assert refused(path) == "its pixels are stored in a way that is not read (pixel format gbrpf32le)."

    def test_memory_does_not_grow_with_the_frames(self, tmp_path: Path) -> None:
        pictures = [clips.picture(number, width=640, height=480) for number in range(4)] * 20
        path = clips.write(tmp_path / "long.mp4", pictures=pictures)
        assert len(read(path, memory_bytes=40 << 20)[1]) == 80  # which have 37 MB, beside the decoder's own

    def test_too_little_memory(self, tmp_path: Path) -> None:
        large = [np.zeros((1080, 1920, 3), np.uint8)]
        path = clips.write(tmp_path / "large.mkv", "ffv1", pictures=large)
        assert len(read(path)[1]) == 1
        assert refused(path, memory_bytes=4 << 20) == "needs more memory to decode than 0.0039 GiB."

    def test_a_decoder_that_takes_too_long_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = clips.write(tmp_path / "a.mp4")
        monkeypatch.setattr(io, "_DECODER", str(tmp_path / "slow.py"))
        (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
        assert "no frame in 0.5 s" in refused(path, seconds=0.5)

    def test_a_decoder_that_crashes_is_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = clips.write(tmp_path / "a.mp4")
        monkeypatch.setattr(io, "_DECODER", str(tmp_path / "crash.py"))
        (tmp_path / "crash.py").write_text("import os\nos.abort()\n")
        assert "crashed (SIGABRT) before the first frame" in refused(path)

    def test_without_pyav(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = clips.write(tmp_path / "a.mp4")
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert refused(path) == "to read video, pip install 'zssr-gan[video]'."


def read_and_change(path: Path) -> None:
    with open_video(path) as video:
        next(video.frames)
        path.write_bytes(path.read_bytes() + b"more")


def test_the_original_is_read_only_and_a_change_is_noticed(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4")
    path.chmod(0o444)
    before = path.read_bytes(), path.stat().st_mtime_ns
    read(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    path.chmod(0o644)
    with pytest.raises(VideoError, match="was changed while it was read"):
        read_and_change(path)


def test_no_decoder_is_left_when_reading_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def watched(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", watched)
    with open_video(clips.write(tmp_path / "a.mp4")) as video:
        next(video.frames)
    assert [process.poll() is not None for process in started] == [True]


def test_a_script_without_a_main_guard_can_read(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom zssr_gan.video.io import open_video\n"
        "with open_video(Path(sys.argv[1])) as video:\n    print(len(list(video.frames)))\n"
    )
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json", "numpy", "av", "table"):  # files of the user's, where the command is run
        (here / f"{name}.py").write_text("raise RuntimeError")
    done = subprocess.run(
        [sys.executable, script, path],
        cwd=here,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.stdout == "6\n", done.stderr
