"""Generator and discriminator: the paper's layers, random layer skipping, and what their options change."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.srgan import Discriminator, DiscriminatorOptions, Generator, GeneratorOptions


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**options: Any) -> Generator:
    return Generator(GeneratorOptions(**{"width": 6, "blocks": 3, **options}), draws())


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=draws(seed))


def count(network: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in network.modules())


class TestGenerator:
    def test_the_papers_layers(self) -> None:
        network = Generator(GeneratorOptions(), draws())
        # 1 + 16 * 2 + 1 + 1 + 1 convolutions; a PReLU at the start, in each block and in the upscaling block.
        assert count(network, nn.Conv2d) == 36
        assert count(network, nn.PReLU) == 18
        assert count(network, nn.BatchNorm2d) == 33
        layers = count(network, nn.Conv2d, nn.PReLU, nn.BatchNorm2d, nn.Upsample)
        assert layers - 2 == 86  # the paper counts the three of the upscaling block as one
        assert network.facts.receptive_field == 81

    def test_shuffling_has_as_many_channels_as_ledig_et_al(self) -> None:
        network = Generator(GeneratorOptions(scale=4, upsampling="pixel_shuffle"), draws())
        assert [layer.out_channels for layer in network.upscaling.modules() if isinstance(layer, nn.Conv2d)] == [
            256
        ] * 2

    @pytest.mark.parametrize("options", [{}, {"norm": False}, {"residual": True}, {"upsampling": "pixel_shuffle"}])
    def test_gradients_reach_every_weight_and_the_input(self, options: dict[str, Any]) -> None:
        network = small(**options)
        x = noise(2, 3, 9, 7).requires_grad_()
        (network(x) * noise(2, 3, 18, 14)).sum().backward()
        for name, weight in [*network.named_parameters(), ("input", x)]:
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
        # A bias before a normalisation has none but rounding; all others are moved.
        still = [name for name, weight in network.named_parameters() if weight.grad.abs().max() < 1e-7]  # type: ignore[union-attr]
        assert all(name.endswith("bias") for name in still)

    def test_residual_starts_near_bicubic(self) -> None:
        x = noise(1, 3, 12, 12)
        network = small(residual=True).eval()
        bicubic = F.interpolate(x, scale_factor=2, mode="bicubic", antialias=True)
        assert 0 < (network(x) - bicubic).square().mean().sqrt() < 0.2

    @pytest.mark.parametrize("norm", [False, True])
    def test_first_values_are_of_the_size_of_pixels(self, norm: bool) -> None:
        out = Generator(GeneratorOptions(norm=norm), draws())(noise(2, 3, 16, 16))
        assert 0.05 < (out - 0.5).std() < 5

    def test_the_seed_is_the_draws_own(self) -> None:
        one, same, other = (
            Generator(GeneratorOptions(width=4, blocks=1), draws(seed)).state_dict() for seed in (0, 0, 1)
        )
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["tail.weight"], other["tail.weight"])

    def test_bf16_gives_float32(self) -> None:
        network, x = small().eval(), noise(1, 3, 8, 8)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        assert out.dtype == torch.float32
        assert (out - network(x)).abs().max() < 0.1

    @pytest.mark.parametrize(
        ("option", "value"),
        [("scale", 3), ("channels", 4), ("width", 0), ("blocks", -1), ("skip_probability", 1), ("upsampling", "cubic")],
    )
    def test_impossible_options(self, option: str, value: Any) -> None:
        with pytest.raises(ValueError, match=option):
            GeneratorOptions(**{option: value})


class TestSkipping:
    def test_each_block_is_out_as_often_as_said(self) -> None:
        network = small(blocks=8, skip_probability=0.3)
        generator = draws()
        out = torch.tensor([network.draw_skipped(generator) for _ in range(500)]).float()
        assert out.shape == (500, 8)
        assert ((out.mean(0) - 0.3).abs() < 0.1).all()
        assert (out.std(0) > 0).all()
        # Each by itself: how many are out at once has a binomial's variance.
        assert abs(float(out.sum(1).var()) - 8 * 0.3 * 0.7) < 0.4

    def test_the_same_draws_give_the_same_choice(self) -> None:
        network = small(blocks=12, skip_probability=0.5)
        assert network.draw_skipped(draws(3)) == network.draw_skipped(draws(3)) == network.skipped
        assert network.draw_skipped(draws(4)) != network.draw_skipped(draws(3))

    def test_no_chance_no_skipping(self) -> None:
        assert not any(small(blocks=50, skip_probability=0.0).draw_skipped(draws()))

    def test_a_skipped_block_takes_no_part_in_training(self) -> None:
        network = small(norm=False)
        network.skipped = (False, True, False)
        x = noise(1, 3, 8, 8)
        network(x).sum().backward()
        assert all(weight.grad is None for weight in network.blocks[1].parameters())
        assert all(weight.grad is not None for weight in network.blocks[0].parameters())
        skipping = network(x)
        del network.blocks[1]
        network.skipped = (False, False)
        assert torch.equal(network(x), skipping)

    def test_normalisation_of_a_skipped_block_keeps_its_statistics(self) -> None:
        network = small()
        network.skipped = (True, False, False)
        network(noise(2, 3, 8, 8))
        seen = [int(block.norm.num_batches_tracked) for block in network.blocks]
        assert seen == [0, 1, 1]

    def test_none_at_inference(self) -> None:
        network, x = small().eval(), noise(1, 3, 8, 8)
        whole = network(x)
        network.skipped = (True, True, True)
        assert torch.equal(network(x), whole)

    def test_it_is_no_part_of_the_weights(self) -> None:
        network = small()
        names = list(network.state_dict())
        network.draw_skipped(draws())
        assert list(network.state_dict()) == names


class TestDiscriminator:
    def test_the_papers_layers(self) -> None:
        network = Discriminator(DiscriminatorOptions(), draws())
        layers = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
        assert [layer.out_channels for layer in layers] == [64, 64, 128, 128, 256, 256, 512, 512]
        assert [layer.stride[0] for layer in layers] == [1, 2, 1, 2, 1, 2, 1, 2]
        assert [type(layer) for layer in network.features[:3]] == [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d]
        dense = [layer for layer in network.head if isinstance(layer, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in dense] == [(512 * 4 * 4, 1024), (1024, 1)]
        assert {layer.negative_slope for layer in network.modules() if isinstance(layer, nn.LeakyReLU)} == {0.2}

    def test_ledigs_order(self) -> None:
        options = DiscriminatorOptions(norm="before", norm_first=False, width=4)
        kinds = [type(layer) for layer in Discriminator(options, draws()).features]
        assert kinds[:5] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
        assert kinds.count(nn.BatchNorm2d) == 7

    def test_none(self) -> None:
        assert count(Discriminator(DiscriminatorOptions(norm="none", width=4), draws()), nn.BatchNorm2d) == 0

    @pytest.mark.parametrize(("head", "shape"), [("flatten", (3, 1)), ("adaptive", (3, 1)), ("patch", (3, 1, 2, 2))])
    def test_logits(self, head: Any, shape: tuple[int, ...]) -> None:
        network = Discriminator(DiscriminatorOptions(width=4, hidden=8, size=32, head=head), draws())
        x = noise(3, 3, 32, 32).requires_grad_()
        logits = network(x)
        assert logits.shape == shape
        logits.sigmoid().log().sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
        assert all(weight.grad is not None for weight in network.parameters())

    @pytest.mark.parametrize(
        ("option", "value"),
        [("channels", 2), ("width", 0), ("blocks", 0), ("size", 0), ("norm", "both"), ("head", "mean")],
    )
    def test_impossible_options(self, option: str, value: Any) -> None:
        with pytest.raises(ValueError, match=option):
            DiscriminatorOptions(**{option: value})
