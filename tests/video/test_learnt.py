"""A mean is learnt from fused images alone, and draws a result towards the scene."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.video.bursts import burst, motion
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.devices import RunOptions, machine
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.provenance import CaseImage
from zssr_gan.video import learnt
from zssr_gan.video.coding import Coding
from zssr_gan.video.fusion import Fused, fuse_burst
from zssr_gan.video.learnt import FusedTrack, check_mean, learn_mean, mean_of, pulled
from zssr_gan.zeroshot.shared import SharedModel

CAMERA = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.4), noise=Noise(sigma=2 / 255))


@pytest.fixture(scope="module")
def track() -> tuple[Tensor, Tensor, Fused]:
    """Frames, the truth, and the frames fused."""
    known = motion(4)
    frames, truth = burst(known, CAMERA, noise=2 / 255)
    return frames, truth, fuse_burst(frames, CAMERA, motion=known)


def learnt_from(fused: Fused, monkeypatch: pytest.MonkeyPatch, *, seed: int = 0, iterations: int = 30) -> SharedModel:
    schedule = learnt.OWN_SETTINGS.schedule.model_copy(update={"iterations": iterations})
    monkeypatch.setattr(learnt, "OWN_SETTINGS", learnt.OWN_SETTINGS.model_copy(update={"schedule": schedule}))
    monkeypatch.setattr(learnt, "_BURSTS", 3)
    with machine(RunOptions("cpu", threads=1)) as used:
        return learn_mean([FusedTrack((CaseImage(name="a", sha256="1"),), fused)], CAMERA, 2, seed=seed, machine=used)


def test_a_model_is_a_function_of_the_frames_and_the_seed(track, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = (learnt_from(track[2], monkeypatch, seed=seed, iterations=3) for seed in (0, 0, 1))
    assert a.sha256 == b.sha256 != c.sha256
    assert a.facts.images == (CaseImage(name="a", sha256="1"),)


def test_a_result_lies_between_the_fused_image_and_the_mean(track, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _, fused = track
    model = learnt_from(fused, monkeypatch)
    mean, shown = mean_of(model, fused.image), pulled(frames, CAMERA, fused, model, 2).image

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a - b).square().mean().sqrt())

    assert 0 < apart(shown, mean) < apart(fused.image, mean)
    assert apart(shown, fused.image) < apart(fused.image, mean)


def test_learning_finds_the_way_back(track, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = track[2]
    model = learnt_from(fused, monkeypatch, iterations=150)
    pairs = learnt._pairs(fused, CAMERA, 2, 3, 99)  # motion and noise that it has not seen
    before, after = (
        float(torch.stack([(change(again) - scene).square().mean() for again, scene in pairs]).mean())
        for change in (lambda again: again, lambda again: mean_of(model, again))
    )
    assert after < 0.9 * before


@pytest.mark.parametrize("jpeg", [None, Jpeg.of_quality(75)])
def test_frames_seen_again_are_what_the_camera_takes(jpeg: Jpeg | None) -> None:
    known = motion(4, light=True)
    _, truth = burst(known, CAMERA)
    taken = burst(known, CAMERA)[0]
    seen = learnt._seen(truth, CAMERA.model_copy(update={"jpeg": jpeg}), 2, known, torch.Generator().manual_seed(0))
    error = 255 * (seen - taken)[..., 3:-3, 3:-3].square().mean().sqrt()
    assert 1.5 < error < (2.6 if jpeg is None else 6)


def test_a_model_of_another_camera_or_scale_is_refused(track, monkeypatch: pytest.MonkeyPatch) -> None:
    model = learnt_from(track[2], monkeypatch, iterations=2)
    check_mean(model, CAMERA, 2)
    with pytest.raises(SettingsError, match="scale 2, not 3"):
        check_mean(model, CAMERA, 3)
    with pytest.raises(SettingsError, match="another degradation"):
        check_mean(model, Degradation(), 2)
    single = replace(model, facts=model.facts.model_copy(update={"learnt_for": ("bicubic",)}))
    with pytest.raises(SettingsError, match="single images"):
        check_mean(single, Degradation(), 2)


def test_frames_of_a_video_are_coded_again(track) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    coding = Coding(torch.full((4,), 9 / 255), torch.tensor([False, True, True, True]))
    plain, coded = (learnt._pairs(fused, CAMERA, 2, 1, 0)[0] for fused in (track[2], replace(track[2], coding=coding)))
    assert torch.equal(plain[1], coded[1])
    assert (coded[0] - coded[1]).square().mean() > 1.5 * (plain[0] - plain[1]).square().mean()


def test_small_frames_are_named() -> None:
    small = fuse_burst(torch.rand(2, 1, 16, 16), CAMERA, motion=motion(2))
    with pytest.raises(ImageError, match="24 pixels a side"):
        learnt._pairs(small, CAMERA, 2, 1, 0)
