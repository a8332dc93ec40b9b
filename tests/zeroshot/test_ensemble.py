"""The self-ensemble: tiled equals untiled, symmetric, unbiased; too little memory makes smaller tiles."""

from typing import Any

import pytest
import torch
from torch import Tensor

from zssr_gan.errors import DeviceError, NumericalError
from zssr_gan.imaging import dihedral
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZSSRSettings
from zssr_gan.zeroshot import ensemble
from zssr_gan.zeroshot.ensemble import apply_ensemble, check_finite, median, views

NETWORKS = {
    "interpolated": (ZSSRSettings(depth=4, width=8), (1, 1)),
    "lr": (ZSSRSettings(depth=4, width=8, grid="lr", residual=True, initial="lecun", bias=True), (2, 2)),
    "lr x3": (ZSSRSettings(depth=2, width=8, grid="lr"), (3, 3)),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, members: int = 2) -> ZSSR:
    """Weights large enough that tiles would show."""
    options, factor = NETWORKS[name]
    network = ZSSR(options, 3, factor, [torch.Generator().manual_seed(n) for n in range(members)])
    with torch.no_grad():
        network.weights_NP *= 2
    return network


def enlarge(network: ZSSR, image: Tensor, tile: int = 512, symmetries=dihedral.ALL, **more: Any):
    size = (image.shape[-2] * network.factor[0], image.shape[-1] * network.factor[1])
    return apply_ensemble(network, image, size, symmetries, "fp32", tile, **more)


@pytest.fixture
def image(astronaut: Tensor) -> Tensor:
    return astronaut[:, :41, :36]


@networks
@pytest.mark.parametrize("per_pass", [None, 1, 3])
def test_views_are_turned_there_and_back(name: str, per_pass: int | None, image: Tensor) -> None:
    network = build(name)
    with torch.no_grad():
        seen = views(network, image, dihedral.ALL, "fp32", per_pass)
        fy, fx = network.factor
        assert seen.shape == (16, 3, 41 * fy, 36 * fx)
        for k in dihedral.ALL:
            turned = network(dihedral.transform(image, k).expand(2, 1, -1, -1, -1))[:, 0]
            assert torch.allclose(seen[2 * k : 2 * k + 2], dihedral.inverse(turned, k), atol=1e-5)
        batch = views(network, torch.stack([image, image.flip(0)]), dihedral.ALL, "fp32", per_pass)
        assert torch.allclose(batch[:, 0], seen, atol=1e-5)
    assert all((seen[a] - seen[b]).abs().max() > 1e-3 for a in range(16) for b in range(a))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 16])
def test_median_is_numpys(count: int) -> None:
    """Of an even number the mean of the middle two, so that it is unbiased."""
    seen = torch.rand(count, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(median(seen), torch.quantile(seen, 0.5, 0), atol=1e-6)
    assert torch.allclose(median(-seen), -median(seen), atol=1e-6)


class TestApply:
    @networks
    @pytest.mark.parametrize("tile", [16, 33])
    def test_tiled_equals_untiled(self, name: str, tile: int, image: Tensor) -> None:
        network = build(name)
        seen: list[tuple[int, int]] = []
        whole, spread, side = enlarge(network, image)
        parts, spread_parts, _ = enlarge(network, image, tile, on_tile=lambda *now: seen.append(now))
        assert side == 512
        assert (whole - parts).abs().max() < 1e-4
        assert (spread.float() - spread_parts.float()).abs().max() < 0.1
        count = -(-41 // (tile // network.factor[0])) * -(-36 // (tile // network.factor[0]))
        assert seen == [(n, count) for n in range(1, count + 1)]

    @networks
    def test_symmetric(self, name: str, image: Tensor) -> None:
        """A turned image gives the turned result."""
        network = build(name, 1)
        result, spread, _ = enlarge(network, image)
        for k in (1, 4, 7):
            turned, turned_spread, _ = enlarge(network, dihedral.transform(image, k))
            assert torch.allclose(turned, dihedral.transform(result, k), atol=1e-5)
            assert torch.allclose(turned_spread, dihedral.transform(spread, k), atol=0.1)

    def test_the_spread_is_in_levels_of_255(self, image: Tensor) -> None:
        network = build("interpolated")
        _, spread, _ = enlarge(network, image)
        with torch.no_grad():
            expected = views(network, image, dihedral.ALL, "fp32").numpy().std(0).mean(0) * 255
        assert spread.dtype == torch.float16
        assert float(spread.max()) > 1
        assert abs(spread.float().numpy() - expected).max() < 0.05
        assert not enlarge(build("lr", 1), image, symmetries=(0,))[1].any()

    def test_nan_is_an_error(self, image: Tensor) -> None:
        network = build("interpolated")
        network.weights_NP.data[1, 5] = torch.nan
        with pytest.raises(NumericalError, match="the precision fp32"):
            check_finite(enlarge(network, image)[0])


class TestTooLittleMemory:
    def limit(self, monkeypatch: pytest.MonkeyPatch, pixels: int) -> list[int]:
        """A device on which no more than so many input pixels can be worked on at once."""
        real, asked = ensemble.views, []

        def limited(network: ZSSR, image: Tensor, *others: Any) -> Tensor:
            asked.append(image.shape[-2] * image.shape[-1])
            if asked[-1] > pixels:
                raise torch.OutOfMemoryError("too much")
            return real(network, image, *others)

        monkeypatch.setattr(ensemble, "views", limited)
        return asked

    def test_smaller_tiles_give_the_same(self, monkeypatch: pytest.MonkeyPatch, astronaut: Tensor) -> None:
        image, network = astronaut.repeat(1, 3, 3), build("interpolated", 1)
        whole, _, _ = enlarge(network, image, symmetries=(0,))
        self.limit(monkeypatch, 110 * 110)
        parts, _, tile = enlarge(network, image, symmetries=(0,))
        assert tile == 96
        assert torch.allclose(whole, parts, atol=1e-5)

    @pytest.mark.parametrize("tile", [512, 64, 16])
    def test_an_error_in_the_end(self, monkeypatch: pytest.MonkeyPatch, astronaut: Tensor, tile: int) -> None:
        asked = self.limit(monkeypatch, 0)
        with pytest.raises(DeviceError, match=r"too little memory even for tiles of .* the device cpu"):
            enlarge(build("interpolated", 1), astronaut.repeat(1, 3, 3), tile)
        assert len(asked) < 5
