"""Frechet distance between two sets of images, in features of a network, each set taken for a normal distribution.

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982). `frechet` compares the features at every
place of every image (Shaham et al. 2019, SIFID, on one image), which gives a covariance of full rank to a few hundred
small images but measures textures alone; `fid` one vector an image of Inception's pool3 (Heusel et al. 2017). Only
figures of the same weights and of sets of the same size compare.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.metrics.metric import Definition, Figure, size_text
from zssr_gan.evaluation.metrics.perceptual import feature_network, reason, stage_text
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.files import sha256_file
from zssr_gan.networks.inception import FEATURES, SIDE, Inception
from zssr_gan.networks.pretrained import read_tensors
from zssr_gan.networks.vgg import VGGOptions

POOL = "pool3"

_BATCH = 16  # images through Inception at once: more need memory, and are no faster on a CPU

_SIZES = "it falls with the number of images, so that only sets of one size compare"


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Number of vectors, their mean `D` and their covariance `D D` (n - 1; 0 of a single one), float64, on the CPU."""

    count: int
    mean: Tensor
    covariance: Tensor


def moments(batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Moments]:
    """Moments of vectors `N D` by layer, batch after batch: they need not lie in memory at once (Chan et al. 1979)."""
    sums: dict[str, Moments] = {}  # `covariance` is the sum of squares until the end
    for batch in batches:
        for layer, features in batch.items():
            vectors = features.double().cpu()
            mean = vectors.mean(0)
            new = Moments(len(vectors), mean, (vectors - mean).T @ (vectors - mean))
            if (one := sums.get(layer)) is not None:
                count, apart = one.count + new.count, new.mean - one.mean
                between = torch.outer(apart, apart) * (one.count * new.count / count)
                new = Moments(count, one.mean + apart * (new.count / count), one.covariance + new.covariance + between)
            sums[layer] = new
    return {layer: Moments(one.count, one.mean, one.covariance / max(one.count - 1, 1)) for layer, one in sums.items()}


def frechet_distance(one: Moments, other: Moments) -> float:
    """d^2 between two sets of at least two vectors each, of one length, in the features' own units."""
    values, vectors = torch.linalg.eigh(one.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # rounding's negative eigenvalues count as zero
    # Only the trace of (S1 S2)^(1/2) is needed, and S1 S2 has the eigenvalues of this symmetric matrix.
    both = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    apart = (one.mean - other.mean).square().sum()
    return float(apart + one.covariance.trace() + other.covariance.trace() - 2 * both)


@dataclass(frozen=True, slots=True)
class Features:
    """Moments of a set of `images` images by layer, or `why` there are none."""

    images: int
    moments: dict[str, Moments]
    why: str = ""


@dataclass(frozen=True, slots=True)
class SetMetric:
    """Distance between two sets of images, one figure a layer.

    It needs no pairs and has no interval: a resampled set holds fewer different images, which alone raises it.
    """

    definitions: dict[str, Definition]
    """By layer."""
    vectors: Callable[[Sequence[Tensor]], Iterable[Mapping[str, Tensor]]] | None
    """Of images on 8-bit levels, batch after batch, `N D` by layer; None: there are no weights."""
    kind: str
    """What one vector describes: "place" or "image"."""
    remark: str = ""
    """On every value, or why there is none."""

    def look(self, images: Sequence[Tensor]) -> Features:
        """Features of images `C H W`, [0, 1], put on 8-bit levels; once for each set that is compared."""
        smallest = max(one.smallest for one in self.definitions.values())
        small = [image for image in images if min(image.shape[-2:]) < smallest]
        if self.vectors is None:
            why = self.remark
        elif not images:
            why = "there are no images to look at"
        elif small:
            why = f"needs {smallest} pixels a side, and one image is {size_text(small[0])}"
        elif not all(image.isfinite().all() for image in images):
            why = "one image holds NaN or infinity"
        else:
            return Features(len(images), moments(self.vectors([rounded(image) for image in images])))
        return Features(len(images), {}, why)

    def figures(self, one: Features, other: Features) -> list[Figure]:
        """Of each layer, the figure between two sets, with a remark on what weakens it."""
        return [self._figure(layer, definition, one, other) for layer, definition in self.definitions.items()]

    def _figure(self, layer: str, definition: Definition, one: Features, other: Features) -> Figure:
        if why := one.why or other.why:
            return definition.none(why)
        mine, theirs = one.moments[layer], other.moments[layer]
        fewest = min(mine.count, theirs.count)
        if fewest < 2:
            return definition.none(f"a set with one {self.kind} has no covariance")
        remarks = [self.remark] if self.remark else []
        if one.images != other.images:
            remarks.append(f"sets of different sizes ({one.images} and {other.images} images)")
        if fewest <= len(mine.mean):
            remarks.append(f"a covariance without full rank ({fewest} {self.kind}s, {len(mine.mean)} features)")
        return Figure(definition.name, frechet_distance(mine, theirs), "; ".join(remarks))


def frechet(options: VGGOptions, weights: str, *, seed: int = 0) -> SetMetric:
    """Distance in VGG's features at every place, one figure for each layer; without weights, every figure says why."""
    network, shown, remark = feature_network(options, weights, seed)
    name, smallest = options.network.upper(), 1 if network is None else network.facts.smallest
    definitions = {
        layer: Definition(
            f"Frechet distance, {layer} of {name} at every place, weights {shown}",
            f"squared Frechet distance (Dowson and Landau 1982) between the features of {name}'s {layer} "
            f"{stage_text(options)} at every place of the one set's images and of the other's, weights {shown}; "
            f"{_SIZES}",
            unit="",
            higher_is_better=False,
            smallest=smallest,
        )
        for layer in options.layers
    }
    if network is None:
        return SetMetric(definitions, None, "place", remark)

    @torch.no_grad()
    def vectors(images: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
        for image in images:
            yield {layer: values[0].flatten(1).T for layer, values in network(image[None]).items()}

    return SetMetric(definitions, vectors, "place", remark)


def fid(weights: Path | None, *, device: str | torch.device = "cpu") -> SetMetric:
    """FID by the port of the graph of 2015-12-05 (`zssr_gan.networks.inception`); without it, every figure says why."""
    network, why, shown = None, "none given: evaluate.inception names a file", "none given"
    try:
        if weights is not None:
            shown = weights.name
            network = Inception(read_tensors(weights)).to(device)
            shown += f" {sha256_file(weights)[:8]}"
    except WeightsError as error:
        why = reason(error)
    definition = Definition(
        f"FID, Inception {POOL} ({FEATURES}), weights {shown}",
        "squared Frechet distance (Heusel et al. 2017) between the one set's images and the other's, of each the "
        f"{FEATURES} features of Inception's {POOL}, images brought to {SIDE}x{SIDE} by bilinear interpolation without "
        f"antialiasing, weights {shown}; {_SIZES}",
        unit="",
        higher_is_better=False,
        smallest=1 if network is None else network.facts.smallest,
    )
    if network is None:
        return SetMetric({POOL: definition}, None, "image", why)
    inception = network

    @torch.no_grad()
    def vectors(images: Sequence[Tensor]) -> Iterator[Mapping[str, Tensor]]:
        for _, group in groupby(images, key=lambda image: image.shape):
            alike = list(group)
            for at in range(0, len(alike), _BATCH):
                yield inception(torch.stack(alike[at : at + _BATCH]).to(device))

    return SetMetric({POOL: definition}, vectors, "image")
