"""The protocol of every quality figure: how LR images come out of truths, and how results are compared with them.

LR = the truth shrunk by antialiased bicubic, rounded to 8 bits. PSNR and SSIM on the Y channel (ITU-R BT.601 with
MATLAB's rgb2ycbcr weights, 16 to 235) of the 8-bit result, a border of `scale` pixels cropped: the package's own
definitions (`zssr_gan.evaluation.metrics.full_reference`), SSIM with Gaussian weights of sigma 1.5 as Wang et al. 2004.
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.devices import RunOptions
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.metric import Sample
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.colour import to_levels
from zssr_gan.imaging.io import decode_picture, read_picture
from zssr_gan.imaging.picture import Metadata, Picture, quantise
from zssr_gan.imaging.resize import resize


@dataclass(frozen=True, slots=True)
class Case:
    """One image: its name, the truth `3 sH sW` and the LR picture."""

    name: str
    truth: Tensor
    lr: Picture


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR in dB and SSIM, both on Y."""

    psnr: float
    ssim: float


def picture(pixels: Tensor) -> Picture:
    """`C H W` as an 8-bit picture without metadata."""
    return quantise(Picture(pixels, None, 8, Metadata(None, None, None)))


def make_case(path: Path, scale: int = 2, truth_side: int | None = None, jpeg: int | None = None) -> Case:
    """A truth from a file (first shrunk to `truth_side` where given), cut to whole multiples of `scale`, and its LR,
    saved by Pillow as JPEG of quality `jpeg` where that is given, and read again."""
    truth = read_picture(path).pixels
    if truth_side is not None:
        truth = rounded(resize(truth, (truth_side, truth_side)))
    height, width = (side // scale * scale for side in truth.shape[-2:])
    truth = truth[:, :height, :width]
    lr = picture(resize(truth, (height // scale, width // scale)))
    if jpeg is not None:
        file = io.BytesIO()
        Image.fromarray(to_levels(lr.pixels).permute(1, 2, 0).numpy()).save(file, "JPEG", quality=jpeg)
        lr = decode_picture(file.getvalue(), path.stem)
    return Case(path.stem, truth, lr)


def score(result: Tensor, truth: Tensor, scale: int = 2) -> Score:
    """Compare a result with its truth; images that are equal have 100 dB. FigureError where they are too small."""
    sample = Sample(result, truth)
    return Score(psnr("Y", scale)(sample).number(), ssim("Y", scale)(sample).number())


def bicubic(case: Case) -> Tensor:
    """The plain interpolation of the LR image to the truth's size."""
    return resize(case.lr.pixels, (case.truth.shape[-2], case.truth.shape[-1]))


def back_projected(case: Case, iterations: int = 10) -> Tensor:
    """Interpolation with back-projections, no network: the reference that a network must beat."""
    lr = case.lr.pixels[None]
    return back_project(bicubic(case)[None].clone(), lr, BicubicDownscale(), iterations)[0]


def parsed(text: str | None, *paths: str, **options: Any) -> argparse.Namespace:
    """Parse a benchmark's command line.

    Args:
        text: the module's docstring, for `--help`; it says what the options are.
        paths: names of the files or folders that must be given.
        options: default of each option; None takes whole numbers, False is a flag. Those of a machine are always there.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in paths:
        parser.add_argument(name, type=Path)
    for name, default in {"device": "auto", "precision": "auto", "threads": None, **options}.items():
        flag = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, default=default, type=int if default is None else type(default))
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> RunOptions:
    """What the options of `parsed` say of the machine."""
    return RunOptions(args.device, args.precision, args.threads)


def show_row(*cells: object) -> None:
    """Print a row of a Markdown table; numbers with two decimals."""
    print(
        "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


_Item = TypeVar("_Item")


def some_of(items: Sequence[_Item], count: int) -> list[_Item]:
    """So many items, evenly chosen; 0 takes all."""
    places = np.linspace(0, len(items) - 1, count or len(items)).round().astype(int)
    return [items[place] for place in places]
