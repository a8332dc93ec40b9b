"""Optimisers over a fleet: Adam is torch's, Muon's iterations are the naive ones, and members do not meet."""

import pytest
import torch
from torch import Tensor

from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.settings.zeroshot import OptimiserSettings
from zssr_gan.zeroshot.fleet import FleetOptimiser, orthogonalise


def fleet(seeds: tuple[int, ...] = (0, 1, 2)) -> ZSSR:
    options = ZSSROptions(depth=4, width=8, bias=True)
    return ZSSR(options, 3, (1, 1), [torch.Generator().manual_seed(seed) for seed in seeds])


def gradients(steps: int, network: ZSSR, seed: int = 0) -> Tensor:
    return torch.randn(steps, *network.weights_NP.shape, generator=torch.Generator().manual_seed(seed)) * 0.01


INNER = 2 * 8 * 72


class TestAdam:
    def test_is_torchs(self) -> None:
        network, reference = fleet(), fleet()
        ours = FleetOptimiser(network, OptimiserSettings())
        theirs = torch.optim.Adam([reference.weights_NP], lr=1e-3)
        for gradient in gradients(20, network):
            ours.step(gradient, torch.full((3,), 1e-3, dtype=torch.float64))
            reference.weights_NP.grad = gradient
            theirs.step()
        assert torch.allclose(network.weights_NP, reference.weights_NP, atol=1e-6)
        assert not torch.allclose(network.weights_NP, fleet().weights_NP, atol=1e-4)

    def test_rates_are_each_members_own(self) -> None:
        network = fleet()
        before = network.weights_NP.detach().clone()
        gradient = gradients(1, network)[0].sign()
        FleetOptimiser(network, OptimiserSettings()).step(gradient, torch.tensor([1e-3, 2e-3, 0]))
        moved = before - network.weights_NP.detach()
        assert torch.allclose(moved[0], 1e-3 * gradient[0].sign(), atol=1e-6)  # Adam's first step is the sign
        assert torch.allclose(moved[1], 2e-3 * gradient[1].sign(), atol=1e-6)
        assert not moved[2].any()


class TestMuon:
    def test_singular_values_become_about_one(self) -> None:
        matrices = torch.randn(4, 16, 144, generator=torch.Generator().manual_seed(0))
        matrices[1] *= 1e-4
        matrices[2] *= 1e4
        values = torch.linalg.svdvals(orthogonalise(matrices))
        assert float(values.min()) >= 0.6
        assert float(values.max()) <= 1.3

    def test_is_the_five_iterations(self) -> None:
        x = torch.randn(2, 8, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        y = x / x.norm(dim=(1, 2), keepdim=True)
        for _ in range(5):
            gram = y @ y.mT
            y = 3.4445 * y + (-4.7750 * gram + 2.0315 * gram @ gram) @ y
        assert torch.allclose(orthogonalise(x), y, atol=1e-6)

    def test_directions_are_kept(self) -> None:
        """The singular vectors stay: U^T Y V is diagonal."""
        x = torch.randn(8, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        u, _, vh = torch.linalg.svd(x, full_matrices=False)
        core = u.mT @ orthogonalise(x) @ vh.mT
        assert float((core - torch.diag(core.diagonal())).abs().max()) < 1e-9
        assert float(core.diagonal().min()) > 0.6

    def test_nothing_stays_nothing(self) -> None:
        assert not orthogonalise(torch.zeros(2, 4, 36)).any()

    def test_inner_convolutions_by_muon_the_rest_by_adam(self) -> None:
        network, by_adam = fleet(), fleet()
        before = network.weights_NP.detach().clone()
        ours = FleetOptimiser(network, OptimiserSettings(kind="muon", muon_ratio=10))
        adam = FleetOptimiser(by_adam, OptimiserSettings())
        momentum = torch.zeros(3, 2, 8, 72)
        expected = before[:, :INNER].unflatten(1, (2, 8, 72)).clone()
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
class TestBoth:
    def test_members_do_not_meet(self, kind: str) -> None:
        settings = OptimiserSettings(kind=kind, average=0.9, clip=0.1)
        together = fleet()
        optimiser = FleetOptimiser(together, settings)
        steps = gradients(5, together)
        for gradient in steps:
            optimiser.step(gradient, torch.tensor([1e-3, 2e-3, 3e-3]))
        for n in range(3):
            alone = fleet((n,))
            one = FleetOptimiser(alone, settings)
            for gradient in steps[:, n : n + 1]:
                one.step(gradient, torch.tensor([(n + 1) * 1e-3]))
            assert torch.allclose(one.result()[0], optimiser.result()[n], atol=1e-6)
            assert torch.allclose(alone.weights_NP[0], together.weights_NP[n], atol=1e-6)

    def test_rate_0_leaves_a_member(self, kind: str) -> None:
        """Also its average: what a stopped member gives does not depend on how long the others go on."""
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

    def test_clipping_is_by_each_members_norm(self, kind: str) -> None:
        clipped, scaled = fleet(), fleet()
        gradient = gradients(1, clipped)[0]
        gradient[0] *= 100
        gradient[1] *= 1e-3
        by_hand = gradient.clone()
        by_hand[0] *= 0.2 / by_hand[0].norm()
        by_hand[2] *= min(1.0, float(0.2 / by_hand[2].norm()))
        a = FleetOptimiser(clipped, OptimiserSettings(kind=kind, clip=0.2))
        b = FleetOptimiser(scaled, OptimiserSettings(kind=kind))
        other = gradients(1, clipped, seed=1)[0] * 0.1
        other *= 0.1 / other.norm(dim=1, keepdim=True)
        for one, two in ((gradient, by_hand), (other, other)):  # Adam's first step alone knows no length
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

    def test_without_average_the_last_weights_are_the_result(self, kind: str) -> None:
        network = fleet()
        optimiser = FleetOptimiser(network, OptimiserSettings(kind=kind))
        optimiser.step(gradients(1, network)[0], torch.full((3,), 1e-2))
        result = optimiser.result()
        assert torch.equal(result, network.weights_NP)
        optimiser.step(gradients(1, network)[0], torch.full((3,), 1e-2))
        assert not torch.equal(result, network.weights_NP)  # a copy

    def test_put_begins_anew_and_touches_nobody_else(self, kind: str) -> None:
        settings = OptimiserSettings(kind=kind, average=0.9, clip=0.1)
        stream, untouched, fresh = fleet(), fleet(), fleet((7,))
        optimiser, other, alone = (FleetOptimiser(one, settings) for one in (stream, untouched, fresh))
        rates = torch.full((3,), 1e-2)
        for step, gradient in enumerate(gradients(10, stream)):
            if step == 4:
                with torch.no_grad():
                    stream.weights_NP[1] = fleet((7,)).weights_NP[0]
                optimiser.put(torch.tensor([1]))
            optimiser.step(gradient, rates)
            other.step(gradient, rates)
            if step >= 4:
                alone.step(gradient[1:2], rates[:1])
        assert torch.allclose(optimiser.result()[1], alone.result()[0], atol=1e-6)
        assert torch.allclose(stream.weights_NP[1], fresh.weights_NP[0], atol=1e-6)
        for n in (0, 2):
            assert torch.equal(optimiser.result()[n], other.result()[n])
            assert torch.equal(stream.weights_NP[n], untouched.weights_NP[n])

    def test_keep_goes_on_as_before(self, kind: str) -> None:
        settings = OptimiserSettings(kind=kind, average=0.9)
        whole, part = fleet(), fleet()
        one, other = FleetOptimiser(whole, settings), FleetOptimiser(part, settings)
        stay = torch.tensor([2, 0])
        for step, gradient in enumerate(gradients(8, whole)):
            if step == 3:
                part.weights_NP.data = part.weights_NP.detach()[stay]
                other.keep(stay)
            one.step(gradient, torch.tensor([1e-2, 2e-2, 3e-2]))
            late = step >= 3
            rates = torch.tensor([3e-2, 1e-2]) if late else torch.tensor([1e-2, 2e-2, 3e-2])
            other.step(gradient[stay] if late else gradient, rates)
        assert torch.allclose(other.result(), one.result()[stay], atol=1e-6)
        assert torch.allclose(part.weights_NP, whole.weights_NP[stay], atol=1e-6)
