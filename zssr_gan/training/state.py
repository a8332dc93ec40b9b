"""What a training is at a step, kept so that it goes on exactly: what a checkpoint holds, and the log cut back to it.

train/checkpoints/step-00000500.pt    all networks, optimisers and counters; plain tensors, nothing in it is run
train/metrics.jsonl                   one JSON line a logged step, without times: two equal runs write equal bytes
"""

import copy
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from zssr_gan.errors import OutputError
from zssr_gan.files import atomic_write
from zssr_gan.networks.generators import GeneratorNetwork
from zssr_gan.training.epochs import EpochState

SCHEMA: Final = 4
"""Of checkpoints; another number, another training."""
PARTS: Final = ("step", "best", "best_phase", "accuracy", "epochs", "generator", "discriminator", "mean", "optimisers")
"""What a checkpoint holds beside its schema and facts."""
NETWORKS: Final = ("generator", "discriminator")
"""What is trained, by the names in a state."""


@dataclass(eq=False)
class TrainingState:
    """All that changes while a training goes on."""

    generator: GeneratorNetwork
    discriminator: nn.Module
    optimisers: Mapping[str, Sequence[torch.optim.Optimizer]]
    """Of each of the two networks."""
    mean: GeneratorNetwork = field(init=False)
    """The generator with the running mean of its weights: what is used. Its statistics of batch normalisation are those
    that were taken for the last validation (`retake_statistics`)."""
    step: int = 0
    best: float | None = None
    """The best figure of the phase, by which a generator was kept: dB, or a training loss below 0; more is better."""
    best_phase: str = ""
    accuracy: Tensor = field(default_factory=lambda: torch.tensor(0.5))
    """Running mean of the share of images that the discriminator tells rightly."""
    epochs: EpochState = field(default_factory=EpochState)

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
            "schema": SCHEMA,
            "facts": json.dumps(facts, sort_keys=True),
            "step": self.step,
            "best": self.best,
            "best_phase": self.best_phase,
            "accuracy": self.accuracy.cpu(),
            "epochs": self.epochs.encode(),
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
        self.epochs = EpochState.decode(content["epochs"], self.accuracy.device)


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
                line = json.loads(text, parse_constant=_refuse_constant)
            except ValueError:
                break
            if not _is_line(line):
                break
            lines.append(line)
        return lines


def _is_line(line: Any) -> bool:
    """Whether it may have been written by `append`."""
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return False
    validation = line.get("validation", {})
    figures = [value for name, value in line.items() if name not in ("phase", "who", "validation", "epoch")]
    groups = isinstance(validation, dict) and isinstance(line.get("epoch", {}), dict)
    return groups and all(isinstance(value, int | float) and math.isfinite(value) for value in figures)


def _refuse_constant(name: str) -> float:
    """JSON knows no NaN, which Python would read."""
    raise ValueError(name)


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"
