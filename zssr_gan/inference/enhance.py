"""One image, enlarged: pixels in, pixels out, with the evidence and the account of how they came about."""

import math
import operator
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.blur_kernels import checked_kernel
from zssr_gan.degradation.estimate import read_estimate
from zssr_gan.degradation.model import Degradation, KernelBlur
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale
from zssr_gan.devices import Machine, RunOptions, machine, resolve_device
from zssr_gan.errors import ImageError, NumericalError, SettingsError
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.picture import Picture, like, picture_of, quantise
from zssr_gan.imaging.resize import Scale, resize
from zssr_gan.inference.generator import generate, images_together, own_scale
from zssr_gan.progress import Progress
from zssr_gan.provenance import Label
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    GeneratorSettings,
    ZeroShotSettings,
    load_generator_preset,
    load_preset,
)
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.zeroshot.shared import SharedStart
from zssr_gan.zeroshot.steps import LARGEST_SCALE, SMALLEST_SIDE
from zssr_gan.zeroshot.upscale import SuperResolved, super_resolve

# From an enlarged image to a result: a file's pixels with their alpha, the evidence, and the account.


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


def finished(
    picture: Picture,
    lr: Tensor,
    done: SuperResolved,
    downscale: Downscale,
    used: Machine,
    label: Label,
    seconds: float,
    asked: Mapping[str, Any],
) -> Enhanced:
    """The file's pixels, what they miss, and the account.

    Args:
        picture: what went in.
        lr: its colours as the networks saw them, `C H W` on the device.
        done: what came out; its image is let go.
        downscale: how the LR image is taken to have come about.
        used: the machine.
        label: what the pixels were learnt from.
        seconds: spent so far.
        asked: JSON values that the report begins with, settings and seed; the scale (y, x) among them.
    """
    began = time.perf_counter()
    result = _assemble(picture, done.image_CHW.cpu())
    done.image_CHW = lr  # the large tensor goes before the next large one comes
    residual = _residual(picture, result, lr, downscale)
    sides = zip(result.pixels.shape[-2:], lr.shape[-2:], strict=True)
    report = {
        "label": label,
        **asked,
        "scale": {"asked": list(asked["scale"]), "true": [large / small for large, small in sides]},
        "degradation": downscale.name,
        **_account(used, done),
        **_figures(done, residual),
        "notices": [*picture.notices, *done.notices],
        "seconds": round(seconds + time.perf_counter() - began, 3),
    }
    return Enhanced(picture, result, done.disagreement_HW.float().cpu(), residual.mean(0).mul_(255).cpu(), report)


def seen_colours(picture: Picture) -> Tensor:
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
        "versions": dict(_versions()),
    }


@cache  # of a folder of tiny images, looking them up took as long as the network
def _versions() -> Mapping[str, str]:
    return {
        "zssr-gan": metadata.version("zssr-gan"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": metadata.version("scipy"),
        "pillow": PIL.__version__,
    }


__all__ = ["Enhanced", "Progress", "RunOptions", "enhance", "enhance_picture", "enhance_pictures", "resolve_device"]

Settings = ZeroShotSettings | GeneratorSettings


def enhance_picture(
    picture: Picture,
    scale: Scale,
    settings: Settings,
    *,
    seed: int = 0,
    kernel: Tensor | None = None,
    degradation: Degradation | None = None,
    shared: SharedStart | None = None,
    generator: TrainedGenerator | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen, so that one default serves all calls
    on_progress: Callable[[Progress], None] | None = None,
) -> Enhanced:
    """Enlarge a picture by what it, or all images of its case, teach, or by a trained generator.

    Alpha is enlarged apart, by interpolation.

    Args:
        picture: `C H W`, at least 8 pixels a side; of any size for a generator.
        scale: (y, x), 1 to 8 each; a generator's own.
        settings: a preset's, or own; with a generator, those of that way.
        seed: all random draws derive from it and from the image's content.
        kernel: blur of the LR image in HR pixels, `k l`; then the scale is in whole numbers.
        degradation: how the LR image came out of the HR one, in place of bicubic or a kernel. What it was estimated
            from is for the caller to know: the report's label tells of the networks alone.
        shared: the network learnt on the case; `settings` are then those for a case (`ZeroShotSettings.for_case`).
        generator: a trained one, in place of all learning.
        options: device, precision, threads, tile.
        on_progress: called often, from this thread.

    Raises:
        ImageError: too small, or holding NaN or infinity.
        SettingsError: scale out of range, kernel with a fractional scale or beside a degradation, unknown precision,
            another scale than a generator's.
        DeviceError: no such device, or too little memory on it.
        NumericalError: NaN or infinity came out.
    """
    if generator is not None:
        assert isinstance(settings, GeneratorSettings)
        (enhanced,) = enhance_pictures(
            [picture],
            scale,
            settings,
            generator,
            seed=seed,
            kernel=kernel,
            degradation=degradation,
            options=options,
            on_progress=on_progress,
        )
        return enhanced
    assert isinstance(settings, ZeroShotSettings)
    _check(picture, scale, kernel, degradation)
    smallest = _smallest_side(scale, kernel, degradation)
    height, width = size = (picture.pixels.shape[-2], picture.pixels.shape[-1])
    if min(size) < smallest:
        raise ImageError(
            f"the image is {width}x{height} pixels; zero-shot learning needs at least {smallest} pixels a side"
        )
    began = time.perf_counter()
    settings = settings if shared is not None else settings.for_size(size[0] * size[1])
    downscale = make_downscale(kernel, scale, degradation)
    with machine(options) as used:
        lr = seen_colours(picture).to(used.device)
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
        label: Label = "internal" if shared is None else "case"
        seconds = time.perf_counter() - began
        return finished(picture, lr, done, downscale, used, label, seconds, _asked(scale, settings, seed))


def enhance_pictures(
    pictures: Sequence[Picture],
    scale: Scale,
    settings: GeneratorSettings,
    generator: TrainedGenerator,
    *,
    seed: int = 0,
    kernel: Tensor | None = None,
    degradation: Degradation | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen, so that one default serves all calls
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Enhanced]:
    """Enlarge pictures of one size and kind by a trained generator, together; see `enhance_picture`.

    What comes of a picture does not hang on the others, except that an error is one of all.
    """
    for picture in pictures:
        _check(picture, scale, kernel, degradation)
        generator.facts.check(picture.pixels.new_empty(generator.facts.channels[0], *picture.pixels.shape[-2:]))
    downscale = make_downscale(kernel, scale, degradation)
    enhanced = []
    with machine(options) as used:
        began = time.perf_counter()
        lr = [seen_colours(picture).to(used.device) for picture in pictures]
        done = []
        for at in range(0, len(lr), most := images_together(used.device, (lr[0].shape[-2], lr[0].shape[-1]))):
            done += generate(lr[at : at + most], scale, settings, downscale, generator, used, on_progress)
        shared_s = (time.perf_counter() - began) / len(pictures)
        for picture, own_lr, own in zip(pictures, lr, done, strict=True):
            asked = _asked(scale, settings, seed)
            enhanced.append(finished(picture, own_lr, own, downscale, used, "generative", shared_s, asked))
    return enhanced


def _asked(scale: Scale, settings: Settings, seed: int) -> dict[str, Any]:
    """What a report begins with."""
    return {"scale": scale, "settings": settings.model_dump(mode="json"), "seed": seed}


def enhance(
    image: NDArray[Any] | Image.Image,
    scale: float | Scale | None = None,
    preset: str | None = None,
    *,
    model: str | Path | TrainedGenerator | None = None,
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
    """Enlarge one image by what it teaches itself, or by a trained generator: array in, array out; PIL in, PIL out.

    Args:
        image: an array `H W` (gray), `H W 2` (gray and alpha), `H W 3` (RGB) or `H W 4` (RGB and alpha; straight, not
            premultiplied) of uint8, uint16 (0 to full range) or floating point ([0, 1]); or a PIL image of mode L,
            LA, RGB, RGBA, P or I;16.
        scale: factor per side, 1 to 8; or (y, x). None: 2, or the generator's.
        preset: `quality`, `fast`, `original`, `paper`, or a YAML file of the same form; with a generator `generator` or
            `raw`, or a YAML file of that form. None: the first of these.
        model: a trained generator as `make train` writes it, or as `load_generator` gives it. Results are then
            `generative`: their detail may stem from other people's images.
        seed: from 0 to 2^63 - 1; the same seed, image and machine give the same pixels.
        noise: standard deviation of the noise in training, [0, 1] units; None leaves the preset's.
        kernel: blur of the image in pixels of the result, an array or nested lists of two dimensions; the scale is
            then in whole numbers.
        degradation: how the image came out of the scene, or the file of an estimate as `zssr-gan degradation estimate`
            writes it; "bicubic"; None: bicubic, or the kernel, or what the generator was trained for. It has its own
            noise, so `noise` has no place beside it.
        device, precision, threads, tile: see `RunOptions`.
        on_progress: called with a `Progress` after every iteration.

    Returns:
        The enlarged image: dtype, channels and kind as given.

    Raises:
        ZssrGanError: one of its kinds, see `enhance_picture`.
        TypeError: not an array or image of the kinds above.
    """
    told = degradation is not None
    if degradation == "bicubic":  # the command's word; a file of that name is "./bicubic"
        if kernel is not None:
            raise SettingsError("a kernel and a degradation both say how the image was blurred: leave one out")
        degradation = None
    if noise is not None and degradation is not None:
        raise SettingsError("the degradation has its own noise: leave noise out")
    if isinstance(degradation, str | Path):
        degradation = read_estimate(Path(degradation)).degradation
    generator = load_generator(model) if isinstance(model, str | Path) else model
    settings: Settings
    if generator is None:
        settings = load_preset(preset or "quality")
        settings = settings if noise is None else settings.with_noise(noise)
    elif noise is not None:
        raise SettingsError("noise is for training, and a generator is trained already: leave noise out")
    else:
        settings = load_generator_preset(preset or GENERATOR_PRESETS[0])
    if generator is not None and kernel is None and not told:
        degradation = generator.degradation
    if scale is None:
        scale = 2 if generator is None else own_scale(generator)
    result = enhance_picture(
        picture_of(image),
        _factors(scale),
        settings,
        generator=generator,
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
    if not all(1 <= factor <= LARGEST_SCALE for factor in scale):
        raise SettingsError(
            f"the scale must lie between 1 and {LARGEST_SCALE:g} a side, not {scale[0]:g} x {scale[1]:g}"
        )
    if kernel is not None and degradation is not None:
        raise SettingsError("a kernel and a degradation both say how the image was blurred: leave one out")
    check_scale(degradation, scale)
    if kernel is not None and any(factor != int(factor) for factor in scale):
        raise SettingsError("with a kernel the scale must be in whole numbers: a kernel belongs to one scale")
    if not torch.isfinite(picture.pixels).all():
        raise ImageError("the image holds NaN or infinity")


def _smallest_side(scale: Scale, kernel: Tensor | None, degradation: Degradation | None) -> int:
    """Pixels a side that zero-shot learning needs."""
    if kernel is None and (degradation is None or not isinstance(degradation.blur, KernelBlur)):
        return SMALLEST_SIDE
    rows, columns = (int(factor) for factor in scale)
    # A father is cut to whole multiples of both factors, in every phase.
    return max(SMALLEST_SIDE // 2 * max(2, rows, columns), math.lcm(rows, columns) + max(rows, columns) - 1)


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
