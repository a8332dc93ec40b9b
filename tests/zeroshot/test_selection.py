"""Network or back-projection: found without a truth, on what was held out."""

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, KernelDownscale, back_project
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.settings.zeroshot import ChoiceSettings
from zssr_gan.zeroshot import selection
from zssr_gan.zeroshot.ensemble import EnsembleOptions
from zssr_gan.zeroshot.pairs import Task, fold_map
from zssr_gan.zeroshot.selection import Choice, always_network, choose

TASK = Task((2.0, 2.0), (1, 1), BicubicDownscale())
OPTIONS = EnsembleOptions(dihedral.ALL, "median", 512, "fp32")
SETTINGS = ChoiceSettings(folds=2, block=8)


@pytest.fixture
def network() -> ZSSR:
    return ZSSR(ZSSROptions(depth=2, width=4), 3, (1, 1), [torch.Generator().manual_seed(n) for n in range(2)])


def plain(image: Tensor) -> Tensor:
    """The image's shrunk copy, enlarged by back-projection alone."""
    son = resize(image, (32, 32))[None]
    return back_project(resize(son, (64, 64)).clone(), son, BicubicDownscale(), 2)[0]


def answer(monkeypatch: pytest.MonkeyPatch, *members: Tensor) -> None:
    """Networks that predict these images, one a member, in every view."""
    monkeypatch.setattr(selection, "views", lambda *_: torch.stack(members).repeat(8, 1, 1, 1))
    monkeypatch.setattr(selection, "back_project", keep_predictions(members))


def keep_predictions(members: tuple[Tensor, ...]):
    """Back-projection as it is, but for the predictions themselves."""

    def project(sr: Tensor, lr: Tensor, downscale: BicubicDownscale, iterations: int) -> Tensor:
        if any(torch.equal(sr[0], member) for member in members):
            return sr
        return back_project(sr.clone(), lr, downscale, iterations)

    return project


def decide(network: ZSSR, image: Tensor, settings: ChoiceSettings = SETTINGS, iterations: int = 2) -> Choice:
    return choose(network, image, fold_map((64, 64), 2, 8), settings, OPTIONS, TASK, iterations)


def test_a_perfect_predictor_is_taken(monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor) -> None:
    answer(monkeypatch, astronaut, astronaut)
    found = decide(network, astronaut)
    assert found.share == 1
    assert found.network_db == 100
    assert found.mixed_db == 100
    error = (plain(astronaut) - astronaut).square().mean()
    assert found.back_projection_db == pytest.approx(float(-10 * error.log10()), abs=1e-3)
    assert "dB better than back-projection; a share of 1.00" in found.why


def test_a_harmful_one_is_not(monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor) -> None:
    base = plain(astronaut)
    worse = base - (astronaut - base)  # as far off, on the other side
    answer(monkeypatch, worse, worse)
    found = decide(network, astronaut)
    assert found.share == 0
    assert found.mixed_db == found.back_projection_db
    assert "worse" in found.why


@pytest.mark.parametrize(("length", "share"), [(2.0, 0.5), (4.0, 0.25), (0.5, 1.0)])
def test_a_share_is_found(
    monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor, length: float, share: float
) -> None:
    """A network that goes the right way too far is taken in part; one that does not go far enough, never above 1."""
    base = plain(astronaut)
    far = base + length * (astronaut - base)
    answer(monkeypatch, far, far)
    found = decide(network, astronaut)
    assert found.share == pytest.approx(share, abs=1e-4)
    if length >= 2:
        assert found.mixed_db == 100


def test_each_member_is_judged_where_it_did_not_learn(
    monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor
) -> None:
    """Members that know what they learnt from by heart, and nothing else: the choice is not fooled."""
    base = plain(astronaut)
    worse = base - (astronaut - base)
    folds = fold_map((64, 64), 2, 8)
    by_heart = [torch.where(folds == member, worse, astronaut) for member in range(2)]
    answer(monkeypatch, *by_heart)
    assert decide(network, astronaut).share == 0
    answer(monkeypatch, *by_heart[::-1])
    assert decide(network, astronaut).share == 1


def test_outputs_are_judged_as_they_are_used(monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor) -> None:
    """In use the networks' output is back-projected: an error that back-projection takes away must not count."""
    base = plain(astronaut)
    shifted = base + 0.8 * (astronaut - base) + 0.1  # a constant error shows in the shrunk image, too
    monkeypatch.setattr(selection, "views", lambda *_: torch.stack([shifted, shifted]).repeat(8, 1, 1, 1))
    son = resize(astronaut, (32, 32))[None]
    used = back_project(shifted[None].clone(), son, BicubicDownscale(), 2)[0]
    found = decide(network, astronaut)
    assert found.network_db == pytest.approx(float(-10 * (used - astronaut).square().mean().log10()), abs=1e-3)
    assert found.network_db > 30  # about 20 dB without
    assert found.share == 1


def test_a_small_share_counts_as_none(monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor) -> None:
    base = plain(astronaut)
    far = base + 4 * (astronaut - base)
    answer(monkeypatch, far, far)
    assert decide(network, astronaut, ChoiceSettings(folds=2, min_share=0.3)).share == 0
    assert decide(network, astronaut, ChoiceSettings(folds=2, min_share=0.2)).share == pytest.approx(0.25, abs=1e-4)


def test_real_networks(network: ZSSR, astronaut: Tensor) -> None:
    """Random weights on the interpolated grid, and on the LR grid with an odd size: figures are finite."""
    found = decide(network, astronaut)
    assert 0 <= found.share <= 1
    assert 0 < found.network_db < 100
    lr = ZSSR(ZSSROptions(depth=2, width=4, grid="lr"), 1, (2, 2), [torch.Generator().manual_seed(0)])
    task = Task((2.0, 2.0), (2, 2), BicubicDownscale())
    odd = choose(lr, astronaut[:1, :41, :33], fold_map((41, 33), 3, 8), SETTINGS, OPTIONS, task, 2)
    assert 0 <= odd.share <= 1


def test_nothing_held_out(monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor) -> None:
    large = torch.zeros(3, 65, 64)
    assert always_network("because", network, large, OPTIONS, TASK, 2) == Choice(1.0, "because")
    answer(monkeypatch, astronaut, astronaut)
    found = always_network("because", network, astronaut, OPTIONS, TASK, 2)
    assert (found.share, found.why, found.held_out, found.network_db) == (1.0, "because", False, 100)
    assert found.back_projection_db == decide(network, astronaut).back_projection_db


def test_at_scale_1_the_reference_is_not_written_into(network: ZSSR, astronaut: Tensor) -> None:
    """Enlarging by 1 gives the same tensor back, which back-projection would change."""
    task = Task((1.0, 1.0), (1, 1), KernelDownscale(torch.ones(3, 3, dtype=torch.float64), (1, 1)))
    found = choose(network, astronaut, fold_map((64, 64), 2, 8), SETTINGS, OPTIONS, task, 2)
    son = task.downscale(astronaut[None], (64, 64))
    plain = back_project(son.clone(), son, task.downscale, 2)[0]
    assert found.back_projection_db == pytest.approx(psnr(plain, astronaut), abs=1e-3)


CAMERA = Degradation(
    blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.4, angle_degrees=30),
    noise=Noise(sigma=0.03),
    jpeg=Jpeg.of_quality(75),
)


class TestCamera:
    """The shrunk copy is as the camera would have kept it."""

    def decide(self, degradation: Degradation, network: ZSSR, image: Tensor) -> Choice:
        task = Task((2.0, 2.0), (1, 1), DegradedDownscale(degradation))
        return choose(network, image, fold_map((64, 64), 2, 8), SETTINGS, OPTIONS, task, 2)

    def test_is_deterministic(self, network: ZSSR, astronaut: Tensor) -> None:
        """Whatever was drawn before, and without drawing from what others draw from."""
        torch.manual_seed(1)
        one = self.decide(CAMERA, network, astronaut)
        state = torch.get_rng_state()
        torch.rand(7)
        other = self.decide(CAMERA, network, astronaut)
        assert one == other
        torch.set_rng_state(state)
        self.decide(CAMERA, network, astronaut)
        assert torch.equal(torch.get_rng_state(), state)

    def test_noise_and_compression_make_the_copy_worse(self, network: ZSSR, astronaut: Tensor) -> None:
        blur = Degradation(blur=CAMERA.blur)
        noisy = blur.model_copy(update={"noise": CAMERA.noise})
        figures = [self.decide(one, network, astronaut).back_projection_db for one in (blur, noisy, CAMERA)]
        assert figures[0] > figures[1] + 0.2
        assert figures[1] > figures[2]

    def test_back_projection_is_of_the_captured_copy(self, network: ZSSR, astronaut: Tensor) -> None:
        downscale = DegradedDownscale(CAMERA)
        son = downscale(astronaut[None], (32, 32))
        son = downscale.capture(son, torch.randn(son.shape, generator=torch.Generator().manual_seed(0)))
        expected = back_project(resize(son, (64, 64)).clone(), son, downscale, 2)[0]
        found = self.decide(CAMERA, network, astronaut)
        assert found.back_projection_db == pytest.approx(psnr(expected, astronaut), abs=1e-3)
        task = Task((2.0, 2.0), (1, 1), downscale)
        always = always_network("because", network, astronaut, OPTIONS, task, 2)
        assert always.back_projection_db == found.back_projection_db


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())
