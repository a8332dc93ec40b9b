"""ESRGAN's generator: the paper's size, what its blocks compute, and weights under the names that others give them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.weights import NAMINGS, esrgan_weights
from zssr_gan.errors import WeightsError
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.training.importing import load_esrgan, options_from, rename


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**options: Any) -> ESRGAN:
    return ESRGAN(ESRGANOptions(**{"width": 6, "growth": 4, "blocks": 2, **options}), draws())


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=draws(seed))


class TestGenerator:
    def test_the_papers_size(self) -> None:
        """16.7 million weights, as the authors' code has."""
        with torch.device("meta"):
            network = ESRGAN(ESRGANOptions())
        assert sum(weight.numel() for weight in network.parameters()) == 16_697_987
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())

    def test_a_block_by_hand(self) -> None:
        """Equations of the paper's figures 3 and 4, of one RRDB."""
        network = small(blocks=1)
        block, x = network.body[0], noise(1, 6, 5, 5)
        y = x
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            seen = [y]
            for convolution in (dense.conv1, dense.conv2, dense.conv3, dense.conv4):
                seen.append(F.leaky_relu(convolution(torch.cat(seen, 1)), 0.2))
            y = y + 0.2 * dense.conv5(torch.cat(seen, 1))
        assert torch.allclose(block(x), x + 0.2 * y, atol=1e-6)

    def test_gradients_reach_every_weight_and_the_input(self) -> None:
        network, x = small(), noise(2, 3, 5, 4).requires_grad_()
        (network(x) * noise(2, 3, 20, 16)).sum().backward()
        for name, weight in [*network.named_parameters(), ("input", x)]:
            assert weight.grad is not None, name
            assert weight.grad.abs().max() > 0, name

    def test_first_values_are_of_the_size_of_pixels(self) -> None:
        assert 0.05 < ESRGAN(ESRGANOptions(blocks=4), draws())(noise(1, 3, 12, 12)).std() < 5

    def test_unshuffled_borders_are_made_up_and_cut_off(self) -> None:
        """An image that lacks a row and a column of a whole square, and the same with its last ones repeated."""
        network, x = small(scale=2, unshuffle=2), noise(1, 3, 7, 9)
        whole = F.pad(x, (0, 1, 0, 1), mode="replicate")
        assert torch.equal(network(x), network(whole)[..., :14, :18])

    @pytest.mark.parametrize(
        ("option", "value"),
        [("scale", 3), ("channels", 4), ("width", 0), ("growth", 0), ("blocks", -1), ("unshuffle", 3)],
    )
    def test_impossible_options(self, option: str, value: Any) -> None:
        with pytest.raises(ValueError, match=option):
            ESRGANOptions(**{option: value})


class TestNames:
    @pytest.mark.parametrize("naming", NAMINGS)
    @pytest.mark.parametrize(
        "options",
        [{}, {"scale": 2}, {"scale": 8, "channels": 1}, {"scale": 2, "unshuffle": 2}, {"scale": 1, "unshuffle": 4}],
    )
    def test_each_naming_gives_the_same_network(self, naming: str, options: dict[str, Any]) -> None:
        network = small(**options).eval()
        family, weights = rename(esrgan_weights(network, naming))
        assert family == naming
        assert options_from(weights) == network.options
        x = noise(1, network.options.channels, 6, 7)
        with torch.no_grad():
            assert torch.equal(load_esrgan(weights)(x), network(x))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda weights: weights.pop("body.1.rdb2.conv4.bias"), r"body\.1\.rdb2\.conv4\.bias is missing"),
            (lambda weights: weights.pop("conv_last.weight"), r"conv_last\.weight is missing"),
            (lambda weights: weights.update({"body.0.rdb1.conv1x1.weight": noise(4, 6, 1, 1)}), "conv1x1.* no gener"),
            (lambda weights: weights.update(conv_hr=noise(1)), r"conv_hr belongs to no generator"),
            (lambda weights: weights.update({"conv_body.weight": noise(6, 6, 1, 1)}), "is 6x6x1x1, not 6x6x3x3"),
            (lambda weights: weights["conv_up1.bias"].fill_(torch.nan), r"conv_up1\.bias is NaN"),
            (
                lambda weights: weights.update({"conv_up1.bias": torch.full((6,), 1e300, dtype=torch.float64)}),
                "infinite",
            ),
            (lambda weights: weights.update({"conv_first.weight": noise(6, 5, 3, 3)}), "takes 5 channels"),
            (lambda weights: weights.update({"conv_last.weight": noise(4, 6, 3, 3)}), "takes 3 channels"),
            (lambda weights: weights.update({"body.9999.rdb1.conv1.weight": noise(4, 6, 3, 3)}), "blocks"),
        ],
    )
    def test_others_are_refused(self, change: Any, words: str) -> None:
        weights = {name: weight.clone() for name, weight in small().state_dict().items()}
        change(weights)
        with pytest.raises(WeightsError, match=words):
            load_esrgan(rename(weights)[1])

    @pytest.mark.filterwarnings("ignore")  # torch warns of kinds of tensors that it will drop, or has not finished
    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            (lambda bias: bias.to(torch.float8_e4m3fn), "of type float8_e4m3fn, and read are"),
            (lambda bias: torch.quantize_per_tensor(bias, 1.0, 0, torch.quint8), "of type quint8"),
            (lambda bias: bias.to(torch.complex64), "of type complex64"),
            (lambda bias: bias.bool(), "of type bool"),
            (lambda bias: bias.int(), "of type int32"),
            (lambda bias: bias.to_sparse(), "of type float32, and not dense on the CPU"),
            (lambda bias: bias.to("meta"), "not dense on the CPU"),
            (lambda bias: torch.nested.nested_tensor([bias]), "not dense on the CPU"),
        ],
    )
    def test_unusual_tensors_are_refused(self, kind: Any, words: str) -> None:
        for name in ("conv_up1.bias", "conv_first.weight"):
            weights = small().state_dict()
            weights[name] = kind(weights[name])
            with pytest.raises(WeightsError, match=f"the weight {name} is .*{words}"):
                load_esrgan(weights)

    def test_usual_types_become_float32(self) -> None:
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            found = load_esrgan({name: weight.to(dtype) for name, weight in small().state_dict().items()})
            assert {weight.dtype for weight in found.state_dict().values()} == {torch.float32}

    def test_another_network(self) -> None:
        with pytest.raises(WeightsError, match=r"no weights of an ESRGAN generator .* than body\.0\.weight"):
            rename({"body.0.weight": noise(64, 3, 3, 3), "body.1.weight": noise(64)})
