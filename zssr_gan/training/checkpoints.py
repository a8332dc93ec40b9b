"""The state of a training and its checkpoints: plain tensors and values, read with `weights_only=True`.

train/checkpoints/step-00000500.pt             whole or absent; the newest ones stay
train/checkpoints/step-00000500.pt.damaged     could not be read
train/checkpoints/step-00000500.pt.diverged    the step after it was NaN or infinite
"""

import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from zssr_gan.data.store import first_difference
from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import NumericalError, SettingsError
from zssr_gan.files import atomic_write, is_leftover
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.training.schedule import EpochState

SCHEMA: Final = 5
"""Of checkpoints; another number, another training."""

PARTS: Final = ("step", "best", "best_phase", "accuracy", "epochs", "generator", "discriminator", "mean", "optimisers")
"""What a checkpoint holds beside its schema and facts."""

NETWORKS: Final = ("generator", "discriminator")
"""What is trained, by the names in a state."""

_SAVED: Final = (*NETWORKS, "mean")
"""The networks that a checkpoint holds."""


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
    def update_mean(self, decay: float, updates: int) -> None:
        """Move the mean towards the generator's weights after so many updates of them.

        Its decay is reached gradually, (1 + t) / (10 + t): else it would long be mostly the initial weights.
        """
        decay = min(decay, (1 + updates) / (10 + updates))
        for mean, now in zip(self.mean.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    @property
    def finite(self) -> bool:
        """Whether every number that a checkpoint would hold is one."""
        networks = [tensor for name in _SAVED for tensor in getattr(self, name).state_dict().values()]
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
            "epochs": asdict(self.epochs),
            **{name: getattr(self, name).state_dict() for name in _SAVED},
            "optimisers": {name: [one.state_dict() for one in those] for name, those in self.optimisers.items()},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def restore(self, content: Mapping[str, Any]) -> None:
        """Become what a checkpoint holds."""
        for name in _SAVED:
            getattr(self, name).load_state_dict(content[name])
        for name, optimisers in self.optimisers.items():
            for optimiser, kept in zip(optimisers, content["optimisers"][name], strict=True):
                optimiser.load_state_dict(kept)
        self.step, self.best, self.best_phase = content["step"], content["best"], content["best_phase"]
        self.accuracy = content["accuracy"].to(self.accuracy.device)
        self.epochs = EpochState.from_dict(content["epochs"], self.accuracy.device)


class Checkpoints:
    """The checkpoints of a training.

    The newest one counts as good once a later step went well (`trust`): weights may be finite, and so large that the
    next loss is not. Until then one more than `keep` stays.

    Args:
        folder: made where it is missing.
        keep: how many stay.
        facts: what a run must have in common with a checkpoint to go on from it.
        on_notice: gets what a user should know, a sentence each time.
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
    """The file is no whole checkpoint."""


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


class FiniteCheck:
    """Checks losses, states and outputs; what is not finite is a NumericalError that names the last good checkpoint.

    Args:
        checkpoints: those of the training; the newest one is trusted once a later step went well.
        group: the processes that train together.
    """

    def __init__(self, checkpoints: Checkpoints, group: DataParallel) -> None:
        self.checkpoints, self.group = checkpoints, group
        self._finite = torch.tensor(True, device=group.device)

    def add(self, *values: Tensor) -> None:
        """Note scalars of a step for the next check: to look at them now would make the device wait."""
        for value in values:
            self._finite &= torch.isfinite(value.detach())

    def check(self, step: int, network: str | None) -> None:
        """Check what was added, in all processes; each calls it.

        Args:
            step: the last one that was added, counted from 1.
            network: which learnt in it, where no earlier step comes into question.
        """
        if self.group.any(not self._finite):
            at = f"at or before step {step:,}" if network is None else f"step {step:,}"
            self._refuse(at, f"the loss or gradient of {'a network' if network is None else f'the {network}'} is")
        # Steps after the newest checkpoint went well.
        self.checkpoints.trust()

    def check_outputs(self, step: int, outputs: Sequence[Tensor]) -> None:
        """Check a generator's outputs."""
        if not all(bool(one.isfinite().all()) for one in outputs):
            self._refuse(f"step {step:,}", "the generator's outputs are")

    def check_state(self, state: TrainingState) -> None:
        """Check a state before it is written; it may be one that nothing has checked yet."""
        if not (self._finite and state.finite):
            self._refuse(f"at or before step {state.step:,}", "a loss, gradient or weight is")

    def _refuse(self, at: str, what: str) -> None:
        aside, path = self.checkpoints.set_aside(), self.checkpoints.newest
        good = "there is no good checkpoint" if path is None else f"the last good checkpoint is {path}"
        if path is not None and path == self.checkpoints.begun_at:
            good = f"it went on from {path}, and no step after it went well"
        bad = f" ({aside} led to it and does not count)" if aside else ""
        raise NumericalError(
            f"{at}: {what} NaN or infinite; {good}{bad}: take another run_dir, and there a lower train.optimiser.lr, "
            "train.optimiser.clip, or train.precision fp32."
        )
