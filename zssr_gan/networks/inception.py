"""Inception v3 (Szegedy et al. 2016) as FID uses it (Heusel et al. 2017): the 2048 features of pool3.

FID is defined by one set of weights, those of the TensorFlow graph of 2015-12-05, which differs from the later
Inception v3 of torchvision: 1008 classes, average poolings that do not count their padding, and a maximum in place of
the average in the last block. The community's port to PyTorch (Seitz 2020, pytorch-fid) keeps torchvision's key names.

Shapes: B images, C channels, H W rows and columns.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import Facts, load_frozen

FEATURES = 2048

CLASSES = 1008

SIDE = 299
"""Pixels, of the image that the network sees."""

Kernel = int | tuple[int, int]

_ROW, _COLUMN = (1, 7), (7, 1)

Step = tuple[str, int, Kernel]
"""A convolution that keeps the size: its name, filters, kernel."""

_DOUBLE: Sequence[Step] = (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))


def _convolution(inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU."""
    norm = nn.BatchNorm2d(outputs, eps=1e-3)
    norm.num_batches_tracked = None  # else a file of weights would have to hold it
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, bn=norm, relu=nn.ReLU()))


class _Block(nn.Module):
    """Branches side by side, the last of them a pooling: joined along the channels, in their order.

    Args:
        inputs: channels.
        branches: the convolutions of each, one after the other; where names end in `a` and `b`, both are given the
            same input, and their outputs are joined.
        pool: `average` and `maximum` keep the size, and a convolution `branch_pool` follows; `stride` is the maximum
            with stride 2, alone, and the last convolution of each branch then has stride 2 too.
        pooled: filters of `branch_pool`.
    """

    def __init__(self, inputs: int, branches: Sequence[Sequence[Step]], pool: str, pooled: int = 192) -> None:
        super().__init__()
        self.branches = [[name for name, *_ in branch] for branch in branches]
        self.pool = pool
        for branch in branches:
            width = inputs
            for name, outputs, kernel in branch:
                rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
                strided = pool == "stride" and name == branch[-1][0]
                sizes = (2, 0) if strided and kernel == 3 else (1, (rows // 2, columns // 2))
                self.add_module(name, _convolution(width, outputs, kernel, *sizes))
                if not name.endswith("a"):
                    width = outputs
        if pool != "stride":
            self.branch_pool = _convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for names in self.branches:
            y, halves = x, []
            for name in names:
                out = self.get_submodule(name)(y)
                if name.endswith(("a", "b")):
                    halves.append(out)
                else:
                    y = out
            found += halves or [y]
        if self.pool == "stride":
            return torch.cat([*found, F.max_pool2d(x, 3, 2)], 1)
        maximum = self.pool == "maximum"
        pooled = F.max_pool2d(x, 3, 1, 1) if maximum else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*found, self.branch_pool(pooled)], 1)


def _large(inputs: int, pooled: int) -> _Block:
    """At 35x35 places: Figure 5 of Szegedy et al."""
    five: list[Step] = [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]
    return _Block(inputs, [[("branch1x1", 64, 1)], five, _DOUBLE], "average", pooled)


def _middle(width: int) -> _Block:
    """At 17x17 places: Figure 6, each 7x7 as a row and a column."""
    single: list[Step] = [("branch7x7_1", width, 1), ("branch7x7_2", width, _ROW), ("branch7x7_3", 192, _COLUMN)]
    steps: list[tuple[int, Kernel]] = [(width, 1), (width, _COLUMN), (width, _ROW), (width, _COLUMN), (192, _ROW)]
    double: list[Step] = [(f"branch7x7dbl_{number}", *step) for number, step in enumerate(steps, 1)]
    return _Block(768, [[("branch1x1", 192, 1)], single, double], "average")


def _small(inputs: int, pool: str) -> _Block:
    """At 8x8 places: Figure 7, a row and a column side by side."""

    def pair(name: str) -> list[Step]:
        return [(f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))]

    single = [("branch3x3_1", 384, 1), *pair("branch3x3_2")]
    double = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), *pair("branch3x3dbl_3")]
    return _Block(inputs, [[("branch1x1", 320, 1)], single, double], pool)


class InceptionLayers(nn.Module):
    """All layers that a file of weights must have, by torchvision's names, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _large(192, 32), _large(256, 64), _large(288, 64)
        self.Mixed_6a = _Block(288, [[("branch3x3", 384, 3)], _DOUBLE], "stride")
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_middle(width) for width in (128, 160, 160, 192))
        three: list[Step] = [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)]
        seven: list[Step] = [
            *(("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, _ROW), ("branch7x7x3_3", 192, _COLUMN)),
            ("branch7x7x3_4", 192, 3),
        ]
        self.Mixed_7a = _Block(768, [three, seven], "stride")
        self.Mixed_7b, self.Mixed_7c = _small(1280, "average"), _small(2048, "maximum")
        self.fc = nn.Linear(FEATURES, CLASSES)


class Inception(InceptionLayers):
    """Features of images `B C H W` in [0, 1]: `{"pool3": B 2048}`, float32. Gray images are repeated to three channels.

    Images of any size are brought to 299x299 by bilinear interpolation between pixel centres, without antialiasing (as
    the port does, and unlike the TensorFlow code, which laid the corners over each other), and to [-1, 1].
    The weights are frozen, and the batch normalisations use their running statistics in training mode too.

    Args:
        weights: by torchvision's names of Inception3, with the 1008 classes by which the file is known for FID's.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    facts = Facts(name="INCEPTION", scale=None, channels=(1, 3), smallest=1, receptive_field=None)

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        with torch.device("meta"):
            super().__init__()
        mend = "take the port of the graph of 2015-12-05, pt_inception-2015-12-05-6726825d.pth"
        load_frozen(self, weights, "FID's Inception", mend)
        del self.fc
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        del mode
        return super().train(False)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """The features; ImageError where an image has other channels, or no pixel."""
        self.facts.check(x_BCHW)
        y = F.interpolate(x_BCHW, (SIDE, SIDE), mode="bilinear", align_corners=False)
        y = 2 * y.expand(-1, 3, -1, -1) - 1
        for block in self.children():
            y = block(y)
            if block is self.Conv2d_2b_3x3 or block is self.Conv2d_4a_3x3:
                y = F.max_pool2d(y, 3, 2)
        return {"pool3": y.mean((2, 3)).float()}
