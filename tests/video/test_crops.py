"""The crops of a track: cut where the region lies, the reference's moment, and what has no part is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.video.faces import REGION, scene, shifted, write
from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import SettingsError
from zssr_gan.video.crops import TrackSource, read_crops
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.tracking import Mark, follow
from zssr_gan.video.tracks import Track, TrackError, moved_corners, region_corners

TRUTH = [shifted(region_corners(REGION), 1.7 * n, -0.6 * n) for n in range(6)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [scene(one) for one in TRUTH]
    return write(tmp_path_factory.mktemp("clips") / "a.mkv", [*pictures[:4], pictures[3], *pictures[4:]])


@pytest.fixture(scope="module")
def track(clip: Path) -> Track:
    return follow(clip, Mark.of(REGION, 0))


def test_crops_lie_where_the_track_says_and_repeats_are_left_out(clip: Path, track: Track) -> None:
    found = read_crops(TrackSource(clip, track, 2))
    assert [crop.frame.index for crop in found.crops] == [0, 1, 2, 3, 5, 6]
    assert [(one["index"], one["rejected"]) for one in found.left_out] == [(4, "repeats frame 3")]
    assert found.reference == 2
    assert [crop.box[:2] for crop in found.crops[:3]] == [(36, 26), (38, 25), (39, 25)]
    assert found.crops[1].facts["box"] == [38, 25, 24, 20]
    for crop, shift, true in zip(found.crops, found.start.shift.tolist(), (*TRUTH[:4], *TRUTH[4:]), strict=True):
        of_reference = np.subtract(TRUTH[2][0], found.crops[2].box[:2])
        here = np.subtract(true[0], crop.box[:2])
        assert shift == pytest.approx((of_reference - here)[::-1], abs=0.15)
    assert found.mask is None


def test_a_few_frames_around_the_reference(clip: Path, track: Track) -> None:
    assert [crop.frame.index for crop in read_crops(TrackSource(clip, track, most=3)).crops] == [0, 1, 2]
    assert [crop.frame.index for crop in read_crops(TrackSource(clip, track, 5, 3)).crops] == [3, 5, 6]


def test_the_start_of_a_track_is_refined_while_it_is_fused(clip: Path, track: Track) -> None:
    found = read_crops(TrackSource(clip, track))
    frames = torch.stack([crop.picture.pixels for crop in found.crops])
    fused = fuse_burst(frames, Degradation(), 2, found.reference, start=found.start)
    away = fused.motion.distance(found.start, (20, 24))
    assert 0 < float(away.max()) < 0.3
    assert all(fact.rejected is None for fact in fused.frames)


def test_what_lies_beyond_the_corners_is_masked(clip: Path) -> None:
    corners = ((38.0, 27.0), (58.0, 28.0), (57.0, 45.0), (39.0, 44.0))
    found = read_crops(TrackSource(clip, follow(clip, Mark.of(REGION, 0, corners), most=2)))
    assert found.mask is not None
    assert found.mask[10, 12]
    assert not found.mask[0, 0]
    assert 0.6 < float(found.mask.float().mean()) < 0.8
    frames = torch.stack([crop.picture.pixels for crop in found.crops])
    spoilt = frames.clone()
    spoilt[1:, :, 0] = 0  # what is not within the corners has no part in where frames lie
    motions = [
        fuse_burst(one, Degradation(), 1, 0, start=found.start, mask=found.mask).motion.shift
        for one in (frames, spoilt)
    ]
    assert torch.allclose(*motions, atol=0.02)


def test_frames_that_cannot_be_used(clip: Path, track: Track) -> None:
    with pytest.raises(SettingsError, match="frame 9 is not in the track, which has frames 0 to 6"):
        read_crops(TrackSource(clip, track, 9))
    with pytest.raises(SettingsError, match="frame 4 cannot be the reference: repeats frame 3"):
        read_crops(TrackSource(clip, track, 4))
    other = track.frames[1].model_copy(update={"sha256": "0"})
    with pytest.raises(TrackError, match="frame 1 is not as its track has it"):
        read_crops(TrackSource(clip, track.model_copy(update={"frames": (track.frames[0], other, *track.frames[2:])})))
    beyond = track.frames[1].model_copy(update={"index": 99, "corners": moved_corners(np.eye(3), TRUTH[1])})
    with pytest.raises(TrackError, match="has no frame 99"):
        read_crops(TrackSource(clip, track.model_copy(update={"frames": (track.frames[0], beyond)})))
    with pytest.raises(TrackError, match="that of another video"):
        read_crops(TrackSource(clip, track.model_copy(update={"sha256": "0"})))


def test_the_shape_in_which_a_result_is_shown(clip: Path, track: Track) -> None:
    analogue = track.model_copy(update={"width": 704, "height": 288, "sample_aspect_ratio": "12/11"})
    assert TrackSource(clip, analogue).shown_size((80, 44), None) == (80, 44)
    assert TrackSource(clip, analogue, display="auto").shown_size((80, 44), None) == (80, 48)
    assert TrackSource(clip, analogue, display="auto").shown_size((80, 44), "top") == (160, 48)
    assert TrackSource(clip, analogue, display=(768, 576)).shown_size((80, 44), "top") == (160, 48)
