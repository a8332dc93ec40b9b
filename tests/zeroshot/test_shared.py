"""A shared start: its file, what it refuses, and what an image is made of it."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tests.estimates import NARROW, WIDE
from zssr_gan.degradation.model import Degradation, DegradedDownscale
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_bytes, sha256_file
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import scheduler
from zssr_gan.zeroshot.shared import (
    SharedFacts,
    SharedStart,
    encode_shared,
    learn_shared,
    make_shared,
    read_shared,
    write_shared,
)
from zssr_gan.zeroshot.upscale import SuperResolved, super_resolve

BICUBIC = BicubicDownscale()
MACHINE = Machine(torch.device("cpu"), "fp32", 1, 512)


def settings() -> ZeroShotSettings:
    return parse_settings(
        {
            "network": {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"},
            "pairs": {"crop": 12, "batch": 2},
            "refinement": {"back_projections": 2},
            "shared": {
                "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 4},
            },
        },
        "test",
    ).for_case()


PLAIN = settings()


def learn(
    images: list[Tensor], chosen: ZeroShotSettings = PLAIN, scale: tuple[float, float] = (2.0, 2.0)
) -> SharedStart:
    named = [(CaseImage(name=f"{n}.png", sha256=f"{n:064}"), image) for n, image in enumerate(images)]
    return learn_shared(named, chosen, scale, BICUBIC, seed=0, machine=MACHINE)


def enlarge(
    image: Tensor, shared: SharedStart, chosen: ZeroShotSettings = PLAIN, scale: tuple[float, float] = (2.0, 2.0)
) -> SuperResolved:
    return super_resolve(image, scale, chosen, BICUBIC, seed=0, precision="fp32", tile=512, shared=shared)


@pytest.fixture(scope="module")
def images(astronaut: Tensor) -> list[Tensor]:
    """Three parts of the astronaut, the last one gray."""
    return [astronaut[:, :16, 20:36], astronaut[:, 20:36, 20:32], astronaut[:1, 30:46, 20:36]]


@pytest.fixture(scope="module")
def start(images: list[Tensor]) -> SharedStart:
    return learn(images)


class TestFile:
    def test_comes_back_as_it_was(self, start: SharedStart, tmp_path: Path) -> None:
        path = tmp_path / "shared.safetensors"
        write_shared(start, path)
        found = read_shared(path)
        assert torch.equal(found.weights_P, start.weights_P)
        assert found.facts == start.facts
        assert found.sha256 == start.sha256 == sha256_file(path)
        assert torch.equal(found.network(3).weights_NP[2], start.weights_P)

    def test_the_same_bytes_for_the_same_case(self, images: list[Tensor], start: SharedStart) -> None:
        again = learn(images)
        assert encode_shared(again.weights_P, again.facts) == encode_shared(start.weights_P, start.facts)
        assert learn(images[:2]).sha256 != start.sha256

    def test_says_what_it_is(self, start: SharedStart) -> None:
        facts = start.facts
        assert (facts.channels, facts.factor, facts.scale, facts.degradation) == (3, (2, 2), (2, 2), "bicubic")
        assert [image.name for image in facts.images] == ["0.png", "1.png", "2.png"]
        assert parse_settings(facts.settings, "kept") == PLAIN
        assert (facts.iterations, facts.seed, facts.precision, facts.threads) == (4, 0, "fp32", 1)
        assert start.summary() == {"sha256": start.sha256, "images": 3, "iterations": 4}

    def test_is_not_overwritten(self, start: SharedStart, tmp_path: Path) -> None:
        path = tmp_path / "shared.safetensors"
        path.write_bytes(b"mine")
        with pytest.raises(Exception, match="exists already"):
            write_shared(start, path)
        assert path.read_bytes() == b"mine"

    @pytest.mark.parametrize("kind", ["missing", "empty", "text", "pickle", "cut", "foreign", "version", "unnamed"])
    def test_anything_else_is_refused_in_a_sentence(self, kind: str, start: SharedStart, tmp_path: Path) -> None:
        whole = encode_shared(start.weights_P, start.facts)
        contents = {
            "empty": b"",
            "text": b"network: {depth: 2}\n" * 40,
            "pickle": pickle.dumps({"weights_P": [1.0]}),
            "cut": whole[: len(whole) // 2],
            "foreign": save({"weights_P": start.weights_P}),
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
    def test_weights_that_do_not_fit(self, kind: str, start: SharedStart, tmp_path: Path) -> None:
        bad = {
            "longer": torch.cat([start.weights_P, start.weights_P[:1]]),
            "shorter": start.weights_P[:-1],
            "nan": start.weights_P.clone().index_fill(0, torch.tensor([3]), torch.nan),
            "whole numbers": start.weights_P.int(),
            "matrix": start.weights_P.reshape(2, -1),
        }[kind]
        path = tmp_path / "x.safetensors"
        path.write_bytes(encode_shared(bad, start.facts))
        assert load(path.read_bytes())["weights_P"].shape == bad.shape
        with pytest.raises(SettingsError, match="is damaged: its weights do not fit its network"):
            read_shared(path)

    def test_the_hash_is_that_of_the_bytes(self, start: SharedStart) -> None:
        other = make_shared(start.weights_P + 1, start.facts)
        assert other.sha256 == sha256_bytes(encode_shared(start.weights_P + 1, start.facts)) != start.sha256


class TestCameras:
    """One network for images of several cameras."""

    def learn(self, images: list[Tensor], *degradations: Degradation) -> SharedStart:
        named = [(CaseImage(name=f"{n}.png", sha256=f"{n:064}"), image) for n, image in enumerate(images)]
        # An object each: what is equal is learnt together all the same.
        downscales = [DegradedDownscale(degradation) for degradation in degradations]
        return learn_shared(named, PLAIN, (2.0, 2.0), downscales, seed=0, machine=MACHINE)

    def test_it_holds_all_of_them(self, images: list[Tensor], tmp_path: Path) -> None:
        shared = self.learn(images, WIDE, NARROW, WIDE)
        assert set(shared.facts.cameras) == {WIDE, NARROW}
        assert shared.facts.learnt_for == tuple(sorted(f"degradation {one.sha256}" for one in (WIDE, NARROW)))
        write_shared(shared, tmp_path / "shared.safetensors")
        assert read_shared(tmp_path / "shared.safetensors").facts == shared.facts
        again = self.learn([images[n] for n in (1, 0, 2)], NARROW, WIDE, WIDE)
        assert torch.equal(again.weights_P, shared.weights_P)

    def test_one_for_all_is_one_for_each(self, images: list[Tensor]) -> None:
        one = learn_shared(
            [(CaseImage(name=f"{n}.png", sha256=f"{n:064}"), image) for n, image in enumerate(images)],
            *(PLAIN, (2.0, 2.0), WIDE.downscale),
            seed=0,
            machine=MACHINE,
        )
        assert one.sha256 == self.learn(images, WIDE, WIDE, WIDE).sha256
        assert one.facts.degradation == f"degradation {WIDE.sha256}"
        assert one.facts.cameras == (WIDE,)

    def test_images_of_each_of_them_and_of_no_other(self, images: list[Tensor]) -> None:
        shared = self.learn(images, WIDE, NARROW, WIDE)

        def made(downscale: Downscale) -> Tensor:
            return super_resolve(
                *(images[0], (2.0, 2.0), PLAIN, downscale), seed=0, precision="fp32", tile=512, shared=shared
            ).image_CHW

        assert not torch.allclose(made(WIDE.downscale), made(NARROW.downscale), atol=1e-3)
        other = WIDE.model_copy(update={"noise": None})
        for downscale in (BICUBIC, other.downscale):
            with pytest.raises(
                SettingsError, match=r"learnt for the degradation 'degradation .* or 'degradation .* not"
            ):
                made(downscale)

    def test_a_file_of_before_is_for_the_one_that_it_names(self, start: SharedStart) -> None:
        facts = start.facts.model_dump(mode="json")
        del facts["cameras"]
        assert SharedFacts.model_validate(facts) == start.facts
        assert start.facts.learnt_for == ("bicubic",)


class TestResults:
    def test_nothing_is_trained(
        self, start: SharedStart, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            pytest.fail("a fleet was made")

        monkeypatch.setattr(scheduler.Fleet, "__init__", fail)
        done = enlarge(images[0], start)
        assert done.image_CHW.shape == (3, 32, 32)
        assert done.steps[0]["name"] == "shared start"
        assert done.steps[0]["iterations"] == [0]
        assert done.steps[0]["sha256"] == start.sha256
        assert done.steps[0]["seeds"] == []
        assert "as it is" in done.steps[0]["what"]

    def test_four_times_in_two_steps(self, images: list[Tensor]) -> None:
        shared = learn(images, scale=(4.0, 4.0))
        assert shared.facts.scale == (2, 2)
        done = enlarge(images[1], shared, scale=(4.0, 4.0))
        assert done.image_CHW.shape == (3, 64, 48)
        assert [step["name"] for step in done.steps].count("shared start") == 2

    def test_gray_in_a_network_for_colours_stays_gray(self, images: list[Tensor]) -> None:
        done = enlarge(images[2], learn(images))
        assert done.image_CHW.shape == (1, 32, 32)

    def test_colours_in_a_network_for_gray_are_refused(self, images: list[Tensor]) -> None:
        gray = learn(images[2:])
        assert gray.facts.channels == 1
        assert enlarge(images[2], gray).image_CHW.shape == (1, 32, 32)
        with pytest.raises(SettingsError, match="learnt on gray images and cannot enlarge one with colours"):
            enlarge(images[0], gray)

    def test_another_degradation_is_refused(self, start: SharedStart, images: list[Tensor]) -> None:
        kernel = KernelDownscale(torch.ones(2, 2), (2, 2))
        with pytest.raises(SettingsError, match="learnt for the degradation 'bicubic', not 'kernel"):
            super_resolve(images[0], (2.0, 2.0), PLAIN, kernel, seed=0, precision="fp32", tile=512, shared=start)

    def test_another_factor_is_refused(self, images: list[Tensor]) -> None:
        """On the LR grid the last layer knows one factor."""
        with pytest.raises(SettingsError, match="learnt to enlarge by 2 x 2"):
            enlarge(images[0], learn(images), PLAIN, (1.0, 2.0))
        assert enlarge(images[0], learn(images), PLAIN, (1.5, 1.5)).image_CHW.shape == (3, 24, 24)

    def test_no_image(self) -> None:
        with pytest.raises(ImageError, match="there is no image"):
            learn([])
