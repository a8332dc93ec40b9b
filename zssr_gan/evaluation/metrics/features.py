"""How far apart images look to networks that others trained: each definition names network, layers and weights.

Weights that are not there give a column that says so (`absent`); random ones (`zssr_gan.networks.pretrained`) are
named RANDOM,
and every figure made with them carries the warning.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.metrics.metric import Answer, Definition, Figure, Metric, Sample, absent, told_size
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.files import sha256_file
from zssr_gan.networks.inception import FEATURES, SIDE, Inception
from zssr_gan.networks.pretrained import Origin, read_tensors, vgg
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions
from zssr_gan.training.losses import MediatorLoss

# Frechet distance between two sets of feature vectors, each taken for a normal distribution.
#
# d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017 on Inception's features,
# as FID; Shaham et al. 2019 on the features at each place of one image, as SIFID). The figure hangs on the features and
# on how many vectors there are: only those of the same kind and of sets of the same size can be compared.


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What is kept of a set of vectors: how many, their mean `D` and their covariance `D D`, float64, on the CPU."""

    count: int
    mean: Tensor
    covariance: Tensor


def moments_of(vectors: Tensor) -> Moments:
    """Of vectors `N D`; of one alone the covariance is NaN."""
    vectors = vectors.double()
    length = vectors.shape[1]
    return Moments(len(vectors), vectors.mean(0), torch.cov(vectors.T).reshape(length, length))


def place_moments(network: VGG | AlexNet, images: Iterable[Tensor]) -> dict[str, Moments]:
    """Those of `place_features`, image after image: the features of a whole set need not lie in memory at once.

    Args:
        network: whose layers; images are taken to its device.
        images: `C H W` each, [0, 1], of any sizes, at least one.
    """
    found: dict[str, Moments] = {}
    with torch.no_grad():
        for image in images:
            for layer, values in network(image[None].to(network.mean.device)).items():
                vectors = values[0].flatten(1).T.double().cpu()
                mean = vectors.mean(0)
                spread = (vectors - mean).T @ (vectors - mean)  # one vector has none, and torch.cov says NaN
                new = Moments(len(vectors), mean, spread)
                found[layer] = _merged(found[layer], new) if layer in found else new
    return {
        layer: Moments(sums.count, sums.mean, sums.covariance / max(sums.count - 1, 1)) for layer, sums in found.items()
    }


def place_features(network: VGG | AlexNet, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Of each layer the features at every place of every image, `N C`, float64.

    So many vectors that a case's few hundred images have a covariance; they tell of textures and edges within a
    layer's receptive field, not of how a face is put together.

    Args:
        network: whose layers.
        images: `C H W` each, [0, 1], of any sizes.
    """
    found: dict[str, list[Tensor]] = {layer: [] for layer in network.layers}
    with torch.no_grad():
        for image in images:
            for layer, values in network(image[None]).items():
                found[layer].append(values[0].flatten(1).T.double())
    return {layer: torch.cat(values) for layer, values in found.items()}


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """d^2 between vectors `N D` and `M D`, in the features' own units; 0 for one and the same set.

    Raises:
        ValueError: fewer than two vectors, or vectors of different lengths.
    """
    if min(len(one), len(other)) < 2 or one.shape[1:] != other.shape[1:]:
        raise ValueError(f"two sets of at least two vectors of one length are needed: {one.shape}, {other.shape}")
    return distance_of_moments(moments_of(one), moments_of(other))


def distance_of_moments(one: Moments, other: Moments) -> float:
    """d^2 between two sets of at least two vectors each, of one length."""
    root = _root(one.covariance)
    # Of the product's square root only the trace is needed, and S1 S2 has the eigenvalues of this symmetric matrix.
    both = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    apart = (one.mean - other.mean).square().sum()
    return float(apart + one.covariance.trace() + other.covariance.trace() - 2 * both)


def _merged(one: Moments, other: Moments) -> Moments:
    """Of two sets together, where `covariance` is still the sum over the vectors (Chan et al. 1979)."""
    count = one.count + other.count
    apart = other.mean - one.mean
    spread = one.covariance + other.covariance + torch.outer(apart, apart) * (one.count * other.count / count)
    return Moments(count, one.mean + apart * (other.count / count), spread)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix; rounding's negative eigenvalues count as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


# LPIPS (Zhang et al. 2018, version 0.1): how far apart two images look, learnt from people's choices.


Net = Literal["alexnet", "vgg16"]
"""The authors' default, and the one that they advise as a loss."""

VGG16_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")

_WIDTHS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}

_SMALL = 1e-10  # as the reference


class LPIPS:
    """d = sum_l mean_hw w_l . (phi_l(x) - phi_l(y))^2, each place's features scaled to length 1. Lower is closer.

    Args:
        net: whose features; after the ReLU, of AlexNet's five convolutions or of the last in each of VGG16's stages.
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
        """d of `B C H W` and `B C H W`, [0, 1]: B values. ImageError where images are smaller than the network takes
        (31 pixels a side, or 16)."""
        found, wanted = self.network(one), self.network(other)
        distances = []
        for layer, scale in self.scales.items():
            apart = (_directions(found[layer]) - _directions(wanted[layer])).square()
            distances.append((apart * scale[:, None, None]).sum(1).mean((1, 2)))
        return torch.stack(distances).sum(0)


def _directions(features: Tensor) -> Tensor:
    """Each place's features, scaled to length 1."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + _SMALL)


# LPIPS by its authors' package `lpips`, where the environment has it: it needs torchvision, so it is no dependency.
#
# The package brings the learnt weights w_l of each layer and lets torchvision bring those of the network, which would
# be
# downloaded: here it is asked only where they lie in torch.hub's cache already.


_PACKAGE = "lpips"

_NETS = {"alexnet": ("alex", "alexnet-owt-7be5be79.pth"), "vgg16": ("vgg", "vgg16-397923af.pth")}
"""As the package calls them, and torchvision's files: the ending is how their SHA-256 begins."""


def from_package(net: Net) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """LPIPS (version 0.1) of `B C H W` and `B C H W`, [0, 1]: B values; and the package's version.

    Nothing is downloaded.

    Raises:
        WeightsError: the package is not there or cannot be used, or the network's weights are not on this machine.
    """
    lacking = "no file of weights of LPIPS was given, and"
    try:
        package: Any = importlib.import_module(_PACKAGE)
        version = metadata.version(_PACKAGE)
    except ImportError as error:  # of torchvision too, without which the package cannot be imported
        missing = "lpips" if error.name in (None, _PACKAGE) else f"{error.name}, which lpips needs,"
        raise WeightsError(f"{lacking} the package {missing} is missing.") from error
    name, file = _NETS[net]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise WeightsError(f"{lacking} the package lpips would have to download its network's: {path} is not there.")
    if not sha256_file(path).startswith(path.stem.rpartition("-")[2]):
        raise WeightsError(f"{path}: is damaged: its SHA-256 is not the one that its name tells of.")
    try:
        network = package.LPIPS(net=name, version="0.1", verbose=False).eval().cpu()
    except Exception as error:  # a foreign package may raise anything
        told = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"the package lpips {version} cannot be used ({told}).") from error

    @torch.no_grad()
    def distance(one: Tensor, other: Tensor) -> Tensor:
        values: Tensor = network(*(2 * image.expand(-1, 3, -1, -1) - 1 for image in (one, other)))
        return values.flatten()

    return distance, version


_LPIPS_SMALLEST = {"alexnet": 31, "vgg16": 16}
"""Four poolings leave a pixel."""


def perceptual(options: VGGOptions, weights: str, *, seed: int = 0) -> Metric:
    """Mean squared difference of features, as the mediator's loss has it (Moreira et al.; Ledig et al. 2017).

    Args:
        options: network and layers, of which the mean is taken.
        weights: as `zssr_gan.networks.pretrained.vgg` takes them; where they cannot be had, every cell says why.
        seed: of random weights.
    """
    try:
        network, origin = vgg(options, weights, seed=seed)
    except WeightsError as error:
        return absent(_perceptual(options, weights, smallest=1), reason(error))
    distance = MediatorLoss(network)

    def compute(sample: Sample) -> Answer:
        assert sample.truth is not None  # the definition asks for it
        with torch.no_grad():
            apart = distance(sample.result[None].cpu(), sample.truth[None].cpu())
        return float(apart), origin.warning or ""

    return Metric(_perceptual(options, told_weights(origin), smallest=network.facts.smallest), compute)


def lpips(weights: Path | None, net: Net = "alexnet") -> Metric:
    """LPIPS (Zhang et al. 2018, version 0.1).

    Args:
        weights: a file of the network's weights with those of LPIPS, as `zssr_gan.evaluation.metrics.features` wants
        them. None:
            by the authors' package `lpips`, where the environment has it and its network's weights are on this
            machine (`zssr_gan.evaluation.metrics.features`). Where neither can be had, every cell says why.
        net: whose features.
    """
    judge: Callable[[Tensor, Tensor], Tensor]
    try:
        if weights is None:
            judge, version = from_package(net)
            told = f"package lpips {version}"
        else:
            judge = LPIPS(net, read_tensors(weights))
            told = f"weights {weights.name} {sha256_file(weights)[:8]}"
    except WeightsError as error:
        told = "none given" if weights is None else weights.name
        return absent(_lpips(net, f"weights {told}"), reason(error))

    def compute(sample: Sample) -> Answer:
        assert sample.truth is not None  # the definition asks for it
        return judge(sample.result[None].cpu(), sample.truth[None].cpu()).item(), ""

    return Metric(_lpips(net, told), compute)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network saw in a set of images: `images` in number, `moments` by layer; or `why` it saw nothing."""

    images: int
    moments: dict[str, Moments]
    why: str = ""


class Frechet:
    """The Frechet distance between two sets of images, one figure a layer, on the features at every place.

    It wants no pairs, and has no interval: sets that are drawn anew from the images have fewer different ones, and a
    distance that is larger for that alone.

    Args:
        options: network and layers, of which each is a definition of its own.
        weights: as `zssr_gan.networks.pretrained.vgg` takes them; where they cannot be had, every figure says why.
        seed: of random weights.
    """

    def __init__(self, options: VGGOptions, weights: str, *, seed: int = 0) -> None:
        self._network: VGG | None = None
        self._said, told = "", weights
        try:
            self._network, origin = vgg(options, weights, seed=seed)
            self._said, told = origin.warning or "", told_weights(origin)
        except WeightsError as error:
            self._said = reason(error)
        name = options.network.upper()
        self.definitions = {
            layer: Definition(
                name=f"Frechet distance, {layer} of {name} at every place, weights {told}",
                meaning=f"squared Frechet distance (Dowson and Landau 1982) between the features of {name}'s {layer} "
                f"{_stage(options)} at every place of the one set's images and of the other's, weights {told}; it "
                "falls with the number of images, so that only sets of one size compare",
                unit="",
                higher_is_better=False,
                smallest=1 if self._network is None else self._network.facts.smallest,
            )
            for layer in options.layers
        }

    def look(self, images: Sequence[Tensor]) -> Seen:
        """What the network sees in images `C H W`, [0, 1], put on 8-bit levels; once for each set that is compared."""
        if self._network is None:
            return Seen(len(images), {}, self._said)
        if why := why_unseen(images, self._network.facts.smallest):
            return Seen(len(images), {}, why)
        return Seen(len(images), place_moments(self._network, map(rounded, images)))

    def figures(self, one: Seen, other: Seen) -> dict[str, Figure]:
        """By layer, the figure between two sets that this object looked at."""
        return {layer: apart(layer, one, other, self.definitions[layer], self._said) for layer in self.definitions}


def why_unseen(images: Sequence[Tensor], smallest: int) -> str:
    """Why a network that takes images of `smallest` pixels a side can see nothing of a set; empty where it can."""
    if not images:
        return "there are no images to look at"
    for image in images:
        if min(image.shape[-2:]) < smallest:
            return f"needs {smallest} pixels a side, and one image is {told_size(image)}"
        if not bool(image.isfinite().all()):
            return "one image holds NaN or infinity"
    return ""


def apart(
    layer: str, one: Seen, other: Seen, definition: Definition, warning: str = "", *, vector: str = "place"
) -> Figure:
    """The Frechet distance of two sets in a layer, with what weakens it.

    Args:
        layer: whose moments.
        one, other: the two sets.
        definition: of the figure.
        warning: what is said beside every value.
        vector: what one vector of features is of.
    """
    if why := one.why or other.why:
        return definition.none(why)
    mine, theirs = one.moments[layer], other.moments[layer]
    fewest = min(mine.count, theirs.count)
    if fewest < 2:
        return definition.none(f"a set with one {vector} has no covariance")
    said = [warning] if warning else []
    if one.images != other.images:
        said.append(f"sets of different sizes ({one.images} and {other.images} images)")
    if fewest <= len(mine.mean):
        said.append(f"a covariance without full rank ({fewest} {vector}s, {len(mine.mean)} features)")
    return Figure(definition.name, distance_of_moments(mine, theirs), "; ".join(said))


def told_weights(origin: Origin) -> str:
    """Which weights they are, for the name of a definition."""
    if origin.kind == "random":
        return f"RANDOM ({origin.source})"
    return f"{'imagenet' if origin.kind == 'imagenet' else origin.source} {origin.sha256[:8]}"


def _perceptual(options: VGGOptions, weights: str, *, smallest: int) -> Definition:
    name, layers = options.network.upper(), " + ".join(options.layers)
    return Definition(
        name=f"perceptual distance, {layers} of {name} {_stage(options)}, weights {weights}",
        meaning=f"mean squared difference of the features of {name}'s {layers} {_stage(options)} (Ledig et al. 2017), "
        f"weights {weights}",
        unit="",
        higher_is_better=False,
        needs=("truth",),
        smallest=smallest,
    )


def _lpips(net: Net, by: str) -> Definition:
    told = {"alexnet": "AlexNet", "vgg16": "VGG16"}[net]
    return Definition(
        name=f"LPIPS 0.1, {told}, {by}",
        meaning=f"learnt perceptual distance (Zhang et al. 2018, version 0.1) through {told}, {by}",
        unit="",
        higher_is_better=False,
        needs=("truth",),
        smallest=_LPIPS_SMALLEST[net],
    )


def _stage(options: VGGOptions) -> str:
    return "after the ReLU" if options.activated else "before the ReLU"


def reason(error: WeightsError) -> str:
    """An error's sentence as a cell says it."""
    return str(error).removesuffix(".")


# FID proper (Heusel et al. 2017): the Frechet distance on Inception's pool3, one vector of 2048 features an image.
#
# Its figures compare only with those of the same weights and of sets of the same size, and few images give no
# covariance
# of full rank: what an image set of a case can have is mostly the distance on places
# (`zssr_gan.evaluation.metrics.features`).


LAYER = "pool3"

_TOGETHER = 16  # images that go through at once: more need memory, and are no faster on a CPU


class FID:
    """The distance between two sets of images, of the same shape as `Frechet`: look once at each set, then compare.

    Args:
        weights: the port of the graph of 2015-12-05, .pth or .safetensors (`zssr_gan.networks.inception`); where
            there is none, or it is no such file, every figure says why.
        device: that Inception runs on.
    """

    def __init__(self, weights: Path | None, *, device: str | torch.device = "cpu") -> None:
        self._network: Inception | None = None
        self._why = "none given: evaluate.inception names a file"
        told = "none given"
        if weights is not None:
            told = weights.name
            try:
                self._network = Inception(read_tensors(weights)).to(device)
                told = f"{weights.name} {sha256_file(weights)[:8]}"
            except WeightsError as error:
                self._why = reason(error)
        self._device = device
        self.definitions = {
            LAYER: Definition(
                name=f"FID, Inception {LAYER} ({FEATURES}), weights {told}",
                meaning="squared Frechet distance (Heusel et al. 2017) between the one set's images and the other's, "
                f"of each the {FEATURES} features of Inception's {LAYER}, images brought to {SIDE}x{SIDE} by bilinear "
                f"interpolation without antialiasing, weights {told}; it falls with the number of images, so that only "
                "sets of one size compare",
                unit="",
                higher_is_better=False,
            )
        }

    def look(self, images: Sequence[Tensor]) -> Seen:
        """What Inception sees in images `C H W`, [0, 1], put on 8-bit levels; once for each set that is compared."""
        if self._network is None:
            return Seen(len(images), {}, self._why)
        if why := why_unseen(images, self._network.facts.smallest):
            return Seen(len(images), {}, why)
        if len(images) == 1:
            return Seen(1, {}, "a set with one image has no covariance")
        return Seen(len(images), {LAYER: moments_of(self._features(self._network, images))})

    def _features(self, network: Inception, images: Sequence[Tensor]) -> Tensor:
        """`N 2048`; images of one shape after another go through together."""
        found: list[Tensor] = []
        with torch.no_grad():
            at = 0
            while at < len(images):
                many = [rounded(images[at])]
                while len(many) < _TOGETHER and at + len(many) < len(images):
                    following = images[at + len(many)]
                    if following.shape != many[0].shape:
                        break
                    many.append(rounded(following))
                found.append(network(torch.stack(many).to(self._device))[LAYER].cpu())
                at += len(many)
        return torch.cat(found)

    def figures(self, one: Seen, other: Seen) -> dict[str, Figure]:
        """The figure between two sets that this object looked at, by the layer's name."""
        return {LAYER: apart(LAYER, one, other, self.definitions[LAYER], vector="image")}
