"""How sure an estimated blur is, and whether it is used."""

import math
from collections.abc import Callable

import torch

from zssr_gan.degradation.estimate import Certainty
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur
from zssr_gan.degradation.noise import SIDE
from zssr_gan.degradation.recurrence import NO_BLUR, EstimationSettings, Fit, Recurrence, Tiles, fit_blur
from zssr_gan.degradation.shapes import SIDES, fit_shape
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import resize
from zssr_gan.seeds import derive_seed


def verdict(certainty: Certainty, settings: EstimationSettings) -> tuple[bool, str]:
    """Whether the blur is used, and why, in one sentence."""
    away, unsure = (10 ** (-db / 20) for db in (certainty.bicubic_db, certainty.spread_db))
    better = certainty.misfit_bicubic / max(certainty.misfit, 1e-9)
    needed = needed_recurrence(certainty.misfit, certainty.misfit_bicubic, settings)
    if away <= settings.certainty * unsure:
        return False, (
            f"the blur is {away / max(unsure, 1e-9):.1f} times as far from bicubic as its standard error "
            f"({settings.certainty:g} times are needed)"
        )
    why = f"small structures recur at half the size {better:.1f} times as well under this blur as under bicubic's"
    return better >= needed, f"{why} ({needed:.1f} times are needed)"


def needed_recurrence(misfit: float, misfit_bicubic: float, settings: EstimationSettings) -> float:
    """How many times as well images must recur under a blur as under bicubic, where these are the misfits of both."""
    return max(settings.recurrence, settings.recurrence_gain / max(misfit_bicubic - misfit, 0.01))


def certainty_of(
    whole: Recurrence,
    found: Fit,
    on_step: Callable[[], None],
) -> Certainty:
    """How sure a blur is: the tiles are dealt into parts, and each is fitted for itself.

    Args:
        whole: what `found` was fitted to, in windows of 8 pixels.
        found: the blur, and the noise that each part has too.
        on_step: called after every blur that is tried.
    """
    gaussian = isinstance(found.blur, GaussianBlur)
    side = SIDE if gaussian else SIDES[0]
    tiles = whole.tiles.of_side(2 * side)
    parts = min(whole.settings.parts, len(tiles))
    fits = list[Blur]()
    for number in range(parts):
        part = whole.of(tiles.part(number, parts), side, derive_seed(whole.seed, "part", number))
        if gaussian:
            fits.append(fit_blur(part, found.noise, start=found, on_step=on_step).blur)
        else:
            fits.append(fit_shape(part, found.noise, found.blur, close_by=True, on_step=on_step).blur)
    widths = torch.tensor([_widths(blur) for blur in fits], dtype=torch.float64)
    error = widths.std(0) / math.sqrt(parts)
    apart = sum(_apart(whole.tiles, found.blur, blur) for blur in fits) / (parts * (parts - 1))
    return Certainty(
        blurs=tuple(fits),
        tiles=len(tiles),
        sigma_major=float(error[0]),
        sigma_minor=float(error[1]),
        spread_db=psnr_db(apart),
        bicubic_db=psnr_db(_apart(whole.tiles, found.blur, NO_BLUR)),
        misfit=found.misfit,
        misfit_bicubic=whole.misfit(NO_BLUR, found.noise),
    )


def _widths(blur: Blur) -> tuple[float, float]:
    """Standard deviations along and across."""
    same = blur if isinstance(blur, GaussianBlur) else GaussianBlur.of_covariance(blur.covariance())
    return same.sigma_major, same.sigma_minor


def _apart(tiles: Tiles, one: Blur, other: Blur) -> float:
    """Mean square of what two blurs make different of the interpolated tiles, [0, 1] units."""
    total, count = 0.0, 0
    a, b = (Degradation(blur=blur).downscale for blur in (one, other))
    for group in tiles.groups:
        size = (group.shape[1], group.shape[2])
        large = resize(group[:, None], (2 * size[0], 2 * size[1]))
        difference = a(large, size) - b(large, size)
        total, count = total + float(difference.square().sum()), count + difference.numel()
    return total / count
