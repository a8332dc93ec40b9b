"""The notice at the end of a training: a line for who looks, and a command of the user's for who does not.

The command is started without a shell, and gets the final figures as JSON on its standard input and as variables
ZSSR_GAN_STATUS, ZSSR_GAN_VALIDATION_LOSS, ... What it does or fails to do changes nothing of the training.
"""

import json
import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zssr_gan.errors import SettingsError, ZssrGanError
from zssr_gan.progress import duration
from zssr_gan.training.logs import MetricsLog

SECONDS = 60
"""What the command may take."""


@dataclass(frozen=True)
class Notice:
    """What a training came to.

    `status`: `done`, `stopped_early` or `failed`. `run`: its folder. `step`: how far it is. `seconds`: what this start
    of it took. `validation`: the last figures on the images held out. `error`: why it failed.
    """

    status: str
    run: str
    step: int | None
    seconds: float
    validation: Mapping[str, Any]
    error: str | None = None

    @classmethod
    def of(cls, folder: Path, status: str, seconds: float, error: str | None = None) -> "Notice":
        """What the training in a folder came to, as far as its metrics.jsonl says."""
        try:
            lines = MetricsLog(folder / "metrics.jsonl").read()
        except ZssrGanError:  # the error that is reported may be this very one
            lines = []
        checks = [line["validation"] for line in lines if "validation" in line]
        step = lines[-1]["step"] if lines else None
        return cls(status, str(folder.parent), step, seconds, checks[-1] if checks else {}, error)

    @property
    def figures(self) -> dict[str, Any]:
        """By name, all plain; None where a figure is not finite, as JSON has neither NaN nor infinity."""
        numbers = {name: value for name, value in self.validation.items() if isinstance(value, int | float)}
        return {
            "status": self.status,
            "run": self.run,
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "error": self.error,
            **{f"validation_{name}": value if math.isfinite(value) else None for name, value in numbers.items()},
        }

    @property
    def line(self) -> str:
        """For who looks."""
        loss = self.validation.get("loss")
        psnr = self.validation.get("truth_db", self.validation.get("synthetic_db"))
        figures = [] if loss is None else [f"validation loss {loss:.4g}"]
        figures += [] if psnr is None else [f"{psnr:.2f} dB"]
        figures += [] if self.step is None else [f"{self.step:,} steps"]
        return f"{self.status.replace('_', ' ')}: {', '.join([*figures, duration(self.seconds)])}"


def parse_command(text: str) -> list[str]:
    """The words of a command. Raises SettingsError where it cannot be run, before hours are spent."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"--notify {text}: cannot be read as a command ({error}).") from error
    if not words:
        raise SettingsError("--notify: is empty: name a command, such as --notify 'mail -s trained me@example.org'.")
    if shutil.which(words[0]) is None:
        raise SettingsError(f"--notify: there is no command {words[0]!r}; it is started without a shell.")
    return words


def notify(command: Sequence[str], notice: Notice, warn: Callable[[str], None], seconds: float = SECONDS) -> None:
    """Run the command; `warn` gets a sentence where that fails."""
    given = {f"ZSSR_GAN_{name.upper()}": str(value) for name, value in notice.figures.items() if value is not None}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(notice.figures, allow_nan=False) + "\n",
            env={**os.environ, **given},
            timeout=seconds,
            check=False,
            encoding="utf-8",
            errors="replace",  # what a command says may be in any encoding
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except subprocess.TimeoutExpired:
        warn(f"--notify: {command[0]} took more than {seconds:g} seconds and was ended")
    except OSError as error:
        warn(f"--notify: {command[0]} cannot be started ({error.strerror})")
    else:
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            warn(f"--notify: {command[0]} ended with {done.returncode}" + (f" ({lines[-1][:200]})" if lines else ""))
