"""What a training step costs, and how much of that is not the networks.

    python -m benchmarks.training_step [--configs configs/recommended.yaml,configs/demo.yaml] [--batch 8] [--threads 1]
    python -m benchmarks.training_step --configs configs/paper.yaml --batch 50 --steps 500 --device cuda

Real steps of the loop, as many of the discriminator as of the generator, with the networks, losses and intervals of a
config, on crops of scikit-image's photographs; the mediator has random weights, which cost as much as learnt ones.
Networks: the passes of generator, discriminator and mediator, forward and backward, and the optimisers. All else is
outside. The losses' part of the backward pass is measured by itself and counted outside (that of the distance between
features is not: it stays with the mediator). Validation, samples and a checkpoint come once, at the end; their seconds
are spread over the config's intervals. Seconds a step are taken in a run of their own, without timers in it.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.store_speed import images as photographs
from zssr_gan.data.shard import StoredImage
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.files import atomic_write
from zssr_gan.networks.pretrained import vgg
from zssr_gan.networks.registry import mediator_options
from zssr_gan.networks.vgg import VGG
from zssr_gan.progress import Bar
from zssr_gan.settings.run import load_run
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import samples_png
from zssr_gan.training.loop import Callbacks, Loop
from zssr_gan.training.losses import Objective
from zssr_gan.training.sampling import Images
from zssr_gan.training.schedule import Schedule

_WARM = 4  # steps of each network that are not counted: the first ones choose algorithms and fill caches
_NETWORKS = ("generator", "discriminator", "mediator", "backward", "optimisers")
_SPREAD = ("validation", "samples", "checkpoint")
_PAPER = {"discriminator": 560_000, "generator": 240_000}  # steps of 50 images in 2,000 epochs


class Clock:
    """Seconds by name; on CUDA it waits for the device before and after."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict[str, float](float)

    def now(self) -> float:
        """Seconds, when all that was asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, whose time is added to `name`."""

        def run(*arguments: Any, **options: Any) -> Any:
            began = self.now()
            try:
                return work(*arguments, **options)
            finally:
                self.seconds[name] += self.now() - began

        return run

    @contextmanager
    def on(self, loop: Loop) -> Iterator[None]:
        """Have the parts of a loop timed."""
        networks = ("generator", "discriminator")
        parts: list[tuple[Any, str, str]] = [
            *((getattr(loop, name), "forward", name) for name in networks),
            *(
                (optimiser, part, "optimisers")
                for name in networks
                for optimiser in loop.state.optimisers[name]
                for part in ("step", "zero_grad")
            ),
            (Tensor, "backward", "backward"),
            (Future, "result", "waiting for a batch"),
            (loop.state, "update_mean", "running mean"),
            (loop, "_write_checkpoint", "checkpoint"),
            (nn.utils, "clip_grad_norm_", "norm of the gradient"),
            (loop.validation, "outputs", "validation"),
            (loop.validation, "figures", "validation"),
        ]
        with ExitStack() as stack:
            for owner, method, name in parts:
                stack.enter_context(mock.patch.object(owner, method, self.timed(name, getattr(owner, method))))
            yield


class Stamps:
    """When a run's first steps of either network began, and when its last step ended, checks at the end left out."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self.loop, self.clock = loop, clock
        self.first: dict[str, float] = {}
        self.end = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Take them."""
        step, after = self.loop._step, self.loop._after

        def stamped_step(drawn: Any) -> None:
            who = self.loop.schedule.at(self.loop.state.step).network
            if who not in self.first:
                self.first[who] = self.clock.now()
            step(drawn)

        def stamped_after(turn: Any, losses: Any) -> None:
            last = self.loop.state.step == self.loop.schedule.total
            if last:
                self.end = self.clock.now()
            (after if last else self.clock.timed("log", after))(turn, losses)

        with mock.patch.multiple(self.loop, _step=stamped_step, _after=stamped_after):
            yield

    def seconds(self) -> dict[str, float]:
        """Of all steps of either network: the discriminator's come first."""
        return {
            "discriminator": self.first["generator"] - self.first["discriminator"],
            "generator": self.end - self.first["generator"],
        }


def data_for(settings: TrainSettings, count: int, side: int) -> TrainingData:
    """Crops of photographs, in colour; the same ones for generator and discriminator."""

    def images(made: list[StoredImage]) -> Images:
        planes = [[torch.from_numpy(x).permute(2, 0, 1).contiguous() for x in (one.lr, one.sr)] for one in made]
        lr, hr = zip(*planes, strict=True)
        return Images(tuple(one.id for one in made), lr, hr, (0,) * len(made))

    made = list(photographs(count + settings.validation.images, side))
    trained = images(made[:count])
    return TrainingData(trained, trained, images(made[count:]), (BicubicDownscale(),), 3, 2, ())


def seconds_of_losses(loop: Loop, clock: Clock) -> float:
    """Of the backward pass of a generator step's losses down to its output, features left out."""
    slow = ("mediator", "recurrence", "recurrence_features")
    plain = loop.settings.losses.model_copy(update=dict.fromkeys(slow, 0.0))
    objective = Objective(plain, None, loop.data.downscales, loop.scale)
    batch = loop.inputs.batch(0).to(loop.machine.device)
    times = []
    for _ in range(5):
        sr = torch.rand(len(batch.lr), 3, *(loop.scale * side for side in batch.lr.shape[-2:]), device=clock.device)
        found = objective.content(loop.generator, sr.requires_grad_(), batch)
        began = clock.now()
        if found:
            objective.total(found).backward()
        times.append(clock.now() - began)
    return sorted(times)[len(times) // 2]


def run(config: Path, args: argparse.Namespace, used: Machine, folder: Path, bar: Bar) -> None:
    """Train by a config, and print what it took."""
    given = load_run(config).train
    # Only the log is due within the run.
    every = given.every.model_copy(update=dict.fromkeys(_SPREAD, 10**9))
    settings = given.model_copy(update={"batch": args.batch, "every": every, "compile": args.compile})
    data = data_for(settings, args.images, settings.patch or 32)
    clock = Clock(used.device)
    features: Callable[[Tensor], Mapping[str, Tensor]] | None = None
    if settings.losses.need_features:
        mediator: VGG = vgg(mediator_options(settings.mediator), "random", seed=0)[0].to(used.device)
        features = clock.timed("mediator", mediator)

    def progress(done: int, total: int, losses: Mapping[str, float]) -> None:
        bar.update("training", done, total, ", ".join(f"{name} {value:.3g}" for name, value in losses.items()))

    def samples(_step: int, _total: int, made: Any) -> None:
        atomic_write(folder / "samples.png", samples_png(made, data.held_out, "Samples"), overwrite=True)

    callbacks = Callbacks(progress=progress, samples=clock.timed("samples", samples))
    loop = Loop(settings, data, features, seed=0, machine=used, folder=folder, facts={}, callbacks=callbacks)
    half = args.steps // 2
    # Each plan begins where the one before ended, so that the loop goes on from its own checkpoint.
    loop.schedule = Schedule(0, 1, _WARM, _WARM, loop.schedule.epoch)
    loop.run()
    stamps = Stamps(loop, clock)
    loop.schedule = Schedule(loop.schedule.total, 1, half, half, loop.schedule.epoch)
    with stamps.on():
        loop.run()
    a_step = {who: seconds / half for who, seconds in stamps.seconds().items()}
    if args.compile:
        print(f"{config.stem}, compiled: no shares, since timers would be compiled too")
    else:
        stamps = Stamps(loop, clock)
        loop.schedule = Schedule(loop.schedule.total, 1, half, half, loop.schedule.epoch)
        clock.seconds.clear()
        with stamps.on(), clock.on(loop):
            loop.run()
        report(config, clock, sum(stamps.seconds().values()), half * seconds_of_losses(loop, clock), 2 * half, given)
    print(f"  {a_step['discriminator']:.4f} s a discriminator step, {a_step['generator']:.4f} s a generator step")
    hours = sum(a_step[who] * steps for who, steps in _PAPER.items()) / 3600
    counts = " and ".join(f"{steps:,}" for steps in _PAPER.values())
    print(f"  the paper's {counts} steps, of {args.batch} images each (extrapolated): {hours:.2f} h\n")


def report(config: Path, clock: Clock, steps: float, of_losses: float, count: int, given: TrainSettings) -> None:
    """The shares, the networks first."""
    found = dict(clock.seconds)
    found["backward"] -= of_losses
    spread = {kind: found.pop(kind) * count / getattr(given.every, kind) for kind in _SPREAD}
    rest = steps - sum(found.values()) - of_losses
    outside = {name: seconds for name, seconds in found.items() if name not in _NETWORKS}
    outside |= {"losses backward": of_losses, "losses forward, and the rest": rest, **spread}
    whole = steps + sum(spread.values())
    print(f"{config.stem}: outside the networks {sum(outside.values()) / whole:.2%}")
    for title, names in (("networks", [name for name in _NETWORKS if name in found]), ("outside", list(outside))):
        shares = {name: {**found, **outside}[name] / whole for name in names}
        print(f"  {title}: " + ", ".join(f"{name} {share:.2%}" for name, share in shares.items()))


def main() -> None:
    """Print the shares and the seconds of each config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="configs/recommended.yaml,configs/demo.yaml", help="of YAML files")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60, help="that are counted, of both networks")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], help="else the config's")
    parser.add_argument("--compile", action="store_true", help="with torch.compile; seconds alone")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    for config in map(Path, args.configs.split(",")):
        options = RunOptions(args.device, args.precision or load_run(config).train.precision, args.threads)
        with machine(options) as used, Bar() as bar, tempfile.TemporaryDirectory(prefix="training-step-") as folder:
            print(f"{used.device}, {used.precision}, {used.threads} threads, {args.steps} steps of {args.batch}")
            run(config, args, used, Path(folder), bar)


if __name__ == "__main__":
    main()
