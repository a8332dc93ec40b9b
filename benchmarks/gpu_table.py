"""What a GPU machine shows in five minutes: is it right, does it repeat, what waits, how fast is it.

    python3 benchmarks/gpu_table.py [--budget 300] [--only right,fleets]    # or: make gpu-table
    python3 benchmarks/gpu_table.py --tiny --device cpu                     # to try the script without a GPU

A part that fails says so, and the next one runs; a part for which the budget has no time left is named. The rows go to
the screen as they come, and as JSON to gpu_table.json in the working folder, or in $OUT. docs/gpu.md says how to run it
from a checkout on a machine without network.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # run as a script, from a checkout that is not installed
    sys.path.insert(0, str(ROOT))

# What is imported below (noqa: E402) is found by that path alone.
from benchmarks.training_step import crops  # noqa: E402
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise  # noqa: E402
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, back_project  # noqa: E402
from zssr_gan.devices import Machine, RunOptions, machine  # noqa: E402
from zssr_gan.imaging.resize import resize  # noqa: E402
from zssr_gan.networks.pretrained import vgg  # noqa: E402
from zssr_gan.networks.registry import mediator_options  # noqa: E402
from zssr_gan.networks.zssr import ZSSR, Batched, Grouped  # noqa: E402
from zssr_gan.ops.chain import kernels_usable  # noqa: E402
from zssr_gan.provenance import CaseImage  # noqa: E402
from zssr_gan.seeds import normal, uniform  # noqa: E402
from zssr_gan.settings.run import load_run  # noqa: E402
from zssr_gan.settings.zeroshot import load_preset  # noqa: E402
from zssr_gan.training.loop import Loop  # noqa: E402
from zssr_gan.training.sampling import StepBatch  # noqa: E402
from zssr_gan.training.state import Schedule  # noqa: E402
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest  # noqa: E402
from zssr_gan.zeroshot.pairs import Task  # noqa: E402
from zssr_gan.zeroshot.scheduler import run_jobs  # noqa: E402
from zssr_gan.zeroshot.shared import learn_shared  # noqa: E402
from zssr_gan.zeroshot.upscale import upscale  # noqa: E402

BICUBIC = BicubicDownscale()
BLUR = Degradation(
    blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.01)
).downscale
SET = 7000
"""Images of the seed paper's larger set."""
STEPS_OF_THE_PAPER = {"discriminator": 560_000, "generator": 240_000}
"""Of 50 images each, in 2,000 epochs."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    part: str
    what: str
    value: float | str | bool | None
    unit: str = ""
    note: str = ""


class Table:
    """The rows so far, and the seconds that are left."""

    def __init__(self, device: str, budget: float, tiny: bool) -> None:
        self.device, self.budget, self.tiny = torch.device(device), budget, tiny
        self.began, self.rows = time.perf_counter(), list[Row]()
        self.part = ""

    @property
    def seconds(self) -> float:
        """Since the table was begun."""
        return time.perf_counter() - self.began

    def add(self, what: str, value: float | str | bool | None, unit: str = "", note: str = "") -> None:
        """Print a row, and put it into the table."""
        if isinstance(value, float):
            value = float(f"{value:.4g}")
        self.rows.append(Row(self.part, what, value, unit, note))
        print(f"[{self.seconds:4.0f} s] {self.part:8} {what:62} {value} {unit}  {note}".rstrip(), flush=True)

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], object], repeats: int = 5) -> float:
        """Median seconds of some work, after two runs that choose algorithms."""
        taken = []
        for number in range(2 + repeats):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            if number >= 2:
                taken.append(time.perf_counter() - began)
        return statistics.median(taken)


def faces(count: int, side: int = 32) -> list[Tensor]:
    """Smooth colour images: what they show does not matter here."""
    small = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    return list(resize(small, (side, side)).clamp(0, 1))


def off(there: Tensor, exact: Tensor) -> float:
    """Relative error in the norm."""
    return float((there.cpu().double() - exact.cpu().double()).norm() / exact.cpu().double().norm())


def fleet_of(members: int, used: Machine, preset: str = "paper", side: int = 32, product: str = "auto") -> Fleet:
    """Networks of a preset, each on an image of its own."""
    settings = load_preset(preset).for_size(side * side)
    task = Task.of((2.0, 2.0), settings.network.grid, BICUBIC, used.precision)
    images = [image.to(used.device) for image in faces(min(members, 64), side)]
    requests = [TrainRequest(images[n % len(images)], [n], settings, task) for n in range(members)]
    with mock.patch.object(ZSSR, "product", product):  # the fleet's optimiser asks for it, too
        fleet = Fleet.of([Member(request, 0) for request in requests])
    fleet.network.product = product  # type: ignore[assignment]
    return fleet


def show_machine(table: Table) -> None:
    """Versions, and the device's ceilings."""
    table.add("torch, CUDA, cuDNN", f"{torch.__version__}, {torch.version.cuda}, {torch.backends.cudnn.version()}")
    if table.device.type != "cuda" or table.tiny:
        return
    facts = torch.cuda.get_device_properties(table.device)
    memory = f"{facts.multi_processor_count} SMs, {facts.total_memory / 2**30:.0f} GiB"
    table.add("device", facts.name, "", memory)
    a, b = torch.empty(2, 2**31, dtype=torch.uint8, device=table.device)
    table.add("copy, bytes read and written", 2 * a.numel() / table.timed(lambda: b.copy_(a)) / 1e12, "TB/s")
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        x = torch.randn(8192, 8192, device=table.device).to(dtype)
        taken = table.timed(partial(torch.matmul, x, x))
        table.add(f"matrix product, 8192^3, {name}", 2 * 8192**3 / taken / 1e12, "TFLOP/s")


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
    with machine(RunOptions(str(table.device), "fp32")):
        for way in (Grouped(3), Batched()):
            made = way.leave(way.convolve(way.enter(x.to(table.device)), w.to(table.device), None))
            table.add(f"{type(way).__name__} product in fp32", off(made, exact), "", "wanted: < 1e-6 (TF32: 3e-4)")
    table.add("Triton's kernels agree with plain torch in bf16", kernels_usable(table.device))
    for precision, wanted in (("fp32", "2e-3"), ("bf16", "0.05")):
        losses = []
        for device in (str(table.device), "cpu"):
            with machine(RunOptions(device, precision)) as used:
                fleet = fleet_of(3, used, side=16)
                losses.append(torch.stack([fleet.advance() for _ in range(3 if table.tiny else 20)]).cpu())
        table.add(f"losses of 3 networks, {precision}", off(*losses), "", f"wanted: < {wanted}")
    lr = torch.stack(faces(4))
    for name, downscale in (("bicubic", BICUBIC), ("blur and noise", BLUR)):
        made, here = (back_project(resize(x, (64, 64)), x, downscale, 10).cpu() for x in (lr.to(table.device), lr))
        table.add(f"back-projection, {name}", float((made - here).abs().max()) * 255, "levels", "wanted: < 0.01")


def show_repeats(table: Table) -> None:
    """The same work twice: are the bytes the same?"""
    for precision in ("bf16", "fp32"):
        weights = []
        with machine(RunOptions(str(table.device), precision)) as used:
            for _ in range(2):
                fleet = fleet_of(4, used, side=16)
                for _ in range(3 if table.tiny else 10):
                    fleet.advance()
                weights.append(fleet.network.weights_NP.detach().cpu())
        table.add(f"weights of 4 networks after some iterations, twice, {precision}", torch.equal(*weights))
    lr = torch.stack(faces(8)).to(table.device)
    made = [back_project(resize(lr, (64, 64)), lr, BLUR, 10).cpu() for _ in range(5)]
    table.add("back-projection with a blur, five times", all(torch.equal(made[0], one) for one in made))


@contextmanager
def waits_noted(table: Table) -> Iterator[list[str]]:
    """The lines at which the host waits for a GPU inside, filled at the end."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if table.device.type == "cuda" and not table.tiny:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            if table.device.type == "cuda" and not table.tiny:
                torch.cuda.set_sync_debug_mode("default")
    lines += [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]


def show_waits(table: Table) -> None:
    """How often the host waits in an iteration."""
    with machine(RunOptions(str(table.device), "bf16")) as used:
        for preset in ("paper", "fast"):
            fleet = fleet_of(4, used, preset)
            fleet.advance()
            fleet.clock = 1
            with waits_noted(table) as lines:
                for _ in range(5):
                    fleet.advance()
            table.add(f"waits an iteration, preset {preset}", len(lines) / 5, "", ", ".join(sorted(set(lines))))


def show_fleets(table: Table) -> None:
    """Networks side by side: what an iteration of one costs."""
    sizes = (1, 3) if table.tiny else (1, 16, 64, 256, 1024, 4096)
    with machine(RunOptions(str(table.device), "bf16")) as used:
        for product in ("batched", "grouped", *(["triton"] if kernels_usable(table.device) else [])):
            for members in sizes if product != "grouped" else sizes[:-1]:
                try:
                    fleet = fleet_of(members, used, product=product)
                    took = table.timed(fleet.advance, 3)
                except torch.OutOfMemoryError:
                    table.add(f"{product}, {members} networks", "does not fit")
                    continue
                rate = fleet.flop_of_a_step * members / took / 1e12
                minutes = took / members * SET * 2500 / 60
                note = f"{took * 1e3:.2f} ms, {rate:.2f} TFLOP/s; {SET:,} images x 2,500: {minutes:.1f} min"
                table.add(f"{product}, {members} networks: an iteration of one", took / members * 1e6, "us", note)
                del fleet


def show_stage1(table: Table) -> None:
    """A step of a shared model, and an image made with it."""
    count, steps = (4, 2) if table.tiny else (256, 60)
    images = [image.to(table.device) for image in faces(count)]
    named = [(CaseImage(name=str(n), sha256=f"{n:064}"), image) for n, image in enumerate(images)]
    settings = load_preset("quality").for_case()
    schedule = settings.schedule.model_copy(update={"iterations": steps})
    settings = settings.model_copy(update={"schedule": schedule, "rounds": 1})
    cameras: dict[str, Downscale] = {"bicubic": BICUBIC, "blur and noise": BLUR}
    with machine(RunOptions(str(table.device), "auto")) as used:
        for name, camera in cameras.items():
            began = time.perf_counter()
            model = learn_shared(named, settings, (2.0, 2.0), camera, seed=0, machine=used)
            table.wait()
            table.add(f"shared model, {name}: a step", (time.perf_counter() - began) / steps * 1e3, "ms")
            began = time.perf_counter()
            jobs = (
                (n, upscale(image, (2.0, 2.0), settings, camera, used, seed=0, shared=model))
                for n, image in enumerate(images)
            )
            failed = [ended.error for ended in run_jobs(jobs, 64) if ended.error is not None]
            assert not failed, failed[0]
            table.wait()
            each = (time.perf_counter() - began) / count
            table.add(f"shared model, {name}: an image", each * 1e3, "ms", f"{SET:,} images: {each * SET:.0f} s")


def show_stage2(table: Table) -> None:
    """Steps of paper.yaml."""
    given = load_run(ROOT / "configs" / "paper.yaml").train
    never = given.every.model_copy(update=dict.fromkeys(("validation", "samples", "checkpoint"), 10**9))
    steps, batch = (3, 2) if table.tiny else (60, 50)
    held_out = given.validation.model_copy(update={"images": 2})
    settings = given.model_copy(update={"batch": batch, "every": never, "validation": held_out})
    hours = 0.0
    with machine(RunOptions(str(table.device), "auto")) as used, tempfile.TemporaryDirectory() as folder:
        features = None
        if settings.losses.need_features:
            features = vgg(mediator_options(settings.mediator), "random", seed=0)[0].to(used.device)
        data = crops(20 if table.tiny else 200, 32)
        loop = Loop(settings, data, features, seed=0, machine=used, folder=Path(folder), facts={})
        loop.schedule = Schedule(0, 1, steps, steps, 10**6)
        step, stamps = loop._step, list[float]()

        def stamped(drawn: StepBatch) -> None:
            if loop.state.step in (steps // 3, steps, steps + steps // 3, 2 * steps - 1):
                table.wait()
                stamps.append(time.perf_counter())
            step(drawn)

        loop._step = stamped  # type: ignore[method-assign]
        loop.run()
        for name, (begin, end) in (("discriminator", stamps[:2]), ("generator", stamps[2:])):
            each = (end - begin) / max(1, steps - steps // 3 - (name == "generator"))
            table.add(f"{name} step of paper.yaml, batch {batch}, {used.precision}", each * 1e3, "ms")
            hours += each * STEPS_OF_THE_PAPER[name] / 3600
    table.add("the paper's 2,000 epochs, extrapolated", hours, "h")


PARTS: dict[str, Callable[[Table], None]] = {
    "machine": show_machine,
    "right": show_right,
    "repeats": show_repeats,
    "waits": show_waits,
    "fleets": show_fleets,
    "stage1": show_stage1,
    "stage2": show_stage2,
}


def main() -> None:
    """Run the parts, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=300, help="seconds after which no part begins")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("torch sees no GPU; to try the script without one: --tiny --device cpu")
    table = Table(args.device, args.budget, args.tiny)
    for name in args.only.split(","):
        table.part = name
        if table.seconds > table.budget:
            table.add("left out, no time", None)
            continue
        try:
            PARTS[name](table)
        except Exception as error:  # one part shall not cost the others, on a machine that is lent for minutes
            traceback.print_exc()
            table.add("failed", f"{type(error).__name__}: {str(error)[:200]}")
        if table.device.type == "cuda":
            torch.cuda.empty_cache()
    out = Path(os.environ.get("OUT", ".")) / "gpu_table.json"
    out.write_text(json.dumps([asdict(row) for row in table.rows], indent=1), "utf-8")
    print(f"{table.seconds:.0f} s in all; {out}")


if __name__ == "__main__":
    main()
