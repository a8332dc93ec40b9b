"""One step of an image's way to its size: networks trained on it, applied, chosen or not, and refined.

Shapes: C channels, H W rows and columns of the step's image or of its result.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from zssr_gan.config import ZeroShotSettings
from zssr_gan.imaging.crops import middle_of
from zssr_gan.imaging.resampling import Downscale, Scale, Size, back_project, enlarged_size, resize
from zssr_gan.zeroshot.choice import Choice, always_network, choose
from zssr_gan.zeroshot.ensemble import EnsembleOptions, apply_ensemble, combine, views
from zssr_gan.zeroshot.fleet import Fit, Request, Work
from zssr_gan.zeroshot.pairs import Task, fold_map
from zssr_gan.zeroshot.plan import Step
from zssr_gan.zeroshot.seeds import content_hash, derive_seed
from zssr_gan.zeroshot.shared import SharedStart
from zssr_gan.zeroshot.training import OnIteration, Training

_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    stage: str
    """`training` or `ensemble`, with the step where there are several."""
    iteration: int
    """Of `total`, within the stage."""
    total: int
    loss: float
    """Mean absolute error, [0, 1] units; NaN outside training."""
    lr: float
    """Learning rate; NaN outside training."""


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
        # A shared network as it is would be the same each time; one gone on from may be taken as it was learnt.
        restarts = self.settings.restarts if self.shared is None else int(self.shared.adapts)
        for attempt in range(restarts + 1):
            if self.shared is None:
                fit = yield from self._train(name, task, results, folds, start, attempt)
            else:
                fit = yield from self._take_shared(name, task, self.shared, attempt)
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

    def _take_shared(self, name: str, task: Task, shared: SharedStart, attempt: int) -> Generator[Request, Fit, Fit]:
        """The network learnt on the case, gone on from on this image where that is to be done."""
        began = time.perf_counter()
        start = shared.network().to(self.image.device)
        fit = Fit(start, [0], [shared.facts.loss], [0], [False])
        seeds: list[int] = []
        # One that ran away after going on from it is taken as it was learnt.
        if shared.adapts and not attempt:
            settings = self.settings.for_adaptation()
            seeds = [derive_seed(self.seed, self._content, "adaptation")]
            fit = yield Request(
                self.image[None],
                seeds,
                settings,
                Training(task, self.precision),
                start=start,
                on_iteration=self._teller(name, settings.schedule.iterations),
            )
        what = "the network learnt on the images of the case"
        what += ", gone on from on this image" if seeds else ", as it is"
        self._report_training("shared start", what, task, seeds, fit, began, shared.summary())
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
