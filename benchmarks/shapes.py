"""Protocol `shapes`: faces blurred by motion or defocus, unknown to every method; what an estimate finds and is worth.

    python -m benchmarks.shapes FACES --estimate-only
    python -m benchmarks.shapes FACES --preset fast --depth 6 --iterations 200 --only motion-7
    python -m benchmarks.shapes FACES --estimate-only --sharp

Truth = the face at 64x64 (antialiased bicubic, 8 bit). Each group of `--size` faces has one blur: straight motion of 3,
5, 7 or 9 HR pixels at an angle drawn by the seed, or an even disk with a radius of 1, 1.5, 2, 2.5 or 3; then
antialiased bicubic halving and noise of 1.5/255, without and with JPEG 75 (real files, written by Pillow). `--sharp`:
groups that have neither, sharp faces and Gaussians of 0.7 to 2.5 HR pixels, of which none should be taken for motion or
defocus. Prints what was found; then PSNR-Y (protocol.py) of bicubic and of a shared model that assumes bicubic, the
estimate and the truth, and the share of the truth's gain over assuming bicubic that the estimate gets. `--depth` and
`--iterations` make the network of the preset smaller (a proxy; its figures are not the preset's).
"""

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.blind import SIDE, Group, kernel_error_db, make_group, mean_psnr, shared
from benchmarks.protocol import case_settings, options_of, parsed, show_row
from zssr_gan.degradation.estimator import estimate_degradation
from zssr_gan.degradation.model import Blur, DefocusBlur, Degradation, GaussianBlur, Jpeg, MotionBlur, Noise
from zssr_gan.devices import machine
from zssr_gan.evaluation.blind import draw_degradation
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize

QUALITIES = (None, 75)
NOISE = Noise(sigma=1.5 / 255)


def drawn(seed: int) -> Iterator[tuple[str, Degradation]]:
    """The groups with motion and defocus, by name."""
    rng = np.random.default_rng(seed)
    for length in (3, 5, 7, 9):
        blur: Blur = MotionBlur(length=length / 2, angle_degrees=float(rng.uniform(0, 180)))
        yield from _with_qualities(f"motion-{length}", blur)
    for radius in (1, 1.5, 2, 2.5, 3):
        yield from _with_qualities(f"disk-{radius}", DefocusBlur(radius=radius / 2))


def _with_qualities(name: str, blur: Blur) -> Iterator[tuple[str, Degradation]]:
    for quality in QUALITIES:
        jpeg = None if quality is None else Jpeg.of_quality(quality)
        yield f"{name}{'' if quality is None else f'-jpeg-{quality}'}", Degradation(blur=blur, noise=NOISE, jpeg=jpeg)


def without(seed: int) -> Iterator[tuple[str, Degradation]]:
    """Groups of sharp faces and of Gaussians, half of them as thin as protocol `blind` draws them."""
    rng = np.random.default_rng(seed)
    for number in range(4):
        for quality in QUALITIES:
            end = "" if quality is None else f"-jpeg-{quality}"
            yield f"gaussian-{number}{end}", draw_degradation(rng, quality)
            one = draw_degradation(rng, quality)
            assert isinstance(one.blur, GaussianBlur)
            thin = one.blur.model_copy(update={"sigma_minor": 0.35})
            yield f"thin-{number}{end}", one.model_copy(update={"blur": thin})
    yield from _with_qualities("sharp", GaussianBlur(sigma_major=0, sigma_minor=0))
    yield "sharp-no-noise", Degradation()


def words(blur: object) -> str:
    """A blur in HR pixels."""
    if isinstance(blur, MotionBlur):
        return f"motion {2 * blur.length:.2f} px at {blur.angle_degrees:.0f}, across {2 * blur.sigma:.2f}"
    if isinstance(blur, DefocusBlur):
        return f"disk {2 * blur.radius:.2f} px, edge {2 * blur.sigma:.2f}"
    if isinstance(blur, GaussianBlur):
        return f"Gaussian {2 * blur.sigma_major:.2f} x {2 * blur.sigma_minor:.2f} px at {blur.angle_degrees:.0f}"
    return "bicubic"


def found(name: str, group: Group, seed: int) -> Degradation:
    """Estimate a group's degradation, and print it."""
    began = time.process_time()
    estimate = estimate_degradation(group.evidence, seed=seed)
    used = estimate.degradation
    error = kernel_error_db(group.truths, used, group.degradation)
    bicubic = kernel_error_db(group.truths, Degradation(), group.degradation)
    seconds = time.process_time() - began
    cells = (name, words(group.degradation.blur), words(used.blur), f"{error:.1f}", f"{bicubic:.1f}")
    show_row(*cells, f"{seconds:.0f} s", estimate.why)
    return used


def main() -> None:
    """Degrade, estimate, learn, enlarge, and print."""
    options = {"only": "", "depth": 0, "iterations": 0, "estimate_only": False, "sharp": False}
    args = parsed(__doc__, "folder", preset="fast", size=60, seed=0, **options)
    settings = case_settings(args)
    faces = torch.stack(
        [rounded(resize(read_picture(one).pixels, (SIDE, SIDE))) for one in sorted(args.folder.glob("*.png"))]
    )
    rows = []
    show_row("group", "true", "used", "kernel, dB", "bicubic's", "CPU", "why")
    with machine(options_of(args)) as used:
        for number, (name, degradation) in enumerate(without(args.seed) if args.sharp else drawn(args.seed)):
            if args.only and name not in args.only.split(","):
                continue
            chosen = np.random.default_rng((args.seed, number)).permutation(len(faces))[: args.size]
            group = make_group(faces[chosen], degradation, args.seed * 1000 + number)
            estimate = found(name, group, args.seed)
            if args.estimate_only:
                continue
            cameras = (Degradation(), estimate, degradation)
            psnr = [mean_psnr(resize(group.lr, (SIDE, SIDE)), group.truths)]
            psnr += [mean_psnr(shared(group, one, settings, args.seed, used), group.truths) for one in cameras]
            rows.append((name, *psnr, f"{(psnr[2] - psnr[1]) / (psnr[3] - psnr[1]):.0%}"))
            show_row(*rows[-1])
    if rows:
        show_row("group", "bicubic", "shared, bicubic", "shared, estimate", "shared, truth", "share")
        for row in rows:
            show_row(*row)


if __name__ == "__main__":
    main()
