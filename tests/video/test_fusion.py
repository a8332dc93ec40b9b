"""A fused image is nearer the truth than any single frame gives, and says what it rests on."""

import pytest
import torch

from tests.video.bursts import SIDE, burst, motion
from zssr_gan.degradation import jpeg
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import resize
from zssr_gan.video.fusion import STATIC, Fused, fuse_burst
from zssr_gan.video.registration import Motion

CAMERA = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.4, angle_degrees=30), noise=Noise(sigma=2 / 255))
SIZE = (SIDE, SIDE)


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return psnr_db(float((image - truth)[:, 4:-4, 4:-4].square().mean()))


def bicubic(frame: torch.Tensor, scale: int = 2) -> torch.Tensor:
    return resize(frame, (scale * SIDE, scale * SIDE))


def test_eight_frames_beat_one_and_one_beats_interpolation() -> None:
    known = motion(8)
    frames, truth = burst(known, CAMERA, noise=2 / 255)
    fused, alone = fuse_burst(frames, CAMERA, affine=False), fuse_burst(frames[:1], CAMERA)
    assert psnr(alone.image, truth) > psnr(bicubic(frames[0]), truth) + 0.8
    assert psnr(fused.image, truth) > psnr(alone.image, truth) + 1.2
    assert float(fused.motion.distance(known, SIZE)[1:].mean()) < 0.02
    assert float(fused.support.median()) == pytest.approx(7.5, abs=0.7)
    assert float(alone.support.median()) == pytest.approx(1, abs=0.05)
    assert float(fused.residual.std()) == pytest.approx(2, abs=0.7)


def test_the_reference_frame_is_the_moment_that_is_shown() -> None:
    known = motion(5, affine=True, light=True)
    frames, truth = burst(known, CAMERA, noise=2 / 255)
    shown = fuse_burst(frames, CAMERA, reference=3)
    assert psnr(shown.image, truth) < 25
    plain = bicubic(frames[3])
    assert psnr(shown.image, plain) > 22
    assert shown.frames[3].shift == (0, 0)
    assert shown.frames[3].gain == 1


def test_a_frame_that_is_stretched_as_no_face_is_shifts_alone() -> None:
    known = motion(6)
    known.linear[1, 0, 0] = known.linear[5, 0, 0] = 0.11  # one frame on, and five
    known.linear[2] = torch.tensor([[-0.02, -0.17], [0.17, -0.02]])  # turned by 10 degrees
    found = fuse_burst(burst(known, CAMERA, noise=2 / 255)[0], CAMERA)
    assert found.frames[1].linear == pytest.approx((0, 0, 0, 0), abs=0.01)
    for frame in (2, 5):
        assert found.frames[frame].linear == pytest.approx(known.linear[frame].flatten().tolist(), abs=0.01)


def test_compressed_frames_beat_the_one_they_are_fused_from() -> None:
    camera = CAMERA.model_copy(update={"jpeg": Jpeg.of_quality(60)})
    assert camera.jpeg is not None
    frames, truth = burst(motion(6), CAMERA, noise=2 / 255)
    frames = jpeg.compress(frames, camera.jpeg.luma, camera.jpeg.chroma)
    fused, alone = fuse_burst(frames, camera, affine=False), fuse_burst(frames[:1], camera)
    blind = fuse_burst(frames, CAMERA, affine=False)
    assert psnr(fused.image, truth) > psnr(alone.image, truth) + 0.8
    assert psnr(fused.image, truth) > psnr(blind.image, truth) + 0.3


def test_colour_is_fused_by_the_motion_and_weights_of_luma() -> None:
    frames, truth = burst(motion(3), CAMERA, noise=2 / 255, colour=True)
    fused = fuse_burst(frames, CAMERA, affine=False)
    assert fused.image.shape == truth.shape
    assert psnr(fused.image, truth) > psnr(bicubic(frames[0]), truth) + 1.2
    camera = CAMERA.model_copy(update={"jpeg": Jpeg.of_quality(75)})
    assert camera.jpeg is not None
    compressed = jpeg.compress(frames, camera.jpeg.luma, camera.jpeg.chroma)
    assert psnr(fuse_burst(compressed, camera, affine=False).image, truth) > psnr(bicubic(compressed[0]), truth) + 0.5


@pytest.mark.parametrize("scale", [1, 3, 4])
def test_every_scale_gains(scale: int) -> None:
    frames, truth = burst(motion(3), CAMERA, scale, noise=3 / 255)
    fused = fuse_burst(frames, CAMERA, scale, affine=False)
    assert fused.image.shape == truth.shape
    assert psnr(fused.image, truth) > psnr(bicubic(frames[0], scale), truth) + 0.8


def test_what_hides_a_part_of_a_frame_has_little_weight_there_alone() -> None:
    frames, truth = burst(motion(4, farthest=0.8), CAMERA, noise=2 / 255)
    clean = fuse_burst(frames, CAMERA, affine=False)
    frames[2, 0, 4:14, 12:24] = 0.3
    fused = fuse_burst(frames, CAMERA, affine=False)
    assert fused.frames[2].weight < fused.frames[1].weight - 0.05
    assert fused.frames[2].residual > 0
    assert psnr(fused.image, truth) > psnr(clean.image, truth) - 0.5


def test_frames_that_cannot_be_used_are_named_and_change_nothing() -> None:
    known = motion(4)
    frames, _ = burst(known, CAMERA, noise=2 / 255)
    alone = fuse_burst(frames, CAMERA, motion=known)
    twice = torch.cat([frames, frames[1:2], frames[2:3]])
    places = known[[0, 1, 2, 3, 1, 2]]
    shift = places.shift.clone()
    shift[5] = 15
    far = Motion(shift, places.linear, places.gain, places.bias)
    twice[5] += 0.01
    fused = fuse_burst(twice, CAMERA, motion=far)
    assert torch.equal(fused.image, alone.image)
    assert fused.frames[4].rejected == "its pixels are those of frame 1"
    assert "21.2 pixels away" in str(fused.frames[5].rejected)
    assert [fact.weight for fact in fused.frames[4:]] == [0, 0]


def test_a_static_scene_before_a_static_camera_has_no_phases() -> None:
    still, moved = Motion.none(4), motion(4)
    frames, _ = burst(still, CAMERA, noise=2 / 255)
    assert max(fuse_burst(frames, CAMERA, affine=False).phases) < STATIC
    frames, _ = burst(moved, CAMERA, noise=2 / 255)
    assert min(fuse_burst(frames, CAMERA, motion=moved).phases) > 0.2


def test_the_result_is_pulled_to_a_mean_image() -> None:
    known = motion(3)
    frames, truth = burst(known, CAMERA, noise=2 / 255)
    free = fuse_burst(frames, CAMERA, motion=known)
    pulled = fuse_burst(frames, CAMERA, motion=known, mean=truth)
    assert psnr(pulled.image, truth) > psnr(free.image, truth) + 0.5
    assert torch.equal(fuse_burst(frames, CAMERA, motion=known, mean=truth, pull=0).image, free.image)


def test_the_same_frames_give_the_same_bits() -> None:
    frames = burst(motion(3), CAMERA, noise=2 / 255, colour=True)[0][..., :16, :16]
    before = frames.clone()
    a, b = (fuse_burst(frames, CAMERA) for _ in range(2))
    assert torch.equal(a.image, b.image)
    assert a.frames == b.frames
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("shape", "options", "error", "words"),
    [
        ((3, 1, 8, 20), {}, ImageError, "at least 12 pixels"),
        ((3, 2, 20, 20), {}, ImageError, "gray or RGB"),
        ((3, 1, 20, 20), {"scale": 5}, SettingsError, "not 5"),
        ((3, 1, 20, 20), {"reference": 3}, SettingsError, "0 to 2"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    shape: tuple[int, ...], options: dict[str, int], error: type[Exception], words: str
) -> None:
    def fuse() -> Fused:
        return fuse_burst(torch.full(shape, 0.5), Degradation(), **options)

    with pytest.raises(error, match=words):
        fuse()


def test_a_frame_that_holds_no_number_is_refused() -> None:
    frames = torch.full((2, 1, 16, 16), 0.5)
    frames[1, 0, 2, 2] = torch.nan
    with pytest.raises(ImageError, match="NaN"):
        fuse_burst(frames, Degradation())
