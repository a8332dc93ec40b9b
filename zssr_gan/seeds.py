"""Seeds out of the run's seed and an image's content, and random numbers as a function of a seed and a position.

No draw depends on an image's place in a batch. A number is a hash of a network's seed, its iteration, and the number's
place within that, so that networks can join and leave a fleet; a generator for each would be a Python loop at every
step. The hash is SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").

Shapes: N members.
"""

import hashlib
import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number: the odd integer nearest to 2^64 / golden ratio

_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9

_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB

_FRACTION = 24  # bits that a float32 holds


def uniform(seed_N: Tensor, position_N: Tensor, count: int) -> Tensor:
    """Numbers evenly spread over [0, 1).

    Args:
        seed_N: int64, a member's own; streams for several purposes take seeds of their own.
        position_N: int64, e.g. a member's iteration.
        count: numbers for each member.

    Returns:
        `N count` float32 on the device of the seeds.
    """
    start_N1 = _mix(_mix(seed_N) + position_N * _GOLDEN)[:, None]
    place = torch.arange(1, count + 1, device=seed_N.device)
    bits = _mix(start_N1 + place * _GOLDEN)
    return _shifted(bits, 64 - _FRACTION).float() * 2.0**-_FRACTION


def normal(seed_N: Tensor, position_N: Tensor, count: int) -> Tensor:
    """Standard normal numbers `N count` (Box and Muller 1958); arguments as of `uniform`."""
    half = -(-count // 2)
    numbers = uniform(seed_N, position_N, 2 * half)
    radius = (-2 * torch.log1p(-numbers[:, :half])).sqrt()
    angle = 2 * math.pi * numbers[:, half:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _MIX_1
    z = (z ^ _shifted(z, 27)) * _MIX_2
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shifted to the right with zeros coming in, where torch brings in copies of the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def content_hash(image: Tensor) -> str:
    """SHA-256 of an image's pixels (rounded to 16 bit, so that it is the same on every device) and its shape."""
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    # In parts: of a photograph, 32-bit levels of all pixels at once would be a second photograph in memory.
    for part in image.detach().flatten().split(2**22):
        levels = (part.cpu().clamp(0, 1) * 65535).round().to(torch.int32)
        digest.update(levels.numpy().tobytes())
    return digest.hexdigest()


def derive_seed(*parts: object) -> int:
    """A 63-bit seed out of anything with a stable text form; another purpose or number gives an unrelated one."""
    digest = hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by `derive_seed(*parts)`: the same draws on every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))
