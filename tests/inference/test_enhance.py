"""`enhance`: arrays and PIL images in and out, evidence, the report, and a gain over bicubic that a truth confirms."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from skimage import data
from torch import Tensor

from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur, KernelBlur, Noise
from zssr_gan.degradation.operators import KernelDownscale
from zssr_gan.devices import RunOptions
from zssr_gan.errors import ImageError, SettingsError, ZssrGanError
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.enhance import Enhanced, enhance, enhance_picture
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.inference.request import Request
from zssr_gan.progress import Progress
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset, parse_settings

TINY: dict[str, Any] = {
    "network": {"depth": 2, "width": 4, "initial": "lecun"},
    "pairs": {"crop": 16, "batch": 1},
    "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 2},
    "refinement": {"back_projections": 4},
}
CPU = RunOptions("cpu", "fp32")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def rgb(astronaut: Tensor) -> np.ndarray:
    """24 20 3 uint8."""
    return np.round(astronaut[:, 8:32, 20:40].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


@pytest.fixture
def run(preset: str) -> Callable[..., Any]:
    def call(image: Any, scale: Any = 2, **options: Any) -> Any:
        return enhance(image, scale, preset, device="cpu", precision="fp32", **options)

    return call


def levels(image: Any) -> np.ndarray:
    return np.asarray(image).astype(np.int64)


def test_the_network_beats_bicubic_on_a_truth() -> None:
    """A photograph shrunk by 2: the network is nearer to the truth than bicubic, and than back-projection alone."""
    crop = data.astronaut()[0:128, 160:288]
    truth = torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255
    small = (resize(truth, (64, 64)).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    def psnr(image: Tensor) -> float:
        return float(-10 * (image - truth)[:, 4:-4, 4:-4].square().mean().log10())

    settings = parse_settings(
        {
            "network": {"depth": 4, "width": 16, "grid": "lr", "initial": "lecun", "bias": True},
            "pairs": {"crop": 32, "batch": 4, "phases": True},
            "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 500},
            "optimiser": {"kind": "muon", "average": 0.98, "clip": 1.0},
        },
        "test",
    )
    done = enhance_picture(picture(small), Request(settings, options=CPU))
    lr = torch.from_numpy(small).permute(2, 0, 1).float() / 255
    projected = resize(lr, (128, 128))
    for _ in range(10):
        projected = projected + resize(lr - resize(projected, (64, 64)), (128, 128))
    bicubic, plain, network = (psnr(x) for x in (done.bicubic, projected.clamp(0, 1), done.picture.pixels))
    assert network > bicubic + 1.0
    assert network > plain + 0.2


def by_kernel(kernel: Tensor, scale: tuple[int, int], settings: ZeroShotSettings) -> Request:
    blur = KernelBlur(values=tuple(map(tuple, kernel.tolist())), scale=scale)
    facts = DegradationFacts.of(Degradation(blur=blur), "given", "")
    return Request(settings, scale, degradation=facts, options=CPU)


def picture(samples: np.ndarray, bits: int = 8) -> Picture:
    pixels = torch.from_numpy(samples.copy()).permute(2, 0, 1).float() / (2**bits - 1)
    return Picture(pixels, None, bits, Metadata(dpi=(72, 72)), ("turned upright",))


class TestKinds:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16])
    @pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
    def test_arrays_come_back_as_they_went(
        self, run: Callable[..., Any], rgb: np.ndarray, dtype: type, channels: int | None
    ) -> None:
        image = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
        image = image[:, :, 0] if channels is None else image[:, :, [0, 3] if channels == 2 else slice(channels)]
        most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
        given = (image / 255 * most).astype(dtype)
        before = given.copy()
        out = run(given)
        assert isinstance(out, np.ndarray)
        assert out.dtype == dtype
        assert out.shape == (48, 40, *image.shape[2:])
        assert np.array_equal(given, before)
        # The same picture, whatever its kind: shrunk again it is near to what was given.
        shrunk = out.reshape(24, 2, 20, 2, -1).astype(float).mean((1, 3)) / most
        assert np.abs(shrunk - image.reshape(24, 20, -1) / 255).mean() < 0.03

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_pil_images_come_back_as_they_went(self, run: Callable[..., Any], rgb: np.ndarray, mode: str) -> None:
        given = Image.fromarray(rgb).convert(mode)
        out = run(given)
        assert isinstance(out, Image.Image)
        assert (out.mode, out.size) == (mode, (40, 48))
        assert np.array_equal(levels(out), levels(run(np.asarray(given))))

    def test_either_byte_order(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        native = rgb.astype(np.uint16) * 257
        for given in (native, (native / 65535).astype(np.float32)):
            swapped = given.astype(given.dtype.newbyteorder(">" if sys.byteorder == "little" else "<"))
            out = run(swapped)
            assert out.dtype == swapped.dtype
            assert np.array_equal(out, run(given))

    def test_16_bit_pil_images(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        samples = rgb[:, :, 0].astype(np.uint16) * 257
        given = Image.fromarray(samples)
        assert given.mode == "I;16"
        out = run(given)
        assert (out.mode, out.size) == ("I;16", (40, 48))
        assert np.array_equal(levels(out), levels(run(samples)))

    def test_kernels_as_lists(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        kernel = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
        assert np.array_equal(run(rgb, kernel=kernel), run(rgb, kernel=np.array(kernel)))

    @pytest.mark.parametrize("transparent", [False, True])
    def test_palettes_become_colours(self, run: Callable[..., Any], rgb: np.ndarray, transparent: bool) -> None:
        given = Image.fromarray(rgb).quantize(16)
        if transparent:
            given.info["transparency"] = 3
        assert run(given).mode == ("RGBA" if transparent else "RGB")

    def test_16_bit_keeps_its_depth(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        """Dark 16-bit images are told by their dtype, not by their brightest pixel."""
        dark = (rgb[:, :, 0].astype(np.uint16) + 3) // 4
        out = run(dark)
        assert out.dtype == np.uint16
        assert out.max() < 1000
        fine = run(rgb.astype(np.uint16) * 257)
        assert len(np.unique(fine)) > 256

    def test_strided_and_read_only_arrays(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        strided = np.repeat(rgb, 2, 1)[:, ::2]
        strided.flags.writeable = False
        assert np.array_equal(run(strided), run(rgb))
        assert np.array_equal(run(rgb[:, ::-1]), run(np.ascontiguousarray(rgb[:, ::-1])))

    @pytest.mark.parametrize(
        ("scale", "shape"),
        [
            (2, (48, 40)),
            (1.5, (36, 30)),
            (1.1, (26, 22)),
            ((1, 2), (24, 40)),
            ((2.5, 1.25), (60, 25)),
        ],
    )
    def test_scales(self, run: Callable[..., Any], rgb: np.ndarray, scale: Any, shape: tuple[int, int]) -> None:
        assert run(rgb, scale).shape == (*shape, 3)


class TestRefusals:
    @pytest.mark.parametrize(
        ("image", "words"),
        [
            ([[1, 2]], "numpy array or a PIL image"),
            (np.zeros((8, 8, 5), np.uint8), "1 to 4 channels"),
            (np.zeros((8,), np.uint8), "1 to 4 channels"),
            (np.zeros((8, 8), np.int32), "uint8, uint16 or floating point, not int32"),
            (np.zeros((8, 8), bool), "not bool"),
            (Image.new("CMYK", (8, 8)), "not CMYK"),
            (Image.new("I", (8, 8)), "not I"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_other_kinds(self, run: Callable[..., Any], image: Any, words: str) -> None:
        with pytest.raises(TypeError, match=words):
            run(image)

    @pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf])
    def test_floats_outside_their_range(self, run: Callable[..., Any], value: float) -> None:
        image = np.full((8, 8), 0.5)
        image[3, 4] = value
        with pytest.raises(ImageError, match=r"must lie in \[0, 1\]"):
            run(image)

    @pytest.mark.parametrize("shape", [(7, 30), (30, 7, 3), (0, 8), (1, 1)])
    def test_too_small(self, run: Callable[..., Any], shape: tuple[int, ...]) -> None:
        with pytest.raises(ImageError, match=f"is {shape[1]}x{shape[0]} pixels; zero-shot learning needs at least 8"):
            run(np.zeros(shape, np.uint8))

    def test_nan_in_a_picture(self) -> None:
        pixels = torch.full((1, 8, 8), torch.nan)
        with pytest.raises(ImageError, match="NaN"):
            enhance_picture(Picture(pixels, None, 8, Metadata()), Request(load_preset("fast")))

    @pytest.mark.parametrize("scale", [0.5, 8.01, (2, 9), float("nan"), -2])
    def test_scales_out_of_range(self, run: Callable[..., Any], rgb: np.ndarray, scale: Any) -> None:
        with pytest.raises(SettingsError, match="must lie between 1 and 8 a side"):
            run(rgb, scale)

    @pytest.mark.parametrize("scale", [(2, 2, 2), (2,), (), [2, "x"], "x", np.array([2, 2])], ids=repr)
    def test_scales_that_are_none(self, run: Callable[..., Any], rgb: np.ndarray, scale: Any) -> None:
        with pytest.raises(SettingsError, match=r"^the scale is a number, or two as \(y, x\), not "):
            run(rgb, scale)

    @pytest.mark.parametrize("seed", ["x", 1.5, None, -1, 2**63])
    def test_seeds_that_are_none(self, run: Callable[..., Any], rgb: np.ndarray, seed: Any) -> None:
        with pytest.raises(SettingsError, match=r"^the seed is a whole number from 0 to 2\^63 - 1, not "):
            run(rgb, seed=seed)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"noise": 0.7}, "^noise: pairs.noise"),
            ({"noise": "x"}, "^noise: pairs.noise"),
            ({"device": "abacus"}, "no device"),
            ({"kernel": np.zeros((3, 3))}, "sum above zero"),
            ({"kernel": [[1, 2], [3]]}, "not an array of numbers"),
            ({"kernel": [1, 2, 1]}, "two dimensions"),
            ({"threads": 0}, "0 threads"),
            ({"tile": 3}, "tiles of 3 pixels"),
        ],
    )
    def test_options(self, preset: str, rgb: np.ndarray, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ZssrGanError, match=words) as caught:
            enhance(rgb, 2, preset, **{"device": "cpu", **options})
        assert "\n" not in str(caught.value)
        assert "--" not in str(caught.value)  # who calls from Python has no flags

    def test_a_kernel_needs_a_whole_scale(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        with pytest.raises(SettingsError, match="whole numbers"):
            run(rgb, 1.5, kernel=np.ones((3, 3)))

    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2, 2), (8, 8), (3, 4), (4, 5), (4, 7), (5, 7), (7, 8)])
    def test_kernels_on_the_smallest_image_that_is_taken(self, grid: str, scale: tuple[int, int]) -> None:
        """Whatever is not refused works: sons of such a kernel must still have pixels, in every phase."""
        settings = parse_settings(
            {**TINY, "network": {**TINY["network"], "grid": grid}, "pairs": {"crop": 64, "phases": True}}, "test"
        )
        kernel = torch.ones(3, 3, dtype=torch.float64)
        for side in range(8, 80):
            image = Picture(torch.full((1, side, side), 0.5), None, 8, Metadata())
            try:
                done = enhance_picture(image, by_kernel(kernel, scale, settings))
            except ImageError:
                continue
            assert done.picture.pixels.shape == (1, side * scale[0], side * scale[1])
            return
        pytest.fail("even 79 pixels are refused")


class TestSameBytes:
    def test_twice(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        assert np.array_equal(run(rgb), run(rgb.copy()))

    def test_another_seed_differs(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        assert not np.array_equal(run(rgb), run(rgb, seed=1))

    def test_draws_come_from_content(self, rgb: np.ndarray) -> None:
        """One level of one pixel changes the seeds; what the picture is called or carries does not."""
        settings = parse_settings(TINY, "test")
        other = rgb.copy()
        other[5, 5, 0] ^= 1

        def seeds(image: Picture, seed: int = 0) -> object:
            return enhance_picture(image, Request(settings, seed=seed, options=CPU)).work.steps[0]["seeds"]

        bare = Picture(picture(rgb).pixels, None, 8, Metadata())
        assert seeds(picture(rgb)) == seeds(bare)
        assert seeds(picture(rgb)) != seeds(picture(other))
        assert seeds(bare) != seeds(bare, 1)

    def test_the_order_of_calls_does_not_matter(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        first = run(rgb)
        torch.manual_seed(123)
        run(rgb[::-1])
        assert np.array_equal(run(rgb), first)

    def test_the_callers_random_state_is_left_alone(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        before = torch.get_rng_state()
        run(rgb)
        assert torch.equal(torch.get_rng_state(), before)


class TestTransparency:
    def test_no_dark_fringes(self, run: Callable[..., Any]) -> None:
        """A white shape, black where it cannot be seen: what is seen stays white up to its edge."""
        image = np.zeros((24, 24, 4), np.uint8)
        image[6:18, 8:20] = 255
        out = run(image)
        seen = out[:, :, 3] > 25
        assert seen.sum() > 400
        assert out[seen][:, :3].min() > 225

    def test_hidden_colours_do_not_bleed(self, run: Callable[..., Any]) -> None:
        hidden, black = np.zeros((24, 24, 4), np.uint8), np.zeros((24, 24, 4), np.uint8)
        for image in (hidden, black):
            image[6:18, 8:20] = (40, 90, 200, 255)
        hidden[..., :3] = np.where(hidden[..., 3:] == 0, np.array([255, 0, 0]), hidden[..., :3])
        assert np.array_equal(run(hidden), run(black))

    def test_opaque_alpha_changes_nothing(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        out = run(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]))
        assert (out[..., 3] == 255).all()
        assert np.array_equal(out[..., :3], run(rgb))

    def test_half_transparent_colours_are_as_bright_as_opaque_ones(
        self, run: Callable[..., Any], rgb: np.ndarray
    ) -> None:
        out = run(np.dstack([rgb, np.full(rgb.shape[:2], 128, np.uint8)]))
        assert (out[..., 3] == 128).all()
        shrunk = out[..., :3].reshape(24, 2, 20, 2, 3).mean((1, 3))
        assert np.abs(shrunk - rgb).mean() < 8

    def test_all_transparent(self, run: Callable[..., Any]) -> None:
        assert not run(np.zeros((9, 9, 2), np.uint8)).any()

    def test_alpha_is_interpolated(self, run: Callable[..., Any], rgb: np.ndarray) -> None:
        alpha = rgb[..., 0]
        out = run(np.dstack([rgb, alpha]))
        plain = resize(torch.from_numpy(alpha)[None].float() / 255, (48, 40)).clamp(0, 1)
        assert np.array_equal(out[..., 3], (plain[0] * 255).round().byte().numpy())


@pytest.fixture(scope="module")
def done(rgb: np.ndarray) -> Enhanced:
    settings = parse_settings({**TINY, "refinement": {"back_projections": 1}}, "test")
    request = Request(settings, (2, 1.5), seed=7, options=RunOptions("cpu", "fp32", tile=32))
    return enhance_picture(picture(rgb), request)


class TestEvidence:
    def test_shapes(self, done: Enhanced) -> None:
        assert done.picture.pixels.shape == (3, 48, 30)
        assert done.disagreement.shape == (48, 30)
        assert done.residual.shape == (24, 20)
        assert done.bicubic.shape == (3, 48, 30)
        assert done.disagreement.dtype == done.residual.dtype == torch.float32

    def test_the_picture_is_what_its_file_will_hold(self, done: Enhanced) -> None:
        scaled = done.picture.pixels * 255
        assert torch.allclose(scaled, scaled.round(), atol=1e-4)
        assert done.picture.metadata == done.source.metadata
        assert done.picture.bits == 8

    def test_the_residual_is_that_of_the_files_pixels(self, done: Enhanced) -> None:
        """Made again from the rounded result alone, in levels of 255."""
        error = (resize(done.picture.pixels, (24, 20)) - done.source.pixels).abs()
        assert torch.allclose(done.residual, error.mean(0) * 255, atol=1e-3)
        assert float(done.residual.max()) > 0.1
        assert done.work.residual_db == pytest.approx(float(-10 * error.square().mean().log10()), abs=2e-3)
        assert done.work.evidence.residual_mean == pytest.approx(float(done.residual.mean()), abs=1e-3)
        assert done.work.evidence.residual_largest == pytest.approx(float(done.residual.max()), abs=1e-3)

    def test_disagreement_is_in_levels(self, done: Enhanced) -> None:
        figures = done.work.evidence
        assert 0 < float(done.disagreement.min()) + 1e-6 <= float(done.disagreement.max()) < 255
        assert float(done.disagreement.max()) > 0.05
        assert figures.disagreement_mean == pytest.approx(float(done.disagreement.mean()), abs=1e-3)
        assert figures.disagreement_largest == pytest.approx(float(done.disagreement.max()), abs=1e-3)
        expected = float(np.quantile(done.disagreement.numpy(), 0.95))
        assert figures.disagreement_95th_percentile == pytest.approx(expected, abs=1e-3)

    def test_the_residual_is_by_the_kernel(self, rgb: np.ndarray) -> None:
        kernel = torch.tensor([[1.0, 2, 1], [2, 9, 4], [1, 2, 1]], dtype=torch.float64)
        done = enhance_picture(picture(rgb), by_kernel(kernel, (2, 2), parse_settings(TINY, "test")))
        again = KernelDownscale(kernel, (2, 2))(done.picture.pixels[None], (24, 20))[0]
        assert torch.allclose(done.residual, (again - done.source.pixels).abs().mean(0) * 255, atol=1e-3)
        assert done.work.downscale == "kernel"

    def test_transparent_images_are_measured_by_what_is_seen(self, rgb: np.ndarray) -> None:
        alpha = torch.ones(1, 24, 20)
        alpha[:, :, :10] = 0
        source = Picture(picture(rgb).pixels, alpha, 8, Metadata())
        done = enhance_picture(source, Request(parse_settings(TINY, "test"), options=CPU))
        assert float(done.residual[:, :6].max()) < 1

    def test_it_says_what_was_done(self, done: Enhanced) -> None:
        work = done.work
        assert work.true_scale == (2, 1.5)
        assert work.downscale == "bicubic"
        assert (str(done.machine.device), done.machine.precision, done.machine.tile) == ("cpu", "fp32", 32)
        assert done.machine.threads == torch.get_num_threads()
        assert work.notices == ("turned upright",)
        assert work.choice.why
        assert [step["name"] for step in work.steps] == ["train", "apply", "refine"]
        assert set(work.versions) == {"zssr-gan", "python", "torch", "numpy", "scipy", "pillow"}
        assert work.seconds > 0

    def test_the_true_scale_of_odd_sizes(self, face: Tensor) -> None:
        request = Request(parse_settings(TINY, "test"), (1.5, 1.5), options=CPU)
        done = enhance_picture(Picture(face, None, 8, Metadata()), request)
        assert done.work.true_scale == (38 / 25, 38 / 25)

    def test_small_images_take_their_settings(self, rgb: np.ndarray) -> None:
        settings = parse_settings({**TINY, "small": {"max_pixels": 480, "networks": 2}}, "test")
        done = enhance_picture(picture(rgb), Request(settings, options=CPU))
        assert isinstance(done.settings, ZeroShotSettings)
        assert done.settings.networks == 2
        assert len(done.work.steps[0]["seeds"]) == 2  # type: ignore[arg-type]


def test_noise_and_progress(run: Callable[..., Any], rgb: np.ndarray) -> None:
    told: list[Progress] = []
    noisy = run(rgb, noise=0.1, on_progress=told.append)
    assert [now.iteration for now in told if now.stage == "training"] == [1, 2]
    assert all(math.isfinite(now.loss) for now in told if now.stage == "training")
    assert not np.array_equal(noisy, run(rgb))


def test_no_such_preset(rgb: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no preset is called 'best'"):
        enhance(rgb, 2, "best")
    with pytest.raises(SettingsError, match="cannot be read"):
        enhance(rgb, 2, str(tmp_path / "none.yaml"))


class TestDegradation:
    """What a camera did beyond bicubic: given as data, or as the file of an estimate."""

    WIDE = Degradation(blur=GaussianBlur(sigma_major=1.2, sigma_minor=0.5, angle_degrees=20), noise=Noise(sigma=0.01))

    def test_the_residual_is_that_of_the_degradation(self, rgb: np.ndarray) -> None:
        facts = DegradationFacts.of(self.WIDE, "given", "")
        done = enhance_picture(picture(rgb), Request(parse_settings(TINY, "test"), degradation=facts, options=CPU))
        assert done.work.downscale == "degradation"
        again = self.WIDE.downscale(done.picture.pixels[None], (24, 20))[0]
        residual = (again - done.source.pixels).abs().mean(0) * 255
        assert torch.allclose(done.residual, residual, atol=1e-3)

    def test_nothing_to_it_is_bicubic(self, rgb: np.ndarray, run: Callable[..., Any]) -> None:
        assert np.array_equal(run(rgb), run(rgb, degradation=Degradation()))
        assert np.array_equal(run(rgb, noise=0.01), run(rgb, degradation="bicubic", noise=0.01))
        with pytest.raises(SettingsError, match="leave one out"):
            run(rgb, degradation="bicubic", kernel=np.ones((3, 3)))
        assert not np.array_equal(run(rgb), run(rgb, degradation=self.WIDE))

    def test_a_file_of_an_estimate(
        self, rgb: np.ndarray, run: Callable[..., Any], make_estimate: Callable[..., Estimate], tmp_path: Path
    ) -> None:
        path = tmp_path / "case.json"
        path.write_bytes(encode_estimate(make_estimate(degradation=self.WIDE)))
        given = run(rgb, degradation=self.WIDE)
        assert np.array_equal(run(rgb, degradation=path), given)
        assert np.array_equal(run(rgb, degradation=str(path)), given)
        with pytest.raises(SettingsError, match=r"none\.json"):
            run(rgb, degradation="none.json")

    def test_the_smallest_image(self, run: Callable[..., Any]) -> None:
        image = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
        assert run(image, degradation=self.WIDE).shape == (16, 16)

    def test_contradictions(self, rgb: np.ndarray, run: Callable[..., Any]) -> None:
        with pytest.raises(SettingsError, match="leave one out"):
            run(rgb, degradation=self.WIDE, kernel=np.ones((3, 3)))
        with pytest.raises(SettingsError, match="leave noise out"):
            run(rgb, degradation=self.WIDE, noise=0.01)
        of_three = Degradation(blur=KernelBlur(values=((1 / 4, 1 / 4), (1 / 4, 1 / 4)), scale=(3, 3)))
        with pytest.raises(SettingsError, match="belongs to the scale 3 x 3"):
            run(rgb, degradation=of_three)
