"""How often the JPEG quality of crops is read from their pixels, and how often it is read where there is none.

    python -m benchmarks.crops DATA

Protocol: a photograph of DATA/set5 resized to 464 px, faces of DATA/faces at 64 px pasted at even places on it, the
whole halved, noise of 1.5 levels, compressed by Pillow (4:2:0), and the faces cut out at 32x32 px or, of their middle,
16x20. `photograph` crops are cut at any even place of a photograph that is compressed as it is, flat places too. The
estimator's constants were chosen on scikit-image's photographs and on the other half of the faces. Prints the share
within 1 of the true quality, not known (or not seen) and wrong, with 95 % intervals (Wilson) over all seeds.
"""

import argparse
import io
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from zssr_gan.degradation.compression import find_compression

SIZES = ((32, 32), (16, 20))
IN_A_SET = 24
RESAVED = 90
LOSSLESS = ("astronaut", "camera", "chelsea", "coffee", "moon", "brick", "gravel", "cell", "clock")
LOSSY = ("woman",)  # of set5: quality 75, in every part and from the corner on
COMPRESSED = {"page": "Photoshop's table", "coins": "85", "grass": "90", "immunohistochemistry": "75"}
"""Photographs that scikit-image ships as PNG with a lattice of more than 100 nats in every part, all in one phase."""


def pixels(image: Image.Image) -> Tensor:
    """`C H W` in [0, 1]."""
    levels = torch.from_numpy(np.array(image)).float() / 255
    return levels.permute(2, 0, 1) if levels.dim() == 3 else levels[None]


def saved(image: Image.Image, quality: int | None) -> Image.Image:
    """As it is read from a JPEG file; None leaves it as it is."""
    if quality is None:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


class Scenes:
    """Scenes and photographs of one seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draws = np.random.default_rng(seed)
        paths = [path for path in sorted((folder / "set5").glob("*.png")) if path.stem not in LOSSY]
        self.photographs = [Image.open(path).convert("RGB") for path in paths]
        faces = sorted((folder / "faces").glob("*.png"))[1::2]
        self.faces = [Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC) for path in faces]

    def crops(self, quality: int | None, count: int, size: tuple[int, int]) -> list[Image.Image]:
        """Faces of one compressed scene."""
        photograph = self.photographs[self.draws.integers(len(self.photographs))]
        scene = photograph.resize((464, 464), Image.Resampling.BICUBIC)
        corners = []
        for place in range(25):
            x, y = (88 * axis + 2 * int(self.draws.integers(16)) for axis in divmod(place, 5))
            scene.paste(self.faces[self.draws.integers(len(self.faces))], (x, y))
            corners.append((x // 2 + (32 - size[1]) // 2, y // 2 + (32 - size[0]) // 2))
        halved = np.asarray(scene.resize((232, 232), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = (halved + self.draws.normal(0, 1.5, halved.shape)).round().clip(0, 255).astype(np.uint8)
        whole = saved(Image.fromarray(noisy), quality)
        return [
            whole.crop((x, y, x + size[1], y + size[0])) for x, y in self.draws.permutation(corners)[:count].tolist()
        ]

    def of_photograph(self, quality: int | None, size: tuple[int, int]) -> Image.Image:
        """A crop of a compressed photograph, at any even place."""
        whole = saved(self.photographs[self.draws.integers(len(self.photographs))], quality)
        x, y = (
            2 * int(self.draws.integers((side - length) // 2))
            for side, length in zip(whole.size, size[::-1], strict=True)
        )
        return whole.crop((x, y, x + size[1], y + size[0]))


def found(images: Sequence[Image.Image]) -> tuple[int | None, bool, float]:
    """Quality of the largest group that has one, whether it is under a re-save, and the share of images in it."""
    groups = find_compression([pixels(image) for image in images]).groups
    known = [group for group in groups if group.quality is not None]
    first = known[0] if known else groups[0]
    return first.quality, first.resaved, len(first.images) / len(images)


def verdict(quality: int | None, true: int) -> str:
    """`right` within 1, `unknown` or `wrong`."""
    return "unknown" if quality is None else "right" if abs(quality - true) <= 1 else "wrong"


def interval(count: int, of: int) -> str:
    """A share with its 95 % interval (Wilson), in per cent."""
    if not of:
        return "-"
    p, z = count / of, 1.96
    centre, half = (p + z * z / (2 * of)), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = (100 * max(0.0, value) / (1 + z * z / of) for value in (centre - half, centre + half))
    return f"{100 * p:.1f} % ({low:.1f} to {min(100, high):.1f})"


def row(name: str, verdicts: Sequence[str]) -> None:
    """Print a line of the table."""
    counts, of = Counter(verdicts), len(verdicts)
    print(f"| {name} | {of} | {interval(counts['right'], of)} | {counts['unknown']} | {counts['wrong']} |", flush=True)


def singles(scenes: Sequence[Scenes], step: int) -> None:
    """Single crops of scenes and of photographs."""
    for height, width in SIZES:
        verdicts = []
        for one in scenes:
            for quality in range(50, 93, step):
                crops = one.crops(quality, 3, (height, width))
                verdicts += [verdict(found([crop])[0], quality) for crop in crops]
        row(f"one crop, {height}x{width}", verdicts)
    verdicts = [
        verdict(found([one.of_photograph(quality, (32, 32))])[0], quality)
        for one in scenes
        for quality in range(50, 93, step)
    ]
    row("one photograph crop, 32x32", verdicts)


def sets(scenes: Sequence[Scenes]) -> None:
    """Sets of crops of one scene; then the same saved again."""
    for size in SIZES:
        verdicts, shares = [], []
        for number, one in enumerate(scenes):
            for quality in range(50 + number, 93, 8):
                quality_found, _, share = found(one.crops(quality, IN_A_SET, size))
                verdicts.append(verdict(quality_found, quality))
                shares.append(share)
        row(f"sets of {IN_A_SET}, {size[0]}x{size[1]} (in the group: {100 * np.mean(shares):.0f} % of crops)", verdicts)
    for name, qualities in (("first 50 to 80", (50, 57, 65, 72, 80)), ("first 90 to 97", (91, 95))):
        verdicts, shares = [], []
        for one in scenes:
            for quality in qualities:
                again = [saved(crop, RESAVED) for crop in one.crops(quality, IN_A_SET, (32, 32))]
                quality_found, resaved, share = found(again)
                verdicts.append(verdict(quality_found if resaved else None, quality))
                shares.append(share)
        row(f"sets of {IN_A_SET}, {name}, then {RESAVED} ({100 * np.mean(shares):.0f} % of crops)", verdicts)


def clean(scenes: Sequence[Scenes], folder: Path) -> Iterator[tuple[str, str]]:
    """Name and summary of what was never compressed."""
    for one in scenes:
        for number in range(10):
            for size in SIZES:
                summary = find_compression([pixels(crop) for crop in one.crops(None, IN_A_SET, size)]).summary
                yield f"set {number} of {size}", summary
    for path in sorted((folder / "set5").glob("*.png")):
        if path.stem in LOSSY:
            continue
        yield path.stem, find_compression([pixels(Image.open(path))]).summary
    for name in LOSSLESS:
        yield name, find_compression([pixels(Image.fromarray(getattr(data, name)()))]).summary
    for path in sorted((folder / "faces").glob("*.png"))[1::2]:
        halved = Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
        yield path.stem, find_compression([pixels(halved)]).summary


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="holds set5/ and faces/")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--step", type=int, default=3, help="between the qualities of single crops")
    parser.add_argument("--only", choices=["singles", "sets", "clean"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    scenes = [Scenes(args.data, int(seed)) for seed in args.seeds.split(",")]
    print("| images | tests | within 1 of the true quality | not known or not seen | wrong |")
    print("| --- | --- | --- | --- | --- |")
    if args.only in (None, "singles"):
        singles(scenes, args.step)
    if args.only in (None, "sets"):
        sets(scenes)
    if args.only in (None, "clean"):
        taken = list(clean(scenes, args.data))
        false = [f"{name}: {summary}" for name, summary in taken if "JPEG quality" in summary or "by JPEG" in summary]
        print(
            f"\nnever compressed: {len(taken)} sets, photographs and faces, {len(false)} taken for compressed", *false
        )
        for name, truth in COMPRESSED.items():
            print(f"scikit-image's {name} ({truth}): ", end="")
            print(find_compression([pixels(Image.fromarray(getattr(data, name)()))]).summary)
        crops = scenes[0].crops(75, IN_A_SET, (32, 32))
        start = time.process_time()
        found(crops)
        print(f"{IN_A_SET} crops of 32 px: {time.process_time() - start:.1f} s of one core")


if __name__ == "__main__":
    main()
