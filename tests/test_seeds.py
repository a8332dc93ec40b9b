"""Random numbers without a state: spread as they should be, and a member's own."""

import torch

from zssr_gan.seeds import normal, uniform

SEEDS = torch.tensor([1, 2, -5, 2**62])
AT = torch.tensor([0, 0, 7, 7])


def test_splitmix_is_the_published_one() -> None:
    """The finaliser's first outputs from a state of 1234567, as published with the generator."""
    from zssr_gan.seeds import _GOLDEN, _mix

    states = 1234567 + torch.arange(1, 4) * _GOLDEN
    assert [number % 2**64 for number in _mix(states).tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_uniform_is_even() -> None:
    numbers = uniform(SEEDS, AT, 40_000)
    assert numbers.shape == (4, 40_000)
    assert numbers.dtype == torch.float32
    assert (numbers >= 0).all()
    assert (numbers < 1).all()
    shares = torch.stack([torch.histc(row, 20, 0, 1) for row in numbers]) / 40_000
    assert (shares - 0.05).abs().max() < 0.006
    # Neighbours, and members, know nothing of each other.
    assert (
        torch.corrcoef(torch.stack([numbers[0, 1:], numbers[0, :-1], numbers[1, 1:]])).fill_diagonal_(0).abs().max()
        < 0.02
    )


def test_normal_is_normal() -> None:
    numbers = normal(SEEDS, AT, 40_001)
    assert numbers.shape == (4, 40_001)
    assert numbers.mean(1).abs().max() < 0.02
    assert (numbers.std(1) - 1).abs().max() < 0.02
    assert ((numbers.abs() < 1).float().mean(1) - 0.6827).abs().max() < 0.01
    assert numbers.isfinite().all()


def test_a_number_hangs_on_seed_and_position_alone() -> None:
    whole = uniform(SEEDS, AT, 9)
    for n in range(4):
        assert torch.equal(uniform(SEEDS[n : n + 1], AT[n : n + 1], 9)[0], whole[n])
    assert not torch.equal(uniform(SEEDS, AT + 1, 9), whole)
    assert len({tuple(row) for row in whole.tolist()}) == 4
