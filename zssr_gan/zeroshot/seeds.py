"""Seeds out of content: a run's seed and the image's pixels decide every random draw, its place in a batch none."""

import hashlib

import torch
from torch import Tensor


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
