"""Quality of a shared model: one network learnt on all LR images of a folder, against back-projection and scratch.

    python -m benchmarks.case_quality FACES --truth-side 64 --seeds 0,1,2
    python -m benchmarks.case_quality FACES --truth-side 64 --preset fast --against paper --count 30

The LR images alone are learnt from. `--against` also enlarges `--count` of them by networks of their own (a fleet).
Prints gains over bicubic + back-projection with 95 % intervals. The protocol is in protocol.py.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.protocol import Case, back_projected, make_case, picture, score
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.shared import SharedModel, learn_shared
from zssr_gan.zeroshot.steps import fleet_capacity
from zssr_gan.zeroshot.upscale import upscale

X2 = (2.0, 2.0)
DOWNSCALE = BicubicDownscale()


def interval(values: NDArray[np.float64]) -> str:
    """Mean, half its 95 % interval, and the least."""
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():+.3f} dB (95 % interval +-{half:.3f}), worst {values.min():+.2f}"


def enlarge(
    cases: list[Case], settings: ZeroShotSettings, seed: int, used: Machine, shared: SharedModel | None
) -> NDArray[np.float64]:
    """PSNR-Y of each case's result."""
    jobs = (
        (
            number,
            upscale(
                case.lr.pixels.to(used.device),
                X2,
                settings.for_size(case.lr.pixels[0].numel()) if shared is None else settings,
                DOWNSCALE,
                used,
                seed=seed,
                shared=shared,
            ),
        )
        for number, case in enumerate(cases)
    )
    size = (cases[0].lr.pixels.shape[-2], cases[0].lr.pixels.shape[-1])
    capacity = fleet_capacity(used.device, settings.for_size(size[0] * size[1]), size)
    psnr = np.zeros(len(cases))
    for ended in run_jobs(jobs, capacity):
        if ended.error is not None:
            raise ended.error
        assert ended.result is not None
        made = picture(ended.result.image_CHW.cpu()).pixels
        psnr[ended.key] = score(made, cases[ended.key].truth).psnr
    return psnr


def main() -> None:
    """Learn, enlarge, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="quality", help="a preset, or a YAML file")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--truth-side", type=int, default=None, help="shrink the truths to this side first")
    parser.add_argument("--against", default="", help="a preset for networks of each image's own")
    parser.add_argument("--count", type=int, default=30, help="images for --against, evenly chosen")
    parser.add_argument("--limit", type=int, default=0, help="take so many images only, evenly chosen; 0 takes all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()

    files = sorted(args.folder.glob("*.png"))
    if args.limit:
        files = [files[i] for i in np.linspace(0, len(files) - 1, args.limit).round().astype(int)]
    cases = [make_case(file, truth_side=args.truth_side) for file in files]
    reference = np.array([score(back_projected(case), case.truth).psnr for case in cases])
    print(f"{len(cases)} images, bicubic + back-projection {reference.mean():.3f} dB", flush=True)
    settings = load_preset(args.preset).for_case()
    images = [(CaseImage(name=case.name, sha256=""), case.lr.pixels) for case in cases]
    seeds = [int(seed) for seed in args.seeds.split(",")]
    gains = []
    with machine(RunOptions(args.device, args.precision, args.threads)) as used:
        for seed in seeds:
            began = time.perf_counter()
            shared = learn_shared(images, settings, X2, DOWNSCALE, seed=seed, machine=used)
            learnt = time.perf_counter()
            psnr = enlarge(cases, settings, seed, used, shared)
            each = (time.perf_counter() - learnt) / len(cases)
            gains.append(psnr - reference)
            print(
                f"{args.preset} shared, seed {seed}: {psnr.mean():.3f} dB, over back-projection {interval(gains[-1])}; "
                f"below it {int((gains[-1] < 0).sum())}; learnt in {learnt - began:.0f} s, {each:.3f} s an image",
                flush=True,
            )
        if args.against:
            chosen = np.linspace(0, len(cases) - 1, args.count).round().astype(int)
            began = time.perf_counter()
            own = enlarge([cases[i] for i in chosen], load_preset(args.against), seeds[0], used, None)
            each = (time.perf_counter() - began) / args.count
            print(
                f"{args.against} scratch, {args.count} images: over back-projection {interval(own - reference[chosen])}"
            )
            print(f"  {each:.1f} s an image; shared over it {interval(gains[0][chosen] + reference[chosen] - own)}")
    if len(seeds) > 1:
        spread = torch.tensor(np.array(gains)).std(0)
        print(f"standard deviation over seeds, mean of the images: {float(spread.mean()):.3f} dB")


if __name__ == "__main__":
    main()
