"""One image from its own size to the asked one: steps, networks, ensemble, choice, back-projection.

Shapes: C channels, H W rows and columns of the LR image.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zssr_gan.config import ZeroShotSettings
from zssr_gan.imaging import symmetries
from zssr_gan.imaging.resampling import Downscale, Scale, Size, back_project, resize
from zssr_gan.zeroshot.choice import Choice, always_network, choose
from zssr_gan.zeroshot.ensemble import EnsembleOptions, apply_ensemble, combine, views
from zssr_gan.zeroshot.pairs import Task, fold_map
from zssr_gan.zeroshot.plan import Step, plan_steps
from zssr_gan.zeroshot.seeds import content_hash, derive_seed
from zssr_gan.zeroshot.training import Fit, Training, train


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
    """The last step's choice between network and back-projection."""
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
) -> SuperResolved:
    """Enlarge one image by what it teaches itself.

    Args:
        lr_CHW: [0, 1].
        scale: (y, x), 1 to 8.
        settings: already those for the image's size (`ZeroShotSettings.for_size`).
        downscale: how the LR image came out of the HR one; a kernel's is tied to `scale`, which is then one step.
        seed: the run's.
        precision: `fp32` or `bf16`.
        tile: side of a tile in output pixels.
        on_progress: called after every iteration and tile.

    Returns:
        The image of size `enlarged_size((H, W), scale)`.
    """
    image = lr_CHW
    done = SuperResolved(lr_CHW, torch.zeros(lr_CHW.shape[-2:], dtype=torch.float16, device=lr_CHW.device))
    steps = plan_steps((lr_CHW.shape[-2], lr_CHW.shape[-1]), scale, settings.steps, whole=downscale.name == "kernel")
    for number, step in enumerate(steps):
        runner = _StepRunner(image, settings, downscale, seed, precision, tile, on_progress)
        runner.prefix = f"step {number + 1}/{len(steps)}: " if len(steps) > 1 else ""
        image, disagreement = runner.run(step)
        if number:
            # Each step agrees with the last one's result; the whole must agree with the image that was given.
            image = back_project(image[None], lr_CHW[None], downscale, settings.refinement.back_projections)[0]
            image = image.clamp_(0, 1)
        done.steps += runner.report
        done.choice, done.tile = runner.choice, runner.tile
        done.disagreement_HW = disagreement
    done.image_CHW = image
    return done


class _StepRunner:
    """One step of the way: gradual sub-steps on one image."""

    def __init__(
        self,
        image: Tensor,
        settings: ZeroShotSettings,
        downscale: Downscale,
        seed: int,
        precision: str,
        tile: int,
        on_progress: OnProgress | None,
    ) -> None:
        self.image = image
        self.size: Size = (image.shape[-2], image.shape[-1])
        self.settings = settings
        self.downscale = downscale
        self.seed = seed
        self.precision = precision
        self.tile = tile
        self.on_progress = on_progress
        self.prefix = ""
        self.report: list[dict[str, Any]] = []
        content = content_hash(image)
        self.seeds = [derive_seed(seed, content, member) for member in range(settings.networks)]
        kernel = downscale.name == "kernel"
        refinement = settings.refinement
        self.back_projections = refinement.kernel_back_projections if kernel else refinement.back_projections

    def run(self, step: Step) -> tuple[Tensor, Tensor]:
        """Train and apply each sub-step; the result `C H W`, clipped, and the views' disagreement `H W`."""
        folds = self._folds()
        fit: Fit | None = None
        results: list[Tensor] = []
        for number, (scale, size) in enumerate(zip(step.scales, step.sizes, strict=True)):
            name = self.prefix + (f"sub-step {number + 1}/{len(step.scales)}: " if len(step.scales) > 1 else "")
            task = self._task(scale)
            fit = self._train(name, task, results, folds, fit)
            options = self._ensemble_options(task.scale)
            choice = self._choose(fit, folds, task, options)
            result, disagreement = self._apply(name, fit, size, choice.share, options)
            self.choice = asdict(choice)
            results.append(result)
        return result, disagreement

    def _task(self, scale: Scale) -> Task:
        if self.settings.network.grid == "interpolated":
            return Task(scale, (1, 1), self.downscale)
        # A network on the LR grid enlarges by whole factors; what is too large is reduced afterwards.
        factor = (math.ceil(scale[0] - 1e-9), math.ceil(scale[1] - 1e-9))
        return Task((float(factor[0]), float(factor[1])), factor, self.downscale)

    def _folds(self) -> Tensor | None:
        choice = self.settings.choice
        if not choice.folds or self.size[0] * self.size[1] > choice.max_pixels:
            return None
        return fold_map(self.size, choice.folds, choice.block)

    def _train(self, name: str, task: Task, results: list[Tensor], folds: Tensor | None, start: Fit | None) -> Fit:
        members = self.settings.networks
        total = self.settings.schedule.iterations

        def tell(iteration: int, loss: float, lr: float) -> None:
            if self.on_progress is not None:
                self.on_progress(Progress(name + "training", iteration, total, loss, lr))

        began = time.perf_counter()
        fit = train(
            self.image.expand(members, -1, -1, -1),
            self.seeds,
            self.settings,
            Training(task, self.precision, derive_seed(self.seed, content_hash(self.image))),
            fathers=[father.expand(members, -1, -1, -1) for father in results],
            learn_NHW=None if folds is None else torch.stack([folds != member for member in range(members)]),
            start=None if start is None else start.network,
            on_iteration=tell,
        )
        self.report.append(
            {
                "name": "train",
                "what": f"{members} network(s) on pairs out of the image itself",
                "scale": list(task.scale),
                "grid": self.settings.network.grid,
                "downscale": self.downscale.name,
                "images_learnt_from": 1 + len(results),
                "seeds": self.seeds,
                "held_out": folds is not None,
                "iterations": fit.iterations,
                "last_loss": fit.loss,
                "restarts": fit.restarts,
                "multiply_adds_per_pixel": fit.network.multiply_adds_per_pixel,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
        return fit

    def _ensemble_options(self, scale: Scale) -> EnsembleOptions:
        kept = symmetries.ALL if scale[0] == scale[1] else symmetries.AXIS_KEEPING
        refinement = self.settings.refinement
        used = kept if refinement.ensemble else (0,)
        return EnsembleOptions(used, refinement.combine, self.tile, self.precision)

    def _choose(self, fit: Fit, folds: Tensor | None, task: Task, options: EnsembleOptions) -> Choice:
        if folds is None:
            limit = self.settings.choice.max_pixels
            off = not self.settings.choice.folds
            why = "the settings always take the network" if off else f"the image has more than {limit} pixels"
            return always_network(why)
        return choose(
            fit.network,
            self.image,
            folds,
            self.settings.choice,
            options,
            task,
            self.back_projections,
        )

    def _apply(self, name: str, fit: Fit, size: Size, share: float, options: EnsembleOptions) -> tuple[Tensor, Tensor]:
        began = time.perf_counter()
        lr = self.image[None]
        # On the interpolated grid the networks' input has the size of the result, else they enlarge the image.
        seen_CHW = resize(self.image, size) if fit.network.factor == (1, 1) else self.image
        refinement = self.settings.refinement
        each = refinement.member_back_projections
        if each and size[0] * size[1] > refinement.member_limit * 1e6:
            each = 0  # all members in full size at once would not fit into memory

        def tell(tile: int, tiles: int) -> None:
            if self.on_progress is not None:
                self.on_progress(Progress(name + "ensemble", tile, tiles, float("nan"), float("nan")))

        if each:
            with torch.no_grad():
                seen = views(fit.network, seen_CHW, options)
                disagreement = (seen.std(0, correction=0).mean(0) * 255).half()
                seen = torch.cat([back_project(v[None], lr, self.downscale, each) for v in resize(seen, size)])
                result = combine(seen, options.combine)
            tell(1, 1)
        else:
            result, disagreement, self.tile = apply_ensemble(fit.network, seen_CHW, options, tell)
        result = resize(result[None], size)
        disagreement = resize(disagreement[None].float(), size)[0].clamp_(min=0).half()
        if share < 1:
            plain = back_project(resize(lr, size).clone(), lr, self.downscale, self.back_projections)
            result = plain.lerp(result, share)
        result = back_project(result, lr, self.downscale, self.back_projections)[0].clamp_(0, 1)
        self.report.append(
            {
                "name": "apply",
                "what": "self-ensemble of the networks, mixed with back-projection, back-projected",
                "size": list(size),
                "symmetries": list(options.symmetries),
                "combine": options.combine,
                "member_back_projections": each,
                "share": share,
                "back_projections": self.back_projections,
                "tile": self.tile,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
        return result, disagreement
