"""From an image to the asked size: sizes, steps, kernels, gradual steps, the selection, and what is reported."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale, back_project
from zssr_gan.devices import Machine
from zssr_gan.imaging.resize import enlarged_size, resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.progress import Progress
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import apply
from zssr_gan.zeroshot import upscale as module
from zssr_gan.zeroshot.scheduler import run_single
from zssr_gan.zeroshot.upscale import SuperResolved, upscale

BICUBIC = BicubicDownscale()
KERNEL = torch.tensor(np.outer([1, 3, 1, 1], [1, 3, 1, 1]))
LR_GRID = {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"}
pytestmark = pytest.mark.usefixtures("single_start")


def settings(**changes: object) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 2, "width": 4, "initial": "lecun"},
        "pairs": {"crop": 16, "batch": 1},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 2},
        "refinement": {"back_projections": 2},
    }
    return parse_settings({**groups, **changes}, "test")


def run(
    image: Tensor,
    scale: tuple[float, float] = (2.0, 2.0),
    chosen: ZeroShotSettings | None = None,
    downscale: Downscale = BICUBIC,
    *,
    seed: int = 0,
    tile: int = 512,
    seen: list[Progress] | None = None,
) -> SuperResolved:
    machine = Machine(torch.device("cpu"), "fp32", 1, tile)
    on_progress = None if seen is None else seen.append
    return run_single(
        upscale(image, scale, chosen or settings(), downscale, machine, seed=seed, on_progress=on_progress)
    )


def named(done: SuperResolved, name: str) -> list[dict[str, Any]]:
    return [one for one in done.steps if one["name"] == name]


class TestSizes:
    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2, 2), (1.5, 1.5), (2, 1.3), (1, 2), (1.02, 1.02), (4.5, 2.25), (8, 8)])
    def test_any_scale(self, grid: str, scale: tuple[float, float], face: Tensor) -> None:
        done = run(face[:, :9, :13], scale, settings(network={**LR_GRID, "grid": grid}))
        size = enlarged_size((9, 13), scale)
        assert done.image_CHW.shape == (1, *size)
        assert done.disagreement_HW.shape == size
        assert 0 <= float(done.image_CHW.min()) <= float(done.image_CHW.max()) <= 1

    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2, 2), (2, 3), (4, 1)])
    @pytest.mark.parametrize("phases", [False, True])
    def test_with_a_kernel(self, grid: str, scale: tuple[int, int], phases: bool, face: Tensor) -> None:
        chosen = settings(
            network={**LR_GRID, "grid": grid},
            pairs={"crop": 16, "batch": 1, "phases": phases},
            refinement={"back_projections": 10},
        )
        done = run(face, scale, chosen, KernelDownscale(KERNEL, scale))
        assert done.image_CHW.shape == (1, 25 * scale[0], 25 * scale[1])
        assert [one["name"] for one in done.steps] == ["train", "apply", "refine"]
        assert done.steps[0]["downscale"] == "kernel"
        assert done.steps[2]["back_projections"] == 2

    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    def test_the_smallest(self, grid: str) -> None:
        chosen = settings(
            network={**LR_GRID, "grid": grid},
            pairs={"crop": 64, "batch": 2, "phases": True, "affine": 0.5},
            steps={"gradual": [[1, 1], [1, 1]]},
        )
        image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
        assert run(image, (2, 2), chosen).image_CHW.shape == (3, 16, 16)


class TestSteps:
    def test_large_scales_are_taken_step_by_step(self, face: Tensor) -> None:
        seen: list[Progress] = []
        done = run(face, (3, 3), settings(choice={"folds": 2}), seen=seen)
        assert [one["name"] for one in done.steps] == ["train", "apply", "refine"] * 2
        assert [one["size"] for one in named(done, "apply")] == [[43, 43], [75, 75]]
        stages = list(dict.fromkeys(now.stage for now in seen))
        whats = ("learning from the picture", "enlarging it")
        assert stages == [f"{what}, step {n} of 2" for n in (1, 2) for what in whats]
        assert done.selection.share == min(one["choice"]["share"] for one in named(done, "refine"))
        assert "of 2" in done.selection.why

    def test_the_whole_agrees_with_the_image_given(self, astronaut: Tensor) -> None:
        """Not with the last step's image only."""
        image = astronaut[:, :32, :32]
        done = run(image, (4, 4), settings(refinement={"back_projections": 8}))
        error = (resize(done.image_CHW, (32, 32)) - image).square().mean().sqrt() * 255
        assert error < 0.1  # level; 0.3 where only each step agrees with the one before

    @pytest.mark.parametrize(
        ("grid", "gradual"),
        [
            ("interpolated", [[0, 0.5], [0.5, 0], [0.5, 0.5], [0.5, 1], [1, 0.5], [1, 1]]),
            ("lr", [[1, 1], [1, 1]]),
            ("lr", [[0, 1], [1, 1]]),  # through another factor, to which weights cannot go
        ],
    )
    def test_gradual_steps_are_learnt_from(self, grid: str, gradual: list[list[float]], face: Tensor) -> None:
        seen: list[Progress] = []
        chosen = settings(steps={"gradual": gradual}, network={**LR_GRID, "grid": grid})
        done = run(face, (2, 2), chosen, seen=seen)
        assert [one["images_learnt_from"] for one in named(done, "train")] == list(range(1, len(gradual) + 1))
        assert done.image_CHW.shape == (1, 50, 50)
        count = len(gradual)
        expected = {f"learning from the picture, step 1 of {count}", f"enlarging it, step {count} of {count}"}
        assert expected <= {now.stage for now in seen}

    def test_axes_of_their_own_scale_are_not_swapped(self, face: Tensor) -> None:
        assert run(face, (2, 2)).steps[1]["symmetries"] == list(range(8))
        assert run(face, (2, 1.5)).steps[1]["symmetries"] == [0, 2, 4, 6]
        assert run(face, (2, 2), settings(refinement={"ensemble": False})).steps[1]["symmetries"] == [0]


class TestResult:
    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2.0, 2.0), (1.1, 1.1), (3.0, 2.5)])
    def test_never_a_no_op(self, grid: str, scale: tuple[float, float], astronaut: Tensor) -> None:
        """The result is neither the plain interpolation, nor its back-projection."""
        image = astronaut[:, 10:40, 10:40]
        done = run(image, scale, settings(network={**LR_GRID, "grid": grid}))
        plain = resize(image, enlarged_size((30, 30), scale))
        projected = back_project(plain[None].clone(), image[None], BICUBIC, 2)[0].clamp(0, 1)
        assert min(float((done.image_CHW - one).abs().max()) for one in (plain, projected)) > 1 / 255
        assert float(done.disagreement_HW.max()) > 0

    def test_tiles_do_not_show(self, astronaut: Tensor) -> None:
        whole, parts = (run(astronaut, tile=tile) for tile in (512, 40))
        assert (whole.image_CHW - parts.image_CHW).abs().max() < 1e-4
        assert (whole.tile, parts.tile) == (512, 40)

    def test_same_bits_twice_and_another_seed_differs(self, face: Tensor) -> None:
        one, two, other = (run(face, seed=seed).image_CHW for seed in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.allclose(one, other, atol=1e-4)

    def test_back_projection_of_views(self, astronaut: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each view agrees with the image before they are combined; too large images leave that out and say so."""
        image = astronaut[:, :24, :24]
        each = settings(refinement={"member_back_projections": 6, "back_projections": 0})
        done = run(image, (2, 2), each)
        monkeypatch.setattr(apply, "_LARGEST_MEMBERS", 47 * 47)
        without = run(image, (2, 2), each)
        assert [one.steps[1]["member_back_projections"] for one in (done, without)] == [6, 0]
        errors = [(resize(one.image_CHW, (24, 24)) - image).square().mean() for one in (done, without)]
        assert errors[0] < errors[1] / 2

    def test_progress(self, face: Tensor) -> None:
        seen: list[Progress] = []
        run(face, seen=seen)
        assert [(now.stage, now.iteration, now.total) for now in seen] == [
            ("learning from the picture", 1, 2),
            ("learning from the picture", 2, 2),
            ("enlarging it", 1, 1),
        ]
        assert all(now.loss > 0 and now.lr > 0 for now in seen[:2])
        assert math.isnan(seen[2].loss)


@pytest.mark.parametrize("diverged", [1, 99])
def test_diverged_networks_are_trained_again(diverged: int, monkeypatch: pytest.MonkeyPatch, face: Tensor) -> None:
    """The first so many ensembles give a negative; where all do, the result is plain back-projection."""
    real, done = apply.apply_ensemble, 0

    def apply_ensemble(*given: Any, **more: Any) -> tuple[Tensor, Tensor, int]:
        nonlocal done
        done += 1
        out, spread, tile = real(*given, **more)
        return (1 - out if done <= diverged else out), spread, tile

    monkeypatch.setattr(apply, "apply_ensemble", apply_ensemble)
    monkeypatch.setattr(module, "RESTARTS", 2)
    found = run(face)
    trainings = named(found, "train")
    assert len({tuple(one["seeds"]) for one in trainings}) == len(trainings) == min(diverged + 1, 3)
    if diverged == 1:
        assert found.selection.share == 1
        return
    assert found.selection.share == 0
    assert "diverged from the image" in found.selection.why
    expected = back_project(resize(face, (50, 50))[None].clone(), face[None], BICUBIC, 4)[0].clamp(0, 1)
    assert torch.allclose(found.image_CHW, expected, atol=1e-5)


def test_a_network_dead_in_every_start_has_no_share(monkeypatch: pytest.MonkeyPatch, face: Tensor) -> None:
    monkeypatch.setattr(ZSSR, "_first_weights", lambda network, _: torch.zeros(network.parameters_of_a_member))
    done = run(face)
    assert done.steps[0]["dead"] == [True]
    assert done.selection.share == 0
    assert "died" in done.selection.why
    assert not done.disagreement_HW.any()


class TestSelection:
    def test_what_is_selected_is_said(self, face: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run(face).selection.why == "the settings always take the network"
        monkeypatch.setattr(module, "_LARGEST_HELD_OUT", 624)
        large = run(face, chosen=settings(choice={"folds": 2}))
        assert large.selection.why == "the image has more than 624 pixels"
        assert large.selection.share == 1
        assert large.steps[0]["held_out"] is False

    def test_held_out_folds(self, face: Tensor) -> None:
        done = run(face, chosen=settings(choice={"folds": 3}, networks=3))
        assert done.steps[0]["held_out"] is True
        assert 0 <= done.selection.share <= 1
        assert done.steps[-1]["choice"]["share"] == done.selection.share
        assert isinstance(done.selection.network_db, float)
        assert len(set(done.steps[0]["seeds"])) == 3


def test_the_report_is_json_and_complete(face: Tensor) -> None:
    done = run(face)
    assert json.loads(json.dumps(done.steps, allow_nan=False)) == done.steps
    train, apply, refine = done.steps
    assert {"scale", "grid", "downscale", "seeds", "iterations", "last_loss", "restarts", "seconds"} <= set(train)
    assert {"size", "symmetries", "combine", "member_back_projections", "tile", "seconds"} <= set(apply)
    assert {"choice", "back_projections_of_plain", "back_projections", "largest_departure_before", "seconds"} <= set(
        refine
    )
    assert (train["iterations"], train["restarts"], apply["size"]) == ([2], [0], [50, 50])
