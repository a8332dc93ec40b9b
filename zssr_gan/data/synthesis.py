"""Synthetic HR images of prepared LR ones, trained as one fleet and written to the run's store with their figures.

Shapes: C channels, H W rows and columns.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch

from zssr_gan.data.cameras import Cameras
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.run_case import RunCase, zero_shot_settings
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.split import Role, read_split
from zssr_gan.data.store import Store, write_shard
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.devices import Machine
from zssr_gan.distributed import Ranks
from zssr_gan.errors import DeviceError, ImageError, SettingsError, StoreError, ZssrGanError, is_out_of_memory
from zssr_gan.files import locked
from zssr_gan.imaging.colour import from_levels, psnr_db, to_levels
from zssr_gan.imaging.resize import Scale
from zssr_gan.progress import Bar
from zssr_gan.provenance import finite_json, label_of
from zssr_gan.settings.run import RunSettings
from zssr_gan.settings.zeroshot import SMALLEST_SIDE, ZeroShotSettings
from zssr_gan.zeroshot.scheduler import Tick, TrainJob, run_jobs
from zssr_gan.zeroshot.shared import SharedModel, read_shared
from zssr_gan.zeroshot.steps import fleet_capacity, plan_steps
from zssr_gan.zeroshot.upscale import upscale

SYNTHESISED: tuple[Role, ...] = ("zssr", "table1")
"""Roles whose synthetic HR images are made."""


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be made, and why, in one sentence."""

    id: str
    why: str


@dataclass(frozen=True)
class Synthesiser:
    """Makes synthetic HR images.

    Args:
        images: the LR images.
        settings: zero-shot settings; those for a case where there is a shared model.
        scale: (y, x).
        seed: the run's.
        machine: what it runs on.
        shared: the network learnt on the case, else each image has its own.
        cameras: how each LR image came out of an HR one.
    """

    images: Prepared
    settings: ZeroShotSettings
    scale: Scale
    seed: int
    machine: Machine
    shared: SharedModel | None = None
    cameras: Cameras = field(default_factory=Cameras)

    def run(
        self,
        numbers: Iterable[int],
        capacity: int,
        *,
        on_tick: Callable[[Tick], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Iterator[StoredImage | FailedImage]:
        """Make the images of these numbers, taken one by one as places in the fleet become free.

        Args:
            numbers: places in `images`.
            capacity: networks in training side by side.
            on_tick, on_notice: see `run_jobs`.
        """
        jobs = ((number, self._job(number, capacity)) for number in numbers)
        for ended in run_jobs(jobs, capacity, on_tick=on_tick, on_notice=on_notice):
            if ended.error is not None:
                yield FailedImage(self.images.member(ended.key).id, str(ended.error))
            else:
                assert ended.result is not None
                yield ended.result

    def iterations(self, number: int) -> int:
        """Of all networks of an image, at the most, where none is trained again; 0 with a shared model."""
        if self.shared is not None:
            return 0
        size, single = self.images.size(number), self.cameras.of(self.images, number).downscale.single_step
        settings = self.settings.for_size(size[0] * size[1])
        steps = plan_steps(size, self.scale, settings.steps, single_step=single)
        return sum(len(step.scales) for step in steps) * settings.networks * settings.schedule.iterations

    def _job(self, number: int, capacity: int) -> TrainJob[StoredImage]:
        member, picture = self.images.member(number), self.images.read(number).picture
        height, width = picture.pixels.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            raise ImageError(
                f"{member.id}: is {width}x{height} pixels; zero-shot learning needs {SMALLEST_SIDE} a side."
            )
        camera = self.cameras.of(self.images, number)
        settings = self.settings if self.shared is not None else self.settings.for_size(height * width)
        try:
            done = yield from upscale(
                picture.pixels, self.scale, settings, camera.downscale, self.machine, seed=self.seed, shared=self.shared
            )
        except ZssrGanError as error:
            raise type(error)(f"{member.id}: {error}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            raise DeviceError(f"{member.id}: the device has too little memory to apply its networks.") from error
        levels = to_levels(done.image_CHW.detach().cpu())
        again = camera.downscale(from_levels(levels)[None], (height, width))[0]
        trainings = [step for step in done.steps if "iterations" in step]
        figures = finite_json(
            {
                "label": label_of(member.sha256, camera.learnt_from, shared=self.shared is not None),
                "role": member.role,
                "source": member.source,
                "source_sha256": member.sha256,
                "degradation": {"group": camera.group, "sha256": camera.sha256},
                "seeds": [seed for step in trainings for seed in step["seeds"]],
                "iterations": sum(sum(step["iterations"]) for step in trainings),
                # A shared network's loss is the case's, not this image's.
                "loss": trainings[-1]["last_loss"][0] if any(trainings[-1]["iterations"]) else None,
                "restarts": sum(sum(step["restarts"]) for step in trainings),
                "residual_db": round(psnr_db(float((again - picture.pixels).square().mean())), 3),
                "choice": asdict(done.selection),
                "notices": [*picture.notices, *done.notices],
                "device": str(self.machine.device),
                "precision": self.machine.precision,
                "threads": self.machine.threads,
                "fleet": capacity if any(any(step["iterations"]) for step in trainings) else None,
                "torch": torch.__version__,
            }
        )
        assert isinstance(figures, dict)
        lr, sr = (one.permute(1, 2, 0).contiguous().numpy() for one in (to_levels(picture.pixels), levels))
        return StoredImage(member.id, lr, sr, figures)


@dataclass(frozen=True, slots=True)
class _Work:
    """What rank 0 finds to do, for all ranks."""

    missing: list[int]
    """Places of the images to make, those of one size together, so that they share fleets."""
    first_shard: int
    settings_sha256: str


def synthesise(
    settings: RunSettings, config: Path, *, ranks: Ranks, machine: Machine, bar: Bar, fleet: int | None = None
) -> list[str]:
    """Make the synthetic HR images of a run that are not there yet; every rank of the run calls it.

    Reads split.json, and writes into the run's folder synthetic/ (the store, and shared.safetensors where one network
    is learnt on the case) and, where the degradation is not bicubic, degradation.json and degradation.png.

    Args:
        settings, config: of the run.
        ranks: this process among those of the run.
        machine: what it runs on.
        bar: progress.
        fleet: networks in training side by side; default: what the machine has room for.

    Returns:
        What failed, a line each; on other ranks than 0 nothing.

    Raises:
        SettingsError: split.json is missing or of other settings.
        StoreError: the store is of other settings, or in use.
    """
    folder, synth = settings.folder(config), settings.synth
    store, scale = folder / "synthetic", (synth.scale, synth.scale)
    split = read_split(folder / "split.json")
    if split.seed != settings.seed:
        raise SettingsError(f"seed: is {settings.seed}, and split.json was made with {split.seed}.")
    images = Prepared(split, settings.data, SYNTHESISED)
    failures: list[str] = []
    with ExitStack() as stack:
        if ranks.rank == 0:
            held = StoreError(f"{store}: another run is writing there; wait until it ends, or stop it.")
            stack.enter_context(locked(store / ".stage-lock", held))
            case = RunCase(settings, split, folder, machine, bar)
            facts, failures = case.learn(), case.failures
            checking = partial(bar.update, "checking shards")
            work = _missing(images, stack.enter_context(Store(store, facts, checking)), bar)
            ranks.publish("begin", json.dumps(asdict(work)).encode())
        work = _Work(**json.loads(ranks.hear("begin")))
        shared = read_shared(store / "shared.safetensors") if synth.init == "shared" else None
        cameras = Cameras() if synth.degradation_from == "bicubic" else Cameras.of_run(folder)
        zero_shot = zero_shot_settings(settings)
        synthesiser = Synthesiser(images, zero_shot, scale, settings.seed, machine, shared, cameras)
        failed = _make(synthesiser, work, synth.shard, store, ranks, fleet, bar)
        gathered = ranks.gather("failures", json.dumps([asdict(one) for one in failed]).encode())
    if ranks.rank:
        return []
    failed = [FailedImage(**one) for of_rank in gathered for one in json.loads(of_rank)]
    with SyntheticSet(store, allow_empty=True) as made:
        explained = {*made.ids, *(one.id for one in failed)}
    failures += [one.why for one in failed]
    if absent := sum(images.member(number).id not in explained for number in work.missing):
        failures.append(f"{absent:,} images are not there though no process failed: run it again")
    return failures


def _missing(images: Prepared, writer: Store, bar: Bar) -> _Work:
    """The images that the store does not hold."""
    for damage in writer.dropped:
        lost = f"{len(damage.ids)} of its images are made again" if damage.ids else "it is made again"
        bar.note(f"{damage.shard}: was damaged ({damage.reason}); {lost}.", "red")
    done = writer.done
    missing = [number for number, name in enumerate(images.ids) if name not in done]
    missing.sort(key=lambda number: (images.size(number), number))
    if done:
        bar.note(f"{len(done & set(images.ids)):,} of {len(images):,} images are there already")
    return _Work(missing, writer.next_number, writer.settings_sha256)


def _make(
    synthesiser: Synthesiser, work: _Work, shard: int, store: Path, ranks: Ranks, fleet: int | None, bar: Bar
) -> list[FailedImage]:
    """Claim chunks of work until none is left, and write shards; what failed."""
    images, settings, missing = synthesiser.images, synthesiser.settings, work.missing
    if not missing:
        return []
    # So many pieces that each process gets several: who is quick takes more.
    share = math.ceil(len(missing) / ranks.world)
    piece = max(1, min(shard, math.ceil(share / 4)))
    chunks = [missing[at : at + piece] for at in range(0, len(missing), piece)]
    size, device = images.size(missing[len(missing) // 2]), synthesiser.machine.device
    capacity = min(fleet or fleet_capacity(device, settings.for_size(size[0] * size[1]), size), share)
    if ranks.rank == 0 and synthesiser.shared is None:
        bar.note(f"{capacity} networks side by side in each process, on {device}")
    pending: list[StoredImage] = []
    failed: list[FailedImage] = []
    began, flop, detail = time.perf_counter(), 0.0, ""

    planned = {images.ids[number]: synthesiser.iterations(number) for number in missing}
    total = sum(planned.values())

    def count(tick: Tick) -> None:
        """Networks and GFLOP/s of this process."""
        nonlocal flop, detail
        flop += tick.flop
        speed = flop / max(1e-6, time.perf_counter() - began) / 1e9
        detail = f"{tick.active} networks, {speed:.0f} GFLOP/s" if tick.active else ""
        show(ranks.count("made", 0), ranks.count("iterations", tick.steps))

    def show(made: int, iterations: int) -> None:
        if ranks.rank == 0 and total:  # a fleet's images all end late: only its iterations say how long it takes
            parts = filter(None, [f"{made:,}/{len(missing):,} images", detail])
            bar.update("synthetic HR, iterations", min(iterations, total), total, ", ".join(parts))
        elif ranks.rank == 0:
            bar.update("synthetic HR", made, len(missing), images=1)

    def claimed() -> Iterator[int]:
        while (number := ranks.claim("chunk")) < len(chunks):
            yield from chunks[number]

    def write() -> None:
        write_shard(store, work.first_shard + ranks.claim("shard"), pending, work.settings_sha256)
        pending.clear()

    for one in synthesiser.run(claimed(), capacity, on_tick=count, on_notice=bar.note):
        # Networks that stop early leave out what was planned for them.
        left_out = 0 if isinstance(one, FailedImage) else planned[one.id] - cast(int, one.figures["iterations"])
        show(ranks.count("made", 1), ranks.count("iterations", left_out if total else 0))
        if isinstance(one, FailedImage):
            failed.append(one)
            continue
        pending.append(one)
        if len(pending) == shard:
            write()
    if pending:
        write()
    return failed
