"""How near a training step is to what the machine gives: GFLOP/s of the step against a plain large convolution.

    python -m benchmarks.step_speed [--threads 2]

The step is the whole of it (pairs, forward, backward, optimiser). Its arithmetic is counted as 6 FLOP for each
multiply-add of the forward pass: forward, and two products of the same size backward. The reference is one conv2d
64 -> 64, 3x3, forward, the fastest of batch 4 at 256 px, 4 at 128 px and 16 at 32 px, in the same precision and layout.
At the end, milliseconds of a back-projection to twice the size (10 iterations), alone and in a batch, and of the first
one, which makes the matrices of its size.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.protocol import parsed
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, back_project
from zssr_gan.devices import RunOptions, machine
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import CosineSchedule, ZeroShotSettings, load_preset
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest, autocast
from zssr_gan.zeroshot.pairs import Task

_STEPS = 40

_DEGRADATIONS = {
    "bicubic": Degradation(),
    "noise": Degradation(noise=Noise(sigma=0.01)),
    "blur and noise": Degradation(
        blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.01)
    ),
}


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median time of `work` after one warm-up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[repeats // 2]


def peak(device: torch.device, precision: str) -> float:
    """GFLOP/s of the plain convolution."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    def gflops(batch: int, side: int) -> float:
        x = torch.rand(batch, 64, side, side, device=device).contiguous(memory_format=torch.channels_last)

        def work() -> Tensor:
            with torch.no_grad(), autocast(device, precision):
                out: Tensor = layer(x)
            return out

        return 2 * 64 * 64 * 9 * batch * side * side / median_seconds(work, device) / 1e9

    # The largest is bound by memory on some machines, the smallest by starting up on others.
    return max(gflops(4, 256), gflops(4, 128), gflops(16, 32))


def step(settings: ZeroShotSettings, side: int, device: torch.device, precision: str) -> tuple[float, float]:
    """Milliseconds and GFLOP/s of one training step on a square image, x2, of one network."""
    grid_lr = settings.network.grid == "lr"
    task = Task((2.0, 2.0), (2, 2) if grid_lr else (1, 1), BicubicDownscale(), precision)
    schedule = CosineSchedule(iterations=_STEPS)
    settings = settings.model_copy(update={"schedule": schedule})
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    network = ZSSR(settings.network, 3, task.factor, [torch.Generator()])
    crop = min(settings.pairs.crop, side)
    pixels = settings.pairs.batch * (crop // task.factor[0]) * (crop // task.factor[1])

    def train() -> None:
        fleet = Fleet.of([Member(TrainRequest(image, [0], settings, task), 0)])
        while fleet.running_N.all():
            fleet.advance()

    seconds = median_seconds(train, device, 3) / _STEPS
    return seconds * 1e3, 6 * network.multiply_adds_per_pixel * pixels / seconds / 1e9


def back_projection(downscale: Downscale, side: int, count: int, device: torch.device) -> tuple[float, float]:
    """Milliseconds an image of a back-projection of `count` images, and of the first, which makes what it needs."""
    made = torch.Generator().manual_seed(0)
    lr = torch.rand(count, 3, side, side, generator=made).to(device)
    sr = torch.rand(count, 3, 2 * side, 2 * side, generator=made).to(device)

    def work() -> Tensor:
        return back_project(sr.clone(), lr, downscale, 10)

    began = time.perf_counter()
    work()
    first = time.perf_counter() - began
    return median_seconds(work, device, 3) / count * 1e3, first * 1e3


def main() -> None:
    """Print a row for each precision, preset and size."""
    args = parsed(__doc__)
    print("precision  preset    side   ms a step  GFLOP/s  of the plain convolution")
    for precision in ("fp32", "bf16"):
        with machine(RunOptions(args.device, precision, args.threads)) as used:
            reference = peak(used.device, precision)
            for preset in ("original", "quality"):
                for side in (32, 128, 256):
                    settings = load_preset(preset).for_size(side * side)
                    milliseconds, gflops = step(settings, side, used.device, precision)
                    print(
                        f"{precision:9}  {preset:8}  {side:4}  {milliseconds:9.2f}  {gflops:7.0f}  "
                        f"{gflops / reference:.0%} of {reference:.0f} ({used.device}, {used.threads} threads)",
                        flush=True,
                    )
    print("back-projection  side  images   ms an image  ms of the first")
    with machine(RunOptions(args.device, "fp32", args.threads)) as used:
        for side in (16, 32, 48, 64, 256):
            for name, degradation in _DEGRADATIONS.items():
                # Its first figure is of the images that come alone: those in a batch find the matrices made.
                for count in (1, 32) if side <= 48 else (1,):
                    each, first = back_projection(degradation.downscale, side, count, used.device)
                    print(f"{name:15}  {side:4}  {count:6}  {each:12.3f}  {first:15.1f}", flush=True)


if __name__ == "__main__":
    main()
