"""Figures that others printed, to stand beside ours under names of their own."""

from zssr_gan.evaluation.metrics.metric import Definition
from zssr_gan.provenance import Label

# The seed paper (Moreira, Romero, Ribeiro).
TABLE_1 = (
    (0.9132, 31.5044),
    (0.8568, 31.6848),
    (0.8951, 31.9378),
    (0.8668, 31.2329),
    (0.8566, 31.1281),
    (0.8715, 31.2964),
    (0.9462, 38.9739),
    (0.8835, 32.9032),
)
"""SSIM and PSNR (dB) between synthetic HR and SRGAN, of eight images that it shows and does not name."""

HOURS, IMAGES, DEVICE = 120.0, 7000, "NVIDIA Titan Xp"
"""Of the zero-shot training and application on the first 7,000 images."""

_SSIM = "by the package SSIM-PIL, whose version it does not name, of images that are not at hand"

_PSNR = "by a function of scikit-image or scikit-learn (it names the second), plane and range not named"

SSIM = Definition("the seed paper's SSIM, as printed", _SSIM, unit="", higher_is_better=True)

PSNR = Definition("the seed paper's PSNR, as printed", _PSNR, unit="dB", higher_is_better=True)

# Sets of truths, x2, by the name that a config gives them.
_ON_Y = "on Y, a border of the scale cropped, as the field's papers say"

SET_PSNR = Definition("PSNR, as printed", _ON_Y, unit="dB", higher_is_better=True)

SET_SSIM = Definition("SSIM, as printed", _ON_Y, unit="", higher_is_better=True)

_KIM, _SHOCHER = "as printed by Kim et al. 2016", "as printed by Shocher et al. 2018"

_SYSTEMS: dict[str, Label] = {
    f"bicubic, {_KIM}": "internal",
    f"ZSSR, {_SHOCHER}": "internal",
    f"VDSR, learnt on HR images, {_KIM}": "generative",
}

_VALUES = {
    "Set5": ((33.66, 0.9299), (37.37, 0.9570), (37.53, 0.9587)),
    "Set14": ((30.24, 0.8688), (33.00, 0.9108), (33.03, 0.9124)),
    "BSD100": ((29.56, 0.8431), (31.65, 0.8920), (31.90, 0.8960)),
}

SETS: dict[str, dict[str, tuple[Label, float, float]]] = {
    name: {system: (label, *pair) for (system, label), pair in zip(_SYSTEMS.items(), values, strict=True)}
    for name, values in _VALUES.items()
}
"""By set and system: what the pixels were learnt from, PSNR in dB and SSIM, at x2."""

IMAGES_OF = {"Set5": 5, "Set14": 14, "BSD100": 100}
