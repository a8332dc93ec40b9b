"""Batches by number: the same whoever asks and when, every image once a pass, pairs that stay pairs."""

from functools import partial

import torch

from tests.training.conftest import images_of
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.training.sampling import Sampler, whole_batch

IMAGES = images_of(10)
sampler = partial(Sampler, IMAGES, patch=8, scale=2, batch=4, seed=3, stream="test")
WHOLE = [whole_batch(IMAGES, n).lr[0] for n in range(10)]


def test_a_batch_depends_on_its_number_alone() -> None:
    """And several processes share it."""
    used = sampler()
    for number in range(7):
        used.batch(number)
    parts = [sampler(rank=rank, world=2).batch(3).lr for rank in range(2)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), used.batch(3).lr)
    assert not torch.equal(used.batch(3).lr, used.batch(4).lr)


def test_each_image_once_a_pass() -> None:
    source = sampler(patch=None, batch=10)
    batches = [source.batch(number) for number in range(3)]
    passes = [
        [
            next(n for n, x in enumerate(WHOLE) if torch.equal(x, dihedral.inverse(lr, k)))
            for lr, k in zip(batch.lr, batch.turned, strict=True)
        ]
        for batch in batches
    ]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1]


def test_pairs_stay_pairs() -> None:
    batch = sampler(patch=None, batch=40).batch(0)
    assert batch.hr is not None
    assert set(batch.turned) == set(dihedral.ALL)
    assert (resize(batch.hr, (10, 10)) - batch.lr).abs().max() < 0.02


def test_patches_lie_everywhere() -> None:
    images = images_of(1)
    batch = Sampler(images, patch=8, scale=2, batch=60, seed=0, stream="test").batch(0)
    whole = whole_batch(images, 0).lr[0]
    assert batch.lr.shape == (60, 1, 8, 8)
    corners = {
        (top, left)
        for patch, k in zip(batch.lr, batch.turned, strict=True)
        for top in range(3)
        for left in range(3)
        if torch.equal(dihedral.inverse(patch, k), whole[:, top : top + 8, left : left + 8])
    }
    assert len(corners) == 9
