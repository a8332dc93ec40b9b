"""JPEG found in pixels: at any phase, in mixed sets and under a later save; not seen where there was none."""

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from zssr_gan.degradation.compression import find_compression, find_phase
from zssr_gan.degradation.encoder_tables import candidates, jpeg_of, mjpeg_table, mozjpeg_table, turned
from zssr_gan.degradation.jpeg import Table, tables_of
from zssr_gan.degradation.model import Jpeg


@cache
def photograph() -> Image.Image:
    """A face, cloth and a shuttle."""
    return Image.fromarray(data.astronaut()[:400, 60:460])


def saved(image: Image.Image, quality: int, **options: object) -> Image.Image:
    """As Pillow reads what it wrote."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def pixels(image: Image.Image) -> Tensor:
    levels = torch.from_numpy(np.array(image)).float() / 255
    return levels.permute(2, 0, 1) if levels.dim() == 3 else levels[None]


def cropped(image: Image.Image, count: int, height: int = 32, width: int = 32, seed: int = 0) -> list[Image.Image]:
    """Crops at even places of a part with something to see."""
    draws = np.random.default_rng(seed)
    corners = [(int(2 * draws.integers(30, 90)), int(2 * draws.integers(10, 60))) for _ in range(count)]
    return [image.crop((x, y, x + width, y + height)) for x, y in corners]


class TestOneCrop:
    @pytest.mark.parametrize("quality", [50, 67, 75, 85, 92])
    @pytest.mark.parametrize("size", [(32, 32), (16, 20)])
    def test_its_quality_and_phase(self, quality: int, size: tuple[int, int]) -> None:
        x, y = 133, 74
        crop = saved(photograph(), quality).crop((x, y, x + size[1], y + size[0]))
        (group,) = find_compression([pixels(crop)]).groups
        assert group.quality is not None
        assert abs(group.quality - quality) <= 1
        assert group.phases == ((-y % 8, -x % 8),)
        assert group.seen == 1
        assert not group.resaved

    @pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
    def test_however_colour_is_stored(self, options: dict[str, object]) -> None:
        crop = saved(photograph(), 80, **options).crop((121, 101, 153, 133))
        assert find_compression([pixels(crop)]).groups[0].quality in (79, 80, 81)

    def test_gray(self) -> None:
        crop = saved(photograph().convert("L"), 80).crop((121, 101, 153, 133))
        assert find_compression([pixels(crop)]).groups[0].quality in (79, 80, 81)

    def test_of_a_large_photograph_parts_are_tested(self) -> None:
        (group,) = find_compression([pixels(saved(photograph(), 77).crop((3, 5, 400, 390)))]).groups
        assert group.quality in (76, 77, 78)
        assert group.phases == ((3, 5),)

    @pytest.mark.parametrize("table", [mozjpeg_table(75), mjpeg_table(2), mjpeg_table(8)])
    def test_encoders_have_tables_of_their_own(self, table: Table) -> None:
        image = saved(photograph(), 50, qtables=[list(table), list(table)])  # 50 leaves them as they are
        group = find_compression([pixels(crop) for crop in cropped(image, 4)]).groups[0]
        assert group.jpeg is not None
        assert group.jpeg.luma == table
        assert "own table" in group.summary
        assert len(group.images) >= 3


class TestSets:
    def test_crops_of_one_photograph_have_one_quality(self) -> None:
        crops = cropped(saved(photograph(), 72), 8)
        largest = find_compression([pixels(crop) for crop in crops]).groups[0]
        assert largest.quality in (71, 72, 73)
        assert len(largest.images) >= 7

    def test_crops_of_two_photographs_have_each_their_own(self) -> None:
        sets = [cropped(saved(photograph(), quality), 4, seed=quality) for quality in (60, 85)]
        found = find_compression([pixels(crop) for crops in sets for crop in crops])
        assert sorted(group.quality or 0 for group in found.groups) == [60, 85]
        assert found.of(0).quality == 60
        assert found.of(7).quality == 85
        assert "60" in found.summary
        assert "85" in found.summary

    def test_an_image_without_compression_is_told_from_the_others(self) -> None:
        crops = [*cropped(saved(photograph(), 75), 4), *cropped(photograph(), 2, seed=1)]
        found = find_compression([pixels(crop) for crop in crops])
        assert [found.of(number).quality for number in (4, 5)] == [None, None]

    @pytest.mark.parametrize("quality", [50, 75])
    def test_turned_crops(self, quality: int) -> None:
        """A quarter turn swaps rows and columns of the tables, of some images or of all."""
        crops = cropped(saved(photograph(), quality), 8)
        upright, quarter = crops[:4], [one.transpose(Image.Transpose.ROTATE_90) for one in crops[4:]]
        (group,) = find_compression([pixels(one) for one in quarter]).groups
        assert group.jpeg == turned(Jpeg.of_quality(quality))
        found = find_compression([pixels(one) for one in upright + quarter])
        assert [found.of(number).quality for number in range(8)] == [quality] * 8
        assert found.of(7).jpeg == turned(Jpeg.of_quality(quality))

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_files_turned_by_exif(self, orientation: int) -> None:
        exif, file = Image.Exif(), io.BytesIO()
        exif[274] = orientation
        photograph().save(file, "JPEG", quality=60, exif=exif)
        jpeg = Jpeg.of_quality(60)
        assert jpeg_of(file.getvalue()) == (turned(jpeg) if orientation in (6, 8) else jpeg)


class TestPhase:
    def test_of_a_known_compression(self) -> None:
        crop = pixels(saved(photograph(), 80).crop((133, 74, 161, 102)))
        assert find_phase(crop, Jpeg.of_quality(80)) == (-74 % 8, -133 % 8)
        assert find_phase(pixels(photograph().crop((133, 74, 161, 102))), Jpeg.of_quality(60)) is None
        assert find_phase(torch.zeros(3, 6, 40), Jpeg.of_quality(80)) is None

    @pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90])
    def test_of_a_turned_file(self, turn: Image.Transpose | None) -> None:
        """What is expected gives way to what the pixels say, and stays where they say nothing."""
        file = saved(photograph().crop((100, 60, 161, 104)), 75)  # 61 x 44: 5 and 4 more than whole blocks
        upright = pixels(file if turn is None else file.transpose(turn))
        phase = {None: (0, 0), Image.Transpose.ROTATE_180: (4, 5), Image.Transpose.ROTATE_90: (5, 0)}[turn]
        assert find_phase(upright, Jpeg.of_quality(75), (0, 0)) == phase
        assert find_phase(torch.full((3, 40, 40), 0.5), Jpeg.of_quality(75), (0, 0)) == (0, 0)


class TestSavedAgain:
    def test_the_first_quality_is_found_under_the_file_s_own(self) -> None:
        crops = [saved(crop, 90) for crop in cropped(saved(photograph(), 60), 8)]
        own = Jpeg.of_quality(90)
        first = find_compression([pixels(crop) for crop in crops], [own] * 8).of(0)
        assert first.quality in (59, 60, 61)
        assert first.outer == own
        assert first.resaved

    @pytest.mark.parametrize(("first", "second"), [(60, 90), (50, 75)])
    def test_a_whole_photograph_on_one_grid(self, first: int, second: int) -> None:
        twice = saved(saved(photograph(), first), second)
        area = twice.crop((160, 80, 256, 176))
        (group,) = find_compression([pixels(area)], [Jpeg.of_quality(second)]).groups
        assert group.quality in (first - 1, first, first + 1)
        assert group.outer == Jpeg.of_quality(second)

    def test_crops_of_a_photograph_that_was_saved_twice(self) -> None:
        crops = cropped(saved(saved(photograph(), 75), 85), 4)
        largest = find_compression([pixels(crop) for crop in crops]).groups[0]
        assert largest.quality in (74, 75, 76)
        assert largest.resaved

    def test_a_finer_first_quality_is_not_known(self) -> None:
        crops = [saved(crop, 75) for crop in cropped(saved(photograph(), 92), 4)]
        for group in find_compression([pixels(crop) for crop in crops], [Jpeg.of_quality(75)] * 4).groups:
            assert group.quality == 75
            assert not group.resaved

    def test_the_file_s_own_holds_where_it_is_the_only_one(self) -> None:
        crops = [saved(crop, 75) for crop in cropped(photograph(), 4)]
        (group,) = find_compression([pixels(crop) for crop in crops], [Jpeg.of_quality(75)] * 4).groups
        assert group.quality == 75
        assert not group.resaved
        assert "tables" in group.summary


class TestNone:
    def test_of_crops_of_a_photograph(self) -> None:
        (group,) = find_compression([pixels(crop) for crop in cropped(photograph(), 12)]).groups
        assert group.quality is None
        assert group.evidence == 0
        assert group.seen == 0

    def test_of_shrunk_crops(self) -> None:
        shrunk = saved(photograph(), 75).resize((300, 300), Image.Resampling.BICUBIC)
        (group,) = find_compression([pixels(crop) for crop in cropped(shrunk, 8)]).groups
        assert group.evidence == 0

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_of_flat_and_of_tiny_images(self, value: float) -> None:
        (group,) = find_compression([torch.full((3, *size), value) for size in ((32, 32), (7, 30), (8, 8))]).groups
        assert group.evidence == 0
        assert group.phases == (None,) * 3

    @pytest.mark.parametrize("image", [data.checkerboard(), np.kron(np.eye(6), np.full((8, 8), 255))], ids=["25", "8"])
    def test_of_squares(self, image: np.ndarray) -> None:
        """A drawn pattern repeats itself, also in step with a grid."""
        picture = Image.fromarray(np.asarray(image, np.uint8)).convert("RGB")
        for area in ((0, 0, *picture.size), (0, 0, 40, 40)):
            assert find_compression([pixels(picture.crop(area))]).groups[0].evidence == 0

    def test_of_no_images(self) -> None:
        assert find_compression([]).groups == ()

    def test_tables_for_other_images_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one item for each image"):
            find_compression([torch.zeros(3, 8, 8)], [])


class TestCandidates:
    def test_hold_every_quality_once(self) -> None:
        lumas = [one.luma for one, _ in candidates()]
        assert len(set(lumas)) == len(lumas)
        assert {tables_of(quality)[0] for quality in range(30, 96)} <= set(lumas)

    def test_mozjpeg_scales_as_libjpeg(self) -> None:
        assert mozjpeg_table(50)[:8] == (16, 16, 16, 18, 25, 37, 56, 85)
        assert mozjpeg_table(75)[:8] == (8, 8, 8, 9, 13, 19, 28, 43)
        assert max(mozjpeg_table(10)) == 255
        assert set(mozjpeg_table(100)) == {1}

    def test_ffmpeg_scales_by_the_quantiser(self) -> None:
        assert mjpeg_table(2)[:8] == (8, 4, 4, 5, 6, 6, 7, 8)
        assert mjpeg_table(8)[-1] == 83
        assert mjpeg_table(31)[-1] == 255

    def test_hold_tables_of_turned_pictures(self) -> None:
        lumas = {one.luma for one, _ in candidates()}
        assert {turned(Jpeg.of_quality(quality)).luma for quality in range(30, 96)} <= lumas
