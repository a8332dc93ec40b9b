"""Downscale operators, their transposes, and back-projection through them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.images import quick, ramp
from zssr_gan.degradation import operators
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.degradation.operators import (
    BicubicDownscale,
    Downscale,
    EnlargedDownscale,
    KernelDownscale,
    back_project,
    shrink,
)
from zssr_gan.imaging.resize import reduced_size, resize


class TestDownscale:
    @quick
    @given(
        side=st.integers(8, 40),
        scale=st.integers(1, 4),
        kernel_side=st.integers(1, 7),
        seed=st.integers(0, 99),
        value=st.floats(0, 1),
    )
    def test_a_kernel_keeps_constants(self, side: int, scale: int, kernel_side: int, seed: int, value: float) -> None:
        kernel = torch.rand(kernel_side, kernel_side, generator=torch.Generator().manual_seed(seed)) + 0.01
        shrink = KernelDownscale(kernel, (scale, scale))
        out = shrink(torch.full((1, 3, side, side), value), reduced_size((side, side), (scale, scale)))
        assert out.shape == (1, 3, *reduced_size((side, side), (scale, scale)))
        assert (out - value).abs().max() < 1e-5

    @pytest.mark.parametrize("scale", [(1, 1), (2, 2), (3, 3), (2, 3), (4, 1)])
    @pytest.mark.parametrize("shape", [(5, 5), (4, 4), (3, 6)])
    def test_a_kernel_keeps_positions(self, scale: tuple[int, int], shape: tuple[int, int]) -> None:
        """A crooked kernel, off centre, of even or odd size: a ramp shows each pixel's position all the same."""
        kernel = torch.rand(shape, generator=torch.Generator().manual_seed(1)) ** 3
        height, width = 24 * scale[0], 24 * scale[1]
        out = KernelDownscale(kernel, scale)(ramp(height, width), (24, 24))[0]
        expected = ramp(24, 24)[0] * torch.tensor(scale)[:, None, None]
        inner = slice(8, -8)
        assert (out - expected)[:, inner, inner].abs().max() < 0.06  # a twentieth of a pixel is left as it is

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_a_whole_blur_is_the_mean_of_each_block(self, scale: int) -> None:
        image = torch.rand(2, 3, 12, 24, generator=torch.Generator().manual_seed(0))
        out = KernelDownscale(torch.ones(scale, scale), (scale, scale))(image, (12 // scale, 24 // scale))
        assert torch.allclose(out, torch.nn.functional.avg_pool2d(image, scale), atol=1e-6)

    def test_channels_are_apart(self, astronaut: Tensor) -> None:
        shrink = KernelDownscale(torch.ones(3, 3), (2, 2))
        apart = torch.cat([shrink(astronaut[None, c : c + 1], (32, 32)) for c in range(3)], 1)
        assert torch.allclose(shrink(astronaut[None], (32, 32)), apart, atol=1e-6)

    def test_a_size_that_is_not_the_kernels_is_refused(self) -> None:
        with pytest.raises(ValueError, match="cannot shrink"):
            KernelDownscale(torch.ones(3, 3), (2, 2))(torch.zeros(1, 1, 16, 16), (9, 8))

    def test_odd_sizes_round_up(self) -> None:
        assert KernelDownscale(torch.ones(3, 3), (2, 2))(torch.zeros(1, 1, 25, 24), (13, 12)).shape == (1, 1, 13, 12)

    def test_bicubic_is_resize(self, astronaut: Tensor) -> None:
        assert torch.equal(BicubicDownscale()(astronaut[None], (20, 31)), resize(astronaut[None], (20, 31)))


class TestBackProjection:
    @pytest.mark.parametrize(
        ("downscale", "size"),
        [
            (BicubicDownscale(), (128, 128)),
            (BicubicDownscale(), (95, 161)),
            (KernelDownscale(torch.ones(3, 3), (2, 2)), (128, 128)),
        ],
        ids=["x2", "fractional", "kernel"],
    )
    def test_the_residual_falls(self, astronaut: Tensor, downscale: Downscale, size: tuple[int, int]) -> None:
        lr = astronaut[None]

        def residual(iterations: int) -> float:
            sr = back_project(resize(lr, size).clone(), lr, downscale, iterations)
            return float((downscale(sr, (64, 64)) - lr).square().mean().sqrt())

        errors = [residual(n) for n in (0, 1, 2, 4, 8)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < errors[0] / 5

    def test_one_iteration_is_its_formula(self, astronaut: Tensor) -> None:
        lr = astronaut[None]
        sr = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
        expected = sr + resize(lr - resize(sr, (64, 64)), (128, 128))
        assert torch.allclose(back_project(sr.clone(), lr, BicubicDownscale(), 1), expected, atol=1e-6)

    @pytest.mark.parametrize("size", [(128, 128), (95, 161)])
    def test_iterations_at_the_small_size_are_those_at_the_large_one(
        self, size: tuple[int, int], astronaut: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lr = astronaut[None]
        sr = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        small = back_project(sr.clone(), lr, BicubicDownscale(), 10)
        monkeypatch.setattr(operators, "LARGEST_DENSE", 0)
        large = back_project(sr.clone(), lr, BicubicDownscale(), 10)
        assert not torch.equal(small, large)
        assert (small - large).abs().max() < 0.001 / 255

    def test_no_iterations_change_nothing(self, astronaut: Tensor) -> None:
        sr = torch.zeros(1, 3, 128, 128)
        assert not back_project(sr, astronaut[None], BicubicDownscale(), 0).any()


TILTED = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=0.9, sigma_minor=0.4, angle_degrees=30)))
WIDE = Degradation(blur=GaussianBlur(sigma_major=1.25, sigma_minor=1.1, angle_degrees=20))
CROOKED = ((1.0, 3.0, 2.0), (0.0, 4.0, 1.0))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(downscale: Downscale, size: tuple[int, int], lr_size: tuple[int, int]) -> Tensor:
    """A downscale of one channel as a matrix, by what it makes of each pixel."""
    pixels = size[0] * size[1]
    return downscale(torch.eye(pixels, dtype=torch.float64).reshape(pixels, 1, *size), lr_size).flatten(1).T


class TestTranspose:
    @pytest.mark.parametrize(
        ("downscale", "size", "lr_size"),
        [
            (BicubicDownscale(), (16, 20), (8, 10)),
            (BicubicDownscale(), (17, 21), (11, 9)),
            (KernelDownscale(torch.tensor(CROOKED), (2, 3)), (16, 21), (8, 7)),
            (KernelDownscale(torch.tensor(CROOKED), (2, 2)), (17, 21), (9, 11)),
            (KernelDownscale(torch.ones(1, 1), (3, 3)), (17, 21), (6, 7)),
            (TILTED, (16, 20), (8, 10)),
            (TILTED, (17, 21), (9, 11)),
            (EnlargedDownscale(TILTED, 2), (16, 20), (16, 20)),
        ],
        ids=["bicubic", "fractional", "kernel", "kernel odd", "no blur", "gaussian", "gaussian odd", "enlarged"],
    )
    def test_inner_products_agree(self, downscale: Downscale, size: tuple[int, int], lr_size: tuple[int, int]) -> None:
        x, y = drawn(2, 3, *size), drawn(2, 3, *lr_size, seed=1)
        back = downscale.transpose(y, size)
        assert back.shape == x.shape
        products = (downscale(x, lr_size) * y).sum((1, 2, 3)), (x * back).sum((1, 2, 3))
        assert torch.allclose(*products, rtol=1e-9)


class TestDampedBackProjection:
    @pytest.mark.parametrize(
        "degradation",
        [
            Degradation(blur=TILTED.degradation.blur, noise=Noise(sigma=0.01)),
            Degradation(blur=KernelBlur(values=CROOKED, scale=(2, 2)), noise=Noise(sigma=0.03)),
            Degradation(noise=Noise(sigma=0.02)),
        ],
        ids=["gaussian", "kernel", "noise alone"],
    )
    def test_gives_the_most_probable_result(self, degradation: Degradation) -> None:
        """The z that minimises |D z - lr|^2 + damping |z - sr|^2, beside a dense solve."""
        downscale = DegradedDownscale(degradation)
        sr, lr = drawn(1, 1, 8, 10), drawn(1, 1, 4, 5, seed=1)
        D, damping = matrix(downscale, (8, 10), (4, 5)), downscale.damping
        assert damping is not None
        normal = D.T @ D + damping * torch.eye(80, dtype=torch.float64)
        expected = torch.linalg.solve(normal, D.T @ lr.flatten() + damping * sr.flatten())
        found = back_project(sr.clone(), lr, downscale, 1)  # solved, however many are asked for
        assert torch.allclose(found.flatten(), expected, atol=1e-6)

    @pytest.mark.parametrize(
        "degradation",
        [Degradation(blur=WIDE.blur), Degradation(noise=Noise(sigma=0.02)), Degradation(jpeg=Jpeg.of_quality(70))],
        ids=["gaussian", "noise alone", "jpeg alone"],
    )
    @pytest.mark.parametrize("size", [(32, 32), (23, 29)])
    def test_conjugate_gradients_come_to_the_same(
        self, degradation: Degradation, size: tuple[int, int], astronaut: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of what a large image takes, on a small one."""
        lr_size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        lr, sr = resize(astronaut[None], lr_size), resize(astronaut[None], size) + 0.1 * drawn(1, 3, *size).float()
        downscale = DegradedDownscale(degradation)
        solved = back_project(sr.clone(), lr, downscale, 1)
        monkeypatch.setattr(operators, "_LARGEST_INVERTED", 0)
        monkeypatch.setattr(operators, "_LARGEST_TURNED", 0)
        iterated = back_project(sr.clone(), lr, downscale, 40)
        assert not torch.equal(solved, iterated)
        assert (solved - iterated).abs().max() < 0.01 / 255

    def test_a_wide_blur_does_not_diverge(self, astronaut: Tensor) -> None:
        """Where the classical way gains at first and then loses all of it: it enlarges what it cannot see."""
        truth = astronaut[None]
        whole = WIDE.model_copy(update={"noise": Noise(sigma=1 / 255)})
        damped, classical = DegradedDownscale(whole), DegradedDownscale(whole)
        classical.damping = None
        made = torch.Generator().manual_seed(0)
        lr = damped.capture(damped(truth, (32, 32)), torch.randn(1, 3, 32, 32, generator=made))
        lr = (lr * 255).round() / 255

        def error(downscale: Downscale, iterations: int) -> float:
            sr = back_project(resize(lr, (64, 64)).clone(), lr, downscale, iterations)
            return float((sr - truth).square().mean().sqrt())

        before = error(damped, 0)
        assert error(classical, 3) < before < error(classical, 60)
        assert error(damped, 3) < 0.9 * before
        assert error(damped, 60) < 0.9 * before

    def test_a_noisy_input_is_not_believed_to_the_last(self) -> None:
        """Noise of the input is written into the result by the classical way, and mostly kept out by damping."""
        flat, noise = torch.full((1, 1, 32, 32), 0.5), 0.04 * (drawn(1, 1, 16, 16).float() - 0.5)
        noisy = DegradedDownscale(Degradation(blur=WIDE.blur, noise=Noise(sigma=0.04 / 12**0.5)))
        clean = DegradedDownscale(WIDE)
        errors = [
            float((back_project(flat.clone(), 0.5 + noise, one, 30) - 0.5).square().mean()) for one in (noisy, clean)
        ]
        assert errors[0] < 0.7 * errors[1]

    def test_in_place_and_nothing_at_no_iterations(self, astronaut: Tensor) -> None:
        sr = resize(astronaut[None], (128, 128)).clone()
        before = sr.clone()
        assert back_project(sr, astronaut[None], TILTED, 0) is sr
        assert torch.equal(sr, before)
        assert back_project(sr, astronaut[None], TILTED, 2) is sr
        assert not torch.equal(sr, before)

    @pytest.mark.parametrize(
        "downscale",
        [BicubicDownscale(), TILTED, DegradedDownscale(Degradation(noise=Noise(sigma=0.02)))],
        ids=["bicubic", "gaussian", "noise alone"],
    )
    @pytest.mark.parametrize("side", [24, 64])
    def test_the_bits_of_an_image_do_not_depend_on_its_batch(
        self, downscale: Downscale, side: int, astronaut: Tensor
    ) -> None:
        crop = astronaut[:, :side, :side]
        lr = torch.stack([crop, crop.flip(-1), torch.full_like(crop, 0.5)])
        drawn_size = 3, 3, 2 * side, 2 * side
        sr = torch.rand(drawn_size, generator=torch.Generator().manual_seed(0))
        together = back_project(sr.clone(), lr, downscale, 5)
        for n in range(3):
            assert torch.equal(together[n], back_project(sr[n : n + 1].clone(), lr[n : n + 1], downscale, 5)[0])
        assert together.isfinite().all()

    def test_what_agrees_already_stays(self, astronaut: Tensor) -> None:
        sr = astronaut[None].clone()
        out = back_project(sr.clone(), TILTED(sr, (32, 32)), TILTED, 10)
        assert torch.allclose(out, sr, atol=1e-5)


@pytest.mark.parametrize("to", [(10, 12), (9, 13)])
@pytest.mark.parametrize(
    "downscale",
    [
        BicubicDownscale(),
        Degradation(blur=GaussianBlur(sigma_major=0.9, sigma_minor=0.5, angle_degrees=20)).downscale,
        KernelDownscale(torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), (2, 2)),
    ],
    ids=["bicubic", "blur", "kernel"],
)
def test_the_gradient_is_autograds(downscale: Downscale, to: tuple[int, int]) -> None:
    draws = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, 2 * to[0], 2 * to[1], generator=draws, dtype=torch.float64).requires_grad_()
    down = torch.rand(2, 3, *to, generator=draws, dtype=torch.float64)
    (wanted,) = torch.autograd.grad((downscale(x, to) * down).sum(), x)
    (found,) = torch.autograd.grad((shrink(x, downscale, to) * down).sum(), x)
    assert torch.allclose(found, wanted, atol=1e-12)
