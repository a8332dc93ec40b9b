"""The shared model: learnt from all images whatever their order, its file, and what is made of an image by it."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from skimage import data
from torch import Tensor

from tests.estimates import NARROW, WIDE
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale, back_project
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import fleet, scheduler
from zssr_gan.zeroshot.ensemble import apply_many
from zssr_gan.zeroshot.pairs import PairSource, Task
from zssr_gan.zeroshot.scheduler import run_single
from zssr_gan.zeroshot.shared import (
    SharedModel,
    encode_shared,
    learn_shared,
    make_shared,
    read_shared,
    write_shared,
)
from zssr_gan.zeroshot.upscale import SuperResolved, upscale

BICUBIC = BicubicDownscale()
X2 = (2.0, 2.0)
BLURRED = Degradation(
    blur=GaussianBlur(sigma_major=1, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.02)
).downscale
MACHINE = Machine(torch.device("cpu"), "fp32", 1, 512)


def settings(iterations: int = 4, rounds: int = 1, **groups: object) -> ZeroShotSettings:
    return parse_settings(
        {
            "network": {"depth": 4, "width": 8, "grid": "lr", "residual": True, "initial": "lecun", "bias": True},
            "pairs": {"crop": 12, "batch": 4, "affine": 0.5},
            "optimiser": {"kind": "muon", "average": 0.95, "clip": 1.0},
            "refinement": {"back_projections": 4},
            "shared": {"schedule": {"kind": "cosine", "lr": 0.003, "iterations": iterations}, "rounds": rounds},
            **groups,
        },
        "test",
    ).for_case()


PLAIN = settings()


def learn(
    images: list[Tensor],
    chosen: ZeroShotSettings = PLAIN,
    downscale: Downscale | Sequence[Downscale] = BICUBIC,
    scale: tuple[float, float] = X2,
    **more: Any,
) -> SharedModel:
    named = [(CaseImage(name=f"{n}.png", sha256=f"{n:064}"), image) for n, image in enumerate(images)]
    return learn_shared(named, chosen, scale, downscale, **{"seed": 0, "machine": MACHINE, **more})


def enlarge(
    image: Tensor, model: SharedModel, scale: tuple[float, float] = X2, downscale: Downscale = BICUBIC
) -> SuperResolved:
    return run_single(upscale(image, scale, PLAIN, downscale, MACHINE, seed=0, shared=model))


def apply(model: SharedModel, images: list[Tensor], *downscales: Downscale) -> list[Tensor]:
    tasks = [Task(X2, (2, 2), one) for one in downscales or [BICUBIC] * len(images)]
    return apply_many(model.network(), images, PLAIN, tasks)


@pytest.fixture(scope="module")
def images(astronaut: Tensor) -> list[Tensor]:
    """Four parts of the astronaut, 3 16 16."""
    return [astronaut[:, y : y + 16, x : x + 16].clone() for y in (0, 32) for x in (8, 36)]


@pytest.fixture(scope="module")
def model(images: list[Tensor]) -> SharedModel:
    return learn(images)


class TestLearning:
    def test_order_and_names_do_not_matter(self, images: list[Tensor], model: SharedModel) -> None:
        again = learn([images[n] for n in (2, 0, 3, 1)])
        assert torch.equal(model.weights_P, again.weights_P)
        assert model.facts.loss == again.facts.loss
        assert learn(images).sha256 == model.sha256, "the same bytes for the same case"
        for other in (learn(images, seed=1), learn(images[:3]), learn(images, settings(5))):
            assert not torch.allclose(model.weights_P, other.weights_P, atol=1e-5)

    def test_better_than_back_projection_on_images_it_has_not_seen(self) -> None:
        """Learnt on LR images alone; the ground truth of others is what is measured against."""
        own = {"depth": 4, "width": 16, "grid": "lr", "bias": True, "initial": "lecun"}
        chosen = settings(200, network=own, pairs={"crop": 16, "batch": 8})
        whole = BICUBIC(torch.from_numpy(data.camera().copy()).float()[None, None] / 255, (128, 128))[0].clamp(0, 1)
        parts = [whole[:, y : y + 32, x : x + 32].clone() for y in range(0, 97, 32) for x in range(0, 97, 32)]
        truths = sorted(parts, key=lambda part: -float(part.std()))
        lows = [BICUBIC(truth[None], (16, 16))[0].clamp(0, 1) for truth in truths]
        seen: list[tuple[int, int, float]] = []
        found = learn(lows[::2], chosen, on_learning=lambda *now: seen.append(now))
        gains = []
        for result, low, truth in zip(apply(found, lows[1::2]), lows[1::2], truths[1::2], strict=True):
            plain = back_project(resize(low[None], (32, 32)).clone(), low[None], BICUBIC, 4)[0].clamp(0, 1)
            gains.append(10 * float(((plain - truth).square().mean() / (result - truth).square().mean()).log10()))
        assert sum(gains) / len(gains) > 0.15
        assert [now[:2] for now in seen] == [(n, 200) for n in range(10, 201, 10)]
        assert sum(loss for *_, loss in seen[-5:]) < sum(loss for *_, loss in seen[:5])
        assert found.facts.loss == pytest.approx(sum(loss for *_, loss in seen[-5:]) / 5, rel=0.3)

    @pytest.mark.parametrize("grid", ["lr", "interpolated"])
    def test_images_of_mixed_sizes_share_batches(
        self, grid: str, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chosen = settings(60, pairs={"crop": 16, "batch": 4}, network={"depth": 2, "width": 4, "grid": grid})
        monkeypatch.setattr(fleet, "_DEAD_SHARE", 0.0)  # so few iterations leave it dead
        drawn: dict[tuple[int, ...], int] = {}
        sides, real = set(), PairSource.take

        def take(self: PairSource, image_S: Tensor, draws: Tensor, noise: Tensor, side: int) -> Any:
            size = self.images[0].size
            drawn[size] = drawn.get(size, 0) + len(image_S)
            sides.add((side, size))
            return real(self, image_S, draws, noise, side)

        monkeypatch.setattr(PairSource, "take", take)
        assert learn([*images[:3], images[3][:, :12, :]], chosen).weights_P.isfinite().all()
        # A quarter of the batches has the small image's side, and is cut of all four; the rest of the other three.
        assert sum(drawn.values()) == 60 * 4
        assert drawn[12, 16] == pytest.approx(60 * 4 / 16, abs=3 * (60 * 4 / 16) ** 0.5)
        assert sides == {(16, (16, 16)), (12, (16, 16)), (12, (12, 16))}

    def test_a_second_round_learns_from_the_results(
        self, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[list[tuple[int, ...]]] = []
        real = PairSource.__init__

        def first(self: PairSource, chosen: Any, stacks: list[Tensor], *others: Any) -> None:
            given.append([tuple(stack.shape) for stack in stacks])
            real(self, chosen, stacks, *others)

        monkeypatch.setattr(PairSource, "__init__", first)
        found = learn(images, settings(rounds=2))
        assert given == [[(4, 3, 16, 16)], [(4, 3, 16, 16), (4, 3, 32, 32)]]
        assert found.facts.iterations == 8
        assert not torch.equal(found.weights_P, learn(images, settings(8)).weights_P)

    def test_each_image_teaches_by_its_own_degradation(
        self, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its noise, its symmetries and its blur, whatever image lies beside it in a batch."""
        symmetries, real = {}, PairSource.take

        def take(self: PairSource, *given: Any) -> Any:
            symmetries[self.task.downscale.name] = self.symmetries
            return real(self, *given)

        monkeypatch.setattr(PairSource, "take", take)
        both = [BICUBIC, BLURRED, BICUBIC, BLURRED]
        one = learn(images, PLAIN, both)
        assert symmetries == {"bicubic": BICUBIC.symmetries, "degradation": BLURRED.symmetries}
        order = (2, 0, 3, 1)
        again = learn([images[n] for n in order], PLAIN, [both[n] for n in order])
        assert torch.equal(one.weights_P, again.weights_P)
        assert not torch.equal(one.weights_P, learn(images, PLAIN, [BICUBIC] * 4).weights_P)

    def test_a_camera_without_noise_beside_one_with(self, images: list[Tensor]) -> None:
        """Where the settings add none, one takes draws for it and the other none."""
        chosen = settings(pairs={"crop": 12, "batch": 4})
        noisy = Degradation(noise=Noise(sigma=0.05)).downscale
        assert learn(images, chosen, [BICUBIC, noisy, BICUBIC, noisy]).weights_P.isfinite().all()

    def test_of_a_large_image_the_middle(self) -> None:
        large = torch.rand(1, 530, 20, generator=torch.Generator().manual_seed(0))
        around = large.clone()
        around[:, :9] = 0
        around[:, -9:] = 0
        assert torch.equal(learn([large], settings(2)).weights_P, learn([around], settings(2)).weights_P)

    def test_what_cannot_be_learnt_from(self, images: list[Tensor]) -> None:
        with pytest.raises(ImageError, match="there is no image to learn from"):
            learn([])
        with pytest.raises(ImageError, match="of 16x7 pixels is too small"):
            learn([images[0], images[1][:, :7]])


def test_apply_many_is_each_image_by_itself(images: list[Tensor], model: SharedModel) -> None:
    """Of mixed sizes, and each by its own degradation."""
    mixed = [images[0], images[1][:, :12], *images[2:], images[3][:, :12].flip(1)]
    downscales = [BICUBIC, BLURRED, BLURRED, BICUBIC, BICUBIC]
    for image, one, result in zip(mixed, downscales, apply(model, mixed, *downscales), strict=True):
        assert result.shape == (3, 2 * image.shape[1], 32)
        assert torch.allclose(apply(model, [image], one)[0], result, atol=1e-5)
    assert not torch.allclose(apply(model, images[:1])[0], apply(model, images[:1], BLURRED)[0], atol=1e-3)


class TestFile:
    def test_comes_back_as_it_was(self, model: SharedModel, tmp_path: Path) -> None:
        path = tmp_path / "shared.safetensors"
        write_shared(model, path)
        found = read_shared(path)
        assert torch.equal(found.weights_P, model.weights_P)
        assert found.facts == model.facts
        assert found.sha256 == model.sha256 == sha256_file(path)
        facts = model.facts
        assert (facts.channels, facts.factor, facts.scale, facts.learnt_for) == (3, (2, 2), (2, 2), ("bicubic",))
        assert [image.name for image in facts.images] == ["0.png", "1.png", "2.png", "3.png"]
        assert parse_settings(facts.settings, "kept") == PLAIN
        assert (facts.iterations, facts.seed, facts.precision, facts.threads) == (4, 0, "fp32", 1)
        with pytest.raises(Exception, match="exists already"):
            write_shared(model, path)

    @pytest.mark.parametrize("kind", ["missing", "empty", "text", "pickle", "cut", "foreign", "version", "unnamed"])
    def test_anything_else_is_refused_in_a_sentence(self, kind: str, model: SharedModel, tmp_path: Path) -> None:
        whole = encode_shared(model.weights_P, model.facts)
        contents = {
            "empty": b"",
            "text": b"network: {depth: 2}\n" * 40,
            "pickle": pickle.dumps({"weights_P": [1.0]}),
            "cut": whole[: len(whole) // 2],
            "foreign": save({"weights_P": model.weights_P}),
            "version": whole.replace(b'schema_version\\": 2', b'schema_version\\": 3'),
            "unnamed": whole.replace(b'"weights_P"', b'"weights_Q"'),
        }
        path = tmp_path / "x.safetensors"
        if kind != "missing":
            assert contents[kind] != whole
            path.write_bytes(contents[kind])
        with pytest.raises(SettingsError) as error:
            read_shared(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("kind", ["longer", "shorter", "nan", "matrix", "whole numbers"])
    def test_weights_that_do_not_fit(self, kind: str, model: SharedModel, tmp_path: Path) -> None:
        bad = {
            "longer": torch.cat([model.weights_P, model.weights_P[:1]]),
            "shorter": model.weights_P[:-1],
            "nan": model.weights_P.clone().index_fill(0, torch.tensor([3]), torch.nan),
            "whole numbers": model.weights_P.int(),
            "matrix": model.weights_P.reshape(2, -1),
        }[kind]
        path = tmp_path / "x.safetensors"
        path.write_bytes(encode_shared(bad, model.facts))
        assert load(path.read_bytes())["weights_P"].shape == bad.shape
        with pytest.raises(SettingsError, match="is damaged: its weights do not fit its network"):
            read_shared(path)


class TestResults:
    def test_nothing_is_trained(
        self, model: SharedModel, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scheduler.Fleet, "of", lambda *_: pytest.fail("a fleet was made"))
        done = enlarge(images[0], model)
        assert done.image_CHW.shape == (3, 32, 32)
        first = done.steps[0]
        assert (first["name"], first["iterations"], first["seeds"]) == ("shared model", [0], [])
        assert (first["sha256"], first["images"]) == (model.sha256, 4)

    def test_four_times_in_two_steps(self, images: list[Tensor]) -> None:
        found = learn(images, scale=(4.0, 4.0))
        assert found.facts.scale == (2, 2)
        done = enlarge(images[1][:, :, :12], found, (4.0, 4.0))
        assert done.image_CHW.shape == (3, 64, 48)
        assert [step["name"] for step in done.steps].count("shared model") == 2

    def test_gray_images_in_a_network_for_colours_and_the_reverse(
        self, images: list[Tensor], model: SharedModel
    ) -> None:
        assert enlarge(images[2][:1], model).image_CHW.shape == (1, 32, 32)
        gray = learn([images[2][:1]])
        assert gray.facts.channels == 1
        assert enlarge(images[2][:1], gray).image_CHW.shape == (1, 32, 32)
        with pytest.raises(SettingsError, match="learnt on gray images and cannot enlarge one with colours"):
            enlarge(images[0], gray)

    def test_another_degradation_or_factor_is_refused(self, model: SharedModel, images: list[Tensor]) -> None:
        with pytest.raises(SettingsError, match="learnt for the degradation 'bicubic', not 'kernel"):
            enlarge(images[0], model, X2, KernelDownscale(torch.ones(2, 2), (2, 2)))
        with pytest.raises(SettingsError, match="learnt to enlarge by 2 x 2"):
            enlarge(images[0], model, (1.0, 2.0))
        assert enlarge(images[0], model, (1.5, 1.5)).image_CHW.shape == (3, 24, 24)

    def test_several_cameras(self, images: list[Tensor], tmp_path: Path) -> None:
        """An object for each image: what is equal is learnt together all the same."""
        found = learn(images[:3], PLAIN, [one.downscale for one in (WIDE, NARROW, WIDE)])
        assert set(found.facts.cameras) == {WIDE, NARROW}
        assert found.facts.learnt_for == tuple(sorted(f"degradation {one.sha256}" for one in (WIDE, NARROW)))
        write_shared(found, tmp_path / "shared.safetensors")
        assert read_shared(tmp_path / "shared.safetensors").facts == found.facts
        one = learn(images, PLAIN, WIDE.downscale)
        assert one.sha256 == learn(images, PLAIN, [WIDE.downscale for _ in images]).sha256
        assert make_shared(one.weights_P + 1, one.facts).sha256 != one.sha256
        wide, narrow = (enlarge(images[0], found, X2, camera.downscale).image_CHW for camera in (WIDE, NARROW))
        assert not torch.allclose(wide, narrow, atol=1e-3)
        other = WIDE.model_copy(update={"noise": None})
        for downscale in (BICUBIC, other.downscale):
            with pytest.raises(
                SettingsError, match=r"learnt for the degradation 'degradation .* or 'degradation .*not"
            ):
                enlarge(images[0], found, X2, downscale)
