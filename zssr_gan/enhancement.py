"""One image, enlarged: pixels in, pixels out, with the evidence and the account of how they came about."""

import math
import operator
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zssr_gan.config import ZeroShotSettings, load_preset
from zssr_gan.devices import Machine, RunOptions, machine, resolve_device
from zssr_gan.errors import ImageError, NumericalError, SettingsError
from zssr_gan.imaging.arrays import like, picture_of
from zssr_gan.imaging.degradation import Degradation, KernelBlur
from zssr_gan.imaging.kernels import checked_kernel
from zssr_gan.imaging.picture import Picture, quantise
from zssr_gan.imaging.psnr import psnr_db
from zssr_gan.imaging.resampling import (
    BicubicDownscale,
    Downscale,
    KernelDownscale,
    Scale,
    resize,
)
from zssr_gan.zeroshot.degradation_estimate import read_estimate
from zssr_gan.zeroshot.plan import LARGEST_SCALE, SMALLEST_SIDE
from zssr_gan.zeroshot.shared import SharedStart
from zssr_gan.zeroshot.superresolve import Progress, SuperResolved, super_resolve

__all__ = ["Enhanced", "Progress", "RunOptions", "enhance", "enhance_picture", "resolve_device"]


@dataclass(frozen=True)
class Enhanced:
    """A result, its evidence, and its account."""

    source: Picture
    """What went in."""
    picture: Picture
    """What came out, rounded to the levels of the input's depth; metadata as in the input."""
    disagreement: Tensor
    """`sH sW`, 8-bit levels (0 to 255): standard deviation of the views of the self-ensemble, mean over channels."""
    residual: Tensor
    """`H W` of the input's size, 8-bit levels: the result shrunk again against the input, mean over channels."""
    report: dict[str, Any]
    """JSON values: label, scale, settings, seed, device, steps, choice, figures; what a record holds beside files."""

    @property
    def bicubic(self) -> Tensor:
        """The plain interpolation `C sH sW` to put beside the result, [0, 1]; computed when asked for."""
        size = (self.picture.pixels.shape[-2], self.picture.pixels.shape[-1])
        return resize(self.source.pixels, size).clamp_(0, 1)


def enhance_picture(
    picture: Picture,
    scale: Scale,
    settings: ZeroShotSettings,
    *,
    seed: int = 0,
    kernel: Tensor | None = None,
    degradation: Degradation | None = None,
    shared: SharedStart | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen, so that one default serves all calls
    on_progress: Callable[[Progress], None] | None = None,
) -> Enhanced:
    """Enlarge a picture by what it, or all images of its case, teach. Alpha is enlarged apart, by interpolation.

    Args:
        picture: `C H W`, at least 8 pixels a side.
        scale: (y, x), 1 to 8 each.
        settings: a preset's, or own.
        seed: all random draws derive from it and from the image's content.
        kernel: blur of the LR image in HR pixels, `k l`; then the scale is in whole numbers.
        degradation: how the LR image came out of the HR one, in place of bicubic or a kernel. What it was estimated
            from is for the caller to know: the report's label tells of the networks alone.
        shared: the network learnt on the case; `settings` are then those for a case (`ZeroShotSettings.for_case`).
        options: device, precision, threads, tile.
        on_progress: called often, from this thread.

    Raises:
        ImageError: too small, or holding NaN or infinity.
        SettingsError: scale out of range, kernel with a fractional scale or beside a degradation, unknown precision.
        DeviceError: no such device, or too little memory on it.
        NumericalError: NaN or infinity came out.
    """
    _check(picture, scale, kernel, degradation)
    began = time.perf_counter()
    size = (picture.pixels.shape[-2], picture.pixels.shape[-1])
    settings = settings if shared is not None else settings.for_size(size[0] * size[1])
    downscale = make_downscale(kernel, scale, degradation)
    with machine(options) as used:
        lr = _seen_colours(picture).to(used.device)
        done = super_resolve(
            lr,
            scale,
            settings,
            downscale,
            seed=seed,
            precision=used.precision,
            tile=used.tile,
            on_progress=on_progress,
            shared=shared,
        )
        result = _assemble(picture, done.image_CHW.cpu())
        done.image_CHW = lr  # the large tensor goes before the next large one comes
        residual = _residual(picture, result, lr, downscale)
    figures = _figures(done, residual)
    report = {
        "label": "internal" if shared is None else "case",
        "scale": {"asked": list(scale), "true": [n / o for n, o in zip(result.pixels.shape[-2:], size, strict=True)]},
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "degradation": downscale.name,
        **_account(used, done),
        **figures,
        "notices": [*picture.notices, *done.notices],
        "seconds": round(time.perf_counter() - began, 3),
    }
    return Enhanced(picture, result, done.disagreement_HW.float().cpu(), residual.mean(0).mul_(255).cpu(), report)


def enhance(
    image: NDArray[Any] | Image.Image,
    scale: float | Scale = 2,
    preset: str = "quality",
    *,
    seed: int = 0,
    noise: float | None = None,
    kernel: NDArray[Any] | Sequence[Sequence[float]] | None = None,
    degradation: Degradation | str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    tile: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Any:
    """Enlarge one image by what it teaches itself: array in, array out; PIL image in, PIL image out.

    Args:
        image: an array `H W` (gray), `H W 2` (gray and alpha), `H W 3` (RGB) or `H W 4` (RGB and alpha; straight, not
            premultiplied) of uint8, uint16 (0 to full range) or floating point ([0, 1]); or a PIL image of mode L,
            LA, RGB, RGBA, P or I;16.
        scale: factor per side, 1 to 8; or (y, x).
        preset: `quality`, `fast`, `original`, `paper`, or a YAML file of the same form.
        seed: from 0 to 2^63 - 1; the same seed, image and machine give the same pixels.
        noise: standard deviation of the noise in training, [0, 1] units; None leaves the preset's.
        kernel: blur of the image in pixels of the result, an array or nested lists of two dimensions; the scale is
            then in whole numbers.
        degradation: how the image came out of the scene, or the file of an estimate as `zssr-gan degradation estimate`
            writes it; "bicubic"; None: bicubic, or the kernel. It has its own noise, so `noise` has no place beside
            it.
        device, precision, threads, tile: see `RunOptions`.
        on_progress: called with a `Progress` after every iteration.

    Returns:
        The enlarged image: dtype, channels and kind as given.

    Raises:
        ZssrGanError: one of its kinds, see `enhance_picture`.
        TypeError: not an array or image of the kinds above.
    """
    if degradation == "bicubic":  # the command's word; a file of that name is "./bicubic"
        if kernel is not None:
            raise SettingsError("a kernel and a degradation both say how the image was blurred: leave one out")
        degradation = None
    if noise is not None and degradation is not None:
        raise SettingsError("the degradation has its own noise: leave noise out")
    if isinstance(degradation, str | Path):
        degradation = read_estimate(Path(degradation)).degradation
    settings = load_preset(preset) if noise is None else load_preset(preset).with_noise(noise)
    result = enhance_picture(
        picture_of(image),
        _factors(scale),
        settings,
        seed=_checked_seed(seed),
        kernel=None if kernel is None else checked_kernel(kernel),
        degradation=degradation,
        options=RunOptions(device, precision, threads, tile),
        on_progress=on_progress,
    ).picture
    return like(image, result)


def _factors(scale: object) -> Scale:
    try:
        y, x = scale if isinstance(scale, tuple | list) else (scale, scale)
        return float(y), float(x)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the scale is a number, or two as (y, x), not {scale!r}") from error


def _checked_seed(seed: object) -> int:
    try:
        number = operator.index(seed)  # type: ignore[arg-type]  # whether it has an index is what is asked
    except TypeError:
        number = -1
    # The command's range: a record can then repeat what was made here.
    if not 0 <= number < 2**63:
        raise SettingsError(f"the seed is a whole number from 0 to 2^63 - 1, not {seed!r}")
    return number


def _check(picture: Picture, scale: Scale, kernel: Tensor | None, degradation: Degradation | None) -> None:
    height, width = picture.pixels.shape[-2:]
    if not all(1 <= factor <= LARGEST_SCALE for factor in scale):
        raise SettingsError(
            f"the scale must lie between 1 and {LARGEST_SCALE:g} a side, not {scale[0]:g} x {scale[1]:g}"
        )
    if kernel is not None and degradation is not None:
        raise SettingsError("a kernel and a degradation both say how the image was blurred: leave one out")
    check_scale(degradation, scale)
    if kernel is not None and any(factor != int(factor) for factor in scale):
        raise SettingsError("with a kernel the scale must be in whole numbers: a kernel belongs to one scale")
    smallest = SMALLEST_SIDE
    if kernel is not None or (degradation is not None and isinstance(degradation.blur, KernelBlur)):
        rows, columns = (int(factor) for factor in scale)
        # A father is cut to whole multiples of both factors, in every phase.
        smallest = max(SMALLEST_SIDE // 2 * max(2, rows, columns), math.lcm(rows, columns) + max(rows, columns) - 1)
    if min(height, width) < smallest:
        raise ImageError(
            f"the image is {width}x{height} pixels; zero-shot learning needs at least {smallest} pixels a side"
        )
    if not torch.isfinite(picture.pixels).all():
        raise ImageError("the image holds NaN or infinity")


def check_scale(degradation: Degradation | None, scale: Scale) -> None:
    """Whether a degradation is known at a scale (y, x).

    Raises:
        SettingsError: its blur is a kernel, which holds for another scale only.
    """
    if degradation is not None and isinstance(blur := degradation.blur, KernelBlur) and blur.scale != scale:
        y, x = blur.scale
        raise SettingsError(f"the degradation's kernel belongs to the scale {y} x {x} (y, x), and to no other")


def make_downscale(kernel: Tensor | None, scale: Scale, degradation: Degradation | None = None) -> Downscale:
    """How LR images are taken to have come out of HR ones: by a degradation, a kernel (`k l`), or bicubic."""
    if degradation is not None:
        return degradation.downscale
    if kernel is None:
        return BicubicDownscale()
    return KernelDownscale(kernel, (int(scale[0]), int(scale[1])))


def _seen_colours(picture: Picture) -> Tensor:
    """Colours with those that alpha hides replaced by the nearest one that is seen.

    What is hidden must not bleed into what is seen. Premultiplying would do that too, but a network sharpens the edge
    that it makes, and dividing by an interpolated alpha afterwards leaves dark fringes.
    """
    if picture.alpha is None or not (hidden := (picture.alpha[0] == 0)).any() or hidden.all():
        return picture.pixels
    from scipy.ndimage import distance_transform_edt  # half a second to import, and few images have alpha

    rows, columns = distance_transform_edt(hidden.numpy(), return_distances=False, return_indices=True)
    return picture.pixels[:, torch.from_numpy(rows), torch.from_numpy(columns)]


def _assemble(source: Picture, pixels: Tensor) -> Picture:
    """The result's picture, rounded, with alpha enlarged beside the colour."""
    if not torch.isfinite(pixels).all():
        raise NumericalError("the result holds NaN or infinity; try the precision fp32")
    alpha = None
    if source.alpha is not None:
        alpha = resize(source.alpha, (pixels.shape[-2], pixels.shape[-1])).clamp_(0, 1)
    return quantise(Picture(pixels, alpha, source.bits, source.metadata))


def _residual(source: Picture, result: Picture, lr: Tensor, downscale: Downscale) -> Tensor:
    """`C H W` in [0, 1]: how far the file's pixels, shrunk again, are from the input's; 0 where alpha hides them."""
    again = downscale(result.pixels[None].to(lr.device), (lr.shape[-2], lr.shape[-1]))[0]
    difference = (again - lr).abs()
    return difference if source.alpha is None else difference * source.alpha.to(lr.device)


def _figures(done: SuperResolved, residual: Tensor) -> dict[str, Any]:
    views = done.disagreement_HW.float().flatten()
    misses = residual.mean(0).flatten() * 255
    # quantile takes at most 2^24 numbers; every n-th of them tells the same.
    sample = views[:: max(1, len(views) // 2**23)]
    return {
        "residual_db": round(psnr_db(float(residual.square().mean())), 3),
        "evidence": {
            "unit": "levels of 255",
            "views": done.views,
            "disagreement_mean": round(float(views.mean()), 4),
            "disagreement_95th_percentile": round(float(torch.quantile(sample, 0.95)), 4),
            "disagreement_largest": round(float(views.max()), 4),
            "residual_mean": round(float(misses.mean()), 4),
            "residual_largest": round(float(misses.max()), 4),
        },
    }


def _account(used: Machine, done: SuperResolved) -> dict[str, Any]:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    cpu = capabilities.get("cpu_name", "CPU")
    name = torch.cuda.get_device_name(used.device) if used.device.type == "cuda" else f"{cpu} ({platform.machine()})"
    return {
        "device": str(used.device),
        "device_name": name,
        "precision": used.precision,
        "threads": used.threads,
        "tile": done.tile or used.tile,
        "choice": done.choice,
        "steps": done.steps,
        "versions": {
            "zssr-gan": metadata.version("zssr-gan"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": metadata.version("scipy"),
            "pillow": PIL.__version__,
        },
    }
