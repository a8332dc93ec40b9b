"""Quality and time of presets on a folder of truths: a network per image, or one model learnt on all LR images.

    python -m benchmarks.quality SET5 --preset fast --seeds 0,1,2
    python -m benchmarks.quality FACES --truth-side 64 --count 100
    python -m benchmarks.quality FACES --truth-side 64 --shared --seeds 0,1,2
    python -m benchmarks.quality FACES --truth-side 64 --shared --count 32 --case 8
    python -m benchmarks.quality SET5 --preset fast --jpeg 75 --images butterfly,bird

`--images` takes stems, comma-separated; `--count` so many, evenly chosen; `--truth-side` first shrinks the truths;
`--jpeg` saves the LR images with that quality, which no method knows; `--case` learns a shared model for each so many
images, in place of one for all.
Prints a line an image (with `--shared` a line a seed), then means, 95 % intervals of the gain over back-projection, the
worst image, and the spread over seeds. The protocol is in protocol.py.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import Case, back_projected, bicubic, make_case, options_of, parsed, score, some_of
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import machine
from zssr_gan.inference.enhance import enhance_picture
from zssr_gan.inference.request import Request
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.zeroshot.case import learn_case, read_lr
from zssr_gan.zeroshot.shared import SharedModel


def main() -> None:
    """Run a preset over the folder and print the figures."""
    args = parsed(
        __doc__,
        "folder",
        preset="quality",
        seeds="0",
        images="",
        count=0,
        truth_side=None,
        jpeg=None,
        shared=False,
        case=0,
    )
    files = sorted(args.folder.glob("*.png"))
    files = [file for file in files if not args.images or file.stem in args.images.split(",")]
    cases = [make_case(file, truth_side=args.truth_side, jpeg=args.jpeg) for file in some_of(files, args.count)]
    reference = np.array([score(back_projected(case), case.truth).psnr for case in cases])
    plain = np.mean([score(bicubic(case), case.truth).psnr for case in cases])
    print(f"{len(cases)} images, bicubic {plain:.3f}, bicubic + back-projection {reference.mean():.3f} dB", flush=True)
    psnr, ssim, seconds = [], [], []
    for seed in map(int, args.seeds.split(",")):
        began = time.perf_counter()
        models = learn(cases, seed, args) if args.shared else [None] * len(cases)
        learnt = time.perf_counter() - began
        scores, taken = enlarge(cases, seed, models, args)
        psnr.append(scores[:, 0])
        ssim.append(scores[:, 1])
        seconds.append(taken)
        gain = psnr[-1] - reference
        half = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        print(
            f"{args.preset}{', shared' if args.shared else ''}, seed {seed}: PSNR-Y {psnr[-1].mean():.3f} dB, SSIM-Y "
            f"{ssim[-1].mean():.4f}; over back-projection {gain.mean():+.3f} dB (95 % interval +-{half:.3f}), worst "
            f"{gain.min():+.2f} ({cases[int(gain.argmin())].name}), below it {int((gain < 0).sum())}; learnt in "
            f"{learnt:.0f} s, median {np.median(taken):.2f} s an image",
            flush=True,
        )
    if len(psnr) > 1:
        spread = np.std(np.array(psnr), 0, ddof=1).mean()
        print(f"mean of seeds {np.mean(psnr):.3f} dB; deviation over seeds, mean of the images: {spread:.3f} dB")


def learn(cases: list[Case], seed: int, args: argparse.Namespace) -> list[SharedModel | None]:
    """The model of each image, learnt on all LR images of its set, under the protocol's bicubic degradation."""
    settings = load_preset(args.preset).for_case()
    sets = max(1, len(cases) // args.case) if args.case else 1
    models: list[SharedModel | None] = []
    with machine(options_of(args)) as used:
        for number in range(sets):
            members = [CaseImage(name=case.name, sha256="") for case in cases[number::sets]]
            images = [
                read_lr(one, case.lr.pixels, None) for one, case in zip(members, cases[number::sets], strict=True)
            ]
            done = learn_case(images, seed=seed, degradations=BicubicDownscale(), settings=settings, machine=used)
            models.append(done.shared)
    return [models[place % sets] for place in range(len(cases))]


def enlarge(
    cases: list[Case], seed: int, models: Sequence[SharedModel | None], args: argparse.Namespace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSNR-Y and SSIM-Y of each case's result (`N 2`), and seconds of each."""
    settings = load_preset(args.preset)
    scores, seconds = [], []
    for case, shared in zip(cases, models, strict=True):
        own = settings if shared is None else settings.for_case()
        request = Request(own, seed=seed, shared=shared, options=options_of(args))
        began = time.perf_counter()
        made = enhance_picture(case.lr, request)
        seconds.append(time.perf_counter() - began)
        result = score(made.picture.pixels, case.truth)
        scores.append((result.psnr, result.ssim))
        if shared is None:
            print(f"{case.name:14} {result.psnr:6.2f} dB {result.ssim:.4f}  {seconds[-1]:6.1f} s", flush=True)
    return np.array(scores), np.array(seconds)


if __name__ == "__main__":
    main()
