"""How far apart two images look to networks that others trained: perceptual distance (VGG) and LPIPS.

Each definition names network, layers and weights. Without weights every cell says so; random ones
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
from zssr_gan.evaluation.metrics.metric import Answer, Definition, Metric, Sample
from zssr_gan.files import sha256_file
from zssr_gan.networks.pretrained import read_tensors, vgg
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions
from zssr_gan.training.losses import mediator_loss

Net = Literal["alexnet", "vgg16"]
"""Networks of LPIPS: the authors' default, and the one that they advise as a loss."""

VGG16_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")

_NETS = {"alexnet": ("AlexNet", 31, (64, 192, 384, 256, 256)), "vgg16": ("VGG16", 16, (64, 128, 256, 512, 512))}
"""Name, shortest side of an image (four poolings leave a pixel), and channels of the layers."""

_EPSILON = 1e-10  # as the reference

_FILE = "alexnet-owt-7be5be79.pth"
"""torchvision's file of AlexNet; its name ends with the start of its SHA-256."""


def feature_network(options: VGGOptions, weights: str, seed: int) -> tuple[VGG | None, str, str]:
    """The network that distances look through (None: its weights are not there), their name, and a remark or why.

    Weights and seed are as for `zssr_gan.networks.pretrained.vgg`.
    """
    try:
        network, origin = vgg(options, weights, seed=seed)
    except WeightsError as error:
        return None, weights, reason(error)
    if origin.kind == "random":
        return network, f"RANDOM ({origin.source})", origin.warning or ""
    return network, f"{'imagenet' if origin.kind == 'imagenet' else origin.source} {origin.sha256[:8]}", ""


def perceptual(options: VGGOptions, weights: str, *, seed: int = 0) -> Metric:
    """Mean squared difference of features, the mean of layers, as in the mediator's loss (Ledig et al. 2017)."""
    network, shown, remark = feature_network(options, weights, seed)

    @torch.no_grad()
    def compute(sample: Sample) -> Answer:
        if network is None:
            return None, remark
        assert sample.truth is not None  # the definition needs it
        return float(mediator_loss(network, sample.result[None].cpu(), sample.truth[None].cpu())), remark

    name, layers, stage = options.network.upper(), " + ".join(options.layers), stage_text(options)
    meaning = f"mean squared difference of the features of {name}'s {layers} {stage} (Ledig et al. 2017)"
    name = f"perceptual distance, {layers} of {name} {stage}, weights {shown}"
    smallest = 1 if network is None else network.facts.smallest
    return Metric(Definition(name, f"{meaning}, weights {shown}", "", False, ("truth",), smallest), compute)


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
        for number, (layer, width) in enumerate(zip(self.network.layers, _NETS[net][2], strict=True)):
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


def lpips(weights: Path | None) -> Metric:
    """LPIPS (Zhang et al. 2018, version 0.1). Without weights, every cell says why.

    Args:
        weights: a file of AlexNet's or VGG16's weights with those of LPIPS (see `LPIPS`). None: the authors' package
            `lpips` with AlexNet, where it is installed and the network's weights are on this machine.
    """
    distance: Callable[[Tensor, Tensor], Tensor] | None = None
    net: Net = "alexnet"
    why, source = "", f"weights {'none given' if weights is None else weights.name}"
    try:
        if weights is None:
            distance, source = _from_package()
        else:
            tensors = read_tensors(weights)
            net = "vgg16" if len(tensors.get("lin.1", ())) == _NETS["vgg16"][2][1] else "alexnet"
            distance = LPIPS(net, tensors)
            source += f" {sha256_file(weights)[:8]}"
    except WeightsError as error:
        why = reason(error)

    def compute(sample: Sample) -> Answer:
        if distance is None:
            return None, why
        assert sample.truth is not None  # the definition needs it
        return distance(sample.result[None].cpu(), sample.truth[None].cpu()).item(), ""

    name, smallest, _ = _NETS[net]
    meaning = f"learnt perceptual distance (Zhang et al. 2018, version 0.1) through {name}, {source}"
    return Metric(Definition(f"LPIPS 0.1, {name}, {source}", meaning, "", False, ("truth",), smallest), compute)


def _from_package() -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """LPIPS of `B C H W` and `B C H W`, [0, 1], by the package `lpips`, and the package's name and version.

    The package lets torchvision, which it needs, download the network: it is used only where the network's file lies
    in torch.hub's cache already, so that nothing is downloaded. Raises WeightsError where it cannot be used.
    """
    missing = "no file of weights of LPIPS was given, and"
    try:
        package: Any = importlib.import_module("lpips")
        version = metadata.version("lpips")
    except ImportError as error:
        name = "lpips" if error.name in (None, "lpips") else f"{error.name}, which lpips needs,"
        raise WeightsError(f"{missing} the package {name} is missing.") from error
    path = Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if not path.is_file():
        raise WeightsError(f"{missing} the package lpips would have to download its network's: {path} is not there.")
    if not sha256_file(path).startswith(path.stem.rpartition("-")[2]):
        raise WeightsError(f"{path}: is damaged: its SHA-256 does not begin as its name says.")
    try:
        network = package.LPIPS(net="alex", version="0.1", verbose=False).eval().cpu()
    except Exception as error:  # a foreign package may raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"the package lpips {version} cannot be used ({cause}).") from error

    @torch.no_grad()
    def distance(one: Tensor, other: Tensor) -> Tensor:
        values: Tensor = network(*(2 * image.expand(-1, 3, -1, -1) - 1 for image in (one, other)))
        return values.flatten()

    return distance, f"package lpips {version}"


def stage_text(options: VGGOptions) -> str:
    """Where the features are taken."""
    return "after the ReLU" if options.activated else "before the ReLU"


def reason(error: Exception) -> str:
    """An error's sentence as a cell says it, without its full stop."""
    return str(error).removesuffix(".")
