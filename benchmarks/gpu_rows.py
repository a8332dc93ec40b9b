"""The rows of the table of a GPU machine, and what its parts work on."""

import json
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.upscale import upscale

BICUBIC = BicubicDownscale()
BLUR = Degradation(
    blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.01)
).downscale
SET = 7000
"""Images of the seed paper's larger set."""


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

    def __init__(self, device: str, budget: float, tiny: bool, threads: int | None = None) -> None:
        self.device, self.budget, self.tiny, self.threads = torch.device(device), budget, tiny, threads
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

    def write(self) -> Path:
        """Write the rows so far as JSON."""
        out = Path(os.environ.get("OUT", ".")) / "gpu_table.json"
        out.write_text(json.dumps([asdict(row) for row in self.rows], indent=1), "utf-8")
        return out

    def machine(self, precision: str) -> AbstractContextManager[Machine]:
        """The device, in a precision."""
        return machine(RunOptions(str(self.device), precision, self.threads))

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], object], repeats: int = 5, warm: int = 2) -> float:
        """Median seconds of some work, after two runs that choose algorithms, or so many."""
        taken = []
        for number in range(warm + repeats):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            if number >= warm:
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


def images_of(
    images: list[Tensor], preset: str, used: Machine, capacity: int, iterations: int | None = None
) -> list[Tensor]:
    """Results `C H W` of images by a preset for bicubic's camera; `iterations`: of a network, in place of its own."""
    settings = load_preset(preset).for_size(images[0].shape[-2] * images[0].shape[-1])
    if iterations is not None:
        schedule = settings.schedule.model_copy(update={"iterations": iterations})
        settings = settings.model_copy(update={"schedule": schedule})
    there = [image.to(used.device) for image in images]
    jobs = ((n, upscale(image, (2.0, 2.0), settings, BICUBIC, used, seed=0)) for n, image in enumerate(there))
    made = {ended.key: ended.unwrap().take_image().cpu() for ended in run_jobs(jobs, capacity)}
    return [made[n] for n in range(len(images))]
