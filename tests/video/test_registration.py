"""Motion between frames is found to a few hundredths of a pixel, whatever the light, noise and what hides a part."""

import pytest
import torch

from tests.images import noise as pixels
from tests.video.bursts import SIDE, burst, motion
from zssr_gan.errors import ImageError
from zssr_gan.video.registration import Motion, Target, find_motion, measure_motion, refine_motion

SIZE = (SIDE, SIDE)


def test_shifts_are_found_to_a_hundredth_of_a_pixel() -> None:
    known = motion(6)
    frames, _ = burst(known, noise=2 / 255)
    found = find_motion(frames[:, 0], affine=False)
    assert float(found.motion.distance(known, SIZE)[1:].mean()) < 0.02
    assert float(found.motion.linear.abs().max()) == 0


def test_affine_motion_and_light_are_found() -> None:
    known = motion(6, affine=True, light=True, seed=3)
    frames, _ = burst(known, noise=2 / 255)
    found = find_motion(frames[:, 0])
    assert float(found.motion.distance(known, SIZE)[1:].mean()) < 0.05
    assert float((found.motion.gain - known.gain).abs().max()) < 0.03
    assert float((found.motion.bias - known.bias).abs().max()) < 0.015
    assert float(found.correlation.min()) > 0.97


def test_far_shifts_are_found() -> None:
    known = motion(5, farthest=5.5, seed=4)
    frames, _ = burst(known, noise=2 / 255)
    assert float(find_motion(frames[:, 0], affine=False).motion.distance(known, SIZE).max()) < 0.15


def test_any_frame_can_be_the_reference() -> None:
    known = motion(4, affine=True, light=True)
    frames, _ = burst(known)
    found = find_motion(frames[:, 0], 2).motion
    assert float(found.distance(known.relative_to(2), SIZE).max()) < 0.08
    assert torch.equal(found.shift[2], torch.zeros(2, dtype=torch.float64))
    assert float((found.gain - known.relative_to(2).gain).abs().max()) < 0.05


def test_what_hides_a_part_moves_a_frame_little() -> None:
    known = motion(4, farthest=0.8)
    frames, _ = burst(known, noise=2 / 255)
    frames[2, 0, 2:11, 12:24] = 0.35
    found = find_motion(frames[:, 0], affine=False)
    assert float(found.motion.distance(known, SIZE)[2]) < 0.25
    assert found.fit[2] > 1.5 * found.fit[1]


def test_the_standard_error_says_how_far_off_the_places_are() -> None:
    known = motion(8)
    frames, _ = burst(known, noise=6 / 255)
    found = find_motion(frames[:, 0], affine=False)
    off = found.motion.distance(known, SIZE)[1:]
    assert 0.3 < float(found.error[1:].mean() / off.mean()) < 3


def test_frames_are_registered_to_a_larger_image_with_a_border() -> None:
    known = motion(4, affine=True)
    frames, truth = burst(known, noise=1 / 255)
    border = 6
    image = torch.nn.functional.pad(truth[None], (border,) * 4, mode="replicate")[0, 0]
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(image[None], (1, 0, 1, 0)), 2, 1)[0]
    shifted = Target(blurred, (2.0, 2.0), border)
    start = Motion(known.shift + 0.4, known.linear, known.gain, known.bias)
    found = refine_motion(frames[:, 0], shifted, start)
    assert float(found.motion.relative_to(0).distance(known, SIZE).max()) < 0.08
    assert (
        measure_motion(frames[:, 0], shifted, found.motion).fit.mean()
        < measure_motion(frames[:, 0], shifted, start).fit.mean()
    )


def test_motion_is_composed_as_its_places_are() -> None:
    known = motion(3, affine=True, light=True)
    places, relative = known.places(SIZE), known.relative_to(1).places(SIZE)
    middle = (SIDE - 1) / 2
    matrix = torch.eye(2, dtype=torch.float64) + known.linear[1]
    again = (relative[2] - middle) @ matrix.T + middle + known.shift[1]
    assert torch.allclose(again, places[2])
    assert torch.equal(known[[0, 2]].shift, known.shift[[0, 2]])


def test_the_same_frames_give_the_same_bits() -> None:
    frames, _ = burst(motion(3, affine=True), noise=2 / 255)
    a, b = (find_motion(frames[:, 0]).motion for _ in range(2))
    assert torch.equal(a.places(SIZE), b.places(SIZE))


def test_frames_without_a_feature_stay_where_they_are() -> None:
    flat = torch.full((3, 16, 16), 0.5)
    assert float(find_motion(flat).motion.distance(Motion.none(3), (16, 16)).max()) < 1e-6


def test_bad_frames_are_refused_in_a_sentence() -> None:
    with pytest.raises(ImageError, match="at least 12 pixels"):
        find_motion(pixels(2, 8, 20))
    broken = pixels(2, 16, 16)
    broken[1, 3, 3] = torch.nan
    with pytest.raises(ImageError, match="NaN"):
        find_motion(broken)
