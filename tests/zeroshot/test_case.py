"""What a set of LR images teaches together: a degradation for each camera, and one network for all."""

import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import RunOptions, machine
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import parse_settings
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr
from zssr_gan.zeroshot.shared import learn_shared

SETTINGS = parse_settings(
    {"network": {"depth": 2, "width": 4, "grid": "lr"}, "schedule": {"kind": "cosine", "iterations": 2}}, "test"
).for_case()


def images_of(face: Tensor, astronaut: Tensor) -> list[LRImage]:
    pixels = {"a": face, "b": astronaut[:1], "tiny": face[:, :6, :6]}
    return [
        read_lr(CaseImage(name=name, sha256=name * 64), image, None, camera="AB"[n % 2])
        for n, (name, image) in enumerate(pixels.items())
    ]


def test_each_camera_has_an_estimate_and_all_images_one_network(face: Tensor, astronaut: Tensor) -> None:
    images = images_of(face, astronaut)
    with machine(RunOptions("cpu", threads=1)) as used:
        both = learn_case(images, seed=0, settings=SETTINGS, machine=used)
    assert {name: len(estimate.images) for name, estimate in both.estimates.items()} == {"A": 2, "B": 1}
    assert both.shared is not None
    assert [image.name for image in both.shared.facts.images] == ["a", "b"]


def test_a_given_degradation_is_not_estimated(face: Tensor, astronaut: Tensor) -> None:
    images = images_of(face, astronaut)
    with machine(RunOptions("cpu", threads=1)) as used:
        case = learn_case(images, seed=0, degradations=BicubicDownscale(), settings=SETTINGS, machine=used)
        named = [(one.image, one.pixels) for one in images[:2]]
        plain = learn_shared(named, SETTINGS, (2, 2), BicubicDownscale(), seed=0, machine=used)
    assert case.shared is not None
    assert not case.estimates
    assert torch.equal(case.shared.weights_P, plain.weights_P)
    assert not learn_case(images, seed=0, degradations=BicubicDownscale()).shared
