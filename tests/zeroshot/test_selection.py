"""Network or back-projection: the blend weight is found without a ground truth, on what was held out."""

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, KernelDownscale, back_project
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZSSRSettings
from zssr_gan.zeroshot import selection
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.selection import Selection, fold_map, measure

TASK = Task((2.0, 2.0), (1, 1), BicubicDownscale())
FOLDS = fold_map((64, 64), 2)


@pytest.fixture
def network() -> ZSSR:
    return ZSSR(ZSSRSettings(depth=2, width=4), 3, (1, 1), [torch.Generator().manual_seed(n) for n in range(2)])


def plain(image: Tensor) -> Tensor:
    """The image's shrunk copy, enlarged by back-projection alone."""
    lr = resize(image, (32, 32))[None]
    return back_project(resize(lr, (64, 64)).clone(), lr, BicubicDownscale(), 2)[0]


def predict(monkeypatch: pytest.MonkeyPatch, *predictions: Tensor) -> None:
    """Networks that predict these images, one each, in every view; back-projection leaves these alone."""

    def project(sr: Tensor, *given: object) -> Tensor:
        if any(torch.equal(sr[0], one) for one in predictions):
            return sr
        return back_project(sr.clone(), *given)  # type: ignore[arg-type]

    monkeypatch.setattr(selection, "views", lambda *_: torch.stack(predictions)[:, None].repeat(8, 1, 1, 1, 1))
    monkeypatch.setattr(selection, "back_project", project)


def decide(network: ZSSR, image: Tensor, task: Task = TASK, folds: Tensor | None = FOLDS) -> Selection:
    found = measure(network, image[None], folds, task, dihedral.ALL, 2)
    return found.selection(found.figures, 0, "because")


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


@pytest.mark.parametrize(("length", "share"), [(1.0, 1.0), (-1.0, 0.0), (2.0, 0.5), (4.0, 0.25), (0.5, 1.0)])
def test_the_blend_weight(
    monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor, length: float, share: float
) -> None:
    """A perfect network is taken, a harmful one is not, one that goes too far is taken in part, and never above 1."""
    base = plain(astronaut)
    one = base + length * (astronaut - base) if length != 1 else astronaut
    predict(monkeypatch, one, one)
    found = decide(network, astronaut)
    assert found.share == pytest.approx(share, abs=1e-4)
    assert found.held_out
    assert found.back_projection_db == pytest.approx(psnr(base, astronaut), abs=1e-3)
    assert ("better" if length in (1, 0.5) else "dB") in found.why
    if length >= 1:
        assert found.mixed_db == 100
    if share == 0:
        assert found.mixed_db == found.back_projection_db
        assert "worse" in found.why


def test_each_network_is_measured_where_it_did_not_learn(
    monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor
) -> None:
    """Networks that know what they learnt from by heart, and nothing else, are not selected."""
    base = plain(astronaut)
    worse = base - (astronaut - base)
    by_heart = [torch.where(fold == FOLDS, worse, astronaut) for fold in range(2)]
    predict(monkeypatch, *by_heart)
    assert decide(network, astronaut).share == 0
    predict(monkeypatch, *by_heart[::-1])
    assert decide(network, astronaut).share == 1


def test_outputs_are_measured_as_they_are_used(
    monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor
) -> None:
    """In use the networks' output is back-projected: an error that back-projection takes away must not count."""
    base = plain(astronaut)
    shifted = base + 0.8 * (astronaut - base) + 0.1  # a constant error shows in the shrunk image, too
    monkeypatch.setattr(selection, "views", lambda *_: torch.stack([shifted, shifted])[:, None].repeat(8, 1, 1, 1, 1))
    used = back_project(shifted[None].clone(), resize(astronaut, (32, 32))[None], BicubicDownscale(), 2)[0]
    found = decide(network, astronaut)
    assert found.network_db == pytest.approx(psnr(used, astronaut), abs=1e-3)
    assert found.network_db > 30  # about 20 dB without
    assert found.share == 1


def test_nothing_held_out(monkeypatch: pytest.MonkeyPatch, network: ZSSR, astronaut: Tensor) -> None:
    assert decide(network, torch.zeros(3, 65, 64), folds=None) == Selection(1.0, "because")
    predict(monkeypatch, astronaut, astronaut)
    found = decide(network, astronaut, folds=None)
    assert (found.share, found.why, found.held_out, found.network_db) == (1.0, "because", False, 100)
    assert found.back_projection_db == decide(network, astronaut).back_projection_db


def test_at_scale_1_the_reference_is_not_written_into(network: ZSSR, astronaut: Tensor) -> None:
    """Enlarging by 1 gives the same tensor back, which back-projection would change."""
    task = Task((1.0, 1.0), (1, 1), KernelDownscale(torch.ones(3, 3, dtype=torch.float64), (1, 1)))
    lr = task.shrink(astronaut[None])
    expected = back_project(lr.clone(), lr, task.downscale, 2)[0]
    assert decide(network, astronaut, task).back_projection_db == pytest.approx(psnr(expected, astronaut), abs=1e-3)


def test_the_shrunk_copy_is_as_the_camera_takes_it(network: ZSSR, astronaut: Tensor) -> None:
    """With its noise, which is the same each time and takes no draws from others, and its compression."""
    blur = GaussianBlur(sigma_major=0.8, sigma_minor=0.4, angle_degrees=30)
    noise, jpeg = Noise(sigma=0.03), Jpeg.of_quality(75)
    cameras = [Degradation(blur=blur), Degradation(blur=blur, noise=noise)]
    cameras.append(Degradation(blur=blur, noise=noise, jpeg=jpeg))
    state = torch.get_rng_state()
    tasks = [Task((2.0, 2.0), (1, 1), DegradedDownscale(camera)) for camera in cameras]
    found = [decide(network, astronaut, task) for task in tasks]
    assert torch.equal(torch.get_rng_state(), state)
    figures = [one.back_projection_db or 0.0 for one in found]
    assert figures[0] > figures[1] + 0.2
    assert figures[1] > figures[2]
    torch.rand(7)
    assert decide(network, astronaut, tasks[2]) == found[2]
    downscale = tasks[2].downscale
    lr = downscale(astronaut[None], (32, 32))
    lr = downscale.capture(lr, torch.randn(lr.shape, generator=torch.Generator().manual_seed(0)))
    expected = back_project(resize(lr, (64, 64)).clone(), lr, downscale, 2)[0]
    assert figures[2] == pytest.approx(psnr(expected, astronaut), abs=1e-3)
    assert decide(network, astronaut, tasks[2], None).back_projection_db == figures[2]


@pytest.mark.parametrize("folds", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("size", [(64, 64), (49, 49), (40, 90)])
def test_folds_have_their_share_and_neighbours_differ(folds: int, size: tuple[int, int]) -> None:
    found = fold_map(size, folds)
    counts = torch.bincount(found.flatten(), minlength=folds)
    assert len(counts) == folds
    assert counts.min() > 0.2 * size[0] * size[1] / folds
    side = int((found[0] != found[0, 0]).nonzero()[0])
    assert side >= 8
    blocks = found[::side, ::side]
    assert (blocks[1:] != blocks[:-1]).all()
    assert (blocks[:, 1:] != blocks[:, :-1]).all()
