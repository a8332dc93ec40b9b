"""Fusion is refused where motion is wrong or frames show something else, and said to pay where it does."""

import statistics
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.video.bursts import burst, motion
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.video import holdout
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.holdout import judge_fusion

CAMERA = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.4), noise=Noise(sigma=2 / 255))


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return burst(motion(5), CAMERA, noise=2 / 255)[0]


def test_frames_of_one_scene_in_their_places_pay(frames: Tensor) -> None:
    verdict = judge_fusion(frames, CAMERA, fuse_burst(frames, CAMERA, affine=False), affine=False)
    assert verdict.fuse
    assert "predicted better" in verdict.reason
    assert verdict.ratio is not None
    assert verdict.ratio < 0.92
    assert verdict.off is not None
    assert verdict.off < 0.1
    assert verdict.ratios[0] is None
    assert None not in verdict.ratios[1:]


@pytest.mark.parametrize(
    ("away", "words"),
    [
        ([[0, 0], [0.6, 0], [0, 0.6], [-0.6, 0], [0, -0.6]], "pixels from where their motion says"),
        ([[0, 0], [0.35, 0], [0.35, 0], [0.25, 0.25], [0.25, 0.25]], "where it may lie elsewhere"),
        ([[0, 0], [0.35, 0], [0, 0.35], [-0.35, 0], [0, -0.35]], "unexplained"),
    ],
    ids=["each its own way", "all one way", "by less"],
)
def test_motion_that_is_off_is_refused(
    frames: Tensor, away: list[list[float]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the frames give when they are registered again, and by distances where that does not move them."""
    known = motion(5)
    off = replace(known, shift=known.shift + torch.tensor(away, dtype=torch.float64))
    fused = fuse_burst(frames, CAMERA, motion=off)
    verdict = judge_fusion(frames, CAMERA, fused, affine=False)
    assert not verdict.fuse
    assert "nearer to the reference frame restored alone" in verdict.reason
    monkeypatch.setattr(holdout, "_registered_again", lambda *_, **__: (0.1, 0.0))
    verdict = judge_fusion(frames, CAMERA, fused, affine=False)
    assert not verdict.fuse
    assert words in verdict.reason


def test_motion_that_is_off_by_little_pays_all_the_same(frames: Tensor) -> None:
    known, away = motion(5), [[0, 0], [0.2, 0], [0, 0.2], [-0.2, 0], [0, -0.2]]
    off = replace(known, shift=known.shift + torch.tensor(away, dtype=torch.float64))
    assert judge_fusion(frames, CAMERA, fuse_burst(frames, CAMERA, motion=off), affine=False).fuse


def test_frames_of_something_else_do_not_pay(frames: Tensor) -> None:
    mixed = torch.cat([frames[:1], frames[1:].flip(-1)])
    verdict = judge_fusion(mixed, CAMERA, fuse_burst(mixed, CAMERA, affine=False), affine=False)
    assert not verdict.fuse


def test_two_frames_cannot_be_judged(frames: Tensor) -> None:
    verdict = judge_fusion(frames[:2], CAMERA, fuse_burst(frames[:2], CAMERA, affine=False))
    assert not verdict.fuse
    assert verdict.reason == "only 2 of the frames can be used, and 3 are the least that can be judged"
    assert verdict.ratio is None


def test_what_the_reference_frame_alone_shows_is_not_lost() -> None:
    frames = burst(motion(9), CAMERA, noise=2 / 255)[0]
    before = fuse_burst(frames, CAMERA, motion=motion(9))
    frames[0, :, 8:13, 12:17] += 0.06
    fused = fuse_burst(frames, CAMERA, motion=motion(9))
    inside, around = (slice(None), slice(17, 25), slice(25, 33)), (slice(None), slice(34, 48))
    assert float((fused.image - before.image)[inside].mean()) == pytest.approx(0.06, abs=0.02)
    assert float(fused.support[inside[1:]].max()) < 2
    assert float((fused.image - before.image)[around].abs().mean()) < 1 / 255
    assert 0.03 < fused.alone < 0.25
    assert before.alone == 0
    assert judge_fusion(frames, CAMERA, fused, affine=False).fuse


def test_a_loss_that_is_left_is_refused(frames: Tensor) -> None:
    fused = fuse_burst(frames, CAMERA, affine=False)
    lost = fused.residual.clone()
    lost[8:13, 12:17] += 20
    verdict = judge_fusion(frames, CAMERA, replace(fused, residual=lost), affine=False)
    assert not verdict.fuse
    assert "at one place the reference frame differs" in verdict.reason


def test_noise_that_fusing_makes_larger_is_refused() -> None:
    """A camera without noise sharpens it where the blur hides the scene, and held-out frames are blurred alike."""
    noisy = burst(motion(6), CAMERA, noise=4 / 255)[0]
    for noise, pays in ((None, False), (Noise(sigma=4 / 255), True)):
        camera = CAMERA.model_copy(update={"noise": noise})
        verdict = judge_fusion(noisy, camera, fuse_burst(noisy, camera, affine=False), affine=False)
        assert verdict.fuse is pays
        assert verdict.ratio is not None
        assert verdict.ratio < 1
        assert verdict.noise is not None
        assert (verdict.noise < 6) is pays
        assert ("too little noise is assumed" in verdict.reason) is not pays


def test_a_reference_frame_that_fits_less_well_than_the_others_is_refused(frames: Tensor) -> None:
    """Where all others show somebody else they agree among themselves."""
    fused = fuse_burst(frames, CAMERA, affine=False)
    others = statistics.median(fact.residual for fact in fused.frames[1:])
    for times, pays in ((1.1, True), (1.4, False)):
        first = replace(fused.frames[0], residual=times * others)
        verdict = judge_fusion(frames, CAMERA, replace(fused, frames=(first, *fused.frames[1:])), affine=False)
        assert verdict.fuse is pays
        assert ("1.4 times as much of the reference frame unexplained" in verdict.reason) is not pays
