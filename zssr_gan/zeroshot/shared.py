"""One model for all LR images of a case, trained without any HR image, and the file that it is stored in.

A network of its own learns little from an image of 32 px; all images of a case together teach a lot. The pairs are
those of ZSSR, an image and its own shrunk copy, drawn from all images. Images of several cameras are each shrunk by
their own camera's degradation.

The file is safetensors: the weights, and as JSON what the network is and which images it was trained on.

Shapes: B images, C channels, H W rows and columns, S samples of a batch, P parameters.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zssr_gan.degradation.model import Degradation, DegradedDownscale, degradation_of
from zssr_gan.degradation.operators import Downscale
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, NumericalError, SettingsError
from zssr_gan.files import atomic_write, canonical_sha256, sha256_bytes, why_unreadable
from zssr_gan.imaging.resize import Scale
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.provenance import VERSION, CaseImage, FileModel
from zssr_gan.seeds import content_hash, derive_seed
from zssr_gan.settings.zeroshot import SMALLEST_SIDE, ZeroShotSettings, ZSSRSettings
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.fleet import RESTARTS, Fleet, find_dead, make_network
from zssr_gan.zeroshot.image_pool import ImagePool
from zssr_gan.zeroshot.pairs import Task, group_alike
from zssr_gan.zeroshot.steps import step_of

LARGEST_SIDE = 512
"""Pixels a side: a larger image is learnt from in its middle, as all images lie in memory together."""

_EXAMINED = 8  # images that say whether a network is dead

_SHOWN = 20  # characters of a degradation's name in a message: its kind, and the first of its hash

_KEY = "zssr-gan:shared-model"

_WEIGHTS = "weights_P"

OnLearning = Callable[[int, int, float], None]
"""Called with the iteration, how many there are, and the loss ([0, 1] units)."""


class SharedFacts(FileModel):
    """What a shared model is, and how it came about."""

    schema_version: Literal[2] = 2
    network: ZSSRSettings
    channels: int
    factor: tuple[int, int]
    """Whole factors (y, x) by which the network itself enlarges."""
    scale: tuple[float, float]
    """(y, x) of the pairs that it was trained on."""
    learnt_for: tuple[str, ...]
    """How the pairs were made, by each camera: see `degradation_of`."""
    cameras: tuple[Degradation, ...] = ()
    """The degradations themselves; empty where that is bicubic, or a kernel from a file."""
    settings: dict[str, JsonValue]
    """All settings of the training."""
    settings_sha256: str
    seed: int
    precision: str
    threads: int
    device: str
    iterations: int
    loss: float
    """Mean absolute error over the last 50 iterations, [0, 1] units."""
    images: tuple[CaseImage, ...]
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class SharedModel:
    """A network trained on all LR images of a case."""

    weights_P: Tensor
    facts: SharedFacts
    sha256: str
    """Of its file's bytes."""

    def network(self) -> ZSSR:
        """The network, as a fleet of one."""
        return ZSSR(self.facts.network, self.facts.channels, self.facts.factor, self.weights_P[None].clone())

    def summary(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"sha256": self.sha256, "images": len(self.facts.images), "iterations": self.facts.iterations}

    def check(self, channels: int, tasks: Sequence[Task]) -> None:
        """Check that it fits an image of so many channels and the tasks of its steps.

        Raises:
            SettingsError: it does not, and why.
        """
        facts = self.facts
        if channels > facts.channels:
            raise SettingsError("the shared model was learnt on gray images and cannot enlarge one with colours")
        for task in tasks:
            if (asked := degradation_of(task.downscale)) not in facts.learnt_for:
                learnt = " or ".join(repr(one[:_SHOWN]) for one in facts.learnt_for[:3])
                more = " or others" if len(facts.learnt_for) > 3 else ""
                raise SettingsError(
                    f"the shared model was learnt for the degradation {learnt}{more}, not {asked[:_SHOWN]!r}"
                )
            # A network on the LR grid enlarges by its factor, and its result is then reduced to any smaller scale.
            (y, x), (own_y, own_x) = (
                (task.scale, facts.scale) if facts.factor == (1, 1) else (task.factor, facts.factor)
            )
            if max(abs(y - own_y), abs(x - own_x)) > 1e-6:
                raise SettingsError(
                    f"the shared model was learnt to enlarge by {own_y:g} x {own_x:g} (y, x) a step, and this scale "
                    f"takes steps of {y:g} x {x:g}"
                )


def learn_shared(
    images: Sequence[tuple[CaseImage, Tensor]],
    settings: ZeroShotSettings,
    scale: Scale,
    downscale: Downscale | Sequence[Downscale],
    *,
    seed: int,
    machine: Machine,
    on_learning: OnLearning | None = None,
) -> SharedModel:
    """Train one network on all LR images of a case; their order does not matter.

    Args:
        images: name and hash of each, and its pixels `C H W`, [0, 1]; gray ones beside colours count as colours.
        settings: those for a case (`ZeroShotSettings.for_case`).
        scale: (y, x); more than 2 a side is learnt, and later taken, step by step.
        downscale: how LR images came out of HR ones, all or each; all take `scale` in as many steps.
        seed: the run's.
        machine: what it runs on.
        on_learning: called every ten iterations.

    Raises:
        ImageError: no image, or one too small to learn from.
        NumericalError: NaN or infinity came out, or the network died in each start.
    """
    if not images:
        raise ImageError("there is no image to learn from")
    each = list(downscale) if isinstance(downscale, Sequence) else [downscale] * len(images)
    # One object a degradation, so that its images are learnt from together.
    cameras = {degradation_of(one): one for one in each}
    tasks = {
        name: Task.of(step_of(scale, one), settings.network.grid, one, machine.precision)
        for name, one in cameras.items()
    }
    task, *others = tasks.values()
    assert all((one.scale, one.factor) == (task.scale, task.factor) for one in others)
    channels = max(len(pixels) for _, pixels in images)
    samples = []
    for (_, pixels), one in zip(images, each, strict=True):
        height, width = pixels.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            raise ImageError(
                f"an image of {width}x{height} pixels is too small to learn from: {SMALLEST_SIDE} are needed"
            )
        image = copied_middle_of(pixels.to(machine.device).expand(channels, -1, -1), LARGEST_SIDE)
        camera = one.degradation.sha256 if isinstance(one, DegradedDownscale) else one.name
        samples.append((content_hash(image), camera, image, tasks[degradation_of(one)]))
    # By content, so that neither names nor places matter; the same content may be of two cameras.
    samples.sort(key=lambda sample: sample[:2])
    its_seed = derive_seed("case", seed, *(content for content, *_ in samples))
    weights_P, loss = _train(
        [sample[2] for sample in samples], [sample[3] for sample in samples], settings, its_seed, on_learning
    )
    values = settings.model_dump(mode="json")
    facts = SharedFacts(
        network=settings.network,
        channels=channels,
        factor=task.factor,
        scale=task.scale,
        learnt_for=tuple(sorted(cameras)),
        cameras=tuple(one.degradation for _, one in sorted(cameras.items()) if isinstance(one, DegradedDownscale)),
        settings=values,
        settings_sha256=canonical_sha256(values),
        seed=seed,
        precision=machine.precision,
        threads=machine.threads,
        device=str(machine.device),
        iterations=settings.rounds * settings.schedule.iterations,
        loss=loss,
        images=tuple(sorted((image for image, _ in images), key=lambda image: (image.sha256, image.name))),
        versions={"zssr-gan": VERSION, "torch": torch.__version__},
    )
    return make_shared(weights_P, facts)


def _train(
    images: list[Tensor], tasks: list[Task], settings: ZeroShotSettings, seed: int, on_learning: OnLearning | None
) -> tuple[Tensor, float]:
    """The weights `P` of the first initialisation that does not die, and its loss over the last iterations."""
    for attempt in range(RESTARTS + 1):
        try:
            own_seed = derive_seed(seed, "restart", attempt) if attempt else seed
            weights_P, loss = _train_once(images, tasks, settings, own_seed, on_learning)
        except NumericalError:
            if attempt == RESTARTS:
                raise
            continue
        task, group = max(group_alike(images, tasks), key=lambda alike: len(alike[1]))
        some = torch.stack([images[n] for n in group[:_EXAMINED]])
        copies = make_network(settings, some.shape[1], task.factor, weights_P.expand(len(some), -1))
        if not find_dead(copies, some, task).all():
            return weights_P, loss
    raise NumericalError(
        f"learning on the case died in each of {RESTARTS + 1} starts (the network's output equals bicubic): try a "
        "lower learning rate"
    )


def _train_once(
    images: list[Tensor], tasks: list[Task], settings: ZeroShotSettings, seed: int, on_learning: OnLearning | None
) -> tuple[Tensor, float]:
    """Train a fleet of one; from its second round on also on the results of the round before."""
    task, channels, results = tasks[0], len(images[0]), list[Tensor]()
    rounds, total = settings.rounds, settings.schedule.iterations
    network = make_network(settings, channels, task.factor, [seed]).to(images[0].device)
    pool = ImagePool(images, results, tasks, settings, derive_seed(seed, "pairs", 0))
    fleet = Fleet(network, pool, settings, task)
    trained = network
    for number in range(rounds):
        if number:
            results = apply_many(trained, images, settings, tasks)
            fleet.sampler = ImagePool(images, results, tasks, settings, derive_seed(seed, "pairs", number))
            fleet.iteration_N.zero_()
        while fleet.running_N.any():
            loss = fleet.advance()
            if on_learning is not None and fleet.iteration_N[0] % 10 == 0:
                on_learning(number * total + int(fleet.iteration_N), rounds * total, float(loss))
        trained = make_network(settings, channels, task.factor, fleet.optimiser.result())
        if fleet.iteration_N < total or not torch.isfinite(trained.weights_NP).all():
            raise NumericalError("learning on the case gave NaN or infinity; try the precision fp32")
    return trained.weights_NP.detach()[0], float(fleet.recent_losses(torch.tensor([0]))[0])


def encode_shared(weights_P: Tensor, facts: SharedFacts) -> bytes:
    """The file's bytes: the same for the same weights and facts."""
    text = json.dumps(facts.model_dump(mode="json"), sort_keys=True)
    return save({_WEIGHTS: weights_P.detach().cpu().contiguous()}, {_KEY: text})


def make_shared(weights_P: Tensor, facts: SharedFacts) -> SharedModel:
    """A shared model with the hash that its file will have."""
    return SharedModel(weights_P, facts, sha256_bytes(encode_shared(weights_P, facts)))


def write_shared(model: SharedModel, path: Path) -> None:
    """Write it as safetensors. Raises OutputError where the file exists, or the disk refuses it."""
    atomic_write(path, encode_shared(model.weights_P, model.facts), overwrite=False)


def read_shared(path: Path) -> SharedModel:
    """Read a shared model; loading runs no code of the file's.

    Raises:
        SettingsError: missing, no safetensors file, or not a shared model of a version known here.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {why_unreadable(path, error)}") from error
    try:
        tensors = load(data)
        # safetensors' loader of bytes leaves the text out; the header is a length and JSON.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts = SharedFacts.model_validate_json(header["__metadata__"][_KEY])
        weights_P = tensors[_WEIGHTS]
    except (SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise SettingsError(f"{path}: is not a shared model as `--init shared` writes it") from error
    fits = weights_P.dtype == torch.float32 and weights_P.dim() == 1
    model = SharedModel(weights_P, facts, sha256_bytes(data))
    if not fits or len(weights_P) != model.network().parameters_of_a_member or not weights_P.isfinite().all():
        raise SettingsError(f"{path}: is damaged: its weights do not fit its network")
    return model
