"""FID proper (Heusel et al. 2017): the Frechet distance on Inception's pool3, one vector of 2048 features an image.

Its figures compare only with those of the same weights and of sets of the same size, and few images give no covariance
of full rank: what an image set of a case can have is mostly the distance on places (`zssr_gan.evaluation.features`).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.features import Seen, apart, reason, why_unseen
from zssr_gan.evaluation.frechet import moments_of
from zssr_gan.evaluation.metric import Definition, Figure
from zssr_gan.evaluation.planes import rounded
from zssr_gan.files import sha256_file
from zssr_gan.networks.inception import FEATURES, SIDE, Inception
from zssr_gan.weights import read_tensors

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
