"""Synthetic HR images of the split's LR images: python -m pipelines.synth --config FILE (or: make synth).

Reads split.json from the run's folder, writes synthetic/ there: shards (HDF5), shared.safetensors where one network is
learnt on the case, gains.png and contact-sheet.png; and beside split.json, where the degradation is not bicubic,
degradation.json and degradation.png. The same command goes on where a run was stopped.
Many devices and hosts: torchrun --nproc-per-node 8 --max-restarts 3 -m pipelines.synth --config FILE
Exit codes: 0 done, 1 some images failed or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import io
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pydantic import JsonValue

from zssr_gan.data.cameras import Cameras, read_degradations
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.split import read_split
from zssr_gan.data.store import Store, read_manifest, refuse_other_settings, write_shard
from zssr_gan.data.synthesis import (
    SYNTHESISED,
    Failed,
    Synthesiser,
    Teachers,
    case_degradations,
    keep_degradations,
    shared_start,
    zero_shot_settings,
)
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.devices import PRECISIONS, Machine, RunOptions, machine
from zssr_gan.distributed import Ranks, join
from zssr_gan.errors import DeviceError, SettingsError, StoreError, ZssrGanError
from zssr_gan.files import atomic_write, locked, sha256_file
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture, from_samples
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.progress import Bar
from zssr_gan.provenance import MARK
from zssr_gan.settings.run import RunSettings, load_run
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception, uninterrupted
from zssr_gan.zeroshot.scheduler import Tick
from zssr_gan.zeroshot.shared import SharedStart, read_shared
from zssr_gan.zeroshot.steps import fleet_capacity

# What a person looks at after `make synth`: results beside inputs, and how much was gained over back-projection.


SHOWN = 12
"""Rows of the contact sheet."""


def draw_pictures(store: Path) -> Iterator[Path]:
    """Write contact-sheet.png and, where there are figures to draw, gains.png into a store's folder; their paths."""
    with SyntheticSet(store, allow_empty=True) as images:
        if not len(images):
            return
        sheet = store / "contact-sheet.png"
        atomic_write(sheet, contact_sheet_png(images), overwrite=True)
        yield sheet
        gains, held_out = own_scale_gains(images)
        if gains:
            path = store / "gains.png"
            atomic_write(path, histogram_png(gains, held_out), overwrite=True)
            yield path


def contact_sheet_png(images: SyntheticSet) -> bytes:
    """Input, bicubic and result of evenly chosen images, in rows."""
    rows = []
    count = min(SHOWN, len(images))
    for place in range(count):
        number = place * (len(images) - 1) // max(1, count - 1)
        lr, sr = (from_samples(samples, Metadata()).pixels for samples in images.pixels(number))
        bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        label = str(images.figures(number)["label"])
        rows.append([(images.ids[number], lr.clone()), ("bicubic", bicubic), (f"synthetic HR, {label}", sr.clone())])
    picture = Picture(contact_sheet(rows, title="Synthetic HR images", cell=192), None, 8, Metadata())
    return encode_picture(picture, "png", {MARK: "comparison sheet"})


def own_scale_gains(images: SyntheticSet) -> tuple[list[float], bool]:
    """Each image's PSNR over back-projection on its own shrunk copy, dB; and whether that was held out everywhere."""
    gains, held_out = [], True
    for number in range(len(images)):
        choice = images.figures(number)["choice"]
        assert isinstance(choice, dict)
        network, plain = choice["network_db"], choice["back_projection_db"]
        if isinstance(network, float) and isinstance(plain, float):
            gains.append(network - plain)
            held_out = held_out and bool(choice["held_out"])
    return gains, held_out


def histogram_png(gains: list[float], held_out: bool) -> bytes:
    """The gains as a histogram that says what it shows."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(gains, bins=min(40, max(5, len(gains) // 5)), color="#3b6ea5", edgecolor="white")
    mean = sum(gains) / len(gains)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.axvline(mean, color="#c0392b", linewidth=1.5, label=f"mean {mean:+.2f} dB")
    worse = sum(gain < 0 for gain in gains)
    learnt = "on parts that were held out" if held_out else "which the networks may have learnt from"
    axes.set_title(
        f"{len(gains):,} images enlarged from their own shrunk copies,\n{learnt}; {worse:,} below 0", fontsize=11
    )
    axes.set_xlabel("PSNR over bicubic + back-projection, dB")
    axes.set_ylabel("images")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.synth", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML of the run: configs/*.yaml")
    parser.add_argument("--small", action="store_true", help="take the file's block `small`: a run of minutes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting: synth.init=scratch"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (cuda:1, ...) or mps")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads of each process")
    parser.add_argument("--fleet", type=int, default=None, metavar="N", help="networks in training side by side")
    options = parser.parse_args(arguments)
    turn_sigterm_into_an_exception()
    with Bar() as bar:
        try:
            if options.fleet is not None and options.fleet < 1:
                raise SettingsError(f"--fleet {options.fleet}: at least one network is trained at a time.")
            settings = load_run(options.config, options.set, small=options.small)
            ranks = join()
            run = RunOptions(ranks.own_device(options.device), options.precision, options.threads)
            with machine(run) as used:
                return Stage(settings, options.config, ranks, used, options.fleet, bar).run()
        except KeyboardInterrupt as stop:
            bar.note("Stopped: what is in the shards is kept; the same command goes on from there.", "red")
            return exit_code(stop)
        except ZssrGanError as error:
            bar.note(f"error: {error}", "red")
            return 2 if isinstance(error, SettingsError | StoreError | DeviceError) else 1


@dataclass
class Stage:
    """One process's part in making a run's synthetic images."""

    settings: RunSettings
    config: Path
    ranks: Ranks
    used: Machine
    fleet: int | None
    bar: Bar

    def __post_init__(self) -> None:
        """Find the split and the images to make."""
        self.folder = self.settings.folder(self.config)
        self.store = self.folder / "synthetic"
        path = self.folder / "split.json"
        if not path.exists():
            raise SettingsError(f"{path}: is not there; `make prepare` with the same CONFIG, SET and SMALL makes it.")
        self.split = read_split(path)
        if self.split.seed != self.settings.seed:
            raise SettingsError(f"seed: is {self.settings.seed}, and split.json was made with {self.split.seed}.")
        self.split_sha256 = sha256_file(path)
        self.images = Prepared(self.split, self.settings.data, SYNTHESISED)
        self.zero_shot = zero_shot_settings(self.settings)
        scale = self.settings.synth.scale
        self.scale = (scale, scale)
        self.degradations = self.folder / "degradation.json"
        self.cameras = Cameras()

    def run(self) -> int:
        """Make what is missing; the exit code."""
        with ExitStack() as stack:
            shared: SharedStart | None = None
            unread: list[str] = []
            if self.ranks.rank == 0:
                shared, unread, begin = self._begin(stack)
                self.ranks.publish("begin", json.dumps(begin).encode())
            begin = json.loads(self.ranks.hear("begin"))
            if self.ranks.rank:
                shared = read_shared(Path(begin["shared"])) if begin["shared"] else None
                self.cameras = Cameras(read_degradations(self.degradations) if begin["degradation"] else None)
            failures = self._make(begin, shared)
            told = self.ranks.gather("failures", json.dumps(failures).encode())
            if self.ranks.rank:
                return 0
            return self._end([*unread, *(failure for one in told for failure in json.loads(one))], begin)

    def _begin(self, stack: ExitStack) -> tuple[SharedStart | None, list[str], dict[str, Any]]:
        """Rank 0: the store, its lock, the degradations, the shared start, and what is missing."""
        self.store.mkdir(parents=True, exist_ok=True)
        held = StoreError(f"{self.store}: another run is writing there; wait until it ends, or stop it.")
        stack.enter_context(locked(self.store / ".stage-lock", held))
        shared: SharedStart | None = None
        facts: dict[str, JsonValue] = {
            "split_sha256": self.split_sha256,
            "seed": self.settings.seed,
            "scale": self.settings.synth.scale,
            "init": self.settings.synth.init,
            "shared_sha256": None,
            "size": self.settings.data.size,
            "zero_shot": self.zero_shot.model_dump(mode="json"),
        }
        if self.settings.synth.degradation_from != "bicubic":
            facts["degradation"] = self.settings.synth.degradation_from
        # Before anything is estimated or learnt for a store that would refuse it.
        refuse_other_settings(self.store, facts, but=("shared_sha256", "degradations"))
        teachers = Teachers(self.split, self.settings.data)
        degradations = case_degradations(self.settings, teachers, self.degradations, self.bar)
        if degradations is not None:
            facts["degradations"] = {**degradations.hashes}
            refuse_other_settings(self.store, facts, but=("shared_sha256",))
            keep_degradations(degradations, self.degradations)
        self.cameras = Cameras(degradations)
        if self.settings.synth.init == "shared":
            shared = shared_start(
                self.settings, self.zero_shot, teachers, self.cameras, self.store, self.used, self.bar
            )
        facts["shared_sha256"] = None if shared is None else shared.sha256
        store = stack.enter_context(Store(self.store, facts, on_shard=self._checking))
        for damage in store.dropped:
            lost = f"{len(damage.ids)} of its images are made again" if damage.ids else "it is made again"
            self.bar.note(f"{damage.shard}: was damaged ({damage.reason}); {lost}.", "red")
        done = store.done
        missing = [n for n in range(len(self.images)) if self.images.member(n).id not in done]
        # Images of one size lie together, so that they share fleets.
        missing.sort(key=lambda n: (self._size(n), n))
        if done:
            self.bar.note(f"{len(done & set(self.images.ids)):,} of {len(self.images):,} images are there already")
        path = str(self.store / "shared.safetensors") if shared is not None else None
        begin = {
            "missing": missing,
            "number": store.next_number,
            "settings": store.settings_sha256,
            "shared": path,
            "degradation": degradations is not None,
        }
        return shared, teachers.failures, begin

    def _checking(self, done: int, total: int) -> None:
        self.bar.update("checking shards", done, total)

    def _size(self, number: int) -> tuple[int, int]:
        member = self.images.member(number)
        size = self.settings.data.size
        return (member.height, member.width) if size is None else (size, size)

    def _make(self, begin: dict[str, Any], shared: SharedStart | None) -> list[str]:
        """Claim chunks of work until none is left; what failed, a line each."""
        shard, missing = self.settings.synth.shard, begin["missing"]
        # So many pieces that each process gets several: who is quick takes more.
        share = math.ceil(len(missing) / self.ranks.world) if missing else 1
        piece = max(1, min(shard, math.ceil(share / 4)))
        chunks = [missing[at : at + piece] for at in range(0, len(missing), piece)]
        capacity = min(self.fleet or self._capacity(missing), share)
        synthesiser = Synthesiser(
            self.images, self.zero_shot, self.scale, self.settings.seed, self.used, shared, self.cameras
        )
        if missing and self.ranks.rank == 0 and shared is None:
            way = (
                "batched matrix products"
                if self.used.device.type == "cuda" and capacity > 1
                else "grouped convolutions"
            )
            self.bar.note(f"{capacity} networks side by side in each process, on {self.used.device}, by {way}")
        speed = _Speed(self.bar, self.ranks, len(missing))
        pending: list[StoredImage] = []
        failures = []

        def claimed() -> Iterator[int]:
            while (number := self.ranks.claim("chunk")) < len(chunks):
                yield from chunks[number]

        def keep() -> None:
            number = begin["number"] + self.ranks.claim("shard")
            with uninterrupted():
                write_shard(self.store, number, pending, begin["settings"])
            pending.clear()

        for made in synthesiser.run(claimed(), capacity, on_tick=speed.tick, on_notice=self.bar.note):
            speed.count()
            if isinstance(made, Failed):
                failures.append(made.why)
                continue
            pending.append(made)
            if len(pending) == shard:
                keep()
        if pending:
            keep()
        return failures

    def _capacity(self, missing: list[int]) -> int:
        size = self._size(missing[len(missing) // 2]) if missing else (32, 32)
        return fleet_capacity(self.used.device, self.zero_shot.for_size(size[0] * size[1]), size)

    def _end(self, failures: list[str], begin: dict[str, Any]) -> int:
        """Rank 0: whether all is there, the pictures, and the failures last."""
        there = {image.id for sidecar in read_manifest(self.store) for image in sidecar.images}
        absent = [self.images.member(number).id for number in begin["missing"]]
        absent = [name for name in absent if name not in there]
        unexplained = len([name for name in absent if not any(failure.startswith(name) for failure in failures)])
        for picture in draw_pictures(self.store):
            print(picture)
        print(self.store)
        for failure in failures:
            self.bar.note(f"failed: {failure}", "red")
        if unexplained:
            self.bar.note(f"failed: {unexplained:,} images are not there though no process failed: run it again", "red")
        return 1 if failures or unexplained else 0


class _Speed:
    """Figures of a run beside its bar: images a second over all processes, networks and GFLOP/s of this one."""

    def __init__(self, bar: Bar, ranks: Ranks, total: int) -> None:
        self.bar, self.ranks, self.total = bar, ranks, total
        self.began = time.perf_counter()
        self.made, self.flop, self.active = 0, 0.0, 0

    def count(self) -> None:
        """One more image is made."""
        self.made = self.ranks.count("made", 1)
        self._show()

    def tick(self, tick: Tick) -> None:
        """Some iterations are done."""
        self.flop, self.active = self.flop + tick.flop, tick.active
        self._show()

    def _show(self) -> None:
        if self.ranks.rank:
            return
        seconds = max(1e-6, time.perf_counter() - self.began)
        detail = f"{self.made / seconds:.1f} images/s"
        if self.active:
            detail += f", {self.active} networks, {self.flop / seconds / 1e9:.0f} GFLOP/s"
        self.bar.update("synthetic HR", self.made, self.total, detail)


if __name__ == "__main__":
    sys.exit(main())
