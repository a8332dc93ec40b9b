"""Prepared images: on 8-bit levels, of the size that was asked, and none that has changed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.trees import pixels, prepared, settings, source, split, write_image
from zssr_gan.data.prepared import Prepared
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.imaging.resize import resize

ALL = (None, 0, None, 0)


def levels(image: Tensor) -> np.ndarray:
    return image.mul(255).round().byte().permute(1, 2, 0).numpy()


def test_native_size_keeps_every_level(ten: Path) -> None:
    images = prepared(source(ten), roles=ALL, size=None)
    assert images.ids == tuple(f"folder/{index}.png" for index in range(10))
    for i, name in enumerate(images.ids):
        assert images.image(i).dtype == torch.float32
        assert np.array_equal(levels(images.image(i)), pixels(images.member(i).path))
        assert images.index(name) == i
    again = pickle.loads(pickle.dumps(images))  # as workers get it
    assert torch.equal(again.image(3), images.image(3))


def test_resized_is_antialiased_bicubic_on_8_bit_levels(ten: Path) -> None:
    native, resized = (
        prepared(source(ten), roles=ALL, size=None).image(4),
        prepared(source(ten), roles=ALL, size=32).image(4),
    )
    assert resized.shape == (3, 32, 32)
    assert torch.equal(resized, resized.mul(255).round() / 255)
    assert 0 <= resized.min() <= resized.max() <= 1
    assert (resized - resize(native, (32, 32)).clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_the_file_is_there_where_the_pixels_are_its_own(ten: Path) -> None:
    """What its header says of compression is true of these alone."""
    Image.fromarray(pixels("deep")[..., 0].astype(np.uint16) * 257).save(ten / "deep.png")
    native = prepared(source(ten), roles=ALL, size=None)
    for number, name in enumerate(native.ids):
        own = (ten / name.partition("/")[2]).read_bytes()
        assert native.read(number).file == (None if name.endswith("deep.png") else own)
    write_image(ten / "square.png", 32, 32)
    resized = prepared(source(ten), roles=ALL, size=32)
    square = resized.index("folder/square.png")
    for number in range(len(resized)):
        assert resized.read(number).file == ((ten / "square.png").read_bytes() if number == square else None)
    assert np.array_equal(levels(resized.image(square)), pixels("square.png", 32, 32))


def test_roles_choose(ten: Path) -> None:
    images = prepared(source(ten), only=("zssr", "table1"), roles=(3, None, 1, None))
    assert sorted(str(images.member(i).role) for i in range(len(images))) == ["table1", "zssr", "zssr", "zssr"]


def test_gray_stays_gray_and_what_is_reduced_is_said(ten: Path) -> None:
    Image.fromarray(pixels("gray")[:, :, 0]).save(ten / "gray.png")
    Image.fromarray((pixels("deep")[:, :, 0].astype(np.uint16) << 8) + 77).save(ten / "deep.png")
    Image.fromarray(np.dstack([pixels("veil"), pixels("alpha")[:, :, :1]])).save(ten / "veil.png")
    images = prepared(source(ten), roles=ALL, size=None)
    gray, deep, veil = (images.read(images.index(f"folder/{name}.png")).picture for name in ("gray", "deep", "veil"))
    assert (gray.pixels.shape[0], gray.notices) == (1, ())
    assert torch.equal(deep.pixels, deep.pixels.mul(255).round() / 255)
    assert deep.notices == ("Its 16 bits were reduced to 8.",)
    assert (veil.pixels.shape[0], veil.notices) == (3, ("Its alpha channel was left out.",))


def test_a_changed_file_is_named(ten: Path) -> None:
    images = prepared(source(ten), roles=ALL)
    write_image(ten / "4.png", 21, 16)
    with pytest.raises(ImageError, match=r"^folder/4\.png: has changed since it was prepared"):
        images.image(4)
    (ten / "4.png").unlink()
    with pytest.raises(ImageError, match=r"^folder/4\.png: no such file"):
        images.image(4)


def test_other_settings_than_the_splits_are_refused_and_other_places_are_not(ten: Path, tmp_path: Path) -> None:
    made = split(source(ten))
    with pytest.raises(SettingsError, match=r"data\.size: is not what split\.json was made with"):
        Prepared(made, settings(source(ten), size=16))
    moved = ten.rename(tmp_path / "moved")
    assert Prepared(made, settings(source(moved))).image(0).shape == (3, 32, 32)
