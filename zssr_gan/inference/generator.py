"""Images of one size through a trained generator: self-ensemble and back-projection, as in `zeroshot.upscale`.

Shapes: B images, C channels, H W rows and columns of the LR images; N is 1, B holds the views too.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from zssr_gan.degradation.operators import Downscale
from zssr_gan.devices import Machine
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Scale, Size, resize
from zssr_gan.progress import OnProgress, Progress
from zssr_gan.settings.zeroshot import GeneratorSettings
from zssr_gan.training.model_card import TrainedGenerator
from zssr_gan.zeroshot.ensemble import apply_ensemble, back_projections, check_finite, project_and_clip, used_symmetries
from zssr_gan.zeroshot.selection import Selection
from zssr_gan.zeroshot.upscale import SuperResolved

_PIXELS_TOGETHER = {"cuda": 2**17}
"""Of a device, LR pixels of all views that go through at once; elsewhere images go one by one.

On a GPU a tiny image alone would leave most of it idle. On CPU cores its eight views fill them."""

_EVERYTHING = 2**31
"""Pixels around a tile that are read with it where a generator looks at the whole image."""

_FLAT = 0.1
"""Of the input's contrast, what an output must have; below, it is one colour."""

_LEAST_CONTRAST, _FAR = 2 / 255, (4 / 255, 16 / 255)
"""An input's standard deviation above which it is not one colour itself; and the limits of how far (root mean square)
an output may be from its input, which is as far as a surface of the input's mean colour. Trained generators are 0.2 to
2 levels of 255 away from a photograph; 16 levels are a PSNR of 24 dB."""

_BESIDE_INTERPOLATION = 2.0
"""Times as far from the input as its plain interpolation is, which misses much of noise or fine print."""

WHY = "a trained generator is used as it is"


def images_together(device: torch.device, size: Size) -> int:
    """How many images of `size` (rows, columns) go through a generator at once.

    It depends on the size alone, not on free memory or on how many there are: a pass of another shape may take other
    algorithms and so have other last bits, and an image's bytes must not depend on who shares the pass.
    """
    return max(1, _PIXELS_TOGETHER.get(device.type, 0) // (len(dihedral.ALL) * size[0] * size[1]))


def takes_together(device: torch.device) -> bool:
    """Whether small images go through a generator together on a device."""
    return device.type in _PIXELS_TOGETHER


@torch.no_grad()
def generate(
    images: Sequence[Tensor],
    scale: Scale,
    settings: GeneratorSettings,
    downscale: Downscale,
    generator: TrainedGenerator,
    machine: Machine,
    on_progress: OnProgress | None = None,
) -> list[SuperResolved]:
    """Enlarge images by a trained generator; what comes of one does not depend on the others.

    Args:
        images: `C H W` each, of one shape, on the machine's device, [0, 1]; at most `images_together`.
        scale: (y, x), the generator's.
        settings: ensemble and back-projection.
        downscale: how the LR images came out of HR ones.
        generator: is moved to the machine's device.
        machine: device, precision, tile.
        on_progress: called after every tile.

    Raises:
        NumericalError: NaN or infinity came out.
        DeviceError: too little memory.
    """
    began = time.perf_counter()
    lr_BCHW = torch.stack(list(images))
    # A pass has one shape whoever shares it; black images take the places that are left.
    places = images_together(machine.device, (lr_BCHW.shape[-2], lr_BCHW.shape[-1]))
    assert len(images) <= places, "at most images_together"
    if len(images) < places:
        lr_BCHW = torch.cat([lr_BCHW, lr_BCHW.new_zeros(places - len(images), *lr_BCHW.shape[1:])])
    refinement = settings.refinement
    factor = round(max(scale))
    # What looks at the whole image cannot be given a part of it.
    largest = factor * max(lr_BCHW.shape[-2:])
    tile_side = largest if generator.facts.receptive_field is None else machine.tile
    symmetries = used_symmetries(dihedral.ALL, refinement)
    size = (lr_BCHW.shape[-2] * factor, lr_BCHW.shape[-1] * factor)

    def report(tile: int, tiles: int) -> None:
        if on_progress is not None:
            on_progress(Progress("enlarging it", tile, tiles, float("nan"), float("nan")))

    network = _AsFleet(generator.to(machine.device))
    made_BCHW, spread_BHW, tile = apply_ensemble(
        network, lr_BCHW, size, symmetries, machine.precision, tile_side, report
    )
    check_finite(made_BCHW)
    again_BCHW = downscale(made_BCHW, (lr_BCHW.shape[-2], lr_BCHW.shape[-1]))
    departures_B = (again_BCHW - lr_BCHW).abs().amax((1, 2, 3))
    count = back_projections(refinement, downscale)
    notices = []
    if lr_BCHW.shape[1] > max(generator.facts.channels):
        notices.append("the generator is one for gray images: each colour went through it by itself")
    # What was made of truths at scale 1 was shrunk and enlarged, which no downscale from the output's size to the same
    # size undoes; and bicubic of the same size is the image itself.
    if factor == 1 and count and (generator.card.truths or downscale.name == "bicubic"):
        count = 0
        notices.append("nothing is shrunk at scale 1, so back-projection would give the input back: none is done")
    warnings = [_warnings(again_BCHW[n], lr_BCHW[n], size, downscale, projected=count > 0) for n in range(len(images))]
    made_BCHW = project_and_clip(made_BCHW, lr_BCHW, downscale, count)
    seconds = round((time.perf_counter() - began) / len(images), 3)
    ensemble = {
        "name": "apply",
        "what": "self-ensemble of the generator" if refinement.ensemble else "the generator",
        "network": generator.card.name,
        "scale": list(scale),
        "size": list(made_BCHW.shape[-2:]),
        "symmetries": list(symmetries),
        "combine": "median",
        "tile": tile,
        "receptive_field": generator.facts.receptive_field,
        "seconds": seconds,
    }
    refine = {
        "name": "refine",
        "what": "back-projected, clipped to [0, 1]" if count else "clipped to [0, 1]",
        "back_projections": count,
    }
    return [
        SuperResolved(
            made_BCHW[n],
            spread_BHW[n],
            steps=[ensemble, {**refine, "largest_departure_before": round(departure * 255, 3)}],
            selection=Selection(1.0, WHY),
            notices=notices,
            warnings=warnings[n],
            views=len(symmetries),
            tile=tile,
        )
        for n, departure in enumerate(departures_B[: len(images)].tolist())
    ]


def _warnings(again_CHW: Tensor, lr_CHW: Tensor, size: Size, downscale: Downscale, *, projected: bool) -> list[str]:
    """That a generator's output is one colour or far from its input, where it is.

    Args:
        again_CHW: the output, shrunk to the input's size.
        lr_CHW: the input.
        size: of the output.
        downscale: by which it is shrunk.
        projected: whether back-projection follows.
    """
    again_CHW = again_CHW.clamp(0, 1)
    contrast, left = (float(one.std((1, 2), correction=0).amax()) for one in (lr_CHW, again_CHW))
    far = _distance(again_CHW, lr_CHW)
    if contrast >= _LEAST_CONTRAST and left < _FLAT * contrast:
        low, high = float(again_CHW.amin()), float(again_CHW.amax())
        what = "black" if high < _LEAST_CONTRAST else "white" if low > 1 - _LEAST_CONTRAST else "of one colour"
        found = f"is {what}, and the input is not"
    elif far > min(max(contrast, _FAR[0]), _FAR[1]) and far > _BESIDE_INTERPOLATION * _distance(
        downscale(resize(lr_CHW[None], size), (lr_CHW.shape[-2], lr_CHW.shape[-1]))[0], lr_CHW
    ):
        found = f"is far from the input: shrunk again it differs by {far * 255:.0f} levels of 255 (root mean square)"
    else:
        return []
    rest = "; what agrees with the input comes from back-projection alone" if projected else ""
    return [f"the generator's output {found}: its weights are broken, or it is not for such images{rest}"]


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt())


def own_scale(generator: TrainedGenerator) -> Scale:
    """The factors (y, x) by which a generator enlarges."""
    assert generator.facts.scale is not None, "a generator enlarges"
    y, x = generator.facts.scale
    return float(y), float(x)


class _AsFleet:
    """A generator as a fleet of one that takes gray and colour images alike.

    Gray images go through a generator for colours as three equal channels, whose mean comes out; the channels of colour
    images go through one for gray images each by itself.
    """

    members = 1

    def __init__(self, generator: TrainedGenerator) -> None:
        self.network = generator.network
        y, x = own_scale(generator)
        self.factor = int(y), int(x)
        facts = generator.facts
        self.radius = _EVERYTHING if facts.receptive_field is None else facts.radius
        self.grid = facts.grid
        self.channels = generator.facts.channels[0]

    def __call__(self, x_NBCHW: Tensor) -> Tensor:
        """Enlarge `1 B C H W`, not clipped."""
        (x_BCHW,) = x_NBCHW
        channels = x_BCHW.shape[1]
        if channels == self.channels:
            y_BCHW: Tensor = self.network(x_BCHW)
        elif channels == 1:
            y_BCHW = self.network(x_BCHW.expand(-1, self.channels, -1, -1)).mean(1, keepdim=True)
        else:
            y_BCHW = self.network(x_BCHW.reshape(-1, 1, *x_BCHW.shape[-2:]))
            y_BCHW = y_BCHW.reshape(-1, channels, *y_BCHW.shape[-2:])
        return y_BCHW[None]
