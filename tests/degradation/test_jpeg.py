"""JPEG's loss: the tables of the encoder that everybody uses, and what is left after it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from torch import Tensor

from zssr_gan.degradation.jpeg import block_coefficients, compress, nearest_quality, quality_of, read_tables, tables_of

HALVED = pytest.mark.parametrize("halved", [False, True], ids=["4:4:4", "4:2:0"])


def encoded(levels: np.ndarray, quality: int, *, halved: bool = True, **options: object) -> bytes:
    """What Pillow writes of `H W 3` or `H W` levels."""
    file = io.BytesIO()
    sampling = {"subsampling": 2 if halved else 0} if levels.ndim == 3 else {}
    Image.fromarray(levels).save(file, "JPEG", quality=quality, **sampling, **options)
    return file.getvalue()


def decoded(file: bytes) -> Tensor:
    """1 C H W levels."""
    levels = torch.from_numpy(np.array(Image.open(io.BytesIO(file)))).float()
    return levels.permute(2, 0, 1)[None] if levels.dim() == 3 else levels[None, None]


def levels_of(image: Tensor) -> np.ndarray:
    """`H W 3` or `H W` of `C H W`."""
    levels = (image * 255).round().to(torch.uint8)
    return (levels.permute(1, 2, 0) if len(levels) == 3 else levels[0]).numpy()


def rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


class TestTables:
    @HALVED
    def test_are_those_that_pillow_writes(self, halved: bool) -> None:
        picture = np.zeros((16, 16, 3), np.uint8)
        for quality in range(1, 101):
            luma, chroma = tables_of(quality)
            assert read_tables(encoded(picture, quality, halved=halved)) == (luma, chroma, halved)

    def test_are_those_of_the_standard(self) -> None:
        """ITU-T T.81, tables K.1 and K.2, which libjpeg has at quality 50; at 75 half of them."""
        luma, chroma = tables_of(50)
        assert list(luma[:8]) == [16, 11, 10, 16, 24, 40, 51, 61]
        assert list(chroma[:8]) == [17, 18, 24, 47, 99, 99, 99, 99]
        assert list(luma[-8:]) == [72, 92, 95, 98, 112, 100, 103, 99]
        assert list(tables_of(75)[0][:4]) == [8, 6, 5, 8]

    def test_of_a_gray_file_there_is_one(self) -> None:
        luma, _ = tables_of(80)
        assert read_tables(encoded(np.zeros((9, 9), np.uint8), 80)) == (luma, luma, False)

    def test_of_a_progressive_file(self) -> None:
        luma, chroma = tables_of(60)
        assert read_tables(encoded(np.zeros((9, 9, 3), np.uint8), 60, progressive=True)) == (luma, chroma, True)

    def test_colour_halved_in_one_direction_is_not_halved(self) -> None:
        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, "JPEG", quality=75, subsampling=1)
        assert read_tables(file.getvalue()) == (*tables_of(75), False)

    def test_an_encoder_may_have_its_own(self) -> None:
        luma, chroma = tuple(range(1, 65)), tuple(range(100, 164))
        file = encoded(np.zeros((8, 8, 3), np.uint8), 50, qtables=[list(luma), list(chroma)])
        assert read_tables(file) == (luma, chroma, True)

    def test_of_what_is_no_jpeg(self, astronaut: Tensor) -> None:
        png = io.BytesIO()
        Image.fromarray(levels_of(astronaut)).save(png, "PNG")
        whole = encoded(levels_of(astronaut), 75)
        for data in (png.getvalue(), b"", b"text", whole[:2], whole[:100], bytes(500), whole[1:]):
            assert read_tables(data) is None

    def test_of_damaged_bytes_are_none_or_tables(self) -> None:
        """Whatever is broken in a header, it is no crash, and no table that cannot be divided by."""
        whole = encoded(np.zeros((8, 8, 3), np.uint8), 75)
        draws = np.random.default_rng(0)
        for _ in range(300):
            broken = bytearray(whole)
            for _ in range(8):
                broken[draws.integers(2, 300)] = draws.integers(0, 256)
            found = read_tables(bytes(broken))
            assert found is None or all(len(table) == 64 and min(table) > 0 for table in found[:2])


class TestQuality:
    def test_every_one_is_told_from_its_table(self) -> None:
        assert [quality_of(tables_of(quality)[0]) for quality in range(1, 101)] == list(range(1, 101))

    def test_none_of_another_encoders_table(self) -> None:
        luma = list(tables_of(75)[0])
        luma[5] += 1
        assert quality_of(tuple(luma)) is None
        assert nearest_quality(tuple(luma)) == 75

    @pytest.mark.parametrize("quality", [10, 50, 90])
    def test_nearest_of_its_own_is_itself(self, quality: int) -> None:
        assert nearest_quality(tables_of(quality)[0]) == quality

    def test_nearest_counts_low_and_high_frequencies_alike(self) -> None:
        """Half as large steps throughout: of quality 50, whose factor is 1, that is 75."""
        halves = tuple(max(1, round(step / 2)) for step in tables_of(50)[0])
        assert abs(nearest_quality(halves) - 75) <= 1


class TestCompress:
    @pytest.mark.parametrize("size", [(64, 64), (37, 51), (48, 17)])
    @pytest.mark.parametrize("quality", [40, 75, 90])
    @pytest.mark.parametrize("kind", ["gray", "4:4:4", "4:2:0"])
    def test_is_what_pillow_decodes(self, astronaut: Tensor, kind: str, quality: int, size: tuple[int, int]) -> None:
        """All but coefficients midway between two multiples, which implementations round differently."""
        image = astronaut[: 1 if kind == "gray" else 3, : size[0], : size[1]]
        halved = kind == "4:2:0"
        expected = decoded(encoded(levels_of(image), quality, halved=halved))
        found = compress(image[None], *tables_of(quality), halved=halved) * 255
        assert found.shape == expected.shape
        assert rms(found - expected) < 0.45 * rms(image * 255 - expected)
        assert rms(found - expected) < 1.4

    @HALVED
    @pytest.mark.parametrize("size", [(1, 1), (7, 2), (9, 13), (8, 15), (16, 8)])
    def test_tiny_images(self, astronaut: Tensor, size: tuple[int, int], halved: bool) -> None:
        height, width = size
        apart, lost = [], []
        for top, left in [(10, 10), (10, 30), (20, 20), (30, 10), (40, 40), (0, 49)]:
            image = astronaut[:, top : top + height, left : left + width]
            expected = decoded(encoded(levels_of(image), 75, halved=halved))
            apart.append(compress(image[None], *tables_of(75), halved=halved) * 255 - expected)
            lost.append(image * 255 - expected)
        assert rms(torch.cat(apart)) < max(1.0, 0.5 * rms(torch.cat(lost)))

    @HALVED
    def test_gives_levels_of_8_bits_in_range(self, halved: bool) -> None:
        noise = torch.rand(2, 3, 20, 22, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
        levels = compress(noise, *tables_of(30), halved=halved) * 255
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert (float(levels.min()), float(levels.max())) == (0.0, 255.0)

    def test_images_are_apart(self, astronaut: Tensor) -> None:
        two = torch.stack([astronaut, astronaut.flip(-1)])
        both = compress(two, *tables_of(75))
        for one, whole in zip(two, both, strict=True):
            assert torch.equal(compress(one[None], *tables_of(75))[0], whole)

    def test_coefficients_lie_on_the_tables_multiples(self, face: Tensor) -> None:
        luma, chroma = tables_of(75)
        steps = torch.tensor(luma, dtype=torch.float32).reshape(8, 8)
        left = block_coefficients(compress(face[None], luma, chroma)[0] * 255) / steps
        off = ((left - left.round()).abs() * steps).flatten(0, 2)
        assert float(off[:, steps >= 10].mean()) < 0.3  # rounding to levels; 2.5 and more without a lattice

    def test_halved_colours_lose_more(self, astronaut: Tensor) -> None:
        whole, halved = (compress(astronaut[None], *tables_of(95), halved=halved) for halved in (False, True))
        assert rms(halved - astronaut) > 1.2 * rms(whole - astronaut)

    def test_a_gray_gradient_comes_through_as_it_is(self) -> None:
        made = torch.Generator().manual_seed(0)
        x = (0.4 + 0.2 * torch.rand(1, 1, 19, 13, generator=made)).requires_grad_()
        weight = torch.rand(1, 1, 16, 8, generator=made)
        (compress(x, *tables_of(50))[..., :16, :8] * weight).sum().backward()
        assert x.grad is not None
        assert torch.allclose(x.grad[..., :16, :8], weight, atol=1e-4)
        assert not x.grad[..., 16:, :].any()

    @HALVED
    def test_a_coloured_gradient_comes_through(self, halved: bool) -> None:
        """Brightness as it is; colours too, but for their averages over 2x2 pixels."""
        made = torch.Generator().manual_seed(0)
        x = (0.4 + 0.2 * torch.rand(1, 3, 16, 16, generator=made)).requires_grad_()
        weight = torch.rand(1, 1, 16, 16, generator=made)
        gray = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        out = compress(x, *tables_of(75), halved=halved)
        ((out * gray).sum(1, keepdim=True) * weight).sum().backward()
        assert x.grad is not None
        assert torch.allclose(x.grad, gray * weight, atol=1e-4)
        x.grad = None
        (compress(x, *tables_of(75), halved=halved)[:, 0] * weight[:, 0]).sum().backward()
        assert torch.allclose(x.grad.sum(1), weight[:, 0], atol=1e-4)
        assert torch.allclose(x.grad[:, 0], weight[:, 0], atol=1e-4) == (not halved)


class TestBlockCoefficients:
    def test_are_those_of_scipy(self) -> None:
        levels = torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(0)) * 255
        found = block_coefficients(levels)
        assert found.shape == (2, 2, 3, 8, 8)
        for row in range(2):
            for column in range(3):
                block = levels[1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].numpy() - 128
                assert np.allclose(found[1, row, column], dctn(block, norm="ortho"), atol=1e-2)

    def test_keep_the_energy(self) -> None:
        levels = torch.rand(3, 32, 16, generator=torch.Generator().manual_seed(1)) * 255
        energy = block_coefficients(levels).square().sum((1, 2, 3, 4))
        assert torch.allclose(energy, (levels - 128).square().sum((1, 2)), rtol=1e-5)

    def test_of_a_known_block(self) -> None:
        """A constant is the first coefficient alone; a wave along x in row 0, at its frequency."""
        wave = 100 * torch.cos((2 * torch.arange(8) + 1) * 3 * torch.pi / 16)
        found = block_coefficients(torch.stack([torch.full((8, 8), 200.0), 128 + wave.expand(8, 8)]))
        expected = torch.zeros(2, 1, 1, 8, 8)
        expected[0, 0, 0, 0, 0] = 72 * 8
        expected[1, 0, 0, 0, 3] = 100 * 2 * 8**0.5  # sqrt(8) of the constant axis, sqrt(8 / 2) of the wave's
        assert torch.allclose(found, expected, atol=1e-2)

    def test_whole_blocks_only(self) -> None:
        levels = torch.rand(1, 17, 23) * 255
        assert torch.equal(block_coefficients(levels), block_coefficients(levels[:, :16, :16]))
