"""What a camera did, as data and applied: the blur that was asked for, noise, compression, and gradients through it."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from zssr_gan.degradation import jpeg
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale, KernelDownscale
from zssr_gan.imaging.resize import resize

CROOKED = ((1.0, 3.0, 2.0), (0.0, 4.0, 1.0))

BLURS = {
    "round": GaussianBlur(sigma_major=0.7, sigma_minor=0.7),
    "narrow": GaussianBlur(sigma_major=0.35, sigma_minor=0.35),
    "wide": GaussianBlur(sigma_major=2, sigma_minor=1.2, angle_degrees=200),
    "thin": GaussianBlur(sigma_major=1.25, sigma_minor=0.35, angle_degrees=77),
    "along y": GaussianBlur(sigma_major=1.2, sigma_minor=0.5, angle_degrees=90),
    "tilted": GaussianBlur(sigma_major=1.2, sigma_minor=0.5, angle_degrees=30),
    "tilted the other way": GaussianBlur(sigma_major=1.2, sigma_minor=0.5, angle_degrees=-30),
}
blurs = pytest.mark.parametrize("name", BLURS)


def gaussian(blur: GaussianBlur, side: int = 41) -> Tensor:
    """The Gaussian alone, in pixels of the LR image: at equal sizes nothing is shrunk."""
    point = torch.zeros(1, 1, side, side, dtype=torch.float64)
    point[0, 0, side // 2, side // 2] = 1
    return Degradation(blur=blur).downscale(point, (side, side))[0, 0]


def moments(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of mass from the middle, and covariance, over (y, x)."""
    y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in kernel.shape), indexing="ij")
    place = torch.stack([y, x], -1).double()
    centre = (kernel[..., None] * place).sum((0, 1))
    away = place - centre
    return centre, (kernel[..., None, None] * away[..., None] * away[..., None, :]).sum((0, 1))


def noise_like(x: Tensor, seed: int = 0) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


class TestGaussian:
    @blurs
    @pytest.mark.parametrize("scale", [(2, 2), (3, 2)])
    def test_a_kernel_has_the_covariance_that_was_asked_for(self, name: str, scale: tuple[int, int]) -> None:
        """Bicubic adds none: Keys' kernel keeps parabolas. To 1 % of the larger axis: what is cut off far out."""
        kernel = Degradation(blur=BLURS[name]).kernel(scale)
        stretch = torch.diag(torch.tensor(scale, dtype=torch.float64))
        wanted = stretch @ BLURS[name].covariance() @ stretch
        centre, found = moments(kernel)
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-9)
        assert centre.abs().max() < 1e-6
        assert (found - wanted).abs().max() < 0.01 * float(wanted.max())

    @pytest.mark.parametrize("angle", range(0, 180, 15))
    def test_alone_it_is_not_negative_at_any_angle(self, angle: int) -> None:
        blur = GaussianBlur(sigma_major=1.6, sigma_minor=0.6, angle_degrees=angle)
        kernel = gaussian(blur)
        assert kernel.min() >= 0
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-9)
        assert (moments(kernel)[1] - blur.covariance()).abs().max() < 0.01 * 1.6**2

    def test_the_angle_is_from_x_to_y_downwards(self) -> None:
        along_x, down = (gaussian(GaussianBlur(sigma_major=2, sigma_minor=0.5, angle_degrees=a)) for a in (0, 45))
        assert along_x[20, 23] > 10 * along_x[23, 20]
        assert down[22, 22] > 10 * down[22, 18]

    @pytest.mark.parametrize("angle", [0, 20, 33, 45])
    def test_narrower_than_a_pixel_it_is_a_point(self, angle: float) -> None:
        kernel = gaussian(GaussianBlur(sigma_major=0.1, sigma_minor=0, angle_degrees=angle))
        assert float(kernel[20, 20]) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("angle", [10, 22.5, 30, 45, 60])
    def test_thin_and_tilted_it_is_no_comb(self, angle: float) -> None:
        """The weight falls along its axis as a Gaussian's does, whether the line meets the pixels' centres or not."""
        kernel = gaussian(GaussianBlur(sigma_major=3, sigma_minor=0, angle_degrees=angle))
        profile = kernel.sum(0)
        spread = math.sqrt(9 * math.cos(math.radians(angle)) ** 2)
        place = torch.arange(-20, 21, dtype=torch.float64)
        edges = torch.special.ndtr(torch.stack([place - 0.5, place + 0.5]) / spread)
        assert (profile - (edges[1] - edges[0])).abs().max() < 0.015
        assert (profile[20:].diff() <= 1e-9).all()

    @pytest.mark.parametrize("sigmas", [(1.3, 0.4), (0.9, 0.9), (2.0, 0.0)])
    @pytest.mark.parametrize("angle", [0, 30, 89, 90, 135, 179, -20])
    def test_covariance_there_and_back(self, sigmas: tuple[float, float], angle: float) -> None:
        blur = GaussianBlur(sigma_major=sigmas[0], sigma_minor=sigmas[1], angle_degrees=angle)
        again = GaussianBlur.of_covariance(blur.covariance())
        assert torch.allclose(again.covariance(), blur.covariance(), atol=1e-9)
        assert (again.sigma_major, again.sigma_minor) == pytest.approx(sigmas, abs=1e-6)
        if sigmas[0] > sigmas[1]:
            assert math.sin(math.radians(again.angle_degrees - angle)) == pytest.approx(0, abs=1e-6)


class TestLinearPart:
    def test_nothing_is_plain_bicubic(self, astronaut: Tensor) -> None:
        downscale = Degradation().downscale
        assert isinstance(downscale, BicubicDownscale)
        assert torch.equal(downscale(astronaut[None], (31, 20)), resize(astronaut[None], (31, 20)))
        assert not downscale.captures

    def test_no_blur_is_bicubic_too(self, astronaut: Tensor) -> None:
        downscale = Degradation(noise=Noise(sigma=0.01)).downscale
        assert torch.equal(downscale(astronaut[None], (32, 32)), resize(astronaut[None], (32, 32)))
        point = Degradation(blur=GaussianBlur(sigma_major=0, sigma_minor=0)).downscale
        assert torch.allclose(point(astronaut[None], (32, 32)), resize(astronaut[None], (32, 32)), atol=1e-6)

    def test_a_kernel_is_its_downscale(self, astronaut: Tensor) -> None:
        found = Degradation(blur=KernelBlur(values=CROOKED, scale=(2, 2))).downscale
        expected = KernelDownscale(torch.tensor(CROOKED), (2, 2))
        assert torch.allclose(found(astronaut[None], (32, 32)), expected(astronaut[None], (32, 32)), atol=1e-6)
        for name in ("multiple", "symmetries", "reach"):
            assert getattr(found, name) == getattr(expected, name)

    def test_the_whole_kernel_of_a_kernel_is_itself_centred(self) -> None:
        kernel = Degradation(blur=KernelBlur(values=CROOKED, scale=(2, 2))).kernel((2, 2))
        assert moments(kernel)[0].abs().max() < 0.55  # an odd number of pixels between even ones
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-9)

    def test_the_kernel_makes_the_lr_pixel(self) -> None:
        """Its weights, put over the pixels around an LR pixel's centre, are that pixel."""
        degradation = Degradation(blur=BLURS["tilted"])
        kernel = degradation.kernel((2, 2))
        image = torch.rand(1, 1, 80, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        rows, columns = kernel.shape
        top, left = (2 * 20 + 1 - side // 2 for side in (rows, columns))
        expected = (image[0, 0, top : top + rows, left : left + columns] * kernel).sum()
        assert float(degradation.downscale(image, (40, 40))[0, 0, 20, 20]) == pytest.approx(float(expected), abs=1e-3)

    @blurs
    def test_places_constants_and_channels_stay(self, name: str, astronaut: Tensor) -> None:
        """The half turn commutes with it, also for odd sizes."""
        downscale = Degradation(blur=BLURS[name]).downscale
        image = torch.rand(1, 1, 25, 34, generator=torch.Generator().manual_seed(0))
        there = downscale(image.flip(-1, -2), (13, 17))
        assert torch.allclose(there, downscale(image, (13, 17)).flip(-1, -2), atol=1e-5)
        constant = downscale(torch.full((1, 3, 21, 30), 0.3), (11, 15))
        assert torch.allclose(constant, torch.full((1, 3, 11, 15), 0.3), atol=1e-5)
        apart = torch.cat([downscale(astronaut[None, c : c + 1], (32, 32)) for c in range(3)], 1)
        assert torch.allclose(downscale(astronaut[None], (32, 32)), apart, atol=1e-6)

    def test_symmetries_are_the_blurs(self) -> None:
        assert Degradation(blur=BLURS["round"]).downscale.symmetries == tuple(range(8))
        assert Degradation(blur=BLURS["tilted"]).downscale.symmetries != tuple(range(8))
        assert {0, 2} <= set(Degradation(blur=BLURS["tilted"]).downscale.symmetries)

    @pytest.mark.parametrize("blur", [BLURS["thin"], KernelBlur(values=CROOKED, scale=(2, 2))], ids=["thin", "kernel"])
    def test_gradients_are_those_of_small_differences(self, blur: GaussianBlur | KernelBlur) -> None:
        downscale = Degradation(blur=blur).downscale
        x = torch.rand(1, 1, 8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda image: downscale(image, (4, 5)), x.requires_grad_())

    def test_a_noisier_input_is_trusted_less(self) -> None:
        damping = [
            Degradation(blur=BLURS["round"], noise=noise, jpeg=kept).downscale.damping
            for noise, kept in (
                (None, None),
                (Noise(sigma=0.004), None),
                (Noise(sigma=0.02), None),
                (Noise(sigma=0.02), Jpeg.of_quality(90)),
                (Noise(sigma=0.02), Jpeg.of_quality(50)),
            )
        ]
        assert damping[0] > 0
        assert damping == sorted(set(damping))


class TestNoise:
    def test_deviation(self) -> None:
        at = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, -1.0])
        assert torch.allclose(Noise(sigma=0.02).deviation(at), torch.full((6,), 0.02))
        expected = 0.02 * torch.tensor([0.0, 0.5, 1.0, 2.0, 2.0, 0.0]).sqrt()
        assert torch.allclose(Noise(sigma=0.02, shot=1).deviation(at), expected)
        half = Noise(sigma=0.02, shot=0.5).deviation(at).square()
        assert float(half[3] - half[0]) == pytest.approx(0.02**2, rel=1e-4)

    @pytest.mark.parametrize("brightness", [0.1, 0.5, 0.9])
    def test_capture_adds_it(self, brightness: float) -> None:
        own = Noise(sigma=0.03, shot=0.8)
        x = torch.full((4, 3, 64, 64), brightness)
        added = Degradation(noise=own).downscale.capture(x, noise_like(x)) - x
        assert float(added.std()) == pytest.approx(0.03 * math.sqrt(1 + 0.8 * (2 * brightness - 1)), rel=0.02)
        assert abs(float(added.mean())) < 0.001

    def test_coloured_and_gray(self) -> None:
        x = torch.full((4, 3, 64, 64), 0.5)
        coloured, gray = (
            Degradation(noise=Noise(sigma=0.03, coloured=coloured)).downscale.capture(x, noise_like(x)) - x
            for coloured in (True, False)
        )
        assert torch.corrcoef(coloured.transpose(0, 1).flatten(1)).triu(1).abs().max() < 0.05
        assert torch.allclose(gray, gray[:, :1].expand_as(gray), atol=1e-6)
        assert float(gray.std()) == pytest.approx(0.03, rel=0.03)

    def test_a_gray_image_has_either(self) -> None:
        x = torch.full((2, 1, 20, 20), 0.5)
        one, other = (
            Degradation(noise=Noise(sigma=0.03, coloured=coloured)).downscale.capture(x, noise_like(x))
            for coloured in (True, False)
        )
        assert torch.equal(one, other)


class TestCapture:
    def test_gray_noise_as_large_as_rounding_s_is_the_least(self, astronaut: Tensor) -> None:
        """A network that learns to undo a blur from exact sons writes the rounding of real files many times over."""
        for noise in (None, Noise(sigma=0.1 / 255)):
            downscale = Degradation(blur=BLURS["round"], noise=noise).downscale
            added = downscale.capture(astronaut[None], noise_like(astronaut[None])) - astronaut[None]
            assert float(added.std()) * 255 == pytest.approx(12**-0.5, rel=0.05)
            assert torch.allclose(added[:, 0], added[:, 1], atol=1e-6)

    @pytest.mark.parametrize("halved", [False, True])
    def test_noise_comes_before_compression(self, astronaut: Tensor, halved: bool) -> None:
        kept = Jpeg.of_quality(75, halved=halved)
        downscale = Degradation(noise=Noise(sigma=0.02), jpeg=kept).downscale
        assert downscale.captures
        drawn = noise_like(astronaut[None])
        expected = jpeg.compress(astronaut[None] + 0.02 * drawn, *jpeg.tables_of(75), halved=halved)
        assert torch.allclose(downscale.capture(astronaut[None], drawn), expected, atol=1e-6)

    def test_own_tables_are_used(self, astronaut: Tensor) -> None:
        coarse = Jpeg(quality=50, luma=(200,) * 64, chroma=(200,) * 64)
        drawn = noise_like(astronaut[None])
        out = Degradation(jpeg=coarse).downscale.capture(astronaut[None], drawn)
        assert torch.equal(out, jpeg.compress(astronaut[None], (200,) * 64, (200,) * 64))
        assert not torch.equal(out, Degradation(jpeg=Jpeg.of_quality(50)).downscale.capture(astronaut[None], drawn))

    @pytest.mark.parametrize("shot", [0.0, 1.0])
    def test_gradients_come_through_the_whole(self, shot: float) -> None:
        """Also where black has no noise, and its square root no slope."""
        whole = Degradation(blur=BLURS["tilted"], noise=Noise(sigma=0.02, shot=shot), jpeg=Jpeg.of_quality(75))
        x = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))
        x[:, :, :24] = 0
        x.requires_grad_()
        son = whole.downscale(x, (24, 16))
        out = whole.downscale.capture(son, noise_like(son))
        out.square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert (x.grad[:, :, 28:] != 0).float().mean() > 0.9


class TestData:
    WHOLE = Degradation(blur=BLURS["tilted"], noise=Noise(sigma=0.01, shot=0.2), jpeg=Jpeg.of_quality(90, halved=False))

    def test_json_there_and_back(self) -> None:
        for one in (self.WHOLE, Degradation(), Degradation(blur=KernelBlur(values=CROOKED, scale=(2, 2)))):
            again = Degradation.model_validate_json(one.model_dump_json())
            assert again == one
            assert again.sha256 == one.sha256

    def test_the_hash_is_of_the_values(self) -> None:
        """Written into records, so it must be the same for ever."""
        assert Degradation().sha256 == "c113f6181f7f53755c3f43df432644759b6ad8646aa8c2ca8556a481d5995188"
        assert Degradation(noise=Noise(sigma=0.25)).sha256 == Degradation(noise=Noise(sigma=1 / 4, shot=0)).sha256

    def test_other_values_have_other_hashes(self) -> None:
        w = self.WHOLE
        assert w.noise is not None
        assert w.jpeg is not None
        others = [
            w,
            Degradation(),
            w.model_copy(update={"blur": BLURS["thin"]}),
            w.model_copy(update={"blur": None}),
            w.model_copy(update={"noise": None}),
            w.model_copy(update={"noise": w.noise.model_copy(update={"shot": 0.3})}),
            w.model_copy(update={"noise": w.noise.model_copy(update={"coloured": False})}),
            w.model_copy(update={"jpeg": Jpeg.of_quality(90)}),
            w.model_copy(update={"jpeg": Jpeg.of_quality(89, halved=False)}),
            w.model_copy(update={"blur": KernelBlur(values=CROOKED, scale=(2, 2))}),
            w.model_copy(update={"blur": KernelBlur(values=CROOKED, scale=(2, 1))}),
        ]
        assert len({one.sha256 for one in others}) == len(others)

    @pytest.mark.parametrize(
        "bad",
        [
            *({"blur": {"kind": "gaussian", "sigma_major": wide, "sigma_minor": 0.1}} for wide in (-0.1, 9, math.nan)),
            {"blur": {"kind": "gaussian", "sigma_major": 1, "sigma_minor": 1, "angle_degrees": math.inf}},
            {"blur": {"kind": "gaussian", "sigma_major": 1}},
            {"blur": {"kind": "box", "sigma_major": 1, "sigma_minor": 1}},
            *(
                {"blur": {"kind": "kernel", "values": values, "scale": [2, 2]}}
                for values in ([], [[1, 2], [3]], [[-1, 0.5]], [[1, math.nan]])
            ),
            *({"blur": {"kind": "kernel", "values": [[1]], "scale": s}} for s in ([0, 2], [2, 9], [2, 2, 2])),
            *({"noise": noise} for noise in ({"sigma": -0.01}, {"sigma": 0.6}, {"sigma": 0.01, "shot": 1.1})),
            {"noise": {"sigma": 0.01, "color": True}},
            *({"jpeg": {"quality": quality, "luma": [1] * 64, "chroma": [1] * 64}} for quality in (0, 101)),
            *({"jpeg": {"quality": 75, "luma": luma, "chroma": [1] * 64}} for luma in ([1] * 63, [0] * 64)),
            {"jpeg": {"quality": 75, "luma": [1] * 64, "chroma": [-1] * 64}},
            {"sharpening": 1},
        ],
    )
    def test_bad_values_are_refused(self, bad: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Degradation.model_validate(bad)

    def test_nothing_can_be_changed(self) -> None:
        with pytest.raises(ValidationError):
            self.WHOLE.noise = None


@pytest.mark.parametrize("shot", [0, 0.4, 1])
def test_noise_of_stretched_pixels(shot: float) -> None:
    noise, (low, gain) = Noise(sigma=0.002, shot=shot, coloured=False), (0.25, 16.0)
    stretched = noise.stretched(low, gain)
    levels = torch.linspace(low, low + 1 / gain, 9)
    assert torch.allclose(stretched.deviation((levels - low) * gain), noise.deviation(levels) * gain, rtol=1e-5)
    assert not stretched.coloured
    if not shot:
        assert stretched.stretched(-low * gain, 1 / gain) == noise
