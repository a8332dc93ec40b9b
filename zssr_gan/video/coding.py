"""What a video's compression did to frames: the size of its error, as quantisers tell or as pixels show.

An encoder stores what a frame adds to its prediction from other frames, quantised, so that the errors of neighbouring
frames are alike: on faces of 32 px in H.264 their correlation is 0.5 to 0.8. Fusing lowers only what differs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from zssr_gan.imaging.colour import LEVELS
from zssr_gan.imaging.resize import Size
from zssr_gan.inference.region import Region
from zssr_gan.video.camera import BORDER, Array
from zssr_gan.video.frames import NOT_PREDICTED, Frame

_MACROBLOCK = 16
_INTRA, _INTER, _POWER = 0.70, 0.60, 0.7
"""Levels: error of I frames, and of others, by the step of the quantiser to a power, as measured in faces of 32 px
(libx264 at crf 23, 28 and 33; benchmarks/video.md)."""

_ALIKE = 2.3  # the error is so many times what the fused image leaves unexplained of a frame: most is common to all
_LEAST_SHARE = 0.7  # of what is typical, that the reference frame leaves, which agrees with itself
_NEIGHBOURS = 2.4  # times what independent errors would move a place by: those of neighbouring pixels are alike
_HIDDEN = 3.0  # times its coding error, that a pixel may be beyond the 3x3 pixels of the reference frame around it
_REPEATED = 4.0  # frames that are predicted count as one of so many: what they repeat is no new sample


@dataclass(frozen=True, slots=True)
class Coding:
    """How far frames of a video are off, each `F`."""

    error: Tensor
    """Standard deviation, [0, 1] units; nan where pixels alone can show it."""
    predicted: Tensor
    """Whether a frame is stored as what it adds to others (P and B)."""

    def __getitem__(self, frames: Sequence[int]) -> "Coding":
        index = list(frames)
        return Coding(self.error[index], self.predicted[index])

    def shares(self, reference: int) -> NDArray[np.float64]:
        """`F`: how many frames each counts as, in effect; the reference as one."""
        shares = np.where(self.predicted.numpy(), 1 / _REPEATED, 1.0)
        shares[reference] = 1.0
        return shares

    def measured(self, residual: Tensor, reference: int) -> "Coding":
        """With the error by what an image leaves unexplained of each frame (`F`, [0, 1] units), where it is nan."""
        others = [f for f in range(len(residual)) if f != reference]
        typical = residual[others].median() if others else residual[reference]
        shown = _ALIKE * residual.maximum(_LEAST_SHARE * typical)
        return replace(self, error=torch.where(self.error.isnan(), shown, self.error))

    def place_error(self, error: Tensor, residual: Tensor, reference: int) -> Tensor:
        """`F`, pixels: standard error of frames' places in the reference frame.

        An encoder copies a frame at whole steps of its motion vectors and drops what is left, so that frames agree with
        each other better than with the scene: the residual of a registration does not show it.

        Args:
            error: `F`, pixels: that of registration, by its residual alone.
            residual: `F`, [0, 1] units.
            reference: which frame.
        """
        known = self.measured(residual, reference).error
        coded = (known.square() + known[reference].square()).sqrt()
        return torch.hypot(error, _NEIGHBOURS * error / residual * coded)

    def bounded(self, scene: Array, y: Array, reference: int, scale: int) -> Array:
        """Luma `sH sW` with its border, no darker or brighter than the reference frame around, by 3 of its errors.

        Errors of coded frames are alike: where frames lie beside their places these add up to specks.

        Args:
            scene: what was fused.
            y: `H W`, of the reference frame; known errors.
            reference: which frame.
            scale: pixels of the scene to one of a frame.
        """
        most, around = np.float32(_HIDDEN * float(self.error[reference])), np.pad(y, BORDER, mode="edge")
        low, high = ndimage.minimum_filter(around, 3) - most, ndimage.maximum_filter(around, 3) + most
        found: Array = scene.clip(*(edge.repeat(scale, 0).repeat(scale, 1) for edge in (low, high)))
        return found

    @property
    def variance(self) -> Tensor:
        """`F`, that frames count with; known errors."""
        return self.error.square() * torch.where(self.predicted, _REPEATED, 1.0)


def coding_of(frames: Sequence[Frame], places: Sequence[tuple[int, int]], size: Size | None) -> Coding | None:
    """What a video's compression did to a region of frames; None where its codec did nothing of this kind.

    Args:
        frames: of a video, or of a folder of its stills; planes are not looked at.
        places: left and top of the region in each, pixels of the frame.
        size: rows and columns of the region; None: all.
    """
    error = torch.tensor([_error(frame, place, size) for frame, place in zip(frames, places, strict=True)])
    if (error == 0).all():
        return None
    return Coding(error, torch.tensor([frame.picture_type not in ("I", "") for frame in frames]))


def coding_facts(frame: Frame | None) -> dict[str, object]:
    """What the decoder told of a frame's coding, for a record; `qp`: mean of the whole frame."""
    if frame is None:
        return {}
    qp = None if frame.qp is None else round(float(frame.qp.mean()), 2)
    return {"codec": frame.codec, "picture_type": frame.picture_type, "qp": qp}


def coding_summary(frames: Sequence[Frame | None], coding: Coding | None) -> str | None:
    """What a video's compression is taken to have done to frames, by their types; None: it is no such video."""
    errors: dict[str, list[float]] = {}
    for frame, error in zip(frames, [] if coding is None else coding.error.tolist(), strict=False):
        if frame is not None:
            errors.setdefault(f"{frame.codec} {frame.picture_type}", []).append(LEVELS * error)
    parts = [f"{sum(of_kind) / len(of_kind):.1f} levels ({kind})" for kind, of_kind in sorted(errors.items())]
    return f"compression that put frames off by {', '.join(parts)}" if parts else None


def tracked_errors(frames: Sequence[Frame], boxes: Sequence[Region], error: Tensor, residual: Tensor) -> Tensor:
    """Standard errors of the places of a track's frames, pixels (see `Coding.place_error`).

    Args:
        frames: of the video, the reference last.
        boxes: of the region in each, of one size.
        error, residual: of all but the reference, by registration.
    """
    coding = coding_of(frames, [box[:2] for box in boxes], (boxes[0][3], boxes[0][2]))
    if coding is None:
        return error
    own = residual.median()[None]  # the reference frame's, which is not measured, is taken as theirs
    return coding.place_error(torch.cat([error, 0 * own]), torch.cat([residual, own]), len(error))[:-1]


def error_of(quantiser: float, picture_type: str) -> float:
    """Standard deviation, [0, 1] units, of what H.264 does to a frame of this type by a quantiser."""
    factor = _INTER if picture_type in ("P", "B") else _INTRA
    return float(factor * 2 ** (_POWER * (quantiser - 4) / 6) / 255)


def quantiser_of(coding: Coding) -> int:
    """H.264's, of P frames, that errors of this size come of; those of B frames, which are coarser, are most."""
    inter, errors = bool(coding.predicted.any()), coding.error
    error = 255 * float(errors[coding.predicted].quantile(0.25) if inter else errors.median())
    quantiser = 4 + 6 / _POWER * math.log2(max(error, 1e-3) / (_INTER if inter else _INTRA))
    return min(51, max(1, round(quantiser)))


def _error(frame: Frame, place: tuple[int, int], size: Size | None) -> float:
    """H.264's quantiser q has a step of 2^((q - 4) / 6) levels (H.264, table 8-15)."""
    if frame.codec in NOT_PREDICTED:
        return 0.0
    if frame.codec != "h264" or frame.qp is None:
        return math.nan
    tall = 1 if frame.field is None else 2  # rows of the frame to one of a field
    quantiser = _mean(frame.qp, (place[0], tall * place[1]), size and (tall * size[0], size[1]))
    return error_of(quantiser, frame.picture_type) if quantiser > 0 else 0.0


def _mean(quantisers: NDArray[np.int16], place: tuple[int, int], size: Size | None) -> float:
    """Over a region; a single one, as a table of stills has it, holds for all."""
    if quantisers.size == 1 or size is None:
        return float(quantisers.mean())
    sides = zip((place[1], place[0]), size, quantisers.shape, strict=True)
    rows, columns = ((np.arange(at, at + side) // _MACROBLOCK).clip(0, last - 1) for at, side, last in sides)
    return float(quantisers[np.ix_(rows, columns)].mean())
