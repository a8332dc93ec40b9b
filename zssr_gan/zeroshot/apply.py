"""Turn trained networks into images: ensemble, selection, back-projection, of many images of one size at once.

Shapes: K images, M networks of each, V views, C channels, H W rows and columns of an LR image, sH sW of a result.
"""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.degradation.operators import back_project
from zssr_gan.devices import download, upload
from zssr_gan.errors import NumericalError, ZssrGanError
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.progress import OnCount
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.ensemble import apply_ensemble, back_projections, project_and_clip, used_symmetries
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.selection import Selection, measure

_LARGEST_DEVIATION = 0.25
"""A network has diverged if its result, shrunk again, is off the input by this much more than bicubic is ([0, 1])."""

_LARGEST_MEMBERS = 2e6  # output pixels up to which each view is back-projected by itself (memory)

_PIXELS_TOGETHER = {"cuda": 2**16}
"""LR pixels of the images that go through networks at once; on other devices one image: its networks fill them."""

_MOST_TOGETHER = 64


def images_at_once(device: torch.device, size: Size) -> int:
    """How many LR images of `size` go through networks at once on a device.

    It depends on the size alone: a pass of another shape may have other last bits, and what comes of an image must not
    depend on who shares the pass.
    """
    return max(1, min(_MOST_TOGETHER, _PIXELS_TOGETHER.get(device.type, 0) // max(1, size[0] * size[1])))


@dataclass(frozen=True, slots=True, eq=False)
class ApplyRequest:
    """Trained networks to be applied to their image."""

    network: ZSSR
    """M networks of this image's own; or the shared model, the same object for all images."""
    shared: bool
    image_CHW: Tensor
    """What was learnt from, [0, 1]."""
    part_CHW: Tensor
    """What is enlarged: the image, or its middle."""
    size: Size
    """Rows and columns of the result."""
    task: Task
    settings: ZeroShotSettings
    folds_HW: Tensor | None
    """Which pixels of the image each network was not trained on (`fold_map` of its size); None: nothing is held out."""
    why: str
    """The reason where nothing is held out."""
    tile: int
    """Side of a tile in output pixels."""
    dead: bool = False
    """Whether all networks died."""
    to_host: bool = False
    """Whether the result is wanted on the CPU."""
    on_tile: OnCount | None = None
    """Called with tiles done and tiles in all."""

    @property
    def batch_key(self) -> Hashable:
        """What requests must agree in so that they can be answered together."""
        network = self.network if self.shared else (self.network.members, self.network.options, self.network.factor)
        shapes = self.image_CHW.shape, self.part_CHW.shape, self.size, self.folds_HW is None
        return network, shapes, self.image_CHW.device, self.task, self.settings, self.why, self.tile, self.to_host

    @property
    def places(self) -> int:
        """How many are answered at once."""
        return images_at_once(self.part_CHW.device, (self.part_CHW.shape[-2], self.part_CHW.shape[-1]))


@dataclass(frozen=True, slots=True, eq=False)
class ApplyResult:
    """What came of a `ApplyRequest`."""

    image_CHW: Tensor
    """Blended with plain back-projection by the selection's share, back-projected, clipped to [0, 1]."""
    disagreement_HW: Tensor
    """Standard deviation of the views, 8-bit levels, float16; times the share."""
    selection: Selection
    deviation: float
    """Largest difference between the networks' own output, shrunk again, and the image, [0, 1] units."""
    diverged: bool
    """Whether that is too much; the image is then plain back-projection."""
    tile: int
    """Side of the tiles that fitted into memory."""
    member_back_projections: int
    """Of each view by itself."""
    seconds: tuple[float, float]
    """An image's share of the time, of the ensemble and of the rest. On a GPU the first is that of its launches."""


@torch.no_grad()
def apply_networks(requests: Sequence[ApplyRequest], places: int) -> list[ApplyResult | ZssrGanError]:
    """Finish requests of one `batch_key`; what comes of one does not depend on the others.

    With more than one place nothing is decided on the host, which waits for a GPU once, in the end.

    Args:
        requests: at most `places`.
        places: images in a pass, which always has as many: black images take those that are left.

    Returns:
        A result each, or NumericalError where NaN or infinity came out.
    """
    first, began = requests[0], time.perf_counter()
    refinement, downscale = first.settings.refinement, first.task.downscale
    absent = places - len(requests)
    image_KCHW, lr_KCHW = (
        _stacked(images, absent) for images in ([one.image_CHW for one in requests], [one.part_CHW for one in requests])
    )
    if first.part_CHW is first.image_CHW:
        image_KCHW = lr_KCHW
    own = [*(one.network for one in requests), *[first.network] * absent]
    network = first.network if first.shared or places == 1 else _NetworksPerImage(own)
    symmetries, iterations = (
        used_symmetries(first.task.symmetries, refinement),
        back_projections(refinement, downscale),
    )
    each = refinement.member_back_projections if first.size[0] * first.size[1] <= _LARGEST_MEMBERS else 0
    output, spread_KHW, tile = apply_ensemble(
        network,
        lr_KCHW,
        first.size,
        symmetries,
        first.task.precision,
        first.tile,
        first.on_tile,
        each=(downscale, each) if each else None,
    )
    finite_K = output.isfinite().flatten(1).all(1)
    applied = time.perf_counter()

    deviation_K = _deviation(output, lr_KCHW, first)
    excess_K = deviation_K - _LARGEST_DEVIATION
    dead_K = upload(torch.tensor([*(one.dead for one in requests), *[True] * absent]), lr_KCHW.device)
    diverged_K = torch.zeros_like(dead_K)
    # The interpolation is made only where it can matter: of a photograph it is half a gigabyte.
    if places > 1 or bool((excess_K > 0).any()):
        diverged_K = (excess_K > _deviation(resize(lr_KCHW, first.size), lr_KCHW, first)) & ~dead_K
    measured = measure(network, image_KCHW, first.folds_HW, first.task, symmetries, iterations)
    share_K = torch.where(dead_K | diverged_K, 0.0, measured.share_K)
    if places > 1 or bool((share_K < 1).any()):
        plain = back_project(resize(lr_KCHW, first.size).clone(), lr_KCHW, downscale, iterations)
        output = plain.lerp(output, share_K.float()[:, None, None, None])
        spread_KHW = (spread_KHW.float() * share_K.float()[:, None, None]).half()
    output = project_and_clip(output, lr_KCHW, downscale, iterations)
    if first.to_host:
        output, spread_KHW = output[: len(requests)], spread_KHW[: len(requests)]
        figures = download(deviation_K, diverged_K, finite_K, *measured.figures, output, spread_KHW)
        *figures, output, spread_KHW = figures
    else:
        figures = download(deviation_K, diverged_K, finite_K, *measured.figures)
    ended = time.perf_counter()
    deviations, diverged, finite = (one.tolist() for one in figures[:3])
    made: list[ApplyResult | ZssrGanError] = []
    for k, request in enumerate(requests):
        if not finite[k]:
            made.append(NumericalError("the network gave NaN or infinity; try the precision fp32"))
            continue
        if request.dead:
            selection = Selection(0.0, "every start of the network died: its output equals bicubic")
        elif diverged[k]:
            selection = Selection(0.0, "every start of the network diverged from the image")
        else:
            selection = measured.selection(figures[3:], k, request.why)
        seconds = (applied - began) / len(requests), (ended - applied) / len(requests)
        made.append(ApplyResult(output[k], spread_KHW[k], selection, deviations[k], diverged[k], tile, each, seconds))
    return made


def _stacked(images: list[Tensor], absent: int) -> Tensor:
    """`K C H W`, with black images at the end; of a single image a view: a photograph is large."""
    if len(images) == 1 and not absent:
        return images[0][None]
    return torch.stack([*images, *[torch.zeros_like(images[0])] * absent])


class _NetworksPerImage:
    """The M networks of each of K images as M networks, each of which is another for each image."""

    grid = ZSSR.grid

    def __init__(self, networks: list[ZSSR]) -> None:
        first = networks[0]
        self.members, self.factor, self.radius, self.images = first.members, first.factor, first.radius, len(networks)
        weights = torch.cat([one.weights_NP.detach() for one in networks])
        self.network = ZSSR(first.options, first.facts.channels[0], first.factor, weights)

    def __call__(self, x_NBCHW: Tensor) -> Tensor:
        """Enlarge `M (V K) C H W`."""
        x_MVKCHW = x_NBCHW.unflatten(1, (-1, self.images))
        y = self.network(x_MVKCHW.permute(2, 0, 1, 3, 4, 5).flatten(0, 1))
        y_KMVCHW: Tensor = y.unflatten(0, (self.images, self.members))
        return y_KMVCHW.permute(1, 2, 0, 3, 4, 5).flatten(1, 2)


def _deviation(output: Tensor, lr_KCHW: Tensor, first: ApplyRequest) -> Tensor:
    """`K`: largest difference between an output, shrunk again, and its image, [0, 1] units."""
    again = first.task.downscale(output, (lr_KCHW.shape[-2], lr_KCHW.shape[-1]))
    return (again - lr_KCHW).abs().amax((1, 2, 3))
