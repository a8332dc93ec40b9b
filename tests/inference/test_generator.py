"""Images through a trained generator: sizes, colours, tiles, ensemble, back-projection, several at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.generators import written_generator
from zssr_gan.degradation.model import Degradation, GaussianBlur
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine, RunOptions
from zssr_gan.errors import ImageError, NumericalError, ResultWarning, SettingsError, WeightsError
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import resize
from zssr_gan.inference import generator as generator_module
from zssr_gan.inference.arrays import enhance
from zssr_gan.inference.enhance import enhance_picture, enhance_pictures
from zssr_gan.inference.generator import generate, images_together, own_scale
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.inference.request import Request
from zssr_gan.networks.autoencoder import Autoencoder, AutoencoderOptions
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.dcgan import DCGANGenerator, DCGANOptions
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.networks.srcnn import SRCNN, SRCNNOptions
from zssr_gan.settings.zeroshot import GeneratorSettings, load_generator_preset
from zssr_gan.training.model_card import TrainedGenerator, load_generator, options_of

CPU = torch.device("cpu")
BICUBIC = BicubicDownscale()
RAW = load_generator_preset("raw")
PLAIN_ENSEMBLE = GeneratorSettings.model_validate({"refinement": {"back_projections": 0}})


@pytest.fixture(scope="module")
def generators(tmp_path_factory: pytest.TempPathFactory) -> dict[int, TrainedGenerator]:
    """One for gray and one for colour images, by channels."""
    folder = tmp_path_factory.mktemp("generators")
    return {n: load_generator(written_generator(folder / str(n), channels=n)) for n in (1, 3)}


def made(
    image: Tensor, generator: TrainedGenerator, settings: GeneratorSettings = RAW, tile: int = 512, **changes: Any
) -> Any:
    machine = Machine(CPU, "fp32", 1, tile)
    (one,) = generate([image], own_scale(generator), settings, changes.get("downscale", BICUBIC), generator, machine)
    return one


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (25, 25)])
def test_raw_is_the_generators_own_output(
    generators: dict[int, TrainedGenerator], channels: int, size: tuple[int, int]
) -> None:
    image = torch.rand(channels, *size, generator=torch.Generator().manual_seed(0))
    one = made(image, generators[channels])
    assert torch.equal(one.image_CHW, generators[channels](image[None])[0])
    assert one.views == 1
    assert not one.disagreement_HW.any()
    assert enhance(image.permute(1, 2, 0).numpy(), model=generators[channels]).shape[:2] == (2 * size[0], 2 * size[1])


def test_pictures_of_several_sizes_are_refused_together(generators: dict[int, TrainedGenerator]) -> None:
    pictures = [Picture(torch.full((3, side, 9), 0.5), None, 8, Metadata()) for side in (8, 9)]
    request = Request(RAW, model=generators[3], options=RunOptions("cpu", "fp32"))
    with pytest.raises(ImageError, match="one size"):
        enhance_pictures(pictures, request)
    assert len(enhance_pictures(pictures[:1] * 2, request)) == 2
    assert enhance_pictures([], request) == []


BROKEN = {
    "black": (0.0, 0.0, "is black, and the input is not"),
    "white": (0.0, 2.0, "is white, and the input is not"),
    "one colour": (0.0, 0.4, "is of one colour, and the input is not"),
    "nearly one colour": (0.01, 0.4, "is of one colour, and the input is not"),
    "darker": (1.0, -0.3, "is far from the input: shrunk again it differs by"),
    "inverted": (-1.0, 1.0, "is far from the input: shrunk again it differs by"),
}


@pytest.mark.parametrize(("gain", "offset", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("preset", ["raw", "generator"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_output_that_is_not_of_the_input_is_warned_of(
    generators: dict[int, TrainedGenerator], astronaut: Tensor, gain: float, offset: float, words: str, preset: str,
    channels: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    generator = generators[3]
    monkeypatch.setattr(
        generator.network, "forward", lambda x: gain * resize(x, (2 * x.shape[-2], 2 * x.shape[-1])) + offset
    )
    image = astronaut[:channels, :24, :20]
    one = made(image, generator, load_generator_preset(preset))
    (warning,) = one.warnings
    assert warning.startswith(f"the generator's output {words}")
    assert ("back-projection alone" in warning) == (preset == "generator")
    pixels = image.permute(1, 2, 0).numpy()
    with pytest.warns(ResultWarning, match=f"^the generator's output {words}"):
        enhance(pixels, model=generator, preset=preset, device="cpu", threads=1)


@pytest.mark.parametrize("flat", [0.0, 0.5, 1.0, "noise", "faint"])
def test_an_output_that_is_of_the_input_is_not(
    generators: dict[int, TrainedGenerator], flat: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    known = {"noise": noise, "faint": 0.5 + noise / 255}
    image = known[flat] if isinstance(flat, str) else torch.full((3, 20, 20), float(str(flat)))
    monkeypatch.setattr(generators[3].network, "forward", lambda x: resize(x, (2 * x.shape[-2], 2 * x.shape[-1])))
    assert made(image, generators[3]).notices == []


def test_the_ensemble_is_the_mean_of_eight_views(generators: dict[int, TrainedGenerator], astronaut: Tensor) -> None:
    image, network = astronaut[:, :20, :13], generators[3].network
    views = torch.stack([dihedral.inverse(network(dihedral.transform(image, k)[None])[0], k) for k in dihedral.ALL])
    one = made(image, generators[3], PLAIN_ENSEMBLE)
    assert torch.allclose(one.image_CHW, views.quantile(0.5, 0).clamp(0, 1), atol=1e-6)
    spread = views.std(0, correction=0).mean(0) * 255
    assert torch.allclose(one.disagreement_HW.float(), spread, rtol=1e-3, atol=1e-2)
    assert float(spread.max()) > 0.1
    assert one.views == 8


def test_back_projection_makes_it_agree_with_the_image(
    generators: dict[int, TrainedGenerator], astronaut: Tensor
) -> None:
    image = astronaut[:, :20, :13]

    def residual(settings: GeneratorSettings, degradation: Degradation | None = None) -> float:
        picture = Picture(image, None, 8, Metadata())
        options = RunOptions("cpu", "fp32")
        facts = DegradationFacts.of(degradation or Degradation(), "given", "")
        request = Request(settings, model=generators[3], degradation=facts, options=options)
        return enhance_picture(picture, request).work.residual_db

    assert residual(GeneratorSettings()) > residual(PLAIN_ENSEMBLE) + 10
    blur = Degradation(blur=GaussianBlur(sigma_major=1.2, sigma_minor=0.5, angle_degrees=20))
    assert residual(GeneratorSettings(), blur) > residual(PLAIN_ENSEMBLE, blur) + 6


@pytest.mark.parametrize("settings", [RAW, GeneratorSettings()], ids=["raw", "ensemble"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_have_no_seams(
    generators: dict[int, TrainedGenerator], astronaut: Tensor, channels: int, settings: GeneratorSettings
) -> None:
    image = astronaut[:channels, :61, :43]
    generator = generators[channels]
    assert generator.facts.radius < 16  # so that no tile sees the whole image
    whole, tiled = made(image, generator, settings), made(image, generator, settings, tile=16)
    assert tiled.tile == 16
    assert torch.allclose(whole.image_CHW, tiled.image_CHW, atol=1e-5)
    assert torch.allclose(whole.disagreement_HW.float(), tiled.disagreement_HW.float(), atol=0.02, rtol=2e-3)


@pytest.mark.parametrize(("truths", "blurred"), [(False, False), (True, False), (True, True)])
def test_at_scale_1_the_input_is_not_put_back(tmp_path: Path, astronaut: Tensor, truths: bool, blurred: bool) -> None:
    """Bicubic of the same size is the image itself, so that back-projection would undo all that the network did."""
    generator = load_generator(written_generator(tmp_path, {"truths": truths}, scale=1))
    downscale = Degradation(blur=GaussianBlur(sigma_major=1.0, sigma_minor=1.0)).downscale if blurred else BICUBIC
    settings = GeneratorSettings.model_validate({"refinement": {"back_projections": 10, "ensemble": False}})
    image, machine = astronaut[:, :20, :20], Machine(CPU, "fp32", 1, 512)
    (one,) = generate([image], (1.0, 1.0), settings, downscale, generator, machine)
    assert torch.equal(one.image_CHW, generator(image[None])[0])
    assert not torch.equal(one.image_CHW, image)
    assert one.steps[-1]["back_projections"] == 0
    assert any("none is done" in notice for notice in one.notices)


OTHERS: dict[str, tuple[type[GeneratorNetwork], Any]] = {
    "esrgan": (ESRGAN, ESRGANOptions(scale=2, width=4, growth=3, blocks=1)),
    "esrgan, unshuffled": (ESRGAN, ESRGANOptions(scale=2, width=4, growth=3, blocks=0, unshuffle=2)),
    "srcnn": (SRCNN, SRCNNOptions(scale=3, width=3)),
    "autoencoder": (Autoencoder, AutoencoderOptions(scale=1, width=4, code_size=6)),
    "autoencoder x2": (Autoencoder, AutoencoderOptions(scale=2, width=4, code_size=6)),
    "dcgan": (DCGANGenerator, DCGANOptions(scale=2, width=4)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_tiles_of_the_others_have_none_either(tmp_path: Path, astronaut: Tensor, name: str) -> None:
    """In all flips and turns, those that work on whole squares of pixels too, of a size that is no multiple of them."""
    kind, options = OTHERS[name]
    network = kind(options, torch.Generator().manual_seed(0)).eval()
    facts = {"name": kind.kind, "options": dict(options_of(network))}
    generator = load_generator(written_generator(tmp_path, facts, network=network))
    image = astronaut[:, :139, :61]
    whole, tiled = made(image, generator, PLAIN_ENSEMBLE), made(image, generator, PLAIN_ENSEMBLE, tile=48)
    assert tiled.tile == 48
    assert torch.allclose(whole.image_CHW, tiled.image_CHW, atol=1e-5)
    assert whole.image_CHW.std() > 1e-3


def test_what_looks_at_the_whole_image_is_given_it(
    generators: dict[int, TrainedGenerator], astronaut: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, generator = astronaut[:, :61, :43], generators[3]
    whole = made(image, generator)
    monkeypatch.setattr(generator, "facts", replace(generator.facts, receptive_field=None))
    asked = made(image, generator, tile=16)
    assert asked.tile == 122
    assert torch.equal(whole.image_CHW, asked.image_CHW)


def test_gray_through_a_generator_for_colours_is_the_mean_of_three(
    generators: dict[int, TrainedGenerator], face: Tensor
) -> None:
    one = made(face, generators[3])
    three = generators[3].network(face.expand(1, 3, -1, -1))[0]
    assert torch.allclose(one.image_CHW, three.mean(0, keepdim=True).clamp(0, 1), atol=1e-6)
    assert not one.notices


def test_colours_through_one_for_gray_go_one_by_one(generators: dict[int, TrainedGenerator], astronaut: Tensor) -> None:
    image = astronaut[:, :9, :14]
    one = made(image, generators[1])
    each = [generators[1](image[None, n : n + 1])[0] for n in range(3)]
    assert torch.allclose(one.image_CHW, torch.cat(each), atol=1e-6)
    assert "each colour went through it by itself" in one.notices[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_in_colours_stays_gray(generators: dict[int, TrainedGenerator], face: Tensor, channels: int) -> None:
    gray = np.round(face[0].numpy() * 255).astype(np.uint8)
    out = enhance(np.dstack([gray] * 3), model=generators[channels], device="cpu")
    assert np.array_equal(out, np.dstack([enhance(gray, model=generators[channels], device="cpu")] * 3))


def test_gray_and_coloured_pictures_of_one_size_in_one_call(
    monkeypatch: pytest.MonkeyPatch, generators: dict[int, TrainedGenerator], astronaut: Tensor
) -> None:
    monkeypatch.setitem(generator_module._PIXELS_TOGETHER, "cpu", 8 * 12 * 10 * 4)
    colours = astronaut[:, 20:32, 20:30]
    pictures = [Picture(one, None, 8, Metadata()) for one in (colours, colours[:1].expand(3, -1, -1), 1 - colours)]
    request = Request(GeneratorSettings(), model=generators[3], options=RunOptions("cpu", "fp32"))
    done = enhance_pictures(pictures, request)
    for picture, found in zip(pictures, done, strict=True):
        assert torch.equal(found.picture.pixels, enhance_picture(picture, request).picture.pixels)
    assert torch.equal(*done[1].picture.pixels[:2])
    assert not torch.equal(*done[0].picture.pixels[:2])


class TestTogether:
    """A pass of several images, as on a GPU; here on the CPU, where it is not the default."""

    def together(
        self, monkeypatch: pytest.MonkeyPatch, generator: TrainedGenerator, images: list[Tensor]
    ) -> list[Tensor]:
        monkeypatch.setitem(generator_module._PIXELS_TOGETHER, "cpu", 8 * 12 * 10 * 4)
        assert images_together(CPU, (12, 10)) == 4
        machine = Machine(CPU, "fp32", 1, 512)
        return [one.image_CHW for one in generate(images, (2.0, 2.0), GeneratorSettings(), BICUBIC, generator, machine)]

    def test_the_others_do_not_matter(
        self, monkeypatch: pytest.MonkeyPatch, generators: dict[int, TrainedGenerator], astronaut: Tensor
    ) -> None:
        images = [astronaut[:, y : y + 12, 20:30] for y in (0, 7, 20, 33)]
        alone = [made(image, generators[3], GeneratorSettings()).image_CHW for image in images]
        four = self.together(monkeypatch, generators[3], images)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(four, alone, strict=True))
        # The same bits whoever shares the pass, and however many.
        for other in (images[::-1], images[:1], images[1:3]):
            for image, found in zip(other, self.together(monkeypatch, generators[3], other), strict=True):
                place = next(n for n, one in enumerate(images) if one is image)
                assert torch.equal(found, four[place])


class TestFromPython:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return written_generator(tmp_path, scale=4)

    @pytest.fixture
    def rgb(self, astronaut: Tensor) -> np.ndarray:
        return np.round(astronaut[:, 8:20, 20:31].permute(1, 2, 0).numpy() * 255).astype(np.uint8)

    def test_kinds_and_the_models_own_scale(self, path: Path, rgb: np.ndarray) -> None:
        out = enhance(rgb, model=path, device="cpu")
        assert (out.shape, out.dtype) == ((48, 44, 3), np.uint8)
        assert np.array_equal(enhance(rgb, 4, "generator", model=str(path), device="cpu"), out)
        assert np.array_equal(enhance(rgb, model=load_generator(path), device="cpu"), out)
        assert not np.array_equal(enhance(rgb, model=path, preset="raw", device="cpu"), out)
        picture = enhance(Image.fromarray(rgb).convert("LA"), model=path)
        assert (picture.mode, picture.size) == ("LA", (44, 48))
        deep = enhance(rgb.astype(np.uint16) * 257, model=path)
        assert len(np.unique(deep)) > 256

    def test_alpha_is_enlarged_apart(self, path: Path, rgb: np.ndarray) -> None:
        alpha = rgb[..., 0]
        out = enhance(np.dstack([rgb, alpha]), model=path)
        plain = resize(torch.from_numpy(alpha)[None].float() / 255, (48, 44)).clamp(0, 1)
        assert np.array_equal(out[..., 3], (plain[0] * 255).round().byte().numpy())

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"scale": 2}, SettingsError, "scale 2: the generator enlarges by 4 alone"),
            ({"scale": (4, 2)}, SettingsError, "scale 2x4: the generator"),
            ({"preset": "fast"}, SettingsError, "a generator is trained already"),
            ({"noise": 0.01}, SettingsError, "leave noise out"),
            ({"model": "none.safetensors"}, WeightsError, r"none\.safetensors: no such file"),
        ],
    )
    def test_refusals(
        self, path: Path, rgb: np.ndarray, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words) as caught:
            enhance(rgb, **{"model": path, **options})
        assert "--" not in str(caught.value)

    def test_nan_is_an_error(self, path: Path, rgb: np.ndarray) -> None:
        broken = load_generator(path)
        with torch.no_grad():
            broken.network.tail.weight.fill_(torch.nan)
        with pytest.raises(NumericalError, match="NaN"):
            enhance(rgb, model=broken)

    def test_an_empty_image_is_refused(self, path: Path) -> None:
        with pytest.raises(ImageError):
            enhance(np.zeros((0, 8), np.uint8), model=path)
