"""The file of a track: read back, edited, refused; and its geometry."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from zssr_gan.errors import SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.video.registration import Motion
from zssr_gan.video.tracks import (
    Track,
    TrackError,
    TrackFrame,
    bounding_region,
    crop_box,
    crop_map,
    from_crop_map,
    homography,
    is_convex,
    map_of,
    motion_of,
    moved,
    moved_corners,
    parse_corners,
    read_track,
    region_corners,
)

REGION = (20, 10, 16, 12)
CORNERS = region_corners(REGION)
PLATE = ((20.0, 11.0), (36.0, 10.0), (35.0, 21.5), (21.0, 22.0))


def track(**changes: object) -> Track:
    frames = tuple(
        TrackFrame(index=index, corners=tuple((x + index / 3, y - 1 / 4) for x, y in CORNERS)) for index in (4, 5, 6)
    )
    made = Track(
        file="a.mkv", sha256=sha256_bytes(b"a"), width=64, height=48, region=REGION, reference=5, frames=frames,
        ended=("begins", "ends"), made_by="test",
    ).model_copy(update=changes)  # fmt: skip
    return made.model_copy(update={"content_sha256": made.hash_now})


def changed_frame(text: bytes, **changes: object) -> bytes:
    """The file of a track with its last frame changed."""
    one = Track.model_validate_json(text)
    return one.model_copy(update={"frames": (*one.frames[:-1], one.frames[-1].model_copy(update=changes))}).encode()


def moved_frame(text: bytes, size: float, away: float) -> bytes:
    last = Track.model_validate_json(text).frames[-1]
    return changed_frame(text, corners=tuple((size * x + away, size * y) for x, y in last.corners))


def test_a_track_is_read_back_and_an_edited_one_says_so(tmp_path: Path) -> None:
    file, one = tmp_path / "track.json", track()
    file.write_bytes(one.encode())
    assert (read_track(file), read_track(file).edited) == (one, False)
    assert sum(b'"index"' in line for line in file.read_bytes().splitlines()) == 3
    file.write_bytes(one.encode().replace(b"[22.0, 9.75]", b"[22.5, 9.75]"))
    assert read_track(file).edited
    assert read_track(file).frames[2].corners[0][0] == 22.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:-3], "is damaged, or of another version"),
        (lambda text: text.replace(b'"reference": 5', b'"reference": 9'), "frame 9, its reference"),
        (
            lambda text: text.replace(b"[22.0, 9.75]", b"[99.0, 9.75]"),
            "the corners of frame 6 are not those of a convex",
        ),
        (lambda text: text.replace(b'"index": 4,', b'"index": 4, "place": 1,'), "place"),
        (lambda text: text.replace(b'"index": 4,', b'"index": 5,'), "frame 5 stands in it twice"),
        (lambda text: text.replace(b'"index": 4,', b'"index": 9,'), "frame 5 stands after frame 9"),
        (lambda text: moved_frame(text, 1, 10000), "outside the picture in frame 6"),
        (lambda text: moved_frame(text, 5, 0), "more than 4 times as long or as short in frame 6"),
        (lambda text: moved_frame(text, 1e200, 0), "the corners of frame 6 are not"),
        (lambda text: changed_frame(text, gain=0.0), "frame 6 would be 0 times as bright"),
        (lambda text: changed_frame(text, bias=1e300), "frame 6 would be 1 times as bright as the reference, plus 1e"),
        (lambda text: changed_frame(text, corners=CORNERS[::-1]), "frame 6 go around the other way"),
        (lambda text: text.replace(b" 20,", b" 60,"), "60,10,16,12 does not lie in a picture of 64x48"),
    ],
)
def test_a_file_that_is_no_track_is_one_sentence(tmp_path: Path, change, words: str) -> None:
    file = tmp_path / "track.json"
    file.write_bytes(change(track().encode()))
    with pytest.raises(TrackError, match=words):
        read_track(file)


def test_corners_that_a_person_set_are_written_as_such(tmp_path: Path) -> None:
    by_hand = track()
    first, *rest = by_hand.frames
    by_hand = by_hand.model_copy(update={"frames": (first.model_copy(update={"edited": True}), *rest)})
    assert b'"edited"' not in track().encode()  # as before there was such a thing
    (tmp_path / "t.json").write_bytes(by_hand.encode())
    assert [frame.edited for frame in read_track(tmp_path / "t.json").frames] == [True, False, False]


def test_the_track_of_another_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "track.json").write_bytes(track().encode())
    (tmp_path / "a.mkv").write_bytes(b"a")
    (tmp_path / "b.mkv").write_bytes(b"b")
    assert read_track(tmp_path / "track.json", tmp_path / "a.mkv").file == "a.mkv"
    with pytest.raises(TrackError, match=r"the track is that of another video \(a\.mkv\)"):
        read_track(tmp_path / "track.json", tmp_path / "b.mkv")


@pytest.mark.parametrize(
    "text", ["1,2,3", "1,2,3,4,5,6,7,x", "0,0,9,0,0,9,9,9", "0,0,5,0,9,0,0,9", "0,0,nan,0,9,9,0,9"]
)
def test_corners_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match="corners"):
        parse_corners(text)


def test_corners_may_go_either_way_round() -> None:
    assert parse_corners("0,0,9,1,8,9,0,8")[1] == (9.0, 1.0)
    assert is_convex(parse_corners("0,8,8,9,9,1,0,0"))
    assert bounding_region(PLATE) == (20, 10, 16, 12)


def test_a_homography_takes_four_corners_to_four_others() -> None:
    of = homography(CORNERS, PLATE)
    assert moved_corners(of, CORNERS) == PLATE
    middle = moved(of, [(28.0, 16.0)])[0]  # where the diagonals cross
    along = [np.subtract(PLATE[2], PLATE[0]), np.subtract(PLATE[3], PLATE[1])]
    for corner, diagonal in zip((PLATE[0], PLATE[1]), along, strict=True):
        assert abs(np.linalg.det([middle - corner, diagonal])) < 1e-9


def test_a_crop_lies_in_the_reference_frame_where_its_homography_says() -> None:
    of = homography(CORNERS, moved_corners(np.array([[1, 0, 2.3], [0, 1, -1.2], [0, 0, 1]]), PLATE))
    box = crop_box(of, REGION, (48, 64))
    there = crop_map(of, box, REGION)
    assert from_crop_map(there, box, REGION) == pytest.approx(of / of[2, 2], abs=1e-9)
    motion = motion_of([there], torch.tensor([[1.0, 0.0]], dtype=torch.float64), flat=True)
    assert map_of(motion) == pytest.approx(there)
    y, x = motion.places((12, 16))[0, 3, 5].tolist()  # the crop's pixel in row 3, column 5
    assert moved(of, [(x + 0.5 + REGION[0], y + 0.5 + REGION[1])])[0] == pytest.approx((box[0] + 5.5, box[1] + 3.5))


def test_a_crop_stays_inside_the_picture() -> None:
    away = np.array([[1, 0, 40.0], [0, 1, -30], [0, 0, 1]])
    assert crop_box(away, REGION, (48, 64)) == (48, 0, 16, 12)


def test_motion_of_the_reference_frame_is_none() -> None:
    one = track()
    motion, still = one.motion(one.frames), Motion.none(3)
    assert torch.allclose(motion.shift[1], still.shift[1], atol=1e-9)
    assert motion.shift[2].tolist() == pytest.approx([0, -1 / 3])


def test_mutants_of_a_track_are_read_or_are_one_sentence(tmp_path: Path) -> None:
    """What is read has a motion, which is all that is made of it."""
    draw, file, read = random.Random(4), tmp_path / "t.json", 0
    values = (None, True, -1, 0, 1, 1e-300, 1e300, 10**30, math.nan, math.inf, "", "x", [], {}, 0.5, 2**63)
    for _ in range(300):
        content = json.loads(track().encode())
        for _ in range(draw.randint(1, 2)):
            part = content
            while isinstance(part, dict | list) and part:
                key = draw.choice(list(part) if isinstance(part, dict) else range(len(part)))
                holder, part = part, part[key]
                if draw.random() < 0.3:
                    break
            kind = draw.randrange(4)
            if kind == 0:
                del holder[key]
            elif kind == 1 and type(part) in (int, float):
                holder[key] = part * draw.choice((-1, 0, 0.5, 2, 10, 1000, 1e6, 1.01))
            elif kind == 2 and isinstance(part, list):
                draw.shuffle(part)
            else:
                holder[key] = draw.choice(values)
        file.write_text(json.dumps(content), "utf-8")
        try:
            found = read_track(file)
        except TrackError as error:
            sentence = str(error)
            assert "\n" not in sentence
            assert len(sentence) < 400
            continue
        motion = found.motion(found.frames)
        assert torch.isfinite(motion.relative_to(0).matrices).all()
        assert (motion.gain > 0).all()
        read += 1
    assert 10 < read < 200
