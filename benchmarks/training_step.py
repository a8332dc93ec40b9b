"""What a training step costs, and how much of that is not the networks.

    python -m benchmarks.training_step [--configs configs/recommended.yaml,configs/demo.yaml] [--batch 8] [--threads 1]
    python -m benchmarks.training_step --configs configs/paper.yaml --batch 50 --steps 500 --device cuda

Real steps of the loop, as many of the discriminator as of the generator, with the networks and losses of a config, on
crops of scikit-image's photographs; the mediator has random weights, which cost as much as learnt ones. Networks: the
passes of generator, discriminator and mediator, forward and backward, and the optimisers; all else is outside. The
losses' share of the backward pass counts with the networks. Seconds a step are taken in a run without timers.
"""

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from skimage import data
from torch import Tensor

from benchmarks.protocol import options_of, parsed
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine, machine
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.pretrained import vgg
from zssr_gan.networks.registry import mediator_options
from zssr_gan.settings.run import load_run
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.loop import Loop
from zssr_gan.training.sampling import Images, StepBatch
from zssr_gan.training.state import Schedule

_WARM = 4  # steps of each network that are not counted: the first ones choose algorithms and fill caches
STEPS_OF_THE_PAPER = {"discriminator": 560_000, "generator": 240_000}
"""Of 50 images each, in 2,000 epochs."""


def crops(count: int, side: int) -> TrainingData:
    """Pairs of `side` and 2 `side` px, cut out of photographs; the same ones for generator and discriminator."""
    draws = torch.Generator().manual_seed(0)
    photographs = [torch.from_numpy(picture).permute(2, 0, 1) for picture in (data.astronaut(), data.coffee())]

    def images(first: int, number: int) -> Images:
        hr = []
        for n in range(number):
            photograph = photographs[n % 2]
            top, left = (int(torch.randint(0, size - 2 * side, (), generator=draws)) for size in photograph.shape[1:])
            hr.append(photograph[:, top : top + 2 * side, left : left + 2 * side].contiguous())
        lr = [(resize(one / 255, (side, side)).clamp(0, 1) * 255).round().to(torch.uint8) for one in hr]
        return Images(tuple(f"{first + n}" for n in range(number)), tuple(lr), tuple(hr), (0,) * number)

    trained = images(0, count)
    return TrainingData(trained, trained, images(count, 2), (BicubicDownscale(),), 3, 2, ())


@contextmanager
def timed(loop: Loop, seconds: dict[str, float]) -> Iterator[None]:
    """Add the seconds of the networks' passes and updates to `seconds`, by name."""

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            began = now(loop.machine)
            try:
                return work(*args, **options)
            finally:
                seconds[name] += now(loop.machine) - began

        return run

    parts: list[tuple[Any, str, str]] = [(Tensor, "backward", "backward")]
    for name in ("generator", "discriminator"):
        parts.append((getattr(loop, name), "forward", name))
        parts += [(optimiser, "step", "optimisers") for optimiser in loop.state.optimisers[name]]
    if loop.objective.features is not None:
        parts.append((loop.objective.features, "forward", "mediator"))
    with ExitStack() as stack:
        for owner, method, name in parts:
            stack.enter_context(mock.patch.object(owner, method, clocked(name, getattr(owner, method))))
        yield


def now(used: Machine) -> float:
    """Seconds, when all that was asked of the device is done."""
    if used.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(
    settings: TrainSettings, images: int, steps: int, used: Machine, folder: Path
) -> tuple[dict[str, float], float]:
    """Train; seconds a step by network, and the share of a step that is outside the networks; prints where it goes."""
    never = settings.every.model_copy(update=dict.fromkeys(("validation", "samples", "checkpoint"), 10**9))
    settings, features = settings.model_copy(update={"every": never}), None
    if settings.losses.need_features:
        features = vgg(mediator_options(settings.mediator), "random", seed=0)[0].to(used.device)
    dataset = crops(images, settings.patch or 32)
    loop = Loop(settings, dataset, features, seed=0, machine=used, folder=folder, facts={})
    half, epoch = steps // 2, loop.schedule.epoch

    def run(cycles: int) -> float:
        # Each schedule begins where the one before ended, so that the loop goes on from its own checkpoint.
        loop.schedule = Schedule(loop.state.step, 1, cycles, cycles, epoch)
        stamps, step = list[float](), loop._step

        def stamped(drawn: StepBatch) -> None:
            stamps.append(now(used))
            step(drawn)
            stamps.append(now(used))

        with mock.patch.object(loop, "_step", stamped):
            loop.run()
        middle, end = stamps[2 * cycles - 1], stamps[-1]
        each["discriminator"], each["generator"] = (middle - stamps[0]) / cycles, (end - middle) / cycles
        return end - stamps[0]

    each: dict[str, float] = {}
    run(_WARM)
    run(half)
    plain, outside = dict(each), math.nan
    if not settings.compile:  # timers would be compiled too
        seconds: dict[str, float] = defaultdict(float)
        with timed(loop, seconds):
            whole = run(half)
        outside = 1 - sum(seconds.values()) / whole
        shares = ", ".join(f"{name} {taken / whole:.1%}" for name, taken in seconds.items())
        print(f"  outside the networks {outside:.1%}; {shares}")
    return plain, outside


def main() -> None:
    """Print the shares and the seconds of each config."""
    args = parsed(
        __doc__, configs="configs/recommended.yaml,configs/demo.yaml", batch=8, steps=60, images=500, compile=False
    )
    for config in map(Path, args.configs.split(",")):
        given = load_run(config).train
        settings = given.model_copy(update={"batch": args.batch, "compile": args.compile})
        with machine(options_of(args)) as used, tempfile.TemporaryDirectory(prefix="training-step-") as folder:
            print(f"{config.stem}: {used.device}, {used.precision}, {used.threads} threads, {args.steps} steps")
            each, _ = measure(settings, args.images, args.steps, used, Path(folder))
        print("  " + ", ".join(f"{value:.4f} s a {name} step" for name, value in each.items()))
        hours = sum(each[name] * count for name, count in STEPS_OF_THE_PAPER.items()) / 3600
        print(f"  the paper's steps, of {args.batch} images each (extrapolated): {hours:.2f} h", flush=True)


if __name__ == "__main__":
    main()
