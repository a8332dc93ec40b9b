"""One network for a case: the same whatever the images' order, better than back-projection, and honest about itself."""

from typing import Any

import pytest
import torch
from skimage import data
from torch import Tensor

from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.errors import ImageError
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import shared
from zssr_gan.zeroshot.fleet import Training
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.shared import Learnt, apply_shared, learn_case

BICUBIC = BicubicDownscale()
LR = Training(Task((2.0, 2.0), (2, 2), BICUBIC), "fp32")
INTERPOLATED = Training(Task((2.0, 2.0), (1, 1), BICUBIC), "fp32")
BLURRED = Training(
    Task(
        *((2.0, 2.0), (2, 2)),
        Degradation(
            blur=GaussianBlur(sigma_major=1, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.02)
        ).downscale,
    ),
    "fp32",
)


def settings(iterations: int = 4, rounds: int = 1, **groups: object) -> ZeroShotSettings:
    return parse_settings(
        {
            "network": {"depth": 4, "width": 8, "grid": "lr", "residual": True, "initial": "lecun", "bias": True},
            "pairs": {"crop": 12, "batch": 4, "affine": 0.5, "noise": 0.01},
            "optimiser": {"kind": "muon", "average": 0.95, "clip": 1.0},
            "refinement": {"back_projections": 4},
            "shared": {
                "schedule": {"kind": "cosine", "lr": 0.003, "iterations": iterations},
                "rounds": rounds,
            },
            **groups,
        },
        "test",
    ).for_case()


def crops(side: int, count: int) -> list[Tensor]:
    """1 side side: the parts of scikit-image's photographer, shrunk to a quarter, with the most to see."""
    whole = torch.from_numpy(data.camera().copy()).float()[None, None] / 255
    small = BICUBIC(whole, (128, 128))[0].clamp(0, 1)
    places = [(y, x) for y in range(0, 129 - side, side) for x in range(0, 129 - side, side)]
    parts = [small[:, y : y + side, x : x + side].clone() for y, x in places]
    return sorted(parts, key=lambda part: -float(part.std()))[:count]


@pytest.fixture(scope="module")
def images(astronaut: Tensor) -> list[Tensor]:
    """Four parts of the astronaut, 3 16 16."""
    return [astronaut[:, y : y + 16, x : x + 16].clone() for y in (0, 32) for x in (8, 36)]


def learn(images: list[Tensor], chosen: ZeroShotSettings, training: Training = LR, seed: int = 0) -> Learnt:
    return learn_case(images, chosen, training, seed=seed)


def network(learnt: Learnt, chosen: ZeroShotSettings, channels: int = 3) -> ZSSR:
    return ZSSR(ZSSROptions(**chosen.network.model_dump()), channels, LR.task.factor, learnt.weights_P[None])


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * float((one - other).square().mean().log10())


class TestLearning:
    def test_neither_order_nor_names_matter(self, images: list[Tensor]) -> None:
        one, other = learn(images, settings()), learn([images[n] for n in (2, 0, 3, 1)], settings())
        assert torch.equal(one.weights_P, other.weights_P)
        assert one.loss == other.loss

    def test_seed_images_and_settings_do(self, images: list[Tensor]) -> None:
        one = learn(images, settings()).weights_P
        for other in (
            learn(images, settings(), seed=1),
            learn(images[:3], settings()),
            learn(images, settings(iterations=5)),
        ):
            assert not torch.allclose(one, other.weights_P, atol=1e-5)

    def test_better_than_back_projection_on_images_it_has_not_seen(self) -> None:
        """Learnt on LR images alone; the truths of others are what is measured against."""
        own = {"depth": 4, "width": 16, "grid": "lr", "bias": True, "initial": "lecun"}
        chosen = settings(200, network=own, pairs={"crop": 16, "batch": 8})
        truths = crops(32, 16)
        lows = [BICUBIC(truth[None], (16, 16))[0].clamp(0, 1) for truth in truths]
        told: list[tuple[int, int, float]] = []
        learnt = learn_case(lows[::2], chosen, LR, seed=0, on_learning=lambda *now: told.append(now))
        made = apply_shared(network(learnt, chosen, 1), lows[1::2], chosen, LR)
        gains = []
        for result, low, truth in zip(made, lows[1::2], truths[1::2], strict=True):
            plain = back_project(resize(low[None], (32, 32)).clone(), low[None], BICUBIC, 4)[0].clamp(0, 1)
            gains.append(psnr(result, truth) - psnr(plain, truth))
        assert sum(gains) / len(gains) > 0.15
        assert [now[:2] for now in told] == [(n, 200) for n in range(10, 201, 10)]
        assert sum(loss for *_, loss in told[-5:]) < sum(loss for *_, loss in told[:5])
        assert learnt.loss == pytest.approx(sum(loss for *_, loss in told[-5:]) / 5, rel=0.3)
        assert learnt.iterations == 200

    @pytest.mark.parametrize("training", [LR, INTERPOLATED], ids=["lr", "interpolated"])
    def test_images_of_mixed_sizes_share_batches(
        self, training: Training, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        groups: dict[str, object] = {"pairs": {"crop": 16, "batch": 4, "noise": 0.01}, "restarts": 0}
        # So few iterations leave it dead, which does not matter here.
        groups |= {"guards": {"dead_share": 0.0}}
        if training is INTERPOLATED:
            groups |= {"network": {"depth": 2, "width": 4}}
        chosen = settings(60, **groups)
        drawn: dict[tuple[int, ...], int] = {}
        sides = set()
        real = shared.PairSource.take

        def take(self: shared.PairSource, image_S: Tensor, draws: Tensor, noise: Tensor, side: int) -> Any:
            size = self._fathers[0].size
            drawn[size] = drawn.get(size, 0) + len(image_S)
            sides.add((side, size))
            assert int(image_S.max()) < len(self._fathers[0].target_NCHW)
            return real(self, image_S, draws, noise, side)

        monkeypatch.setattr(shared.PairSource, "take", take)
        mixed = [*images[:3], images[3][:, :12, :]]
        assert learn(mixed, chosen, training).weights_P.isfinite().all()
        # A quarter of the batches has the small image's side, and is cut of all four; the rest of the other three.
        batch = chosen.pairs.batch
        assert sum(drawn.values()) == 60 * batch
        assert drawn[12, 16] == pytest.approx(60 * batch / 16, abs=3 * (60 * batch / 16) ** 0.5)
        assert sides == {(16, (16, 16)), (12, (16, 16)), (12, (12, 16))}

    def test_a_second_round_learns_from_the_results(
        self, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fathers: list[list[tuple[int, ...]]] = []
        real = shared.PairSource.__init__

        def first(self: shared.PairSource, chosen: Any, given: list[Tensor], *others: Any) -> None:
            fathers.append([tuple(father.shape) for father in given])
            real(self, chosen, given, *others)

        monkeypatch.setattr(shared.PairSource, "__init__", first)
        learnt = learn(images, settings(rounds=2))
        assert fathers == [[(4, 3, 16, 16)], [(4, 3, 16, 16), (4, 3, 32, 32)]]
        assert learnt.iterations == 8
        assert not torch.equal(learnt.weights_P, learn(images, settings(iterations=8)).weights_P)

    def test_each_image_teaches_by_its_own_degradation(
        self, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its noise, its symmetries and its blur, whatever image lies beside it in a batch."""
        seen: dict[str, list[Tensor]] = {}
        symmetries = set()
        real = shared.PairSource.take

        def take(self: shared.PairSource, image_S: Tensor, draws: Tensor, noise: Tensor, side: int) -> Any:
            seen.setdefault(self.task.downscale.name, []).append(noise)
            symmetries.add(self.symmetries)
            return real(self, image_S, draws, noise, side)

        monkeypatch.setattr(shared.PairSource, "take", take)
        both = [LR, BLURRED, LR, BLURRED]
        one = learn_case(images, settings(), both, seed=0)
        assert set(seen) == {"bicubic", "degradation"}
        assert symmetries == {LR.task.symmetries, BLURRED.task.symmetries}
        assert len(BLURRED.task.symmetries) < len(LR.task.symmetries)
        order = (2, 0, 3, 1)
        other = learn_case([images[n] for n in order], settings(), [both[n] for n in order], seed=0)
        assert torch.equal(one.weights_P, other.weights_P)
        alike = learn_case(images, settings(), [LR] * 4, seed=0)
        assert torch.equal(alike.weights_P, learn(images, settings()).weights_P)
        assert not torch.equal(one.weights_P, alike.weights_P)

    def test_a_camera_without_noise_beside_one_with(self, images: list[Tensor]) -> None:
        """Where the settings add none, one takes draws for it and the other none."""
        chosen = settings(pairs={"crop": 12, "batch": 4})
        noisy = Training(Task((2.0, 2.0), (2, 2), Degradation(noise=Noise(sigma=0.05)).downscale), "fp32")
        for trainings in ([LR, noisy, LR, noisy], [noisy, LR, noisy, LR]):
            assert learn_case(images, chosen, trainings, seed=0).weights_P.isfinite().all()

    def test_gray(self, images: list[Tensor]) -> None:
        chosen = settings()
        learnt = learn([image[:1] for image in images], chosen)
        made = apply_shared(network(learnt, chosen, 1), [images[0][:1]], chosen, LR)
        assert made[0].shape == (1, 32, 32)

    def test_of_a_large_image_the_middle(self) -> None:
        large = torch.rand(1, 530, 20, generator=torch.Generator().manual_seed(0))
        around = large.clone()
        around[:, :9] = 0
        around[:, -9:] = 0
        chosen = settings(iterations=2)
        assert torch.equal(learn([large], chosen).weights_P, learn([around], chosen).weights_P)

    def test_what_cannot_be_learnt_from(self, images: list[Tensor]) -> None:
        with pytest.raises(ImageError, match="there is no image to learn from"):
            learn([], settings())
        with pytest.raises(ImageError, match="of 16x7 pixels is too small"):
            learn([images[0], images[1][:, :7]], settings())


class TestApply:
    def test_many_at_once_are_each_by_itself(self, images: list[Tensor]) -> None:
        chosen = settings()
        learnt = network(learn(images, chosen), chosen)
        mixed = [images[0], images[1][:, :12], *images[2:], images[3][:, :12].flip(1)]
        made = apply_shared(learnt, mixed, chosen, LR)
        for image, result in zip(mixed, made, strict=True):
            assert result.shape == (3, 2 * image.shape[1], 32)
            assert torch.allclose(apply_shared(learnt, [image], chosen, LR)[0], result, atol=1e-5)

    def test_each_by_its_own_degradation(self, images: list[Tensor]) -> None:
        chosen = settings()
        learnt = network(learn(images, chosen), chosen)
        mixed = apply_shared(learnt, images, chosen, [LR, BLURRED, BLURRED, LR])
        for number, training in enumerate((LR, BLURRED, BLURRED, LR)):
            (alone,) = apply_shared(learnt, [images[number]], chosen, training)
            assert torch.allclose(mixed[number], alone, atol=1e-5)
        assert not torch.allclose(mixed[1], apply_shared(learnt, [images[1]], chosen, LR)[0], atol=1e-3)

    def test_a_network_each(self, images: list[Tensor]) -> None:
        chosen = settings()
        both = [learn(images, chosen, seed=seed).weights_P for seed in (0, 1)]
        options = ZSSROptions(**chosen.network.model_dump())
        made = apply_shared(ZSSR(options, 3, (2, 2), torch.stack(both)), images[:2], chosen, LR)
        for weights_P, image, result in zip(both, images[:2], made, strict=True):
            alone = apply_shared(ZSSR(options, 3, (2, 2), weights_P[None]), [image], chosen, LR)[0]
            assert torch.allclose(result, alone, atol=1e-5)
        assert not torch.allclose(
            made[0], apply_shared(ZSSR(options, 3, (2, 2), both[1][None]), images[:1], chosen, LR)[0]
        )
