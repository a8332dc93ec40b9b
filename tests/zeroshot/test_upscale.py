"""From an image to the asked size: sizes, steps, kernels, gradual steps, the choice, and what is reported."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale, back_project
from zssr_gan.imaging.resize import enlarged_size, resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.progress import Progress
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import upscale
from zssr_gan.zeroshot.upscale import SuperResolved, super_resolve

BICUBIC = BicubicDownscale()
KERNEL = torch.tensor(np.outer([1, 3, 1, 1], [1, 3, 1, 1]))


def settings(**changes: object) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 2, "width": 4, "initial": "lecun"},
        "pairs": {"crop": 16, "batch": 1},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 2},
        "refinement": {"back_projections": 2},
        "restarts": 0,
    }
    return parse_settings({**groups, **changes}, "test")


LR_GRID = {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"}


def run(
    image: Tensor,
    scale: tuple[float, float] = (2.0, 2.0),
    chosen: ZeroShotSettings | None = None,
    downscale: Downscale = BICUBIC,
    *,
    seed: int = 0,
    tile: int = 512,
    told: list[Progress] | None = None,
) -> SuperResolved:
    return super_resolve(
        image,
        scale,
        chosen or settings(),
        downscale,
        seed=seed,
        precision="fp32",
        tile=tile,
        on_progress=None if told is None else told.append,
    )


class TestSizes:
    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2, 2), (1.5, 1.5), (2, 1.3), (1, 2), (3, 3), (1.02, 1.02), (4.5, 2.25), (8, 8)])
    def test_any_scale(self, grid: str, scale: tuple[float, float], face: Tensor) -> None:
        done = run(face[:, :9, :13], scale, settings(network={**LR_GRID, "grid": grid}))
        size = enlarged_size((9, 13), scale)
        assert done.image_CHW.shape == (1, *size)
        assert done.disagreement_HW.shape == size
        assert 0 <= float(done.image_CHW.min()) <= float(done.image_CHW.max()) <= 1

    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2, 2), (3, 3), (2, 3), (4, 1)])
    @pytest.mark.parametrize("phases", [False, True])
    def test_with_a_kernel(self, grid: str, scale: tuple[int, int], phases: bool, face: Tensor) -> None:
        chosen = settings(network={**LR_GRID, "grid": grid}, pairs={"crop": 16, "batch": 1, "phases": phases})
        done = run(face, scale, chosen, KernelDownscale(KERNEL, scale))
        assert done.image_CHW.shape == (1, 25 * scale[0], 25 * scale[1])
        assert [one["name"] for one in done.steps] == ["train", "apply", "refine"]
        assert done.steps[0]["downscale"] == "kernel"
        assert done.steps[2]["back_projections"] == 2

    def test_the_smallest(self) -> None:
        image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
        for grid in ("interpolated", "lr"):
            chosen = settings(
                network={**LR_GRID, "grid": grid},
                pairs={"crop": 64, "batch": 2, "phases": True, "affine": 0.5},
                steps={"gradual": [[1, 1], [1, 1]]},
            )
            assert run(image, (2, 2), chosen).image_CHW.shape == (3, 16, 16)


class TestSteps:
    def test_large_scales_are_taken_step_by_step(self, face: Tensor) -> None:
        told: list[Progress] = []
        done = run(face, (3, 3), told=told)
        assert [one["name"] for one in done.steps] == ["train", "apply", "refine"] * 2
        assert done.steps[1]["size"] == [43, 43]
        assert done.steps[4]["size"] == [75, 75]
        stages = list(dict.fromkeys(now.stage for now in told))
        assert stages == [f"step {n}/2: {what}" for n in (1, 2) for what in ("training", "ensemble")]

    def test_the_whole_agrees_with_the_image_given(self, astronaut: Tensor) -> None:
        """Not with the last step's image only."""
        image = astronaut[:, :32, :32]
        done = run(image, (4, 4), settings(refinement={"back_projections": 8}))
        error = (resize(done.image_CHW, (32, 32)) - image).square().mean().sqrt() * 255
        assert error < 0.1  # level; 0.3 where only each step agrees with the one before

    def test_gradual_steps_are_learnt_from(self, face: Tensor) -> None:
        gradual = [[0, 0.5], [0.5, 0], [0.5, 0.5], [0.5, 1], [1, 0.5], [1, 1]]
        told: list[Progress] = []
        for grid in ("interpolated", "lr"):
            # On the LR grid a network has one factor, and weights cannot go from one to another.
            scales = gradual if grid == "interpolated" else [[1, 1], [1, 1]]
            chosen = settings(steps={"gradual": scales}, network={**LR_GRID, "grid": grid})
            done = run(face, (2, 2), chosen, told=told)
            trainings = [one for one in done.steps if one["name"] == "train"]
            assert [one["images_learnt_from"] for one in trainings] == list(range(1, len(scales) + 1))
            assert done.image_CHW.shape == (1, 50, 50)
        assert trainings[0]["scale"] == [2, 2]
        assert {"sub-step 1/6: training", "sub-step 6/6: ensemble", "sub-step 2/2: training"} <= {t.stage for t in told}

    def test_gradual_steps_on_the_lr_grid_through_other_factors(self, face: Tensor) -> None:
        """Every gradual way that the settings take works on either grid, also where a side stays at first."""
        chosen = settings(steps={"gradual": [[0, 1], [1, 1]]}, network=LR_GRID)
        assert run(face, (2, 2), chosen).image_CHW.shape == (1, 50, 50)

    def test_axes_of_their_own_scale_are_not_swapped(self, face: Tensor) -> None:
        assert run(face, (2, 2)).steps[-2]["symmetries"] == list(range(8))
        assert run(face, (2, 1.5)).steps[-2]["symmetries"] == [0, 2, 4, 6]
        off = settings(refinement={"ensemble": False})
        assert run(face, (2, 2), off).steps[-2]["symmetries"] == [0]


class TestResult:
    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2.0, 2.0), (1.1, 1.1), (3.0, 2.5)])
    def test_never_a_no_op(self, grid: str, scale: tuple[float, float], astronaut: Tensor) -> None:
        """What comes out is not the plain interpolation, nor its back-projection."""
        image = astronaut[:, 10:40, 10:40]
        done = run(image, scale, settings(network={**LR_GRID, "grid": grid}))
        size = enlarged_size((30, 30), scale)
        plain = resize(image, size)
        projected = back_project(plain[None].clone(), image[None], BICUBIC, 2)[0].clamp(0, 1)
        assert (done.image_CHW - plain).abs().max() > 1 / 255
        assert (done.image_CHW - projected).abs().max() > 1 / 255
        assert float(done.disagreement_HW.max()) > 0

    def test_tiles_do_not_show(self, astronaut: Tensor) -> None:
        whole, parts = (run(astronaut, tile=tile) for tile in (512, 40))
        assert (whole.image_CHW - parts.image_CHW).abs().max() < 1e-4
        assert (whole.tile, parts.tile) == (512, 40)

    def test_same_bits_twice_and_another_seed_differs(self, face: Tensor) -> None:
        one, two, other = (run(face, seed=seed).image_CHW for seed in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.allclose(one, other, atol=1e-4)

    def test_back_projection_of_members(self, astronaut: Tensor) -> None:
        """Each member agrees with the image before they are combined; too large images leave that out and say so."""
        image = astronaut[:, :24, :24]
        each = settings(refinement={"member_back_projections": 6, "back_projections": 0})
        done = run(image, (2, 2), each)
        assert done.steps[-2]["member_back_projections"] == 6
        limited = settings(
            refinement={"member_back_projections": 6, "back_projections": 0, "member_limit": 47 * 47 / 1e6}
        )
        without = run(image, (2, 2), limited)
        assert without.steps[-2]["member_back_projections"] == 0
        errors = [(resize(x.image_CHW, (24, 24)) - image).square().mean() for x in (done, without)]
        assert errors[0] < errors[1] / 2

    def test_progress(self, face: Tensor) -> None:
        told: list[Progress] = []
        run(face, told=told)
        assert [(now.stage, now.iteration, now.total) for now in told] == [
            ("training", 1, 2),
            ("training", 2, 2),
            ("ensemble", 1, 1),
        ]
        assert all(now.loss > 0 and now.lr > 0 for now in told[:2])
        assert math.isnan(told[2].loss)


class TestDeparture:
    """Networks whose result, shrunk again, is far from the image are trained again, and not used in the end."""

    @pytest.fixture
    def wild(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        """Makes the first so many ensembles give a negative."""

        def arrange(count: int) -> None:
            real, done = upscale.apply_ensemble, 0

            def apply_ensemble(network: ZSSR, image: Tensor, *others: Any) -> tuple[Tensor, Tensor, int]:
                nonlocal done
                done += 1
                out, spread, tile = real(network, image, *others)
                return (1 - out if done <= count else out), spread, tile

            monkeypatch.setattr(upscale, "apply_ensemble", apply_ensemble)

        return arrange

    def test_tried_again_from_other_seeds(self, wild: Callable[[int], None], face: Tensor) -> None:
        wild(1)
        done = run(face, chosen=settings(restarts=2, network={"depth": 2, "width": 4, "initial": "lecun"}))
        trainings = [one for one in done.steps if one["name"] == "train"]
        assert len(trainings) == 2
        assert trainings[0]["seeds"] != trainings[1]["seeds"]
        assert done.choice["share"] == 1

    def test_back_projection_in_the_end(self, wild: Callable[[int], None], face: Tensor) -> None:
        wild(99)
        done = run(face, chosen=settings(restarts=1))
        assert done.choice["share"] == 0
        assert "ran away from the image" in done.choice["why"]
        expected = back_project(resize(face, (50, 50))[None].clone(), face[None], BICUBIC, 4)[0].clamp(0, 1)
        assert torch.allclose(done.image_CHW, expected, atol=1e-5)


def test_a_network_dead_in_every_start_has_no_share(monkeypatch: pytest.MonkeyPatch, face: Tensor) -> None:
    monkeypatch.setattr(ZSSR, "_first_weights", lambda network, _: torch.zeros(network_size(network)))
    done = run(face, chosen=settings(restarts=1))
    assert done.steps[0]["dead"] == [True]
    assert done.choice["share"] == 0
    assert "died" in done.choice["why"]
    assert not done.disagreement_HW.any()


def network_size(network: ZSSR) -> int:
    biased = sum(o for o, _ in network._shapes) if network.options.bias else 0
    return sum(o * i * 9 for o, i in network._shapes) + biased


def test_several_steps_are_all_told(face: Tensor) -> None:
    done = run(face, scale=(4.0, 4.0), chosen=settings(choice={"folds": 2, "max_pixels": 625}))
    shares = [one["choice"]["share"] for one in done.steps if one["name"] == "refine"]
    assert len(shares) == 2
    assert done.choice["share"] == min(shares)
    assert "of 2" in done.choice["why"]


class TestChoice:
    def test_what_is_chosen_is_said(self, face: Tensor) -> None:
        assert run(face).choice["why"] == "the settings always take the network"
        large = run(face, chosen=settings(choice={"folds": 2, "max_pixels": 624}))
        assert large.choice["why"] == "the image has more than 624 pixels"
        assert large.choice["share"] == 1
        assert large.steps[0]["held_out"] is False

    def test_held_out_folds(self, face: Tensor) -> None:
        done = run(face, chosen=settings(choice={"folds": 3, "max_pixels": 625}, networks=3))
        assert done.steps[0]["held_out"] is True
        assert 0 <= done.choice["share"] <= 1
        assert done.steps[-1]["choice"]["share"] == done.choice["share"]
        assert isinstance(done.choice["network_db"], float)
        assert len(set(done.steps[0]["seeds"])) == 3

    def test_a_share_of_0_is_plain_back_projection(self, face: Tensor) -> None:
        none = settings(choice={"folds": 2, "min_share": 1.0}, networks=2, refinement={"back_projections": 3})
        done = run(face, chosen=none)
        if done.choice["share"] == 0:
            expected = back_project(resize(face, (50, 50))[None].clone(), face[None], BICUBIC, 6)[0].clamp(0, 1)
            assert torch.allclose(done.image_CHW, expected, atol=1e-6)
        assert done.choice["share"] in (0, 1)


def test_the_report_is_json_and_complete(face: Tensor) -> None:
    done = run(face)
    assert json.loads(json.dumps(done.steps, allow_nan=False)) == done.steps
    train, apply, refine = done.steps
    assert {"scale", "grid", "downscale", "seeds", "iterations", "last_loss", "restarts", "seconds"} <= set(train)
    assert {"size", "symmetries", "combine", "member_back_projections", "tile", "seconds"} <= set(apply)
    assert {"choice", "back_projections_of_plain", "back_projections", "largest_departure_before", "seconds"} <= set(
        refine
    )
    assert train["iterations"] == [2]
    assert train["restarts"] == [0]
    assert apply["size"] == [50, 50]
