"""The camera of a burst is read from its frames: noise, blur, and where they do not tell."""

import pytest
import torch
from torch import Tensor

from tests.video.bursts import burst, motion
from zssr_gan.degradation.jpeg import compress
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.video.blind import burst_camera, square_pixels
from zssr_gan.video.fusion import fuse_burst


def camera(width: float) -> Degradation:
    return Degradation(blur=GaussianBlur(sigma_major=width, sigma_minor=width))


@pytest.mark.parametrize(("noise", "quality"), [(2, None), (4, None), (2, 75)])
def test_noise_is_what_frames_do_not_share(noise: float, quality: int | None) -> None:
    frames, _ = burst(motion(7), camera(0.5), noise=noise / 255)
    jpeg = None if quality is None else Jpeg.of_quality(quality)
    stored = (255 * frames).round() / 255 if jpeg is None else compress(frames, jpeg.luma, jpeg.chroma)
    found = burst_camera(stored, 0, jpeg, affine=False)
    assert found is not None
    assert found.degradation.jpeg == jpeg
    assert found.degradation.noise is not None
    assert 255 * found.degradation.noise.sigma == pytest.approx(noise, rel=0.3)


def test_more_blur_is_seen_as_more_by_as_much() -> None:
    variances = []
    for width in (0.4, 0.65):
        found = burst_camera(burst(motion(5), camera(width), noise=1 / 255)[0], 0, None, affine=False)
        assert found is not None
        blur = found.degradation.blur
        variances.append(0.0 if blur is None else float(blur.covariance().trace()) / 2)
    assert variances[1] - variances[0] == pytest.approx(0.65**2 - 0.4**2, rel=0.5)


def test_a_burst_restored_by_what_it_tells_is_nearer_the_truth_than_with_no_blur() -> None:
    frames, truth = burst(motion(7), camera(0.55), noise=2 / 255)
    found = burst_camera(frames, 0, None, affine=False)
    assert found is not None

    def psnr(degradation: Degradation) -> float:
        image = fuse_burst(frames, degradation, affine=False).image
        return psnr_db(float((image - truth)[..., 4:-4, 4:-4].square().mean()))

    known = Degradation(blur=camera(0.55).blur, noise=Noise(sigma=2 / 255))
    assert psnr(found.degradation) > psnr(known.model_copy(update={"blur": None})) + 1
    assert psnr(found.degradation) > psnr(known) - 1.5


def test_pixels_that_average_over_their_square_are_told_from_antialiased_bicubic() -> None:
    squares = Degradation(blur=square_pixels(2))
    for known, is_square in ((squares, True), (Degradation(), False)):
        frames, truth = burst(motion(7), known, noise=2 / 255)
        found = burst_camera(frames, 0, None, affine=False)
        assert found is not None
        assert (found.degradation.blur == squares.blur) is is_square

        def psnr(degradation: Degradation, frames: Tensor = frames, truth: Tensor = truth) -> float:
            image = fuse_burst(frames, degradation, affine=False).image
            return psnr_db(float((image - truth)[..., 4:-4, 4:-4].square().mean()))

        if is_square:
            assert psnr(found.degradation) > psnr(found.degradation.model_copy(update={"blur": None})) + 2
            threefold = burst_camera(frames, 0, None, 3, affine=False)
            assert threefold is not None
            assert threefold.degradation.blur == square_pixels(3)


def test_colours_have_the_noise_of_each() -> None:
    frames, _ = burst(motion(5), camera(0.5), noise=4 / 255, colour=True)
    found = burst_camera(frames, 0, None, affine=False)
    assert found is not None
    assert found.degradation.noise is not None
    assert found.degradation.noise.coloured
    assert 255 * found.degradation.noise.sigma == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(("count", "farthest"), [(5, 0.0), (3, 1.2), (2, 1.2)], ids=["no shifts", "three", "two"])
def test_what_does_not_tell_its_blur_tells_its_noise(count: int, farthest: float) -> None:
    frames, _ = burst(motion(count, farthest=farthest), camera(0.5), noise=3 / 255)
    found = burst_camera(frames, 0, None, affine=False)
    assert found is not None
    assert not found.blur_told
    assert found.white
    assert found.degradation.blur is None
    assert found.degradation.noise is not None
    assert 255 * found.degradation.noise.sigma == pytest.approx(3, rel=0.4)


def test_frames_that_show_nothing_in_common_tell_nothing() -> None:
    frames, _ = burst(motion(2), camera(0.5), noise=3 / 255)
    assert burst_camera(torch.stack([frames[0], frames[1].flip(-1)]), 0, None, affine=False) is None


def test_noise_of_a_camera_is_white_and_what_a_codec_leaves_is_not() -> None:
    """A codec's errors of neighbouring pixels are alike, as if the noise were blurred."""
    frames, _ = burst(motion(5), camera(0.5))
    rng = torch.Generator().manual_seed(2)
    noise = torch.randn(frames.shape, generator=rng)
    alike = torch.nn.functional.avg_pool2d(noise, 2, 1, 1)[..., 1:, 1:] * 2
    for errors, white in ((noise, True), (alike, False)):
        found = burst_camera(frames + 2 / 255 * errors, 0, None, affine=False)
        assert found is not None
        assert found.white is white


def test_a_still_rim_is_not_taken_for_noise() -> None:
    """What moves otherwise than the scene, such as the background beside a face, is a part of the pixels alone."""
    frames, _ = burst(motion(7), camera(0.5), noise=1 / 255)
    still = torch.rand(1, 1, *frames.shape[-2:], generator=torch.Generator().manual_seed(0))
    frames[..., :2] = still[..., :2]
    found = burst_camera(frames, 0, None, affine=False)
    assert found is not None
    assert found.degradation.noise is not None
    assert 255 * found.degradation.noise.sigma < 4
