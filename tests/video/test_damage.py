"""Frames that are predicted from a damaged one are named up to the next key frame, and have no part in anything."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video import clips
from tests.video.faces import REGION, scene, shifted, write
from zssr_gan.video.crops import TrackSource, read_crops
from zssr_gan.video.folder import write_stills
from zssr_gan.video.frames import Frame, with_damage
from zssr_gan.video.io import open_video
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import region_corners

PLANES = (np.zeros((2, 2), np.uint8),)


@pytest.mark.parametrize(
    ("shown", "named"),
    [
        ("K B B P B P K P", "........"),
        ("K B B P! B P K P", ".~~.~~.."),  # the B frames before it are predicted from it, too
        ("K B! B P B P K P", "..~~~~.."),
        ("K P B K! B P", "..~.~~"),
        ("K P B K B P!", "....~."),
        ("K P ?P P K P", "..~~.."),  # a packet before it could not be decoded
        ("K P B ?K B P", "..~..."),
        ("K! K K", "..."),
        ("K B! B", "..~"),
    ],
)
def test_damage_goes_on_up_to_the_next_key_frame(shown: str, named: str) -> None:
    frames = [
        Frame(
            PLANES, n, picture_type=one.strip("?!").replace("K", "I"), key="K" in one, corrupt="!" in one,
            after_damage="?" in one,
        )
        for n, one in enumerate(shown.split())
    ]  # fmt: skip
    found = list(with_damage(iter(frames)))
    assert [frame.index for frame in found] == list(range(len(frames)))
    marks = "".join("~" if frame.after_damage and not frame.corrupt else "." for frame in found)
    assert marks == named
    assert all(bool(frame.damage) == (mark == "~" or frame.corrupt) for frame, mark in zip(found, named, strict=True))


def test_many_frames_in_a_row_are_not_held_back() -> None:
    seen = []

    def endless():  # type: ignore[no-untyped-def]
        for n in range(100):
            seen.append(n)
            yield Frame(PLANES, n, picture_type="B")

    next(with_damage(endless()))
    assert len(seen) < 20


def test_what_a_damaged_frame_changes_in_others_is_named(tmp_path: Path) -> None:
    pictures = [clips.picture(n) for n in range(16)]
    slices = {**clips.X264, "g": "8", "x264-params": "log-level=none:b-adapt=0:slices=4:cabac=0:scenecut=0"}
    path = clips.write(tmp_path / "a.mkv", pictures=pictures, options=slices)
    with open_video(path) as video:
        frames = list(video.frames)
    assert not any(frame.damage for frame in frames)
    sound = {frame.pts: frame.sha256 for frame in frames}
    data = path.read_bytes()
    flagged = 0
    for seed in range(6):
        draw, damaged = np.random.default_rng(seed), bytearray(data)
        for at in draw.integers(len(data) // 4, len(data) // 2, 3):
            damaged[at] ^= int(draw.integers(1, 255))
        path.write_bytes(damaged)
        with open_video(path) as video:
            found = list(video.frames)
        if not any(frame.corrupt for frame in found):  # what can be decoded all the same is not known to be damaged
            continue
        flagged += 1
        hit = next(n for n, frame in enumerate(found) if frame.corrupt)
        key = next((n for n, frame in enumerate(found) if n > hit and frame.key), len(found))
        changed = [frame.sha256 != sound[frame.pts] for frame in found[hit + 1 : key]]
        assert any(changed)
        assert all(frame.damage for frame in found[hit + 1 : key])
        assert all(not frame.damage or frame.corrupt for frame in found[key : key + 1])
    assert flagged


def test_such_frames_have_no_part_in_what_is_fused(tmp_path: Path) -> None:
    truth = [shifted(region_corners(REGION), 1.3 * n, 0.4 * n) for n in range(5)]
    clip = write(tmp_path / "a.mkv", [scene(one) for one in truth])
    with open_video(clip) as video:
        flags = [{}, {}, {"corrupt": True}, {"after_damage": True}, {}]
        frames = (replace(frame, **flag) for frame, flag in zip(video.frames, flags, strict=True))
        write_stills(replace(video, frames=frames), clip, tmp_path / "stills")
    found = read_crops(TrackSource(tmp_path / "stills", follow(tmp_path / "stills", Mark.of(REGION, 0))))
    assert [crop.frame.index for crop in found.crops] == [0, 1, 4]
    assert [(one["index"], one["rejected"]) for one in found.left_out] == [
        (2, "the decoder reports damage"),
        (3, "it may be predicted from a frame that is damaged or missing"),
    ]


def test_frames_after_a_packet_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    path = clips.write(
        tmp_path / "a.mp4", pictures=[clips.picture(n) for n in range(16)], options=clips.X264 | {"g": "8"}
    )
    with av.open(str(path)) as container:
        packets = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    pts, at, size = packets[4]
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    with open_video(path) as video:
        found = list(video.frames)
    assert any("cannot be decoded" in notice for notice in video.notices)
    after = [frame for frame in found if frame.pts > pts]
    key = next(n for n, frame in enumerate(after) if frame.key)
    assert key > 0
    assert all(frame.damage for frame in after[:key])
    assert not any(frame.damage for frame in after[key:])
