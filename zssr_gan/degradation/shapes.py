"""Tell straight motion and defocus from a Gaussian blur.

The spectrum of a line or a disk has zeros. Windows of 8 pixels smooth them away; those of 12 and 16 show them, if noise
and compression left anything there. Which of the two is tried, and where its search begins, the Gaussian that fits
says: a line has its variance along and across, a disk's is the same in all directions.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zssr_gan.degradation.defocus import dark_ring
from zssr_gan.degradation.model import Blur, DefocusBlur, GaussianBlur, MotionBlur
from zssr_gan.degradation.recurrence import NO_BLUR, Fit, Recurrence, fit_blur

SIDES = (12, 16)
"""Of the windows, the first for fitting, both for comparing."""

_ELONGATED = 1.5  # ratio of a Gaussian's widths above which motion is tried, and defocus below

_ONE_DIRECTION = 0.3  # LR pixels: a width that images seem to have that were not blurred at all

_RING = 1.4
"""How many times as well as a Gaussian a disk fits the spectrum: about 4 with a radius of 1.5 LR pixels and noise of
1.5/255, 1.6 and 1.8 with 1.25; Gaussians of 0.5 to 1.2 LR pixels in noise of 0.5 to 4/255 have at most 1.2."""

_SAME_VARIANCE = 0.3  # share by which the variance of that disk and of the blur under which images recur may differ

_REACH, _REACH_CLOSE_BY = 0.3, 0.1  # first steps of a search, LR pixels

_LONGEST, _WIDEST = 10.0, 3.0  # LR pixels


def choose_shape(recurrence: Recurrence, found: Fit, on_step: Callable[[], None]) -> tuple[Fit, str]:
    """The better of a Gaussian and a line or a disk, and, where it is no Gaussian, why, in a part of a sentence.

    Under compression, the misfit of a line or a disk is the smaller of its own and the Gaussian's.

    Args:
        recurrence: what is to fit, in windows of 8 pixels.
        found: the Gaussian that fits there.
        on_step: called after every blur that is tried.
    """
    settings, noise = recurrence.settings, found.noise
    halves = [recurrence.tiles.part(number, 2) for number in (0, 1)]
    sides = [side for side in SIDES if min(len(half.of_side(2 * side)) for half in halves) >= settings.fewest // 2]
    if SIDES[0] not in sides:
        return found, ""
    widths = GaussianBlur.of_covariance(found.blur.covariance())
    elongated = widths.sigma_major > _ELONGATED * widths.sigma_minor
    whole = recurrence.of(recurrence.tiles, SIDES[0])
    misfit, begin = math.inf, None
    for blur in motions_like(widths) if elongated else disks_like(widths):
        if (one := whole.misfit(blur, noise)) < misfit:
            misfit, begin = one, blur
        on_step()
    assert begin is not None
    fit = fit_shape(whole, noise, begin, on_step=on_step)
    shape = Fit(fit.blur, noise, recurrence.misfit(fit.blur, noise))
    if recurrence.compression is not None:  # that there is a blur at all, a Gaussian can say too
        shape = Fit(fit.blur, noise, min(found.misfit, shape.misfit))
    if settings.recurrence * shape.misfit > recurrence.misfit(NO_BLUR, noise):
        return found, ""
    gaussian = fit_blur(whole, noise, start=found, on_step=on_step)
    if elongated and widths.sigma_minor < _ONE_DIRECTION and fit.misfit < settings.one_direction * gaussian.misfit:
        return shape, "it blurs in one direction only, as motion does"
    clearly = settings.motion if elongated else settings.defocus
    if gaussian.misfit < clearly * fit.misfit:
        return _by_ring(recurrence, found, shape)
    # What fits each half, in the windows of the other half.
    better = math.inf
    for half, other in (halves, halves[::-1]):
        seen = recurrence.of(half, SIDES[0])
        fitted = fit_shape(seen, noise, fit.blur, close_by=True, on_step=on_step).blur
        rival = fit_blur(seen, noise, start=gaussian, on_step=on_step).blur
        for judge in (recurrence.of(other, side) for side in sides):
            better = min(better, judge.misfit(rival, noise) / judge.misfit(fitted, noise))
    if better < clearly:
        return _by_ring(recurrence, found, shape)
    return shape, f"it fits held-out images at least {better:.2f} times as well as a Gaussian"


def _by_ring(recurrence: Recurrence, gaussian: Fit, shape: Fit) -> tuple[Fit, str]:
    """The disk where the images' mean spectrum has its ring, which noise hides from the misfit; else the Gaussian."""
    if not isinstance(shape.blur, DefocusBlur) or recurrence.compression is not None:
        return gaussian, ""
    variance = float(shape.blur.covariance()[0, 0])
    radius, better = dark_ring(recurrence.tiles, shape.noise, math.sqrt(variance))
    edge = variance - radius**2 / 4
    if better < _RING or abs(edge) > _SAME_VARIANCE * variance:
        return gaussian, ""
    disk = DefocusBlur(radius=radius, sigma=math.sqrt(max(0.0, edge)))
    why = f"the spectrum has a disk's dark ring (a disk fits it {better:.1f} times as well as a Gaussian)"
    return Fit(disk, shape.noise, recurrence.misfit(disk, shape.noise)), why


def fit_shape(
    recurrence: Recurrence,
    noise: float,
    start: Blur,
    *,
    close_by: bool = False,
    on_step: Callable[[], None] | None = None,
) -> Fit:
    """The blur of a start's kind that fits best, from that start.

    Args:
        recurrence: what is to fit.
        noise: standard deviation of luma's noise, [0, 1] units.
        start: motion or defocus.
        close_by: look close by, in fewer trials.
        on_step: called after every blur that is tried.
    """
    from scipy.optimize import minimize  # costs half a second to import

    def cost(point: NDArray[np.float64]) -> float:
        if on_step is not None:
            on_step()
        return recurrence.misfit(_blur(point), noise)

    settings = recurrence.settings
    begin = _point(start)
    simplex = np.vstack([begin, begin + (_REACH_CLOSE_BY if close_by else _REACH) * np.eye(len(begin))])
    trials = settings.trials // (5 if close_by else 2)
    options = {"initial_simplex": simplex, "xatol": settings.tolerance, "fatol": 1e-5, "maxfev": trials}
    found = minimize(cost, begin, method="Nelder-Mead", options=options)
    return Fit(_blur(found.x), noise, float(found.fun))


def motions_like(blur: GaussianBlur) -> list[MotionBlur]:
    """Motions of about a Gaussian's variance along and across its wider axis; the second has the very same."""
    same = math.sqrt(12 * max(0.0, blur.sigma_major**2 - blur.sigma_minor**2))
    return [
        MotionBlur(length=min(factor * same, _LONGEST), angle_degrees=blur.angle_degrees + turn, sigma=blur.sigma_minor)
        for turn in (0, -12, 12)
        for factor in (0.8, 1, 1.3, 1.6)
    ]


def disks_like(blur: GaussianBlur) -> list[DefocusBlur]:
    """Disks of about a Gaussian's mean variance, with a soft edge."""
    same = blur.sigma_major + blur.sigma_minor
    return [DefocusBlur(radius=min(factor * same, _LONGEST / 2), sigma=0.1) for factor in (0.85, 1, 1.15, 1.3)]


def _point(blur: Blur) -> NDArray[np.float64]:
    """What a search moves: the way (x, y) of a motion or the radius of a disk, and the Gaussian's width."""
    if isinstance(blur, DefocusBlur):
        return np.array([blur.radius, blur.sigma])
    assert isinstance(blur, MotionBlur)
    angle = math.radians(blur.angle_degrees)
    return np.array([blur.length * math.cos(angle), blur.length * math.sin(angle), blur.sigma])


def _blur(point: NDArray[np.float64]) -> MotionBlur | DefocusBlur:
    sigma = min(abs(float(point[-1])), _WIDEST)
    if len(point) == 2:
        return DefocusBlur(radius=min(abs(float(point[0])), _LONGEST / 2), sigma=sigma)
    length, angle = math.hypot(point[0], point[1]), math.degrees(math.atan2(point[1], point[0]))
    return MotionBlur(length=min(length, _LONGEST), angle_degrees=angle % 180, sigma=sigma)
