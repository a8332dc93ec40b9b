"""What is said of each method in benchmarks/unpaired.py: one row of figures, each by one definition.

Y is BT.601's (protocol.py). `truth`: PSNR on Y to the truths, of the faces that were trained on and of the `unseen`;
`SSIM`: of all. `to stage 1`: PSNR on Y of the unseen to their synthetic HR images (the question of the seed paper's
Table I). `LPIPS`: of the unseen to their truths, VGG16, version 0.1. `Frechet`: between the features at all places of
the results on seen faces and of the truths of the unseen, by layer of VGG16 (`zssr_gan.evaluation.frechet`), as a share
of these features' mean square. `residual`: PSNR in RGB of the results, degraded, to the inputs. `shift`: mean absolute
difference of each channel's mean between these two, levels of 255.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.protocol import Score, score
from zssr_gan.evaluation.frechet import frechet_distance, place_features
from zssr_gan.evaluation.lpips import LPIPS
from zssr_gan.evaluation.planes import rounded
from zssr_gan.imaging.psnr import psnr_db
from zssr_gan.imaging.resampling import Downscale
from zssr_gan.networks.vgg import VGG, VGGOptions
from zssr_gan.weights import read_tensors

LAYERS = ("conv2_2", "conv3_3", "conv4_3")
"""Features are 2, 4 and 8 pixels apart, and look at 14, 40 and 92 pixels."""


class Eyes:
    """Networks that judge images, from one file of weights (benchmarks/lpips_weights.py)."""

    def __init__(self, weights: Path) -> None:
        tensors = read_tensors(weights)
        self.lpips = LPIPS(tensors)
        self.features = VGG(VGGOptions("vgg16", LAYERS), tensors)


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
        return place_features(self.eyes.features, self.faces.truths[self.faces.seen :])

    def row(self, results: Tensor) -> dict[str, float]:
        """Figures of results `B 3 64 64`, first put on 8-bit levels as a file holds them."""
        faces, seen = self.faces, self.faces.seen
        results = rounded(results)
        scores = [score(one, truth) for one, truth in zip(results, faces.truths, strict=True)]
        closeness = [score(one, hr) for one, hr in zip(results[seen:], self.stage_1[seen:], strict=True)]
        shrunk = faces.downscale(results, (faces.lr.shape[-2], faces.lr.shape[-1]))
        mine = place_features(self.eyes.features, results[:seen])
        return {
            "truth, dB": mean(scores[:seen], lambda one: one.psnr),
            "unseen, dB": mean(scores[seen:], lambda one: one.psnr),
            "SSIM": mean(scores, lambda one: one.ssim),
            "to stage 1, dB": mean(closeness, lambda one: one.psnr),
            "LPIPS": float(self.eyes.lpips(results[seen:], faces.truths[seen:]).mean()),
            **{
                f"Frechet {layer}": frechet_distance(mine[layer], theirs) / float(theirs.square().sum(1).mean())
                for layer, theirs in self.others.items()
            },
            "residual, dB": float(np.mean([psnr_db(float(x.square().mean())) for x in shrunk - faces.lr])),
            "shift": float((shrunk - faces.lr).mean((2, 3)).abs().mean()) * 255,
        }


def mean(values: Sequence[Score], of: Callable[[Score], float]) -> float:
    """Mean of what `of` says."""
    return float(np.mean([of(one) for one in values]))
