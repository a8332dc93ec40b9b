"""What is said of each method in benchmarks/unpaired.py: one row of figures, each by one definition.

Y is BT.601's (protocol.py). `truth`: PSNR on Y to the truths, of the faces that were trained on and of the `unseen`;
`SSIM`: of all. `to stage 1`: PSNR on Y of the unseen to their synthetic HR images (the question of the seed paper's
Table I). `LPIPS`: of the unseen to their truths, AlexNet, version 0.1. `Frechet`: between the features at all places of
the results on seen faces and of the truths of the unseen, by network and layer
(`zssr_gan.evaluation.metrics.frechet`), as a
share of these features' mean square. `residual`: PSNR in RGB of the results, degraded, to the inputs. `shift`: mean
absolute difference of each channel's mean between these two, levels of 255. A generator whose mediator is VGG16 was
trained to please VGG16: AlexNet is the one that has not seen it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.protocol import Score, score
from zssr_gan.degradation.operators import Downscale
from zssr_gan.evaluation.metrics.frechet import frechet_distance, moments, place_features
from zssr_gan.evaluation.metrics.perceptual import LPIPS
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.networks.pretrained import read_tensors
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions

VGG16_LAYERS = ("conv2_2", "conv3_3")


class Eyes:
    """Networks that judge images, from the files that benchmarks/lpips_weights.py writes into a folder."""

    def __init__(self, folder: Path) -> None:
        alexnet = read_tensors(folder / "alexnet.safetensors")
        self.lpips = LPIPS("alexnet", alexnet)
        self.networks = (
            ("AlexNet", AlexNet(alexnet), ("conv1", "conv2")),
            ("VGG16", VGG(VGGOptions("vgg16", VGG16_LAYERS), read_tensors(folder / "vgg16.safetensors")), VGG16_LAYERS),
        )

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """At every place of images `B C H W`, by network and layer: `N C'`."""
        found: dict[str, Tensor] = {}
        for name, network, layers in self.networks:
            made = list(place_features(network, images))
            found |= {f"{name} {layer}": torch.cat([one[layer] for one in made]).double() for layer in layers}
        return found


@dataclass(frozen=True)
class Faces:
    """A case: truths `B 3 64 64`, what a camera made of them `B 3 32 32`, and what is known of the camera.

    The last `unseen` are trained on by no generator; their truths are the true faces of other people.
    """

    truths: Tensor
    lr: Tensor
    downscale: Downscale
    unseen: int

    @property
    def seen(self) -> int:
        """How many are trained on."""
        return len(self.truths) - self.unseen


@dataclass(frozen=True)
class Judge:
    """Compares results of a case with its truths, and with those of stage 1."""

    faces: Faces
    stage_1: Tensor
    eyes: Eyes

    @cached_property
    def others(self) -> dict[str, Tensor]:
        """Features of true faces that nobody was trained on."""
        return self.eyes.features(self.faces.truths[self.faces.seen :])

    def row(self, results: Tensor) -> dict[str, float]:
        """Figures of results `B 3 64 64`, first put on 8-bit levels as a file holds them."""
        faces, seen = self.faces, self.faces.seen
        results = rounded(results)
        scores = [score(one, truth) for one, truth in zip(results, faces.truths, strict=True)]
        closeness = [score(one, hr) for one, hr in zip(results[seen:], self.stage_1[seen:], strict=True)]
        shrunk = faces.downscale(results, (faces.lr.shape[-2], faces.lr.shape[-1]))
        of_mine, of_theirs = (moments([one]) for one in (self.eyes.features(results[:seen]), self.others))
        return {
            "truth, dB": mean(scores[:seen], lambda one: one.psnr),
            "unseen, dB": mean(scores[seen:], lambda one: one.psnr),
            "SSIM": mean(scores, lambda one: one.ssim),
            "to stage 1, dB": mean(closeness, lambda one: one.psnr),
            "LPIPS": float(self.eyes.lpips(results[seen:], faces.truths[seen:]).mean()),
            **{
                f"Frechet {layer}": frechet_distance(of_mine[layer], of_theirs[layer])
                / float(theirs.square().sum(1).mean())
                for layer, theirs in self.others.items()
            },
            "residual, dB": float(np.mean([psnr_db(float(x.square().mean())) for x in shrunk - faces.lr])),
            "shift": float((shrunk - faces.lr).mean((2, 3)).abs().mean()) * 255,
        }


def mean(values: Sequence[Score], of: Callable[[Score], float]) -> float:
    """Mean of what `of` says."""
    return float(np.mean([of(one) for one in values]))
