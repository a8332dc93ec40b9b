"""Noise that is known is found, of many images and of one; of texture nothing is found."""

import math

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from zssr_gan.degradation.noise import noise_variances, picture_noise
from zssr_gan.imaging.colour import LEVELS, luma_of
from zssr_gan.imaging.resize import resize

COLOURS = torch.tensor([1.0, 0.8, 0.6])[:, None, None]


def textured(count: int, side: int = 40, low: float = 0.25, high: float = 0.75, seed: int = 0) -> list[Tensor]:
    """`3 side side`: a texture at all scales, which the channels share."""
    made = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(count):
        octaves = [resize(torch.rand(1, n, n, generator=made), (side, side)) * n**-0.5 for n in (2, 4, 8, 16, 32, side)]
        texture = torch.stack(octaves).sum(0)
        texture = (texture - texture.min()) / (texture.max() - texture.min())
        images.append(low + (high - low) * texture * COLOURS)
    return images


def noisy(images: list[Tensor], sigma: float = 0.0, shot: float = 0.0, seed: int = 1) -> list[Tensor]:
    """With noise of `sigma` levels at medium brightness, `shot` as in `Noise`; in whole levels."""
    made = torch.Generator().manual_seed(seed)
    out = []
    for image in images:
        deviation = sigma * (1 + shot * (2 * image - 1)).sqrt()
        levels = image * LEVELS + deviation * torch.randn(image.shape, generator=made)
        out.append(levels.round().clamp(0, LEVELS) / LEVELS)
    return out


class TestNoise:
    @pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
    def test_white_noise_is_found(self, sigma: float) -> None:
        found = noise_variances(noisy(textured(30), sigma))
        assert len(found) == 4
        for _, variance, count in found:
            assert count > 100
            assert math.sqrt(variance) == pytest.approx(sigma, rel=0.07)

    def test_none_is_found_where_there_is_none(self) -> None:
        """Neither the shared texture nor the rounding to whole levels counts."""
        assert all(variance < 0.03 for _, variance, _ in noise_variances(noisy(textured(30))))

    def test_the_same_noise_in_all_channels_is_not_seen(self) -> None:
        """It cannot be told from texture: what it is not, it must not be taken for."""
        made = torch.Generator().manual_seed(0)
        images = [image + COLOURS * 3 / LEVELS * torch.randn(1, 40, 40, generator=made) for image in textured(30)]
        assert all(variance < 0.05 for _, variance, _ in noise_variances(noisy(images)))

    def test_noise_that_rises_with_brightness_is_seen_to_rise(self) -> None:
        images = [gray for n in range(5) for gray in textured(8, low=0.1 + 0.15 * n, high=0.25 + 0.15 * n, seed=n)]
        found = noise_variances(noisy([image.mean(0).expand(3, -1, -1) for image in images], 3.0, 0.8))
        brightness, variances, _ = zip(*found, strict=True)
        assert brightness == tuple(sorted(brightness))
        assert brightness[-1] - brightness[0] > 0.3
        assert variances == tuple(sorted(variances))
        for at, variance in zip(brightness, variances, strict=True):
            assert variance == pytest.approx(9 * (1 + 0.8 * (2 * at - 1)), rel=0.15)

    def test_bins_have_the_brightness_of_their_windows(self) -> None:
        dark, bright = (torch.full((3, 16, 16), value) for value in (0.2, 0.8))
        found = noise_variances(noisy([dark, bright], 2.0))
        assert [at for at, _, _ in found] == pytest.approx([0.2, 0.2, 0.8, 0.8], abs=0.01)
        assert [count for _, _, count in found] == [1, 1, 1, 1], "the quietest tenth of 50 windows"

    @pytest.mark.parametrize("clipped", [0.0, 1.0])
    def test_what_is_clipped_is_left_out(self, clipped: float) -> None:
        """Black and white have no noise; counted, they would be the quietest windows of all."""
        half = [image.clone() for image in textured(30)]
        for image in half:
            image[:, :, :20] = clipped
        images = noisy(half, 3.0)
        for image in images:
            image[:, :, :20] = clipped
        found = noise_variances(images)
        assert all(math.sqrt(variance) == pytest.approx(3.0, rel=0.1) for _, variance, _ in found)
        assert all(0.2 < at < 0.8 for at, _, _ in found)
        whole = sum(count for _, _, count in noise_variances(noisy(textured(30), 3.0)))
        assert 0.2 < sum(count for _, _, count in found) / whole < 0.5

    def test_one_clipped_channel_is_enough(self) -> None:
        image = torch.full((3, 16, 16), 0.5)
        image[2] = 1.0
        assert noise_variances([image]) == []

    def test_images_of_any_sizes(self) -> None:
        images = [image for side in (8, 13, 40) for image in textured(10, side)]
        assert all(math.sqrt(v) == pytest.approx(2.0, rel=0.15) for _, v, _ in noise_variances(noisy(images, 2.0)))


PHOTOGRAPHS = {"astronaut": data.astronaut, "chelsea": data.chelsea, "coffee": data.coffee}


LITTLE = 6.6  # levels that small gray pictures may be taken to have


def photograph(name: str, side: int, *, gray: bool, sigma: float = 0.0) -> Tensor:
    """The middle of a photograph at `side` pixels with noise of `sigma` levels, in whole levels."""
    x = torch.from_numpy(np.array(PHOTOGRAPHS[name]())).permute(2, 0, 1).float() / LEVELS
    short = min(x.shape[1:])
    top, left = (x.shape[1] - short) // 2, (x.shape[2] - short) // 2
    x = resize(x[:, top : top + short, left : left + short], (side, side)).clamp(0, 1)
    (x,) = noisy([luma_of(x)[None] if gray else x], sigma)
    return x


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("gray", [False, True])
class TestOnePicture:
    @pytest.mark.parametrize(("side", "sigma"), [(32, 10.0), (64, 10.0), (128, 5.0), (128, 10.0), (128, 25.0)])
    def test_noise_is_seen_and_measured(self, name: str, gray: bool, side: int, sigma: float) -> None:
        seen = picture_noise(photograph(name, side, gray=gray, sigma=sigma))
        assert seen is not None
        assert seen.noise.coloured != gray
        if gray and side < 48:
            assert 4 / LEVELS <= seen.noise.sigma <= sigma / LEVELS + 2 * seen.error
            assert sigma / LEVELS <= seen.noise.sigma + 3 * seen.error
            return
        assert LEVELS * seen.noise.sigma == pytest.approx(sigma, rel=0.35)
        assert 0 < seen.error < seen.noise.sigma / 2

    @pytest.mark.parametrize("side", [16, 32, 64, 128, 256])
    @pytest.mark.parametrize("sigma", [0.0, 1.0])
    def test_texture_is_not_taken_for_noise(self, name: str, gray: bool, side: int, sigma: float) -> None:
        seen = picture_noise(photograph(name, side, gray=gray, sigma=sigma))
        assert seen is None or (gray and side < 48 and LEVELS * seen.noise.sigma < LITTLE)


class TestSmallGrayPictures:
    @pytest.mark.parametrize("side", [24, 28, 32, 36, 40, 46])
    @pytest.mark.parametrize("sigma", [10.0, 15.0, 25.0, 40.0])
    def test_noise_is_seen(self, side: int, sigma: float) -> None:
        generator = torch.Generator().manual_seed(side)
        found = []
        for name in PHOTOGRAPHS:
            x = luma_of(torch.from_numpy(np.array(PHOTOGRAPHS[name]())).permute(2, 0, 1).float() / LEVELS)[None]
            for _ in range(4):
                top, left = (int(torch.randint(size - 2 * side, (1,), generator=generator)) for size in x.shape[1:])
                crop = resize(x[:, top : top + 2 * side, left : left + 2 * side], (side, side)).clamp(0, 1)
                (lr,) = noisy([crop], sigma)
                seen = picture_noise(lr)
                found.append(0.0 if seen is None else LEVELS * seen.noise.sigma / sigma)
        assert sorted(found)[1] > 0.35  # black skies clip most of it
        assert float(np.median(found)) == pytest.approx(0.95, abs=0.2)
        assert max(found) < 1.7

    def test_grain_is_taken_with_reserve(self) -> None:
        """Coffee has grain of 15 levels at this place; to learn against 7 costs nothing, against 15 3.5 dB."""
        grain = luma_of(torch.from_numpy(data.coffee()[284:340, 24:80]).permute(2, 0, 1).float() / LEVELS)[None]
        (lr,) = noisy([resize(grain, (28, 28)).clamp(0, 1)])
        seen = picture_noise(lr)
        assert seen is not None
        assert LEVELS * seen.noise.sigma < LITTLE

    @pytest.mark.parametrize("level", [0.0, 1.0])
    def test_of_what_is_clipped_little_is_seen(self, level: float) -> None:
        scene = photograph("chelsea", 40, gray=True)
        scene[:, 8:] = level
        assert picture_noise(noisy([scene])[0]) is None
        (lr,) = noisy([scene], 10.0)
        seen = picture_noise(lr)
        assert seen is not None
        assert 3 < LEVELS * seen.noise.sigma < 12


@pytest.mark.parametrize("side", [24, 32, 46, 60])
def test_noise_of_colours_that_are_clipped_in_every_part(side: int) -> None:
    """Dark coffee has no blue: no window tells the noise of its colours apart."""
    scene = torch.from_numpy(data.coffee()[260:380, 200:320]).permute(2, 0, 1).float() / LEVELS
    scene = resize(scene[:, : 2 * side, : 2 * side], (side, side)) * torch.tensor([1, 1, 0.01])[:, None, None]
    assert picture_noise(noisy([scene.clamp(0, 1)])[0]) is None
    seen = picture_noise(noisy([scene.clamp(0, 1)], 10.0)[0])
    assert seen is not None
    assert seen.noise.coloured
    assert 4 < LEVELS * seen.noise.sigma < 12


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
@pytest.mark.parametrize("side", [48, 64, 128])
def test_stationary_texture_is_not_taken_for_noise(name: str, side: int) -> None:
    scene = torch.from_numpy(getattr(data, name)())[None].float() / LEVELS
    (plain,) = noisy([resize(scene, (side, side)).clamp(0, 1)])
    assert picture_noise(plain) is None


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
@pytest.mark.parametrize("side", [16, 24, 32, 40, 44])
def test_of_small_stationary_texture_little_is_called_noise(name: str, side: int) -> None:
    """Learning against 7 levels costs gravel, which is the worst of them, 0.55 dB."""
    scene = torch.from_numpy(getattr(data, name)())[None].float() / LEVELS
    (plain,) = noisy([resize(scene, (side, side)).clamp(0, 1)])
    seen = picture_noise(plain)
    assert seen is None or LEVELS * seen.noise.sigma < LITTLE


@pytest.mark.parametrize("place", [0, 100, 200])
def test_of_small_text_little_is_called_noise(place: int) -> None:
    page = torch.from_numpy(data.page())[None].float() / LEVELS
    for side in (16, 20, 32):
        crop = page[:, 60 : 60 + 2 * side, place : place + 2 * side]
        (plain,) = noisy([resize(crop, (side, side)).clamp(0, 1)])
        seen = picture_noise(plain)
        assert seen is None or LEVELS * seen.noise.sigma < LITTLE


@pytest.mark.parametrize("side", [1, 7, 15])
def test_of_a_picture_that_is_too_small_nothing_is_seen(side: int) -> None:
    assert picture_noise(torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))) is None


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_of_one_value_nothing_is_seen(value: float) -> None:
    assert picture_noise(torch.full((1, 40, 40), value)) is None
