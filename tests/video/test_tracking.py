"""A region is followed to where it is in each frame, both ways, until it is lost; never onto something else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video import clips
from tests.video.faces import REGION, scene, shifted, write
from zssr_gan.errors import SettingsError, VideoError
from zssr_gan.files import sha256_file
from zssr_gan.video import tracking
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import Corners, Track, TrackError, region_corners


def off(track: Track, truth: Sequence[Corners]) -> list[float]:
    """Mean distance of the corners from their truth, pixels, of each frame."""
    return [
        float(np.linalg.norm(np.subtract(frame.corners, truth[frame.index]), axis=1).mean()) for frame in track.frames
    ]


def test_a_face_is_followed_both_ways(tmp_path: Path) -> None:
    start = region_corners(REGION)
    truth = [shifted(start, 1.7 * (n - 3), 0.6 * (3 - n)) for n in range(7)]
    clip = write(tmp_path / "a.mkv", [scene(one, gain=1 - 0.03 * n) for n, one in enumerate(truth)])
    given: list[int] = []
    track = follow(clip, Mark.of(REGION, 3), on_frame=lambda frame, _: given.append(frame.index))
    assert [frame.index for frame in track.frames] == [*range(7)]
    assert given == [3, 4, 5, 6, 2, 1, 0]
    assert max(off(track, truth)) < 0.15
    assert [frame.pts for frame in track.frames] == [40 * n for n in range(7)]
    assert track.sha256 == sha256_file(clip)
    assert track.ended == ("the video begins", "the video ends")
    (tmp_path / "cut.mkv").write_bytes(clip.read_bytes()[: clip.stat().st_size * 4 // 5])
    assert follow(tmp_path / "cut.mkv", Mark.of(REGION, 3)).ended == ("the video begins", "the video is cut short")
    assert track.frames[6].gain == pytest.approx(0.82 / 0.91, abs=0.03)
    assert all(frame.status == "tracked" for frame in track.frames)
    assert not track.edited


def test_the_perspective_of_a_plate_is_followed(tmp_path: Path) -> None:
    start = ((30.0, 24.0), (66.0, 26.0), (65.0, 48.0), (31.0, 46.0))
    end = ((28.0, 20.0), (66.0, 25.0), (66.0, 47.0), (29.0, 49.0))
    truth = [tuple(map(tuple, np.array(start) + n / 4 * np.subtract(end, start))) for n in range(5)]
    clip = write(tmp_path / "a.mkv", [scene(one) for one in truth])
    track = follow(clip, Mark.of(None, 0, start))
    assert track.region == (30, 24, 36, 24)
    assert max(off(track, truth)) < 0.2
    assert track.motion(track.frames).tilt is not None


def test_a_hidden_region_is_found_again_or_lost_and_never_drifts(tmp_path: Path) -> None:
    truth = [shifted(region_corners(REGION), n / 2, 0) for n in range(12)]
    hidden = {3, 4, 7, 8, 9, 10, 11}
    pictures = [scene(one, hidden=n in hidden) for n, one in enumerate(truth)]
    track = follow(write(tmp_path / "a.mkv", pictures), Mark.of(REGION, 0))
    assert [frame.index for frame in track.frames] == [*range(7)]
    assert [frame.index for frame in track.frames if frame.status != "tracked"] == [3, 4]
    assert track.frames[3].status.startswith("not found: ")
    assert max(off(track, truth)[5:]) < 0.15


def test_it_is_lost_where_it_stays_hidden(tmp_path: Path) -> None:
    start = region_corners(REGION)
    pictures = [scene(start, hidden=n > 1) for n in range(9)]
    track = follow(write(tmp_path / "a.mkv", pictures), Mark.of(REGION, 0))
    assert (track.frames[-1].index, track.ended[1][:18]) == (1, "lost at frame 2: i")


def test_it_is_lost_where_it_leaves_the_picture(tmp_path: Path) -> None:
    truth = [shifted(region_corners(REGION), 6 * n, 0) for n in range(11)]
    track = follow(write(tmp_path / "a.mkv", [scene(one) for one in truth]), Mark.of(REGION, 0))
    assert 4 <= track.frames[-1].index <= 8
    assert track.ended[1].startswith("lost at frame")
    assert max(off(track, truth)[:5]) < 0.3


def test_frames_that_repeat_are_not_to_be_used_and_few_may_be_asked_for(tmp_path: Path) -> None:
    start = region_corners(REGION)
    pictures = [scene(shifted(start, n, 0)) for n in (0, 1, 1, 2, 3)]
    track = follow(write(tmp_path / "a.mkv", pictures), Mark.of(REGION, 1), most=2)
    assert [frame.status for frame in track.frames] == ["tracked", "tracked", "repeats frame 1", "tracked"]
    assert track.ended == ("the video begins", "2 frames were asked for")


def test_frames_that_do_not_fit_the_memory_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = [shifted(region_corners(REGION), (n - 5) / 3, 0) for n in range(6)]
    clip = write(tmp_path / "a.mkv", [scene(one) for one in truth])
    monkeypatch.setattr(tracking, "_MEMORY_BYTES", 1)
    monkeypatch.setattr(tracking, "_BATCH", 2)
    track = follow(clip, Mark.of(REGION, 5))
    assert [frame.index for frame in track.frames] == [*range(6)]
    assert max(off(track, truth)) < 0.15


@pytest.mark.parametrize(
    ("mark", "error", "words"),
    [
        (lambda: Mark.of(REGION, 9), SettingsError, "has no frame 9; its frames are 0 to 1"),
        (lambda: Mark.of((80, 26, 24, 20), 0), SettingsError, "reaches beyond the picture"),
        (lambda: Mark.of((0, 0, 8, 20), 0), SettingsError, "too small: at least 12 pixels"),
        (lambda: Mark.of(None, 0), SettingsError, "say what is to be followed"),
        (lambda: Mark.of((0, 0, 0, 20), 0), SettingsError, "is empty"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(tmp_path: Path, mark, error, words: str) -> None:
    clip = write(tmp_path / "a.mkv", [scene(region_corners(REGION))] * 2)
    with pytest.raises(error, match=words):
        follow(clip, mark())


def test_one_frame_and_frames_of_several_sizes(tmp_path: Path) -> None:
    one = scene(region_corners(REGION))
    with pytest.raises(TrackError, match="has a single frame"):
        follow(write(tmp_path / "a.mkv", [one]), Mark.of(REGION, 0))
    folder = tmp_path / "stills"
    folder.mkdir()
    for name, pixels in (("a.png", one), ("b.png", one[:60])):
        Image.fromarray(pixels).save(folder / name)
    (folder / "frames.csv").write_text("file\na.png\nb.png\n")
    with pytest.raises(VideoError, match="frame 1 has 96x60 pixels, and those before it 96x72"):
        follow(folder, Mark.of(REGION, 0))


def test_the_error_that_is_recorded_of_coded_video_is_that_of_the_truth(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    truth = [shifted(region_corners(REGION), 0.37 * n, 0.23 * n) for n in range(8)]
    pictures = [scene(one) for one in truth]
    clip = clips.write(tmp_path / "a.mkv", pictures=pictures, options={"crf": "26", "x264-params": "log-level=none"})
    track = follow(clip, Mark.of(REGION, 0))
    said = [frame.error_px or 0.0 for frame in track.frames][1:]
    assert 0.6 < np.mean(off(track, truth)[1:]) / np.mean(said) < 1.7
