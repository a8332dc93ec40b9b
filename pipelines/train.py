"""Train the generator, with or without HR images: python -m pipelines.train --config FILE (or: make train).

Reads split.json and synthetic/ (with train.pairs the HR images instead), and writes train/ into the run's folder:
generator.safetensors and card.json (the best by validation), content/ (the same of the phase before the discriminator),
metrics.jsonl, epochs.csv and epochs.md, samples/, losses.png, checkpoints/ and, if asked for, tensorboard/. The same
command resumes a run that was stopped.
Several devices: torchrun --nproc-per-node 8 -m pipelines.train --config FILE
Exit codes: 0 done, 1 NaN, too little memory or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM. torchrun itself
ends with 1 and a traceback of its own after SIGTERM, whatever its processes did (docs/many-gpus.md).
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.arguments import stage_arguments
from zssr_gan.cli.notify import Notice, notify, parse_command
from zssr_gan.devices import RunOptions, machine
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
from zssr_gan.progress import Bar, escape_unencodable_output
from zssr_gan.settings.run import load_run
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception
from zssr_gan.training.checkpoints import checkpoints_in
from zssr_gan.training.run import train_folder, train_run

_TOO_LITTLE_MEMORY = (
    "the training does not fit into memory: lower train.batch, train.patch, or the networks' width "
    "(train.generator.options.width, train.discriminator.options.width)."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = stage_arguments("train", __doc__, "train.batch=8", precision=False)
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run at the end (done, stopped early or failed; not after Ctrl-C), without a shell, with the final "
        "figures as JSON on standard input and as ZSSR_GAN_STATUS, ZSSR_GAN_VALIDATION_LOSS, ZSSR_GAN_STEP, ...",
    )
    options = parser.parse_args(arguments)
    turn_sigterm_into_an_exception()
    escape_unencodable_output()
    ranks, began = Ranks.alone(), time.monotonic()
    folder: Path | None = None
    command: list[str] | None = None

    def report(status: str, error: str | None = None) -> None:
        """Say that a training is over; one that could not begin has been answered already."""
        if folder is None or ranks.rank:
            return
        notice = Notice.of(folder, status, time.monotonic() - began, error)
        if error is None:
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
                folder = train_folder(settings, options.config)
                loop, files = train_run(settings, options.config, used, bar, group)
            for path in files:
                print(path)
            report("stopped_early" if loop.state.stopped else "done")
        except KeyboardInterrupt as stop:
            if not ranks.rank:
                bar.note(f"Stopped{_left_by(folder)}.", "red")
            return exit_code(stop)
        except ZssrGanError as error:
            # All processes find it together; other errors may be of one host alone.
            if not (ranks.rank and isinstance(error, NumericalError)):
                bar.note(f"error: {error}", "red")
            report("failed", str(error))
            return 2 if isinstance(error, SettingsError | StoreError | DeviceError | WeightsError) else 1
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                report("failed", type(error).__name__)
                raise
            bar.note(f"error: {_TOO_LITTLE_MEMORY}", "red")
            report("failed", _TOO_LITTLE_MEMORY)
            return 1
    return 0


def _left_by(folder: Path | None) -> str:
    """The newest checkpoint after a stop, and what the same command then does."""
    paths = [] if folder is None else checkpoints_in(folder / "checkpoints")
    if not paths:
        return " before the first checkpoint; run the same command again to begin anew"
    step = int(paths[-1].stem.removeprefix("step-"))
    return f": {paths[-1]} is of step {step:,}; run the same command again to resume"


if __name__ == "__main__":
    sys.exit(main())
