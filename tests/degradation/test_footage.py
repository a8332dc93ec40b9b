"""Frames of a video are told by their colours; blur is used where the codec has left the noise."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from tests.zeroshot.native import QUICK, evidence, pieces
from zssr_gan.degradation.estimator import estimate_degradation
from zssr_gan.degradation.footage import footage_verdict, is_footage
from zssr_gan.degradation.model import Degradation, GaussianBlur
from zssr_gan.degradation.recurrence import Fit

BLUR = GaussianBlur(sigma_major=0.6, sigma_minor=0.5)


def photograph(quality: int | None = None) -> Tensor:
    """`3 400 400`, also as it is read from a JPEG file."""
    image = Image.fromarray(data.astronaut()[:400, 60:460])
    if quality is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        image = Image.open(io.BytesIO(file.getvalue()))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def as_frame(image: Tensor, matrix: str = "601") -> Tensor:
    """Colours averaged over 2x2 pixels and enlarged by repetition, levels rounded."""
    red, blue = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}[matrix]
    luma = (image * torch.tensor([red, 1 - red - blue, blue])[:, None, None]).sum(0)
    halved = torch.nn.functional.avg_pool2d(image[::2] - luma, 2)
    r, b = luma + torch.nn.functional.interpolate(halved[None], scale_factor=2)[0]
    green = (luma - red * r - blue * b) / (1 - red - blue)
    return (torch.stack([r, green, b]).clamp(0, 1) * 255).round() / 255


def crops(image: Tensor, height: int = 32, width: int = 32) -> list[Tensor]:
    """At odd and even places."""
    return [image[:, y : y + height, x : x + width] for y in range(60, 200, 37) for x in range(20, 200, 45)]


class TestIsFootage:
    @pytest.mark.parametrize("matrix", ["601", "709"])
    @pytest.mark.parametrize("size", [(32, 32), (16, 20), (15, 21)])
    def test_of_crops_of_a_frame(self, matrix: str, size: tuple[int, int]) -> None:
        assert is_footage(crops(as_frame(photograph(), matrix), *size))

    @pytest.mark.parametrize("quality", [None, 95, 75, 40])
    @pytest.mark.parametrize("size", [(32, 32), (16, 20)])
    def test_photographs_are_none(self, quality: int | None, size: tuple[int, int]) -> None:
        assert not any(is_footage([crop]) for crop in crops(photograph(quality), *size))

    def test_what_is_repeated_in_luma_too_is_none(self) -> None:
        assert not is_footage([photograph()[:, ::4, ::4].repeat_interleave(2, 1).repeat_interleave(2, 2)])

    def test_most_images_decide(self) -> None:
        frame, other = crops(as_frame(photograph())), crops(photograph())
        assert is_footage(frame[:5] + other[:3])
        assert not is_footage(frame[:3] + other[:5])

    @pytest.mark.parametrize("rounding", [0, 0.5])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_gray_frames_by_their_levels(self, channels: int, rounding: float) -> None:
        """Those of a photograph are between those of video."""
        levels = (photograph().mean(0, keepdim=True) * 219).round() * 255 / 219 + rounding
        frames = crops((levels.floor() / 255).expand(channels, -1, -1))
        assert is_footage(frames)
        gray = crops(((photograph().mean(0, keepdim=True) * 255).round() / 255).expand(channels, -1, -1))
        assert not any(is_footage([crop]) for crop in gray)
        assert not is_footage([(levels // 16).floor() * 16 / 255])  # too few levels to tell

    def test_gray_flat_and_tiny_images_say_nothing(self) -> None:
        frame = as_frame(photograph())
        assert not is_footage([])
        assert not is_footage([frame[:1], frame[:1].expand(3, -1, -1), torch.zeros(3, 32, 32), frame[:, :7, :30]])
        assert is_footage([frame, torch.zeros(3, 32, 32)])


class TestVerdict:
    def test_a_blur_is_used_where_the_codec_has_changed_little(self) -> None:
        used, jpeg, why = footage_verdict(Fit(BLUR, 2 / 255, 0.1), True, "reason")
        assert used
        assert jpeg is not None
        assert "reason; the colours" in why

    def test_bicubic_is_assumed_where_that_blur_is_not_sure(self) -> None:
        used, jpeg, why = footage_verdict(Fit(BLUR, 2 / 255, 0.1), False, "bicubic is assumed: reason")
        assert not used
        assert jpeg is None
        assert why.startswith("bicubic is assumed: ")

    @pytest.mark.parametrize("sure", [False, True])
    @pytest.mark.parametrize(("noise", "misfit", "trace"), [(0.3, 0.1, "noise of 0.3"), (2.0, 0.2, "misfit 0.20")])
    def test_where_it_has_changed_much_its_compression_alone(
        self, noise: float, misfit: float, trace: str, sure: bool
    ) -> None:
        used, jpeg, why = footage_verdict(Fit(BLUR, noise / 255, misfit), sure, "reason")
        assert not used
        assert jpeg is not None
        assert trace in why

    def test_of_images_that_are_too_few_for_a_blur(self) -> None:
        used, jpeg, why = footage_verdict(None, False, "bicubic is assumed: too few")
        assert not used
        assert jpeg is None
        assert "too few; the colours" in why

    def test_an_estimate_of_smooth_frames_uses_no_blur(self) -> None:
        smooth = pieces(Degradation(blur=GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=30)))[::3]
        frames = estimate_degradation(evidence([as_frame(one) for one in smooth]), QUICK)
        assert frames.degradation.blur is None
        assert frames.fallback
        assert frames.degradation.jpeg is not None
        assert frames.jpeg_from == "colours"
        assert "a video's compression" in frames.summary
