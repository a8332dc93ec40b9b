"""Quality and time of presets on a folder of truths.

    python -m benchmarks.quality FOLDER --preset quality --seeds 0,1,2
    python -m benchmarks.quality FOLDER --preset fast --images baby,bird --threads 2
    python -m benchmarks.quality FACES --truth-side 64 --count 100 --json runs/faces.json

Prints a line an image and run, and at the end means, intervals and the table's row. The protocol is in protocol.py.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.protocol import back_projected, bicubic, make_case, score
from zssr_gan.devices import RunOptions
from zssr_gan.inference.enhance import enhance_picture
from zssr_gan.inference.request import Request
from zssr_gan.settings.zeroshot import load_preset


@dataclass(frozen=True, slots=True)
class Run:
    """One image enhanced with one seed; PSNR in dB and SSIM on Y."""

    image: str
    seed: int
    psnr: float
    ssim: float
    seconds: float
    bicubic: float
    """PSNR of the plain interpolation."""
    back_projection: float
    """PSNR of the interpolation with back-projections."""
    share: float
    """How much of the network's result was used."""
    choice: dict[str, Any]
    """Why so much: the record's account of the choice."""


def main() -> None:
    """Run the presets over the folder and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="quality", help="a preset, or a YAML file")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", default="", help="stems, comma-separated; all where not given")
    parser.add_argument("--count", type=int, default=0, help="so many images, evenly chosen; 0 takes all")
    parser.add_argument("--truth-side", type=int, default=None, help="shrink the truths to this side first")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write every run's figures here")
    args = parser.parse_args()

    files = sorted(args.folder.glob("*.png"))
    if args.images:
        files = [file for file in files if file.stem in args.images.split(",")]
    if args.count:
        files = [files[i] for i in np.linspace(0, len(files) - 1, args.count).round().astype(int)]
    settings = load_preset(args.preset)
    options = RunOptions(args.device, args.precision, args.threads)
    runs = []
    for file in files:
        case = make_case(file, truth_side=args.truth_side)
        plain, reference = score(bicubic(case), case.truth), score(back_projected(case), case.truth)
        for seed in map(int, args.seeds.split(",")):
            began = time.perf_counter()
            made = enhance_picture(case.lr, Request(settings, seed=seed, options=options))
            seconds = time.perf_counter() - began
            result = score(made.picture.pixels, case.truth)
            choice = asdict(made.work.choice)
            run = Run(
                case.name,
                seed,
                result.psnr,
                result.ssim,
                seconds,
                bicubic=plain.psnr,
                back_projection=reference.psnr,
                share=choice["share"],
                choice=choice,
            )
            runs.append(run)
            print(
                f"{run.image:14} seed {seed}  {run.psnr:6.2f} dB {run.ssim:.4f}  {seconds:6.1f} s  "
                f"bicubic {run.bicubic:.2f}  back-projection {run.back_projection:.2f}  share {run.share:.2f}",
                flush=True,
            )
    summarise(args.preset, runs)
    if args.json:
        args.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))


def summarise(preset: str, runs: list[Run]) -> None:
    """Means, the interval of the gain over back-projection, the worst image, and the spread over seeds."""
    images = sorted({run.image for run in runs})
    by_image = [[run for run in runs if run.image == name] for name in images]
    seconds = np.array([run.seconds for run in runs])
    gain = np.array([np.mean([run.psnr - run.back_projection for run in group]) for group in by_image])
    half = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
    spread = ""
    if len(by_image[0]) > 1:  # one seed has no spread
        deviation = np.mean([np.std([run.psnr for run in group], ddof=1) for group in by_image])
        spread = f"  standard deviation over seeds, mean of the images: {deviation:.3f} dB\n"
    print(
        f"\n{preset}: {len(images)} images, {len(runs)} runs, {torch.get_num_threads()} threads\n"
        f"  PSNR-Y {np.mean([run.psnr for run in runs]):.3f} dB, "
        f"SSIM-Y {np.mean([run.ssim for run in runs]):.4f}; "
        f"bicubic {np.mean([run.bicubic for run in runs]):.3f}, bicubic + back-projection "
        f"{np.mean([run.back_projection for run in runs]):.3f}\n"
        f"  over back-projection {gain.mean():+.3f} dB (95 % interval +-{half:.3f}), worst image {gain.min():+.3f} dB "
        f"({images[int(gain.argmin())]})\n"
        f"{spread}"
        f"  seconds an image: median {np.median(seconds):.1f}, {seconds.min():.1f} to "
        f"{seconds.max():.1f}; share of the network {np.mean([run.share for run in runs]):.2f}"
    )


if __name__ == "__main__":
    main()
