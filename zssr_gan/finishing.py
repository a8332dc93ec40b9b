"""From an enlarged image to a result: a file's pixels with their alpha, the evidence, and the account."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from zssr_gan.devices import Machine
from zssr_gan.errors import NumericalError
from zssr_gan.imaging.picture import Picture, quantise
from zssr_gan.imaging.psnr import psnr_db
from zssr_gan.imaging.resampling import Downscale, resize
from zssr_gan.record import Label
from zssr_gan.zeroshot.superresolve import SuperResolved


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
