"""What the seed paper (Moreira, Romero, Ribeiro) printed: facts to stand beside our own, each under its own name."""

from zssr_gan.evaluation.metric import Definition

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

SSIM = Definition(
    name="the seed paper's SSIM, as printed",
    meaning="by the package SSIM-PIL, whose version it does not name, of images that are not at hand",
    unit="",
    higher_is_better=True,
)
PSNR = Definition(
    name="the seed paper's PSNR, as printed",
    meaning="by a function of scikit-image or scikit-learn (it names the second), plane and range not named",
    unit="dB",
    higher_is_better=True,
)
