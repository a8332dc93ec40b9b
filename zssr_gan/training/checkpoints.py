"""The checkpoints of a training: which are kept, which count as good, and which a run goes on from.

train/checkpoints/step-00000500.pt             whole or absent; the newest ones are kept
train/checkpoints/step-00000500.pt.damaged     could not be read
train/checkpoints/step-00000500.pt.diverged    the step after it was NaN or infinite
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from zssr_gan.data.manifest import first_difference
from zssr_gan.distributed import Ranks
from zssr_gan.errors import SettingsError
from zssr_gan.files import atomic_write, is_leftover
from zssr_gan.training.state import PARTS, SCHEMA, TrainingState


class Checkpoints:
    """The checkpoints of a training.

    The newest one counts as good once a later step went well (`trust`): weights may be finite, and so large that the
    next loss is not. Until then one more than `keep` stays.

    Args:
        folder: made where it is missing.
        keep: how many stay.
        facts: what a run must have in common with a checkpoint to go on from it.
        on_notice: is told in a sentence what a user should know.
    """

    def __init__(
        self, folder: Path, keep: int, facts: Mapping[str, JsonValue], on_notice: Callable[[str], None]
    ) -> None:
        self.folder, self.keep, self.facts, self.on_notice = folder, keep, facts, on_notice
        self._untried: Path | None = None
        self.begun_at: Path | None = None
        """What this run went on from, until a later step went well."""

    @property
    def paths(self) -> list[Path]:
        """The oldest first."""
        return checkpoints_in(self.folder)

    @property
    def newest(self) -> Path | None:
        """The last good one."""
        return self.paths[-1] if self.paths else None

    def write(self, state: TrainingState) -> Path:
        """Keep a state. Raises OutputError: a failed write is fatal."""
        path = self._untried = self.folder / f"step-{state.step:08}.pt"
        atomic_write(path, state.encode(self.facts), overwrite=True)
        self._rotate(self.keep + 1)
        return path

    def trust(self) -> None:
        """The newest one is good: only now are those before it not needed."""
        self.begun_at = None
        if self._untried is not None:
            self._untried = None
            self._rotate(self.keep)

    def set_aside(self) -> Path | None:
        """Rename the newest one, where no later step went well, so that it counts no more; the path it had."""
        path, self._untried = self._untried, None
        if path is not None:
            path.rename(path.with_name(f"{path.name}.diverged"))
        return path

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
        self._check(path, content)
        state.restore(content)
        # A kill may have come before it was tried; without an older one there is nothing to go back to.
        self._untried = path if ranks.rank == 0 and path != self.paths[0] else None
        self.begun_at = path
        return path

    def _newest_readable(self) -> tuple[Path, Mapping[str, Any]] | None:
        for left in self.folder.glob(".*"):
            if is_leftover(left):
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

    def _check(self, path: Path, content: Mapping[str, Any]) -> None:
        """Raise SettingsError where a checkpoint is of another training."""
        if content["schema"] != SCHEMA:
            raise SettingsError(f"{path}: is of another version of zssr-gan; choose another run_dir.")
        if (different := first_difference(json.loads(content["facts"]), dict(self.facts))) is not None:
            key, was, now = different
            raise SettingsError(
                f"{path}: its training was begun with {key} = {_short(was)}, and {_short(now)} is asked for now: "
                "take the old value to go on, or another run_dir to begin anew."
            )


class _Damaged(Exception):
    """A checkpoint that is none."""


def _read(path: Path) -> Mapping[str, Any]:
    """What a checkpoint holds. Raises _Damaged, and SettingsError where the disk does not give it."""
    try:
        content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
        json.loads(content["facts"])
        if content["schema"] == SCHEMA and (missing := [name for name in PARTS if name not in content]):
            raise KeyError(", ".join(missing))
    except OSError as error:  # perhaps not for ever: no reason to call it damaged
        raise SettingsError(
            f"{path}: cannot be opened ({error.strerror}): see to the disk or its permissions."
        ) from error
    except Exception as error:  # a damaged file may raise anything while it is read
        raise _Damaged(type(error).__name__) from error
    assert isinstance(content, Mapping)
    return content


def checkpoints_in(folder: Path) -> list[Path]:
    """Those that are not set aside, the oldest first."""
    return sorted(folder.glob("step-*.pt"))


def step_of(path: Path) -> int:
    """After which step a checkpoint was written."""
    return int(path.stem.removeprefix("step-"))


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
