"""What a training is at a step, kept so that it goes on exactly: checkpoints, and the log cut back to them.

    train/checkpoints/step-00000500.pt    all networks, optimisers and counters; plain tensors, nothing in it is run
    train/metrics.jsonl                   one JSON line a logged step, without times: two equal runs write equal bytes

A checkpoint is whole or absent; the newest ones are kept.
"""

import copy
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from zssr_gan.data.manifest import first_difference
from zssr_gan.distributed import Ranks
from zssr_gan.errors import OutputError, SettingsError
from zssr_gan.files import atomic_write, is_leftover
from zssr_gan.networks.srgan import Generator

_SCHEMA: Final = 2
NETWORKS: Final = ("generator", "discriminator")
"""What is trained, by the names in a state."""


@dataclass(eq=False)
class TrainingState:
    """All that changes while a training goes on."""

    generator: Generator
    discriminator: nn.Module
    optimisers: Mapping[str, Sequence[torch.optim.Optimizer]]
    """Of each of the two networks."""
    mean: Generator = field(init=False)
    """The generator with the running mean of its weights: what is used. Its statistics of batch normalisation are those
    that were taken for the last validation (`retake_statistics`)."""
    step: int = 0
    best: float | None = None
    """The best validation figure of the phase, dB."""
    best_phase: str = ""
    accuracy: Tensor = field(default_factory=lambda: torch.tensor(0.5))
    """Running mean of the share of images that the discriminator tells rightly."""

    def __post_init__(self) -> None:
        """The mean begins where the weights are."""
        self.mean = copy.deepcopy(self.generator).eval().requires_grad_(False)

    @torch.no_grad()
    def follow(self, keep: float, updates: int) -> None:
        """Let the mean follow the generator's weights after so many updates of them.

        It keeps the share `keep`, which is reached gradually, (1 + t) / (10 + t): else it would long be mostly the
        random weights of the start.
        """
        keep = min(keep, (1 + updates) / (10 + updates))
        for mean, now in zip(self.mean.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)

    @property
    def finite(self) -> bool:
        """Whether every number that a checkpoint would hold is one."""
        networks = [tensor for name in (*NETWORKS, "mean") for tensor in getattr(self, name).state_dict().values()]
        moments = [
            value
            for optimisers in self.optimisers.values()
            for optimiser in optimisers
            for values in optimiser.state.values()
            for value in values.values()
            if isinstance(value, Tensor)
        ]
        return all(bool(tensor.isfinite().all()) for tensor in (*networks, *moments))

    def encode(self, facts: Mapping[str, JsonValue]) -> bytes:
        """A checkpoint's bytes; `facts` are what a run must have in common with it to go on."""
        content = {
            "schema": _SCHEMA,
            "facts": json.dumps(facts, sort_keys=True),
            "step": self.step,
            "best": self.best,
            "best_phase": self.best_phase,
            "accuracy": self.accuracy.cpu(),
            **{name: getattr(self, name).state_dict() for name in ("generator", "discriminator", "mean")},
            "optimisers": {name: [one.state_dict() for one in those] for name, those in self.optimisers.items()},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def restore(self, content: Mapping[str, Any]) -> None:
        """Become what a checkpoint holds."""
        for name in ("generator", "discriminator", "mean"):
            getattr(self, name).load_state_dict(content[name])
        for name, optimisers in self.optimisers.items():
            for optimiser, kept in zip(optimisers, content["optimisers"][name], strict=True):
                optimiser.load_state_dict(kept)
        self.step, self.best, self.best_phase = content["step"], content["best"], content["best_phase"]
        self.accuracy = content["accuracy"].to(self.accuracy.device)


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
        if content["schema"] != _SCHEMA:
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
        json.loads(content["facts"]), content["schema"]
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


class MetricsLog:
    """metrics.jsonl: one JSON object a line, the step first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> None:
        """Leave out what was logged after `step`, and a line that a kill tore."""
        kept = [line for line in self.read() if line["step"] <= step]
        atomic_write(self.path, "".join(map(_line, kept)).encode(), overwrite=True)

    def append(self, step: int, values: Mapping[str, JsonValue]) -> None:
        """One more line. Raises OutputError."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line({"step": step, **values}))
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}).") from error

    def flush(self) -> None:
        """Have the disk hold it: before a checkpoint that counts on it."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All whole lines."""
        lines = []
        for text in self.path.read_text("utf-8", errors="replace").splitlines() if self.path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:
                break
            if not isinstance(line, dict) or "step" not in line:
                break
            lines.append(line)
        return lines


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
