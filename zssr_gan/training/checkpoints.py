"""The checkpoints of a training: plain tensors and values, read with `weights_only=True`.

train/checkpoints/step-00000500.pt             whole or absent; the newest ones stay
train/checkpoints/step-00000500.pt.damaged     could not be read
train/checkpoints/step-00000500.pt.diverged    the step after it was NaN or infinite
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import JsonValue

from zssr_gan.data.store import first_difference
from zssr_gan.distributed import Ranks
from zssr_gan.errors import NumericalError, SettingsError
from zssr_gan.files import atomic_write, is_leftover
from zssr_gan.training.state import CONTENT, TrainingState

KEEP: Final = 3
"""Checkpoints that stay, the newest."""

_SCHEMA: Final = 6  # another number, another training


class Checkpoints:
    """The checkpoints of a training.

    The newest one counts as good once a later step went well (`trust`): weights may be finite, and so large that the
    next loss is not. Until then one more than `KEEP` stays. `facts`: what a run must have in common with a checkpoint
    to go on from it. `on_notice` gets what a user should know, a sentence each time.
    """

    def __init__(self, folder: Path, facts: Mapping[str, JsonValue], on_notice: Callable[[str], None]) -> None:
        self.folder, self.facts, self.on_notice = folder, facts, on_notice
        self._untried: Path | None = None
        self._resumed: Path | None = None  # until a later step went well

    @property
    def paths(self) -> list[Path]:
        """The oldest first."""
        return checkpoints_in(self.folder)

    def write(self, state: TrainingState) -> None:
        """Write a state. Raises OutputError: a failed write is fatal."""
        self._untried = self.folder / f"step-{state.step:08}.pt"
        buffer, facts = io.BytesIO(), json.dumps(self.facts, sort_keys=True)
        torch.save({"schema": _SCHEMA, "facts": facts, **state.content()}, buffer)
        atomic_write(self._untried, buffer.getvalue(), overwrite=True)
        self._rotate(KEEP + 1)

    def trust(self) -> None:
        """Take the newest one for good: only now are those before it not needed."""
        self._resumed = None
        if self._untried is not None:
            self._untried = None
            self._rotate(KEEP)

    def diverged(self, at: str, what: str) -> NumericalError:
        """Rename the newest one where no later step went well, and return the error, which names the last good one."""
        led = ""
        if self._untried is not None:
            self._untried.rename(self._untried.with_name(f"{self._untried.name}.diverged"))
            led, self._untried = f" ({self._untried} led to it and does not count)", None
        good = f"the last good checkpoint is {self.paths[-1]}" if self.paths else "there is no good checkpoint"
        if self.paths and self.paths[-1] == self._resumed:
            good = f"it went on from {self._resumed}, and no step after it went well"
        return NumericalError(
            f"{at}: {what} NaN or infinite; {good}{led}: take another run_dir, and there a lower train.optimiser.lr, "
            "train.optimiser.clip, or train.precision fp32."
        )

    def _rotate(self, keep: int) -> None:
        for old in self.paths[:-keep]:
            old.unlink(missing_ok=True)

    def resume(self, state: TrainingState, ranks: Ranks) -> Path | None:
        """Bring `state` to the newest checkpoint that can be read; None where there is none. Every rank calls it.

        Damaged ones are renamed to `*.damaged`, so that they are not taken for the newest, and nothing is lost.

        Raises:
            SettingsError: it is of a training with other settings or images; there are some, and none can be read.
        """
        if ranks.rank:
            name = ranks.hear("checkpoint").decode()
            found = (self.folder / name, _read(self.folder / name)) if name else None
        else:
            found = self._newest_readable()
            ranks.publish("checkpoint", found[0].name.encode() if found else b"")
        if found is None:
            return None
        path, content = found
        if content["schema"] != _SCHEMA:
            raise SettingsError(f"{path}: is of another version of zssr-gan; choose another run_dir.")
        if (different := first_difference(json.loads(content["facts"]), dict(self.facts))) is not None:
            key, was, now = different
            raise SettingsError(
                f"{path}: its training was begun with {key} = {was}, and {now} is asked for now: "
                "take the old value to go on, or another run_dir to begin anew."
            )
        state.restore(content)
        # A kill may have come before it was tried; without an older one there is nothing to go back to.
        self._untried = path if ranks.rank == 0 and path != self.paths[0] else None
        self._resumed = path
        return path

    def _newest_readable(self) -> tuple[Path, Mapping[str, Any]] | None:
        for left in filter(is_leftover, self.folder.glob(".*")):
            left.unlink(missing_ok=True)
        for path in reversed(self.paths):
            try:
                return path, _read(path)
            except _Damaged as damage:
                aside = path.with_name(f"{path.name}.damaged")
                path.rename(aside)
                self.on_notice(f"{path}: cannot be read ({damage}); it is now {aside.name}, and an older one is taken.")
        if any(self.folder.glob("step-*.damaged")):
            raise SettingsError(
                f"{self.folder}: none of the checkpoints there can be read: put one back from a copy, or take another "
                "run_dir, or remove the folder, to begin anew at step 0."
            )
        return None


class _Damaged(Exception):
    """The file is no whole checkpoint."""


def _read(path: Path) -> Mapping[str, Any]:
    """What a checkpoint holds. Raises _Damaged, and SettingsError where the disk does not give it."""
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
        json.loads(content["facts"])
        if content["schema"] == _SCHEMA:
            _ = [content[name] for name in CONTENT]
    except OSError as error:  # perhaps not for ever: no reason to call it damaged
        raise SettingsError(
            f"{path}: cannot be opened ({error.strerror}): see to the disk or its permissions."
        ) from error
    except Exception as error:  # a damaged file may raise anything while it is read
        raise _Damaged(type(error).__name__) from error
    return content


def checkpoints_in(folder: Path) -> list[Path]:
    """Those that are not set aside, the oldest first."""
    return sorted(folder.glob("step-*.pt"))
