"""Seconds to measure PSNR and SSIM of 10,000 pairs of 64x64, and to make means and intervals of them.

    python -m benchmarks.evaluation_speed --threads 1

Random pictures: the time does not depend on what is in them. Milliseconds a pair of single figures follow.
"""

import time

import numpy as np
import torch

from benchmarks.protocol import parsed
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Metric, Sample
from zssr_gan.evaluation.metrics.no_reference import sharpness
from zssr_gan.evaluation.summary import paired, summarise

DIFFERENT = 100
SIDE = 64


def main() -> None:
    """Print the seconds of each part."""
    args = parsed(__doc__, pairs=10_000)
    torch.set_num_threads(args.threads or 1)
    draws = torch.Generator().manual_seed(0)
    truths = torch.rand(DIFFERENT, 3, SIDE, SIDE, generator=draws)
    results = truths + 0.05 * torch.randn(truths.shape, generator=draws)
    samples = [Sample(result, truth) for result, truth in zip(results, truths, strict=True)][: args.pairs]
    asked = [psnr("Y", 2), ssim("Y", 2)]
    for metric in (*asked, vif()):
        metric(samples[0])  # imports
    began = time.perf_counter()
    columns = [[metric(samples[n % len(samples)]) for n in range(args.pairs)] for metric in asked]
    measured = time.perf_counter()
    for column in columns:
        summarise(column)
        paired(column, column[::-1])
    ended = time.perf_counter()
    print(f"{args.pairs} pairs of {SIDE}x{SIDE}, {torch.get_num_threads()} threads: PSNR and SSIM", end=" ")
    print(f"{measured - began:.1f} s, intervals of both and of their differences {ended - measured:.1f} s")
    for metric in (*asked, ssim("RGB"), ssim_pil(), vif(), sharpness()):
        print(f"{milliseconds(metric, samples):7.2f} ms  {metric.definition.name}")


def milliseconds(metric: Metric, samples: list[Sample]) -> float:
    """Median over samples."""
    taken = []
    for sample in samples:
        began = time.perf_counter()
        metric(sample)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e3


if __name__ == "__main__":
    main()
