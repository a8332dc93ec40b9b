"""Learning one network on all LR images of a case, with no HR image anywhere.

On an image of 32 px a network of its own has little to learn from; all images of a case together have a lot. The pairs
are those of ZSSR, an image and its own shrunk copy, drawn from all images in turn.

Whether to go on from that network on each image by itself ('adaptation') is asked of a rehearsal one size below: there
the images themselves are the truth. A network learnt on the shrunk images is adapted to some of them, and both are
measured against the images, which neither has seen.

Images of a case may come out of several cameras: each teaches by its own camera's degradation, and is made by it.

Shapes: B images, C channels, H W rows and columns, P parameters.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.config import ZeroShotSettings
from zssr_gan.errors import ImageError, NumericalError
from zssr_gan.imaging import symmetries
from zssr_gan.imaging.crops import copied_middle_of
from zssr_gan.imaging.degradation import DegradedDownscale
from zssr_gan.imaging.psnr import psnr_db
from zssr_gan.imaging.resampling import Size, back_project, enlarged_size, reduced_size, resize
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.zeroshot.draws import normal, uniform
from zssr_gan.zeroshot.ensemble import combine
from zssr_gan.zeroshot.fleet import Request, train
from zssr_gan.zeroshot.optimiser import FleetOptimiser
from zssr_gan.zeroshot.pairs import PairSource
from zssr_gan.zeroshot.plan import SMALLEST_SIDE
from zssr_gan.zeroshot.schedules import make_schedule
from zssr_gan.zeroshot.seeds import content_hash, derive_seed, generator
from zssr_gan.zeroshot.training import Training, autocast, find_dead, masked_l1

LARGEST_SIDE = 512
"""Of a larger image the middle is learnt from: all images lie in memory together."""
_BATCH = 32  # images that are put through at once
_FEWEST = 8  # images that a rehearsal needs to say anything
_VARIETY = 4  # a batch is drawn of so many times its number of images at the least, where there are as many

OnLearning = Callable[[str, int, int, float], None]
"""Called with what is done, its iteration, how many there are, and the loss ([0, 1] units)."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Whether adaptation helped one size below."""

    done: bool
    """Whether each image is gone on from by itself."""
    why: str
    """One sentence."""
    images: int = 0
    gain_db: float | None = None
    """Mean PSNR of the adapted networks over the shared one, against the images."""
    interval_db: float | None = None
    """Half the 95 % interval of that mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A network learnt on a case."""

    weights_P: Tensor
    iterations: int
    loss: float
    """Mean absolute error over the last 50 iterations, [0, 1] units."""
    rehearsal: Rehearsal
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
    rehearsal = _rehearse(lessons, settings, seed, on_learning)
    for attempt in range(settings.restarts + 1):
        own_seed = seed if not attempt else derive_seed(seed, "restart", attempt)
        try:
            weights_P, loss = _learn(lessons, settings, own_seed, settings.shared.rounds, on_learning, "learning")
        except NumericalError:
            if attempt == settings.restarts:
                raise
            continue
        if not _is_dead(weights_P, lessons, settings):
            iterations = settings.shared.rounds * settings.schedule.iterations
            return Learnt(weights_P, iterations, loss, rehearsal, attempt)
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
    what: str,
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
                on_learning(what, number * total + iteration + 1, rounds * total, float(loss.detach()))
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
                x = symmetries.transform(seen_BCHW, k)
                with autocast(x.device, own_training.precision):
                    y = own(x[None])[0] if own.members == 1 else own(x[:, None])[:, 0]
                views.append(symmetries.inverse(y, k))
            made = resize(combine(torch.stack(views), settings.refinement.combine), size)
            made = back_project(made, lr_BCHW, task.downscale, settings.refinement.back_projections).clamp_(0, 1)
            out |= dict(zip(some, made, strict=True))
    return [out[n] for n in range(len(images))]


def _rehearse(
    lessons: list[_Lesson], settings: ZeroShotSettings, seed: int, on_learning: OnLearning | None
) -> Rehearsal:
    assert settings.shared is not None
    adaptation = settings.shared.adaptation
    if not adaptation.iterations:
        return Rehearsal(False, "the settings ask for none")
    if not adaptation.rehearse:
        return Rehearsal(True, "the settings do it without asking")
    truths: list[Tensor] = []
    sons: list[_Lesson] = []
    for lesson in lessons:
        task = lesson.training.task
        truth = task.cut(lesson.image)
        son = task.downscale(truth[None], reduced_size((truth.shape[-2], truth.shape[-1]), task.scale))[0]
        if min(son.shape[-2:]) >= SMALLEST_SIDE:
            truths.append(truth)
            sons.append(_Lesson(son.clamp(0, 1), lesson.training))
    if len(sons) < _FEWEST:
        return Rehearsal(False, f"only {len(sons)} images are large enough to try it at half their size")
    # Half the iterations: it stands for the network, it need not equal it.
    schedule = settings.schedule.model_copy(update={"iterations": max(1, settings.schedule.iterations // 2)})
    half = settings.model_copy(update={"schedule": schedule})
    try:
        weights_P, _ = _learn(sons, half, derive_seed(seed, "rehearsal"), 1, on_learning, "rehearsal")
    except NumericalError:
        return Rehearsal(False, "its rehearsal gave NaN or infinity")
    if _is_dead(weights_P, sons, settings):
        return Rehearsal(False, "its rehearsal died: the network handed the interpolated images through")
    channels, factor = len(sons[0].image), sons[0].training.task.factor
    network = ZSSR(ZSSROptions(**settings.network.model_dump()), channels, factor, weights_P[None])
    chosen = [round(n * (len(sons) - 1) / max(1, adaptation.rehearse - 1)) for n in range(adaptation.rehearse)]
    chosen = sorted(set(chosen))
    gains = []
    for training, group in _alike([sons[n].image for n in chosen], [sons[n].training for n in chosen]):
        some = [chosen[n] for n in group]
        start = ZSSR(network.options, channels, factor, weights_P.expand(len(some), -1).clone())
        seeds = [derive_seed(seed, "rehearsal", content_hash(sons[n].image)) for n in some]
        stack = torch.stack([sons[n].image for n in some])
        fit = train(Request(stack, seeds, settings.for_adaptation(), training, start=start))
        plain = apply_shared(network, list(stack), settings, training)
        adapted = apply_shared(fit.network, list(stack), settings, training)
        gains += [_decibel(b, truths[n]) - _decibel(a, truths[n]) for n, a, b in zip(some, plain, adapted, strict=True)]
    gain = torch.tensor(gains, dtype=torch.float64)
    changed = (
        f"one size below, going on from the shared network on each of {len(gains)} images by itself changed PSNR by "
        f"{float(gain.mean()):+.3f} dB"
    )
    if len(gains) < 2:
        return Rehearsal(False, f"{changed}, and one image proves nothing", len(gains), float(gain.mean()))
    interval = 1.96 * float(gain.std()) / math.sqrt(len(gain))
    helped = float(gain.mean()) > interval
    why = f"{changed} (95 % interval +-{interval:.3f}), which is {'a' if helped else 'no'} sure gain"
    return Rehearsal(helped, why, len(gains), float(gain.mean()), interval)


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
    stack = torch.stack([images[n] for n in group[:_FEWEST]])
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


def _decibel(result: Tensor, truth: Tensor) -> float:
    """PSNR over all channels, at most 100 dB."""
    return psnr_db(float((result - truth).square().mean()))
