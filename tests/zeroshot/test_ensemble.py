"""The self-ensemble: tiled equals untiled, symmetric, unbiased; too little memory makes smaller tiles."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from zssr_gan.errors import DeviceError, NumericalError
from zssr_gan.imaging import dihedral
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.zeroshot import ensemble
from zssr_gan.zeroshot.ensemble import EnsembleOptions, apply_ensemble, combine, views

PLAIN = EnsembleOptions(dihedral.ALL, "median", 512, "fp32")
NETWORKS = {
    "interpolated": (ZSSROptions(depth=4, width=8), (1, 1)),
    "lr": (ZSSROptions(depth=4, width=8, grid="lr", residual=True, initial="lecun", bias=True), (2, 2)),
    "lr x3": (ZSSROptions(depth=2, width=8, grid="lr"), (3, 3)),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, members: int = 2) -> ZSSR:
    """Weights large enough that tiles would show."""
    options, factor = NETWORKS[name]
    network = ZSSR(options, 3, factor, [torch.Generator().manual_seed(n) for n in range(members)])
    with torch.no_grad():
        network.weights_NP *= 2
    return network


@pytest.fixture
def image(astronaut: Tensor) -> Tensor:
    return astronaut[:, :41, :36]


class TestViews:
    @networks
    def test_each_is_turned_there_and_back(self, name: str, image: Tensor) -> None:
        network = build(name)
        with torch.no_grad():
            seen = views(network, image, PLAIN)
            fy, fx = network.factor
            assert seen.shape == (16, 3, 41 * fy, 36 * fx)
            for k in dihedral.ALL:
                turned = network(dihedral.transform(image, k).expand(2, 1, -1, -1, -1))[:, 0]
                assert torch.allclose(seen[2 * k : 2 * k + 2], dihedral.inverse(turned, k), atol=1e-5)

    def test_they_differ(self, image: Tensor) -> None:
        with torch.no_grad():
            seen = views(build("interpolated", 1), image, PLAIN)
        assert all((seen[a] - seen[b]).abs().max() > 1e-3 for a in range(8) for b in range(a))


class TestCombine:
    def test_median_of_an_even_number_is_unbiased(self) -> None:
        values = torch.tensor([9.0, 1, 4, 2])[:, None, None, None]
        assert float(combine(values, "median")) == 3
        assert float(combine(-values, "median")) == -3

    def test_median_of_an_odd_number(self) -> None:
        assert float(combine(torch.tensor([9.0, 1, 4])[:, None, None, None], "median")) == 4

    def test_mean(self) -> None:
        assert float(combine(torch.tensor([9.0, 1, 4, 2])[:, None, None, None], "mean")) == 4

    @pytest.mark.parametrize("count", [1, 2, 7, 8, 16])
    def test_median_is_numpys(self, count: int) -> None:
        seen = torch.rand(count, 3, 5, 4, generator=torch.Generator().manual_seed(0))
        expected = torch.quantile(seen, 0.5, 0)
        assert torch.allclose(combine(seen, "median"), expected, atol=1e-6)


class TestApply:
    @networks
    @pytest.mark.parametrize("how", ["median", "mean"])
    @pytest.mark.parametrize("tile", [16, 33])
    def test_tiled_equals_untiled(self, name: str, how: str, tile: int, image: Tensor) -> None:
        network = build(name)
        whole, spread, side = apply_ensemble(network, image, replace(PLAIN, combine=how))
        parts, spread_parts, _ = apply_ensemble(network, image, replace(PLAIN, combine=how, tile=tile))
        assert side == 512
        assert ((whole.clamp(0, 1) * 255).round() - (parts.clamp(0, 1) * 255).round()).abs().max() <= 1
        assert (whole - parts).abs().max() < 1e-4
        assert (spread.float() - spread_parts.float()).abs().max() < 0.1

    @networks
    def test_tiles_are_told_and_no_larger_than_asked(self, name: str, image: Tensor) -> None:
        network = build(name)
        told: list[tuple[int, int]] = []
        apply_ensemble(network, image, replace(PLAIN, tile=32), lambda *now: told.append(now))
        side = 32 // network.factor[0]
        count = -(-41 // side) * -(-36 // side)
        assert told == [(n, count) for n in range(1, count + 1)]

    @networks
    def test_symmetric(self, name: str, image: Tensor) -> None:
        """A turned image gives the turned result."""
        network = build(name, 1)
        result, spread, _ = apply_ensemble(network, image, PLAIN)
        for k in (1, 4, 7):
            turned, turned_spread, _ = apply_ensemble(network, dihedral.transform(image, k), PLAIN)
            assert torch.allclose(turned, dihedral.transform(result, k), atol=1e-5)
            assert torch.allclose(turned_spread, dihedral.transform(spread, k), atol=0.1)

    def test_the_spread_is_in_levels_of_255(self, image: Tensor) -> None:
        network = build("interpolated")
        _, spread, _ = apply_ensemble(network, image, PLAIN)
        with torch.no_grad():
            expected = views(network, image, PLAIN).numpy().std(0).mean(0) * 255
        assert spread.shape == (41, 36)
        assert spread.dtype == torch.float16
        assert float(spread.max()) > 1
        assert abs(spread.float().numpy() - expected).max() < 0.05

    def test_one_view_has_no_spread(self, image: Tensor) -> None:
        _, spread, _ = apply_ensemble(build("lr", 1), image, replace(PLAIN, symmetries=(0,)))
        assert not spread.any()

    def test_nan_is_an_error(self, image: Tensor) -> None:
        network = build("interpolated")
        with torch.no_grad():
            network.weights_NP[1, 5] = torch.nan
        with pytest.raises(NumericalError, match="the precision fp32"):
            apply_ensemble(network, image, replace(PLAIN, combine="mean"))
        with pytest.raises(NumericalError):
            apply_ensemble(network, image, PLAIN)


class TestTooLittleMemory:
    def limit(self, monkeypatch: pytest.MonkeyPatch, pixels: int) -> list[int]:
        """A device on which no more than so many input pixels can be worked on at once."""
        real, asked = ensemble.views, []

        def limited(network: ZSSR, image_CHW: Tensor, options: EnsembleOptions) -> Tensor:
            asked.append(image_CHW.shape[-2] * image_CHW.shape[-1])
            if asked[-1] > pixels:
                raise torch.OutOfMemoryError("too much")
            return real(network, image_CHW, options)

        monkeypatch.setattr(ensemble, "views", limited)
        return asked

    def test_smaller_tiles_give_the_same(self, monkeypatch: pytest.MonkeyPatch, astronaut: Tensor) -> None:
        image = astronaut.repeat(1, 3, 3)
        network = build("interpolated", 1)
        few = replace(PLAIN, symmetries=(0,))
        whole, _, _ = apply_ensemble(network, image, few)
        self.limit(monkeypatch, 110 * 110)
        parts, _, tile = apply_ensemble(network, image, few)
        assert tile == 96
        assert torch.allclose(whole, parts, atol=1e-5)

    @pytest.mark.parametrize("tile", [512, 64, 16])
    def test_an_error_in_the_end(self, monkeypatch: pytest.MonkeyPatch, astronaut: Tensor, tile: int) -> None:
        asked = self.limit(monkeypatch, 0)
        with pytest.raises(DeviceError, match=r"too little memory even for tiles of .* the device cpu"):
            apply_ensemble(build("interpolated", 1), astronaut.repeat(1, 3, 3), replace(PLAIN, tile=tile))
        assert len(asked) < 5
