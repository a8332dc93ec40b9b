"""JPEG's quality from pixels alone: found where there was compression, and not seen where there was none."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from tests.zeroshot.native import pieces
from zssr_gan.degradation.jpeg import compress, quality_of_pixels, tables_of
from zssr_gan.degradation.lattice import SmoothDensity, saved_again_scores, scores, steps_of, tiles_of, windows_of
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.imaging.resize import resize

BLURRED = GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30)


def decoded(images: Sequence[Tensor], quality: int, **options: object) -> list[Tensor]:
    """As Pillow reads what it wrote."""
    out = []
    for image in images:
        levels = (image * 255).round().to(torch.uint8)
        picture = Image.fromarray((levels.permute(1, 2, 0) if len(image) == 3 else levels[0]).numpy())
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, **options)
        found = torch.from_numpy(np.array(Image.open(file))).float() / 255
        out.append(found.permute(2, 0, 1) if found.dim() == 3 else found[None])
    return out


@pytest.fixture(scope="module")
def plain() -> list[Tensor]:
    return pieces(Degradation(blur=BLURRED, noise=Noise(sigma=1 / 255)))


@pytest.mark.parametrize("quality", [40, 60, 75, 85, 90])
@pytest.mark.parametrize("sampling", [0, 2])
def test_found_in_what_pillow_wrote(plain: list[Tensor], quality: int, sampling: int) -> None:
    assert quality_of_pixels(decoded(plain, quality, subsampling=sampling)) == quality


@pytest.mark.parametrize("quality", [75, 90])
def test_found_in_gray_images_and_in_odd_sizes(quality: int) -> None:
    for sizes in [((32, 32),), ((29, 35), (17, 22), (32, 32))]:
        gray = pieces(Degradation(noise=Noise(sigma=1 / 255)), *sizes, gray=True)
        assert quality_of_pixels(decoded(gray, quality)) == quality


@pytest.mark.parametrize("quality", [75, 90])
def test_found_in_what_a_degradation_makes(quality: int) -> None:
    assert quality_of_pixels(pieces(Degradation(blur=BLURRED, jpeg=Jpeg.of_quality(quality)))) == quality


@pytest.mark.parametrize(
    "degradation",
    [
        Degradation(),
        Degradation(noise=Noise(sigma=4 / 255)),
        Degradation(blur=GaussianBlur(sigma_major=1.2, sigma_minor=1.0)),
    ],
    ids=["sharp", "noisy", "blurred"],
)
def test_none_where_there_was_none(degradation: Degradation) -> None:
    assert quality_of_pixels(pieces(degradation)) is None


def test_none_where_the_image_was_resized_afterwards(plain: list[Tensor]) -> None:
    """Its blocks are no longer of 8 pixels, and no table says what became of them."""
    compressed = decoded(plain, 75)
    for size in ((64, 64), (24, 24), (40, 40)):
        other = [(resize(image, size).clamp(0, 1) * 255).round() / 255 for image in compressed]
        assert quality_of_pixels(other) is None


def test_none_where_blocks_do_not_begin_in_the_corner(plain: list[Tensor]) -> None:
    assert quality_of_pixels([image[:, 3:, 5:] for image in decoded(plain, 75)]) is None


def test_most_images_say_it(plain: list[Tensor]) -> None:
    mixed = decoded(plain[:28], 75) + plain[28:]
    assert quality_of_pixels(mixed) == 75


@pytest.mark.parametrize("size", [(7, 30), (1, 1)])
def test_none_of_images_without_a_block(size: tuple[int, int]) -> None:
    assert quality_of_pixels([torch.rand(3, *size)]) is None


def test_none_of_no_images_and_of_flat_ones() -> None:
    assert quality_of_pixels([]) is None
    assert quality_of_pixels([torch.full((3, 32, 32), 0.5)] * 20) is None


def test_faces_at_their_native_size() -> None:
    faces = [torch.from_numpy(face).float()[None, :24, :24] for face in data.lfw_subset()[:60]]
    assert quality_of_pixels(decoded(faces, 75)) == 75
    assert quality_of_pixels(faces) is None


class TestScores:
    """Nats of blocks under a table, on a made texture."""

    @staticmethod
    def texture(*qualities: int) -> Tensor:
        """1 48 48, compressed with each quality in turn from the corner on."""
        noise = torch.randn(1, 1, 53, 53, generator=torch.Generator().manual_seed(0))
        image = 0.5 + 0.35 * torch.nn.functional.avg_pool2d(noise, 6, stride=1)
        for quality in qualities:
            image = compress(image, *tables_of(quality))
        return (image[0].clamp(0, 1) * 255).round() / 255

    def test_are_high_on_the_grid_of_the_blocks_alone(self) -> None:
        windows = windows_of(tiles_of(self.texture(75)))
        nats = scores(windows, SmoothDensity.fit(windows), steps_of([tables_of(75)[0]]), torch.tensor([[0.32]]))[:, 0]
        sums = torch.zeros(64).index_add_(0, windows.phases, nats)
        assert float(sums[0]) > 500
        assert float(sums[1:].max()) < 0

    def test_are_negative_without_compression(self) -> None:
        windows = windows_of(tiles_of(self.texture()))
        tables = steps_of([tables_of(quality)[0] for quality in (50, 75, 90)])
        nats = scores(windows, SmoothDensity.fit(windows), tables, torch.tensor([[0.32]]))
        sums = torch.zeros(64, 3).index_add_(0, windows.phases, nats)
        assert float(sums.max()) < 0

    def test_of_two_saves_on_one_grid_are_highest_for_the_first(self) -> None:
        windows = windows_of(tiles_of(self.texture(60, 90)))
        others = windows.at(windows.phases != 0)
        tables = steps_of([tables_of(quality)[0] for quality in range(40, 88)])
        on_grid, outer = windows.at(windows.phases == 0), steps_of([tables_of(90)[0]])[0]
        nats = saved_again_scores(on_grid, SmoothDensity.fit(others), tables, outer).sum(0)
        assert abs(40 + int(nats.argmax()) - 60) <= 1
        assert float(nats.max()) > 30

    def test_tiles_of_a_large_image_are_few_and_know_their_place(self) -> None:
        image = torch.rand(3, 700, 500, generator=torch.Generator().manual_seed(0))
        tiles = tiles_of(image)
        assert len(tiles) <= 16
        assert max(tile.row for tile in tiles) > 600
        windows = windows_of(tiles)
        assert len(windows.phases) < 10_000
        assert set(windows.phases.tolist()) == set(range(64))
