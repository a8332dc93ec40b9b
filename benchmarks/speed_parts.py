"""Speeds of a machine without a GPU, more parts of `gpu_table`: training steps, back-projections, metrics."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_rows import BICUBIC, BLUR, Table, faces, fleet_of
from zssr_gan.degradation.model import Degradation, Noise
from zssr_gan.degradation.operators import Downscale, back_project
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Figure, Metric, Sample
from zssr_gan.evaluation.metrics.no_reference import sharpness
from zssr_gan.evaluation.summary import paired, summarise
from zssr_gan.imaging.resize import resize
from zssr_gan.zeroshot.fleet import autocast


def show_steps(table: Table) -> None:
    """Whole training steps of one network against a plain convolution, 64 -> 64, 3x3, its fastest of three sizes.

    The step is pairs, forward, backward and optimiser, counted as 6 FLOP for each multiply-add of the forward pass.
    """
    layer = nn.Conv2d(64, 64, 3, padding=1).to(device=table.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    for precision in ("fp32", "bf16"):
        with table.machine(precision) as used:

            def gflops(batch: int, side: int, precision: str = precision) -> float:
                x = torch.rand(batch, 64, side, side, device=table.device).contiguous(memory_format=torch.channels_last)

                def work() -> None:
                    with torch.no_grad(), autocast(table.device, precision):
                        layer(x)

                return 2 * 64 * 64 * 9 * batch * side * side / table.timed(work) / 1e9

            # The largest is bound by memory on some machines, the smallest by starting up on others.
            top = max(gflops(*size) for size in (((1, 16),) if table.tiny else ((4, 256), (4, 128), (16, 32))))
            table.add(f"plain convolution, {precision}, {used.threads} threads", top, "GFLOP/s")
            for preset in ("original", "quality"):
                for side in (16,) if table.tiny else (32, 128, 256):
                    fleet = fleet_of(1, used, preset, side)
                    took = table.timed(fleet.advance, 3 if table.tiny else 40)
                    rate = fleet.flop_of_a_step / took / 1e9
                    note = f"{rate:.0f} GFLOP/s, {rate / top:.0%} of the plain convolution"
                    table.add(f"{precision}, {preset}, {side} px: a step", took * 1e3, "ms", note)


def show_back(table: Table) -> None:
    """Back-projections to twice the size, 10 iterations; the first alone makes the matrices of its size."""
    noise = Degradation(noise=Noise(sigma=0.01)).downscale
    cameras: dict[str, Downscale] = {"bicubic": BICUBIC, "noise": noise, "blur and noise": BLUR}
    with table.machine("fp32"):
        for side in (16,) if table.tiny else (16, 32, 48, 64, 256):
            for name, camera in cameras.items():
                for count in (1, 32) if side <= 48 else (1,):
                    lr = torch.stack(faces(count, side)).to(table.device)
                    sr = resize(lr, (2 * side, 2 * side))

                    def work(lr: Tensor = lr, sr: Tensor = sr, camera: Downscale = camera) -> Tensor:
                        return back_project(sr.clone(), lr, camera, 10)

                    first, each = table.timed(work, 1, warm=0), table.timed(work, 3)
                    note = f"the first {first * 1e3:.1f} ms"
                    table.add(f"{name}, {side} px, {count} together: an image", each / count * 1e3, "ms", note)


def measured(metric: Metric, samples: list[Sample]) -> list[Figure]:
    """A metric of each sample."""
    return [metric(sample) for sample in samples]


def show_metrics(table: Table) -> None:
    """Metrics of pairs of 64x64, of random pixels, on which the time does not depend; and their bootstrap intervals."""
    torch.set_num_threads(table.threads or 1)
    different, pairs = (4, 8) if table.tiny else (100, 10_000)
    draws = torch.Generator().manual_seed(0)
    truths = torch.rand(different, 3, 64, 64, generator=draws)
    samples = [Sample(one + 0.05 * torch.randn(one.shape, generator=draws), one) for one in truths]
    columns = [measured(metric, samples) * (pairs // different) for metric in (psnr("Y", 2), ssim("Y", 2))]
    taken = table.timed(lambda: [(summarise(column), paired(column, column[::-1])) for column in columns], 1, warm=0)
    table.add(f"intervals of PSNR and SSIM of {pairs} pairs, and of their differences", taken, "s")
    for metric in (psnr("Y", 2), ssim("Y", 2), ssim("RGB"), ssim_pil(), vif(), sharpness()):
        each = table.timed(partial(measured, metric, samples), 3) / different
        table.add(f"{metric.definition.name}: a pair", each * 1e3, "ms", f"10,000: {each * 1e4:.1f} s")


SPEEDS: dict[str, Callable[[Table], None]] = {"steps": show_steps, "back": show_back, "metrics": show_metrics}
