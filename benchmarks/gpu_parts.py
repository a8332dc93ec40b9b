"""The parts of the table of a GPU machine, see `gpu_table`."""

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import torch

from benchmarks.gpu_rows import BICUBIC, BLUR, SET, Table, faces, fleet_of, images_of, off
from benchmarks.training_step import STEPS_OF_THE_PAPER, measure
from zssr_gan.degradation.operators import Downscale, back_project
from zssr_gan.devices import RunOptions, machine
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import Batched, Grouped
from zssr_gan.ops.chain import kernels_match_torch, kernels_usable
from zssr_gan.provenance import CaseImage
from zssr_gan.seeds import normal, uniform
from zssr_gan.settings.run import load_run
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.shared import learn_shared
from zssr_gan.zeroshot.steps import fleet_capacity
from zssr_gan.zeroshot.upscale import upscale

ROOT = Path(__file__).parents[1]


def show_machine(table: Table) -> None:
    """Versions, and the device's ceilings."""
    table.add("torch, CUDA, cuDNN", f"{torch.__version__}, {torch.version.cuda}, {torch.backends.cudnn.version()}")
    if table.tiny:
        return
    if table.device.type == "cuda":
        facts = torch.cuda.get_device_properties(table.device)
        memory = f"{facts.multi_processor_count} SMs, {facts.total_memory / 2**30:.0f} GiB"
        table.add("device", facts.name, "", memory)
        a, b = torch.empty(2, 2**31, dtype=torch.uint8, device=table.device)
        table.add("copy, bytes read and written", 2 * a.numel() / table.timed(lambda: b.copy_(a)) / 1e12, "TB/s")
    side = 8192 if table.device.type == "cuda" else 2048
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        with table.machine(name):
            x = torch.randn(side, side, device=table.device).to(dtype)
            taken = table.timed(partial(torch.matmul, x, x))
        table.add(f"matrix product, {side}^3, {name}", 2 * side**3 / taken / 1e12, "TFLOP/s")


def show_right(table: Table) -> None:
    """Results against the CPU's, and against float64."""
    seed, place = torch.tensor([5, 2**62 + 1]), torch.tensor([3, 2999])
    there = (seed.to(table.device), place.to(table.device))
    table.add("uniform draws are the CPU's bits", torch.equal(uniform(*there, 1000).cpu(), uniform(seed, place, 1000)))
    largest = float((normal(*there, 999).cpu() - normal(seed, place, 999)).abs().max())
    table.add("normal draws, largest difference", largest, "", "wanted: < 1e-5")
    draws = torch.Generator().manual_seed(0)
    x, w = torch.randn(3, 2, 64, 16, 16, generator=draws), torch.randn(3, 64, 64, 3, 3, generator=draws) / 24
    exact = torch.stack([torch.conv2d(a.double(), b.double(), padding=1) for a, b in zip(x, w, strict=True)])
    with table.machine("fp32"):
        for way in (Grouped(3), Batched()):
            made = way.leave(way.convolve(way.enter(x.to(table.device)), w.to(table.device), None))
            table.add(f"{type(way).__name__} product in fp32", off(made, exact), "", "wanted: < 1e-6 (TF32: 3e-4)")
    table.add("Triton's kernels agree with plain torch in bf16", kernels_usable(table.device))
    if table.device.type == "cuda" and not table.tiny and not kernels_usable(table.device):
        try:
            kernels_match_torch(table.device, torch.bfloat16)
        except Exception as error:
            table.add("why they do not run", f"{type(error).__name__}: {str(error)[:200]}")
    for precision, wanted in (("fp32", "2e-3"), ("bf16", "0.05")):
        losses = []
        for device in (str(table.device), "cpu"):
            with machine(RunOptions(device, precision)) as used:
                fleet = fleet_of(3, used, side=16)
                losses.append(torch.stack([fleet.advance() for _ in range(3 if table.tiny else 20)]).cpu())
        table.add(f"losses of 3 networks, {precision}", off(*losses), "", f"wanted: < {wanted}")
    few, iterations = (faces(2, 16), 4) if table.tiny else (faces(2), 50)
    with machine(RunOptions("cpu", "fp32")) as used:
        exact = torch.stack(images_of(few, "fast", used, len(few), iterations))
    for precision, decibels in (("fp32", 60), ("bf16", 45)):
        with table.machine(precision) as used:
            made = torch.stack(images_of(few, "fast", used, 16, iterations))
        least = -10 * math.log10(max(1e-12, float((made - exact).square().flatten(1).mean(1).max())))
        table.add(
            f"least of {len(few)} images after {iterations} iterations of fast, {precision}",
            least,
            "dB",
            f"wanted: > {decibels}",
        )
    lr = torch.stack(faces(4))
    for name, downscale in (("bicubic", BICUBIC), ("blur and noise", BLUR)):
        made, here = (back_project(resize(x, (64, 64)), x, downscale, 10).cpu() for x in (lr.to(table.device), lr))
        table.add(f"back-projection, {name}", float((made - here).abs().max()) * 255, "levels", "wanted: < 0.01")


def show_repeats(table: Table) -> None:
    """The same work twice: are the bytes the same?"""
    for precision in ("bf16", "fp32"):
        weights = []
        with table.machine(precision) as used:
            for _ in range(2):
                fleet = fleet_of(4, used, side=16)
                for _ in range(3 if table.tiny else 10):
                    fleet.advance()
                weights.append(fleet.optimiser.result(torch.arange(4, device=used.device)).cpu())
        table.add(f"weights of 4 networks after some iterations, twice, {precision}", torch.equal(*weights))
    lr = torch.stack(faces(8)).to(table.device)
    made = [back_project(resize(lr, (64, 64)), lr, BLUR, 10).cpu() for _ in range(5)]
    table.add("back-projection with a blur, five times", all(torch.equal(made[0], one) for one in made))


@contextmanager
def waits_noted() -> Iterator[list[str] | None]:
    """The lines at which the host waits for a GPU inside, filled at the end; None where torch has no driver to ask."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")
        except (RuntimeError, AssertionError, AttributeError):  # also of a build without CUDA
            yield None
            return
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines += [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]


def show_waits(table: Table) -> None:
    """How often the host waits in an iteration."""
    with table.machine("bf16") as used:
        for preset in ("paper", "fast"):
            fleet = fleet_of(4, used, preset)
            fleet.advance()
            fleet.clock = 1
            with waits_noted() as lines:
                for _ in range(5):
                    fleet.advance()
            found = None if lines is None else len(lines) / 5
            table.add(f"waits an iteration, preset {preset}", found, "", ", ".join(sorted(set(lines or ()))))


def show_fleets(table: Table) -> None:
    """Networks side by side: what an iteration of one costs, against one network timed right before."""
    cuda = table.device.type == "cuda"
    sizes = (1, 3) if table.tiny else (1, 16, 64, 256, 1024, 4096) if cuda else (1, 2, 4, 8, 16, 32, 64)
    kinds = ("batched", "grouped", *(("triton",) if kernels_usable(table.device) else ()))
    ways = [("bf16", 32, kind) for kind in kinds]
    if not (cuda or table.tiny):
        ways = [(precision, side, "auto") for precision in ("fp32", "bf16") for side in (32, 16)]
    for precision, side, kind in ways:
        with table.machine(precision) as used:
            one = fleet_of(1, used, side=side, product=kind)
            for members in sizes if kind != "grouped" else sizes[:-1]:
                name = f"{kind}, {precision}, {side} px, {members} networks"
                if table.seconds > table.budget:
                    table.add(name, "left out, no time")
                    continue
                try:
                    fleet = fleet_of(members, used, side=side, product=kind)
                    alone, took = (table.timed(work.advance, 3 if cuda else 15) for work in (one, fleet))
                except torch.OutOfMemoryError:
                    table.add(name, "does not fit")
                    continue
                minutes = took / members * SET * 2500 / 60
                note = f"{took * 1e3:.2f} ms, {alone * members / took:.2f} times as fast as one by one, "
                note += f"{fleet.flop_of_a_step * members / took / 1e12:.2f} TFLOP/s; "
                note += f"{SET:,} images x 2,500: {minutes:.1f} min"
                table.add(f"{name}: an iteration of one", took / members * 1e6, "us", note)
                del fleet


def show_set(table: Table) -> None:
    """Images by networks of their own, with the paper's constants, from the first iteration to the finished image."""
    count, iterations = (4, 3) if table.tiny else (700, None)
    images = faces(count)
    with table.machine("bf16") as used:
        capacity = min(count, fleet_capacity(used.device, load_preset("paper").for_size(32 * 32), (32, 32)))
        if not table.tiny:  # fewer where they would not end in time
            expected = table.timed(fleet_of(capacity, used).advance, 3) * 2500 * math.ceil(count / capacity)
            count = min(count, max(16, int(count * 0.6 * (table.budget - table.seconds) / expected)))
            images, capacity = images[:count], min(count, capacity)
        began = time.perf_counter()
        images_of(images, "paper", used, capacity, iterations)
    took = time.perf_counter() - began
    note = f"{SET:,} images: {took / count * SET / 60:.1f} min"
    table.add(f"{count} images of 32 px by paper, {capacity} side by side", took, "s", note)


def show_stage1(table: Table) -> None:
    """A step of a shared model, and an image made with it."""
    count, steps = (4, 2) if table.tiny else (256, 60)
    images = [image.to(table.device) for image in faces(count)]
    named = [(CaseImage(name=str(n), sha256=f"{n:064}"), image) for n, image in enumerate(images)]
    cameras: dict[str, Downscale] = {"bicubic": BICUBIC, "blur and noise": BLUR}
    with table.machine("auto") as used:
        for (preset, given), (name, camera) in product(
            ((preset, load_preset(preset).for_case()) for preset in ("quality", "fast")), cameras.items()
        ):
            schedule = given.schedule.model_copy(update={"iterations": steps})
            settings = given.model_copy(update={"schedule": schedule, "rounds": 1})
            began = time.perf_counter()
            model = learn_shared(named, settings, (2.0, 2.0), camera, seed=0, machine=used)
            table.wait()
            step = (time.perf_counter() - began) / steps
            note = f"all steps: {step * given.rounds * given.schedule.iterations:.0f} s"
            table.add(f"shared model of {preset}, {name}: a step", step * 1e3, "ms", note)
            began = time.perf_counter()
            jobs = (
                (n, upscale(image, (2.0, 2.0), settings, camera, used, seed=0, shared=model))
                for n, image in enumerate(images)
            )
            for ended in run_jobs(jobs, 64):
                ended.unwrap()
            table.wait()
            each = (time.perf_counter() - began) / count
            note = f"{SET:,} images: {each * SET:.0f} s"
            table.add(f"shared model of {preset}, {name}: an image", each * 1e3, "ms", note)


def show_stage2(table: Table) -> None:
    """Steps of paper.yaml."""
    given = load_run(ROOT / "configs" / "paper.yaml").train
    steps, batch = (4, 2) if table.tiny else (500, 50)
    settings = given.model_copy(
        update={"batch": batch, "validation": given.validation.model_copy(update={"images": 2})}
    )
    with table.machine("auto") as used, tempfile.TemporaryDirectory() as folder:
        each, outside = measure(settings, 20 if table.tiny else 200, steps, used, Path(folder))
        for name, took in each.items():
            table.add(f"{name} step of paper.yaml, batch {batch}, {used.precision}", took * 1e3, "ms")
    table.add("share of a step outside the networks", outside)
    hours = sum(took * STEPS_OF_THE_PAPER[name] / 3600 for name, took in each.items())
    table.add("the paper's 2,000 epochs, extrapolated", hours, "h")


def show_profile(table: Table) -> None:
    """Which kernels an iteration's time goes to."""
    kinds = torch.profiler.ProfilerActivity
    activity = kinds.CUDA if table.device.type == "cuda" else kinds.CPU
    with table.machine("bf16") as used:
        for members, preset in ((3, "paper"),) if table.tiny else ((256, "paper"), (16, "fast")):
            fleet = fleet_of(members, used, preset)
            for _ in range(4):  # the third is captured
                fleet.advance()
            with torch.profiler.profile(activities=[activity]) as profile:
                for _ in range(5):
                    fleet.advance()
                table.wait()
            spent = {one.key: one.self_device_time_total or one.self_cpu_time_total for one in profile.key_averages()}
            total = sum(spent.values()) or 1.0
            for name, took in sorted(spent.items(), key=lambda one: -one[1])[:8]:
                table.add(f"{members} of {preset}: {name[:44]}", took / 5, "us", f"{took / total:.0%} of an iteration")


PARTS: dict[str, Callable[[Table], None]] = {
    "machine": show_machine,
    "right": show_right,
    "repeats": show_repeats,
    "waits": show_waits,
    "set": show_set,
    "stage1": show_stage1,
    "stage2": show_stage2,
    "fleets": show_fleets,
    "profile": show_profile,
}
