"""Training N per-image CNNs side by side: one loop for a single image (N = 1) and for many of one size.

Shapes: N members, B crops, C channels, H W rows and columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.config import ZeroShotSettings
from zssr_gan.errors import NumericalError
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.zeroshot.optimiser import FleetOptimiser
from zssr_gan.zeroshot.pairs import PairSampler, Task
from zssr_gan.zeroshot.schedules import make_schedule
from zssr_gan.zeroshot.seeds import derive_seed, generator

_RECORD_SIDE = 512  # the reconstruction error of a larger image is that of its middle: memory
_DEAD_SHARE = 0.02  # an output that moves the interpolated image by less of what is missing has learnt nothing
_DEAD_ERROR = 1 / 255  # ... where the interpolated image misses more than one level (root mean square)

OnIteration = Callable[[int, float, float], None]
"""Called with the iterations done, the mean loss and the highest learning rate."""


@dataclass(frozen=True, slots=True)
class Training:
    """What `train` needs beside the settings: where the pairs come from, and on what it runs."""

    task: Task
    precision: str
    """`fp32` or `bf16` (products in bfloat16; weights, sums and losses in float32)."""


@dataclass(slots=True)
class Fit:
    """A trained fleet and how it came about; lists have one entry a member."""

    network: ZSSR
    iterations: list[int]
    loss: list[float]
    """Mean absolute error over each member's last 50 iterations, [0, 1] units."""
    restarts: list[int]
    """Starts that died before the one that is used."""
    dead: list[bool]
    """Whether the start that is used died as well: its output is the interpolated image."""


def train(
    images_NCHW: Tensor,
    seeds: list[int],
    settings: ZeroShotSettings,
    training: Training,
    *,
    fathers: list[Tensor] | None = None,
    learn_NHW: Tensor | None = None,
    start: ZSSR | None = None,
    on_iteration: OnIteration | None = None,
) -> Fit:
    """Train one network for each image of `images_NCHW`, [0, 1]; members know nothing of each other.

    Args:
        images_NCHW: the LR images.
        seeds: one a member: all that its random draws depend on.
        settings: network, pairs, schedule, optimiser, restarts.
        training: what pairs teach, precision.
        fathers: further images `N C h w` to learn from (gradual steps).
        learn_NHW: 1 where a member may learn from a pixel, 0 where it is held out.
        start: a fleet to go on from, else fresh weights.
        on_iteration: called after each iteration.

    Returns:
        The fleet. A member whose start died was trained again from another, up to `settings.restarts` times.

    Raises:
        NumericalError: a member's weights are NaN or infinite in every attempt.
    """
    fit = _attempt(images_NCHW, seeds, settings, training, fathers, learn_NHW, start, on_iteration)
    for attempt in range(1, settings.restarts + 1):
        failed = [n for n, dead in enumerate(fit.dead) if dead]
        if not failed:
            break
        # Only the members that died are trained again: the others stay as they are, to the bit.
        again = _attempt(
            images_NCHW[failed],
            [derive_seed(seeds[n], "restart", attempt) for n in failed],
            settings,
            training,
            [father[failed] for father in fathers or []],
            None if learn_NHW is None else learn_NHW[failed],
            None,
            on_iteration,
        )
        with torch.no_grad():
            fit.network.weights_NP[failed] = again.network.weights_NP
        for place, n in enumerate(failed):
            fit.iterations[n], fit.loss[n] = again.iterations[place], again.loss[place]
            fit.dead[n], fit.restarts[n] = again.dead[place], attempt
    if not torch.isfinite(fit.network.weights_NP).all():
        raise NumericalError(
            f"training gave NaN or infinity in each of {settings.restarts + 1} starts; "
            "try --precision fp32 or a lower learning rate"
        )
    return fit


def _attempt(
    images_NCHW: Tensor,
    seeds: list[int],
    settings: ZeroShotSettings,
    training: Training,
    fathers: list[Tensor] | None,
    learn_NHW: Tensor | None,
    start: ZSSR | None,
    on_iteration: OnIteration | None,
) -> Fit:
    members = len(seeds)
    options = ZSSROptions(**settings.network.model_dump())
    factor = training.task.factor
    network = ZSSR(options, images_NCHW.shape[1], factor, [generator("weights", seed) for seed in seeds])
    network.to(images_NCHW.device)
    if start is not None:
        with torch.no_grad():
            network.weights_NP.copy_(start.weights_NP)
    sampler = PairSampler(
        settings.pairs,
        [images_NCHW, *(fathers or [])],
        learn_NHW,
        training.task,
        seeds,
    )
    schedule = make_schedule(settings.schedule, members)
    optimiser = FleetOptimiser(network, settings.optimiser)
    done = torch.zeros(members, dtype=torch.int64)
    recent: list[Tensor] = []
    for iteration in range(settings.schedule.iterations):
        rates = schedule.rates(iteration)
        x, y, mask = sampler.sample()
        with autocast(x.device, training.precision):
            out = network(x)
        losses = masked_l1(out, y, mask)
        # Members share no weights, so the gradient of the sum is each member's own.
        (gradient,) = torch.autograd.grad(losses.sum(), network.weights_NP)
        optimiser.step(gradient, rates.to(x.device))
        error = None
        if schedule.wants_error(iteration):
            error = reconstruction_error(network, images_NCHW, training)
        schedule.observe(iteration, error)
        done += rates > 0
        recent = [*recent[-49:], losses.detach()]
        if on_iteration is not None:
            on_iteration(iteration + 1, float(losses.detach().mean()), float(rates.max()))
        if schedule.finished() or not bool(torch.isfinite(losses).any()):
            break
    with torch.no_grad():
        network.weights_NP.copy_(optimiser.result())
    dead = _dead(network, images_NCHW, training)
    return Fit(network, done.tolist(), torch.stack(recent).mean(0).tolist(), [0] * members, dead)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks run: bfloat16 products where `precision` is `bf16`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def masked_l1(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of each member over the pixels that count.

    Args:
        out, target: `N B C K K`.
        mask: `N B 1 K K`, 0 where a pixel does not count.

    Returns:
        `N`; 0 for a member none of whose pixels count.
    """
    difference = ((out - target).abs() * mask).flatten(1).sum(1)
    return difference / (mask.flatten(1).sum(1) * out.shape[2]).clamp(min=1)


@torch.no_grad()
def reconstruction_error(network: ZSSR, images_NCHW: Tensor, training: Training) -> Tensor:
    """Mean squared error of each member on its whole image shrunk and enlarged again; `N`, [0, 1] units squared."""
    x, y = _reconstruction_pair(images_NCHW, training.task)
    with autocast(x.device, training.precision):
        out: Tensor = network(x[:, None])[:, 0]
    return (out - y).square().flatten(1).mean(1)


@torch.no_grad()
def _dead(network: ZSSR, images_NCHW: Tensor, training: Training) -> list[bool]:
    """Which members' networks do no more than interpolate where there is more to do, or give NaN or infinity."""
    x, y = _reconstruction_pair(images_NCHW, training.task)
    base = network.base(x[:, None])[:, 0]
    with autocast(x.device, training.precision):
        moved = (network(x[:, None])[:, 0] - base).flatten(1).std(1)
    missing = (y - base).flatten(1).square().mean(1).sqrt()
    alive = torch.isfinite(moved) & ((moved > _DEAD_SHARE * missing) | (missing < _DEAD_ERROR))
    return [not bool(one) for one in alive]


def _reconstruction_pair(images_NCHW: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Input and target of the images' own shrunk copies; of large images the middle."""
    top, left = (max(0, (side - _RECORD_SIDE) // 2) for side in images_NCHW.shape[-2:])
    target = task.cut(images_NCHW[..., top : top + _RECORD_SIDE, left : left + _RECORD_SIDE])
    return task.make_input(target), target
