"""The frames of a track, fused: recorded one by one, made again from the video, and shown in their shape at the end."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.faces import REGION, scene, shifted, write
from zssr_gan import fuse
from zssr_gan.errors import SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.video.crops import TrackSource
from zssr_gan.video.fuse_files import fuse_files, verify_fusion
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import Track, region_corners

TRUTH = [shifted(region_corners(REGION), 1.3 * n, 0.4 * n) for n in range(4)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    pictures = [scene(one) for one in TRUTH]
    return write(tmp_path / "a.mkv", [*pictures, pictures[-1]])


@pytest.fixture
def track(clip: Path) -> Track:
    return follow(clip, Mark.of(REGION, 1))


def test_the_record_has_the_track_and_is_made_again_to_the_byte(clip: Path, track: Track, tmp_path: Path) -> None:
    analogue = track.model_copy(update={"sample_aspect_ratio": "4/3"})
    done = fuse_files(TrackSource(clip, analogue, display="auto"), tmp_path / "face.png", 1, camera="bicubic")
    record = json.loads((tmp_path / "face.json").read_text("utf-8"))
    assert record["label"] == "fused"
    assert record["method"][0].startswith("tracking: ")
    assert record["video"]["sha256"] == sha256_file(clip)
    assert record["video"]["track_edited"] is True
    info = record["video"]["info"]
    assert (info["codec"], info["colour_range"], info["time_base"]) == ("ffv1", None, "1/1000")
    assert info["read_as"] == {"range": "full", "matrix": "smpte170m"}
    assert "libavcodec" in info["decoder"]
    assert Track.model_validate(record["video"]["track"]) == analogue
    assert [one["rejected"] for one in record["video"]["left_out"]] == ["repeats frame 3"]
    assert [(one["index"], one["pts"], one["box"][2:]) for one in record["frames"]] == [
        (n, 40 * n, [24, 20]) for n in range(4)
    ]
    assert record["frames"][record["reference"]]["index"] == 1
    assert record["aspect"]["from"] == [24, 20]
    assert record["aspect"]["to"] == [32, 20]
    for name in ("face.png", "face_bicubic.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (32, 20)
    assert done.stored == (24, 20)
    found = verify_fusion(tmp_path / "face.json", rerun=True)
    assert found.ok
    assert [check.name for check in found.checks] == ["video", "output", "plain", "evidence", "label", "rerun"]
    clip.write_bytes(clip.read_bytes() + b" ")
    failed = [check.name for check in verify_fusion(tmp_path / "face.json", rerun=True).checks if not check.ok]
    assert failed == ["video", "rerun"]


def test_the_python_function_takes_a_video(clip: Path, track: Track, tmp_path: Path) -> None:
    (tmp_path / "track.json").write_bytes(track.encode())
    by = {"degradation": "bicubic", "frames": 3}
    followed = fuse(clip, region=REGION, frame=1, **by)
    assert (followed.shape, followed.dtype) == ((40, 48), np.uint8)
    assert np.array_equal(fuse(str(clip), track=tmp_path / "track.json", **by), followed)
    assert not np.array_equal(fuse(clip, track=tmp_path / "track.json", reference=2, **by), followed)
    with pytest.raises(SettingsError, match="say what is to be followed"):
        fuse(clip)
