"""Protocol `blind`: faces degraded in a way that no method knows, group by group; what an estimate is worth.

    python -m benchmarks.blind FACES
    python -m benchmarks.blind FACES --preset quality --seed 1 --groups 6
    python -m benchmarks.blind FACES --sharp --groups 3
    python -m benchmarks.blind FACES --estimate-only

Truth = the face at 64x64 (antialiased bicubic, 8 bit). Each group of `--size` faces has one degradation, drawn by the
seed and printed: an anisotropic Gaussian (0.7 to 2.5 HR pixels an axis, any angle), antialiased bicubic halving, noise
of 0 to 4/255, and no JPEG, JPEG 90 or 75 in turn (real files, written by Pillow). A method sees a group's LR images
alone. Prints PSNR-Y (protocol.py) of bicubic, back-projection, and of a shared model that assumes bicubic, the
estimate and the truth; the share of the truth's gain over assuming bicubic that the estimate gets; and the estimate's
own errors. The kernel's is the PSNR-Y of the truths blurred by the estimated kernel against the true one, noise-free.
`--depth` and `--iterations` make the network of the preset smaller (a proxy; its figures are not the preset's).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.protocol import case_settings, options_of, parsed, score, show_row
from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg
from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.devices import Machine, machine
from zssr_gan.evaluation.blind import QUALITIES, capture, draw_degradation
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.shared import learn_shared

X2 = (2.0, 2.0)
SIDE = 64


@dataclass(frozen=True, slots=True)
class Group:
    """Faces of one camera."""

    truths: Tensor
    """`B 3 64 64`."""
    evidence: list[Evidence]
    degradation: Degradation

    @property
    def lr(self) -> Tensor:
        """`B 3 32 32`."""
        return torch.stack([one.pixels for one in self.evidence])


def make_group(truths: Tensor, degradation: Degradation, seed: int) -> Group:
    """Degrade truths `B 3 64 64`; compressed ones go through a real file."""
    evidence = [
        Evidence(
            CaseImage(name=f"{number:03d}", sha256=""), shot.pixels, None if shot.file is None else jpeg_of(shot.file)
        )
        for number, shot in enumerate(capture(truths, degradation, (SIDE // 2, SIDE // 2), seed))
    ]
    return Group(truths, evidence, degradation)


def mean_psnr(results: Tensor | list[Tensor], truths: Tensor) -> float:
    """PSNR-Y in dB, mean of the images."""
    return float(np.mean([score(one, truth).psnr for one, truth in zip(results, truths, strict=True)]))


def shared(
    group: Group, degradation: Degradation, settings: ZeroShotSettings, seed: int, used: Machine
) -> list[Tensor]:
    """Results of a network learnt on the group's LR images under a degradation."""
    downscale = degradation.downscale
    images = [(one.image, one.pixels) for one in group.evidence]
    start = learn_shared(images, settings, X2, downscale, seed=seed, machine=used)
    task = Task.of(X2, settings.network.grid, downscale, used.precision)
    return apply_many(start.network(), list(group.lr.to(used.device)), settings, task)


def kernel_error_db(truths: Tensor, estimated: Degradation, true: Degradation) -> float:
    """PSNR-Y of truths `B 3 H W` blurred by one kernel against the other, without their borders."""
    weights = torch.tensor([65.481, 128.553, 24.966])[:, None, None] / 255
    luma = (truths * weights).sum(1, keepdim=True)
    a, b = (blurred(luma, one) for one in (estimated, true))
    return psnr_db(float((a - b)[..., 4:-4, 4:-4].square().mean()))


def blurred(luma: Tensor, degradation: Degradation) -> Tensor:
    """`B 1 H W` correlated with the whole kernel, of the size of the image."""
    kernel = degradation.kernel(X2).to(luma)
    rows, columns = kernel.shape
    sides = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
    return F.conv2d(F.pad(luma, sides, mode="replicate"), kernel[None, None])


def report(group: Group, estimate: Estimate, seconds: float) -> str:
    """One line: what was true, what was estimated, and how far that is off."""
    true, found = group.degradation, estimate.degradation
    sigma, noise = (0.0 if one.noise is None else one.noise.sigma for one in (found, true))
    qualities = [None if one.jpeg is None else one.jpeg.quality for one in (true, found)]
    return (
        f"true {_blur(true)}, noise {noise * 255:.2f}, JPEG {qualities[0]}; estimated {_blur(found)}, "
        f"noise {sigma * 255:.2f}, JPEG {qualities[1]}; kernel {kernel_error_db(group.truths, found, true):.1f} dB, "
        f"noise off by {abs(sigma - noise) * 255:.2f}; {seconds:.1f} s"
    )


def estimated_groups(
    folder: Path, count: int, size: int, seed: int, *, sharp: bool
) -> Iterator[tuple[Group, Estimate]]:
    """Groups of faces with what is estimated of each, which is printed; `sharp`: no blur and no noise."""
    faces = torch.stack(
        [rounded(resize(read_picture(one).pixels, (SIDE, SIDE))) for one in sorted(folder.glob("*.png"))]
    )
    rng, order = np.random.default_rng(seed), list[int]()
    for number in range(count):
        if len(order) < size:  # every face serves before one serves again
            order = rng.permutation(len(faces)).tolist()
        chosen, order = order[:size], order[size:]
        quality = QUALITIES[number % len(QUALITIES)]
        jpeg = None if quality is None else Jpeg.of_quality(quality)
        degradation = Degradation(jpeg=jpeg) if sharp else draw_degradation(rng, quality)
        group = make_group(faces[chosen], degradation, seed * 1000 + number)
        began = time.perf_counter()
        estimate = estimate_degradation(group.evidence, seed=seed)
        print(f"group {number}: {report(group, estimate, time.perf_counter() - began)}", flush=True)
        yield group, estimate


def _blur(degradation: Degradation) -> str:
    blur = degradation.blur
    if not isinstance(blur, GaussianBlur):
        return "bicubic"
    return f"{2 * blur.sigma_major:.2f} x {2 * blur.sigma_minor:.2f} HR px at {blur.angle_degrees:.0f}"


def main() -> None:
    """Degrade, estimate, learn, enlarge, and print."""
    options = {"depth": 0, "iterations": 0, "estimate_only": False, "sharp": False}
    args = parsed(__doc__, "folder", preset="fast", groups=6, size=100, seed=0, **options)
    settings = case_settings(args)
    rows, shares = [], []
    with machine(options_of(args)) as used:
        for group, estimate in estimated_groups(args.folder, args.groups, args.size, args.seed, sharp=args.sharp):
            if args.estimate_only:
                continue
            lr = group.lr
            bicubic = resize(lr, (SIDE, SIDE))
            results = [bicubic, back_project(bicubic.clone(), lr, BicubicDownscale(), 10)]
            psnr = [mean_psnr(one, group.truths) for one in results]
            for one in (Degradation(), estimate.degradation, group.degradation):
                psnr += [mean_psnr(shared(group, one, settings, args.seed, used), group.truths)]
            gain = psnr[4] - psnr[2]
            shares.append((psnr[3] - psnr[2]) / gain if abs(gain) > 0.05 else 1.0)  # of nothing, all is had
            rows.append(psnr)
            show_row(*psnr, f"{shares[-1]:.0%}")
    if rows:
        show_row("bicubic", "back-projection", "shared, bicubic", "shared, estimate", "shared, truth", "share")
        show_row(*["---"] * 6)
        show_row(*np.mean(rows, 0).tolist(), f"{np.mean(shares):.0%}")
        gains = np.array(rows)[:, 3] - np.array(rows)[:, 2]
        print(f"worst share {min(shares):.0%}; estimate over assuming bicubic at least {gains.min():+.2f} dB")


if __name__ == "__main__":
    main()
