"""Pairs made on the fly: a patch is what the whole image's LR version shows there, and its seed alone decides it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.pairs import PairDegradationSettings, PairedSettings
from zssr_gan.training.pairs import DRAWN, PairDegrader, PairedImages, degradations_of, pair_at
from zssr_gan.training.reading_ahead import ReadingAhead
from zssr_gan.training.sampling import Sampler

Make = Callable[..., PairedImages]
sampler = partial(Sampler, patch=8, scale=2, seed=0, stream="test")
BLUR = GaussianBlur(sigma_major=0.8, sigma_minor=0.3, angle_degrees=30)


@pytest.fixture
def levels(astronaut: Tensor) -> Tensor:
    return to_levels(resize(astronaut, (96, 120)))


@pytest.fixture
def make_truths(levels: Tensor) -> Iterator[Make]:
    """PairedImages under settings."""
    with ReadingAhead(lambda place: levels.roll(place * 7, -1), 2**20) as images:

        def make(count: int = 4, **settings: Any) -> PairedImages:
            sha256 = {f"set/{n}.png": f"{n:064}" for n in range(count)}
            chosen = PairedSettings.model_validate({"scale": 2, **settings})
            return PairedImages(sha256, ((96, 120),) * count, images, chosen, seed=5)

        yield make


def square(first: int, side: int) -> tuple[slice, slice]:
    return slice(first, first + side), slice(first, first + side)


class TestAPatch:
    @pytest.mark.parametrize("scale", [2, 3, 4, 8])
    @pytest.mark.parametrize("place", ["corner", "middle", "end"])
    def test_it_is_cut_out_of_the_whole(self, levels: Tensor, scale: int, place: str) -> None:
        """Margins make it what the whole image's LR version shows there, borders too; blur and compression included."""
        settings = PairedSettings(scale=scale)  # type: ignore[arg-type]
        for given in ({}, {"blur": BLUR}, {"blur": BLUR, "jpeg": Jpeg.of_quality(50)}):
            one = PairDegrader(Degradation(**given), settings)  # type: ignore[arg-type]
            whole = one.take(from_levels(levels), 0)
            assert whole.shape == (3, 96 // scale, 120 // scale)
            at = {"corner": 0, "middle": 3, "end": 96 // scale - 8}[place]
            lr, hr = pair_at(levels, square(at, 8), one, settings, 0)
            assert torch.equal(hr, levels[:, *square(at * scale, 8 * scale)])
            # Sums of floats come in another order: a value on the edge between two levels may fall to either side.
            off = (lr.int() - whole[:, *square(at, 8)].int()).abs()
            assert off.max() <= 1
            assert (off > 0).float().mean() < 0.01

    def test_it_is_bicubic_in_whole_levels(self, levels: Tensor) -> None:
        made = PairDegrader(Degradation(), PairedSettings(scale=2)).take(from_levels(levels), 0)
        assert torch.equal(made, to_levels(resize(from_levels(levels), (48, 60))))

    def test_scale_1_is_shrunk_rounded_and_enlarged(self, levels: Tensor) -> None:
        settings = PairedSettings(scale=1, shrink=3)
        one = PairDegrader(Degradation(), settings)
        small, whole = to_levels(resize(from_levels(levels), (32, 40))), one.take(from_levels(levels), 0)
        assert torch.equal(whole, to_levels(resize(from_levels(small), (96, 120))))
        lr, hr = pair_at(levels, square(31, 16), one, settings, 0)
        assert torch.equal(hr, levels[:, *square(31, 16)])
        assert (lr.int() - whole[:, *square(31, 16)].int()).abs().max() <= 1
        again = one.whole(from_levels(levels)[None], (96, 120))[0]
        assert (again - from_levels(whole)).abs().mean() < 0.003

    def test_noise_depends_on_the_seed(self, levels: Tensor) -> None:
        settings = PairedSettings(scale=2, degradation=PairDegradationSettings(noise=(0.05, 0.05)))
        (degradation,) = degradations_of(settings.degradation, 2, 0)
        one, clean = (PairDegrader(given, settings) for given in (degradation, Degradation()))
        made = [one.take(from_levels(levels), seed) for seed in (1, 1, 2)]
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])
        spread = from_levels(made[0]).sub(from_levels(clean.take(from_levels(levels), 1))).std().item()
        assert spread == pytest.approx(0.05, rel=0.1)


class TestDegradations:
    def test_without_ranges_there_is_one(self) -> None:
        assert degradations_of(PairDegradationSettings(), 4, 0) == (Degradation(),)
        given = PairDegradationSettings.model_validate({"blur": 2.0, "noise": 0.01, "jpeg": 70})
        (one,) = degradations_of(given, 4, 0)
        assert one.blur == GaussianBlur(sigma_major=0.5, sigma_minor=0.5, angle_degrees=0)  # HR pixels, at x4
        assert one.noise is not None
        assert one.jpeg is not None
        assert (one.noise.sigma, one.jpeg.quality) == (0.01, 70)

    def test_ranges_are_drawn_by_the_seed(self) -> None:
        given = PairDegradationSettings.model_validate({"blur": [0.5, 2.0], "noise": [0.0, 0.1], "jpeg": [30, 33]})
        made = degradations_of(given, 1, 0)
        assert len(made) == DRAWN
        assert made == degradations_of(given, 1, 0) != degradations_of(given, 1, 1)
        widths = [one.blur.sigma_major for one in made if isinstance(one.blur, GaussianBlur)]
        assert 0.5 <= min(widths) < 0.7
        assert 1.8 < max(widths) <= 2.0
        assert {one.jpeg.quality for one in made if one.jpeg} == {30, 31, 32, 33}

    def test_patches_draw_from_all_of_them(self, make_truths: Make) -> None:
        truths = make_truths(degradation={"blur": [0.0, 3.0]})
        batch = sampler(truths, batch=300).batch(0)
        assert len(set(batch.cameras)) > 50
        assert max(batch.cameras) < len(truths.downscales)


class TestTruths:
    def test_a_batch_is_of_pairs(self, make_truths: Make) -> None:
        batch = sampler(make_truths(), batch=6, patch=12).batch(0)
        assert batch.hr is not None
        assert (batch.lr.shape, batch.hr.shape) == ((6, 3, 12, 12), (6, 3, 24, 24))
        off = resize(batch.hr, (12, 12)).clamp(0, 1) - batch.lr
        assert off[..., 2:10, 2:10].abs().max() < 0.003

    def test_a_batch_depends_on_its_number_alone(self, make_truths: Make) -> None:
        given = {"degradation": {"blur": [0.0, 3.0], "noise": [0.0, 0.1]}, "augment": {"rotate": 10.0}}
        used = sampler(make_truths(**given), batch=4)
        for number in range(3):
            used.batch(number)
        parts = [sampler(make_truths(**given), batch=4, rank=rank, world=2).batch(3).lr for rank in (0, 1)]
        assert torch.equal(torch.stack(parts, 1).flatten(0, 1), used.batch(3).lr)

    def test_each_image_gives_its_patches_once_an_epoch(self, make_truths: Make) -> None:
        """And few images are read at a time."""
        truths = make_truths(200, patches={"per_image": 5})
        assert (len(truths), truths.size(999)) == (1000, (48, 60))
        order = truths.order(np.random.default_rng(0))
        assert sorted(order) == list(range(1000))
        assert len(set(order[:320] // 5)) == 64

    def test_an_inner_corner(self, make_truths: Make) -> None:
        truths = make_truths(patches={"corner": "inner"})
        found = [truths.corner(0, (a, a), (8, 8)) for a in np.linspace(0, 0.999, 50)]
        assert (found[0], found[-1]) == ((12, 15), (35, 44))  # of 48 and 60: the middle half
        assert truths.corner(0, (0.999, 0.999), (44, 56)) == (4, 4)  # as near to it as it fits
        assert truths.corner(0, (0.0, 0.0), (48, 60)) == (0, 0)

    def test_without_flips_nothing_is_turned(self, make_truths: Make) -> None:
        assert set(sampler(make_truths(augment={"flips": False}), batch=20).batch(0).turned) == {0}
        assert len(set(sampler(make_truths(), batch=20).batch(0).turned)) > 4

    def test_what_is_held_out_depends_on_its_name(self, make_truths: Make, levels: Tensor) -> None:
        truths = make_truths(degradation={"blur": [0.0, 3.0], "noise": [0.0, 0.1]})
        one, again, other = (truths.held_out(name, levels, 0)[0] for name in "aab")
        assert one.shape == (3, 48, 60)
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        large = truths.held_out("a", levels.repeat(1, 10, 10), 0)
        assert (large[0].shape, large[1].shape) == ((3, 256, 256), (3, 512, 512))


class TestAugment:
    def warp(self, levels: Tensor, at: tuple[slice, slice], seed: int = 1, **augment: Any) -> tuple[Tensor, Tensor]:
        settings = PairedSettings.model_validate({"scale": 2, "augment": augment})
        return pair_at(levels, at, PairDegrader(Degradation(), settings), settings, seed)

    @pytest.mark.parametrize("augment", [{"rotate": 20.0}, {"shear": 15.0}, {"translate": 0.2}])
    def test_it_moves_both(self, levels: Tensor, augment: dict[str, float]) -> None:
        at = square(18, 12)
        still, (lr, hr) = self.warp(levels, at)[1], self.warp(levels, at, **augment)
        assert (lr.shape, hr.shape) == ((3, 12, 12), (3, 24, 24))
        assert not torch.equal(hr, still)
        off = resize(from_levels(hr), (12, 12)) - from_levels(lr)
        assert off[:, 2:-2, 2:-2].abs().max() < 0.01
        assert not torch.equal(self.warp(levels, at, seed=2, **augment)[1], hr)

    def test_a_quarter_turn_is_one(self, levels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a square image about its middle: known exactly."""

        class Most:
            def uniform(self, *_: object) -> np.ndarray[Any, Any]:
                return np.array([1.0, 0.0, 0.0, 0.0])

        monkeypatch.setattr(np.random, "Generator", lambda _: Most())
        image = levels[:, :96, :96]
        _, hr = self.warp(image, square(0, 48), rotate=90.0)
        assert any((hr.int() - torch.rot90(image, k, (1, 2)).int()).abs().max() <= 1 for k in (1, 3))

    def test_beyond_the_border_is_its_mirror_image(self, levels: Tensor) -> None:
        flat = torch.full_like(levels, 77)
        for seed in range(4):
            assert (self.warp(flat, square(0, 12), seed, rotate=45.0, translate=0.5)[1] == 77).all()
