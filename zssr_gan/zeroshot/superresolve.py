"""One image from its own size to the asked one: steps, networks, ensemble, choice, back-projection.

Shapes: C channels, H W rows and columns of the LR image.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zssr_gan.config import ZeroShotSettings
from zssr_gan.errors import SettingsError
from zssr_gan.imaging.resampling import Downscale, Scale, back_project, resize
from zssr_gan.zeroshot.fleet import Work, alone
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.plan import plan_steps
from zssr_gan.zeroshot.seeds import content_hash
from zssr_gan.zeroshot.shared import SharedStart, degradation_of
from zssr_gan.zeroshot.step import OnProgress, Progress, StepRunner

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
