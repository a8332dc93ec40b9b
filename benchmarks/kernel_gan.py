"""A pooled KernelGAN beside our estimate of the blur, on the groups of protocol `blind`.

    python -m benchmarks.kernel_gan FACES --groups 3 --threads 1
    python -m benchmarks.kernel_gan FACES --groups 6 --threads 1 --iterations 500
    python -m benchmarks.kernel_gan FACES --groups 3 --threads 1 --published

Source of the idea: Bell-Kligler, Shocher and Irani, "Blind Super-Resolution Kernel Estimation using an Internal-GAN"
(NeurIPS 2019), written from the paper's description. A deep linear generator, which is one kernel of 13x13, shrinks
crops until a discriminator of 7x7 patches cannot tell them from crops as they are. There the crops are one image's;
here each iteration draws them from all LR images of a group. A crop of 64 does not fit into an LR image of 32: of a
shrunk crop of 32 only 10x10 pixels saw no border, so a batch of 32 has 512 patches, where one crop of 64 has 400.

By default (without `--published`) it is given what the paper has not: crops that were shrunk go through the noise and
compression that our estimate found, negative weights cost, and not being sparse costs half. Either way luma is looked
at alone. More iterations need not be better: 500 were, on two groups of three. Perhaps the discriminator comes to know
a shrunk face by its smaller features, which no kernel mends.

Prints for each group the kernel's error in dB (blind.py) of assuming bicubic, of the GAN and of our estimate, and the
GAN's seconds; the estimate's are in the line above, and come on top of the GAN's where it uses what that found.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.blind import estimated_groups, kernel_error_db
from benchmarks.protocol import options_of, parsed, show_row
from zssr_gan.degradation.blur_kernels import centred_kernel
from zssr_gan.degradation.model import Degradation, KernelBlur
from zssr_gan.degradation.noise import LUMA_NOISE
from zssr_gan.devices import machine
from zssr_gan.imaging.colour import LUMA

SCALE = (2, 2)
WIDTH = 64
LAYERS = (7, 5, 3, 1, 1, 1)
KERNEL = 13
REACH = KERNEL // 2
PATCH = 7
BLOCK = 8  # crops begin at JPEG's blocks, so that those that were shrunk are compressed like the others
BATCH = 32  # crops of an iteration
CROP = 32  # pixels a side, before they are shrunk
RATE = 2e-4
START = 1.0  # standard deviation of the Gaussian that the generator begins as, HR pixels
CUT = REACH // 2  # pixels at a shrunk crop's border that depend on pixels beyond the crop


@dataclass(frozen=True, slots=True)
class Options:
    """What can be tried."""

    iterations: int
    published: bool
    """The paper's terms alone."""


class Generator(nn.Module):
    """A deep linear network, held as its layers and applied as the one kernel that they make."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, *[WIDTH] * (len(LAYERS) - 1), 1)
        self.layers = nn.ParameterList(
            nn.Parameter(torch.randn(after, before, side, side) / math.sqrt(before * side * side))
            for before, after, side in zip(widths, widths[1:], LAYERS, strict=False)
        )

    def forward(self) -> Tensor:
        """The kernel, `13 13`."""
        first, *others = self.layers
        kernel = first.transpose(0, 1)
        for weight in others:
            # Correlations one after the other are one correlation with the convolution of their kernels.
            kernel = F.conv_transpose2d(kernel, weight.transpose(0, 1))
        made: Tensor = kernel[0, 0]
        return made

    def begin_as(self, wanted: Tensor) -> None:
        """Bring it to a kernel `13 13`."""
        optimizer = torch.optim.Adam(self.parameters(), 1e-3)
        for _ in range(400):
            optimizer.zero_grad()
            (self() - wanted).square().sum().backward()
            optimizer.step()


def discriminator() -> nn.Sequential:
    """How much each 7x7 patch of `B 1 H W` looks like one of an LR image, 0 to 1: `B 1 H-6 W-6`."""
    layers: list[nn.Module] = [spectral_norm(nn.Conv2d(1, WIDTH, PATCH))]
    for _ in range(5):
        layers += [spectral_norm(nn.Conv2d(WIDTH, WIDTH, 1)), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTH, 1, 1)), nn.Sigmoid())


def penalty(kernel: Tensor, published: bool) -> Tensor:
    """The paper's regularisation: sum to one, little at the border, sparse, centred; and not negative."""
    place = torch.arange(KERNEL) - float(REACH)
    y, x = place[:, None], place[None]
    border = torch.exp((y.square() + x.square() - 2 * REACH**2) / (2 * (KERNEL / 4) ** 2))
    middle = torch.stack([(kernel * y).sum(), (kernel * x).sum()]) / kernel.sum().clamp(min=1e-3)
    return (
        0.5 * (1 - kernel.sum()).abs()
        + 0.5 * (kernel * border).abs().sum()
        # The mean, not the paper's sum, which with the weight 5 would outweigh everything.
        + (5.0 if published else 2.5) * (kernel.abs() + 1e-6).sqrt().mean()
        + middle.square().mean()
        + (0.0 if published else 5.0) * kernel.clamp(max=0).abs().sum()
    )


def windows(images: Tensor, side: int) -> Tensor:
    """All crops `N C side side` of images `B C H W` that begin at a block."""
    cut = images.unfold(2, side, BLOCK).unfold(3, side, BLOCK)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).contiguous()


def captured(small: Tensor, kernel: Tensor, camera: Degradation) -> Tensor:
    """Shrunk crops `B 1 H W` with the camera's noise, of which the kernel left a part, and compression."""
    if camera.noise is not None:
        deviation = camera.noise.sigma * LUMA_NOISE
        small = small + deviation * (1 - kernel.square().sum()).clamp(min=0).sqrt() * torch.randn_like(small)
    return Degradation(jpeg=camera.jpeg).downscale.capture(small, small)


def learn_kernel(images: Tensor, camera: Degradation, options: Options, seed: int) -> Degradation:
    """The kernel of LR images `B 3 H W`; of `camera`, noise and compression alone are looked at."""
    torch.manual_seed(seed)
    images = (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    generator, judge = Generator(), discriminator()
    place = (torch.arange(KERNEL) - float(REACH)).square()
    gaussian = torch.exp(-(place[:, None] + place) / (2 * START**2))
    generator.begin_as(gaussian / gaussian.sum())
    steps = [torch.optim.Adam(one.parameters(), RATE, (0.5, 0.999)) for one in (generator, judge)]
    drops = [torch.optim.lr_scheduler.StepLR(one, max(1, options.iterations // 4), 0.1) for one in steps]
    large, small = windows(images, CROP), windows(images, CROP // 2)
    for _ in range(options.iterations):
        sources, real = (one[torch.randint(len(one), (BATCH,))] for one in (large, small))
        kernel = generator()
        fake = F.conv2d(F.pad(sources, (REACH,) * 4, mode="replicate"), kernel[None, None], stride=SCALE)
        if not options.published:
            fake = captured(fake, kernel.detach(), camera)
        fake, real = (one[..., CUT:-CUT, CUT:-CUT] for one in (fake, real))
        steps[0].zero_grad()
        ((1 - judge(fake)).abs().mean() + penalty(kernel, options.published)).backward()
        steps[0].step()
        steps[1].zero_grad()
        ((1 - judge(real)).abs().mean() / 2 + judge(fake.detach()).abs().mean() / 2).backward()
        steps[1].step()
        for one in drops:
            one.step()
    return as_degradation(generator().detach())


def as_degradation(kernel: Tensor) -> Degradation:
    """The kernel `13 13`, centred, in a frame of even sides about the point between two pixels that an LR pixel has."""
    centred = centred_kernel(kernel.double(), SCALE)
    top, left = (side // 2 - REACH for side in centred.shape)
    framed = centred[top : top + KERNEL + 1, left : left + KERNEL + 1].clone()
    # What is next to nothing at the border would be cut away, and the frame be off centre.
    framed[0, 0] = framed[-1, -1] = 1e-4 * framed.max()
    values = tuple(tuple(row) for row in framed.tolist())
    return Degradation(blur=KernelBlur(values=values, scale=SCALE))


def main() -> None:
    """Degrade, estimate in both ways, and print."""
    args = parsed(
        __doc__, "folder", groups=6, size=100, seed=0, iterations=3000, published=False, device="cpu", precision="fp32"
    )
    rows = []
    with machine(options_of(args)):
        for group, estimate in estimated_groups(args.folder, args.groups, args.size, args.seed, sharp=False):
            began = time.perf_counter()
            options = Options(args.iterations, args.published)
            learnt = learn_kernel(group.lr, estimate.degradation, options, args.seed)
            seconds = time.perf_counter() - began
            found = (Degradation(), learnt, estimate.degradation)
            rows.append([*(kernel_error_db(group.truths, one, group.degradation) for one in found), seconds])
            show_row(*rows[-1])
    show_row("bicubic", "pooled KernelGAN", "estimate", "KernelGAN's seconds")
    show_row(*["---"] * 4)
    show_row(*np.mean(rows, 0).tolist())


if __name__ == "__main__":
    main()
