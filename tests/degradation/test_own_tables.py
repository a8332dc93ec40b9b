"""Tables of encoders that no candidate explains, estimated from crops."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from zssr_gan.degradation.compression import find_compression
from zssr_gan.degradation.encoder_tables import candidates
from zssr_gan.degradation.jpeg import Table, tables_of
from zssr_gan.degradation.lattice import tiles_of
from zssr_gan.degradation.own_tables import find_own_tables

FLAT = (16,) * 64


def crops_of(table: Table, count: int, *, seed: int = 0, size: int = 32) -> list[torch.Tensor]:
    """Crops of a photograph that was compressed with a table, at any phase."""
    file = io.BytesIO()
    photograph = Image.fromarray(data.astronaut()[:400, 60:460])
    photograph.save(file, "JPEG", qtables=[list(table), list(table)])
    levels = torch.from_numpy(np.array(Image.open(io.BytesIO(file.getvalue())))).permute(2, 0, 1).float() / 255
    draws = np.random.default_rng(seed)
    corners = [(draws.integers(30, 150), draws.integers(60, 180)) for _ in range(count)]
    return [levels[:, y : y + size, x : x + size] for y, x in corners]


def drawn(seed: int) -> Table:
    """A table that no encoder has: libjpeg's, each step made larger or smaller by about a quarter."""
    draws = np.random.default_rng(seed)
    base, _ = tables_of(int(draws.integers(60, 90)))
    return tuple(max(1, round(step * float(np.exp(draws.normal(0, 0.25))))) for step in base)


def errors(found: Table, true: Table) -> np.ndarray:
    """Absolute logarithm of each step over the true one."""
    return np.abs(np.log(np.array(found[1:]) / np.array(true[1:])))


@pytest.mark.parametrize("table", [FLAT, drawn(0), drawn(1)], ids=["flat", "drawn-0", "drawn-1"])
def test_a_set_gives_its_table(table: Table) -> None:
    assert table not in [one.luma for one, _ in candidates()]
    (group,) = find_compression(crops_of(table, 3)).groups
    assert group.jpeg is not None
    assert "own table" in group.jpeg.summary
    assert group.jpeg.summary in group.summary
    assert np.median(errors(group.jpeg.luma, table)) < 0.05
    assert group.seen == 3


def test_two_encoders_of_one_folder_are_told_apart() -> None:
    crops = crops_of(drawn(2), 3) + crops_of(FLAT, 3, seed=1)
    found = find_compression(crops)
    for number, table in ((0, drawn(2)), (5, FLAT)):
        jpeg = found.of(number).jpeg
        assert jpeg is not None
        assert np.median(errors(jpeg.luma, table)) < 0.05


def test_a_single_crop_is_never_named_as_a_wrong_quality() -> None:
    for number, crop in enumerate(crops_of(drawn(3), 3, seed=2)):
        jpeg = find_compression([crop]).groups[0].jpeg
        assert jpeg is None or "own table" in jpeg.summary, number
        assert jpeg is None or np.median(errors(jpeg.luma, drawn(3))) < 0.12


def test_tables_that_are_known_or_hardly_compress_are_not_estimated() -> None:
    for table in (tables_of(75)[0], tables_of(99)[0]):
        for group in find_compression(crops_of(table, 2)).groups:
            assert "own table" not in group.summary


def test_what_was_never_compressed_has_no_table() -> None:
    images = [torch.from_numpy(data.astronaut()[y : y + 32, 100:132]).permute(2, 0, 1) / 255 for y in (40, 83, 126)]
    noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    tiles = {number: tiles_of(image) for number, image in enumerate([*images, noise])}
    assert find_own_tables(tiles, dict.fromkeys(tiles, (0.0, 0))) == []
