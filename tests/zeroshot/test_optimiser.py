"""Optimisers of a fleet and learning-rate schedules: Adam is torch's, Muon and the slope test are to the letter."""

import gc
from weakref import ref

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import CosineSchedule, OptimiserSettings, SlopeSchedule, ZSSRSettings, load_preset
from zssr_gan.zeroshot import optimiser as module
from zssr_gan.zeroshot.optimiser import Cosine, FleetOptimiser, Slope, fit_slope, make_schedule, orthogonalise

INNER = 2 * 8 * 72
ORIGINAL, PAPER = (load_preset(name).schedule for name in ("original", "paper"))


def fleet(seeds: tuple[int, ...] = (0, 1, 2)) -> ZSSR:
    options = ZSSRSettings(depth=4, width=8, bias=True)
    return ZSSR(options, 3, (1, 1), [torch.Generator().manual_seed(seed) for seed in seeds])


def gradients(steps: int, network: ZSSR, seed: int = 0) -> Tensor:
    return torch.randn(steps, *network.weights_NP.shape, generator=torch.Generator().manual_seed(seed)) * 0.01


def test_adam_is_torchs() -> None:
    network, reference = fleet(), fleet()
    ours = FleetOptimiser(network, OptimiserSettings())
    theirs = torch.optim.Adam([reference.weights_NP], lr=1e-3)
    for gradient in gradients(20, network):
        ours.step(gradient, torch.full((3,), 1e-3, dtype=torch.float64))
        reference.weights_NP.grad = gradient
        theirs.step()
    assert torch.allclose(network.weights_NP, reference.weights_NP, atol=1e-6)
    assert not torch.allclose(network.weights_NP, fleet().weights_NP, atol=1e-4)


def test_a_network_with_kernels_is_freed_with_its_optimiser() -> None:
    """At once: a fleet of a thousand fills a GPU, and the next one begins before Python looks for cycles."""
    network = fleet()
    optimiser = FleetOptimiser(network, OptimiserSettings(), fused=torch.float32)
    alive = ref(network), ref(optimiser)
    gc.disable()
    try:
        del network, optimiser
        assert [one() for one in alive] == [None, None]
    finally:
        gc.enable()


class TestMuon:
    def test_is_the_five_iterations(self) -> None:
        x = torch.randn(2, 8, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        y = x / x.norm(dim=(1, 2), keepdim=True)
        for _ in range(5):
            gram = y @ y.mT
            y = 3.4445 * y + (-4.7750 * gram + 2.0315 * gram @ gram) @ y
        assert torch.allclose(orthogonalise(x), y, atol=1e-6)
        values = torch.linalg.svdvals(orthogonalise(torch.cat([x * 1e-4, x * 1e4])))
        assert 0.6 <= float(values.min()) <= float(values.max()) <= 1.3
        assert not orthogonalise(torch.zeros(2, 4, 36)).any()

    def test_inner_convolutions_by_muon_the_rest_by_adam(self) -> None:
        network, by_adam = fleet(), fleet()
        expected = network.weights_NP.detach()[:, :INNER].unflatten(1, (2, 8, 72)).clone()
        ours = FleetOptimiser(network, OptimiserSettings(kind="muon"))
        adam = FleetOptimiser(by_adam, OptimiserSettings())
        momentum = torch.zeros(3, 2, 8, 72)
        for gradient in gradients(4, network):
            for optimiser in (ours, adam):
                optimiser.step(gradient, torch.full((3,), 1e-3))
            inner = gradient[:, :INNER].unflatten(1, (2, 8, 72))
            momentum = 0.95 * momentum + 0.05 * inner
            nesterov = 0.05 * inner + 0.95 * momentum
            expected -= 1e-3 * 10 * torch.stack([orthogonalise(m) for m in nesterov.flatten(0, 1)]).unflatten(0, (3, 2))
        assert torch.allclose(network.weights_NP[:, :INNER], expected.flatten(1), atol=1e-6)
        assert torch.allclose(network.weights_NP[:, INNER:], by_adam.weights_NP[:, INNER:], atol=1e-7)


@pytest.mark.parametrize("kind", ["adam", "muon"])
class TestFleetOptimiser:
    def test_networks_are_independent(self, kind: str) -> None:
        """Also in their rates, and in the norm by which they are clipped."""
        settings = OptimiserSettings(kind=kind, average=0.9, clip=0.1)
        together = fleet()
        optimiser, steps = FleetOptimiser(together, settings), gradients(5, together)
        steps[:, 1] *= 100
        for gradient in steps:
            optimiser.step(gradient, torch.tensor([1e-3, 2e-3, 3e-3]))
        for n in range(3):
            single = fleet((n,))
            one = FleetOptimiser(single, settings)
            for gradient in steps[:, n : n + 1]:
                one.step(gradient, torch.tensor([(n + 1) * 1e-3]))
            assert torch.allclose(one.result()[0], optimiser.result()[n], atol=1e-6)
            assert torch.allclose(single.weights_NP[0], together.weights_NP[n], atol=1e-6)

    def test_rate_0_leaves_a_network(self, kind: str) -> None:
        """Also its average: the result of a stopped network does not depend on how long the others go on."""
        network = fleet()
        optimiser = FleetOptimiser(network, OptimiserSettings(kind=kind, average=0.9))
        first, *others = gradients(6, network)
        optimiser.step(first, torch.full((3,), 1e-2))
        weights, result = network.weights_NP.detach().clone(), optimiser.result()
        for gradient in others:
            optimiser.step(gradient, torch.tensor([1e-2, 0, 1e-2]))
        assert torch.equal(network.weights_NP[1], weights[1])
        assert torch.equal(optimiser.result()[1], result[1])
        assert not torch.allclose(optimiser.result()[0], result[0])

    def test_clipping(self, kind: str) -> None:
        clipped, scaled = fleet(), fleet()
        gradient = gradients(1, clipped)[0] * 100
        a = FleetOptimiser(clipped, OptimiserSettings(kind=kind, clip=0.2))
        b = FleetOptimiser(scaled, OptimiserSettings(kind=kind))
        other = gradients(1, clipped, seed=1)[0] * 0.001  # Adam's first step alone knows no length
        for one, two in ((gradient, gradient * (0.2 / gradient.norm(dim=1, keepdim=True))), (other, other)):
            a.step(one, torch.full((3,), 1e-3))
            b.step(two, torch.full((3,), 1e-3))
        assert torch.allclose(clipped.weights_NP, scaled.weights_NP, atol=1e-7)

    def test_the_average_is_the_moving_one(self, kind: str) -> None:
        network = fleet()
        optimiser = FleetOptimiser(network, OptimiserSettings(kind=kind, average=0.5))
        expected = network.weights_NP.detach().clone()
        for step, gradient in enumerate(gradients(12, network), 1):
            optimiser.step(gradient, torch.full((3,), 1e-2))
            decay = min(0.5, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * network.weights_NP.detach()
        assert torch.allclose(optimiser.result(), expected, atol=1e-6)
        assert not torch.allclose(optimiser.result(), network.weights_NP, atol=1e-4)
        plain = FleetOptimiser(network, OptimiserSettings(kind=kind))
        assert torch.equal(plain.result(), network.weights_NP)
        assert plain.result().data_ptr() != network.weights_NP.data_ptr()


def noisy(points: int, networks: int = 3) -> Tensor:
    return torch.rand(networks, points, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("points", [5, 6, 12])
def test_fit_slope_is_numpys(points: int) -> None:
    """Today's, and numpy 1.15's: residuals / (len(x) - order - 2.0) times the inverse normal matrix, with order = 2."""
    at, errors = np.arange(points) * 50.0, noisy(points)
    slope, unbiased = fit_slope(errors, 50, "unbiased")
    _, old = fit_slope(errors, 50, "numpy-1.15")
    design = np.vander(at, 2)
    for network in range(3):
        line, covariance = np.polyfit(at, errors[network].numpy(), 1, cov=True)
        assert float(slope[network]) == pytest.approx(line[0], rel=1e-9)
        assert float(unbiased[network]) == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-9)
        _, residuals, *_ = np.linalg.lstsq(design, errors[network].numpy(), rcond=None)
        covariance = np.linalg.inv(design.T @ design) * residuals / (points - 2 - 2.0)
        assert float(old[network]) == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-9)


def at(iteration: int, networks: int = 1) -> Tensor:
    return torch.full((networks,), iteration)


def rates_of(settings: SlopeSchedule, errors, iterations: int = 3000) -> list[float]:
    """The rates of one network whose reconstruction error after iteration t is `errors(t)`."""
    schedule, rates = Slope(settings, 1), []
    for t in range(iterations):
        rates.append(float(schedule.rates(at(t))))
        schedule.observe(at(t), torch.tensor([errors(t)]) if schedule.wants_error(at(t)) else None)
        if schedule.stopped_N.all():
            break
    return rates


def changes(rates: list[float]) -> list[int]:
    """Iterations after which the rate changed."""
    return [t for t in range(len(rates) - 1) if rates[t] != rates[t + 1]]


def flat(t: int) -> float:
    """No progress: up and down about one value."""
    return 0.01 + 0.001 * ((t // 50) % 2)


class TestSlope:
    @pytest.mark.parametrize("settings", [ORIGINAL, PAPER])
    def test_without_progress_it_falls_as_soon_as_it_may(self, settings: SlopeSchedule) -> None:
        """Tests come after iterations 59, 119, ...; more than 256 must have passed since the last change: 299, 599.

        1e-3, 1e-4, 1e-5 are trained with; at 1e-6 both end, the paper at exactly its limit.
        """
        assert [t for t in range(200) if Slope(settings, 1).wants_error(at(t))] == [0, 50, 100, 150]
        rates = rates_of(settings, flat)
        assert changes(rates) == [299, 599]
        assert len(rates) == 900
        assert sorted(set(rates)) == pytest.approx([1e-5, 1e-4, 1e-3])

    def test_networks_are_independent_and_end_at_rate_0(self) -> None:
        schedule = Slope(PAPER, 2)
        for t in range(900):
            schedule.observe(at(t, 2), torch.tensor([flat(t), 1 - t * 1e-4]) if t % 50 == 0 else None)
        assert schedule.stopped_N.tolist() == [True, False]
        assert schedule.rates(at(900, 2)).tolist() == [0, 1e-3]
        assert schedule.rates(at(3000, 2)).tolist() == [0, 0]

    def test_while_the_error_falls_it_stays(self) -> None:
        assert set(rates_of(ORIGINAL, lambda t: 1 - t * 1e-4)) == {1e-3}
        assert changes(rates_of(ORIGINAL, lambda t: t * 1e-4))[0] == 299

    @pytest.mark.parametrize(("slope", "falls"), [(-1.2, True), (-1.4, True), (-1.6, False)])
    def test_the_ratio_decides(self, slope: float, falls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Errors with a known slope and deviation: the rate falls where ratio * (-slope) < deviation."""
        wave = torch.tensor([1.0, -2, 0, 2, -1], dtype=torch.float64)  # no slope of its own
        _, deviation = fit_slope(wave[None], 50, "unbiased")
        monkeypatch.setattr(module, "WINDOW", 250)
        settings = SlopeSchedule(ratio=1 / 1.5, covariance="unbiased", stop_lr=1e-9)
        rates = rates_of(settings, lambda t: float(wave[(t // 50 - 1) % 5] + slope * deviation * t), iterations=302)
        assert (changes(rates) == [299]) == falls

    def test_only_the_last_window_counts(self) -> None:
        """A fast start long ago does not hold a rate up that has stopped helping."""
        rates = rates_of(ORIGINAL, lambda t: 1 - t / 400 if t < 400 else flat(t))
        assert changes(rates)[0] == 659  # the test after 599 still sees the records of 350 and 400


class TestCosine:
    def test_rises_then_falls_to_nothing(self) -> None:
        schedule = make_schedule(CosineSchedule(lr=2e-3, iterations=100), 2)
        assert isinstance(schedule, Cosine)
        rates = torch.stack([schedule.rates(at(t, 2)) for t in range(101)])
        assert torch.equal(rates[:, 0], rates[:, 1])
        one = rates[:, 0]
        assert (one[1:6] > one[:5]).all()
        assert (one[6:] < one[5:-1]).all()
        assert [float(one[t]) for t in (0, 50, 100)] == pytest.approx([2e-3 / 6, 1e-3, 0], rel=1e-3)

    def test_one_iteration_is_not_lost(self) -> None:
        assert float(Cosine(CosineSchedule(iterations=1)).rates(at(0))) > 0
