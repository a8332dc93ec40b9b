"""Synthetic HR images of prepared ones: what is kept of each, and that one bad file costs one image."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.trees import prepared, source
from tests.estimates import NARROW, WIDE, estimate_of
from zssr_gan.data.cameras import Cameras, CaseDegradations, GroupEstimate
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.synthesis import Synthesiser
from zssr_gan.degradation.model import Degradation
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot.scheduler import Tick

MACHINE = Machine(torch.device("cpu"), "fp32", 1, 512)
SETTINGS = parse_settings(
    {
        "network": {"depth": 2, "width": 4, "initial": "lecun"},
        "pairs": {"crop": 8, "batch": 1},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 3},
        "refinement": {"back_projections": 2},
        "shared": {"schedule": {"kind": "cosine", "lr": 0.003, "iterations": 3}},
    },
    "test",
)


@pytest.fixture
def images(tmp_path: Path, astronaut: Tensor) -> Prepared:
    """Six real images of two sizes, the first one gray, the second one with 16 bits."""
    folder = tmp_path / "faces"
    folder.mkdir()
    levels = astronaut.mul(255).round().byte().permute(1, 2, 0).numpy()
    for number in range(6):
        part = levels[8 * number : 8 * number + 12, 20 : 32 + 4 * (number % 2)]
        if number == 1:
            Image.fromarray(part[..., 0].astype(np.uint16) * 257).save(folder / "1.png")
        else:
            Image.fromarray(part).convert("L" if number == 0 else "RGB").save(folder / f"{number}.png")
    return prepared(source(folder), size=None, train=0.6, roles=(4, 0, 2, 0))


def synthesiser(images: Prepared, settings: ZeroShotSettings = SETTINGS, **more: object) -> Synthesiser:
    return Synthesiser(images, settings, (2.0, 2.0), 0, MACHINE, **more)  # type: ignore[arg-type]


def make(made_by: Synthesiser, numbers: Sequence[int] = range(6), capacity: int = 3) -> list[StoredImage]:
    """All of these, in the order of their numbers."""
    made = sorted(made_by.run(numbers, capacity), key=lambda one: one.id)
    assert [one.id for one in made] == [made_by.images.ids[number] for number in numbers]
    assert all(isinstance(one, StoredImage) for one in made)
    return made  # type: ignore[return-value]


def learnt_from(images: Prepared, which: Degradation, numbers: Sequence[int]) -> Cameras:
    """One degradation for all images, estimated from some of them."""
    named = [CaseImage(name=images.ids[n], sha256=images.member(n).sha256) for n in numbers]
    group = GroupEstimate(group="folder", estimate=estimate_of(which, named))
    return Cameras(CaseDegradations(seed=0, size=None, groups=(group,)))


def residual_db(one: StoredImage, lr: Tensor, degradation: Degradation) -> float:
    """Of the pixels that are kept."""
    sr = torch.from_numpy(one.sr).permute(2, 0, 1).float() / 255
    downscale = BicubicDownscale() if degradation == Degradation() else degradation.downscale
    error = (downscale(sr[None], (lr.shape[-2], lr.shape[-1]))[0] - lr).square().mean()
    return -10 * math.log10(float(error))


def test_all_that_is_known_of_an_image_is_kept(images: Prepared) -> None:
    for number, one in enumerate(make(synthesiser(images))):
        lr, member, figures = images.image(number), images.member(number), one.figures
        assert one.lr.dtype == one.sr.dtype == np.uint8
        assert np.array_equal(one.lr, lr.mul(255).round().byte().permute(1, 2, 0).numpy())
        assert one.sr.shape == (2 * one.lr.shape[0], 2 * one.lr.shape[1], one.lr.shape[2])
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
        assert figures["role"] == member.role in ("zssr", "table1")
        assert figures["source_sha256"] == member.sha256
        for key, value in {
            "label": "internal",
            "source": "folder",
            "iterations": 3,
            "device": "cpu",
            "precision": "fp32",
            "threads": 1,
            "fleet": 3,
            "notices": ["Its 16 bits were reduced to 8."] if number == 1 else [],
        }.items():
            assert figures[key] == value
        assert isinstance(figures["seeds"], list)
        assert len(figures["seeds"]) == 1
        assert isinstance(figures["loss"], float)
        assert 0 < figures["loss"] < 1
        assert figures["residual_db"] == pytest.approx(residual_db(one, lr, Degradation()), abs=0.01)


class TestDegradations:
    """Each image is made by its own camera's; the label says from what that is known."""

    def test_it_changes_the_image_and_not_the_draws(self, images: Prepared) -> None:
        made, plain = make(synthesiser(images, cameras=learnt_from(images, WIDE, range(4)))), make(synthesiser(images))
        for number, (one, other) in enumerate(zip(made, plain, strict=True)):
            assert one.figures["degradation"] == {"group": "folder", "sha256": WIDE.sha256}
            assert other.figures["degradation"] == {"group": None, "sha256": Degradation().sha256}
            assert one.figures["seeds"] == other.figures["seeds"]
            assert not np.array_equal(one.sr, other.sr)
            assert one.figures["residual_db"] == pytest.approx(residual_db(one, images.image(number), WIDE), abs=0.01)

    @pytest.mark.parametrize(
        ("which", "numbers", "label"),
        [(WIDE, [1, 2], "case"), (Degradation(), [1, 2], "case"), (NARROW, [], "internal"), (NARROW, [0], "internal")],
        ids=["of others", "bicubic of others", "known", "of itself"],
    )
    def test_labels(self, images: Prepared, which: Degradation, numbers: list[int], label: str) -> None:
        (made,) = make(synthesiser(images, cameras=learnt_from(images, which, numbers)), [0], 1)
        assert made.figures["label"] == label

    def test_images_of_one_degradation_share_a_fleet(self, images: Prepared) -> None:
        ticks: list[Tick] = []
        same = [n for n in range(len(images)) if images.image(n).shape == images.image(2).shape]
        list(synthesiser(images, cameras=learnt_from(images, WIDE, [])).run(same, 8, on_tick=ticks.append))
        assert max(tick.active for tick in ticks) == len(same) > 1


def test_images_are_read_as_places_become_free(images: Prepared) -> None:
    taken: list[int] = []
    ticks: list[Tick] = []

    def numbers() -> Iterator[int]:
        for number in range(len(images)):
            taken.append(number)
            yield number

    made = synthesiser(images).run(numbers(), 1, on_tick=ticks.append)
    next(made)
    assert len(taken) < len(images)
    list(made)
    assert sum(tick.steps for tick in ticks) == 3 * len(images)
