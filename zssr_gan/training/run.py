"""Train the generator of a prepared run: reads split.json and synthetic/, writes train/ into the run's folder."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.cameras import Cameras
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import read_split
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.devices import Machine
from zssr_gan.distributed import DataParallel
from zssr_gan.errors import SettingsError, StoreError
from zssr_gan.files import atomic_write, locked, sha256_file
from zssr_gan.networks.registry import parameters
from zssr_gan.progress import Bar
from zssr_gan.settings.run import RunSettings
from zssr_gan.training.dataset import TrainingData, read_pairs, read_unpaired
from zssr_gan.training.logs import Callbacks, curves_png, epoch_rows, epochs_csv, epochs_markdown, samples_png
from zssr_gan.training.loop import Loop
from zssr_gan.training.model_card import GENERATOR
from zssr_gan.training.tensorboard import Board
from zssr_gan.training.train import load_mediator, train_generator

_MAY_CHANGE = {"every", "epochs", "tensorboard"}
"""Of the group `train`: what a resumed run may have changed. Epochs only where the rates stay: a cosine to another
end has other rates from the start."""


def train_folder(settings: RunSettings, config: Path) -> Path:
    """Return the folder that a run's training writes into. Raises SettingsError where a stage before it was not run."""
    run = settings.folder(config)
    needed = {"split.json": "prepare"} | ({} if settings.train.pairs else {"synthetic/settings.json": "synth"})
    for name, stage in needed.items():
        path = run / name
        if not path.exists():
            absent = path if path.parent == run else path.parent
            raise SettingsError(f"{absent}: is not there; `make {stage}` with the same CONFIG, SET and SMALL makes it.")
    return run / "train"


def train_run(
    settings: RunSettings, config: Path, machine: Machine, bar: Bar, group: DataParallel
) -> tuple[Loop, list[Path]]:
    """Train a run's generator, and write its tables and pictures; rank 0 alone speaks.

    Returns:
        The loop at its end, and the files to look at (none where this is not rank 0).

    Raises:
        StoreError: another run trains there. SettingsError, WeightsError, ...: see `train_generator`.
    """
    folder, train, seed, leads = train_folder(settings, config), settings.train, settings.seed, group.ranks.rank == 0
    path = folder.parent / "split.json"

    def say(text: str, style: str = "") -> None:
        if leads:
            bar.note(text, style)

    with ExitStack() as stack:
        board = None
        if leads:
            held = StoreError(f"{folder}: another run is training there; wait until it ends, or stop it.")
            stack.enter_context(locked(folder / ".lock", held))
            board = stack.enter_context(Board(folder / "tensorboard")) if train.tensorboard else None
        mediator = load_mediator(train, seed, machine)
        warning = None if mediator is None else mediator.origin.warning
        if warning:
            say(f"WARNING: {warning}.", "bold red")
        split = read_split(path)
        prepared = Prepared(split, settings.data, ("generator", "zssr"))
        data, store_sha256 = _read_data(settings, folder.parent, prepared, bar, stack)
        if data.left_out:
            say(f"{len(data.left_out):,} images are smaller than train.patch and are left out")
        if train.batch > (fewest := min(len(data.inputs), len(data.reals))):
            say(
                f"WARNING: train.batch is {train.batch}, and there are {fewest:,} images to draw from, so that some "
                "come several times in a batch: lower train.batch.",
                "bold yellow",
            )

        def announce(loop: Loop) -> None:
            what = {"inputs": "LR images", "reals": "synthetic HR images", "held_out": "held out"}
            what |= {"inputs": "HR images, of which LR images are made"} if data.paired else {}
            counts = ", ".join(f"{len(images.ids):,} {what[name]}" for name, images in data.by_purpose.items())
            weights = [f"{parameters(network):,}" for network in (loop.generator, loop.discriminator)]
            say(
                f"{counts}; generator {weights[0]} and discriminator {weights[1]} weights; "
                f"{loop.schedule.total:,} steps of {train.batch} images on {machine.device}, {machine.precision}"
            )

        def titled(text: str) -> str:
            return f"{text}. {warning}." if warning else text

        def draw_samples(step: int, total: int, outputs: Sequence[Tensor]) -> None:
            title = titled(f"Images held out, after {step:,} of {total:,} steps")
            sheet = samples_png(outputs, data.held_out, title, paired=data.paired)
            atomic_write(_samples(folder, step), sheet, overwrite=True)
            if board is not None:
                board.sheet(step, sheet)

        def show(done: int, total: int, losses: Mapping[str, float]) -> None:
            shown = [f"{name} {value:.3g}" for name, value in losses.items() if name in ("loss", "accuracy")]
            bar.update("training", done, total, ", ".join(shown), images=train.batch)

        callbacks = Callbacks(progress=show, notice=say, samples=draw_samples)
        if board is not None:
            callbacks = replace(callbacks, begun=board.begin, logged=board.line)
        files = {member.id: member.sha256 for member in split.entries}
        facts: dict[str, JsonValue] = {
            "seed": seed,
            "train": _resumable(settings),
            "precision": machine.precision,
            "mediator": None if mediator is None else mediator.origin.sha256,
            "split": sha256_file(path),
            "store": store_sha256,
            **data.facts,
        }
        loop = train_generator(
            train,
            data,
            mediator,
            seed=seed,
            machine=machine,
            folder=folder,
            images={purpose: {one: files[one] for one in images.ids} for purpose, images in data.by_purpose.items()},
            facts=facts,
            callbacks=callbacks,
            group=group,
            on_start=announce,
        )
        if not leads:
            return loop, []
        lines = loop.log.read()
        rows, losses, table = epoch_rows(lines), folder / "losses.png", folder / "epochs.md"
        contents = {losses: curves_png(lines, titled("Training")), table: epochs_markdown(rows)}
        for written, content in {**contents, table.with_suffix(".csv"): epochs_csv(rows)}.items():
            atomic_write(written, content, overwrite=True)
        if warning:
            say(f"WARNING: {warning}.", "bold red")
        shown = (losses, table, _samples(folder, loop.schedule.total), folder / GENERATOR)
        return loop, [file for file in shown if file.exists()]  # of a run that had ended, someone may have removed some


def _samples(folder: Path, step: int) -> Path:
    return folder / "samples" / f"step-{step:08}.png"


def _resumable(settings: RunSettings) -> JsonValue:
    """The settings that a run must share with a checkpoint to go on from it."""
    may_change = _MAY_CHANGE - ({"epochs"} if settings.train.optimiser.schedule == "cosine" else set())
    exclude: dict[str, Any] = {**dict.fromkeys(may_change, True), "pairs": {"memory"}}
    return settings.train.model_dump(mode="json", exclude=exclude)


def _read_data(
    settings: RunSettings, run: Path, prepared: Prepared, bar: Bar, stack: ExitStack
) -> tuple[TrainingData, str | None]:
    """The training data, and the hash of the settings that the synthetic HR images were made with, if there are any."""
    train, seed, scale = settings.train, settings.seed, settings.synth.scale

    def show(done: int, total: int) -> None:
        bar.update("reading images", done, total)

    if train.pairs is not None:
        return read_pairs(train, prepared, seed=seed, stack=stack, on_image=show), None
    if scale != int(scale):
        raise SettingsError(f"synth.scale: is {scale:g}, and a generator enlarges by whole numbers.")
    cameras = Cameras.of_run(run)
    with SyntheticSet(run / "synthetic") as store:
        unpaired = read_unpaired(train, prepared, store, cameras, scale=int(scale), seed=seed, on_image=show)
        return unpaired, store.settings.settings_sha256
