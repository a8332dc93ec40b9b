"""Each generator learns one batch of two small faces by heart: a fault in a network shows as what it cannot learn."""

import math
from typing import Any

import pytest
import torch
from skimage import data

from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.registry import GENERATORS
from zssr_gan.settings.train import OptimiserSettings
from zssr_gan.training.losses import pixel_loss
from zssr_gan.training.optimisers import optimisers_of

SIDE = 16
WANTED_DB = 30.0
STEPS = 400
# The networks' own structure, of fewer channels, so that it takes seconds.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "srgan_x4": ("srgan", {"scale": 4, "expansion": 4, "width": 24, "blocks": 2, "skip_probability": 0.0}),
    "srgan_celeba": (
        "srgan",
        {"scale": 4, "width": 32, "blocks": 3, "skip_probability": 0.0, "activation": "relu", "output": "tanh"},
    ),
    "esrgan x2, unshuffled": ("esrgan", {"scale": 2, "unshuffle": 2, "width": 48, "growth": 16, "blocks": 1}),
    "srcnn": ("srcnn", {"scale": 2, "width": 16}),
    "autoencoder": ("autoencoder", {"scale": 1, "width": 16, "code_size": 64}),
    "autoencoder x2": ("autoencoder", {"scale": 2, "width": 16, "code_size": 64, "activation": "tanh"}),
    "dcgan": ("dcgan", {"scale": 4, "width": 24}),
}

SLOW = ("srgan_x4", "esrgan x2, unshuffled")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NETWORKS])
def test_it_learns_a_batch_by_heart(name: str) -> None:
    kind, options = NETWORKS[name]
    network = GENERATORS[kind](GENERATORS[kind].options_kind(channels=1, **options), torch.Generator().manual_seed(0))
    faces = torch.from_numpy(data.lfw_subset()[:2])[:, None].float()
    hr = resize(faces, (SIDE, SIDE)).clamp(0, 1)
    # At its own size: of its degraded copy, as the autoencoder's report has it.
    small = SIDE // max(2, options["scale"])
    lr = resize(resize(hr, (small, small)), (SIDE // options["scale"],) * 2).clamp(0, 1)
    optimisers = optimisers_of(network, OptimiserSettings(kind="muon", lr=3e-3), "generator")
    reached = -math.inf
    for step in range(STEPS):
        for optimiser in optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * (1 - step / STEPS)
        error = pixel_loss(network(lr), hr, "l2")
        reached = max(reached, psnr_db(error.item()))
        if reached >= WANTED_DB:
            break
        error.backward()
        for optimiser in optimisers:
            optimiser.step()
    assert reached >= WANTED_DB
