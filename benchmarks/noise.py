"""Noisy single pictures: what `enhance` makes of them unasked, and with the noise given, against bicubic.

    python -m benchmarks.noise FACES

Truths: scikit-image's astronaut and coffee (middle squares) and the first image of FACES, in colour and in gray, shrunk
to twice 32 and twice 128 pixels (the face, which is smaller, to twice 64). LR: the truth halved by bicubic, white noise
of 5 and of 10 levels of 255, rounded to 8 bits. Prints the PSNR over all channels (dB) of bicubic, and the gain over it
of `enhance(image, preset="fast")` with the noise ignored, with no option, and with the noise given.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import data
from torch import Tensor

from benchmarks.protocol import parsed, show_row
from zssr_gan.imaging.colour import LEVELS, from_levels, luma_of, psnr_db, to_levels
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.arrays import enhance

_SIDES = {"astronaut": (32, 128), "coffee": (32, 128), "face": (32, 64)}


def truths(faces: Path) -> dict[str, Tensor]:
    """`3 H W` in [0, 1] by name, square."""
    photographs = {name: torch.from_numpy(getattr(data, name)()).permute(2, 0, 1) for name in ("astronaut", "coffee")}
    images = {name: from_levels(levels) for name, levels in photographs.items()}
    images["face"] = read_picture(min(faces.glob("*.png"))).pixels
    return {name: _square(image) for name, image in images.items()}


def _square(image: Tensor) -> Tensor:
    side = min(image.shape[1:])
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    return image[:, top : top + side, left : left + side]


def gain(result: np.ndarray, truth: Tensor) -> float:
    """PSNR in dB over all channels of an 8-bit result `H W C`."""
    levels = torch.from_numpy(np.atleast_3d(result)).permute(2, 0, 1)
    return psnr_db(float((from_levels(levels) - from_levels(to_levels(truth))).square().mean()))


def main() -> None:
    """Make noisy LR images, enhance them, and print."""
    args = parsed(__doc__, "faces", preset="fast", seed=0, sides="")
    rng, rows = torch.Generator().manual_seed(args.seed), []
    print("| picture | kind | side | noise | bicubic | ignored | no option | given |\n| --- |" + " ---: |" * 7)
    for name, image in truths(args.faces).items():
        for side in map(int, args.sides.split(",")) if args.sides else _SIDES[name]:
            for kind, scene in (("colour", image), ("gray", luma_of(image)[None])):
                truth = resize(scene, (2 * side, 2 * side)).clamp(0, 1)
                clean = resize(truth, (side, side)).clamp(0, 1)
                for noise in (5, 10):
                    drawn = torch.randn(clean.shape, generator=rng)
                    lr = to_levels((clean + noise / LEVELS * drawn).clamp(0, 1))
                    shown = np.squeeze(lr.permute(1, 2, 0).numpy())
                    bicubic = resize(from_levels(lr), (2 * side, 2 * side)).clamp(0, 1)
                    plain = psnr_db(float((bicubic - from_levels(to_levels(truth))).square().mean()))
                    ways: tuple[dict[str, Any], ...] = ({"degradation": "bicubic"}, {}, {"noise": noise / LEVELS})
                    found = [
                        gain(enhance(shown, 2, args.preset, seed=args.seed, threads=args.threads, **way), truth) - plain
                        for way in ways
                    ]
                    rows.append(found)
                    show_row(name, kind, side, noise, plain, *(f"{value:+.2f}" for value in found))
    table = np.array(rows)
    for what, values in (("mean", table.mean(0)), ("least", table.min(0))):
        show_row(what, "", "", "", "", *(f"{value:+.2f}" for value in values))


if __name__ == "__main__":
    main()
