"""Pairs made on the fly: a patch is what the whole image's LR version shows there, and its seed alone decides it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.data.prepared import ReadingAhead
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.pairs import AugmentSettings, PairDegradationSettings, PairedSettings
from zssr_gan.training.pairs import DRAWN, PairDegrader, PairedImages, degradations_of, pair_at
from zssr_gan.training.sampling import Sampler, Window

STILL = AugmentSettings()


@pytest.fixture
def levels(astronaut: Tensor) -> Tensor:
    return to_levels(resize(astronaut, (96, 120)))


@pytest.fixture
def make_truths(levels: Tensor) -> Iterator[Callable[..., PairedImages]]:
    """PairedImages of four images under settings; `sizes` cuts them."""
    with ReadingAhead(lambda place: levels.roll(place * 7, -1), 2**20) as images:

        def make(count: int = 4, **settings: Any) -> PairedImages:
            return PairedImages(
                tuple(f"set/{n}.png" for n in range(count)),
                tuple(f"{n:064}" for n in range(count)),
                ((96, 120),) * count,
                images,
                PairedSettings.model_validate({"scale": 2, **settings}),
                seed=5,
            )

        yield make


def camera(settings: PairedSettings, **degradation: Any) -> PairDegrader:
    return PairDegrader.of(Degradation(**degradation), settings)


class TestAPatch:
    @pytest.mark.parametrize("scale", [2, 3, 4, 8])
    @pytest.mark.parametrize("place", ["corner", "middle", "end"])
    def test_it_is_cut_out_of_the_whole(self, levels: Tensor, scale: int, place: str) -> None:
        """Margins make it what the whole image's LR version shows there, borders too; blur and compression included."""
        settings = PairedSettings(scale=scale)  # type: ignore[arg-type]
        blur = GaussianBlur(sigma_major=0.8, sigma_minor=0.3, angle_degrees=30)
        for one in (
            camera(settings),
            camera(settings, blur=blur),
            camera(settings, blur=blur, jpeg=Jpeg.of_quality(50)),
        ):
            whole = one.take(from_levels(levels), 0)
            assert whole.shape == (3, 96 // scale, 120 // scale)
            at = {"corner": 0, "middle": 3, "end": 96 // scale - 8}[place]
            lr, hr = pair_at(levels, Window(at, at, 8, 8), one, STILL, scale, 0)
            assert torch.equal(hr, levels[:, at * scale : (at + 8) * scale, at * scale : (at + 8) * scale])
            # Sums of floats come in another order: a value on the edge between two levels may fall to either side.
            off = (lr.int() - whole[:, at : at + 8, at : at + 8].int()).abs()
            assert off.max() <= 1
            assert (off > 0).float().mean() < 0.01

    def test_it_is_bicubic_in_whole_levels(self, levels: Tensor) -> None:
        made = camera(PairedSettings(scale=2)).take(from_levels(levels), 0)
        assert torch.equal(made, to_levels(resize(from_levels(levels), (48, 60))))

    def test_scale_1_is_shrunk_rounded_and_enlarged(self, levels: Tensor) -> None:
        settings = PairedSettings(scale=1, shrink=3)
        one = camera(settings)
        small = to_levels(resize(from_levels(levels), (32, 40)))
        assert torch.equal(one.take(from_levels(levels), 0), to_levels(resize(from_levels(small), (96, 120))))
        lr, hr = pair_at(levels, Window(31, 40, 16, 16), one, STILL, 1, 0)
        assert torch.equal(hr, levels[:, 31:47, 40:56])
        assert (lr.int() - one.take(from_levels(levels), 0)[:, 31:47, 40:56].int()).abs().max() <= 1
        again = one.whole(from_levels(levels)[None], (96, 120))[0]
        assert (again - from_levels(one.take(from_levels(levels), 0))).abs().mean() < 0.003

    def test_noise_hangs_on_the_seed(self, levels: Tensor) -> None:
        settings = PairedSettings(scale=2, degradation=PairDegradationSettings(noise=(0.05, 0.05)))
        (degradation,) = degradations_of(settings.degradation, 2, 0)
        one = PairDegrader.of(degradation, settings)
        made = [one.take(from_levels(levels), seed) for seed in (1, 1, 2)]
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])
        clean = camera(settings).take(from_levels(levels), 1)
        spread = from_levels(made[0]).sub(from_levels(clean)).std().item()
        assert spread == pytest.approx(0.05, rel=0.1)


class TestDegradations:
    def test_without_ranges_there_is_one(self) -> None:
        assert degradations_of(PairDegradationSettings(), 4, 0) == (Degradation(),)
        given = PairDegradationSettings.model_validate({"blur": 2.0, "noise": 0.01, "jpeg": 70})
        (one,) = degradations_of(given, 4, 0)
        assert isinstance(one.blur, GaussianBlur)
        assert (one.blur.sigma_major, one.blur.sigma_minor) == (0.5, 0.5)  # HR pixels, at x4
        assert one.noise is not None
        assert one.noise.sigma == 0.01
        assert one.jpeg is not None
        assert one.jpeg.quality == 70

    def test_ranges_are_drawn_by_the_seed(self) -> None:
        given = PairDegradationSettings.model_validate({"blur": [0.5, 2.0], "noise": [0.0, 0.1], "jpeg": [30, 33]})
        made = degradations_of(given, 1, 0)
        assert len(made) == DRAWN
        assert made == degradations_of(given, 1, 0) != degradations_of(given, 1, 1)
        widths = [one.blur.sigma_major for one in made if isinstance(one.blur, GaussianBlur)]
        assert 0.5 <= min(widths) < 0.7
        assert 1.8 < max(widths) <= 2.0
        assert {one.jpeg.quality for one in made if one.jpeg} == {30, 31, 32, 33}

    def test_patches_draw_from_all_of_them(self, make_truths: Callable[..., PairedImages]) -> None:
        truths = make_truths(degradation={"blur": [0.0, 3.0]})
        batch = Sampler(truths, patch=8, scale=2, batch=300, seed=0, stream="test").batch(0)
        assert len(set(batch.cameras)) > 50
        assert max(batch.cameras) < len(truths.downscales)


class TestTruths:
    def test_a_batch_is_of_pairs(self, make_truths: Callable[..., PairedImages]) -> None:
        batch = Sampler(make_truths(), patch=12, scale=2, batch=6, seed=0, stream="test").batch(0)
        assert batch.lr.shape == (6, 3, 12, 12)
        assert batch.hr is not None
        assert batch.hr.shape == (6, 3, 24, 24)
        inner = (slice(None), slice(None), slice(2, 10), slice(2, 10))
        shrunk = BicubicDownscale()(batch.hr, (12, 12)).clamp(0, 1)
        assert (shrunk[inner] - batch.lr[inner]).abs().max() < 0.003

    def test_a_batch_hangs_on_its_number_alone(self, make_truths: Callable[..., PairedImages]) -> None:
        given = {"degradation": {"blur": [0.0, 3.0], "noise": [0.0, 0.1]}, "augment": {"rotate": 10.0}}
        one, other = (Sampler(make_truths(**given), patch=8, scale=2, batch=5, seed=0, stream="s") for _ in range(2))
        for number in range(3):
            one.batch(number)
        assert torch.equal(one.batch(3).lr, other.batch(3).lr)
        first = Sampler(make_truths(**given), patch=8, scale=2, batch=4, seed=0, stream="s").batch(2)
        parts = [
            Sampler(make_truths(**given), patch=8, scale=2, batch=4, seed=0, stream="s", rank=r, world=2).batch(2)
            for r in (0, 1)
        ]
        assert torch.equal(torch.stack([part.lr for part in parts], 1).flatten(0, 1), first.lr)

    def test_each_image_gives_its_patches_once_an_epoch(self, make_truths: Callable[..., PairedImages]) -> None:
        truths = make_truths(patches={"per_image": 3})
        assert len(truths) == 12
        order = truths.order(np.random.default_rng(0))
        assert sorted(order) == list(range(12))
        assert truths.size(11) == (48, 60)

    def test_few_images_are_open_at_a_time(self, make_truths: Callable[..., PairedImages]) -> None:
        truths = make_truths(200, patches={"per_image": 5})
        images = truths.order(np.random.default_rng(0)) // 5
        assert len(set(images[:320])) == 64
        assert sorted(set(images)) == list(range(200))

    def test_an_inner_corner(self, make_truths: Callable[..., PairedImages]) -> None:
        truths = make_truths(patches={"corner": "inner"})
        found = [truths.corner(0, (a, a), (8, 8)) for a in np.linspace(0, 0.999, 50)]
        assert (found[0], found[-1]) == ((12, 15), (35, 44))  # of 48 and 60: the middle half
        assert truths.corner(0, (0.999, 0.999), (44, 56)) == (4, 4)  # as near to it as it fits
        assert truths.corner(0, (0.0, 0.0), (48, 60)) == (0, 0)

    def test_without_flips_nothing_is_turned(self, make_truths: Callable[..., PairedImages]) -> None:
        plain = Sampler(make_truths(augment={"flips": False}), patch=8, scale=2, batch=20, seed=0, stream="s").batch(0)
        turned = Sampler(make_truths(), patch=8, scale=2, batch=20, seed=0, stream="s").batch(0)
        assert set(plain.turned) == {0}
        assert len(set(turned.turned)) > 4

    def test_what_is_held_out_hangs_on_its_name(self, make_truths: Callable[..., PairedImages], levels: Tensor) -> None:
        truths = make_truths(degradation={"blur": [0.0, 3.0], "noise": [0.0, 0.1]})
        one, other = truths.held_out("a", levels, 0), truths.held_out("b", levels, 0)
        assert one[0].shape == (3, 48, 60)
        assert torch.equal(one[0], truths.held_out("a", levels, 0)[0])
        assert not torch.equal(one[0], other[0])
        large = truths.held_out("a", levels.repeat(1, 10, 10), 0)
        assert (large[0].shape, large[1].shape) == ((3, 256, 256), (3, 512, 512))


class TestAugment:
    def warp(self, levels: Tensor, seed: int = 1, **augment: Any) -> tuple[Tensor, Tensor]:
        one = camera(PairedSettings(scale=2))
        return pair_at(levels, Window(16, 20, 12, 12), one, AugmentSettings.model_validate(augment), 2, seed)

    def test_it_moves_both(self, levels: Tensor) -> None:
        still = self.warp(levels)[1]
        for augment in ({"rotate": 20.0}, {"shear": 15.0}, {"translate": 0.2}):
            lr, hr = self.warp(levels, **augment)
            assert (lr.shape, hr.shape) == ((3, 12, 12), (3, 24, 24))
            assert not torch.equal(hr, still)
            shrunk = resize(from_levels(hr), (12, 12))
            assert (shrunk - from_levels(lr))[:, 2:-2, 2:-2].abs().max() < 0.01
            assert not torch.equal(self.warp(levels, seed=2, **augment)[1], hr)

    def test_a_quarter_turn_is_one(self, levels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a square image about its middle: known exactly."""

        class Most:
            def uniform(self, *_: object) -> np.ndarray[Any, Any]:
                return np.array([1.0, 0.0, 0.0, 0.0])

        monkeypatch.setattr(np.random, "Generator", lambda _: Most())
        square = levels[:, :96, :96]
        one = camera(PairedSettings(scale=2))
        _, hr = pair_at(square, Window(0, 0, 48, 48), one, AugmentSettings(rotate=90.0), 2, 0)
        assert any((hr.int() - torch.rot90(square, k, (1, 2)).int()).abs().max() <= 1 for k in (1, 3))

    def test_beyond_the_border_is_its_mirror_image(self, levels: Tensor) -> None:
        flat = torch.full_like(levels, 77)
        one = camera(PairedSettings(scale=2))
        for seed in range(4):
            _, hr = pair_at(flat, Window(0, 0, 12, 12), one, AugmentSettings(rotate=45.0, translate=0.5), 2, seed)
            assert (hr == 77).all()
