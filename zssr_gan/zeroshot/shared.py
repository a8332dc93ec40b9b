"""A shared start: one network learnt on all LR images of a case, and the file that it is kept in.

The file is safetensors: the weights, and beside them, as JSON, what the network is and which images it was learnt on.

Shapes: P parameters.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zssr_gan.degradation.model import Degradation, DegradedDownscale, degradation_of
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, back_project
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, NumericalError, SettingsError
from zssr_gan.files import atomic_write, canonical_sha256, sha256_bytes
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Scale, Size, enlarged_size, resize
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.provenance import CaseImage, _Model
from zssr_gan.seeds import content_hash, derive_seed, generator, normal, uniform
from zssr_gan.settings.zeroshot import NetworkSettings, ZeroShotSettings
from zssr_gan.zeroshot.ensemble import combine
from zssr_gan.zeroshot.fleet import FleetOptimiser, Training, autocast, find_dead, make_schedule, masked_l1
from zssr_gan.zeroshot.pairs import PairSource, Task
from zssr_gan.zeroshot.steps import SMALLEST_SIDE, count_steps

# Learning one network on all LR images of a case, with no HR image anywhere.
#
# On an image of 32 px a network of its own has little to learn from; all images of a case together have a lot. The
# pairs
# are those of ZSSR, an image and its own shrunk copy, drawn from all images in turn.
#
# Images of a case may come out of several cameras: each teaches by its own camera's degradation, and is made by it.
#
# Shapes: B images, C channels, H W rows and columns, P parameters.


LARGEST_SIDE = 512
"""Of a larger image the middle is learnt from: all images lie in memory together."""

_BATCH = 32  # images that are put through at once

_EXAMINED = 8  # images that say whether a network is dead

_VARIETY = 4  # a batch is drawn of so many times its number of images at the least, where there are as many

OnLearning = Callable[[int, int, float], None]
"""Called with the iteration, how many there are, and the loss ([0, 1] units)."""


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A network learnt on a case."""

    weights_P: Tensor
    iterations: int
    loss: float
    """Mean absolute error over the last 50 iterations, [0, 1] units."""
    restarts: int = 0
    """Starts that died before the one that is used."""


def learn_case(
    images: Sequence[Tensor],
    settings: ZeroShotSettings,
    training: Training | Sequence[Training],
    *,
    seed: int,
    on_learning: OnLearning | None = None,
) -> Learnt:
    """Learn one network on all images; their order does not matter.

    Args:
        images: `C H W` each, [0, 1], of any sizes and one number of channels.
        settings: those for a case (`ZeroShotSettings.for_case`).
        training: what pairs teach, precision; one for all, or one for each image. These differ in the degradation
            alone, and images of one camera share one object.
        seed: the run's.
        on_learning: called every ten iterations.

    Raises:
        ImageError: no image, or one too small to learn from.
        NumericalError: the weights became NaN or infinite.
    """
    assert settings.shared is not None, "settings are made by for_case"
    if not images:
        raise ImageError("there is no image to learn from")
    # By content, so that neither names nor places matter; the same content may be of two cameras.
    lessons = [_Lesson(middle(image), own) for image, own in zip(images, _of_each(training, len(images)), strict=True)]
    lessons.sort(key=lambda lesson: (content_hash(lesson.image), lesson.camera))
    seed = derive_seed("case", seed, *(content_hash(lesson.image) for lesson in lessons))
    for attempt in range(settings.restarts + 1):
        own_seed = seed if not attempt else derive_seed(seed, "restart", attempt)
        try:
            weights_P, loss = _learn(lessons, settings, own_seed, settings.shared.rounds, on_learning)
        except NumericalError:
            if attempt == settings.restarts:
                raise
            continue
        if not _is_dead(weights_P, lessons, settings):
            iterations = settings.shared.rounds * settings.schedule.iterations
            return Learnt(weights_P, iterations, loss, attempt)
    raise NumericalError(
        f"learning on the case died in each of {settings.restarts + 1} starts (the network hands the interpolated "
        "image through): try a lower learning rate"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """An image, and what its pairs teach."""

    image: Tensor
    training: Training

    @property
    def camera(self) -> str:
        """What tells its degradation from others."""
        downscale = self.training.task.downscale
        return downscale.degradation.sha256 if isinstance(downscale, DegradedDownscale) else downscale.name


def _of_each(training: Training | Sequence[Training], count: int) -> list[Training]:
    """What each of so many images' pairs teach."""
    return [training] * count if isinstance(training, Training) else list(training)


class _Pool:
    """All images of a case, as sources of pairs by size and degradation.

    A batch is of many images, also where all sizes differ: the side of an image, drawn evenly, is the crops'; they are
    cut of images of that side and, where these are few, of the next larger.
    """

    def __init__(self, lessons: list[_Lesson], results: list[Tensor], settings: ZeroShotSettings, seed: int) -> None:
        images = [lesson.image for lesson in lessons]
        self.seed_1 = torch.tensor([seed], device=images[0].device)
        self.batch = settings.pairs.batch
        self.sources = []
        placed: list[tuple[int, int, int]] = []  # side of a crop, source, place in it
        for number, (training, group) in enumerate(_alike(images, [lesson.training for lesson in lessons])):
            fathers = [torch.stack([part[n] for n in group]) for part in ((images, results) if results else (images,))]
            self.sources.append(PairSource(settings.pairs, fathers, None, training.task))
            placed += [(self.sources[-1].side, number, place) for place in range(len(group))]
        self.images = sorted(placed)
        self.sides = [side for side, _, _ in self.images]

    def sample(self, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of pairs `1 B ...`."""
        position_1 = torch.tensor([iteration], device=self.seed_1.device)
        anchor, *numbers = uniform(self.seed_1 + 1, position_1, 1 + self.batch)[0].tolist()
        side = self.sides[int(anchor * len(self.images))]
        first, end = bisect_left(self.sides, side), bisect_right(self.sides, side)
        end = min(len(self.images), max(end, first + _VARIETY * self.batch))
        drawn = [self.images[first + int(number * (end - first))] for number in numbers]
        draws_SD = uniform(self.seed_1 + 2, position_1, self.batch * PairSource.DRAWS).reshape(self.batch, -1)
        # A camera without noise and compression takes no draws; all others take as many.
        count = max(source.noise_count(side) for source in self.sources)
        noise_SE = normal(self.seed_1 + 3, position_1, self.batch * count).reshape(self.batch, count)
        parts, order = [], []
        for number in sorted({number for _, number, _ in drawn}):
            samples = [sample for sample, (_, its, _) in enumerate(drawn) if its == number]
            order += samples
            image_S = torch.tensor([drawn[sample][2] for sample in samples], device=self.seed_1.device)
            at = torch.tensor(samples, device=self.seed_1.device)
            parts.append(self.sources[number].take(image_S, draws_SD[at], noise_SE[at], side))
        back = torch.tensor(order, device=self.seed_1.device).argsort()
        x, y, mask = (torch.cat(tensors)[back][None] for tensors in zip(*parts, strict=True))
        return x, y, mask


def _learn(
    lessons: list[_Lesson],
    settings: ZeroShotSettings,
    seed: int,
    rounds: int,
    on_learning: OnLearning | None,
) -> tuple[Tensor, float]:
    """The weights `P`, and the loss over the last iterations."""
    first, images = lessons[0], [lesson.image for lesson in lessons]
    factor, device, precision = first.training.task.factor, first.image.device, first.training.precision
    network = ZSSR(
        ZSSROptions(**settings.network.model_dump()), len(first.image), factor, [generator("weights", seed)]
    ).to(device)
    optimiser = FleetOptimiser(network, settings.optimiser)
    total = settings.schedule.iterations
    results: list[Tensor] = []
    recent: list[Tensor] = []
    for number in range(rounds):
        pool = _Pool(lessons, results, settings, derive_seed(seed, "pairs", number))
        schedule = make_schedule(settings.schedule, 1)
        for iteration in range(total):
            x, y, mask = pool.sample(iteration)
            with autocast(device, precision):
                out = network(x)
            loss = masked_l1(out, y, mask)
            (gradient,) = torch.autograd.grad(loss.sum(), network.weights_NP)
            optimiser.step(gradient, schedule.rates(torch.tensor([iteration])))
            recent = [*recent[-49:], loss.detach()]
            if on_learning is not None and iteration % 10 == 9:
                on_learning(number * total + iteration + 1, rounds * total, float(loss.detach()))
        made = ZSSR(network.options, len(first.image), factor, optimiser.result())
        if not torch.isfinite(made.weights_NP).all():
            raise NumericalError("learning on the case gave NaN or infinity; try the precision fp32")
        if number + 1 < rounds:
            results = apply_shared(made, images, settings, [lesson.training for lesson in lessons])
    return made.weights_NP.detach()[0], float(torch.stack(recent).mean())


@torch.no_grad()
def apply_shared(
    network: ZSSR, images: Sequence[Tensor], settings: ZeroShotSettings, training: Training | Sequence[Training]
) -> list[Tensor]:
    """Results of one network, or of a network each, on many images: self-ensemble and back-projection, many at once.

    Args:
        network: one member for all, or as many as there are images.
        images: `C H W` each.
        settings: refinement.
        training: scale, degradation, precision; one for all, or one for each image.
    """
    out: dict[int, Tensor] = {}
    for own_training, group in _alike(images, _of_each(training, len(images))):
        task = own_training.task
        for at in range(0, len(group), _BATCH):
            some = group[at : at + _BATCH]
            lr_BCHW = torch.stack([images[n] for n in some])
            weights = network.weights_NP if network.members == 1 else network.weights_NP[some]
            own = ZSSR(network.options, lr_BCHW.shape[1], network.factor, weights)
            size = enlarged_size((lr_BCHW.shape[-2], lr_BCHW.shape[-1]), task.scale)
            seen_BCHW = resize(lr_BCHW, size) if network.factor == (1, 1) else lr_BCHW
            views = []
            for k in task.symmetries if settings.refinement.ensemble else (0,):
                x = dihedral.transform(seen_BCHW, k)
                with autocast(x.device, own_training.precision):
                    y = own(x[None])[0] if own.members == 1 else own(x[:, None])[:, 0]
                views.append(dihedral.inverse(y, k))
            made = resize(combine(torch.stack(views), settings.refinement.combine), size)
            made = back_project(made, lr_BCHW, task.downscale, settings.refinement.back_projections).clamp_(0, 1)
            out |= dict(zip(some, made, strict=True))
    return [out[n] for n in range(len(images))]


def _alike(images: Sequence[Tensor], trainings: Sequence[Training]) -> list[tuple[Training, list[int]]]:
    """Numbers of the images of each size and camera, in the order of the first."""
    groups: dict[tuple[Size, Training], list[int]] = {}
    for number, (image, training) in enumerate(zip(images, trainings, strict=True)):
        groups.setdefault(((image.shape[-2], image.shape[-1]), training), []).append(number)
    return [(training, group) for (_, training), group in groups.items()]


def _is_dead(weights_P: Tensor, lessons: list[_Lesson], settings: ZeroShotSettings) -> bool:
    """Whether the network does no more than interpolate on every one of some images where there is more to do."""
    images = [lesson.image for lesson in lessons]
    training, group = max(_alike(images, [lesson.training for lesson in lessons]), key=lambda alike: len(alike[1]))
    stack = torch.stack([images[n] for n in group[:_EXAMINED]])
    options = ZSSROptions(**settings.network.model_dump())
    network = ZSSR(options, stack.shape[1], training.task.factor, weights_P.expand(len(stack), -1))
    return all(find_dead(network, stack, training, settings.guards))


def middle(image: Tensor) -> Tensor:
    """What is learnt from of an image `C H W`: its middle, a copy where it is larger than that.

    Raises:
        ImageError: too small to learn from.
    """
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        height, width = image.shape[-2:]
        raise ImageError(f"an image of {width}x{height} pixels is too small to learn from: {SMALLEST_SIDE} are needed")
    return copied_middle_of(image, LARGEST_SIDE)


_KEY = "zssr-gan:shared-start"

_WEIGHTS = "weights_P"

_BETWEEN = ", "


class SharedFacts(_Model):
    """What a shared network is, and how it came about."""

    schema_version: Literal[2] = 2
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
        images=tuple(sorted((image for image, _ in images), key=lambda image: (image.sha256, image.name))),
        versions={"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__},
    )
    return make_shared(learnt.weights_P, facts)


def step_of(scale: Scale, settings: ZeroShotSettings, downscale: Downscale) -> Scale:
    """The scale (y, x) of each of the equal steps that `scale` is taken in."""
    count = 1 if downscale.whole else count_steps(scale, settings.steps)
    return scale[0] ** (1 / count), scale[1] ** (1 / count)


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
