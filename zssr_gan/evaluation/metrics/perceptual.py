"""How far apart two images look to networks that others trained: perceptual distance (VGG) and LPIPS.

Each definition names network, layers and weights. Missing weights give a column that says so (`absent`); random ones
(`zssr_gan.networks.pretrained`) are named RANDOM, and every figure made with them carries the warning.
"""

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.metrics.metric import Answer, Definition, Metric, Sample, absent
from zssr_gan.files import sha256_file
from zssr_gan.networks.pretrained import Origin, read_tensors, vgg
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions
from zssr_gan.training.losses import MediatorLoss

Net = Literal["alexnet", "vgg16"]
"""Networks of LPIPS: the authors' default, and the one that they advise as a loss."""

VGG16_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")

_WIDTHS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}

_SMALLEST = {"alexnet": 31, "vgg16": 16}  # four poolings leave a pixel

_EPSILON = 1e-10  # as the reference

_NETS = {"alexnet": ("alex", "alexnet-owt-7be5be79.pth"), "vgg16": ("vgg", "vgg16-397923af.pth")}
"""Names in the package lpips, and torchvision's files: a name ends with the start of the file's SHA-256."""


def perceptual(options: VGGOptions, weights: str, *, seed: int = 0) -> Metric:
    """Mean squared difference of features, as in the mediator's loss (Moreira et al.; Ledig et al. 2017).

    Args:
        options: network and layers, of which the mean is taken.
        weights: as for `zssr_gan.networks.pretrained.vgg`; where there are none, every cell says why.
        seed: of random weights.
    """

    def definition(shown: str, smallest: int = 1) -> Definition:
        name, layers = options.network.upper(), " + ".join(options.layers)
        return Definition(
            name=f"perceptual distance, {layers} of {name} {stage_text(options)}, weights {shown}",
            meaning=f"mean squared difference of the features of {name}'s {layers} {stage_text(options)} "
            f"(Ledig et al. 2017), weights {shown}",
            unit="",
            higher_is_better=False,
            needs=("truth",),
            smallest=smallest,
        )

    try:
        network, origin = vgg(options, weights, seed=seed)
    except WeightsError as error:
        return absent(definition(weights), reason(error))
    distance = MediatorLoss(network)

    @torch.no_grad()
    def compute(sample: Sample) -> Answer:
        assert sample.truth is not None  # the definition needs it
        return float(distance(sample.result[None].cpu(), sample.truth[None].cpu())), origin.warning or ""

    return Metric(definition(weights_text(origin), network.facts.smallest), compute)


class LPIPS:
    """Zhang et al. 2018, version 0.1: d = sum_l mean_hw w_l . (phi_l(x) - phi_l(y))^2, features scaled to length 1.

    Args:
        net: network of the features; after the ReLU, of AlexNet's five convolutions or of the last in each of VGG16's
            stages.
        weights: the network's by torchvision's names, and w_l as `lin.0` ... `lin.4`, one number a channel.

    Raises:
        WeightsError: one of them is missing or has another shape.
    """

    def __init__(self, net: Net, weights: Mapping[str, Tensor]) -> None:
        self.network = AlexNet(weights) if net == "alexnet" else VGG(VGGOptions("vgg16", VGG16_LAYERS), weights)
        self.scales = {}
        for number, (layer, width) in enumerate(zip(self.network.layers, _WIDTHS[net], strict=True)):
            scale = weights.get(f"lin.{number}")
            if scale is None or tuple(scale.shape) != (width,):
                raise WeightsError(f"these are no weights of LPIPS: lin.{number} ({layer}) must hold {width} numbers.")
            self.scales[layer] = scale

    @torch.no_grad()
    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """d of `B C H W` and `B C H W`, [0, 1]: B values; lower is closer.

        Raises:
            ImageError: images are smaller than the network takes (31 pixels a side, or 16).
        """
        found = [
            {layer: x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON) for layer, x in self.network(image).items()}
            for image in (one, other)
        ]
        distances = [
            ((found[0][layer] - found[1][layer]).square() * scale[:, None, None]).sum(1).mean((1, 2))
            for layer, scale in self.scales.items()
        ]
        return torch.stack(distances).sum(0)


def lpips(weights: Path | None, net: Net = "alexnet") -> Metric:
    """LPIPS (Zhang et al. 2018, version 0.1). Without weights, every cell says why.

    Args:
        weights: a file of the network's weights with those of LPIPS (see `LPIPS`). None: those of the authors' package
            `lpips`, where it is installed and its network's weights are on this machine.
        net: network of the features.
    """
    distance: Callable[[Tensor, Tensor], Tensor]
    name = {"alexnet": "AlexNet", "vgg16": "VGG16"}[net]

    def definition(source: str) -> Definition:
        return Definition(
            name=f"LPIPS 0.1, {name}, {source}",
            meaning=f"learnt perceptual distance (Zhang et al. 2018, version 0.1) through {name}, {source}",
            unit="",
            higher_is_better=False,
            needs=("truth",),
            smallest=_SMALLEST[net],
        )

    try:
        if weights is None:
            distance, version = _from_package(net)
            source = f"package lpips {version}"
        else:
            distance = LPIPS(net, read_tensors(weights))
            source = f"weights {weights.name} {sha256_file(weights)[:8]}"
    except WeightsError as error:
        return absent(definition(f"weights {'none given' if weights is None else weights.name}"), reason(error))

    def compute(sample: Sample) -> Answer:
        assert sample.truth is not None  # the definition needs it
        return distance(sample.result[None].cpu(), sample.truth[None].cpu()).item(), ""

    return Metric(definition(source), compute)


def _from_package(net: Net) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """LPIPS of `B C H W` and `B C H W`, [0, 1], by the package `lpips`, and the package's version.

    The package brings w_l and lets torchvision, which it needs, download the network: it is used only where the
    network's file lies in torch.hub's cache already, so that nothing is downloaded.

    Raises:
        WeightsError: the package or the network's weights are missing or cannot be used.
    """
    missing = "no file of weights of LPIPS was given, and"
    try:
        package: Any = importlib.import_module("lpips")
        version = metadata.version("lpips")
    except ImportError as error:
        name = "lpips" if error.name in (None, "lpips") else f"{error.name}, which lpips needs,"
        raise WeightsError(f"{missing} the package {name} is missing.") from error
    name, file = _NETS[net]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise WeightsError(f"{missing} the package lpips would have to download its network's: {path} is not there.")
    if not sha256_file(path).startswith(path.stem.rpartition("-")[2]):
        raise WeightsError(f"{path}: is damaged: its SHA-256 does not begin as its name says.")
    try:
        network = package.LPIPS(net=name, version="0.1", verbose=False).eval().cpu()
    except Exception as error:  # a foreign package may raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"the package lpips {version} cannot be used ({cause}).") from error

    @torch.no_grad()
    def distance(one: Tensor, other: Tensor) -> Tensor:
        values: Tensor = network(*(2 * image.expand(-1, 3, -1, -1) - 1 for image in (one, other)))
        return values.flatten()

    return distance, version


def weights_text(origin: Origin) -> str:
    """Which weights they are, for the name of a definition."""
    if origin.kind == "random":
        return f"RANDOM ({origin.source})"
    return f"{'imagenet' if origin.kind == 'imagenet' else origin.source} {origin.sha256[:8]}"


def stage_text(options: VGGOptions) -> str:
    """Where the features are taken."""
    return "after the ReLU" if options.activated else "before the ReLU"


def reason(error: Exception) -> str:
    """An error's sentence as a cell says it, without its full stop."""
    return str(error).removesuffix(".")
