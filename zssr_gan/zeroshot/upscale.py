"""One image from its own size to the asked one: steps, networks, ensemble, choice, back-projection.

Shapes: C channels, H W rows and columns of the LR image.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.operators import Downscale, back_project
from zssr_gan.errors import SettingsError
from zssr_gan.imaging.resize import Scale, Size, enlarged_size, resize
from zssr_gan.imaging.tiles import middle_of
from zssr_gan.progress import Progress
from zssr_gan.seeds import content_hash, derive_seed
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.ensemble import EnsembleOptions, apply_ensemble, combine, views
from zssr_gan.zeroshot.fleet import OnIteration, Training
from zssr_gan.zeroshot.pairs import Task, fold_map
from zssr_gan.zeroshot.scheduler import Fit, Request, Work, alone
from zssr_gan.zeroshot.selection import Choice, always_network, choose
from zssr_gan.zeroshot.shared import SharedStart
from zssr_gan.zeroshot.steps import Step, plan_steps

# One step of an image's way to its size: networks trained on it, applied, chosen or not, and refined.
#
# Shapes: C channels, H W rows and columns of the step's image or of its result.


_WINDOW = 1024

OnProgress = Callable[[Progress], None]


class StepRunner:
    """One step of the way: the sub-steps on one image, each with its networks trained and applied.

    `content` stands for the image in the seeds where that is an earlier step's result: its last bits hang on who shared
    the fleet, and no draw may.

    After `run`: `report` has each thing done with its parameters, `choice` is the last sub-step's, `notices` what a
    user should know, `tile` the tiles' side, `views` how many there were.
    """

    def __init__(
        self,
        image: Tensor,
        settings: ZeroShotSettings,
        downscale: Downscale,
        seed: int,
        precision: str,
        tile: int,
        on_progress: OnProgress | None,
        prefix: str = "",
        shared: SharedStart | None = None,
        content: str | None = None,
    ) -> None:
        self.image = image
        self.size: Size = (image.shape[-2], image.shape[-1])
        self.settings = settings
        self.downscale = downscale
        self.seed = seed
        self.precision = precision
        self.tile = tile
        self.on_progress = on_progress
        self.prefix = prefix
        self.shared = shared
        self.report: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self.views = 0
        self._content = content_hash(image) if content is None else content
        kernel = downscale.name == "kernel"
        refinement = settings.refinement
        self.back_projections = refinement.kernel_back_projections if kernel else refinement.back_projections

    def run(self, step: Step) -> Work[tuple[Tensor, Tensor]]:
        """Train and apply each sub-step; the result `C H W`, clipped, and the views' disagreement `H W`.

        A work (see `fleet.py`): it yields a request for each training.
        """
        fit: Fit | None = None
        results: list[Tensor] = []
        last = len(step.scales) - 1
        for number, (scale, size) in enumerate(zip(step.scales, step.sizes, strict=True)):
            name = self.prefix + (f"sub-step {number + 1}/{last + 1}: " if last else "")
            # A result that is only learnt from need not be larger than what is learnt from: of a photograph, a window.
            image = self.image if number == last else middle_of(self.image, _WINDOW)
            if image is not self.image:
                size = enlarged_size((image.shape[-2], image.shape[-1]), scale)
            fit, result, disagreement = yield from self._sub_step(name, image, scale, size, results, fit)
            results.append(result)
        return result, disagreement

    def _sub_step(
        self, name: str, image: Tensor, scale: Scale, size: Size, results: list[Tensor], start: Fit | None
    ) -> Work[tuple[Fit, Tensor, Tensor]]:
        """Networks, and their result on `image`; again from other starts where they depart from the image."""
        task = Task.of(scale, self.settings.network.grid, self.downscale)
        folds = self._folds()
        options = self._ensemble_options(task)
        # A shared network would be the same each time.
        restarts = self.settings.restarts if self.shared is None else 0
        for attempt in range(restarts + 1):
            if self.shared is None:
                fit = yield from self._train(name, task, results, folds, start, attempt)
            else:
                fit = self._take_shared(task, self.shared)
            result, disagreement = self._apply(name, fit, image, size, options)
            departure = self._departure(result, image)
            if all(fit.dead):
                choice = Choice(0.0, "every start of the network died: it hands the interpolated image through")
                break
            # The interpolation of the image is made only where it can matter: of a photograph it is half a gigabyte.
            excess = departure - self.settings.guards.largest_departure
            if excess <= 0 or excess <= self._departure(resize(image, size), image):
                choice = self._choose(fit, folds, task, options)
                break
            start = None
            self.notices.append(f"a network ran away from the image by {departure * 255:.0f} levels; begun anew")
            choice = Choice(0.0, "every start of the network ran away from the image")
        self.choice = choice
        # Where the network has a share only, so has what its views disagree on.
        disagreement = disagreement * choice.share
        return fit, self._refine(result, image, size, choice, departure), disagreement

    def _departure(self, result: Tensor, image: Tensor) -> float:
        """Largest difference between a network's result, shrunk again, and the image, [0, 1] units."""
        again = self.downscale(result[None], (image.shape[-2], image.shape[-1]))[0]
        return float((again - image).abs().max())

    def _folds(self) -> Tensor | None:
        choice = self.settings.choice
        if not choice.folds or self.size[0] * self.size[1] > choice.max_pixels:
            return None
        return fold_map(self.size, choice.folds, choice.block)

    def _train(
        self, name: str, task: Task, results: list[Tensor], folds: Tensor | None, start: Fit | None, attempt: int
    ) -> Generator[Request, Fit, Fit]:
        members = self.settings.networks
        seeds = [derive_seed(self.seed, self._content, member, *[attempt] * bool(attempt)) for member in range(members)]
        began = time.perf_counter()
        fit = yield Request(
            self.image.expand(members, -1, -1, -1),
            seeds,
            self.settings,
            Training(task, self.precision),
            fathers=[father.expand(members, -1, -1, -1) for father in results],
            learn_NHW=None if folds is None else torch.stack([folds != member for member in range(members)]),
            # On the LR grid a sub-step that leaves a side as it is has another factor, and so another last layer.
            start=start.network if start is not None and start.network.factor == task.factor else None,
            on_iteration=self._teller(name, self.settings.schedule.iterations),
        )
        what = f"{members} network(s) on pairs out of the image itself"
        facts = {"images_learnt_from": 1 + len(results), "held_out": folds is not None}
        self._report_training("train", what, task, seeds, fit, began, facts)
        return fit

    def _take_shared(self, task: Task, shared: SharedStart) -> Fit:
        """The network learnt on the case, as it is."""
        began = time.perf_counter()
        fit = Fit(shared.network().to(self.image.device), [0], [shared.facts.loss], [0], [False])
        what = "the network learnt on the images of the case, as it is"
        self._report_training("shared start", what, task, [], fit, began, shared.summary())
        return fit

    def _teller(self, name: str, total: int) -> OnIteration | None:
        on_progress = self.on_progress
        if on_progress is None:
            return None
        return lambda iteration, loss, lr: on_progress(Progress(name + "training", iteration, total, loss, lr))

    def _report_training(
        self, name: str, what: str, task: Task, seeds: list[int], fit: Fit, began: float, facts: dict[str, Any]
    ) -> None:
        self.report.append(
            {
                "name": name,
                "what": what,
                "scale": list(task.scale),
                "grid": self.settings.network.grid,
                "downscale": self.downscale.name,
                "seeds": seeds,
                **facts,
                "iterations": fit.iterations,
                "last_loss": fit.loss,
                "restarts": fit.restarts,
                "dead": fit.dead,
                "multiply_adds_per_pixel": fit.network.multiply_adds_per_pixel,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )

    def _ensemble_options(self, task: Task) -> EnsembleOptions:
        refinement = self.settings.refinement
        used = task.symmetries if refinement.ensemble else (0,)
        return EnsembleOptions(used, refinement.combine, self.tile, self.precision)

    def _choose(self, fit: Fit, folds: Tensor | None, task: Task, options: EnsembleOptions) -> Choice:
        if folds is None:
            limit = self.settings.choice.max_pixels
            off = not self.settings.choice.folds
            why = "the settings always take the network" if off else f"the image has more than {limit} pixels"
            return always_network(why, fit.network, self.image, options, task, self.back_projections)
        return choose(
            fit.network,
            self.image,
            folds,
            self.settings.choice,
            options,
            task,
            self.back_projections,
        )

    def _apply(self, name: str, fit: Fit, image: Tensor, size: Size, options: EnsembleOptions) -> tuple[Tensor, Tensor]:
        """The networks' own result of `size` and its disagreement, before any mixing or last back-projection."""
        began = time.perf_counter()
        # On the interpolated grid the networks' input has the size of the result, else they enlarge the image.
        seen_CHW = resize(image, size) if fit.network.factor == (1, 1) else image
        self.views = len(options.symmetries) * fit.network.members
        refinement = self.settings.refinement
        each = refinement.member_back_projections
        if each and size[0] * size[1] > refinement.member_limit * 1e6:
            each = 0  # all members in full size at once would not fit into memory

        def tell(tile: int, tiles: int) -> None:
            if self.on_progress is not None:
                self.on_progress(Progress(name + "ensemble", tile, tiles, float("nan"), float("nan")))

        if each:
            result, disagreement = self._members_back_projected(fit, image, seen_CHW, size, each, options)
            tell(1, 1)
        else:
            result, disagreement, self.tile = apply_ensemble(fit.network, seen_CHW, options, tell)
        self.report.append(
            {
                "name": "apply",
                "what": "self-ensemble of the networks",
                "size": list(size),
                "symmetries": list(options.symmetries),
                "views": self.views,
                "combine": options.combine,
                "member_back_projections": each,
                "tile": self.tile,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
        return resize(result, size), resize(disagreement[None].float(), size)[0].clamp_(min=0).half()

    @torch.no_grad()
    def _members_back_projected(
        self, fit: Fit, image: Tensor, seen_CHW: Tensor, size: Size, each: int, options: EnsembleOptions
    ) -> tuple[Tensor, Tensor]:
        seen = views(fit.network, seen_CHW, options)
        disagreement = (seen.std(0, correction=0).mean(0) * 255).half()
        one_by_one = [back_project(view[None], image[None], self.downscale, each) for view in resize(seen, size)]
        return combine(torch.cat(one_by_one), options.combine), disagreement

    def _refine(self, result: Tensor, image: Tensor, size: Size, choice: Choice, departure: float) -> Tensor:
        """Mixed with plain back-projection where the choice says so, back-projected, clipped."""
        began = time.perf_counter()
        lr, out = image[None], result[None]
        if choice.share < 1:
            reference = back_project(resize(lr, size).clone(), lr, self.downscale, self.back_projections)
            out = reference.lerp(out, choice.share)
        out = back_project(out, lr, self.downscale, self.back_projections)[0].clamp_(0, 1)
        self.report.append(
            {
                "name": "refine",
                "what": "mixed with plain back-projection by the network's share, back-projected, clipped to [0, 1]",
                "choice": asdict(choice),
                "back_projections_of_plain": self.back_projections if choice.share < 1 else 0,
                "back_projections": self.back_projections,
                "largest_departure_before": round(departure * 255, 3),
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
        return out


_SHOWN = 20
"""Letters of a degradation's name in a message: its kind, and the first of its hash."""

__all__ = ["OnProgress", "Progress", "SuperResolved", "super_resolve", "super_resolving"]


@dataclass(slots=True)
class SuperResolved:
    """A result before it is rounded to a file's levels, and how it came about."""

    image_CHW: Tensor
    """[0, 1], clipped."""
    disagreement_HW: Tensor
    """Standard deviation of the views, 8-bit levels, float16."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Each step with every parameter, in order; JSON values only."""
    choice: dict[str, Any] = field(default_factory=dict)
    """The choice between network and back-projection; of several steps, the one with the smallest share."""
    notices: list[str] = field(default_factory=list)
    """What a user should know, one sentence each."""
    views: int = 0
    """Views of the last ensemble: symmetries times networks."""
    tile: int = 0
    """Side of the tiles that were used, in pixels."""


def super_resolve(
    lr_CHW: Tensor,
    scale: Scale,
    settings: ZeroShotSettings,
    downscale: Downscale,
    *,
    seed: int,
    precision: str,
    tile: int,
    on_progress: OnProgress | None = None,
    shared: SharedStart | None = None,
) -> SuperResolved:
    """Enlarge one image by what it teaches itself, or by what all images of its case taught one network.

    Args:
        lr_CHW: [0, 1].
        scale: (y, x), 1 to 8.
        settings: already those for the image's size (`ZeroShotSettings.for_size`).
        downscale: how the LR image came out of the HR one; a kernel's is tied to `scale`, which is then one step.
        seed: the run's.
        precision: `fp32` or `bf16`.
        tile: side of a tile in output pixels.
        on_progress: called after every iteration and tile.
        shared: the network learnt on the case; then `settings` are those for a case (`ZeroShotSettings.for_case`).

    Raises:
        SettingsError: `shared` was learnt for another scale or degradation, or on gray images where this has colours.

    Returns:
        The image of size `enlarged_size((H, W), scale)`.
    """
    return alone(
        super_resolving(
            lr_CHW,
            scale,
            settings,
            downscale,
            seed=seed,
            precision=precision,
            tile=tile,
            on_progress=on_progress,
            shared=shared,
        )
    )


def super_resolving(
    lr_CHW: Tensor,
    scale: Scale,
    settings: ZeroShotSettings,
    downscale: Downscale,
    *,
    seed: int,
    precision: str,
    tile: int,
    on_progress: OnProgress | None = None,
    shared: SharedStart | None = None,
) -> Work[SuperResolved]:
    """`super_resolve` as a work that shares a fleet with others; see there for the arguments."""
    channels = len(lr_CHW)
    if shared is not None:
        _check_fit(shared, channels, downscale)
        lr_CHW = lr_CHW.expand(shared.facts.channels, -1, -1)  # gray in a network that was learnt on colours
    image = lr_CHW
    done = SuperResolved(lr_CHW, torch.zeros(lr_CHW.shape[-2:], dtype=torch.float16, device=lr_CHW.device))
    steps = plan_steps((lr_CHW.shape[-2], lr_CHW.shape[-1]), scale, settings.steps, whole=downscale.whole)
    if shared is not None:
        for step in steps:
            _check_factor(shared, Task.of(step.scales[-1], settings.network.grid, downscale))
    choices = []
    given = content_hash(lr_CHW)
    for number, step in enumerate(steps):
        prefix = f"step {number + 1}/{len(steps)}: " if len(steps) > 1 else ""
        content = f"{given}, step {number + 1}" if number else given
        runner = StepRunner(image, settings, downscale, seed, precision, tile, on_progress, prefix, shared, content)
        image, disagreement = yield from runner.run(step)
        if number:
            # Each step agrees with the last one's result; the whole must agree with the image that was given.
            image = back_project(image[None], lr_CHW[None], downscale, settings.refinement.back_projections)[0]
            image = image.clamp_(0, 1)
            # What an earlier step was unsure of, the later ones took as given: the deviations add as independent ones.
            before = resize(done.disagreement_HW[None].float(), (image.shape[-2], image.shape[-1]))[0]
            disagreement = torch.hypot(before, disagreement.float()).half()
        choices.append(runner.choice)
        done.steps += runner.report
        done.notices += [prefix + notice for notice in runner.notices]
        done.disagreement_HW, done.tile, done.views = disagreement, runner.tile, runner.views
    # Of several steps the one with the least of the network speaks for all; each stands in its own "refine".
    least = min(range(len(choices)), key=lambda number: choices[number].share)
    done.choice = asdict(choices[least])
    if len(choices) > 1:
        done.choice["why"] = (
            f"in step {least + 1} of {len(choices)}, which has the smallest share, {choices[least].why}"
        )
    done.image_CHW = image if len(image) == channels else image.mean(0, keepdim=True)
    return done


def _check_fit(shared: SharedStart, channels: int, downscale: Downscale) -> None:
    facts = shared.facts
    if channels > facts.channels:
        raise SettingsError("the shared start was learnt on gray images and cannot enlarge one with colours")
    if degradation_of(downscale) not in facts.learnt_for:
        learnt = " or ".join(repr(one[:_SHOWN]) for one in facts.learnt_for[:3])
        more = " or others" if len(facts.learnt_for) > 3 else ""
        asked = degradation_of(downscale)[:_SHOWN]
        raise SettingsError(f"the shared start was learnt for the degradation {learnt}{more}, not {asked!r}")


def _check_factor(shared: SharedStart, task: Task) -> None:
    learnt, scale = shared.facts.factor, shared.facts.scale
    if learnt == (1, 1) and any(abs(a - b) > 1e-6 for a, b in zip(task.scale, scale, strict=True)):
        raise SettingsError(
            f"the shared start was learnt for a scale of {scale[0]:g} x {scale[1]:g} (y, x) a step, and this one takes "
            f"steps of {task.scale[0]:g} x {task.scale[1]:g}"
        )
    if task.factor != learnt:
        raise SettingsError(
            f"the shared start was learnt to enlarge by {learnt[0]} x {learnt[1]} (y, x), and a step of this scale "
            f"asks for {task.factor[0]} x {task.factor[1]}"
        )
