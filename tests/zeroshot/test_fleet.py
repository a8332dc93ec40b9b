"""Training per-image networks: what is learnt, restarts of networks that died, NaN is an error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import NumericalError
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZeroShotSettings, ZSSRSettings, parse_settings
from zssr_gan.zeroshot import scheduler
from zssr_gan.zeroshot.fleet import TrainRequest, masked_l1, reconstruction_error
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import TrainJob, TrainResult, run_single

INTERPOLATED = Task((2.0, 2.0), (1, 1), BicubicDownscale())
LR = Task((2.0, 2.0), (2, 2), BicubicDownscale())


def settings(**changes: object) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 4, "width": 8},
        "pairs": {"crop": 16, "batch": 2, "affine": 0.5},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 20},
    }
    return parse_settings({**groups, **changes}, "test")


def train(
    image: Tensor, seeds: list[int], chosen: ZeroShotSettings, task: Task = INTERPOLATED, **more: Any
) -> TrainResult:
    def job() -> TrainJob[TrainResult]:
        return (yield TrainRequest(image, seeds, chosen, task, **more))

    return run_single(job())


def weights(result: TrainResult) -> Tensor:
    return result.network.weights_NP.detach()


@pytest.fixture(scope="module")
def image(astronaut: Tensor) -> Tensor:
    return astronaut[:, 20:44, 20:44]


class TestLearning:
    @pytest.mark.parametrize("task", [INTERPOLATED, LR], ids=["interpolated", "lr"])
    def test_the_reconstruction_error_falls(self, task: Task, astronaut: Tensor) -> None:
        network = {"depth": 4, "width": 16, "grid": "lr" if task is LR else "interpolated", "initial": "lecun"}
        chosen = settings(network=network, schedule={"kind": "cosine", "lr": 0.005, "iterations": 150})
        result = train(astronaut, [0], chosen, task)
        after = float(reconstruction_error(result.network, astronaut[None], task))
        with torch.no_grad():
            result.network.weights_NP.zero_()
        before = float(reconstruction_error(result.network, astronaut[None], task))  # bicubic's
        assert after < 0.8 * before
        assert (result.restarts, result.iterations) == ([0], [150])

    def test_progress(self, image: Tensor) -> None:
        seen: list[tuple[int, float, float]] = []
        lively = settings(
            network={"depth": 4, "width": 8, "initial": "lecun"},
            schedule={"kind": "cosine", "iterations": 40, "lr": 0.01},
        )
        result = train(image, [1, 2, 3], lively, on_iteration=lambda *now: seen.append(now))
        assert result.restarts == [0, 0, 0]
        assert [iteration for iteration, _, _ in seen] == list(range(1, 41))
        assert all(0 < loss < 1 and 0 < lr <= 0.01 for _, loss, lr in seen)
        assert sum(result.loss) / 3 == pytest.approx(sum(loss for _, loss, _ in seen) / 40, rel=1e-4)

    def test_goes_on_from_given_weights(self, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scheduler, "RESTARTS", 0)
        first = train(image, [1], settings())
        still = settings(schedule={"kind": "cosine", "lr": 1e-12, "iterations": 1})
        on = train(image, [9], still, initial_NP=weights(first))
        assert torch.allclose(weights(on), weights(first), atol=1e-9)

    def test_bf16(self, image: Tensor) -> None:
        rough = train(image, [1], settings(), Task((2.0, 2.0), (1, 1), BicubicDownscale(), "bf16"))
        exact = train(image, [1], settings())
        assert weights(rough).dtype == torch.float32
        assert rough.loss == pytest.approx(exact.loss, rel=0.1)
        assert not torch.equal(weights(rough), weights(exact))

    def test_what_is_held_out_is_not_learnt(self, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        """Other pixels of a held-out part, another image: the same weights, as long as no input changes.

        What changes is a corner that no counting pixel's input reaches: half the image, far from the other half.
        """
        monkeypatch.setattr(scheduler, "RESTARTS", 0)
        learn = torch.ones(1, 24, 24)
        learn[..., 12:] = 0
        one = settings(pairs={"crop": 24, "batch": 1, "plain": 1.0}, network={"depth": 2, "width": 4})
        other = image.clone()
        other[..., 23] = 1 - other[..., 23]
        held_out = [weights(train(x, [1], one, learn_NHW=learn)) for x in (image, other)]
        assert torch.allclose(*held_out, atol=1e-6)
        assert not torch.allclose(*(weights(train(x, [1], one)) for x in (image, other)), atol=1e-4)


class TestRestarts:
    LIVELY = settings(
        network={"depth": 4, "width": 8, "initial": "lecun"},
        pairs={"crop": 24, "batch": 2},
        schedule={"kind": "cosine", "lr": 0.01, "iterations": 40},
    )

    @pytest.fixture
    def dying(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
        """Makes the first so many initialisations one value in all weights."""

        def arrange(count: int, value: float) -> None:
            real, drawn = ZSSR._first_weights, 0

            def first_weights(self: ZSSR, generator: torch.Generator) -> Tensor:
                nonlocal drawn
                drawn += 1
                out = real(self, generator)
                return torch.full_like(out, value) if drawn <= count else out

            monkeypatch.setattr(ZSSR, "_first_weights", first_weights)

        return arrange

    @pytest.mark.parametrize("value", [0.0, float("nan")])
    def test_a_dead_network_is_trained_again(
        self, value: float, dying: Callable[[int, float], None], image: Tensor
    ) -> None:
        """With all weights zero no gradient ever comes; the second initialisation, from another seed, lives."""
        untouched = train(image, [1, 2, 3], self.LIVELY)
        assert untouched.restarts == [0, 0, 0]
        dying(1, value)
        result = train(image, [1, 2, 3], self.LIVELY)
        assert result.restarts == [1, 0, 0]
        assert weights(result)[0].any()
        assert weights(result).isfinite().all()
        assert torch.equal(weights(result)[1:], weights(untouched)[1:]), "the others stay as they are, to the bit"
        assert not torch.allclose(weights(result)[0], weights(untouched)[0], atol=1e-3)

    def test_restarts_have_an_end(self, dying: Callable[[int, float], None], image: Tensor) -> None:
        dying(99, 0.0)
        result = train(image, [1], self.LIVELY)
        assert (result.restarts, result.dead) == ([3], [True])
        assert not weights(result).any()

    def test_a_flat_image_is_not_dead(self) -> None:
        assert train(torch.full((3, 16, 16), 0.5), [1], settings()).restarts == [0]

    def test_nan_in_every_start_is_an_error(self, dying: Callable[[int, float], None], image: Tensor) -> None:
        dying(99, float("nan"))
        seen: list[int] = []
        with pytest.raises(NumericalError, match="NaN or infinity in each of 4 starts; try the precision fp32"):
            train(image, [1], settings(), on_iteration=lambda n, *_: seen.append(n))
        assert seen == [1, 1, 1, 1], "nothing is trained on after NaN"


def test_masked_l1_is_the_mean_over_what_counts() -> None:
    out, target = torch.zeros(2, 1, 3, 4, 4, requires_grad=True), torch.ones(2, 1, 3, 4, 4)
    target[0, ..., 2:] = 100
    mask = torch.zeros(2, 1, 1, 4, 4)
    mask[0, ..., :2] = 1
    losses = masked_l1(out, target, mask)
    assert losses.tolist() == [1, 0]
    losses.sum().backward()
    assert out.grad is not None
    assert not out.grad[1].any()


@pytest.mark.parametrize("shape", [(700, 520), (520, 40)])
def test_of_a_large_image_the_middle_is_measured(shape: tuple[int, int]) -> None:
    """The reconstruction error of more than 512 pixels a side is that of the middle 512, whatever lies around it."""
    network = ZSSR(ZSSRSettings(depth=2, width=2), 1, (1, 1), [torch.Generator().manual_seed(0)])
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    rows, columns = (slice(max(0, (side - 512) // 2), max(0, (side - 512) // 2) + 512) for side in shape)
    around = torch.zeros_like(image)
    around[..., rows, columns] = image[..., rows, columns]
    error = reconstruction_error(network, image, INTERPOLATED)
    assert torch.equal(error, reconstruction_error(network, around, INTERPOLATED))
    around[..., shape[0] // 2, shape[1] // 2] += 1
    assert not torch.equal(error, reconstruction_error(network, around, INTERPOLATED))
