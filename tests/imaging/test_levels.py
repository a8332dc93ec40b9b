"""Levels and back: nothing is lost on the way."""

import torch

from zssr_gan.imaging.colour import from_levels, to_levels


def test_there_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = from_levels(levels)
    assert (pixels.dtype, float(pixels[0]), float(pixels[-1])) == (torch.float32, 0, 1)
    assert torch.equal(pixels, (levels.double() / 255).float())
    assert torch.equal(to_levels(pixels), levels)


def test_the_nearest_and_what_lies_beyond() -> None:
    assert to_levels(torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 1.3])).tolist() == [0, 0, 1, 255]
