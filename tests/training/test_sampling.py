"""Batches by number: the same whoever asks and when, every image once a pass, pairs that stay pairs."""

from functools import partial

import torch

from tests.training.conftest import images_of
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.training.sampling import DeviceImages, Images, Sampler, whole_batch

IMAGES = images_of(10)
sampler = partial(Sampler, patch=8, scale=2, batch=4, seed=3, stream="test")
WHOLE = [whole_batch(IMAGES, n).lr[0] for n in range(10)]


def test_a_batch_depends_on_its_number_alone() -> None:
    """And several processes share it."""
    used = sampler(IMAGES)
    for number in range(7):
        used.batch(number)
    parts = [sampler(IMAGES, rank=rank, world=2).batch(3).lr for rank in range(2)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), used.batch(3).lr)
    assert not torch.equal(used.batch(3).lr, used.batch(4).lr)


def test_each_image_once_a_pass() -> None:
    source = sampler(IMAGES, patch=None, batch=10)
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
    batch = sampler(IMAGES, patch=None, batch=40).batch(0)
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


def test_patches_cut_on_a_device_are_the_same_bits() -> None:
    """Of images of several sizes and colours, every symmetry, patches and whole images, with and without HR."""
    draws = torch.Generator().manual_seed(0)
    sizes = [(9, 12), (14, 8), (8, 8), (11, 31)] * 3
    lr = tuple(torch.randint(0, 256, (3, *size), generator=draws, dtype=torch.uint8) for size in sizes)
    hr = tuple(torch.randint(0, 256, (3, 2 * h, 2 * w), generator=draws, dtype=torch.uint8) for h, w in sizes)
    names = tuple(map(str, range(len(sizes))))
    cameras = tuple(range(len(sizes)))
    flat = Images(names[:1], (lr[0],), None, (0,))
    for images, patch in ((Images(names, lr, hr, cameras), 8), (Images(names, lr, None, cameras), 5), (flat, None)):
        there = DeviceImages.of(images, torch.device("cpu"))
        one, other = (sampler(source, patch=patch, batch=40).batch(2) for source in (images, there))
        assert set(one.turned) == set(dihedral.ALL if patch else dihedral.AXIS_KEEPING)
        assert torch.equal(one.lr, other.lr)
        assert (one.turned, one.cameras, one.seeds) == (other.turned, other.cameras, other.seeds)
        assert (one.hr is None) == (other.hr is None)
        assert one.hr is None or torch.equal(one.hr, other.hr)
