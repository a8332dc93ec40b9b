"""What the stages have in common: options, and how they end."""

import argparse
from collections.abc import Callable
from pathlib import Path

from zssr_gan.devices import PRECISIONS
from zssr_gan.errors import DeviceError, SettingsError, StoreError, WeightsError, ZssrGanError
from zssr_gan.progress import Bar, escape_unencodable_output
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception

USAGE = SettingsError | StoreError | DeviceError | WeightsError
"""Errors that end a stage with code 2: something else has to be asked for, or made before."""


def run_stage(work: Callable[[Bar], int], stopped: str) -> int:
    """Return the exit code of `work`: an error is one line, Ctrl-C and SIGTERM print `stopped`."""
    turn_sigterm_into_an_exception()
    escape_unencodable_output()
    with Bar() as bar:
        try:
            return work(bar)
        except KeyboardInterrupt as stop:
            bar.note(stopped, "red")
            return exit_code(stop)
        except ZssrGanError as error:
            bar.note(f"error: {error}", "red")
            return 2 if isinstance(error, USAGE) else 1


def stage_arguments(
    stage: str, text: str | None, example: str, *, machine: bool = True, precision: bool = True
) -> argparse.ArgumentParser:
    """Return the parser of `python -m pipelines.<stage>`.

    Args:
        stage: its module's name.
        text: its module's docstring; the first line describes the stage.
        example: of a changed setting.
        machine: whether it has --device and --threads.
        precision: whether it has --precision beside these.
    """
    parser = argparse.ArgumentParser(prog=f"python -m pipelines.{stage}", description=(text or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML of the run: configs/*.yaml")
    parser.add_argument("--small", action="store_true", help="take the file's block `small`: a run of minutes")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"change a setting, such as {example} (repeatable)",
    )
    if machine:
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda (cuda:1, ...) or mps")
        parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads of each process")
    if machine and precision:
        parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    return parser
