"""Images with degradations that no method knows: what an estimate finds of each, and what it is worth in dB.

    python -m benchmarks.blind FACES --size 100
    python -m benchmarks.blind FACES --sets shapes --estimate-only
    python -m benchmarks.blind FACES --sets motions --lens 1.2 --noise 4 --preset benchmarks/proxy.yaml
    python -m benchmarks.blind SET5 --sets photographs --kernels KERNELS

Truth = the face at 64x64 (antialiased bicubic, 8 bit), LR = half of it. `--sets`, each of `--size` faces a group:
drawn: one degradation for each of `--groups` groups (`zssr_gan/evaluation/blind.py`) | sharp: no blur and no noise, no
JPEG, 90 and 75 in turn | shapes: motion of 3 to 9 HR pixels or an even disk with a radius of 1 to 3, noise 1.5/255,
without and with JPEG 75 | plain: sharp faces and Gaussians, none of which is motion or defocus | three: a third of the
faces each has one of three Gaussians | one: all have the second of them | motions: each face moved straight by 3 to 7
HR pixels in a direction of its own, through a lens of `--lens` HR pixels. The last three have noise of `--noise`/255
and JPEG of quality `--jpeg`. photographs: whole images, each by networks of its own, with kernels drawn as for DIV2KRK
(Bell-Kligler et al. 2019): 11x11 Gaussians with a variance of 0.35 to 5 pixels an axis, each weight changed by up to
25 %; KERNELS holds one image more with its kernel (`Kernel` in a .mat). `--only`: groups by name.

Prints what was true, what was found, and the kernel's error: the PSNR-Y of the truths blurred by one kernel against the
other, noise-free (beside it bicubic's). Then PSNR-Y (protocol.py) of bicubic, back-projection, and networks that assume
bicubic, one degradation of all (`pooled`), the estimate, and the truth; the share of the truth's gain over assuming
bicubic that the estimate gets; and for a set with three blurs the same of each.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.protocol import options_of, parsed, score, show_row
from zssr_gan.degradation.blur_kernels import load_kernel
from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import given_estimate
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Blur, DefocusBlur, Degradation, GaussianBlur, Jpeg, KernelBlur, MotionBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.devices import Machine, machine
from zssr_gan.evaluation.blind import QUALITIES, capture, draw_degradation
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.zeroshot.case import learn_case, read_lr
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import run_single
from zssr_gan.zeroshot.upscale import upscale

X2 = (2.0, 2.0)
SIDE = 64
THREE = (
    GaussianBlur(sigma_major=0.35, sigma_minor=0.35, angle_degrees=0),
    GaussianBlur(sigma_major=0.7, sigma_minor=0.55, angle_degrees=40),
    GaussianBlur(sigma_major=1.1, sigma_minor=0.9, angle_degrees=120),
)
ARMS = ("bicubic", "back-projection", "assumes bicubic", "pooled", "estimate", "truth")


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are estimated and learnt from together."""

    name: str
    truths: Tensor
    """`B 3 2h 2w`."""
    evidence: list[Evidence]
    """LR images `3 h w`."""
    true: list[Degradation]
    """Of each."""

    @classmethod
    def of(cls, name: str, truths: Tensor, true: Degradation | Sequence[Degradation], seed: int) -> "Group":
        """Degrade truths by one degradation, or each by its own; compressed ones go through a real file."""
        size = (truths.shape[-2] // 2, truths.shape[-1] // 2)
        if isinstance(true, Degradation):
            shots, each = capture(truths, true, size, seed), [true] * len(truths)
        else:
            each = list(true)
            shots = [capture(truths[n : n + 1], one, size, seed + n)[0] for n, one in enumerate(each)]
        evidence = [
            Evidence(named(n), shot.pixels, None if shot.file is None else jpeg_of(shot.file))
            for n, shot in enumerate(shots)
        ]
        return cls(name, truths, evidence, each)

    @property
    def lr(self) -> Tensor:
        """`B 3 h w`."""
        return torch.stack([one.pixels for one in self.evidence])


def named(number: int) -> CaseImage:
    """A name and a hash that no other image of a group has."""
    return CaseImage(name=f"{number:03d}", sha256=f"{number:064x}")


def groups_of(name: str, args: argparse.Namespace) -> Iterator[Group]:
    """The groups of one of the sets."""
    if name == "photographs":
        yield from photographs(args)
        return
    paths = sorted(args.folder.glob("*.png"))
    faces = torch.stack([rounded(resize(read_picture(one).pixels, (SIDE, SIDE))) for one in paths])
    rng, order, first = np.random.default_rng(args.seed), list[int](), 1000 * args.seed
    if name in ("drawn", "sharp"):
        for number in range(args.groups):
            if len(order) < args.size:  # every face serves before one serves again
                order = rng.permutation(len(faces)).tolist()
            chosen, order = order[: args.size], order[args.size :]
            quality = QUALITIES[number % len(QUALITIES)]
            jpeg = None if quality is None else Jpeg.of_quality(quality)
            true = Degradation(jpeg=jpeg) if name == "sharp" else draw_degradation(rng, quality)
            yield Group.of(f"{name}-{number}", faces[chosen], true, first + number)
    elif name in ("shapes", "plain"):
        for number, (what, true) in enumerate(shapes(rng) if name == "shapes" else plain(rng)):
            chosen = np.random.default_rng((args.seed, number)).permutation(len(faces))[: args.size].tolist()
            yield Group.of(what, faces[chosen], true, first + number)
    else:
        truths = faces[rng.permutation(len(faces))[: args.size]]
        rng = np.random.default_rng(args.seed)
        blurs: list[Blur] = [THREE[n % 3 if name == "three" else 1] for n in range(len(truths))]
        if name == "motions":
            lengths_and_angles = rng.uniform((1.5, 0), (3.5, 180), (len(truths), 2)).tolist()
            blurs = [MotionBlur(length=a, angle_degrees=b, sigma=args.lens / 2) for a, b in lengths_and_angles]
        rest = {"noise": Noise(sigma=args.noise / 255), "jpeg": Jpeg.of_quality(args.jpeg) if args.jpeg else None}
        yield Group.of(name, truths, [Degradation(blur=blur, **rest) for blur in blurs], first)


def shapes(rng: np.random.Generator) -> Iterator[tuple[str, Degradation]]:
    """Motions and disks, by name."""
    for length in (3, 5, 7, 9):
        blur: Blur = MotionBlur(length=length / 2, angle_degrees=float(rng.uniform(0, 180)))
        yield from with_noise(f"motion-{length}", blur)
    for radius in (1, 1.5, 2, 2.5, 3):
        yield from with_noise(f"disk-{radius}", DefocusBlur(radius=radius / 2))


def plain(rng: np.random.Generator) -> Iterator[tuple[str, Degradation]]:
    """Sharp faces and Gaussians, half of these as thin as `draw_degradation` makes them, by name."""
    for number in range(4):
        for quality, end in ((None, ""), (75, "-jpeg-75")):
            yield f"gaussian-{number}{end}", draw_degradation(rng, quality)
            one = draw_degradation(rng, quality)
            assert isinstance(one.blur, GaussianBlur)
            thin = one.blur.model_copy(update={"sigma_minor": 0.35})
            yield f"thin-{number}{end}", one.model_copy(update={"blur": thin})
    yield from with_noise("sharp", GaussianBlur(sigma_major=0, sigma_minor=0))
    yield "sharp-no-noise", Degradation()


def with_noise(name: str, blur: Blur) -> Iterator[tuple[str, Degradation]]:
    """A blur with noise, without and with JPEG 75."""
    for jpeg, end in ((None, ""), (Jpeg.of_quality(75), "-jpeg-75")):
        yield f"{name}{end}", Degradation(blur=blur, noise=Noise(sigma=1.5 / 255), jpeg=jpeg)


def photographs(args: argparse.Namespace) -> Iterator[Group]:
    """Each image of a folder, with a kernel of its own; and that of KERNELS, with its LR image."""
    rng, span = np.random.default_rng(args.seed), np.arange(11) - 5
    for file in sorted(args.folder.glob("*.png")):
        variances, angle = rng.uniform(0.35, 5, 2), rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        inverse = np.linalg.inv(turn @ np.diag(variances) @ turn.T)
        at = np.stack(np.meshgrid(span, span, indexing="ij"), -1)
        kernel = np.exp(-0.5 * np.einsum("...i,ij,...j", at, inverse, at)) * rng.uniform(0.75, 1.25, (11, 11))
        truth = read_picture(file).pixels
        truth = truth[None, :, : truth.shape[1] // 2 * 2, : truth.shape[2] // 2 * 2]
        yield Group.of(file.stem, truth, kernel_degradation(torch.from_numpy(kernel / kernel.sum())), 0)
    if args.kernels:
        (mat,), (gt,), (small,) = (
            list(Path(args.kernels).glob(name)) for name in ("*_kernel.mat", "*_truth.png", "*_lr_*.png")
        )
        lr = read_picture(small).pixels
        truth = read_picture(gt).pixels[None, :, : 2 * lr.shape[1], : 2 * lr.shape[2]]
        yield Group(small.stem, truth, [Evidence(named(0), lr)], [kernel_degradation(load_kernel(mat))])


def kernel_degradation(kernel: Tensor) -> Degradation:
    """A kernel `k l` as what the camera did."""
    return Degradation(blur=KernelBlur(values=tuple(tuple(row) for row in kernel.tolist()), scale=(2, 2)))


def found_in(group: Group, seed: int) -> tuple[Degradation, list[Degradation]]:
    """The degradation that is estimated of all images of a group, and of each; prints them beside the true ones."""
    began = time.process_time()
    estimate = estimate_degradation(group.evidence, seed=seed)
    each = [estimate.of(one.image.sha256) for one in group.evidence]
    print(f"{group.name}: {estimate.summary}; {estimate.reasons} ({time.process_time() - began:.1f} CPU s)")
    for true, used in dict.fromkeys(zip(group.true, each, strict=True)):
        places = [n for n, pair in enumerate(zip(group.true, each, strict=True)) if pair == (true, used)]
        errors = [kernel_error_db(group.truths[places], one, true) for one in (used, Degradation())]
        kernel = f"kernel {errors[0]:.1f} dB, bicubic's {errors[1]:.1f} dB"
        print(f"  {len(places)} of {words(true)}: {words(used)}; {kernel}", flush=True)
    return estimate.degradation, each


def words(degradation: Degradation) -> str:
    """A degradation in one line."""
    given = isinstance(degradation.blur, KernelBlur)
    return "a kernel" if given else given_estimate(degradation, "").summary


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


def enlarged(group: Group, degradations: Sequence[Degradation], preset: str, seed: int, used: Machine) -> list[Tensor]:
    """Results of one network learnt on a group's LR images, each under its own degradation; of networks of its own
    where the image is alone."""
    settings, each = load_preset(preset), [one.downscale for one in degradations]
    if len(each) == 1:
        image = group.lr[0].to(used.device)
        job = upscale(image, X2, settings.for_size(image[0].numel()), each[0], used, seed=seed)
        return [run_single(job).image_CHW.cpu()]
    settings = settings.for_case()
    images = [read_lr(one.image, one.pixels, None) for one in group.evidence]
    learnt = learn_case(images, seed=seed, degradations=each, settings=settings, machine=used).shared
    assert learnt is not None
    results = dict[int, Tensor]()
    for downscale in dict.fromkeys(each):
        places = [place for place, one in enumerate(each) if one is downscale]
        task = Task.of(X2, settings.network.grid, downscale, used.precision)
        made = apply_many(learnt.network(), [images[place].pixels.to(used.device) for place in places], settings, task)
        results |= dict(zip(places, made, strict=True))
    return [results[place] for place in range(len(each))]


def psnr_of(
    group: Group, pooled: Degradation, each: list[Degradation], args: argparse.Namespace
) -> dict[str, list[float]]:
    """PSNR-Y of each image by each of `ARMS`."""
    bicubic = resize(group.lr, (group.truths.shape[2], group.truths.shape[3]))
    results: dict[str, Sequence[Tensor]] = {"bicubic": [*bicubic]}
    results["back-projection"] = [*back_project(bicubic.clone(), group.lr, BicubicDownscale(), 10)]
    all_alike = dict(zip(ARMS[2:4], (Degradation(), pooled), strict=True))
    assumed = {name: [one] * len(each) for name, one in all_alike.items()} | {"estimate": each, "truth": group.true}
    with machine(options_of(args)) as used:
        for name, degradations in assumed.items():
            same = [before for before in assumed if before in results and assumed[before] == degradations]
            results[name] = results[same[0]] if same else enlarged(group, degradations, args.preset, args.seed, used)
    return {
        name: [score(one, truth).psnr for one, truth in zip(images, group.truths, strict=True)]
        for name, images in results.items()
    }


def main() -> None:
    """Degrade, estimate, learn, enlarge, and print."""
    args = parsed(
        __doc__, "folder", sets="drawn", preset="fast", groups=6, size=60, seed=0, lens=0.0, noise=1.5, jpeg=0,
        kernels="", only="", estimate_only=False,
    )  # fmt: skip
    means, shares = [], []
    for name in args.sets.split(","):
        for group in groups_of(name, args):
            if args.only and group.name not in args.only.split(","):
                continue
            pooled, each = found_in(group, args.seed)
            if args.estimate_only:
                continue
            psnr = psnr_of(group, pooled, each, args)
            kinds = dict.fromkeys(group.true)
            for kind in (*(kinds if 1 < len(kinds) < len(each) else ()), None):
                places = [n for n, one in enumerate(group.true) if kind in (None, one)]
                row = [float(np.mean([psnr[arm][n] for n in places])) for arm in ARMS]
                gain = row[5] - row[2]
                share = (row[4] - row[2]) / gain if abs(gain) > 0.05 else 1.0  # of nothing, all is had
                show_row(group.name if kind is None else words(kind), *row, f"{share:.0%}")
            means.append(row)
            shares.append(share)
    if means:
        show_row("group", *ARMS, "share")
        show_row(*["---"] * 8)
        mean = np.mean(means, 0)
        show_row("mean", *mean.tolist(), f"{np.mean(shares):.0%}")
        least = min(row[4] - row[2] for row in means)
        print(
            f"share of the mean gain {(mean[4] - mean[2]) / (mean[5] - mean[2]):.0%}, worst share {min(shares):.0%}; "
            f"estimate over assuming bicubic at least {least:+.2f} dB"
        )


if __name__ == "__main__":
    main()
