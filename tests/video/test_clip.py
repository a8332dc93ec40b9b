"""Video in, video out: times, colours, record, resumption, and what is refused."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.generators import written_generator
from tests.video import clips
from zssr_gan.degradation.model import Jpeg
from zssr_gan.errors import OutputError, SettingsError, VideoError
from zssr_gan.files import sha256_file
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.options import make_request
from zssr_gan.video import clip as module
from zssr_gan.video import decoder, io
from zssr_gan.video.clip import enhance_clip, output_of
from zssr_gan.video.clip_record import ClipOptions
from zssr_gan.video.clip_verify import verify_clip
from zssr_gan.video.frames import Frame, VideoInfo
from zssr_gan.video.io import open_video
from zssr_gan.video.tracks import Track, region_corners, track_frame

PRESET = """
network: {grid: lr, depth: 3, width: 8, bias: true, residual: false, initial: lecun}
schedule: {kind: cosine, lr: 0.002, iterations: 20}
shared:
  pairs: {crop: 16, batch: 4}
"""

FFV1 = {"level": "3"}


@pytest.fixture(autouse=True)
def decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: each start of another takes longer than the rest of a test."""

    def messages(request: dict[str, object], _seconds: float) -> Iterator[tuple[dict[str, object], bytearray]]:
        try:
            for message, arrays in decoder._decode(av, request):
                yield message, bytearray(b"".join(array.tobytes() for array in arrays))
        except decoder.Refused as refused:
            raise VideoError(str(refused)) from refused

    monkeypatch.setattr(io, "_messages", messages)


@pytest.fixture
def request_of(tmp_path: Path):
    path = tmp_path / "tiny.yaml"
    path.write_text(PRESET)
    return lambda **options: make_request(None, str(path), **{"degradation": "bicubic", **options})


def read(path: Path) -> tuple[VideoInfo, list[Frame]]:
    with open_video(path) as video:
        frames = list(video.frames)
    return video.info, frames


def lossless(path: Path, pictures: list[np.ndarray], **options: object) -> Path:
    return clips.write(path, "ffv1", pictures=pictures, options=FFV1, **options)


class TestTimes:
    @pytest.mark.parametrize(
        ("base", "times", "name"),
        [
            (Fraction(1, 90000), clips.VFR, "out.nut"),
            (Fraction(1, 12800), (0, 512, 1024), "out.nut"),
            (Fraction(1, 12800), (-512, 0, 513), "out.nut"),
            (Fraction(1, 1000), (0, 7, 19, 20), "out.mkv"),
        ],
    )
    def test_they_are_exact(
        self, tmp_path: Path, request_of, base: Fraction, times: tuple[int, ...], name: str
    ) -> None:
        pictures = [clips.picture(n) for n in range(len(times))]
        source = tmp_path / "a.mkv"
        lossless(source.with_suffix(".nut") if min(times) >= 0 else source, pictures, pts=times, time_base=base)
        source = source if source.exists() else source.with_suffix(".nut")
        _, given = read(source)
        record = enhance_clip(source, tmp_path / name, request_of())
        info, frames = read(tmp_path / name)
        shift = record.times_of_frames.shifted_by * given[0].time_base
        assert record.times_of_frames.largest_rounding == "0"
        assert record.times_of_frames.container_time_base == str(info.time_base)
        assert [frame.pts * info.time_base for frame in frames] == [one.pts * one.time_base + shift for one in given]
        assert [frame.pts for frame in record.frames] == [one.pts for one in given]

    def test_matroska_rounds_them_and_says_so(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4", pts=(0, 3003, 6006), time_base=Fraction(1, 90000),
                             pictures=[clips.picture(n) for n in range(3)])  # fmt: skip
        record = enhance_clip(source, tmp_path / "out.mkv", request_of())
        assert 0 < Fraction(record.times_of_frames.largest_rounding) <= Fraction(1, 2000)
        assert [frame.pts for frame in record.frames] == [0, 3003, 6006]
        assert output_of(source, None, request_of(), ClipOptions()) == tmp_path / "a_x2.nut"
        assert output_of(tmp_path / "out.mkv", None, request_of(), ClipOptions()).name == "out_x2.mkv"

    def test_unknown_times_are_replaced(self, tmp_path: Path, request_of) -> None:
        bare = clips.write(tmp_path / "a.h264", kind="h264")
        said = []
        record = enhance_clip(bare, tmp_path / "out.nut", request_of(), ClipOptions(raw="h264"), say=said.append)
        assert {frame.pts for frame in record.frames} == {None}
        assert any("25 frames a second" in line for line in said)
        info, frames = read(tmp_path / "out.nut")
        assert [frame.pts * info.time_base for frame in frames] == [Fraction(n, 25) for n in range(6)]


class TestPixels:
    def test_luma_is_enhanced_and_chroma_interpolated(self, tmp_path: Path, request_of) -> None:
        source = lossless(tmp_path / "a.nut", [clips.picture(n) for n in range(3)], pixel_format="yuv444p")
        enhance_clip(source, tmp_path / "out.nut", request_of(), ClipOptions(steady=False))
        _, given = read(source)
        _, made = read(tmp_path / "out.nut")
        for small, large in zip(given, made, strict=True):
            assert [plane.shape for plane in large.planes] == [(96, 128)] * 3
            for plane, result in zip(small.planes[1:], large.planes[1:], strict=True):
                expected = resize(torch.from_numpy(plane.astype(np.float32))[None], (96, 128))[0].round().clamp(0, 255)
                assert np.abs(result.astype(float) - expected.numpy())[4:-4, 4:-4].max() <= 1  # borders are repeated
            again = resize(torch.from_numpy(large.planes[0].astype(np.float32))[None], (48, 64))[0]
            assert (again - torch.from_numpy(small.planes[0])).abs().mean() < 4

    @pytest.mark.parametrize("stored", ["gray", "yuv422p10le", "bgr0"])
    def test_depth_and_format_stay(self, tmp_path: Path, request_of, stored: str) -> None:
        pictures = [clips.picture(n, width=35, height=27) for n in range(2)]
        source = lossless(tmp_path / "a.nut", pictures, pixel_format=stored)
        enhance_clip(source, tmp_path / "out.nut", request_of(), ClipOptions(lossy=True))
        info, frames = read(tmp_path / "out.nut")
        assert info.pixel_format == stored
        assert frames[0].planes[0].shape == (54, 70)
        with open_video(source) as video:
            before = next(video.frames)
        for old, new in zip(before.planes, frames[0].planes, strict=True):
            assert abs(float(old.mean()) - float(new.mean())) < 0.02 * (1 << before.bits)
        assert read(tmp_path / "out.lossy.mp4")[0].codec == "h264"

    def test_another_depth(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4")
        enhance_clip(source, tmp_path / "a.nut", request_of())
        enhance_clip(source, tmp_path / "b.nut", request_of(), ClipOptions(pixel_format="yuv444p10le"))
        (_, eight), (_, ten) = read(tmp_path / "a.nut"), read(tmp_path / "b.nut")
        assert ten[0].planes[1].shape == ten[0].planes[0].shape
        assert np.abs(ten[0].planes[0] / 4 - eight[0].planes[0]).max() <= 0.5
        with pytest.raises(SettingsError, match="--pixel-format rgb"):
            enhance_clip(source, tmp_path / "c.nut", request_of(), ClipOptions(pixel_format="rgb24"))

    def test_range_and_matrix_are_carried(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4", color_range=2, colorspace=1)
        record = enhance_clip(source, tmp_path / "out.mkv", request_of())
        info, _ = read(tmp_path / "out.mkv")
        assert (info.colour_range, info.matrix) == ("full", "bt709")
        assert (record.video["colour_range"], record.video["matrix"]) == ("full", "bt709")

    def test_a_region_is_what_the_whole_has_there(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4")
        enhance_clip(source, tmp_path / "whole.nut", request_of())
        enhance_clip(source, tmp_path / "part.nut", request_of(region=(20, 13, 24, 17)))
        (_, whole), (_, part) = read(tmp_path / "whole.nut"), read(tmp_path / "part.nut")
        for one, other in zip(whole, part, strict=True):
            assert other.planes[0].shape == (34, 48)
            difference = one.planes[0][26:60, 40:88].astype(int) - other.planes[0]
            assert np.abs(difference).max() <= 1


class TestTracks:
    def test_the_box_of_a_track_is_shown(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4")
        _, given = read(source)
        frames = tuple(track_frame(frame, region_corners((8 + 2 * n, 6 + n, 24, 17))) for n, frame in enumerate(given))
        track = Track(
            file="a.mp4", sha256=sha256_file(source), width=64, height=48, region=(10, 7, 24, 17), reference=1,
            frames=frames[1:5], ended=("", ""), made_by="test",
        )  # fmt: skip
        (tmp_path / "track.json").write_bytes(track.encode())
        record = enhance_clip(source, tmp_path / "out.nut", request_of(), track=tmp_path / "track.json")
        enhance_clip(source, tmp_path / "whole.nut", request_of(), ClipOptions(steady=False))
        (_, whole), (_, part) = read(tmp_path / "whole.nut"), read(tmp_path / "out.nut")
        assert [frame.index for frame in record.frames] == [1, 2, 3, 4]
        assert [frame.box for frame in record.frames] == [(8 + 2 * n, 6 + n, 24, 17) for n in range(1, 5)]
        assert {frame.planes[0].shape for frame in part} == {(34, 48)}
        left, top = 2 * 10, 2 * 7
        near = whole[1].planes[0][top : top + 34, left : left + 48].astype(int) - part[0].planes[0]
        assert np.abs(near).mean() < 4
        assert verify_clip(tmp_path / "out.json", rerun=True).ok
        other = clips.write(tmp_path / "b.mp4", pictures=[clips.picture(9)] * 2)
        with pytest.raises(VideoError, match="another video"):
            enhance_clip(other, tmp_path / "b.nut", request_of(), track=tmp_path / "track.json")


class TestRepeats:
    def test_repeated_frames_reuse_their_result(self, tmp_path: Path, request_of, monkeypatch) -> None:
        pictures = [clips.picture(n) for n in (0, 0, 0, 1, 1, 2)]
        source = lossless(tmp_path / "a.nut", pictures)
        made = []
        network = module._network
        monkeypatch.setattr(module, "_network", lambda *a: lambda x: (made.append(1), network(*a)(x))[1])
        record = enhance_clip(source, tmp_path / "out.nut", request_of())
        assert len(made) == 3
        assert [frame.same_as for frame in record.frames] == [None, 0, 0, None, 3, None]
        hashes = [frame.result_sha256 for frame in record.frames]
        assert hashes[0] == hashes[1] == hashes[2] != hashes[3] == hashes[4] != hashes[5]


class TestRecord:
    def test_it_tells_of_every_frame_and_is_made_again(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4")
        before = source.read_bytes()
        record = enhance_clip(source, tmp_path / "out.nut", request_of(), ClipOptions(lossy=True))
        assert source.read_bytes() == before
        _, given = read(source)
        _, made = read(tmp_path / "out.nut")
        assert [frame.sha256 for frame in record.frames] == [frame.sha256 for frame in given]
        assert [frame.result_sha256 for frame in record.frames] == [frame.sha256 for frame in made]
        assert record.label == "internal"
        assert {image.sha256 for image in record.request.case} == {frame.sha256 for frame in given}
        with (tmp_path / "out.csv").open() as file:
            table = list(csv.DictReader(file))
        assert [row["result_sha256"] for row in table] == [frame.sha256 for frame in made]
        assert [row["time_base"] for row in table] == ["1/12800"] * 6
        found = verify_clip(tmp_path / "out.json", rerun=True)
        assert found.ok, found.checks
        assert not list(tmp_path.glob(".zssr-gan*"))
        written = (tmp_path / "out.json").read_bytes()
        false = record.model_copy(update={"noise": 0.0, "flicker": None, "notices": ("It is true.",)})
        (tmp_path / "out.json").write_bytes(false.encode())
        (wrong,) = [check for check in verify_clip(tmp_path / "out.json", rerun=True).checks if not check.ok]
        assert (wrong.name, "another record, in noise, flicker, notices" in wrong.text) == ("rerun", True)
        (tmp_path / "out.json").write_bytes(written)
        with (tmp_path / "out.nut").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        assert [check.name for check in verify_clip(tmp_path / "out.json").checks if not check.ok] == ["output"]

    @pytest.mark.parametrize("ending", [".nut", ".mkv"])
    def test_what_it_says_falsely_is_found_without_a_rerun(self, tmp_path: Path, request_of, ending: str) -> None:
        source = clips.write(tmp_path / "a.mp4", pictures=[clips.picture(n) for n in range(2)])
        record = enhance_clip(source, tmp_path / f"out{ending}", request_of())
        assert verify_clip(tmp_path / "out.json").ok
        late = tuple(replace(frame, pts=frame.pts + 1000) for frame in record.frames)
        for name, value, failed in (
            ("statement", "This is an original.", "label"),
            ("label_means", "Every pixel is proven.", "label"),
            ("frames", late, "frames"),
        ):
            (tmp_path / "out.json").write_bytes(record.model_copy(update={name: value}).encode())
            found = verify_clip(tmp_path / "out.json")
            assert [check.name for check in found.checks if not check.ok] == [failed]

    def test_fields_are_named_and_records_with_their_earlier_names_verify(self, tmp_path: Path, request_of) -> None:
        pictures = [clips.picture(n) for n in range(2)]
        source = clips.write(tmp_path / "a.mkv", "ffv1", pictures=pictures, pixel_format="yuv420p", field="tff")
        record = enhance_clip(source, tmp_path / "out.nut", request_of())
        names = {f"frame {n}, {field} field" for n in range(2) for field in ("top", "bottom")}
        assert {image.name for image in record.request.case} == names
        written = tmp_path / "out.json"
        text = written.read_text()
        written.write_text(text.replace(", top field", " (top)").replace(", bottom field", " (bottom)"))
        assert written.read_text() != text
        assert verify_clip(written, rerun=True).ok

    def test_a_network_of_another_video_makes_it_a_case(self, tmp_path: Path, request_of) -> None:
        first = clips.write(tmp_path / "a.mp4")
        other = clips.write(tmp_path / "b.mp4", pictures=[255 - clips.picture(n) for n in range(3)])
        enhance_clip(first, tmp_path / "a.nut", request_of())
        (network,) = tmp_path.glob("shared-*.safetensors")
        request = make_request(init_from=network)
        assert enhance_clip(first, tmp_path / "a2.nut", request).label == "internal"
        record = enhance_clip(other, tmp_path / "b.nut", request)
        assert record.label == "case"
        assert verify_clip(tmp_path / "b.json", rerun=True).ok

    def test_a_trained_generator_makes_it_generative(self, tmp_path: Path) -> None:
        source = clips.write(tmp_path / "a.mp4")
        generator = written_generator(tmp_path / "train")
        record = enhance_clip(source, tmp_path / "out.nut", make_request(model=generator), ClipOptions(views=8))
        assert (record.label, record.request.case) == ("generative", None)
        assert verify_clip(tmp_path / "out.json", rerun=True).ok

    def test_stills_with_a_table_are_a_video(self, tmp_path: Path, request_of) -> None:
        from zssr_gan.video.folder import write_stills

        source = clips.write(tmp_path / "a.mp4")
        with open_video(source) as video:
            write_stills(video, source, tmp_path / "stills")
        record = enhance_clip(tmp_path / "stills", tmp_path / "out.nut", request_of())
        assert [frame.pts for frame in record.frames] == [512 * n for n in range(6)]
        assert verify_clip(tmp_path / "out.json", rerun=True).ok


class TestCamera:
    def test_how_coarse_the_codec_was_decides(self, tmp_path: Path, request_of) -> None:
        """Few and small frames tell no blur; what is assumed depends on the quantisers of I and P frames."""
        found = {}
        for qp in ("18", "35"):
            options = {"preset": "ultrafast", "qp": qp, "x264-params": "log-level=none"}
            pictures = [clips.picture(n, width=24, height=24) for n in range(2)]
            source = clips.write(tmp_path / f"{qp}.mp4", pictures=pictures, options=options)
            record = enhance_clip(source, tmp_path / f"{qp}.nut", request_of(degradation=None))
            found[qp] = record.request.degradation
            assert record.label == "internal"
        assert found["18"].values.jpeg == Jpeg.of_quality(75)
        assert "changed the frames little" in found["18"].why
        assert "compressed video" in found["35"].why


class TestRefusals:
    def test_one_sentence_each(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4")
        out = tmp_path / "out.nut"
        for output, request, error, words in (
            (tmp_path / "out.png", request_of(), SettingsError, r"\.nut"),
            (tmp_path / "out.avi", request_of(), SettingsError, r"\.nut"),
            (out, request_of(region=(60, 40, 10, 10)), SettingsError, "beyond the picture"),
            (out, request_of(init="scratch"), SettingsError, "--init scratch"),
        ):
            with pytest.raises(error, match=words):
                enhance_clip(source, output, request)
        out.write_bytes(b"mine")
        with pytest.raises(OutputError, match="exists"):
            enhance_clip(source, out, request_of())
        assert out.read_bytes() == b"mine"
        with pytest.raises(OutputError, match="input"):
            enhance_clip(
                lossless(tmp_path / "b.nut", [clips.picture(0)]), tmp_path / "b.nut", request_of(overwrite=True)
            )
        small = lossless(tmp_path / "c.nut", [clips.picture(0, width=6, height=6)])
        with pytest.raises(VideoError, match="6x6 pixels"):
            enhance_clip(small, tmp_path / "small.nut", request_of())
        assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.nut", "c.nut", "out.nut", "tiny.yaml"}


class TestResuming:
    def test_a_stopped_run_goes_on_and_ends_alike(self, tmp_path: Path, request_of) -> None:
        source = clips.write(tmp_path / "a.mp4")
        whole = enhance_clip(source, tmp_path / "whole" / "out.nut", request_of())
        for when in (2, 6):

            def stop(stage: str, done: int, *_: object, when: int = when) -> None:
                if stage == "enhancing" and done == when:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                enhance_clip(source, tmp_path / "out.nut", request_of(), report=stop)
            assert not (tmp_path / "out.nut").exists()
        (journal,) = tmp_path.glob(".zssr-gan-*.tmp")
        with journal.open("ab") as file:
            file.write(b'{"bytes": 100, "sha')  # cut off by a kill
        said = []
        record = enhance_clip(source, tmp_path / "out.nut", request_of(), say=said.append)
        assert said == ["6 of 6 frames are there from an earlier run"]
        assert record.frames == whole.frames
        for name in ("out.nut", "out.csv"):
            assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert not list(tmp_path.glob(".zssr-gan*"))

    def test_a_kill_between_two_names_is_mended(self, tmp_path: Path, request_of, monkeypatch) -> None:
        source = clips.write(tmp_path / "a.mp4")
        from zssr_gan.video import clip_files

        write = clip_files.write_together

        def killed(contents, **options) -> None:
            write(dict(list(contents.items())[:1]), **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(clip_files, "write_together", killed)
        with pytest.raises(KeyboardInterrupt):
            enhance_clip(source, tmp_path / "out.nut", request_of())
        monkeypatch.undo()
        assert (tmp_path / "out.nut").exists()
        enhance_clip(source, tmp_path / "out.nut", request_of())
        assert verify_clip(tmp_path / "out.json").ok

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
    def test_20_sigkills_end_with_the_same_bytes(self, tmp_path: Path, request_of) -> None:
        """Some while it starts or learns, most after a frame or two, some while the files are put together."""
        source = clips.write(tmp_path / "a.mp4", pictures=[clips.picture(n) for n in range(40)])
        request_of()
        words = ["enhance", str(source), "--preset", str(tmp_path / "tiny.yaml"), "--degradation", "bicubic", "--lossy"]
        draw = np.random.default_rng(7)

        def start(name: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "zssr_gan", *words, "-o", str(tmp_path / name / "out.nut")]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def hidden() -> list[int]:
            sizes = []
            for path in (tmp_path / "killed").glob(".zssr-gan-*.tmp"):
                with contextlib.suppress(OSError):
                    sizes.append(path.stat().st_size)
            return sorted(sizes)

        assert start("whole").wait() == 0
        for kill in range(20):
            process, before, clock = start("killed"), sum(hidden()), time.monotonic()
            delay, growth = draw.uniform(0, 2), int(draw.integers(1, 8000))
            while process.poll() is None:
                by_time = kill < 4 and time.monotonic() - clock > delay
                by_growth = 4 <= kill < 17 and sum(hidden()) > before + growth
                by_files = kill >= 17 and len(hidden()) > 1
                if by_time or by_growth or by_files:
                    process.kill()
                time.sleep(0.002)
            assert process.wait() == -signal.SIGKILL, f"kill {kill} came too late"
        assert start("killed").wait() == 0
        for name in ("out.nut", "out.csv", "out.lossy.mp4"):
            assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert verify_clip(tmp_path / "killed" / "out.json").ok
