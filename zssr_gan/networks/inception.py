"""Inception v3 (Szegedy et al. 2016) as FID looks through it (Heusel et al. 2017): the 2048 features of pool3.

FID's figures hang on one set of weights, those of the TensorFlow graph of 2015-12-05, which differs from the later
Inception v3 of torchvision: 1008 classes, average poolings that do not count their padding, and a maximum in place of
the average in the last block. The community's port to PyTorch (Seitz 2020, pytorch-fid) keeps torchvision's key names.

Shapes: B images, C channels, H W rows and columns.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.errors import WeightsError
from zssr_gan.networks.base import Facts

FEATURES = 2048

CLASSES = 1008

SIDE = 299
"""Pixels, of the image that the network sees."""

_SMALL = 1e-3  # of the batch normalisations

Kernel = int | tuple[int, int]

Step = tuple[str, int, Kernel] | tuple[str, int, Kernel, int]
"""A convolution: its name, filters, kernel and stride. With stride 1 it keeps the size, else it pads nothing."""

Branch = Sequence[Step | tuple[Step, Step]]
"""Convolutions one after the other; two together are both given the same, and what comes out of them is joined."""

Pool = Literal["average", "maximum", "smaller"]


class _Normalisation(nn.Module):
    """Batch normalisation by its kept statistics, in every mode."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=_SMALL)


class _Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, *, stride: int = 1, padding: Kernel = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = _Normalisation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side, of which the last is a pooling: joined along the channels, in their order.

    Args:
        inputs: channels.
        branches: see `Branch`.
        pool: `average` and `maximum` keep the size, and are followed by a convolution, `branch_pool`; `smaller` is the
            maximum with stride 2, alone.
        pooled: filters of `branch_pool`.
    """

    def __init__(self, inputs: int, branches: Sequence[Branch], pool: Pool, pooled: int = 0) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        for branch in branches:
            width = inputs
            for steps in map(_together, branch):
                for name, outputs, kernel, *stride in steps:
                    self.add_module(name, _step(width, outputs, kernel, *stride))
                width = sum(outputs for _, outputs, *_ in steps)
        if pool != "smaller":
            self.branch_pool = _Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self.branches:
            y = x
            for steps in map(_together, branch):
                y = torch.cat([self.get_submodule(name)(y) for name, *_ in steps], 1)
            found.append(y)
        if self.pool == "smaller":
            found.append(F.max_pool2d(x, 3, 2))
        elif self.pool == "maximum":
            found.append(self.branch_pool(F.max_pool2d(x, 3, 1, 1)))
        else:
            found.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
        return torch.cat(found, 1)


def _large(inputs: int, pooled: int) -> _Block:
    """At 35x35 places: Figure 5 of Szegedy et al."""
    return _Block(
        inputs,
        [
            [("branch1x1", 64, 1)],
            [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
            [*_double(64, 96), ("branch3x3dbl_3", 96, 3)],
        ],
        "average",
        pooled,
    )


def _middle(width: int) -> _Block:
    """At 17x17 places: Figure 6, each 7x7 as a row and a column."""
    across, down = (1, 7), (7, 1)
    double: list[tuple[int, Kernel]] = [(width, 1), (width, down), (width, across), (width, down), (192, across)]
    return _Block(
        768,
        [
            [("branch1x1", 192, 1)],
            [("branch7x7_1", width, 1), ("branch7x7_2", width, across), ("branch7x7_3", 192, down)],
            [(f"branch7x7dbl_{number}", *step) for number, step in enumerate(double, 1)],
        ],
        "average",
        192,
    )


def _small(inputs: int, pool: Pool) -> _Block:
    """At 8x8 places: Figure 7, a row and a column side by side."""
    return _Block(
        inputs,
        [
            [("branch1x1", 320, 1)],
            [("branch3x3_1", 384, 1), (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1)))],
            [*_double(448, 384), (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1)))],
        ],
        pool,
        192,
    )


def _double(first: int, second: int) -> list[Step]:
    """How a branch of two 3x3 begins, in place of one 5x5."""
    return [("branch3x3dbl_1", first, 1), ("branch3x3dbl_2", second, 3)]


def _together(steps: Step | tuple[Step, Step]) -> Sequence[Step]:
    """One convolution or two, as a list."""
    return [steps] if isinstance(steps[0], str) else steps


def _step(inputs: int, outputs: int, kernel: Kernel, stride: int = 1) -> _Convolution:
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (rows // 2, columns // 2) if stride == 1 else 0
    return _Convolution(inputs, outputs, kernel, stride=stride, padding=padding)


class _Trunk(nn.Module):
    """All blocks up to pool3, by torchvision's names, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _large(192, 32)
        self.Mixed_5c = _large(256, 64)
        self.Mixed_5d = _large(288, 64)
        self.Mixed_6a = _Block(
            288,
            [[("branch3x3", 384, 3, 2)], [*_double(64, 96), ("branch3x3dbl_3", 96, 3, 2)]],
            "smaller",
        )
        self.Mixed_6b = _middle(128)
        self.Mixed_6c = _middle(160)
        self.Mixed_6d = _middle(160)
        self.Mixed_6e = _middle(192)
        self.Mixed_7a = _Block(
            768,
            [
                [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
                [
                    ("branch7x7x3_1", 192, 1),
                    ("branch7x7x3_2", 192, (1, 7)),
                    ("branch7x7x3_3", 192, (7, 1)),
                    ("branch7x7x3_4", 192, 3, 2),
                ],
            ],
            "smaller",
        )
        self.Mixed_7b = _small(1280, "average")
        self.Mixed_7c = _small(2048, "maximum")


class Inception(_Trunk):
    """Features of images `B C H W` in [0, 1]: `{"pool3": B 2048}`, float32. Gray images are repeated to three channels.

    Images of any size are brought to 299x299 by bilinear interpolation between pixel centres, without antialiasing (as
    the port does, and unlike the TensorFlow code, which laid the corners over each other), and to [-1, 1].
    The weights are frozen, and the batch normalisations use their kept statistics, whatever mode the module is in.

    Args:
        weights: by torchvision's names of Inception3, with the 1008 classes by which the file is known for FID's.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    facts = Facts(name="INCEPTION", scale=None, channels=(1, 3), smallest=1, receptive_field=None)

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        with torch.device("meta"):  # every weight is taken from the file: none is drawn
            super().__init__()
        for name, shape in weight_shapes().items():
            _check(name, shape, weights.get(name))
        self.load_state_dict({name: weights[name].float() for name in self.state_dict()}, assign=True)
        self.requires_grad_(False)

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


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Of each tensor that a file of weights must hold, by its name."""
    with torch.device("meta"):
        trunk = {name: tuple(tensor.shape) for name, tensor in _Trunk().state_dict().items()}
    return {**trunk, "fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)}


def _check(name: str, shape: tuple[int, ...], given: Tensor | None) -> None:
    """WeightsError where a file's tensor is not that of the network."""
    wrong = f"these are no weights of FID's Inception: {name}"
    mend = "take the port of the graph of 2015-12-05, pt_inception-2015-12-05-6726825d.pth"
    if given is None:
        raise WeightsError(f"{wrong} is missing; {mend}.")
    if tuple(given.shape) != shape:
        told, wanted = ("x".join(map(str, each)) for each in (given.shape, shape))
        raise WeightsError(f"{wrong} is {told}, not {wanted}; {mend}.")
