"""Images that go through networks together are those that each gives alone, and none spoils the others."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale
from zssr_gan.devices import Machine
from zssr_gan.errors import NumericalError
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import apply, scheduler
from zssr_gan.zeroshot.apply import ApplyRequest, ApplyResult, apply_networks
from zssr_gan.zeroshot.fleet import make_network
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.selection import fold_map
from zssr_gan.zeroshot.upscale import upscale

BLUR = Degradation(
    blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30),
    noise=Noise(sigma=0.01),
    jpeg=Jpeg.of_quality(90),
).downscale
CAMERAS = {"bicubic": BicubicDownscale(), "blur": BLUR}
MACHINE = Machine(torch.device("cpu"), "fp32", 1, 512)


def settings(grid: str = "lr", members: int = 2, each: int = 0) -> ZeroShotSettings:
    groups = {
        "network": {"depth": 3, "width": 4, "grid": grid, "initial": "lecun"},
        "pairs": {"crop": 16, "batch": 1},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 3},
        "refinement": {"member_back_projections": each, "back_projections": 3},
        "choice": {"folds": 2},
        "networks": members,
    }
    return parse_settings(groups, "test")


def images(count: int) -> list[Tensor]:
    small = torch.rand(count, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    return list(resize(small, (20, 17)).clamp(0, 1))


def requests(chosen: ZeroShotSettings, downscale: Downscale, *, shared: bool = False) -> list[ApplyRequest]:
    task = Task.of((2.0, 2.0), chosen.network.grid, downscale)
    case = make_network(chosen, 3, task.factor, [7])

    def own(n: int) -> ZSSR:
        return make_network(chosen, 3, task.factor, [2 * n, 2 * n + 1])

    folds = None if shared else fold_map((20, 17), 2)
    return [
        ApplyRequest(case if shared else own(n), shared, image, image, (40, 34), task, chosen, folds, "because", 512)
        for n, image in enumerate(images(3))
    ]


def alone(request: ApplyRequest) -> ApplyResult:
    (made,) = apply_networks([request], 1)
    assert isinstance(made, ApplyResult)
    return made


def assert_alike(made: object, expected: ApplyResult) -> None:
    assert isinstance(made, ApplyResult)
    assert torch.allclose(made.image_CHW, expected.image_CHW, atol=1e-5)
    apart = (made.disagreement_HW - expected.disagreement_HW).abs().max()
    assert float(apart) <= 0.01 * max(1, float(expected.disagreement_HW.max()))
    assert made.selection.why == expected.selection.why
    assert made.selection.network_db == pytest.approx(expected.selection.network_db, abs=1e-3)
    assert made.selection.share == pytest.approx(expected.selection.share, abs=1e-4)
    assert (made.diverged, made.tile) == (expected.diverged, expected.tile)
    assert made.deviation == pytest.approx(expected.deviation, abs=1e-5)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize(("grid", "each"), [("lr", 0), ("interpolated", 0), ("interpolated", 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_together_as_alone(grid: str, each: int, shared: bool, camera: str) -> None:
    asked = requests(settings(grid, each=each), CAMERAS[camera], shared=shared)
    assert len({one.batch_key for one in asked}) == 1
    expected = [alone(one) for one in asked]
    assert expected[0].selection.held_out is not shared
    for made, one in zip(apply_networks(asked, 5), expected, strict=True):
        assert_alike(made, one)


def test_a_full_pass_of_a_shared_model_has_the_same_bytes_whoever_is_in_it() -> None:
    one, two, three = requests(settings(), BLUR, shared=True)
    first = [apply_networks(some, 3)[0] for some in ([one], [one, two], [one, three, two])]
    bytes_of = [made.image_CHW.numpy().tobytes() for made in first if isinstance(made, ApplyResult)]
    assert len(bytes_of) == 3
    assert len(set(bytes_of)) == 1


def test_none_spoils_the_others() -> None:
    good, far, dead = requests(settings(), CAMERAS["bicubic"])
    broken = replace(good, network=make_network(good.settings, 3, (2, 2), [1, 2]))
    with torch.no_grad():
        far.network.weights_NP *= 20
        broken.network.weights_NP[1, 3] = torch.nan
    dead = replace(dead, dead=True)
    expected = [alone(one) for one in (good, far, dead)]
    assert [one.diverged for one in expected] == [False, True, False]
    assert "died" in expected[2].selection.why
    *made, error = apply_networks([good, far, dead, broken], 8)
    for found, one in zip(made, expected, strict=True):
        assert_alike(found, one)
    assert isinstance(error, NumericalError)
    plain = apply_networks([replace(far, dead=True)], 1)[0]
    assert isinstance(plain, ApplyResult)
    assert torch.equal(plain.image_CHW, expected[1].image_CHW)


@pytest.mark.parametrize("room", [99, 2], ids=["room for all", "too little memory for several"])
def test_jobs_that_stop_together(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> list[Tensor]:
        jobs = ((n, upscale(one, (2.0, 2.0), settings(), BLUR, MACHINE, seed=0)) for n, one in enumerate(images(3)))
        ended = sorted(run_jobs(jobs, 6), key=lambda one: one.key)
        return [one.result.image_CHW for one in ended if one.result is not None]

    expected, passes = made(), list[int]()

    def recorded(some: list[ApplyRequest], places: int) -> list[ApplyResult | Exception]:
        passes.append(len(some))
        if len(some) > room:
            raise torch.OutOfMemoryError("too much")
        return [*apply_networks(some, places)]

    monkeypatch.setattr(apply, "_PIXELS_TOGETHER", {"cpu": 2**12})
    monkeypatch.setattr(scheduler, "apply_networks", recorded)
    for one, other in zip(made(), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert passes == ([3] if room > 3 else [3, 1, 1, 1])
