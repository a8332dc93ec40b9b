"""Generators as files, small enough for a test: their weights are drawn, not learnt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zssr_gan.degradation.model import Degradation
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.srgan import SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.training.model_card import CameraCard, Card, ImageList, options_of, write_generator

LISTED = {"inputs": {f"set/{n}.png": f"{n:064}" for n in range(7)}}


def written_generator(
    folder: Path,
    facts: dict[str, Any] | None = None,
    seed: int = 0,
    listed: Mapping[str, Mapping[str, str]] = LISTED,
    network: GeneratorNetwork | None = None,
    **options: Any,
) -> Path:
    """A generator's file in a folder that is made; `facts` replace those of its card; `listed`: its images; `network`:
    one that is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = SRGANGeneratorOptions(**{"width": 4, "blocks": 1, "residual": True, **options})
    network = network or SRGANGenerator(chosen, torch.Generator().manual_seed(seed)).eval()
    card = {
        **{"name": "srgan", "options": dict(options_of(network)), "split_sha256": "", "store_sha256": ""},
        **{
            "cameras": [CameraCard.of(Degradation())],
            "images": {name: ImageList.of(files) for name, files in listed.items()},
            "mediator": None,
            "settings": {},
            "seed": 0,
        },
        **{"step": 5, "steps": 9, "phase": "pretrain", "metrics": {}, "mean_weights": True},
        **{"precision": "fp32", "device": "cpu", "versions": {}},
    }
    return write_generator(folder, network, Card.model_validate(card | (facts or {})), listed)
