"""Batches by number: the same whoever asks and when, every image once a pass, pairs that stay pairs."""

import torch

from tests.training.conftest import images_of
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.training.sampling import Sampler, whole_batch


def sampler(count: int = 10, batch: int = 4, **changes: int | None) -> Sampler:
    given = {"patch": 8, "scale": 2, "seed": 3, "rank": 0, "world": 1} | changes
    return Sampler(images_of(count), batch=batch, stream="test", **given)  # type: ignore[arg-type]


def test_a_batch_depends_on_its_number_alone() -> None:
    one, other = sampler(), sampler()
    for number in range(7):
        one.batch(number)
    assert torch.equal(one.batch(3).lr, other.batch(3).lr)
    assert not torch.equal(one.batch(3).lr, one.batch(4).lr)


def test_each_image_once_a_pass() -> None:
    source = sampler(count=10, batch=4, patch=None)
    found = [source._image(position) for position in range(30)]
    assert all(sorted(found[at : at + 10]) == list(range(10)) for at in (0, 10, 20))
    assert found[:10] != found[10:20]


def test_processes_share_the_batch() -> None:
    whole = sampler().batch(5)
    parts = [sampler(rank=rank, world=2).batch(5) for rank in range(2)]
    assert torch.equal(torch.stack([part.lr for part in parts], 1).flatten(0, 1), whole.lr)


def test_pairs_stay_pairs_and_turns_are_recorded() -> None:
    images = images_of(10)
    batch = Sampler(images, patch=None, scale=2, batch=40, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    assert set(batch.turned) == set(dihedral.ALL)
    assert (resize(batch.hr, (10, 10)) - batch.lr).abs().max() < 0.02
    back = dihedral.inverse(batch.lr[0], batch.turned[0])
    assert any(torch.equal(back, whole_batch(images, n).lr[0]) for n in range(10))


def test_patches_lie_everywhere() -> None:
    images = images_of(1)
    batch = Sampler(images, patch=8, scale=2, batch=60, seed=0, stream="test").batch(0)
    whole = whole_batch(images, 0)
    assert batch.lr.shape == (60, 1, 8, 8)
    corners = {
        (top, left)
        for patch, k in zip(batch.lr, batch.turned, strict=True)
        for top in range(3)
        for left in range(3)
        if torch.equal(dihedral.inverse(patch, k), whole.lr[0, :, top : top + 8, left : left + 8])
    }
    assert len(corners) == 9
