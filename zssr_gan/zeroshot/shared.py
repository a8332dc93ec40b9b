"""A shared start: one network learnt on all LR images of a case, and the file that it is kept in.

The file is safetensors: the weights, and beside them, as JSON, what the network is and which images it was learnt on.

Shapes: P parameters.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zssr_gan.config import NetworkSettings, ZeroShotSettings
from zssr_gan.devices import Machine
from zssr_gan.errors import SettingsError
from zssr_gan.files import atomic_write, canonical_sha256, sha256_bytes
from zssr_gan.imaging.degradation import Degradation, DegradedDownscale
from zssr_gan.imaging.resampling import BicubicDownscale, Downscale, KernelDownscale, Scale
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.zeroshot.case import OnLearning, learn_case
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.plan import count_steps
from zssr_gan.zeroshot.training import Training

_KEY = "zssr-gan:shared-start"
_WEIGHTS = "weights_P"
_BETWEEN = ", "


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaseImage(_Model):
    """An LR image that the network was learnt on."""

    name: str
    sha256: str
    """Of the file, or of the pixels where they came from no file."""


class SharedFacts(_Model):
    """What a shared network is, and how it came about."""

    schema_version: Literal[1] = 1
    network: NetworkSettings
    channels: int
    factor: tuple[int, int]
    """Whole factors (y, x) by which the network itself enlarges."""
    scale: tuple[float, float]
    """(y, x) of the pairs that it was learnt on."""
    degradation: str
    """How the pairs were made, see `degradation_of`; of several cameras, each of them, with commas between."""
    cameras: tuple[Degradation, ...] = ()
    """The degradations that it was learnt for, whole; empty where that is bicubic, or a kernel from a file."""
    settings: dict[str, JsonValue]
    """All settings of the learning."""
    settings_sha256: str
    seed: int
    precision: str
    threads: int
    device: str
    iterations: int
    loss: float
    """Mean absolute error over the last 50 iterations, [0, 1] units."""
    adaptation: dict[str, JsonValue]
    """Whether each image is gone on from by itself, and what the rehearsal said."""
    images: tuple[CaseImage, ...]
    versions: dict[str, str]

    @property
    def learnt_for(self) -> tuple[str, ...]:
        """Each degradation that it was learnt for, as `degradation_of` says it."""
        return tuple(self.degradation.split(_BETWEEN))


@dataclass(frozen=True, eq=False)
class SharedStart:
    """A network learnt on all LR images of a case."""

    weights_P: Tensor
    facts: SharedFacts
    sha256: str
    """Of its file's bytes."""

    def network(self, members: int = 1) -> ZSSR:
        """So many copies of the network as a fleet."""
        options = ZSSROptions(**self.facts.network.model_dump())
        weights_NP = self.weights_P.expand(members, -1).clone()
        return ZSSR(options, self.facts.channels, self.facts.factor, weights_NP)

    @property
    def adapts(self) -> bool:
        """Whether each image's network is gone on from by itself."""
        return bool(self.facts.adaptation["done"])

    def summary(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"sha256": self.sha256, "images": len(self.facts.images), "iterations": self.facts.iterations}


def learn_shared(
    images: Sequence[tuple[CaseImage, Tensor]],
    settings: ZeroShotSettings,
    scale: Scale,
    downscale: Downscale | Sequence[Downscale],
    *,
    seed: int,
    machine: Machine,
    on_learning: OnLearning | None = None,
) -> SharedStart:
    """Learn one network on all LR images of a case.

    Args:
        images: what each is called, and its pixels `C H W`, [0, 1]. Where one has colours, gray ones count as colours.
        settings: those for a case (`ZeroShotSettings.for_case`).
        scale: (y, x) that is asked for; larger ones are learnt, and later taken, step by step.
        downscale: how LR images came out of HR ones: one for all, or one for each image. All of them take `scale` in
            as many steps.
        seed: the run's.
        machine: what it runs on.
        on_learning: see `learn_case`.

    Raises:
        ImageError: no image, or one too small to learn from.
        NumericalError: NaN or infinity came out.
    """
    each = list(downscale) if isinstance(downscale, Sequence) else [downscale] * len(images)
    # One object a degradation, so that its images are learnt from together.
    cameras = {degradation_of(one): one for one in (each or [BicubicDownscale()])}
    trainings = {
        name: Training(Task.of(step_of(scale, settings, one), settings.network.grid, one), machine.precision)
        for name, one in cameras.items()
    }
    (task, *others) = [training.task for training in trainings.values()]
    assert all((one.scale, one.factor) == (task.scale, task.factor) for one in others)
    channels = max((len(pixels) for _, pixels in images), default=1)
    pixels = [one.to(machine.device).expand(channels, -1, -1) for _, one in images]
    lessons = [trainings[degradation_of(one)] for one in each]
    learnt = learn_case(pixels, settings, lessons, seed=seed, on_learning=on_learning)
    values = settings.model_dump(mode="json")
    facts = SharedFacts(
        network=settings.network,
        channels=channels,
        factor=task.factor,
        scale=task.scale,
        degradation=_BETWEEN.join(sorted(cameras)),
        cameras=tuple(one.degradation for _, one in sorted(cameras.items()) if isinstance(one, DegradedDownscale)),
        settings=values,
        settings_sha256=canonical_sha256(values),
        seed=seed,
        precision=machine.precision,
        threads=machine.threads,
        device=str(machine.device),
        iterations=learnt.iterations,
        loss=learnt.loss,
        adaptation=asdict(learnt.rehearsal),
        images=tuple(sorted((image for image, _ in images), key=lambda image: (image.sha256, image.name))),
        versions={"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__},
    )
    return make_shared(learnt.weights_P, facts)


def step_of(scale: Scale, settings: ZeroShotSettings, downscale: Downscale) -> Scale:
    """The scale (y, x) of each of the equal steps that `scale` is taken in."""
    count = 1 if downscale.whole else count_steps(scale, settings.steps)
    return scale[0] ** (1 / count), scale[1] ** (1 / count)


def degradation_of(downscale: Downscale) -> str:
    """`bicubic`, or `kernel` or `degradation` with the SHA-256 of its values."""
    if isinstance(downscale, DegradedDownscale):
        return f"degradation {downscale.degradation.sha256}"
    if isinstance(downscale, KernelDownscale):
        return f"kernel {sha256_bytes(downscale.kernel.double().cpu().numpy().tobytes())}"
    return downscale.name


def encode_shared(weights_P: Tensor, facts: SharedFacts) -> bytes:
    """The file's bytes: the same for the same weights and facts."""
    text = json.dumps(facts.model_dump(mode="json"), sort_keys=True)
    return save({_WEIGHTS: weights_P.detach().cpu().contiguous()}, {_KEY: text})


def make_shared(weights_P: Tensor, facts: SharedFacts) -> SharedStart:
    """A shared start with the hash that its file will have."""
    return SharedStart(weights_P, facts, sha256_bytes(encode_shared(weights_P, facts)))


def write_shared(start: SharedStart, path: Path, *, overwrite: bool = False) -> None:
    """Keep it as safetensors.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or the disk refuses it.
    """
    atomic_write(path, encode_shared(start.weights_P, start.facts), overwrite=overwrite)


def read_shared(path: Path) -> SharedStart:
    """Read a shared start; loading runs no code of the file's.

    Raises:
        SettingsError: missing, no safetensors file, or not a shared start of a version known here.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: the shared start cannot be read ({error.strerror})") from error
    try:
        tensors = load(data)
        # safetensors' loader of bytes leaves the text out; the header is a length and JSON.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts = SharedFacts.model_validate_json(header["__metadata__"][_KEY])
        weights_P = tensors[_WEIGHTS]
    except (SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise SettingsError(f"{path}: is not a shared start as `--init shared` keeps it") from error
    start = SharedStart(weights_P, facts, sha256_bytes(data))
    fits = weights_P.dtype == torch.float32 and weights_P.dim() == 1
    if not fits or len(weights_P) != start.network().parameters_of_a_member or not weights_P.isfinite().all():
        raise SettingsError(f"{path}: is damaged: its weights do not fit its network")
    return start
