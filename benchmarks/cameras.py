"""Protocol `cameras`: sets of faces with several blurs; what a blur of each third, or each face's motion, is worth.

    python -m benchmarks.cameras FACES --estimate-only
    python -m benchmarks.cameras FACES --preset fast --depth 6 --iterations 200
    python -m benchmarks.cameras FACES --depth 6 --iterations 200 --only motions --lens 1.2 --noise 4

Truth = the face at 64x64 (antialiased bicubic, 8 bit). Of `--size` faces, chosen by the seed, a third each has one
of the blurs below; then antialiased bicubic halving and noise of `--noise`/255. Beside it a set with one blur, in
which no image may get a blur of its own, and a set (`motions`) in which each face moved straight by 3 to 7 HR pixels in
a direction of its own, through a lens with a Gaussian of `--lens` HR pixels. `--only` takes one of the sets. Prints
what was found; then PSNR-Y (protocol.py) of bicubic, and of a shared model that assumes bicubic, one blur of all
(`pooled`), the estimate, and each face's true blur. `--depth` and `--iterations` make the network of the preset smaller
(a proxy; its figures are not the preset's).
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from benchmarks.blind import SIDE, X2, make_group, mean_psnr
from benchmarks.protocol import case_settings, options_of, parsed, show_row
from benchmarks.shapes import words
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, MotionBlur, Noise
from zssr_gan.devices import Machine, machine
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.shared import learn_shared

BLURS = (
    GaussianBlur(sigma_major=0.35, sigma_minor=0.35, angle_degrees=0),
    GaussianBlur(sigma_major=0.7, sigma_minor=0.55, angle_degrees=40),
    GaussianBlur(sigma_major=1.1, sigma_minor=0.9, angle_degrees=120),
)
SETS = ("three", "one", "motions")


def blurs_of(name: str, count: int, lens: float, seed: int) -> list[Blur]:
    """The blur of each face of a set."""
    if name != "motions":
        return [BLURS[n % len(BLURS) if name == "three" else 1] for n in range(count)]
    rng = np.random.default_rng(seed)
    return [
        MotionBlur(length=rng.uniform(1.5, 3.5), angle_degrees=rng.uniform(0, 180), sigma=lens / 2)
        for _ in range(count)
    ]


def enlarged(
    evidence: list[Evidence], degradations: list[Degradation], settings: ZeroShotSettings, seed: int, used: Machine
) -> list[torch.Tensor]:
    """Results of one network learnt on LR images, each under its own degradation."""
    downscales = {one.sha256: one.downscale for one in degradations}
    each = [downscales[one.sha256] for one in degradations]
    images = [(one.image, one.pixels) for one in evidence]
    network = learn_shared(images, settings, X2, each, seed=seed, machine=used).network()
    results = dict[int, torch.Tensor]()
    for downscale in downscales.values():
        places = [place for place, one in enumerate(each) if one is downscale]
        task = Task.of(X2, settings.network.grid, downscale, used.precision)
        made = apply_many(network, [evidence[place].pixels.to(used.device) for place in places], settings, task)
        results |= dict(zip(places, made, strict=True))
    return [results[place] for place in range(len(evidence))]


def main() -> None:
    """Degrade, estimate, learn, enlarge, and print."""
    options = {"depth": 0, "iterations": 0, "estimate_only": False, "only": "", "lens": 0.0, "noise": 1.5}
    args = parsed(__doc__, "folder", preset="fast", size=60, seed=0, **options)
    settings = case_settings(args)
    paths = np.array(sorted(args.folder.glob("*.png")))
    chosen = np.random.default_rng(args.seed).permutation(len(paths))[: args.size]
    truths = torch.stack([rounded(resize(read_picture(one).pixels, (SIDE, SIDE))) for one in paths[chosen]])
    for name in [args.only] if args.only else SETS:
        noise, evidence = Noise(sigma=args.noise / 255), list[Evidence]()
        blurs = blurs_of(name, len(truths), args.lens, args.seed)
        true = [Degradation(blur=blur, noise=noise) for blur in blurs]
        for number, degradation in enumerate(true):
            (one,) = make_group(truths[number : number + 1], degradation, args.seed * 1000 + number).evidence
            evidence.append(replace(one, image=CaseImage(name=f"{number:03d}", sha256=f"{number:064x}")))
        estimate = estimate_degradation(evidence, seed=args.seed)
        each = [estimate.of(one.image.sha256) for one in evidence]
        print(f"{name}: all {words(estimate.degradation.blur)}; {estimate.why}")
        for (blur, own), count in Counter((a.blur, b.blur) for a, b in zip(true, each, strict=True)).items():
            print(f"  {count} of {words(blur)}: {words(own)}", flush=True)
        if args.estimate_only or name == "one":
            continue
        cameras = ([Degradation()] * len(true), [estimate.degradation] * len(true), each, true)
        results = [[*resize(torch.stack([one.pixels for one in evidence]), (SIDE, SIDE))]]
        with machine(options_of(args)) as used:
            results += [enlarged(evidence, list(one), settings, args.seed, used) for one in cameras]
        show_row("blur", "bicubic", "assumes bicubic", "pooled", "estimate", "truth")
        for camera in (*(BLURS if name == "three" else ()), None):
            places = [n for n, one in enumerate(true) if camera in (None, one.blur)]
            psnr = [mean_psnr([one[n] for n in places], truths[places]) for one in results]
            show_row("all" if camera is None else words(camera), *psnr)


if __name__ == "__main__":
    main()
