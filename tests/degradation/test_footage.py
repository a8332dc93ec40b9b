"""Frames of a video are told by their colours; blur is used where the codec has left the noise."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from tests.zeroshot.native import QUICK, evidence, pieces
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimate_lines import lines_of
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.footage import (
    KNOWN_FOOTAGE,
    SEEN_FOOTAGE,
    WEBP_FOOTAGE,
    are_frames,
    footage_verdict,
    is_frame,
    jpeg_of_frame,
    jpeg_of_webp,
)
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg
from zssr_gan.degradation.recurrence import Fit
from zssr_gan.inference.record import DegradationFacts

WEIGHTS = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
"""Of red and blue in luma."""
BLUR = GaussianBlur(sigma_major=0.6, sigma_minor=0.5)


def photograph(quality: int | None = None) -> Tensor:
    """`3 400 400`, also as it is read from a JPEG file."""
    image = Image.fromarray(data.astronaut()[:400, 60:460])
    if quality is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        image = Image.open(io.BytesIO(file.getvalue()))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def luma(image: Tensor, matrix: str = "601") -> Tensor:
    red, blue = WEIGHTS[matrix]
    return (image * torch.tensor([red, 1 - red - blue, blue])[:, None, None]).sum(0)


def as_frame(image: Tensor, matrix: str = "601") -> Tensor:
    """Colours averaged over 2x2 pixels and enlarged by repetition, levels rounded."""
    (red, blue), y = WEIGHTS[matrix], luma(image, matrix)
    halved = torch.nn.functional.avg_pool2d(image[::2] - y, 2)
    r, b = y + torch.nn.functional.interpolate(halved[None], scale_factor=2)[0]
    green = (y - red * r - blue * b) / (1 - red - blue)
    return (torch.stack([r, green, b]).clamp(0, 1) * 255).round() / 255


def video_frame(image: Tensor, matrix: str = "601", mode: str = "bilinear") -> Tensor:
    """As a player shows a frame of 8 bits in 4:2:0 and limited range, its colours enlarged by `mode`."""
    (red, blue), y = WEIGHTS[matrix], luma(image, matrix)
    chroma = torch.stack([(image[2] - y) / (1 - blue), (image[0] - y) / (1 - red)]) / 2
    halved = (torch.nn.functional.avg_pool2d(chroma, 2) * 224).round() / 224
    u, v = torch.nn.functional.interpolate(halved[None], scale_factor=2, mode=mode)[0]
    y = (y * 219).round() / 219
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    shown = torch.stack([r, (y - red * r - blue * b) / (1 - red - blue), b])
    return (shown.clamp(0, 1) * 255).round() / 255


def crops(image: Tensor, height: int = 32, width: int = 32) -> list[Tensor]:
    """At odd and even places."""
    return [image[:, y : y + height, x : x + width] for y in range(60, 200, 37) for x in range(20, 200, 45)]


class TestIsFrame:
    @pytest.mark.parametrize("matrix", ["601", "709"])
    @pytest.mark.parametrize("size", [(32, 32), (16, 20), (15, 21)])
    def test_of_crops_of_a_frame_with_repeated_colours(self, matrix: str, size: tuple[int, int]) -> None:
        says = [is_frame(crop) for crop in crops(as_frame(photograph(), matrix), *size)]
        assert says.count(True) > 0.8 * len(says)

    @pytest.mark.parametrize("matrix", ["601", "709"])
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic", "area"])
    def test_whatever_filter_enlarged_the_colours(self, matrix: str, mode: str) -> None:
        frame = video_frame(photograph(), matrix, mode)
        says = [is_frame(crop) for crop in crops(frame)]
        assert says.count(True) > 0.9 * len(says)
        assert False not in says
        says = [is_frame(crop) for crop in crops(frame, 16, 20)]
        assert says.count(True) > 0.6 * len(says)
        assert False not in says

    @pytest.mark.parametrize(
        ("codec", "pixel_format", "options"),
        [
            ("libx264", "yuv422p", {"crf": "26"}),
            ("mpeg2video", "yuv422p", {"qmin": "4", "qmax": "4"}),
            ("libx264", "yuv420p", {"crf": "26", "x264-params": "interlaced=1:log-level=none"}),
            ("mpeg2video", "yuv420p", {"qmin": "4", "qmax": "4", "flags": "+ildct+ilme"}),
        ],
    )
    def test_of_colours_that_have_half_the_width_alone_or_belong_to_fields(
        self, codec: str, pixel_format: str, options: dict[str, str], tmp_path: Path
    ) -> None:
        """As FFmpeg shows them unless told otherwise."""
        av = pytest.importorskip("av", reason="needs the extra video")
        from tests.video import clips

        shown = (photograph()[:, :240] * 255).byte().permute(1, 2, 0).numpy()
        path = clips.write(tmp_path / "v.mkv", codec, pixel_format=pixel_format, pictures=[shown] * 2, options=options)
        with av.open(str(path)) as video:
            *_, last = video.decode(video=0)
        frame = torch.from_numpy(last.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255
        assert is_frame(frame)
        says = [is_frame(crop) for crop in crops(frame)]
        assert says.count(True) > 0.6 * len(says)
        assert says.count(False) <= 1

    def test_where_levels_are_rounded_before_the_colours_are_added(self) -> None:
        table = (torch.arange(220) * 255 / 219 - 0.116).floor().clamp_min(0)
        y = (luma(photograph()) * 219).round().long()
        red, green, blue = (table[(y + moved).clamp(0, 219)] for moved in (5, -3, 2))
        assert is_frame(torch.stack([red, green, blue]) / 255)

    @pytest.mark.parametrize("quality", [None, 95, 75, 40])
    @pytest.mark.parametrize("size", [(32, 32), (16, 20), (400, 400)])
    def test_photographs_are_none(self, quality: int | None, size: tuple[int, int]) -> None:
        assert not any(is_frame(crop) for crop in crops(photograph(quality), *size))

    def test_full_range_is_none(self) -> None:
        """JPEG stores luma in 256 levels."""
        assert is_frame((photograph(95) * 255).round() / 255) is False

    def test_what_is_repeated_in_luma_too_is_none(self) -> None:
        assert not is_frame(photograph()[:, ::4, ::4].repeat_interleave(2, 1).repeat_interleave(2, 2))

    @pytest.mark.parametrize("rounding", [0, 0.5])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_gray_frames_by_their_levels(self, channels: int, rounding: float) -> None:
        """Those of a photograph are between those of video."""
        levels = (photograph().mean(0, keepdim=True) * 219).round() * 255 / 219 + rounding
        says = [is_frame(crop) for crop in crops((levels.floor() / 255).expand(channels, -1, -1))]
        assert says.count(True) > 0.5 * len(says)
        assert False not in says
        gray = crops(((photograph().mean(0, keepdim=True) * 255).round() / 255).expand(channels, -1, -1))
        assert not any(is_frame(crop) for crop in gray)
        assert is_frame((levels // 16).floor() * 16 / 255) is None  # too few levels to tell

    def test_gray_flat_and_tiny_images_say_nothing(self) -> None:
        frame = as_frame(photograph())
        plain = [torch.zeros(3, 32, 32), torch.full((1, 32, 32), 0.4), frame[:, :7, :30], frame[:, :8, :8]]
        assert [is_frame(image) for image in plain] == [None] * 4


class TestAreFrames:
    def test_each_image_says_for_itself(self) -> None:
        frame, other = crops(video_frame(photograph()))[:5], crops(photograph())[:5]
        assert are_frames(frame[:3] + other) == [True] * 3 + [False] * 5
        assert are_frames(frame + other[:3]) == [True] * 5 + [False] * 3

    def test_what_does_not_tell_is_as_most_are(self) -> None:
        frame, other, flat = crops(video_frame(photograph()))[:5], crops(photograph())[:5], torch.zeros(3, 32, 32)
        assert are_frames([*frame, flat]) == [True] * 6
        assert are_frames([*other, flat]) == [False] * 6
        assert are_frames([flat]) == [False]

    def test_what_files_tell_is_so(self) -> None:
        frame, other = crops(video_frame(photograph()))[:5], crops(photograph())[:5]
        assert are_frames(frame, [False] * 5) == [False] * 5
        assert are_frames(other, [True] * 5) == [True] * 5
        assert are_frames(frame, [None] * 4 + [False]) == [True] * 4 + [False]
        assert jpeg_of_frame(frame[0], False) is None
        assert jpeg_of_frame(other[0], True) == jpeg_of_frame(frame[0])

    def test_a_few_of_many_frames_may_be_misread(self) -> None:
        frame, other = crops(video_frame(photograph()))[:8], crops(photograph())[:1]
        assert are_frames(frame + other) == [True] * 9


class TestVerdict:
    def test_a_blur_is_used_where_the_codec_has_changed_little(self) -> None:
        used, jpeg, why = footage_verdict(Fit(BLUR, 2 / 255, 0.1), True, "reason")
        assert used
        assert jpeg is not None
        assert f"reason; {SEEN_FOOTAGE}" in why

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
        assert f"too few; {SEEN_FOOTAGE}" in why


class TestEstimate:
    def test_smooth_frames_get_no_blur_and_a_jpeg_among_them_its_own_quality(self) -> None:
        smooth = pieces(Degradation(blur=GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=30)))[::3]
        *frames, last = evidence([video_frame(one) for one in smooth])
        photographs = [Evidence(last.image, last.pixels, Jpeg.of_quality(80))]
        found = estimate_degradation(frames + photographs, QUICK)
        assert found.degradation.blur is None
        assert found.fallback
        assert found.degradation.jpeg is not None
        assert found.jpeg_from == "colours"
        assert "a video's compression" in found.summary
        assert found.of(last.image.sha256) == Degradation(jpeg=Jpeg.of_quality(80))
        assert "1 of 12 images is of no video: bicubic, JPEG quality 80" in found.summary
        assert len(found.images) == len(smooth)

    def test_a_few_frames_among_photographs_are_taken_as_frames_that_stand_alone(self) -> None:
        images = evidence(crops(video_frame(photograph()))[:2] + crops(photograph())[2:6])
        found = estimate_degradation(images, QUICK)
        assert found.degradation.jpeg is None
        alone = jpeg_of_frame(images[0].pixels)
        assert alone is not None
        assert [found.of(one.image.sha256).jpeg for one in images] == [alone] * 2 + [None] * 4
        assert set(found.others) == {one.image.sha256 for one in images[:2]}
        assert "2 of 6 images are of a video: bicubic, a video's compression, taken as JPEG quality 60" in found.summary
        assert found.reasons.count("too few") == 1
        assert Estimate.model_validate_json(found.model_dump_json()) == found
        frame, other = (DegradationFacts.estimated(found, images[n].image.sha256) for n in (0, 2))
        assert (frame.codec, other.codec) == ("video", None)
        assert f"{SEEN_FOOTAGE}, the strength of which is not known: JPEG 60 stands for it" in frame.why
        assert "too few" in other.why
        assert "video" not in other.why

    def test_a_lossless_videos_frames_are_as_other_images(self) -> None:
        blurred = pieces(Degradation(blur=GaussianBlur(sigma_major=1.0, sigma_minor=0.8)))
        images = evidence([video_frame(one[:, :32, :32]) for one in blurred])
        guessed = estimate_degradation(images, QUICK)
        told = estimate_degradation([replace(one, footage=False) for one in images], QUICK)
        coded = estimate_degradation([replace(one, footage=True) for one in images], QUICK)
        assert guessed.degradation == coded.degradation == Degradation(jpeg=Jpeg.of_quality(60))
        assert (SEEN_FOOTAGE in guessed.why, KNOWN_FOOTAGE in coded.why) == (True, True)
        assert told.degradation.jpeg is None
        assert told.degradation.blur is not None

    def test_lossy_webp_is_as_its_quantisers_tell(self) -> None:
        """In a folder of its own and among other images."""
        images = evidence(crops(video_frame(photograph()))[:3] + crops(photograph())[8:12])
        webp = [replace(one, footage=True, webp_step=step) for one, step in zip(images, (9.6, 4.2, 4.3), strict=False)]
        other = images[3:]
        steps = [jpeg_of_webp(step).luma[0] for step in (9.6, 4.2)]
        assert steps == [10, 4]
        for images in (webp, webp + other):
            found = estimate_degradation(images, QUICK)
            assert [found.of(one.image.sha256).jpeg for one in webp] == [jpeg_of_webp(step) for step in (9.6, 4.2, 4.3)]
            assert "WebP's compression, taken as JPEG with steps of 4 levels" in found.summary
            assert "video" not in found.summary + found.reasons
            assert DegradationFacts.estimated(found, webp[0].image.sha256).codec == "webp"
        assert "3 of 7 images are lossy WebP: " in found.summary
        assert {found.of(one.image.sha256).jpeg for one in other} == {None}

    def test_lossy_webp_among_frames_of_a_video_is_told_apart(self) -> None:
        images = evidence(crops(video_frame(photograph()))[:5])
        images[0] = replace(images[0], footage=True, webp_step=9.6)
        found = estimate_degradation(images, QUICK)
        of_webp, frame = (DegradationFacts.estimated(found, one.image.sha256) for one in images[:2])
        assert (of_webp.codec, frame.codec) == ("webp", "video" if frame.values.jpeg else None)
        assert of_webp.values.jpeg == jpeg_of_webp(9.6)
        assert of_webp.why.startswith(WEBP_FOOTAGE)
        assert "WebP" not in frame.why

    def test_a_jpeg_file_with_repeated_colours_is_no_frame(self) -> None:
        jpeg = Jpeg.of_quality(90)
        images = [Evidence(one.image, one.pixels, jpeg) for one in evidence(crops(as_frame(photograph()))[:4])]
        assert estimate_degradation(images, QUICK).degradation == Degradation(jpeg=jpeg)


class TestTold:
    """Of frames among photographs with a sure blur, some of which are sharper."""

    @pytest.fixture
    def mixed(self, make_estimate: Callable[..., Estimate]) -> Estimate:
        codec = Degradation(jpeg=Jpeg.of_quality(30))
        words = {"why": f"bicubic is assumed: {SEEN_FOOTAGE}: JPEG 30 stands for it", "fallback": True}
        frames = make_estimate("f", degradation=codec, codec="video", jpeg_from="colours", **words)
        return make_estimate("a", "b", "c", own_blur={"b": None}).with_others(frames)

    def test_each_record_says_what_is_so_of_its_image(self, mixed: Estimate) -> None:
        frame, most, sharper = (DegradationFacts.estimated(mixed, one) for one in "fab")
        assert frame.values.jpeg == Jpeg.of_quality(30)
        assert frame.values.blur is None
        assert "JPEG 30 stands for it" in frame.why
        assert not any("sharper" in one.why for one in (frame, most))
        assert "sharper" in sharper.why
        assert not any("JPEG" in one.why or one.codec or one.fallback for one in (most, sharper))
        assert frame.codec == "video"
        assert frame.fallback

    def test_the_line_counts_frames_apart_and_show_has_both(self, mixed: Estimate) -> None:
        said = mixed.summary
        assert "(1 image is sharper: bicubic), noise" in said
        assert "no compression found; 1 of 4 images is of a video: " in said
        assert said.endswith("bicubic, a video's compression, taken as JPEG quality 30")
        lines = dict(lines_of(mixed))
        assert lines["assumed"] == said
        assert "1 of 4 images is of a video: bicubic is assumed" in lines["why"]
        assert mixed.evidence_sha256 != mixed.model_copy(update={"fewer": None}).evidence_sha256
        assert Estimate.model_validate_json(mixed.model_dump_json()) == mixed
