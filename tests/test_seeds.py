"""Random numbers without a state, and seeds out of content and purpose: the same on every machine."""

from hashlib import sha256

import torch
from torch import Tensor

from zssr_gan.seeds import _GOLDEN, _mix, content_hash, derive_seed, generator, normal, uniform

SEEDS = torch.tensor([1, 2, -5, 2**62])
AT = torch.tensor([0, 0, 7, 7])


def test_known_values() -> None:
    """A change would make every recorded result impossible to make again; SplitMix64's are its authors'."""
    states = 1234567 + torch.arange(1, 4) * _GOLDEN
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [number % 2**64 for number in _mix(states).tolist()] == published
    assert derive_seed(0, "abc", 1) == 419806474091820261 == int.from_bytes(sha256(b"0|abc|1").digest()[:8], "big") >> 1
    assert content_hash(torch.zeros(1, 2, 2)).startswith("56f46952d721")


def test_uniform_is_even() -> None:
    numbers = uniform(SEEDS, AT, 40_000)
    assert (numbers.shape, numbers.dtype) == ((4, 40_000), torch.float32)
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    shares = torch.stack([torch.histc(row, 20, 0, 1) for row in numbers]) / 40_000
    assert (shares - 0.05).abs().max() < 0.006
    neighbours = torch.stack([numbers[0, 1:], numbers[0, :-1], numbers[1, 1:]])
    assert torch.corrcoef(neighbours).fill_diagonal_(0).abs().max() < 0.02


def test_normal_is_normal() -> None:
    numbers = normal(SEEDS, AT, 40_001)
    assert numbers.mean(1).abs().max() < 0.02
    assert (numbers.std(1) - 1).abs().max() < 0.02
    assert ((numbers.abs() < 1).float().mean(1) - 0.6827).abs().max() < 0.01


def test_a_number_depends_on_seed_and_position_alone() -> None:
    whole = uniform(SEEDS, AT, 9)
    for n in range(4):
        assert torch.equal(uniform(SEEDS[n : n + 1], AT[n : n + 1], 9)[0], whole[n])
    assert not torch.equal(uniform(SEEDS, AT + 1, 9), whole)
    assert len({tuple(row) for row in whole.tolist()}) == 4


def test_content_and_shape_decide(face: Tensor) -> None:
    other = face.clone()
    other[0, 3, 4] += 2 / 65535
    assert content_hash(face) == content_hash(face + 1e-7) != content_hash(other)
    assert content_hash(torch.zeros(1, 2, 8)) != content_hash(torch.zeros(1, 4, 4))


def test_seeds_of_other_purposes_differ() -> None:
    seeds = [derive_seed(*parts) for parts in ((1, 2), (2, 1), (12,), (1, 2, 0), ("weights", 1), ("pairs", 1))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    draws = [torch.rand(4, generator=generator("pairs", number)) for number in (3, 3, 4)]
    assert torch.equal(*draws[:2])
    assert not torch.equal(*draws[1:])
