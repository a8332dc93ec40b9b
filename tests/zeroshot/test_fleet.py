"""Training: members are alone in a fleet, starts that died are restarted, NaN is an error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import NumericalError
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import scheduler
from zssr_gan.zeroshot.fleet import Training, masked_l1, reconstruction_error
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import Fit, Request

INTERPOLATED = Training(Task((2.0, 2.0), (1, 1), BicubicDownscale()), "fp32")
LR = Training(Task((2.0, 2.0), (2, 2), BicubicDownscale()), "fp32")


def settings(**changes: dict[str, object] | int) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 4, "width": 8},
        "pairs": {"crop": 16, "batch": 2, "affine": 0.5, "noise": 0.01},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 20},
    }
    return parse_settings({**groups, **changes}, "test")


def train(images: Tensor, seeds: list[int], chosen: ZeroShotSettings, training: Training, **more: Any) -> Fit:
    return scheduler.train(Request(images, seeds, chosen, training, **more))


@pytest.fixture(scope="module")
def images(astronaut: Tensor) -> Tensor:
    """3 3 24 24: three parts of the astronaut."""
    return torch.stack([astronaut[:, at : at + 24, at : at + 24] for at in (0, 20, 40)])


def weights(fit: Fit) -> Tensor:
    return fit.network.weights_NP.detach()


KINDS = {
    "adam": (settings(), INTERPOLATED),
    "muon": (
        settings(
            network={"depth": 4, "width": 8, "grid": "lr", "residual": True, "initial": "lecun", "bias": True},
            pairs={"crop": 16, "batch": 2, "phases": True, "affine": 0.5},
            optimiser={"kind": "muon", "average": 0.9, "clip": 1.0},
        ),
        LR,
    ),
    "slope": (
        settings(
            schedule={"kind": "slope", "window": 4, "record_every": 1, "check_every": 1, "iterations": 40, "lr": 0.01},
            optimiser={"kind": "adam", "average": 0.9},
        ),
        INTERPOLATED,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
class TestFleet:
    def test_split_and_permuted_fleets_are_each_member_alone(self, kind: str, images: Tensor) -> None:
        """Also where some members stop before others."""
        chosen, training = KINDS[kind]
        larger = resize(images, (30, 30))
        whole = train(images, [1, 2, 3], chosen, training, fathers=[larger])
        permuted = train(images[[2, 0, 1]], [3, 1, 2], chosen, training, fathers=[larger[[2, 0, 1]]])
        assert torch.allclose(weights(whole)[[2, 0, 1]], weights(permuted), atol=1e-4)
        for n in range(3):
            alone = train(images[n : n + 1], [n + 1], chosen, training, fathers=[larger[n : n + 1]])
            assert torch.allclose(weights(whole)[n], weights(alone)[0], atol=1e-4)
            assert alone.iterations == whole.iterations[n : n + 1]
        if kind == "slope":
            assert len(set(whole.iterations)) > 1, "the case is meant to have members that stop early"

    def test_same_bits_twice(self, kind: str, images: Tensor) -> None:
        chosen, training = KINDS[kind]
        one, two = (train(images[:1], [1], chosen, training) for _ in range(2))
        assert torch.equal(weights(one), weights(two))
        assert one.loss == two.loss

    def test_the_seed_decides(self, kind: str, images: Tensor) -> None:
        chosen, training = KINDS[kind]
        one, other = (train(images[:1], [seed], chosen, training) for seed in (1, 2))
        assert not torch.allclose(weights(one), weights(other), atol=1e-2)


class TestLearning:
    @pytest.mark.parametrize("training", [INTERPOLATED, LR], ids=["interpolated", "lr"])
    def test_the_reconstruction_error_falls(self, training: Training, astronaut: Tensor) -> None:
        network = {"depth": 4, "width": 16, "grid": "lr" if training is LR else "interpolated", "initial": "lecun"}
        chosen = settings(network=network, schedule={"kind": "cosine", "lr": 0.005, "iterations": 150})
        image = astronaut[None]
        fit = train(image, [0], chosen, training)
        after = float(reconstruction_error(fit.network, image, training))
        with torch.no_grad():
            fit.network.weights_NP.zero_()
        before = float(reconstruction_error(fit.network, image, training))  # the interpolated image's
        assert after < 0.8 * before
        assert fit.restarts == [0]
        assert fit.iterations == [150]

    def test_progress_is_told(self, images: Tensor) -> None:
        told: list[tuple[int, float, float]] = []
        fit = train(images, [1, 2, 3], settings(), INTERPOLATED, on_iteration=lambda *now: told.append(now))
        told = told[:20]
        assert [iteration for iteration, _, _ in told] == list(range(1, 21))
        assert all(0 < loss < 1 and 0 < lr <= 0.003 for _, loss, lr in told)
        assert len(fit.loss) == 3
        # Each member's mean over the (at most 50) last iterations; those of the fleet are told.
        if fit.restarts == [0, 0, 0]:
            assert sum(fit.loss) / 3 == pytest.approx(sum(loss for _, loss, _ in told) / 20, rel=1e-4)

    def test_goes_on_from_a_start(self, images: Tensor) -> None:
        first = train(images[:1], [1], settings(), INTERPOLATED)
        still = settings(schedule={"kind": "cosine", "lr": 1e-12, "iterations": 1}, restarts=0)
        on = train(images[:1], [9], still, INTERPOLATED, start=first.network)
        assert torch.allclose(weights(on), weights(first), atol=1e-9)

    def test_bf16(self, images: Tensor) -> None:
        fit = train(images[:1], [1], settings(), Training(INTERPOLATED.task, "bf16"))
        exact = train(images[:1], [1], settings(), INTERPOLATED)
        assert weights(fit).dtype == torch.float32
        assert fit.loss == pytest.approx(exact.loss, rel=0.1)
        assert not torch.equal(weights(fit), weights(exact))

    def test_what_is_held_out_is_not_learnt(self, images: Tensor) -> None:
        """Other pixels of a held-out part, another image: the same weights, as long as no input changes.

        The part held out is a corner that no counting pixel's input reaches: half the image, far from the other half.
        """
        learn = torch.ones(1, 24, 24)
        learn[..., 12:] = 0
        one = settings(pairs={"crop": 24, "batch": 1, "plain": 1.0}, network={"depth": 2, "width": 4}, restarts=0)
        image, other = images[:1], images[:1].clone()
        other[..., 23] = 1 - other[..., 23]
        fits = [train(x, [1], one, INTERPOLATED, learn_NHW=learn) for x in (image, other)]
        assert torch.allclose(*(weights(fit) for fit in fits), atol=1e-6)
        free = [train(x, [1], one, INTERPOLATED) for x in (image, other)]
        assert not torch.allclose(*(weights(fit) for fit in free), atol=1e-4)


class TestStarts:
    @pytest.fixture
    def dying(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
        """Makes the first so many drawn members start with one value in all weights."""

        def arrange(count: int, value: float) -> None:
            real = ZSSR._first_weights
            drawn = 0

            def first_weights(self: ZSSR, generator: torch.Generator) -> Tensor:
                nonlocal drawn
                drawn += 1
                out = real(self, generator)
                return torch.full_like(out, value) if drawn <= count else out

            monkeypatch.setattr(ZSSR, "_first_weights", first_weights)

        return arrange

    LIVELY = settings(
        network={"depth": 4, "width": 8, "initial": "lecun"},
        pairs={"crop": 24, "batch": 2},
        schedule={"kind": "cosine", "lr": 0.01, "iterations": 80},
    )

    def test_a_dead_start_is_tried_again(self, dying: Callable[[int, float], None], images: Tensor) -> None:
        """With all weights zero no gradient ever comes; the second start, from another seed, lives."""
        untouched = train(images, [1, 2, 3], self.LIVELY, INTERPOLATED)
        assert untouched.restarts == [0, 0, 0]
        dying(1, 0.0)
        fit = train(images, [1, 2, 3], self.LIVELY, INTERPOLATED)
        assert fit.restarts == [1, 0, 0]
        assert weights(fit)[0].any()
        assert torch.equal(weights(fit)[1:], weights(untouched)[1:]), "the others stay as they are, to the bit"
        assert not torch.allclose(weights(fit)[0], weights(untouched)[0], atol=1e-3)

    def test_restarts_have_an_end(self, dying: Callable[[int, float], None], images: Tensor) -> None:
        dying(2, 0.0)
        fit = train(images[:1], [1], self.LIVELY.model_copy(update={"restarts": 1}), INTERPOLATED)
        assert fit.restarts == [1]
        assert not weights(fit).any()

    def test_a_restart_does_not_depend_on_the_mates(self, dying: Callable[[int, float], None], images: Tensor) -> None:
        dying(3, 0.0)
        whole = train(images, [1, 2, 3], self.LIVELY, INTERPOLATED)
        dying(1, 0.0)
        alone = train(images[1:2], [2], self.LIVELY, INTERPOLATED)
        assert whole.restarts == [1, 1, 1]
        assert torch.allclose(weights(whole)[1], weights(alone)[0], atol=1e-4)

    def test_a_flat_image_is_not_dead(self) -> None:
        fit = train(torch.full((1, 3, 16, 16), 0.5), [1], settings(), INTERPOLATED)
        assert fit.restarts == [0]

    def test_nan_is_tried_again(self, dying: Callable[[int, float], None], images: Tensor) -> None:
        dying(1, float("nan"))
        fit = train(images, [1, 2, 3], self.LIVELY, INTERPOLATED)
        assert fit.restarts == [1, 0, 0]
        assert weights(fit).isfinite().all()

    def test_nan_in_every_start_is_an_error(self, dying: Callable[[int, float], None], images: Tensor) -> None:
        dying(99, float("nan"))
        told: list[int] = []
        with pytest.raises(NumericalError, match="NaN or infinity in each of 4 starts; try the precision fp32"):
            train(images[:1], [1], settings(), INTERPOLATED, on_iteration=lambda n, *_: told.append(n))
        assert told == [1, 1, 1, 1], "nothing is trained on after NaN"


class TestMaskedL1:
    def test_mean_over_what_counts(self) -> None:
        out, target = torch.zeros(2, 1, 3, 4, 4), torch.ones(2, 1, 3, 4, 4)
        target[0, ..., 2:] = 100
        mask = torch.zeros(2, 1, 1, 4, 4)
        mask[0, ..., :2] = 1
        assert masked_l1(out, target, mask).tolist() == [1, 0]

    def test_gradient_is_none_where_nothing_counts(self) -> None:
        out = torch.zeros(1, 1, 3, 4, 4, requires_grad=True)
        masked_l1(out, torch.ones(1, 1, 3, 4, 4), torch.zeros(1, 1, 1, 4, 4)).sum().backward()
        assert out.grad is not None
        assert not out.grad.any()


@pytest.mark.parametrize("shape", [(700, 520), (520, 40)])
def test_of_a_large_image_the_middle_is_judged(shape: tuple[int, int]) -> None:
    """The reconstruction error of more than 512 pixels a side is that of the middle 512, whatever lies around it."""
    network = ZSSR(ZSSROptions(depth=2, width=2), 1, (1, 1), [torch.Generator().manual_seed(0)])
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    rows, columns = (slice(max(0, (side - 512) // 2), max(0, (side - 512) // 2) + 512) for side in shape)
    middle = image[..., rows, columns]
    error = reconstruction_error(network, image, INTERPOLATED)
    assert torch.equal(error, reconstruction_error(network, middle.clone(), INTERPOLATED))
    around = torch.zeros_like(image)
    around[..., rows, columns] = middle
    assert torch.equal(error, reconstruction_error(network, around, INTERPOLATED))
    # What lies within counts.
    around[..., shape[0] // 2, shape[1] // 2] += 1
    assert not torch.equal(error, reconstruction_error(network, around, INTERPOLATED))
