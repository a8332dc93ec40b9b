"""Single photographs with a blur that is unknown to every method: the case of one image.

    python -m benchmarks.photographs SET5 --kernels KERNELS

Each photograph of SET5 is degraded by a kernel drawn as for DIV2KRK (Bell-Kligler et al. 2019): at x2 an 11x11 Gaussian
with a variance of 0.35 to 5 pixels an axis, any angle, each weight changed by up to 25 %, then every second pixel, 8
bit. KERNELS holds one photograph more, its LR image and its kernel (`Kernel` in a .mat). Every image is enlarged by
networks of its own that assume bicubic, the degradation estimated from that one image, and the true kernel. Prints
PSNR-Y (protocol.py), the share of the true kernel's gain over bicubic that the estimate gets, and the kernel's error:
the PSNR-Y of the truth blurred by the estimated kernel against the true one.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.blind import kernel_error_db
from benchmarks.protocol import options_of, parsed, score, show_row
from zssr_gan.degradation.blur_kernels import load_kernel
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Degradation, GaussianBlur, KernelBlur
from zssr_gan.devices import Machine, machine
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.io import read_picture
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset
from zssr_gan.zeroshot.scheduler import run_single
from zssr_gan.zeroshot.upscale import upscale

X2 = (2.0, 2.0)
SIDE = 11


def draw_kernel(rng: np.random.Generator) -> Tensor:
    """`11 11` float64, sum 1."""
    variances, angle = rng.uniform(0.35, 5, 2), rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(variances) @ turn.T)
    at = np.stack(np.meshgrid(np.arange(SIDE) - SIDE // 2, np.arange(SIDE) - SIDE // 2, indexing="ij"), -1)
    kernel = np.exp(-0.5 * np.einsum("...i,ij,...j", at, inverse, at)) * rng.uniform(0.75, 1.25, (SIDE, SIDE))
    return torch.from_numpy(kernel / kernel.sum())


def as_degradation(kernel: Tensor) -> Degradation:
    """The kernel as what the camera did."""
    return Degradation(blur=KernelBlur(values=tuple(tuple(row) for row in kernel.tolist()), scale=(2, 2)))


def enlarged(lr: Tensor, degradation: Degradation, settings: ZeroShotSettings, seed: int, used: Machine) -> Tensor:
    """The result of networks of the image's own."""
    own, downscale = settings.for_size(lr[0].numel()), degradation.downscale
    return run_single(upscale(lr.to(used.device), X2, own, downscale, used, seed=seed)).image_CHW.cpu()


def main() -> None:
    """Degrade, estimate, enlarge, and print."""
    args = parsed(__doc__, "folder", preset="fast", kernels="", seed=0)
    settings, rng = load_preset(args.preset), np.random.default_rng(args.seed)
    cases: list[tuple[str, Tensor, Tensor, Degradation]] = []
    for file in sorted(args.folder.glob("*.png")):
        truth = read_picture(file).pixels
        truth = truth[:, : truth.shape[1] // 2 * 2, : truth.shape[2] // 2 * 2]
        true = as_degradation(draw_kernel(rng))
        lr = rounded(true.downscale(truth[None], (truth.shape[1] // 2, truth.shape[2] // 2))[0])
        cases.append((file.stem, truth, lr, true))
    if args.kernels:
        (mat,), (gt,), (small,) = (
            list(Path(args.kernels).glob(name)) for name in ("*_kernel.mat", "*_truth.png", "*_lr_*.png")
        )
        truth, lr = read_picture(gt).pixels, read_picture(small).pixels
        cases.append((small.stem, truth[:, : 2 * lr.shape[1], : 2 * lr.shape[2]], lr, as_degradation(load_kernel(mat))))
    table = []
    with machine(options_of(args)) as used:
        for name, truth, lr, true in cases:
            estimate = estimate_degradation([Evidence(CaseImage(name=name, sha256=""), lr)], seed=args.seed)
            found = estimate.degradation
            psnr = [
                score(enlarged(lr, one, settings, args.seed, used), truth).psnr for one in (Degradation(), found, true)
            ]
            errors = [kernel_error_db(truth[None], one, true) for one in (Degradation(), found)]
            widths = estimate.summary if isinstance(found.blur, GaussianBlur) else "bicubic (fallback)"
            table.append(psnr)
            share = f"{(psnr[1] - psnr[0]) / (psnr[2] - psnr[0]):.0%}"
            show_row(name, *psnr, share, *errors, widths)
    bicubic, estimated, oracle = np.mean(table, 0)
    print(f"mean {bicubic:.2f}, {estimated:.2f}, {oracle:.2f}: share {(estimated - bicubic) / (oracle - bicubic):.0%}")


if __name__ == "__main__":
    main()
