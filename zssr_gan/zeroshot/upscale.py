"""Enlarge one image to the asked size: steps, networks, ensemble, selection, back-projection.

Shapes: C channels, H W rows and columns of an image.
"""

import math
import time
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from zssr_gan.degradation.operators import Downscale
from zssr_gan.devices import Machine, upload
from zssr_gan.imaging import preview
from zssr_gan.imaging.resize import Scale, Size, enlarged_size, resize
from zssr_gan.imaging.tiles import middle_of
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.progress import OnCount, OnProgress, Progress
from zssr_gan.seeds import content_hash, derive_seed
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.apply import ApplyRequest, ApplyResult
from zssr_gan.zeroshot.ensemble import back_projections, project_and_clip, used_symmetries, views
from zssr_gan.zeroshot.fleet import RESTARTS, OnIteration, TrainRequest
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import TrainJob, TrainResult
from zssr_gan.zeroshot.selection import Selection, fold_map
from zssr_gan.zeroshot.shared import SharedModel
from zssr_gan.zeroshot.steps import Step, plan_steps

_LARGEST_LEARNT_FROM = 1024  # pixels a side: a sub-step's result that is only learnt from is made of the image's middle

_LARGEST_HELD_OUT = 64 * 64
"""Pixels of an image above which nothing is held out and the network is taken: none of such a size was seen to lose."""


@dataclass(slots=True)
class SuperResolved:
    """A result before it is rounded to a file's levels, and how it came about."""

    image_CHW: Tensor
    """[0, 1], clipped."""
    disagreement_HW: Tensor
    """Standard deviation of the views, 8-bit levels, float16."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Each step with every parameter, in order; JSON values only."""
    selection: Selection = field(default_factory=Selection)
    """Between network and back-projection; of several steps, the one with the smallest share of the network."""
    notices: list[str] = field(default_factory=list)
    """What a user should know, one sentence each."""
    warnings: list[str] = field(default_factory=list)
    """Why the result may be wrong, one sentence each."""
    views: int = 0
    """Views of the last ensemble: symmetries times networks."""
    tile: int = 0
    """Side of the tiles that were used, in pixels."""

    def take_image(self) -> Tensor:
        """The image, which is no longer held here: of a photograph it must go before the next large one comes."""
        image, self.image_CHW = self.image_CHW, self.image_CHW.new_empty(0)
        return image


@dataclass(frozen=True, slots=True)
class _Run:
    """What all steps of one image share; `done` gathers the report."""

    settings: ZeroShotSettings
    downscale: Downscale
    seed: int
    precision: str
    shared: SharedModel | None
    on_progress: OnProgress | None
    only_step: bool
    done: SuperResolved

    def report(self, name: str, what: str, seconds: float, **facts: Any) -> None:
        """Add a part of a step to the report."""
        self.done.steps.append({"name": name, "what": what, **facts, "seconds": round(seconds, 3)})

    def on_iteration(self, stage: str, total: int) -> OnIteration | None:
        """What reports the iterations of a training."""
        on_progress = self.on_progress
        if on_progress is None:
            return None
        return lambda iteration, loss, lr: on_progress(Progress(stage, iteration, total, loss, lr))

    def on_tile(self, stage: str) -> OnCount | None:
        """What reports the tiles of an ensemble."""
        on_progress = self.on_progress
        if on_progress is None:
            return None
        return lambda tile, tiles: on_progress(Progress(stage, tile, tiles, math.nan, math.nan))


def upscale(
    lr_CHW: Tensor,
    scale: Scale,
    settings: ZeroShotSettings,
    downscale: Downscale,
    machine: Machine,
    *,
    seed: int,
    shared: SharedModel | None = None,
    on_progress: OnProgress | None = None,
) -> TrainJob[SuperResolved]:
    """Enlarge one image by networks trained on it alone, or by the one that was trained on all images of its case.

    It is a job: `run_single(upscale(...))` runs it by itself, `run_jobs` many together.

    Args:
        lr_CHW: [0, 1].
        scale: (y, x), 1 to 8.
        settings: already those for the image's size (`ZeroShotSettings.for_size`).
        downscale: how the LR image came out of the HR one; a kernel's is tied to `scale`, which is then one step.
        machine: precision and tile.
        seed: the run's.
        shared: the network of the case; then `settings` are those for a case (`ZeroShotSettings.for_case`).
        on_progress: called after every iteration and tile.

    Raises:
        SettingsError: `shared` was trained for another scale or degradation, or on gray images where this has colours.

    Returns:
        The image of size `enlarged_size((H, W), scale)`.
    """
    channels = len(lr_CHW)
    steps = plan_steps((lr_CHW.shape[-2], lr_CHW.shape[-1]), scale, settings.steps, single_step=downscale.single_step)
    if shared is not None:
        tasks = [Task.of(step.scales[-1], settings.network.grid, downscale) for step in steps]
        shared.check(channels, tasks)
        lr_CHW = lr_CHW.expand(shared.facts.channels, -1, -1)  # gray in a network that was trained on colours
    content = content_hash(lr_CHW) if shared is None else ""  # which seeds alone depend on
    image = lr_CHW = upload(lr_CHW, machine.device)
    done = SuperResolved(lr_CHW, lr_CHW.new_zeros(lr_CHW.shape[-2:], dtype=torch.float16), tile=machine.tile)
    run = _Run(settings, downscale, seed, machine.precision, shared, on_progress, len(steps) == 1, done)
    shown = lr_CHW[0].numel() <= preview.LARGEST_SHOWN
    if shown:
        preview.show(lambda: resize(lr_CHW, enlarged_size((lr_CHW.shape[-2], lr_CHW.shape[-1]), scale)), now=True)
    selections: list[Selection] = []
    for number in range(len(steps)):
        # A later step's image is a result, whose last bits depend on who shared the fleet: seeds must not.
        its_content = f"{content}, step {number + 1}" if number else content
        image, spread, selection = yield from _take_step(run, steps, number, image, its_content)
        selections.append(selection)
        if number:
            # Each step agrees with the last one's result; the whole must agree with the image that was given.
            image = project_and_clip(image[None], lr_CHW[None], downscale, settings.refinement.back_projections)[0]
            # Later steps took as given what an earlier one was unsure of: deviations add as independent ones.
            before = resize(done.disagreement_HW[None].float(), (image.shape[-2], image.shape[-1]))[0]
            spread = torch.hypot(before, spread.float()).half()
        done.disagreement_HW = spread
    least = min(range(len(steps)), key=lambda number: selections[number].share)
    done.selection = selections[least]
    if len(steps) > 1:
        why = f"in step {least + 1} of {len(steps)}, which has the smallest share, {done.selection.why}"
        done.selection = replace(done.selection, why=why)
    done.image_CHW = image if len(image) == channels else image.mean(0, keepdim=True)
    if shown:
        preview.show(lambda: done.image_CHW, now=True)
    return done


def _take_step(
    run: _Run, steps: list[Step], at: int, image: Tensor, content: str
) -> TrainJob[tuple[Tensor, Tensor, Selection]]:
    """Take the sub-steps of one step: the result `C H W`, clipped, the views' disagreement `H W`, the selection."""
    settings, step, outputs = run.settings, steps[at], list[Tensor]()
    # For a person all sub-steps are alike: they are counted through.
    done, parts = (sum(len(one.scales) for one in counted) for counted in (steps[:at], steps))
    result: TrainResult | None = None
    folds, why = _folds(settings, image)
    last = len(step.scales) - 1
    for number, (scale, size) in enumerate(zip(step.scales, step.sizes, strict=True)):
        place = f", step {done + number + 1} of {parts}" if parts > 1 else ""
        task = Task.of(scale, settings.network.grid, run.downscale, run.precision)
        part = image if number == last else middle_of(image, _LARGEST_LEARNT_FROM)
        if part is not image:
            size = enlarged_size((part.shape[-2], part.shape[-1]), scale)
        # A shared model gives the same each time.
        for attempt in range(1 if run.shared is not None else RESTARTS + 1):
            seeds = [derive_seed(run.seed, content, n, *[attempt] * bool(attempt)) for n in range(settings.networks)]
            initial = None if result is None or attempt else result.network
            result = yield from _networks(run, place, image, task, seeds, outputs, folds, initial)
            made: ApplyResult = yield ApplyRequest(
                result.network,
                run.shared is not None,
                image,
                part,
                size,
                task,
                settings,
                folds,
                why,
                run.done.tile,
                dead=all(result.dead),
                to_host=run.only_step and number == last,
                on_tile=run.on_tile(f"enlarging it{place}"),
            )
            _report_ensemble(run, result.network, task, size, made)
            if not made.diverged:
                break
            run.done.notices.append(
                f"{f'step {at + 1}/{len(steps)}: ' * (len(steps) > 1)}"
                f"a network diverged from the image by {made.deviation * 255:.0f} levels; trained again"
            )
        _report_refinement(run, made)
        outputs.append(made.image_CHW)
    return made.image_CHW, made.disagreement_HW, made.selection


def _folds(settings: ZeroShotSettings, image: Tensor) -> tuple[Tensor | None, str]:
    """Which pixels each network is not trained on; None and the reason if nothing is held out."""
    size = (image.shape[-2], image.shape[-1])
    if not settings.choice.folds:
        return None, "the settings always take the network"
    if size[0] * size[1] > _LARGEST_HELD_OUT:
        return None, f"the image has more than {_LARGEST_HELD_OUT} pixels"
    return fold_map(size, settings.choice.folds), ""


def _networks(
    run: _Run,
    place: str,
    image: Tensor,
    task: Task,
    seeds: list[int],
    outputs: list[Tensor],
    folds: Tensor | None,
    initial: ZSSR | None,
) -> TrainJob[TrainResult]:
    """Train the image's own networks on it and on the outputs of the sub-steps before, or take the case's network."""
    began, settings = time.perf_counter(), run.settings
    facts: dict[str, Any]
    if run.shared is not None:
        kind, what = "shared model", "the network learnt on the images of the case, as it is"
        seeds, facts = [], run.shared.summary()
        result = TrainResult(_shared_network(run.shared, image.device), [0], [run.shared.facts.loss], [0], [False])
    else:
        kind, what = "train", f"{len(seeds)} network(s) on pairs out of the image itself"
        facts = {"images_learnt_from": 1 + len(outputs), "held_out": folds is not None}
        if initial is not None and initial.factor != task.factor:
            initial = None  # on the LR grid a sub-step that leaves a side as it is has another last layer
        result = yield TrainRequest(
            image,
            seeds,
            settings,
            task,
            others=list(outputs),
            learn_NHW=None if folds is None else torch.stack([folds != fold for fold in range(len(seeds))]),
            initial_NP=None if initial is None else initial.weights_NP.detach(),
            on_iteration=run.on_iteration(f"learning from the picture{place}", settings.schedule.iterations),
            on_network=lambda network: _preview(run, network, image, task),
        )
    facts |= {
        "scale": list(task.scale),
        "grid": settings.network.grid,
        "downscale": run.downscale.name,
        "seeds": seeds,
        "iterations": result.iterations,
        "last_loss": result.loss,
        "restarts": result.restarts,
        "dead": result.dead,
        "multiply_adds_per_pixel": result.network.multiply_adds_per_pixel,
    }
    run.report(kind, what, time.perf_counter() - began, **facts)
    return result


def _preview(run: _Run, network: ZSSR, image: Tensor, task: Task) -> None:
    """Show what the networks make of the image so far; of a large one it would take too long."""
    if image[0].numel() > preview.LARGEST:
        return
    size = enlarged_size((image.shape[-2], image.shape[-1]), task.scale)

    def seen() -> Tensor:
        given = resize(image, size) if network.factor == (1, 1) else image
        return resize(views(network, given, (0,), run.precision).mean(0), size)

    preview.show(seen)


@lru_cache(maxsize=2)
def _shared_network(shared: SharedModel, device: torch.device) -> ZSSR:
    """A shared model's network on a device, copied once for all images."""
    return shared.network().to(device)


def _report_ensemble(run: _Run, network: ZSSR, task: Task, size: Size, made: ApplyResult) -> None:
    symmetries = used_symmetries(task.symmetries, run.settings.refinement)
    run.done.views, run.done.tile = len(symmetries) * network.members, made.tile
    run.report(
        "apply",
        "self-ensemble of the networks",
        made.seconds[0],
        size=list(size),
        symmetries=list(symmetries),
        views=run.done.views,
        combine="median",
        member_back_projections=made.member_back_projections,
        tile=made.tile,
    )


def _report_refinement(run: _Run, made: ApplyResult) -> None:
    iterations = back_projections(run.settings.refinement, run.downscale)
    run.report(
        "refine",
        "mixed with plain back-projection by the network's share, back-projected, clipped to [0, 1]",
        made.seconds[1],
        choice=asdict(made.selection),
        back_projections_of_plain=iterations if made.selection.share < 1 else 0,
        back_projections=iterations,
        largest_departure_before=round(made.deviation * 255, 3),
    )
