"""`enhance`: arrays and PIL images in and out, evidence, what was done, and a gain over bicubic on a truth."""

import io
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.footage import jpeg_of_webp
from zssr_gan.degradation.jpeg import compress
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.devices import RunOptions
from zssr_gan.errors import ImageError, ZssrGanError
from zssr_gan.imaging.io import decode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import resize
from zssr_gan.inference import enhance as module
from zssr_gan.inference.arrays import enhance
from zssr_gan.inference.enhance import Enhanced, enhance_picture, enhance_pictures
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.inference.request import Request
from zssr_gan.progress import Progress
from zssr_gan.settings.base import write_yaml
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset, parse_settings

TINY: dict[str, Any] = {
    "network": {"depth": 2, "width": 4, "initial": "lecun"},
    "pairs": {"crop": 16, "batch": 1},
    "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 2},
    "refinement": {"back_projections": 4},
}
CPU = RunOptions("cpu", "fp32")
WIDE = Degradation(blur=GaussianBlur(sigma_major=1.2, sigma_minor=0.5, angle_degrees=20), noise=Noise(sigma=0.01))
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    path.write_text(write_yaml(TINY), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def rgb(astronaut: Tensor) -> np.ndarray:
    """24 20 3 uint8."""
    return np.round(astronaut[:, 8:32, 20:40].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


@pytest.fixture
def run(preset: str) -> Run:
    def call(image: Any, scale: Any = 2, **options: Any) -> Any:
        return enhance(image, scale, preset, device="cpu", precision="fp32", **options)

    return call


def picture(samples: np.ndarray, bits: int = 8) -> Picture:
    pixels = torch.from_numpy(samples.copy()).permute(2, 0, 1).float() / (2**bits - 1)
    return Picture(pixels, None, bits, Metadata(dpi=(72, 72)), ("turned upright",))


def asked(degradation: Degradation | None = None, scale: tuple[float, float] = (2, 2), **settings: Any) -> Request:
    facts = DegradationFacts() if degradation is None else DegradationFacts.of(degradation, "given", "")
    return Request(parse_settings({**TINY, **settings}, "test"), scale, degradation=facts, options=CPU)


def kernel_blur(values: Any, scale: tuple[int, int]) -> Degradation:
    return Degradation(blur=KernelBlur(values=tuple(map(tuple, values)), scale=scale))


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
            "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 250},
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


def test_all_is_computed_on_the_threads_that_are_asked_for(
    run: Run, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for compression too: after a search on two threads, learning on one took half as long again."""
    seen, original = list[int](), module.find_compression
    monkeypatch.setattr(
        module, "find_compression", lambda *given: (seen.append(torch.get_num_threads()), original(*given))[1]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(rgb, threads=1)
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


class TestKinds:
    @pytest.mark.parametrize(
        ("dtype", "channels"),
        [
            *((np.uint8, channels) for channels in (None, 1, 2, 3, 4)),
            *((dtype, 3) for dtype in (np.uint16, np.float32, np.float64, np.float16)),
            *((dtype, 4) for dtype in (np.uint16, np.float32)),
        ],
    )
    def test_arrays_come_back_as_they_went(self, run: Run, rgb: np.ndarray, dtype: type, channels: int | None) -> None:
        image = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
        image = image[:, :, 0] if channels is None else image[:, :, [0, 3] if channels == 2 else slice(channels)]
        most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
        given = (image / 255 * most).astype(dtype)
        before = given.copy()
        out = run(given)
        assert (out.dtype, out.shape) == (dtype, (48, 40, *image.shape[2:]))
        assert np.array_equal(given, before)
        # The same picture, whatever its kind: shrunk again it is near to what was given.
        shrunk = out.reshape(24, 2, 20, 2, -1).astype(float).mean((1, 3)) / most
        assert np.abs(shrunk - image.reshape(24, 20, -1) / 255).mean() < 0.03
        if dtype in (np.uint16, np.float32):
            swapped = given.astype(given.dtype.newbyteorder(">" if sys.byteorder == "little" else "<"))
            assert np.array_equal(run(swapped), out)

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
    def test_pil_images_come_back_as_they_went(self, run: Run, rgb: np.ndarray, mode: str) -> None:
        deep = rgb[:, :, 0].astype(np.uint16) * 257
        given = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(rgb).convert(mode)
        out = run(given)
        assert isinstance(out, Image.Image)
        assert (out.mode, out.size) == (mode, (40, 48))
        assert np.array_equal(np.asarray(out), run(np.asarray(given)))

    @pytest.mark.parametrize("transparent", [False, True])
    def test_palettes_become_colours(self, run: Run, rgb: np.ndarray, transparent: bool) -> None:
        given = Image.fromarray(rgb).quantize(16)
        if transparent:
            given.info["transparency"] = 3
        assert run(given).mode == ("RGBA" if transparent else "RGB")

    def test_16_bit_keeps_its_depth(self, run: Run, rgb: np.ndarray) -> None:
        """Dark 16-bit images are known by their dtype, not by their brightest pixel."""
        out = run((rgb[:, :, 0].astype(np.uint16) + 3) // 4)
        assert (out.dtype, out.max() < 1000) == (np.uint16, True)
        assert len(np.unique(run(rgb.astype(np.uint16) * 257))) > 256

    def test_strided_and_read_only_arrays(self, run: Run, rgb: np.ndarray) -> None:
        strided = np.repeat(rgb, 2, 1)[:, ::2]
        strided.flags.writeable = False
        assert np.array_equal(run(strided), run(rgb))
        assert np.array_equal(run(rgb[:, ::-1]), run(np.ascontiguousarray(rgb[:, ::-1])))

    @pytest.mark.parametrize(
        ("scale", "shape"), [(1.5, (36, 30)), (1.1, (26, 22)), ((1, 2), (24, 40)), ((2.5, 1.25), (60, 25))]
    )
    def test_scales(self, run: Run, rgb: np.ndarray, scale: Any, shape: tuple[int, int]) -> None:
        assert run(rgb, scale).shape == (*shape, 3)

    @pytest.mark.parametrize("gray", [False, True])
    def test_noise_that_is_seen_is_learnt_against(self, run: Run, gray: bool) -> None:
        """And said; less of it is in the result, and a user can set it or turn it off."""
        rng = np.random.default_rng(0)
        noisy = np.clip(128 + 10 * rng.standard_normal((32, 32) if gray else (32, 32, 3)), 0, 255).astype(np.uint8)
        ignored, seen, given = (run(noisy, **options) for options in ({"degradation": "bicubic"}, {}, {"noise": 0.04}))
        assert np.std(seen) < 0.9 * np.std(ignored)
        assert np.std(given) < 0.9 * np.std(ignored)
        done = enhance_picture(picture(np.atleast_3d(noisy)), asked())
        assert done.request.degradation.source == "picture"
        assert any("noise of" in notice for notice in done.work.notices)
        quiet = enhance_picture(
            picture(np.atleast_3d(noisy)),
            replace(asked(), degradation=DegradationFacts.of(Degradation(), "bicubic", "")),
        )
        assert not any("noise of" in notice for notice in quiet.work.notices)

    @pytest.mark.parametrize("way", ["tables", "pixels"])
    def test_compression_of_the_picture_is_learnt_against(self, astronaut: Tensor, way: str) -> None:
        """By the file's tables, or found in the pixels; noise is not looked for beside it."""
        jpeg = Jpeg.of_quality(60)
        pixels = compress(astronaut[None], jpeg.luma, jpeg.chroma)[0][:, 8:40, 16:48]
        shown = Picture(pixels, None, 8, Metadata())
        done = enhance_pictures([shown], asked(), jpegs=[jpeg if way == "tables" else None])[0]
        used = done.request.degradation
        assert used.source == "picture"
        assert used.values == Degradation(jpeg=jpeg)
        assert any("JPEG quality 60" in notice for notice in done.work.notices)
        (ignored,) = enhance_pictures([shown], asked(Degradation()), jpegs=[jpeg])
        assert ignored.request.degradation.values == Degradation()

    def test_a_single_frame_of_a_video_is_taken_as_compressed(self, astronaut: Tensor) -> None:
        """By the levels of a gray frame; not where bicubic is asked for."""
        levels = (astronaut.mean(0, keepdim=True) * 219).round()
        frame = Picture((levels * 255 / 219).floor() / 255, None, 8, Metadata())
        done = enhance_picture(frame, asked())
        assert done.request.degradation.values == Degradation(jpeg=Jpeg.of_quality(60))
        assert any("a video's compression" in notice for notice in done.work.notices)
        assert enhance_picture(frame, asked(Degradation())).request.degradation.values == Degradation()

    def test_lossy_webp_is_no_video_and_its_quantiser_says_how_strong_it_is(self, rgb: np.ndarray) -> None:
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, "WEBP", quality=60)
        read = decode_picture(file.getvalue(), "x.webp")
        assert read.webp_step is not None
        done = enhance_picture(read, asked())
        assert done.request.degradation.values == Degradation(jpeg=jpeg_of_webp(read.webp_step))
        assert done.request.degradation.codec == "webp"
        (said,) = (notice for notice in done.work.notices if "WebP's compression" in notice)
        assert f"steps of {read.webp_step:.0f} levels" in said
        assert "video" not in said

    def test_noise_progress_and_lists_as_kernels(self, run: Run, rgb: np.ndarray) -> None:
        seen: list[Progress] = []
        assert not np.array_equal(run(rgb, noise=0.1, on_progress=seen.append), run(rgb))
        assert [now.iteration for now in seen if now.stage == "learning from the picture"] == [1, 2]
        assert all(math.isfinite(now.loss) for now in seen if now.stage == "learning from the picture")
        kernel = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
        assert np.array_equal(run(rgb, kernel=kernel), run(rgb, kernel=np.array(kernel)))


def test_several_pictures_are_as_each_alone(rgb: np.ndarray) -> None:
    pictures = [picture(rgb), picture(rgb[:12, :, :1])]
    together = enhance_pictures(pictures, asked())
    for one, given in zip(together, pictures, strict=True):
        assert torch.equal(one.picture.pixels, enhance_picture(given, asked()).picture.pixels)
    assert enhance_pictures([], asked()) == []


class TestGrayInColours:
    """A picture whose red, green and blue are the same is worked on as the gray picture that it is."""

    @pytest.mark.parametrize("scale", [2, (2, 1.5)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_is_the_gray_result(self, run: Run, rgb: np.ndarray, dtype: type, scale: Any) -> None:
        most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
        gray = (rgb[..., 0] / 255 * most).astype(dtype)
        out = run(np.dstack([gray] * 3), scale)
        assert np.array_equal(out, np.dstack([run(gray, scale)] * 3))
        assert out.std() > 0.01 * most

    def test_with_alpha_that_hides_colours(self, run: Run, rgb: np.ndarray) -> None:
        gray, alpha = np.dstack([rgb[..., 0]] * 3), np.full(rgb.shape[:2], 255, np.uint8)
        alpha[:10, :8] = 0
        gray[:10, :8] = (200, 30, 90)
        out = run(np.dstack([gray, alpha]))
        assert (np.ptp(out[..., :3], axis=2) == 0).all()
        assert set(np.unique(out[..., 3])) > {0, 255}

    def test_palettes_and_one_colour_alone(self, run: Run, rgb: np.ndarray) -> None:
        gray = Image.fromarray(np.dstack([rgb[..., 0]] * 3))
        palette = gray.quantize(16)
        assert palette.mode == "P"
        colours = np.asarray(palette.convert("RGB"))
        assert np.array_equal(np.asarray(run(palette)), np.dstack([run(colours[..., 0])] * 3))
        tinted = np.asarray(gray).copy()
        tinted[3, 3] = (120, 121, 120)
        assert np.ptp(run(tinted), axis=2).max() > 0

    def test_known_degradations_and_seen_noise(self, run: Run) -> None:
        gray = np.random.default_rng(0).normal(120, 12, (40, 40)).clip(0, 255).astype(np.uint8)
        three = np.dstack([gray] * 3)
        seen = enhance_picture(picture(three), asked())
        assert seen.request.degradation.source == "picture"
        for out in ((seen.picture.pixels * 255).round().byte().permute(1, 2, 0).numpy(), run(three, degradation=WIDE)):
            assert (np.ptp(out, axis=2) == 0).all()
        assert seen.work.residual_db > 10
        assert seen.residual.shape == (40, 40)


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
    def test_other_kinds(self, run: Run, image: Any, words: str) -> None:
        with pytest.raises(TypeError, match=words):
            run(image)

    @pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf])
    def test_floats_outside_their_range(self, run: Run, value: float) -> None:
        image = np.full((8, 8), 0.5)
        image[3, 4] = value
        with pytest.raises(ImageError, match=r"must lie in \[0, 1\]"):
            run(image)
        with pytest.raises(ImageError, match="NaN"):
            enhance_picture(
                Picture(torch.full((1, 8, 8), torch.nan), None, 8, Metadata()), Request(load_preset("fast"))
            )

    @pytest.mark.parametrize("shape", [(7, 30), (30, 7, 3), (0, 8), (1, 1)])
    def test_too_small(self, run: Run, shape: tuple[int, ...]) -> None:
        with pytest.raises(ImageError, match=f"is {shape[1]}x{shape[0]} pixels; zero-shot learning needs at least 8"):
            run(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            *(({"scale": scale}, "must lie between 1 and 8 a side") for scale in (0.5, 8.01, (2, 9), math.nan, -2)),
            *(
                ({"scale": scale}, r"^the scale is a number, or two as \(y, x\), not ")
                for scale in ((2, 2, 2), (2,), (), [2, "x"], "x", np.array([2, 2]))
            ),
            *(
                ({"seed": seed}, r"^the seed is a whole number from 0 to 2\^63 - 1, not ")
                for seed in ("x", 1.5, None, -1, 2**63)
            ),
            *(
                ({"noise": noise}, r"^noise is a standard deviation from 0 to 0\.5, where 1 is white, not ")
                for noise in (0.7, -0.01, "x", math.nan)
            ),
            ({"device": "abacus"}, "no device"),
            ({"kernel": np.zeros((3, 3))}, "sum above zero"),
            ({"kernel": [[1, 2], [3]]}, "not an array of numbers"),
            ({"kernel": [1, 2, 1]}, "two dimensions"),
            ({"kernel": np.ones((3, 3)), "scale": 1.5}, "whole numbers"),
            ({"kernel": np.ones((3, 3)), "degradation": "bicubic"}, "leave one out"),
            ({"kernel": np.ones((3, 3)), "degradation": WIDE}, "leave one out"),
            ({"noise": 0.01, "degradation": WIDE}, "leave noise out"),
            ({"degradation": kernel_blur([[0.25] * 2] * 2, (3, 3))}, "belongs to the scale 3 x 3"),
            ({"degradation": "none.json"}, r"none\.json"),
            ({"threads": 0}, "0 threads"),
            ({"tile": 3}, "tiles of 3 pixels"),
            ({"preset": "best"}, "no preset is called 'best'"),
            ({"preset": "none.yaml"}, "no such file in the working directory"),
        ],
    )
    def test_options(self, preset: str, rgb: np.ndarray, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ZssrGanError, match=words) as caught:
            enhance(rgb, **{"scale": 2, "preset": preset, "device": "cpu", **options})
        assert "\n" not in str(caught.value)
        assert "--" not in str(caught.value)  # who calls from Python has no flags

    @pytest.mark.parametrize("grid", ["interpolated", "lr"])
    @pytest.mark.parametrize("scale", [(2, 2), (8, 8), (3, 4), (4, 5), (4, 7), (5, 7), (7, 8)])
    def test_kernels_on_the_smallest_image_that_is_taken(self, grid: str, scale: tuple[int, int]) -> None:
        """Whatever is not refused works: LR patches of such a kernel must still have pixels, in every phase."""
        network, pairs = {**TINY["network"], "grid": grid}, {"crop": 64, "phases": True}
        request = asked(kernel_blur([[1 / 9] * 3] * 3, scale), scale, network=network, pairs=pairs)
        for side in range(8, 80):
            image = Picture(torch.full((1, side, side), 0.5), None, 8, Metadata())
            try:
                done = enhance_picture(image, request)
            except ImageError:
                continue
            assert done.picture.pixels.shape == (1, side * scale[0], side * scale[1])
            return
        pytest.fail("even 79 pixels are refused")


class TestSameBytes:
    def test_calls_do_not_depend_on_each_other(self, run: Run, rgb: np.ndarray) -> None:
        first = run(rgb)
        before = torch.get_rng_state()
        assert not np.array_equal(run(rgb, seed=1), first)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(123)
        run(rgb[::-1])
        assert np.array_equal(run(rgb.copy()), first)

    def test_draws_come_from_content(self, rgb: np.ndarray) -> None:
        """One level of one pixel changes the seeds; what the picture is called or carries does not."""

        def seeds(image: Picture) -> object:
            return enhance_picture(image, asked()).work.steps[0]["seeds"]

        other = rgb.copy()
        other[5, 5, 0] ^= 1
        assert seeds(picture(rgb)) == seeds(Picture(picture(rgb).pixels, None, 8, Metadata()))
        assert seeds(picture(rgb)) != seeds(picture(other))


class TestTransparency:
    def test_no_dark_fringes(self, run: Run) -> None:
        """A white shape, black where it cannot be seen: what is seen stays white up to its edge."""
        image = np.zeros((24, 24, 4), np.uint8)
        image[6:18, 8:20] = 255
        out = run(image)
        seen = out[:, :, 3] > 25
        assert seen.sum() > 400
        assert out[seen][:, :3].min() > 225

    def test_hidden_colours_do_not_bleed(self, run: Run) -> None:
        hidden, black = np.zeros((24, 24, 4), np.uint8), np.zeros((24, 24, 4), np.uint8)
        for image in (hidden, black):
            image[6:18, 8:20] = (40, 90, 200, 255)
        hidden[..., :3] = np.where(hidden[..., 3:] == 0, np.array([255, 0, 0]), hidden[..., :3])
        assert np.array_equal(run(hidden), run(black))
        assert not run(np.zeros((9, 9, 2), np.uint8)).any()

    def test_alpha_is_interpolated_and_changes_no_colour(self, run: Run, rgb: np.ndarray) -> None:
        alpha = rgb[..., 0]
        plain = resize(torch.from_numpy(alpha)[None].float() / 255, (48, 40)).clamp(0, 1)
        assert np.array_equal(run(np.dstack([rgb, alpha]))[..., 3], (plain[0] * 255).round().byte().numpy())
        opaque = run(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]))
        assert np.array_equal(opaque[..., :3], run(rgb))
        half = run(np.dstack([rgb, np.full(rgb.shape[:2], 128, np.uint8)]))
        assert (half[..., 3] == 128).all()
        assert np.abs(half[..., :3].reshape(24, 2, 20, 2, 3).mean((1, 3)) - rgb).mean() < 8

    def test_what_is_hidden_is_not_missed(self, rgb: np.ndarray) -> None:
        alpha = torch.ones(1, 24, 20)
        alpha[:, :, :10] = 0
        done = enhance_picture(Picture(picture(rgb).pixels, alpha, 8, Metadata()), asked())
        assert float(done.residual[:, :6].max()) < 1
        assert not done.added_variation[:, :16].any()


@pytest.fixture(scope="module")
def done(rgb: np.ndarray) -> Enhanced:
    settings = parse_settings({**TINY, "refinement": {"back_projections": 1}}, "test")
    request = Request(settings, (2, 1.5), seed=7, options=RunOptions("cpu", "fp32", tile=32))
    return enhance_picture(picture(rgb), request)


class TestEvidence:
    def test_the_picture_is_what_its_file_will_hold(self, done: Enhanced) -> None:
        assert done.picture.pixels.shape == done.bicubic.shape == (3, 48, 30)
        scaled = done.picture.pixels * 255
        assert torch.allclose(scaled, scaled.round(), atol=1e-4)
        assert (done.picture.metadata, done.picture.bits) == (done.source.metadata, 8)

    def test_the_residual_is_that_of_the_files_pixels(self, done: Enhanced) -> None:
        """Made again from the rounded result alone, in levels of 255."""
        error = (resize(done.picture.pixels, (24, 20)) - done.source.pixels).abs()
        assert torch.allclose(done.residual, error.mean(0) * 255, atol=1e-3)
        assert float(done.residual.max()) > 0.1
        assert done.work.residual_db == pytest.approx(float(-10 * error.square().mean().log10()), abs=2e-3)
        assert done.work.evidence.residual_mean == pytest.approx(float(done.residual.mean()), abs=1e-3)
        assert done.work.evidence.residual_largest == pytest.approx(float(done.residual.max()), abs=1e-3)

    @pytest.mark.parametrize(
        ("degradation", "name"),
        [(WIDE, "degradation"), (kernel_blur([[1.0, 2, 1], [2, 9, 4], [1, 2, 1]], (2, 2)), "kernel")],
    )
    def test_the_residual_is_that_of_the_degradation(
        self, rgb: np.ndarray, degradation: Degradation, name: str
    ) -> None:
        done = enhance_picture(picture(rgb), asked(degradation))
        assert done.work.downscale == name
        again = degradation.downscale(done.picture.pixels[None], (24, 20))[0]
        assert torch.allclose(done.residual, (again - done.source.pixels).abs().mean(0) * 255, atol=1e-3)

    def test_disagreement_is_in_levels(self, done: Enhanced) -> None:
        figures, views = done.work.evidence, done.disagreement
        assert views.shape == (48, 30)
        assert 0 <= float(views.min()) <= float(views.max()) < 255
        assert float(views.max()) > 0.05
        assert figures.disagreement_mean == pytest.approx(float(views.mean()), abs=1e-3)
        assert figures.disagreement_largest == pytest.approx(float(views.max()), abs=1e-3)
        expected = float(np.quantile(views.numpy(), 0.95))
        assert figures.disagreement_95th_percentile == pytest.approx(expected, abs=1e-3)

    def test_it_says_what_was_done(self, done: Enhanced, face: Tensor) -> None:
        work, used = done.work, done.machine
        assert (work.true_scale, work.downscale) == ((2, 1.5), "bicubic")
        assert (str(used.device), used.precision, used.tile, used.threads) == (
            *("cpu", "fp32", 32),
            torch.get_num_threads(),
        )
        assert work.notices == ("turned upright",)
        assert work.choice.why
        assert [step["name"] for step in work.steps] == ["train", "apply", "refine"]
        assert set(work.versions) == {"zssr-gan", "python", "torch", "numpy", "scipy", "pillow"}
        assert work.seconds > 0
        odd = enhance_picture(Picture(face, None, 8, Metadata()), asked(scale=(1.5, 1.5)))
        assert odd.work.true_scale == (38 / 25, 38 / 25)

    def test_small_images_take_their_settings(self, rgb: np.ndarray) -> None:
        done = enhance_picture(picture(rgb), asked(small={"networks": 2}))
        assert isinstance(done.settings, ZeroShotSettings)
        assert done.settings.networks == 2
        assert len(done.work.steps[0]["seeds"]) == 2  # type: ignore[arg-type]


def test_degradations(run: Run, rgb: np.ndarray, make_estimate: Callable[..., Estimate], tmp_path: Path) -> None:
    """Given as data or as the file of an estimate; nothing to it is bicubic."""
    path = tmp_path / "case.json"
    path.write_bytes(encode_estimate(make_estimate(degradation=WIDE)))
    given = run(rgb, degradation=WIDE)
    assert np.array_equal(run(rgb, degradation=path), given)
    assert np.array_equal(run(rgb, degradation=str(path)), given)
    assert not np.array_equal(run(rgb), given)
    assert np.array_equal(run(rgb), run(rgb, degradation=Degradation()))
    assert np.array_equal(run(rgb, noise=0.01), run(rgb, degradation="bicubic", noise=0.01))
    smallest = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    assert run(smallest, degradation=WIDE).shape == (16, 16)


class TestFaintPictures:
    """A 16-bit picture that uses 1/64 of its range is learnt from as one that uses all of it."""

    @pytest.fixture
    def faint(self, rgb: np.ndarray) -> np.ndarray:
        samples = rgb.astype(np.uint16) * 4
        samples[0, 0] = (0, 600, 1020)
        return samples

    @pytest.mark.parametrize("sigma", [0, 0.01])
    def test_are_stretched_and_brought_back(self, faint: np.ndarray, sigma: float) -> None:
        def result(samples: np.ndarray, sigma: float) -> Enhanced:
            noise = Degradation(noise=Noise(sigma=sigma)) if sigma else None
            return enhance_picture(picture(samples, 16), asked(noise))

        stretched, full = result(faint, sigma / 64), result(faint * 64, sigma)
        assert torch.allclose(stretched.picture.pixels * 64, full.picture.pixels, atol=64 / 65535)
        assert torch.allclose(stretched.disagreement * 64, full.disagreement, atol=0.02, rtol=0.01)
        assert stretched.work.steps[0]["gain"] == 64
        assert "faint" in stretched.work.notices[-1]
        assert stretched.work.residual_db > full.work.residual_db + 30
        assert all(step["name"] != "stretch" for step in full.work.steps)

    @pytest.mark.parametrize("level", [65535, 0])
    def test_a_hot_pixel_does_not_stop_it_and_stays(self, faint: np.ndarray, level: int) -> None:
        without = enhance_picture(picture(faint + 30000, 16), asked())
        hot = faint + 30000
        hot[5, 6] = level
        done = enhance_picture(picture(hot, 16), asked())
        assert done.work.steps[0]["gain"] == without.work.steps[0]["gain"]
        assert "of its pixels, such as hot ones" in done.work.notices[-1]
        there, before = (65535 * one.picture.pixels for one in (done, without))
        assert abs(float(there[:, 10:12, 12:14].mean()) - level) < 12000
        far = torch.ones(there.shape[1:], dtype=torch.bool)
        far[2:20, 4:22] = False
        assert (there - before)[:, far].abs().mean() < 100  # of 1024 that are used
        # Pixels around it are changed towards it alone, but for what the network makes of a clipped one.
        ring = (there - before)[:, 2:20, 4:22] * (1 if level else -1)
        assert ring.min() > -1100

    def test_an_offset(self, faint: np.ndarray) -> None:
        done = enhance_picture(picture(faint + 30000, 16), asked())
        assert done.work.steps[0]["gain"] == 64
        assert 0.45 < done.picture.pixels.min() < done.picture.pixels.max() < 0.48

    def test_more_than_a_few_bright_pixels_are_named(self, faint: np.ndarray) -> None:
        rows = max(1, round(0.03 * len(faint)))
        faint[:rows] = 60000
        done = enhance_picture(picture(faint, 16), asked())
        assert all(step["name"] != "stretch" for step in done.work.steps)
        assert "too many lie outside" in done.work.notices[-1]

    def test_with_compression_they_are_named(self, faint: np.ndarray) -> None:
        done = enhance_picture(picture(faint, 16), asked(Degradation(jpeg=Jpeg.of_quality(60))))
        assert all(step["name"] != "stretch" for step in done.work.steps)
        assert "since compression is learnt against" in done.work.notices[-1]

    def test_others_are_left_as_they_are(self, rgb: np.ndarray) -> None:
        eight = picture(rgb // 32)
        for one in (eight, picture(rgb.astype(np.uint16) * 64, 16), picture(np.full((9, 9, 3), 500), 16)):
            done = enhance_picture(one, asked())
            assert all(step["name"] != "stretch" for step in done.work.steps)
            assert not any("faint" in notice for notice in done.work.notices)
