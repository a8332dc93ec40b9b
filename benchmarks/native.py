"""Sheets of native LR images, for the eye: bicubic, a shared model that assumes bicubic, one that uses the estimate.

    python -m benchmarks.native FOLDER sheet.png --pattern 'crowd_*.png'

There is no truth, so there is no figure: one row an image, three results side by side, each enlarged by whole pixels.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.estimator import Evidence, estimate_degradation, jpeg_of
from zssr_gan.degradation.model import Degradation
from zssr_gan.devices import RunOptions, machine
from zssr_gan.imaging.io import decode_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.shared import learn_shared

X2 = (2.0, 2.0)
ZOOM = 3
GAP = 6


def tile(results: list[Tensor]) -> Image.Image:
    """Results `3 H W` side by side, each pixel as `ZOOM` pixels a side."""
    levels = [(one.expand(3, -1, -1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy() for one in results]
    height, width = levels[0].shape[0] * ZOOM, levels[0].shape[1] * ZOOM
    row = Image.new("RGB", (len(levels) * (width + GAP), height + GAP), "white")
    for place, one in enumerate(levels):
        large = Image.fromarray(one).resize((width, height), Image.Resampling.NEAREST)
        row.paste(large, (place * (width + GAP), 0))
    return row


def main() -> None:
    """Estimate, learn, enlarge, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="*.png", help="the LR images; all are learnt from")
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--preset", default="quality")
    parser.add_argument("--shown", type=int, default=16, help="of the largest images, so many are shown")
    parser.add_argument("--columns", type=int, default=2)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    evidence = []
    for file in sorted(args.folder.glob(args.pattern)):
        data = file.read_bytes()
        pixels = decode_picture(data, str(file)).pixels
        if min(pixels.shape[-2:]) >= 8:
            evidence.append(Evidence(CaseImage(name=file.name, sha256=""), pixels.expand(3, -1, -1), jpeg_of(data)))
    estimate = estimate_degradation(evidence)
    print(estimate.summary, "-", estimate.why, flush=True)
    settings = load_preset(args.preset).for_case()
    images = [one.pixels for one in evidence]
    columns = [[resize(one, (2 * one.shape[1], 2 * one.shape[2])) for one in images]]
    with machine(RunOptions("auto", "auto", args.threads)) as used:
        for degradation in (Degradation(), estimate.degradation):
            downscale = degradation.downscale
            named = [(one.image, one.pixels) for one in evidence]
            start = learn_shared(named, settings, X2, downscale, seed=0, machine=used)
            task = Task.of(X2, settings.network.grid, downscale, used.precision)
            columns.append(apply_many(start.network(), images, settings, task))
    largest = np.argsort([-one.shape[1] for one in images])[: args.shown]
    rows = [tile([torch.as_tensor(column[n]) for column in columns]) for n in largest]
    width = max(row.width for row in rows) + 2 * GAP
    lines = [rows[at : at + args.columns] for at in range(0, len(rows), args.columns)]
    sheet = Image.new("RGB", (width * args.columns, sum(max(row.height for row in line) for line in lines)), "white")
    top = 0
    for line in lines:
        for place, row in enumerate(line):
            sheet.paste(row, (place * width, top))
        top += max(row.height for row in line)
    sheet.save(args.sheet)
    print(args.sheet)


if __name__ == "__main__":
    main()
