"""Averaging along time: noise falls where nothing moves, and what moves stays as it is."""

import pytest
import torch
from torch import Tensor

from zssr_gan.video.steady import REACH, WindowFrame, noise_between, steadied

NOISE = 4 / 255


def noisy(frame: Tensor, count: int, sigma: float = NOISE) -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [frame + sigma * torch.randn(frame.shape, generator=draw) for _ in range(count)]


def means(frames: list[Tensor], noise: float = NOISE, **options: object) -> list[Tensor]:
    found = list(steadied((WindowFrame(n, x) for n, x in enumerate(frames)), noise, **options))
    assert [facts for facts, _, _ in found] == list(range(len(frames)))
    return [x for _, x, _ in found]


class TestNoise:
    @pytest.mark.parametrize("sigma", [1 / 255, 4 / 255, 10 / 255])
    def test_of_a_still_scene(self, astronaut: Tensor, sigma: float) -> None:
        before, after = noisy(astronaut[:1], 2, sigma)
        assert noise_between(before, after) == pytest.approx(sigma, rel=0.15)

    def test_what_moves_or_is_rough_is_not_noise(self, astronaut: Tensor) -> None:
        clean = astronaut[:1]
        assert noise_between(clean, clean) == 0
        assert noise_between(clean, clean.roll(3, -1)) < 2 / 255
        rough = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1))
        assert noise_between(rough, rough) == 0
        assert noise_between(clean[:, :8], clean[:, :8]) == 0


class TestSteadied:
    def test_a_still_scene_has_less_noise(self, astronaut: Tensor) -> None:
        frames = noisy(astronaut[:1], 12)
        made = torch.stack(means(frames))
        before, after = torch.stack(frames).std(0).mean(), made.std(0).mean()
        assert after < 0.52 * before  # 1 / sqrt(5) where all five agree
        assert (made.mean(0) - astronaut[:1]).abs().mean() < 0.5 * NOISE

    def test_what_moves_stays(self, astronaut: Tensor) -> None:
        still = astronaut[:1].clone()
        frames = []
        for n in range(8):
            frame = still.clone()
            frame[:, 20:36, 4 * n : 4 * n + 16] = 1 - still[:, :16, :16]
            frames.append(frame)
        for frame, mean in zip(frames, means(frames, 1 / 255), strict=True):
            assert (frame - mean).abs().max() < 2 / 255

    def test_a_cut_or_a_light_switched_on_is_no_neighbour(self, astronaut: Tensor) -> None:
        frames = [*noisy(astronaut[:1], 3), *noisy(astronaut[:1] * 0.5 + 0.3, 3)]
        for frame, mean in zip(frames, means(frames), strict=True):
            assert (frame - mean).mean().abs() < 1 / 255

    def test_damage_is_not_averaged_into_others(self, astronaut: Tensor) -> None:
        frames = noisy(astronaut[:1], 5, 0.0)
        frames[2] = frames[2] + 1e-4
        found = list(steadied((WindowFrame(n, x, sound=n != 2) for n, x in enumerate(frames)), NOISE))
        assert torch.equal(found[2][1], frames[2])
        assert (found[1][1] - frames[1]).abs().max() < 1e-6

    def test_no_more_than_the_window_is_read_ahead(self) -> None:
        read = []

        def frames():
            for n in range(20):
                read.append(n)
                yield WindowFrame(n, torch.zeros(1, 8, 8))

        for facts, _, _ in steadied(frames(), NOISE):
            assert read[-1] <= facts + REACH
        assert [x.shape for x in means([torch.zeros(1, 8, 8)])] == [(1, 8, 8)]
        assert not means([])

    def test_without_reach_nothing_changes(self, astronaut: Tensor) -> None:
        frames = noisy(astronaut[:1], 3)
        assert all(torch.equal(a, b) for a, b in zip(frames, means(frames, reach=0), strict=True))
