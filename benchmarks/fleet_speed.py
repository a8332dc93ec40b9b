"""Stage 1 at scale: many networks side by side against one at a time, and a shared model, per image and per 7,000.

    python -m benchmarks.fleet_speed [--device D] [--precision P] [--threads N] [--seconds S]

GFLOP/s count 6 FLOP for each multiply-add of the forward pass; shares are of the matrix product measured first.
Each fleet is timed in turns with N = 1 of the same code, so that load on the machine hits both, and medians are taken.
A ratio is the median of the turns' own ratios. Under four minutes on one CPU thread.
"""

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from benchmarks.protocol import parsed
from benchmarks.step_speed import median_seconds, peak
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest, reconstruction_error
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.shared import SharedModel, learn_shared
from zssr_gan.zeroshot.steps import fleet_capacity
from zssr_gan.zeroshot.upscale import upscale

FLEETS = (2, 4, 8, 16, 32, 64)
LARGE_FLEETS = (256, 1024, 4096)
"""On CUDA too."""
SET = 7000
"""Images that the seed paper synthesised of each set."""
PUBLIC_SECONDS = 19.0
"""A face of 32 px by the public PyTorch ZSSR on one CPU thread, its quickest. An anchor measured earlier on a shared
machine, not in this run."""
PUBLIC = f"the public PyTorch ZSSR's {PUBLIC_SECONDS:.0f} s (anchor, one CPU thread, measured earlier)"
DOWNSCALE = BicubicDownscale()
_TURNS = 3


def main() -> None:
    """Print all of it."""
    args = parsed(__doc__, precision="", seconds=1.0, sides="32,16", iterations=2000, only="")
    began, worked = time.perf_counter(), time.process_time()
    sides = [int(side) for side in args.sides.split(",")]
    if args.only != "shared":
        for precision in (args.precision,) if args.precision else ("fp32", "bf16"):
            with machine(RunOptions(args.device, precision, args.threads)) as used:
                scratch(used, sides, args.seconds, args.iterations)
    # What `make synth` takes where nothing is asked for.
    with machine(RunOptions(args.device, args.precision or "auto", args.threads)) as used:
        if args.only != "scratch":
            for preset in ("quality", "fast"):
                share_of_set(preset, used)
        threads = used.threads
    wall, worked = time.perf_counter() - began, time.process_time() - worked
    print(f"\n{wall:.0f} s in all, of which each thread ran {worked / wall / threads:.0%} (busy: less)")


def matrix_peak(used: Machine) -> float:
    """GFLOP/s of a large square matrix product."""
    side = 8192 if used.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if used.precision == "bf16" else torch.float32
    a = torch.rand(side, side, device=used.device).to(dtype)
    return 2 * side**3 / median_seconds(lambda: a @ a, used.device, 3) / 1e9


def faces(count: int, side: int, device: torch.device) -> list[Tensor]:
    """Images to work on: what they show does not matter here, that they are not flat does."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, side, side, generator=generator).to(device) for _ in range(count)]


@dataclass
class Timed:
    """A fleet of the `paper` preset."""

    fleet: Fleet
    error_seconds: float = 0.0

    @classmethod
    def of(cls, members: int, side: int, used: Machine) -> "Timed":
        """So many members on images of `side`, warmed up."""
        settings = load_preset("paper").for_size(side * side)
        task = Task.of((2.0, 2.0), settings.network.grid, DOWNSCALE, used.precision)
        images = faces(members, side, used.device)
        made = [Member(TrainRequest(image, [seed], settings, task), 0) for seed, image in enumerate(images)]
        timed = cls(Fleet.of(made))
        timed.advance(2)
        fleet = timed.fleet
        timed.error_seconds = median_seconds(
            lambda: reconstruction_error(fleet.network, torch.stack(images), fleet.task), used.device, 1
        )
        return timed

    def advance(self, steps: int) -> float:
        """Seconds of an image-iteration, a 50th of the whole image's error included."""
        self.fleet.iteration_N.fill_(1)  # the error falls due at a multiple of 50; it is timed by itself
        synchronise(self.fleet.network.weights_NP.device)
        began = time.perf_counter()
        for _ in range(steps):
            self.fleet.advance()
        synchronise(self.fleet.network.weights_NP.device)
        seconds = (time.perf_counter() - began) / steps + self.error_seconds / self.fleet.schedule.stride
        return seconds / self.fleet.network.members


def synchronise(device: torch.device) -> None:
    """Wait for what was asked of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def scratch(used: Machine, sides: list[int], seconds: float, iterations: int) -> None:
    """Rows of fleets of the `paper` preset, and what its 7,000 images of 32 px would take."""
    top, convolution = matrix_peak(used), peak(used.device, used.precision)
    name = f"{used.device}, {used.threads} threads, {used.precision}"
    print(f"\n{name}: matrix product {top:.0f} GFLOP/s, plain convolution {convolution:.0f}")
    print(
        f"`scratch`, preset paper, {name}\n  px     N  image-it/s  GFLOP/s  of matrix  against N = 1  (its image-it/s)"
    )
    cuda = used.device.type == "cuda"
    for side in sides:
        best = (0.0, 0.0, 0)
        one = Timed.of(1, side, used)
        flop = one.fleet.flop_of_a_step
        for members in (1, *FLEETS, *(LARGE_FLEETS if cuda else ())):
            try:
                many = Timed.of(members, side, used)
                alone_s, each_s = in_turns(one, many, seconds)
            except torch.OutOfMemoryError:
                print(f"  {side:2} {members:5}  does not fit into memory")
                continue
            each, ratio = median(each_s), median(a / b for a, b in zip(alone_s, each_s, strict=True))
            best = max(best, (ratio, each, members))  # by its ratio: load on the machine hits that least
            print(
                f"  {side:2} {members:5} {1 / each:11.1f} {flop / each / 1e9:8.1f} {flop / each / 1e9 / top:10.1%} "
                f"{ratio:13.2f}x  ({1 / median(alone_s):.1f})",
                flush=True,
            )
            del many
        if side == 32:
            hours = best[1] * iterations * SET / 3600
            print(
                f"  extrapolated: {SET:,} images of 32x32, {iterations} iterations each (given), N = {best[2]}: "
                f"{hours:.2f} h of training ({best[1] * iterations:.1f} s an image)"
            )


def in_turns(one: Timed, many: Timed, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of an image-iteration alone and in the fleet, in turns; `seconds` for each of the two in all."""
    turn = seconds / _TURNS
    steps = [max(1, min(45, int(turn / (timed.advance(1) * timed.fleet.network.members)))) for timed in (one, many)]
    pairs = [(one.advance(steps[0]), many.advance(steps[1])) for _ in range(_TURNS)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def share_of_set(preset: str, used: Machine) -> None:
    """Seconds an image with a shared model, at the cost of 7,000 images."""
    images, device = faces(32, 32, used.device), used.device
    settings = load_preset(preset).for_case()
    named = [(CaseImage(name=str(n), sha256=f"{n:064}"), image) for n, image in enumerate(images)]
    task = Task.of((2.0, 2.0), settings.network.grid, DOWNSCALE, used.precision)
    iterations, rounds = settings.schedule.iterations, settings.rounds
    steps = 20 if device.type != "cuda" else 200

    def learn(count: int) -> SharedModel:
        schedule = settings.schedule.model_copy(update={"iterations": count})
        brief = settings.model_copy(update={"schedule": schedule, "rounds": 1})
        return learn_shared(named, brief, (2.0, 2.0), DOWNSCALE, seed=0, machine=used)

    def enlarge() -> None:  # as `make synth` does: self-ensemble of 8, back-projection
        jobs = (
            (number, upscale(image, (2.0, 2.0), settings, DOWNSCALE, used, seed=0, shared=start))
            for number, image in enumerate(images)
        )
        for ended in run_jobs(jobs, fleet_capacity(device, settings, (32, 32))):
            assert ended.error is None, ended.error

    start = learn(2)  # how good it is does not matter here
    step = median_seconds(lambda: learn(steps), device, 3) / steps
    first = median_seconds(lambda: apply_many(start.network(), images, settings, task), device, 1) / len(images)
    learning = step * iterations * rounds
    between = first * SET * (rounds - 1)
    apply = median_seconds(enlarge, device, 1) / len(images)
    total = apply + (learning + between) / SET
    print(
        f"\n`shared`, preset {preset}, 32 px, {device}, {used.threads} threads, {used.precision}\n"
        f"  measured: a step of the shared model {step * 1e3:.1f} ms; first results {first * 1e3:.1f} ms an image\n"
        f"  extrapolated: learning {iterations} x {rounds} steps = {learning:.0f} s, first results of {SET:,} images "
        f"between the rounds = {between:.0f} s; {(learning + between) / SET * 1e3:.1f} ms an image of {SET:,}\n"
        f"  {apply * 1e3:.1f} ms an image (measured), with the share {total * 1e3:.1f} ms: "
        f"{PUBLIC_SECONDS / total:.0f}x {PUBLIC}",
        flush=True,
    )


if __name__ == "__main__":
    main()
