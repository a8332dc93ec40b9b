"""Frames coded again have errors like those of a video's: as large, and alike between frames."""

import numpy as np
import pytest
import torch

from tests.video.bursts import burst, motion
from zssr_gan.video.coding import Coding, error_of, quantiser_of
from zssr_gan.video.recoding import coded_again

pytest.importorskip("av", reason="needs the extra video")


def coding(quantiser: float, types: str = "PPPPPP") -> Coding:
    errors = [error_of(quantiser, kind) for kind in types]
    return Coding(torch.tensor(errors), torch.tensor([kind != "I" for kind in types]))


@pytest.mark.parametrize("kinds", ["PPPP", "II"])
def test_the_quantiser_is_found_from_the_error(kinds: str) -> None:
    assert quantiser_of(coding(31, kinds)) == 31
    assert quantiser_of(Coding(torch.zeros(2), torch.tensor([True, True]))) == 1


def test_errors_are_as_large_as_is_said_and_alike() -> None:
    frames = burst(motion(6), noise=1 / 255)[0]
    fine, coarse = (coded_again(frames, coding(quantiser)) for quantiser in (20, 36))
    for again, known in (fine, coarse):
        error = (again - frames).square().mean((1, 2, 3)).sqrt()
        assert (error / known.error > 0.5).all()
        assert (error / known.error < 2).all()
    still = (
        frames[:1].expand(4, -1, -1, -1) + torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0)) / 255
    )
    off = (coded_again(still, coding(36, "PPPP"))[0] - frames[:1])[:, 0].flatten(1).numpy()
    assert np.corrcoef(off)[0, 1:].min() > 0.5


def test_frames_that_others_do_not_predict_stay_so_and_odd_sides_are_kept() -> None:
    again, known = coded_again(burst(motion(5))[0][..., :23, :21], coding(30, "PPIPP"))
    assert again.shape == (5, 1, 23, 21)
    assert known.predicted.tolist() == [True, True, False, True, True]
