"""A training small enough for a test: generated patterns instead of faces, networks of a few hundred weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training import validation
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop
from zssr_gan.training.sampling import Images

TINY = {
    "generator": {"options": {"width": 4, "blocks": 2, "skip_probability": 0.4}},
    "discriminator": {"options": {"width": 4, "blocks": 2, "head": "adaptive", "hidden": 4}},
    "images": "zssr",
    "losses": {"mediator": 0.0, "pixel": 1.0, "consistency": 1.0, "reference": "synthetic"},
    "optimiser": {"kind": "muon", "lr": 1e-3, "schedule": "cosine", "clip": 1.0},
    "batch": 4,
    "patch": 8,
    "pretrain": 2,
    "epochs": 3,
    "ema": 0.9,
    "validation": {"images": 2},
    "every": {"log": 1, "validation": 5, "checkpoint": 4, "samples": 100},
}


def images_of(count: int, first: int = 0) -> Images:
    """Random smooth gray pairs of 10 and 20 px."""
    draws = torch.Generator().manual_seed(first)
    hr = resize(torch.rand(count, 1, 6, 6, generator=draws), (20, 20)).clamp(0, 1)
    lr = resize(hr, (10, 10)).clamp(0, 1)
    levels = [tuple((x * 255).round().to(torch.uint8)) for x in (lr, hr)]
    return Images(tuple(f"{first + n:03}" for n in range(count)), levels[0], levels[1], (0,) * count)


def stop_at(step: int) -> Callable[..., None]:
    """Ctrl-C, as it comes between two steps."""

    def watch(done: int, *_: object) -> None:
        if done == step:
            raise KeyboardInterrupt

    return watch


@pytest.fixture(autouse=True, scope="module")
def _few_norm_batches() -> Iterator[None]:
    """A generator's statistics are of 2 batches in place of 32, which take as long as the steps of a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "_NORM_BATCHES", 2)
        yield


@pytest.fixture
def data() -> TrainingData:
    both = images_of(10)
    return TrainingData(both, both, images_of(3, 100), (BicubicDownscale(),), 1, 2)


@pytest.fixture
def make_loop(data: TrainingData, tmp_path: Path) -> Callable[..., Loop]:
    """A loop in a folder of that name; other settings replace the tiny ones, group by group."""

    def make(
        name: str = "train",
        callbacks: Callbacks | None = None,
        seed: int = 0,
        precision: str = "fp32",
        device: str = "cpu",
        **changes: Any,
    ) -> Loop:
        groups = {
            **TINY,
            **{key: {**TINY.get(key, {}), **new} if isinstance(new, dict) else new for key, new in changes.items()},
        }  # type: ignore[dict-item]
        return Loop(
            TrainSettings.model_validate(groups),
            data,
            None,
            seed=seed,
            machine=Machine(torch.device(device), precision, 1, 512),
            folder=tmp_path / name,
            facts={"seed": seed, "batch": groups["batch"]},
            callbacks=callbacks or Callbacks(),
        )

    return make
