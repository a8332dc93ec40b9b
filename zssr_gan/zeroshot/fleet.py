"""Train N networks as one batch: per-image networks of images of one size, or one shared model (N = 1).

Networks share nothing but the shape of their batches: weights, draws, learning rate and stop are each one's own. They
may begin at different times, in the place of others that have stopped.

Shapes: N networks, B crops, C channels, H W rows and columns, P parameters of a network, T the last iterations.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from zssr_gan.devices import download, upload
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.ops.graphs import Graphed
from zssr_gan.seeds import derive_seed, generator
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.optimiser import FleetOptimiser, Slope, make_schedule
from zssr_gan.zeroshot.pairs import PairSampler, PairSource, Task
from zssr_gan.zeroshot.state import PerNetwork

RESTARTS = 3
"""How often a network that died is trained again from another initialisation."""

_DEAD_SHARE = 0.02  # a network is dead if std(output - bicubic) is below this fraction of bicubic's RMSE ...

_DEAD_ERROR = 1 / 255  # ... and that RMSE is above this: a flat image leaves nothing to learn

_LARGEST_MEASURED = 512  # pixels a side: of a larger image the reconstruction error is that of its middle (memory)

_FINITE_EVERY = 10  # iterations between two looks for NaN on a GPU: each makes the CPU wait for it

_MOST_REPLAYED = 16  # networks whose iterations are replayed as a CUDA graph: larger fleets keep a GPU busy without

_MOST_SHAPES = 4  # of batches, each of which has a graph of its own, with memory of its own

_RECENT = 50  # iterations that a network's last loss is the mean of

OnIteration = Callable[[int, float, float], None]
"""Called with the iterations done, the mean loss and the highest learning rate."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainRequest:
    """Networks to be trained on one image, each by itself."""

    image_CHW: Tensor
    """[0, 1]."""
    seeds: list[int]
    """One a network: all that its random draws depend on."""
    settings: ZeroShotSettings
    """Network, pairs, schedule, optimiser."""
    task: Task
    others: list[Tensor] = field(default_factory=list)
    """Further images `C h w` to learn from: results of the sub-steps before."""
    learn_NHW: Tensor | None = None
    """1 where a network may learn from a pixel, 0 where it is held out."""
    initial_NP: Tensor | None = None
    """Weights to go on from, else a fresh initialisation."""
    on_iteration: OnIteration | None = None
    """Called after each iteration, where no other request of the fleet has one."""
    on_network: Callable[[ZSSR], None] | None = None
    """Called then too, where no other request shares the fleet, with the networks as they are."""

    @property
    def batch_key(self) -> Hashable:
        """What requests must agree in so that their networks can be trained as one batch."""
        shapes = tuple(tuple(image.shape) for image in (self.image_CHW, *self.others))
        return shapes, self.learn_NHW is None, self.image_CHW.device, self.settings, self.task


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One network of a request."""

    request: TrainRequest
    number: int
    restarts: int = 0

    @property
    def seed(self) -> int:
        """The seed of this initialisation."""
        seed = self.request.seeds[self.number]
        return derive_seed(seed, "restart", self.restarts) if self.restarts else seed


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of one network."""

    weights_P: Tensor
    iterations: int
    loss: float
    """Mean absolute error over its last 50 iterations, [0, 1] units."""
    dead: bool
    """Whether its output equals bicubic, or is NaN or infinite."""
    finite: bool
    """Whether its weights are."""


class Sampler(Protocol):
    """What a fleet draws its batches from."""

    def sample(self, iteration_N: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of each network's iteration: inputs `N B C J L`, targets `N B C K K`, masks `N B 1 K K`."""


class Fleet(PerNetwork):
    """Networks in training.

    Args:
        network: initialised; trained in place.
        sampler: draws the pairs.
        settings: pairs, schedule, optimiser.
        task: what pairs teach.
        images_NCHW: the slope test looks at their reconstruction errors; None: the rate stays as it starts.
    """

    def __init__(
        self, network: ZSSR, sampler: Sampler, settings: ZeroShotSettings, task: Task, images_NCHW: Tensor | None = None
    ) -> None:
        self.network, self.sampler, self.settings, self.task = network, sampler, settings, task
        self.images_NCHW = images_NCHW
        self.schedule = make_schedule(settings.schedule, network.members)
        kind, dtype = settings.optimiser, torch.bfloat16 if task.precision == "bf16" else torch.float32
        # One shared model stays with the convolutions that are made for large batches.
        fusible = images_NCHW is not None and kind.kind == "adam" and not kind.clip
        self.optimiser = FleetOptimiser(network, kind, dtype if fusible and network.takes_kernels(dtype) else None)
        self.iteration_N = torch.zeros(network.members, dtype=torch.int64)
        self.clock = 0
        self.recent_NT = network.weights_NP.new_full((network.members, _RECENT), torch.nan)
        self._broken_N = torch.zeros(network.members, dtype=torch.bool)
        self._steps: dict[torch.Size, Graphed] = {}  # by the shape of a batch
        self.on_notice: Callable[[str], None] | None = None
        """Called with a sentence for the log."""
        self.flop_of_a_step = 0.0
        """Floating-point operations of a network in its last iteration, 6 a multiply-add (a third of them forward)."""

    @classmethod
    def of(cls, members: list[Member]) -> "Fleet":
        """Per-image networks, of requests with one `batch_key`."""
        requests = [member.request for member in members]
        first, seeds = requests[0], [member.seed for member in members]
        images = [_stack([(one.image_CHW, *one.others)[n] for one in requests]) for n in range(1 + len(first.others))]
        masks = [m.request.learn_NHW[m.number] for m in members if m.request.learn_NHW is not None]
        source = PairSource(first.settings.pairs, images, torch.stack(masks) if masks else None, first.task)
        network = make_network(first.settings, len(first.image_CHW), first.task.factor, seeds).to(source.device)
        with torch.no_grad():
            for place, member in enumerate(members):
                # The weights that were given have died, so a restart is from a fresh initialisation.
                if member.request.initial_NP is not None and not member.restarts:
                    network.weights_NP[place] = member.request.initial_NP[member.number]
        return cls(network, PairSampler(source, seeds), first.settings, first.task, images[0])

    def select(self, places: Tensor) -> None:
        """See `PerNetwork`."""
        super().select(places)
        self._steps = {}  # they hold the tensors of before
        self.network.weights_NP.data = self.network.weights_NP.data[places]

    def assign(self, places: Tensor, other: "Fleet") -> None:
        """See `PerNetwork`; only when `may_assign`."""
        super().assign(places, other)
        self.network.weights_NP.data[places] = other.network.weights_NP.data

    @property
    def may_assign(self) -> bool:
        """Whether new networks may begin now."""
        return self.clock % self.schedule.stride == 0

    @property
    def running_N(self) -> Tensor:
        """Bool, on the CPU: which networks have not stopped, by their schedule or by NaN."""
        return self.rates() > 0

    def rates(self) -> Tensor:
        """`N` learning rates of the next iteration."""
        return torch.where(self._broken_N, 0.0, self.schedule.rates(self.iteration_N))

    def advance(self) -> Tensor:
        """One iteration of all networks that have not stopped; all networks' losses `N`, on the device."""
        rates = self.rates()
        running = rates > 0
        x, y, mask = self.sampler.sample(self.iteration_N)
        step = self._steps.get(x.shape)
        if step is None:
            work = partial(_step, self.network, self.optimiser, self.task.precision)
            replayed = len(rates) <= _MOST_REPLAYED and len(self._steps) < _MOST_SHAPES
            device = x.device if replayed else torch.device("cpu")
            step = self._steps[x.shape] = Graphed(work, device, self.on_notice)
        given = {"x": x, "y": y, "mask": mask, "rates": upload(rates.float(), x.device)}
        losses = step(given)["losses"].clone()
        if isinstance(self.schedule, Slope) and self.images_NCHW is not None:
            wanted = self.schedule.wants_error(self.iteration_N[running])
            error = reconstruction_error(self.network, self.images_NCHW, self.task) if wanted else None
            self.schedule.observe(self.iteration_N, error)
        column = self.clock % _RECENT
        self.recent_NT[:, column] = torch.where(upload(running, x.device), losses, self.recent_NT[:, column])
        self.iteration_N += running
        self.clock += 1
        self.flop_of_a_step = 6.0 * self.network.multiply_adds_per_pixel * x[0, :, 0].numel()
        if self.clock % _FINITE_EVERY == 0 or losses.device.type == "cpu":
            self._broken_N |= ~losses.isfinite().cpu()
        return losses

    def recent_losses(self, places: Tensor) -> Tensor:
        """Mean losses of the last iterations of the networks at `places`, on the device."""
        return self.recent_NT[upload(places, self.recent_NT.device)].T.contiguous().nanmean(0)

    @torch.no_grad()
    def results(self, places: Tensor) -> list[Trained]:
        """What came of the per-image networks at `places` (int64)."""
        assert self.images_NCHW is not None
        there = upload(places, self.images_NCHW.device)
        weights_NP = self.optimiser.result(there)
        network = ZSSR(self.network.options, self.images_NCHW.shape[1], self.network.factor, weights_NP)
        dead_N = find_dead(network, self.images_NCHW[there], self.task)
        finite_N = weights_NP.isfinite().all(1)
        figures = (one.tolist() for one in download(self.recent_losses(there), dead_N, finite_N))
        columns = (weights_NP.unbind(), self.iteration_N[places].tolist(), *figures)
        return [Trained(*each) for each in zip(*columns, strict=True)]


def _step(network: ZSSR, optimiser: FleetOptimiser, precision: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Learn from one batch: `x`, `y`, `mask`, and `rates`, 0 of networks that have stopped; gives `losses`."""
    with autocast(batch["x"].device, precision):
        out = network(batch["x"])
    losses = masked_l1(out, batch["y"], batch["mask"])
    # Networks share no weights, so the gradient of the sum is each one's own.
    optimiser.descend(losses.sum(), batch["rates"])
    return {"losses": losses.detach()}


def make_network(
    settings: ZeroShotSettings, channels: int, factor: tuple[int, int], weights: Tensor | list[int]
) -> ZSSR:
    """Networks of the settings' kind with the weights `N P`, or initialised from a seed each."""
    first = weights if isinstance(weights, Tensor) else [generator("weights", seed) for seed in weights]
    return ZSSR(settings.network, channels, factor, first)


def _stack(images: list[Tensor]) -> Tensor:
    """`N ...`; of a single image a view: a photograph is large."""
    return images[0][None] if len(images) == 1 else torch.stack(images)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks run: bfloat16 products where `precision` is `bf16`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def masked_l1(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of each network over the pixels that count.

    Args:
        out, target: `N B C K K`.
        mask: `N B 1 K K`, 0 where a pixel does not count.

    Returns:
        `N`; 0 for a network none of whose pixels count.
    """
    difference = ((out - target).abs() * mask).flatten(1).sum(1)
    return difference / (mask.flatten(1).sum(1) * out.shape[2]).clamp(min=1)


@torch.no_grad()
def reconstruction_error(network: ZSSR, images_NCHW: Tensor, task: Task) -> Tensor:
    """Mean squared error of each network on its whole image shrunk and enlarged again; `N`, [0, 1] units squared."""
    x, y = _reconstruction_pair(images_NCHW, task)
    with autocast(x.device, task.precision):
        out: Tensor = network(x[:, None])[:, 0]
    return (out - y).square().flatten(1).mean(1)


@torch.no_grad()
def find_dead(network: ZSSR, images_NCHW: Tensor, task: Task) -> Tensor:
    """Which networks do no more than interpolate where there is more to do, or give NaN or infinity; `N`, bool."""
    x, y = _reconstruction_pair(images_NCHW, task)
    base = network.base(x[:, None])[:, 0]
    with autocast(x.device, task.precision):
        moved = (network(x[:, None])[:, 0] - base).flatten(1).std(1)
    missing = (y - base).flatten(1).square().mean(1).sqrt()
    alive = torch.isfinite(moved) & ((moved > _DEAD_SHARE * missing) | (missing < _DEAD_ERROR))
    return torch.logical_not(alive)


def _reconstruction_pair(images_NCHW: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Input and target of the images' own shrunk copies; of large images the middle."""
    side = _LARGEST_MEASURED
    top, left = (max(0, (length - side) // 2) for length in images_NCHW.shape[-2:])
    target = task.cut(images_NCHW[..., top : top + side, left : left + side])
    return task.make_input(target), target
