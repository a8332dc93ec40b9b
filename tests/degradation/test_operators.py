"""Downscale operators, their adjoints, and back-projection through them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.images import quick, ramp
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, KernelBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale, adjoint, back_project
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


class TestAdjoint:
    @pytest.mark.parametrize(
        ("downscale", "size", "lr_size"),
        [
            (BicubicDownscale(), (16, 20), (8, 10)),
            (BicubicDownscale(), (17, 21), (11, 9)),
            (KernelDownscale(torch.tensor(CROOKED), (2, 3)), (16, 21), (8, 7)),
            (KernelDownscale(torch.tensor(CROOKED), (2, 2)), (17, 21), (9, 11)),
            (TILTED, (16, 20), (8, 10)),
            (TILTED, (17, 21), (9, 11)),
        ],
        ids=["bicubic", "bicubic fractional", "kernel", "kernel odd", "gaussian", "gaussian odd"],
    )
    def test_inner_products_agree(self, downscale: Downscale, size: tuple[int, int], lr_size: tuple[int, int]) -> None:
        x, y = drawn(2, 3, *size), drawn(2, 3, *lr_size, seed=1)
        transpose = adjoint(downscale, size, lr_size, y)
        for _ in range(2):  # it can be taken again
            assert transpose(y).shape == x.shape
            products = (downscale(x, lr_size) * y).sum((1, 2, 3)), (x * transpose(y)).sum((1, 2, 3))
            assert torch.allclose(*products, rtol=1e-9)

    def test_holds_where_no_gradients_are_taken(self) -> None:
        with torch.no_grad():
            back = adjoint(TILTED, (8, 8), (4, 4), drawn(1, 1, 4, 4))(drawn(1, 1, 4, 4))
        expected = matrix(TILTED, (8, 8), (4, 4)).T @ drawn(1, 1, 4, 4).flatten()
        assert torch.allclose(back.flatten(), expected, atol=1e-9)


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
        found = back_project(sr.clone(), lr, downscale, 60)
        assert torch.allclose(found.flatten(), expected, atol=1e-5)

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
        assert abs(error(damped, 300) / error(damped, 60) - 1) < 0.01

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

    def test_each_image_by_itself(self, astronaut: Tensor) -> None:
        """Beside one that is done at once, and one of another size of error."""
        lr = torch.stack([astronaut, astronaut.flip(-1), torch.full_like(astronaut, 0.5)])
        sr = torch.stack([torch.zeros(3, 128, 128), torch.ones(3, 128, 128), torch.full((3, 128, 128), 0.5)])
        together = back_project(sr.clone(), lr, TILTED, 5)
        for n in range(3):
            alone = back_project(sr[n : n + 1].clone(), lr[n : n + 1], TILTED, 5)
            assert torch.allclose(together[n], alone[0], atol=1e-5)
        assert torch.allclose(together[2], torch.full((3, 128, 128), 0.5), atol=1e-5)
        assert together.isfinite().all()

    def test_what_agrees_already_stays(self, astronaut: Tensor) -> None:
        sr = astronaut[None].clone()
        out = back_project(sr.clone(), TILTED(sr, (32, 32)), TILTED, 10)
        assert torch.allclose(out, sr, atol=1e-5)
