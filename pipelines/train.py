"""The generator, trained with or without HR images: python -m pipelines.train --config FILE (or: make train).

Reads split.json and synthetic/ (with train.pairs the HR images instead), and writes train/ into the run's folder:
generator.safetensors and card.json (the best by validation), content/ (the same of the phase before the discriminator),
metrics.jsonl, epochs.csv and epochs.md, samples/, losses.png, checkpoints/ and, if asked for, tensorboard/. The same
command goes on where a run was stopped.
Several devices: torchrun --nproc-per-node 8 -m pipelines.train --config FILE
Exit codes: 0 done, 1 NaN, too little memory or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM. torchrun itself
ends with 1 and a traceback of its own after SIGTERM, whatever its processes did (docs/many-gpus.md).
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.cli.notify import Notice, notify, parse_command
from zssr_gan.data.cameras import Cameras, read_degradations
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import read_split
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.distributed import DataParallel, Ranks, join
from zssr_gan.errors import (
    DeviceError,
    NumericalError,
    SettingsError,
    StoreError,
    WeightsError,
    ZssrGanError,
    is_out_of_memory,
)
from zssr_gan.files import atomic_write, locked, sha256_file
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.pretrained import Origin, vgg
from zssr_gan.networks.registry import mediator_options, parameters
from zssr_gan.networks.vgg import VGG
from zssr_gan.progress import Bar
from zssr_gan.settings.run import RunSettings, load_run
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception
from zssr_gan.training.checkpoints import MetricsLog, checkpoints_in, step_of
from zssr_gan.training.dataset import Material, gather_material, gather_pairs
from zssr_gan.training.logs import Board, curves_png, epoch_rows, epochs_csv, epochs_markdown, samples_png
from zssr_gan.training.loop import Loop, Watchers
from zssr_gan.training.model_card import CameraCard, Card, ImageList, MediatorCard, options_of, write_generator
from zssr_gan.training.validation import Figures

_MAY_CHANGE = {"every", "epochs", "tensorboard"}
"""Of the group `train`: what a run that goes on may have changed. Epochs only where the rates stay: a cosine to another
end has other rates from the start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML of the run: configs/*.yaml")
    parser.add_argument("--small", action="store_true", help="take the file's block `small`: a run of minutes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting: train.batch=8"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (cuda:1, ...) or mps")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads")
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run at the end (done, stopped early or failed; not after Ctrl-C), without a shell, with the final "
        "figures as JSON on standard input and as ZSSR_GAN_STATUS, ZSSR_GAN_VALIDATION_LOSS, ZSSR_GAN_STEP, ...",
    )
    options = parser.parse_args(arguments)
    turn_sigterm_into_an_exception()
    ranks, began = Ranks.alone(), time.monotonic()
    stage: Stage | None = None
    command: list[str] | None = None

    def tell(status: str, why: str | None = None) -> None:
        """That a training is over; who was sent away at its door knows it already."""
        if stage is None or ranks.rank:
            return
        notice = stage.notice(status, time.monotonic() - began, why)
        if why is None:
            bar.note(notice.line)
        if command is not None:
            notify(command, notice, lambda text: bar.note(f"WARNING: {text}.", "bold yellow"))

    with Bar() as bar:
        try:
            command = None if options.notify is None else parse_command(options.notify)
            settings = load_run(options.config, options.set, small=options.small)
            ranks = join()
            run = RunOptions(ranks.own_device(options.device), settings.train.precision, options.threads)
            with machine(run) as used, DataParallel(ranks, used.device) as group:
                stage = Stage(settings, options.config, used, bar, group)
                stage.run()
            tell("stopped_early" if stage.loop.state.epochs.stopped else "done")
        except KeyboardInterrupt as stop:
            if not ranks.rank:
                bar.note(f"Stopped: {_left_by(stage)}.", "red")
            return exit_code(stop)
        except ZssrGanError as error:
            # All processes find it together; other errors may be of one host alone.
            if not (ranks.rank and isinstance(error, NumericalError)):
                bar.note(f"error: {error}", "red")
            tell("failed", str(error))
            usage = SettingsError | StoreError | DeviceError | WeightsError
            return 2 if isinstance(error, usage) else 1
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                tell("failed", type(error).__name__)
                raise
            why = (
                "the training does not fit into memory: lower train.batch, train.patch, or the networks' width "
                "(train.generator.options.width, train.discriminator.options.width)."
            )
            bar.note(f"error: {why}", "red")
            tell("failed", why)
            return 1
    return 0


@dataclass
class Stage:
    """A run's training."""

    settings: RunSettings
    config: Path
    used: Machine
    bar: Bar
    group: DataParallel
    origin: Origin | None = None
    board: Board | None = None
    loop: Loop = field(init=False)
    material: Material = field(init=False)
    store_sha256: str | None = field(init=False)
    left: ExitStack = field(init=False)
    """What is closed when the training is left."""

    def __post_init__(self) -> None:
        """Find what the stages before left."""
        self.run_folder = self.settings.folder(self.config)
        self.folder = self.run_folder / "train"
        path = self.run_folder / "split.json"
        if not path.exists():
            raise SettingsError(f"{path}: is not there; `make prepare` with the same CONFIG, SET and SMALL makes it.")
        self.split = read_split(path)
        self.split_sha256 = sha256_file(path)
        paired = self.settings.train.pairs is not None
        if not paired and not (self.run_folder / "synthetic" / "settings.json").exists():
            store = self.run_folder / "synthetic"
            raise SettingsError(f"{store}: is not there; `make synth` with the same CONFIG, SET and SMALL makes it.")

    def run(self) -> None:
        """Train, and write what came out."""
        with ExitStack() as self.left:
            if not self.group.ranks.rank:
                held = StoreError(f"{self.folder}: another run is training there; wait until it ends, or stop it.")
                self.left.enter_context(locked(self.folder / ".lock", held))
            self._train()

    def notice(self, status: str, seconds: float, error: str | None) -> Notice:
        """What the training came to, as far as metrics.jsonl knows."""
        try:
            lines = MetricsLog(self.folder / "metrics.jsonl").read()
        except ZssrGanError:  # the error that is told of may be this very one
            lines = []
        checks = [line["validation"] for line in lines if "validation" in line]
        step = lines[-1]["step"] if lines else None
        return Notice(status, str(self.run_folder), step, seconds, checks[-1] if checks else {}, error)

    def _train(self) -> None:
        train = self.settings.train
        if train.tensorboard and not self.group.ranks.rank:
            self.board = self.left.enter_context(Board(self.folder / "tensorboard"))
        mediator = self._mediator()
        self.material = self._material()
        if self.material.left_out:
            self._say(f"{len(self.material.left_out):,} images are smaller than train.patch and are left out")
        fewest = min(len(self.material.inputs), len(self.material.reals))
        if train.batch > fewest:
            self._say(
                f"WARNING: train.batch is {train.batch}, and there are {fewest:,} images to draw from, so that some "
                "come several times in a batch: lower train.batch.",
                "bold yellow",
            )
        self.loop = Loop(
            train,
            self.material,
            mediator,
            seed=self.settings.seed,
            machine=self.used,
            folder=self.folder,
            facts=self._facts(),
            group=self.group,
            watchers=self._watchers(),
        )
        counted = _COUNTED_PAIRS if self.material.paired else _COUNTED
        counts = ", ".join(f"{len(getattr(self.material, name).ids):,} {what}" for name, what in counted.items())
        self._say(
            f"{counts}; generator {parameters(self.loop.generator):,} and discriminator "
            f"{parameters(self.loop.discriminator):,} weights; {self.loop.plan.total:,} steps of {train.batch} images "
            f"on {self.used.device}, {self.used.precision}"
        )
        self.loop.run()
        if self.group.ranks.rank:
            return
        losses, lines = self.folder / "losses.png", self.loop.log.read()
        atomic_write(losses, curves_png(lines, self._title("Training")), overwrite=True)
        rows, table = epoch_rows(lines), self.folder / "epochs.md"
        atomic_write(table.with_suffix(".csv"), epochs_csv(rows), overwrite=True)
        atomic_write(table, epochs_markdown(rows), overwrite=True)
        self._say_warning()
        for path in (losses, table, self._samples(self.loop.plan.total), self.folder / "generator.safetensors"):
            if path.exists():  # of a run that had ended before, someone may have removed some
                print(path)

    def _watchers(self) -> Watchers:
        speed = _Speed(self.bar, self.settings.train.batch)
        watchers = Watchers(speed, self._say, self._keep_best, self._draw_samples)
        return watchers if self.board is None else replace(watchers, begun=self.board.begin, logged=self.board.line)

    def _say(self, text: str, style: str = "") -> None:
        if self.group.ranks.rank == 0:
            self.bar.note(text, style)

    def _mediator(self) -> VGG | None:
        train = self.settings.train
        if not train.losses.need_features:
            return None
        network, self.origin = vgg(mediator_options(train.mediator), train.mediator.weights, seed=self.settings.seed)
        self._say_warning()
        return network.to(self.used.device)

    def _say_warning(self) -> None:
        if self.origin is not None and self.origin.warning:
            self._say(f"WARNING: {self.origin.warning}.", "bold red")

    def _material(self) -> Material:
        train, scale = self.settings.train, self.settings.synth.scale
        prepared = Prepared(self.split, self.settings.data, ("generator", "zssr"))
        if train.pairs is not None:
            self.store_sha256 = None
            return gather_pairs(
                prepared,
                train.pairs,
                held_out=train.validation.images,
                patch=train.patch,
                seed=self.settings.seed,
                left=self.left,
                on_image=lambda done, total: self.bar.update("reading images held out", done, total),
            )
        if scale != int(scale):
            raise SettingsError(f"synth.scale: is {scale:g}, and a generator enlarges by whole numbers.")
        known = self.run_folder / "degradation.json"
        cameras = Cameras(read_degradations(known) if known.exists() else None)
        with SyntheticSet(self.run_folder / "synthetic") as store:
            self.store_sha256 = store.settings.settings_sha256
            return gather_material(
                prepared,
                store,
                cameras,
                lr_role=train.images,
                held_out=train.validation.images,
                patch=train.patch,
                scale=int(scale),
                seed=self.settings.seed,
                on_image=lambda done, total: self.bar.update("reading images", done, total),
            )

    def _facts(self) -> dict[str, JsonValue]:
        falling = self.settings.train.optimiser.schedule == "cosine"
        may_change = _MAY_CHANGE - {"epochs"} if falling else _MAY_CHANGE
        exclude: dict[str, Any] = {**dict.fromkeys(may_change, True), "pairs": {"memory"}}
        train = self.settings.train.model_dump(mode="json", exclude=exclude)
        return {
            "seed": self.settings.seed,
            "train": train,
            "precision": self.used.precision,
            "mediator": None if self.origin is None else self.origin.sha256,
            "split": self.split_sha256,
            "store": self.store_sha256,
            **self.material.facts,
        }

    def _keep_best(self, generator: GeneratorNetwork, step: int, phase: str, figures: Figures) -> None:
        files = {member.id: member.sha256 for member in self.split.entries}
        listed = {name: {own: files[own] for own in images.ids} for name, images in self.material.by_purpose.items()}
        card = Card(
            name=self.settings.train.generator.name,
            options=dict(options_of(generator)),
            images={name: ImageList.of(files) for name, files in listed.items()},
            cameras=self._cameras(),
            truths=self.material.paired,
            split_sha256=self.split_sha256,
            store_sha256=self.store_sha256,
            mediator=None if self.origin is None else MediatorCard(**asdict(self.origin), warning=self.origin.warning),
            settings=self.settings.train.model_dump(
                mode="json", exclude=None if self.settings.train.losses.need_features else {"mediator"}
            ),
            seed=self.settings.seed,
            step=step,
            steps=self.loop.plan.total,
            phase=phase,
            mean_weights=self.settings.train.ema > 0,
            metrics=figures.values,
            precision=self.used.precision,
            device=str(self.used.device),
            versions={"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__},
        )
        write_generator(self.folder, generator, card, listed)
        if phase == "pretrain" and self.settings.train.epochs:
            # The adversarial phase replaces it: kept, so that the two can be compared.
            write_generator(self.folder / "content", generator, card, listed)

    def _cameras(self) -> tuple[CameraCard, ...]:
        """Of the generator's images."""
        of_each = self.material.degradations
        cards = {of_each[place].sha256: CameraCard.of(of_each[place]) for place in self.material.inputs.cameras}
        return tuple(cards[sha256] for sha256 in sorted(cards))

    def _samples(self, step: int) -> Path:
        return self.folder / "samples" / f"step-{step:08}.png"

    def _draw_samples(self, step: int, made: Sequence[Tensor]) -> None:
        title = self._title(f"Images held out, after {step:,} of {self.loop.plan.total:,} steps")
        sheet = samples_png(made, self.material.held_out, title, paired=self.material.paired)
        atomic_write(self._samples(step), sheet, overwrite=True)
        if self.board is not None:
            self.board.sheet(step, sheet)

    def _title(self, text: str) -> str:
        warning = None if self.origin is None else self.origin.warning
        return f"{text}. {warning}." if warning else text


def _left_by(stage: Stage | None) -> str:
    """What a stop leaves, and what the same command then does."""
    paths = checkpoints_in(stage.folder / "checkpoints") if stage is not None else []
    if not paths:
        return "nothing is kept yet; the same command begins anew"
    return f"{paths[-1]} is kept, of step {step_of(paths[-1]):,}; the same command goes on from it"


_COUNTED = {"inputs": "LR images", "reals": "synthetic HR images", "held_out": "held out"}

_COUNTED_PAIRS = {"inputs": "HR images, of which LR images are made", "held_out": "held out"}


class _Speed:
    """Figures of a training beside its bar: losses, and images a second since it was started."""

    def __init__(self, bar: Bar, batch: int) -> None:
        self.bar, self.batch = bar, batch
        self.began, self.first = time.perf_counter(), -1

    def __call__(self, done: int, total: int, losses: Mapping[str, float]) -> None:
        if self.first < 0:
            self.began, self.first = time.perf_counter(), done
        seconds = time.perf_counter() - self.began
        told = [f"{name} {value:.3g}" for name, value in losses.items() if name in ("loss", "accuracy")]
        if seconds:
            told.append(f"{(done - self.first) * self.batch / seconds:.0f} images/s")
        self.bar.update("training", done, total, ", ".join(told))


if __name__ == "__main__":
    sys.exit(main())
