"""Training pairs: inside the image, aligned, in every symmetry, and never out of what is held out."""

import math

import pytest
import torch
from torch import Tensor

from tests.images import ramp
from zssr_gan.degradation.jpeg import block_coefficients, tables_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, KernelDownscale
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.zeroshot import PairSettings
from zssr_gan.zeroshot.pairs import PairSampler, PairSource, Task
from zssr_gan.zeroshot.selection import fold_map

X2 = Task((2.0, 2.0), (1, 1), BicubicDownscale())
X2_LR = Task((2.0, 2.0), (2, 2), BicubicDownscale())
TASKS = {
    "x2": X2,
    "x1.5": Task((1.5, 1.5), (1, 1), BicubicDownscale()),
    "x(1.2, 2)": Task((1.2, 2.0), (1, 1), BicubicDownscale()),
    "kernel x2": Task((2.0, 2.0), (1, 1), KernelDownscale(torch.tensor([[1.0, 3, 2], [0, 4, 1]]), (2, 2))),
    "x2 lr": X2_LR,
    "x3 lr": Task((3.0, 3.0), (3, 3), BicubicDownscale()),
    "x(1, 2) lr": Task((1.0, 2.0), (1, 2), BicubicDownscale()),
    "kernel x3 lr": Task((3.0, 3.0), (3, 3), KernelDownscale(torch.tensor([[1.0, 3, 2], [0, 4, 1]]), (3, 3))),
}
tasks = pytest.mark.parametrize("name", TASKS)


def made(height: int, width: int, members: int = 1, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(members, channels, (height + 1) // 2, (width + 1) // 2, generator=generator)
    return resize(small, (height, width)).clamp(0, 1)


class Sampler(PairSampler):
    """One that counts its steps itself."""

    def __init__(self, source: PairSource, seeds: list[int]) -> None:
        super().__init__(source, seeds)
        self.iteration_N = torch.zeros(len(seeds), dtype=torch.int64)

    def next(self) -> tuple[Tensor, Tensor, Tensor]:
        self.iteration_N += 1
        return self.sample(self.iteration_N - 1)


def sampler(
    image: Tensor,
    task: Task = X2,
    *,
    learn: Tensor | None = None,
    others: tuple[Tensor, ...] = (),
    seeds: list[int] | None = None,
    **pairs: object,
) -> Sampler:
    settings = PairSettings.model_validate({"crop": 16, "batch": 4, **pairs})
    return Sampler(PairSource(settings, [image, *others], learn, task), seeds or list(range(len(image))))


def numbered(height: int, width: int) -> Tensor:
    """1 1 H W: every pixel has a value of its own, exact in float32, in [0, 1]."""
    return torch.arange(height * width).reshape(1, 1, height, width) / (height * width)


def places(side: int) -> Tensor:
    """1 2 H W: channel 0 is each pixel's x, channel 1 its y, as shares of the side."""
    return ramp(side, side).flip(1) / side


def slopes_of(draws: Sampler, side: int) -> tuple[Tensor, Tensor]:
    """Of each crop of a ramp: the image's (x, y) a pixel along the crop's x and y, `S 2 2`; and its mask `S K K`."""
    _, y, mask = draws.next()
    a = y.shape[-1] // 2 - 4
    along = [y[0][..., a + 4, a + 8] - y[0][..., a + 4, a], y[0][..., a + 8, a + 4] - y[0][..., a, a + 4]]
    return torch.stack(along, -1) * side / 8, mask[0, :, 0]


class TestTask:
    @pytest.mark.parametrize(
        ("task", "shift", "expected"),
        [(X2, (0, 0), (25, 13)), (X2, (1, 0), (24, 13)), (X2_LR, (0, 0), (24, 12)), (X2_LR, (1, 1), (24, 12))],
    )
    def test_cut(self, task: Task, shift: tuple[int, int], expected: tuple[int, int]) -> None:
        image = numbered(25, 13)
        cut = task.cut(image, shift)
        assert cut.shape[-2:] == expected
        assert cut[0, 0, 0, 0] == image[0, 0, shift[0], shift[1]]

    @tasks
    def test_input_is_the_lr_image(self, name: str) -> None:
        task = TASKS[name]
        hr = task.cut(made(25, 31))
        lr = task.shrink(hr)
        seen = task.make_input(hr)
        if task.factor == (1, 1):
            assert torch.equal(seen, resize(lr, hr.shape[-2:]))
        else:
            assert torch.equal(seen, lr)
            assert (seen.shape[-2] * task.factor[0], seen.shape[-1] * task.factor[1]) == hr.shape[-2:]


class TestCrops:
    @pytest.mark.parametrize("size", [(8, 8), (9, 30), (25, 25), (40, 33)])
    @pytest.mark.parametrize("affine", [0.0, 1.0])
    @pytest.mark.parametrize("name", ["x2", "x1.5", "x2 lr", "x(1, 2) lr", "x3 lr"])
    def test_shapes_never_larger_than_the_image(self, size: tuple[int, int], affine: float, name: str) -> None:
        task = TASKS[name]
        fy, fx = task.factor
        draws = sampler(made(*size, members=2), task, crop=32, affine=affine)
        for _ in range(3):
            x, y, mask = draws.next()
            side = y.shape[-1]
            assert y.shape == (2, 4, 3, side, side)
            assert side <= min(32, *size)
            assert side > min(32, *size) - max(fy, fx) * 2
            assert x.shape == (2, 4, 3, side // fy, side // fx)
            assert mask.shape == (2, 4, 1, side, side)
            assert x.isfinite().all()
            assert 0 <= float(y.min()) <= float(y.max()) <= 1
            assert set(mask.unique().tolist()) <= {0.0, 1.0}

    def test_every_symmetry_and_every_place_appears(self) -> None:
        """8 x 8 places of a crop of 5 in 12 pixels, times 8: each crop is one of them, and all symmetries come."""
        image = numbered(12, 12)
        draws = sampler(image, crop=8, batch=16)
        seen, places = set(), set()
        for _ in range(40):
            _, y, mask = draws.next()
            assert (mask == 1).all()
            for crop in y[0]:
                (k,) = [k for k in dihedral.ALL if self.place(image, dihedral.inverse(crop, k)) is not None]
                seen.add(k)
                places.add(self.place(image, dihedral.inverse(crop, k)))
        assert seen == set(dihedral.ALL)
        assert places == {(top, left) for top in range(5) for left in range(5)}

    @staticmethod
    def place(image: Tensor, crop: Tensor) -> tuple[int, int] | None:
        """Where in the image a crop lies as it is."""
        found = (image[0, 0] == crop[0, 0, 0]).nonzero()
        if len(found) != 1:
            return None
        top, left = found[0].tolist()
        part = image[0, :, top : top + crop.shape[-2], left : left + crop.shape[-1]]
        return (top, left) if part.shape == crop.shape and torch.equal(part, crop) else None

    def test_plain_crops_are_taken_as_they_are(self) -> None:
        image = numbered(12, 12)
        draws = sampler(image, crop=8, batch=64, plain=1.0)
        assert all(self.place(image, crop) is not None for crop in draws.next()[1][0])
        share = sampler(image, crop=8, batch=256, plain=0.5).next()[1][0]
        plain = sum(self.place(image, crop) is not None for crop in share)
        assert 110 < plain < 185  # half, and an eighth of the others

    @tasks
    @pytest.mark.parametrize("phases", [False, True])
    def test_pairs_are_aligned(self, name: str, phases: bool) -> None:
        """Away from its edges, a crop's own LR patch is what the network sees: shrinking commutes with turning.

        On the LR grid that holds for every place; on the interpolated grid where the crop starts on the LR pixels.
        """
        task = TASKS[name]
        fy, fx = task.factor
        errors, shifted = [], []
        image = made(60, 60)
        draws = sampler(image, task, crop=36, batch=16, phases=phases)
        for _ in range(4):
            x, y, _ = draws.next()
            again = task.make_input(y[0])
            inner = (..., slice(8 // fy, -8 // fy), slice(8 // fx, -8 // fx))
            error = (again - x[0])[inner].abs().flatten(1).amax(1)
            errors += error.tolist()
            shifted += (again.roll(1, -1) - x[0])[inner].abs().flatten(1).amax(1).tolist()
        aligned = [error < 0.01 for error in errors]
        if task.factor != (1, 1):
            assert all(aligned)
            assert min(shifted) > 0.05
        elif task.scale == (2.0, 2.0) and not phases:  # shifted by one, 60 pixels become 59, which two do not divide
            assert 0.1 < sum(aligned) / len(aligned) < 0.45  # one in four starts on the LR patch's pixels
        # What is not aligned to the LR patch's grid differs by its phase alone, much less than by a moved image.
        assert sum(errors) < 0.75 * sum(shifted)


class TestWarped:
    @pytest.mark.parametrize("name", ["x2", "x1.5", "x2 lr", "x3 lr"])
    def test_target_and_input_show_the_same_place(self, name: str) -> None:
        """On a linear ramp, shrinking and enlarging keep positions, however the crop was warped."""
        task = TASKS[name]
        draws = sampler(places(128), task, crop=24, batch=8, affine=1.0)
        counted = 0
        for _ in range(8):
            x, y, mask = (part.flatten(0, 1) for part in draws.next())
            seen = x if task.factor == (1, 1) else resize(x, (24, 24))
            # Away from the image's own border, beyond which it is mirrored.
            inner = mask.bool() & ((y > 0.25) & (y < 0.75)).all(1, keepdim=True)
            if task.factor != (1, 1):  # enlarging the crop here knows nothing beyond its edge
                inner[..., :6, :] = inner[..., -6:, :] = inner[..., :6] = inner[..., -6:] = False
            counted += int(inner.sum())
            # 0.4 pixels of the image: up to two of a crop's; and an LR patch of x1.5 is rounded to whole pixels.
            assert ((seen - y).abs() * inner).max() < 0.4 / 128
        assert counted > 300

    def test_shrunk_by_the_asked_factors(self) -> None:
        """The slopes of a warped ramp are the warp's matrix: a turn (or mirrored turn) over the scale."""
        draws = sampler(places(80), crop=16, batch=64, affine=1.0, scale_min=0.6, anisotropy=0, shear=0)
        slopes, mask = slopes_of(draws, 80)
        slopes = slopes[mask.flatten(1).all(1)]
        assert len(slopes) > 10
        gram = slopes.mT @ slopes
        scale = gram[:, 0, 0].rsqrt()
        assert ((gram * scale[:, None, None].square() - torch.eye(2)).abs() < 0.06).all()  # turned, not sheared
        assert 0.58 <= float(scale.min()) < 0.7
        assert 0.9 < float(scale.max()) <= 1.02
        assert {1.0, -1.0} == set(torch.linalg.det(slopes).sign().tolist())

    def test_what_lies_outside_does_not_count(self) -> None:
        """A whole image shrunk into a crop of its own size: what counts has the shrunk image's area."""
        draws = sampler(places(48), crop=48, batch=32, affine=1.0, scale_min=0.5, anisotropy=0, shear=0)
        slopes, mask = slopes_of(draws, 48)
        scale = torch.linalg.det(slopes).abs().rsqrt()
        small = scale < 0.69  # fits into the crop at any angle
        assert small.sum() > 5
        assert torch.allclose(mask.mean((1, 2))[small], scale[small].square(), atol=0.03)

    def test_nothing_black_comes_in(self) -> None:
        """Shocher et al.'s code trains on black beyond the border."""
        draws = sampler(torch.full((1, 3, 24, 24), 0.7), crop=24, batch=16, affine=1.0)
        x, y, _ = draws.next()
        assert torch.allclose(x, torch.full_like(x, 0.7), atol=1e-4)
        assert torch.allclose(y, torch.full_like(y, 0.7), atol=1e-4)


class TestHeldOut:
    @pytest.mark.parametrize("affine", [0.0, 1.0])
    @pytest.mark.parametrize("name", ["x2", "x2 lr"])
    @pytest.mark.parametrize("phases", [False, True])
    def test_no_held_out_pixel_counts(self, affine: float, name: str, phases: bool) -> None:
        """Held-out pixels shine; what a member learns from is dark, also in another image, for its own fold only."""
        folds = fold_map((33, 32), 3)
        learn = torch.stack([folds != member for member in range(3)])
        image = (~learn)[:, None].float()
        larger = torch.nn.functional.interpolate(image, size=(50, 48), mode="nearest")
        draws = sampler(
            image, TASKS[name], learn=learn, others=(larger,), crop=24, affine=affine, phases=phases, batch=8
        )
        counted, lit, sizes = 0.0, 0.0, set()
        for _ in range(12):
            _, y, mask = draws.next()
            assert (y * mask).max() < 1e-6
            counted += float(mask.mean()) / 12
            lit += float(y.mean()) / 12
            sizes.add(int(mask.sum()))
        assert counted > (0.05 if affine else 0.5)
        assert lit > 0.1
        assert len(sizes) > 1


def test_each_image_is_learnt_from_as_often_at_the_size_of_the_smallest() -> None:
    one, two = torch.zeros(2, 1, 12, 14), torch.ones(2, 1, 20, 24)
    _, y, _ = sampler(one, others=(two,), crop=16, batch=32).next()
    assert y.shape == (2, 32, 1, 12, 12)
    means = y.mean((2, 3, 4))
    assert set(means.flatten().tolist()) == {0.0, 1.0}
    assert 0.3 < float(means.mean()) < 0.7


@pytest.mark.parametrize("factors", [(5, 8), (7, 3), (8, 8)])
def test_a_crop_holds_a_whole_multiple_of_large_factors(factors: tuple[int, int]) -> None:
    """Their least common multiple may be more than the crop that is asked for."""
    kernel = KernelDownscale(torch.ones(3, 3, dtype=torch.float64), factors)
    task = Task((float(factors[0]), float(factors[1])), factors, kernel)
    x, y, mask = sampler(made(64, 64), task, affine=0.5, crop=16).next()
    side = y.shape[-1]
    assert side >= math.lcm(*factors)
    assert side % math.lcm(*factors) == 0
    assert x.shape[-2:] == (side // factors[0], side // factors[1])
    assert mask.any()


TILTED = GaussianBlur(sigma_major=0.9, sigma_minor=0.4, angle_degrees=30)
GRIDS = pytest.mark.parametrize("factor", [(1, 1), (2, 2)], ids=["interpolated", "lr"])


class TestCamera:
    """Sons go through the camera's noise and compression; what they are to become does not."""

    def of(self, factor: tuple[int, int], **parts: object) -> Task:
        return Task((2.0, 2.0), factor, DegradedDownscale(Degradation(**parts)))

    def pair(self, factor: tuple[int, int], image: Tensor, **parts: object) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs with and without the camera, of the same crops, and the targets; `S ...` each."""
        settings = {"crop": 32, "batch": 48, "phases": False}
        seen, target, _ = sampler(image, self.of(factor, blur=TILTED, **parts), **settings).next()
        plain, same, _ = sampler(image, self.of(factor, blur=TILTED), **settings).next()
        assert torch.equal(target, same)
        return seen[0], plain[0], target[0]

    @GRIDS
    def test_the_difference_is_the_noise(self, factor: tuple[int, int]) -> None:
        image = 0.25 + made(48, 48) / 2
        seen, plain, _ = self.pair(factor, image, noise=Noise(sigma=0.03))
        added = seen - plain
        if factor == (1, 1):
            # Enlarged with the LR patch: at the LR patch's size it is what was added.
            added = resize(added, (16, 16))
            weaker = resize(resize(torch.randn(48, 3, 16, 16), (32, 32)), (16, 16)).std()
            assert float(added.std()) == pytest.approx(0.03 * float(weaker), rel=0.04)
        else:
            assert float(added.std()) == pytest.approx(0.03, rel=0.03)
        assert float(added.mean()) == pytest.approx(0, abs=0.001)

    def test_noise_follows_the_brightness(self) -> None:
        image = torch.full((1, 3, 32, 32), 0.1)
        image[..., 16:] = 0.9
        seen, plain, _ = self.pair((2, 2), image, noise=Noise(sigma=0.03, shot=0.9))
        added = seen - plain
        dark, bright = added[plain < 0.2], added[plain > 0.8]
        assert float(dark.std()) == pytest.approx(0.03 * math.sqrt(1 - 0.9 * 0.8), rel=0.06)
        assert float(bright.std()) == pytest.approx(0.03 * math.sqrt(1 + 0.9 * 0.8), rel=0.06)

    def test_compressed_patches_lie_on_the_lattice(self) -> None:
        """Blocks of a crop's lr begin with the crop, as a camera's do with its image."""
        luma, _ = tables_of(75)
        steps = torch.tensor(luma, dtype=torch.float32).reshape(8, 8)
        image = made(64, 64, channels=1)
        seen, plain, _ = self.pair((2, 2), image, noise=Noise(sigma=0.01), jpeg=Jpeg.of_quality(75))
        off = []
        for lr in (seen, plain):
            left = block_coefficients(lr[:, 0] * 255) / steps
            off.append(float(((left - left.round()).abs() * steps).flatten(0, 2)[:, steps >= 10].mean()))
        assert off[0] < 0.35 < 1 < off[1]
        assert torch.allclose(seen * 255, (seen * 255).round(), atol=1e-2)

    def test_warped_crops_go_through_it_too(self) -> None:
        task = self.of((2, 2), blur=TILTED, noise=Noise(sigma=0.03))
        x, y, _ = sampler(torch.full((1, 3, 32, 32), 0.5), task, affine=1.0, crop=32, batch=32).next()
        assert float((x - 0.5).std()) == pytest.approx(0.03, rel=0.04)
        assert torch.allclose(y, torch.full_like(y, 0.5), atol=1e-5)
