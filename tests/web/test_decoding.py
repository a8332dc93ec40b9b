import json
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import X264, picture, write
from zssr_gan.files import sha256_file
from zssr_gan.web import decoding


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_a_far_frame_is_the_same_by_seeking(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write(
        tmp_path / f"clip.{kind}", pictures=[picture(number) for number in range(60)], options={**X264, "g": "10"}
    )
    whole, listed = tmp_path / "whole", tmp_path / "listed"
    for folder in (whole, listed):
        folder.mkdir()
    decoding.show_frames(str(clip), str(whole), 40, 45)  # without a list: from the start
    decoding.list_frames(str(clip), str(listed))
    monkeypatch.setattr(decoding, "_FAR", 5)
    if kind != "avi":  # which has no times of its own to be found again by
        monkeypatch.setattr(decoding, "_from_the_start", lambda _path: pytest.fail("it did not seek"))
    decoding.show_frames(str(clip), str(listed), 40, 45)
    for number in range(40, 46):
        name = f"frame-{number}.png"
        assert (listed / name).read_bytes() == (whole / name).read_bytes()
    rows = json.loads((listed / "frames.json").read_bytes())["frames"]
    assert np.diff([row["pts"] for row in rows]).min() > 0
    assert [row["index"] for row in rows if row["key"]] == list(range(0, 60, 10))


@pytest.mark.parametrize("kind", ["mkv", "avi"])
def test_a_video_that_is_cut_short_has_a_notice(tmp_path: Path, kind: str) -> None:
    clip, notices = write(tmp_path / f"clip.{kind}"), list[list[str]]()
    for data in (clip.read_bytes(), clip.read_bytes()[:-600]):
        clip.write_bytes(data)
        decoding.look_at_video(str(clip), str(tmp_path), sha256_file(clip))
        facts = json.loads((tmp_path / "facts.json").read_bytes())["facts"]
        notices.append([text for name, text in facts if name == "notice"])
    assert notices == [[], [f"it is cut short: {len(data) + 600} bytes by its container, {len(data)} in the file"]]
