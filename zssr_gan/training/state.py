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
from zssr_gan.errors import OutputError, SettingsError
from zssr_gan.files import atomic_write, is_leftover

_SCHEMA: Final = 2
NETWORKS: Final = ("generator", "discriminator")
"""What is trained, by the names in a state."""


@dataclass(eq=False)
class TrainingState:
    """All that changes while a training goes on."""

    generator: nn.Module
    discriminator: nn.Module
    optimisers: Mapping[str, Sequence[torch.optim.Optimizer]]
    """Of each of the two networks."""
    mean: nn.Module = field(init=False)
    """The generator with the running mean of its weights."""
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
    def follow(self, keep: float) -> None:
        """Let the mean follow the generator's weights; the statistics of batch normalisation are taken as they are."""
        for mean, now in zip(self.mean.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        for kept, buffer in zip(self.mean.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(buffer)

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

    @property
    def paths(self) -> list[Path]:
        """The oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    @property
    def newest(self) -> Path | None:
        """The last good one."""
        return self.paths[-1] if self.paths else None

    def write(self, state: TrainingState) -> Path:
        """Keep a state, and remove what is older than the newest few. Raises OutputError: a failed write is fatal."""
        path = self.folder / f"step-{state.step:08}.pt"
        atomic_write(path, state.encode(self.facts), overwrite=True)
        for old in self.paths[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def resume(self, state: TrainingState) -> Path | None:
        """Bring `state` to the newest checkpoint that can be read; None where there is none.

        Raises SettingsError where it is of a training with other settings or images.
        """
        for left in self.folder.glob(".*"):
            if is_leftover(left):
                left.unlink(missing_ok=True)
        for path in reversed(self.paths):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                found = json.loads(content["facts"])
                known = content["schema"] == _SCHEMA
            except Exception as error:  # a damaged file may raise anything while it is read
                self.on_notice(f"{path}: cannot be read and is left out ({type(error).__name__}).")
                continue
            if not known:
                raise SettingsError(f"{path}: is of another version of zssr-gan; choose another run_dir.")
            if (different := first_difference(found, dict(self.facts))) is not None:
                key, was, now = different
                raise SettingsError(
                    f"{path}: its training was begun with {key} = {_short(was)}, and {_short(now)} is asked for now: "
                    "take the old value to go on, or another run_dir to begin anew."
                )
            state.restore(content)
            return path
        return None


class MetricsLog:
    """metrics.jsonl: one JSON object a line, the step first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> None:
        """Leave out what was logged after `step`, and a line that a kill tore. Raises OutputError."""
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
        """All whole lines. Raises OutputError."""
        lines = []
        try:
            whole = self.path.read_text("utf-8", errors="replace") if self.path.exists() else ""
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror}): move it away, or mend it.") from error
        for text in whole.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                break
            lines.append(line)
        return lines


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
