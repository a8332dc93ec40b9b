"""How far apart images look to networks that others trained: each definition names network, layers and weights.

Weights that are not there give a column that says so (`absent`); random ones (`zssr_gan.weights`) are named RANDOM,
and every figure made with them carries the warning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.frechet import Moments, distance_of_moments, place_moments
from zssr_gan.evaluation.lpips import LPIPS, Net
from zssr_gan.evaluation.lpips_package import from_package
from zssr_gan.evaluation.metric import Answer, Definition, Figure, Metric, Sample, absent, told_size
from zssr_gan.evaluation.planes import rounded
from zssr_gan.files import sha256_file
from zssr_gan.networks.vgg import VGG, VGGOptions
from zssr_gan.training.losses import MediatorLoss
from zssr_gan.weights import Origin, read_tensors, vgg

_LPIPS_SMALLEST = {"alexnet": 31, "vgg16": 16}
"""Four poolings leave a pixel."""


def perceptual(options: VGGOptions, weights: str, *, seed: int = 0) -> Metric:
    """Mean squared difference of features, as the mediator's loss has it (Moreira et al.; Ledig et al. 2017).

    Args:
        options: network and layers, of which the mean is taken.
        weights: as `zssr_gan.weights.vgg` takes them; where they cannot be had, every cell says why.
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
        weights: a file of the network's weights with those of LPIPS, as `zssr_gan.evaluation.lpips` wants them. None:
            by the authors' package `lpips`, where the environment has it and its network's weights are on this
            machine (`zssr_gan.evaluation.lpips_package`). Where neither can be had, every cell says why.
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
        weights: as `zssr_gan.weights.vgg` takes them; where they cannot be had, every figure says why.
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
