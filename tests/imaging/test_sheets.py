"""Contact and evidence sheets: sizes, what is shown where, and that no peak is lost."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import colormaps

from zssr_gan.imaging.sheets import contact_sheet, evidence_overlay, evidence_sheet

INFERNO = np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255)
BRIGHTEST = torch.tensor(INFERNO[255], dtype=torch.float32) / 255


def is_sheet(sheet):
    return sheet.ndim == 3 and len(sheet) == 3 and sheet.dtype == torch.float32 and 0 <= sheet.min() <= sheet.max() <= 1


def contains(sheet, colour):
    """How many pixels of a sheet have a colour."""
    return int(((sheet - colour[:, None, None]).abs() < 1e-4).all(0).sum())


class TestContactSheet:
    def test_tiny_images_are_enlarged_to_their_pixels(self):
        """25x25 at ten times its size: a red pixel covers 100 pixels of the sheet, and no red runs over its border."""
        image = torch.zeros(3, 25, 25)
        image[0, 7, 9] = 1
        sheet = contact_sheet([[("input", image), ("result", torch.zeros(1, 50, 50))]], cell=256)
        assert is_sheet(sheet)
        assert contains(sheet, torch.tensor([1.0, 0, 0])) == 100
        assert contains(sheet, torch.zeros(3)) >= 250 * 250 * 2 - 100

    def test_large_images_are_reduced(self):
        sheet = contact_sheet([[("one", torch.full((3, 900, 600), 0.2))]], cell=256)
        assert contains(sheet, torch.full((3,), 0.2)) == 256 * 171

    def test_images_of_a_row_are_shown_at_one_size(self):
        colours = torch.eye(3)
        row = [(str(side), colours[n][:, None, None].expand(3, side, side)) for n, side in enumerate((13, 25, 50))]
        counts = [contains(contact_sheet([row], cell=256), colour) for colour in colours]
        assert counts == [250 * 250] * 3

    def test_gray_becomes_three_channels(self):
        sheet = contact_sheet([[("gray", torch.full((1, 20, 20), 0.4))]], cell=100)
        assert contains(sheet, torch.full((3,), 0.4)) == 100 * 100

    def test_captions_lie_below_the_images_and_inside_their_column(self):
        """Where there is an image, nothing is written; long captions, also without spaces, wrap."""
        image = torch.full((3, 64, 64), 1.0)
        blank = contact_sheet([[("", image), ("", image)]], cell=64)
        texts = contact_sheet([[("word " * 30, image), ("x" * 200, image)]], cell=64)
        assert texts.shape[2] == blank.shape[2]
        assert texts.shape[1] > blank.shape[1]
        assert texts[:, : 12 + 64].min() == 1
        assert texts[:, 12 + 64 :].min() < 0.2
        column = 160
        assert texts[:, :, 12 + column : 12 + column + 10].min() == 1  # the gap between the columns
        assert texts[:, :, -10:].min() == 1
        assert texts[:, -8:].min() == 1

    def test_title_and_rows_of_different_length(self):
        image = torch.zeros(3, 30, 30)
        plain = contact_sheet([[("a", image)], [("b", image), ("c", image)]], cell=60)
        titled = contact_sheet([[("a", image)], [("b", image), ("c", image)]], cell=60, title="A title")
        assert titled.shape[1] > plain.shape[1]
        assert titled.shape[2] == plain.shape[2]
        assert contains(plain, torch.zeros(3)) >= 3 * 3600

    def test_same_input_same_sheet(self):
        rows = [[("caption", torch.rand(3, 25, 25))]]
        assert torch.equal(contact_sheet(rows, title="t"), contact_sheet(rows, title="t"))


class TestEvidenceSheet:
    @pytest.mark.parametrize("size", [(50, 50), (1, 1), (7, 300), (300, 7), (512, 512)])
    def test_any_size(self, size):
        sheet = evidence_sheet(
            torch.rand(size) * 5, torch.rand(max(1, size[0] // 2), max(1, size[1] // 2)), torch.rand(size)
        )
        assert is_sheet(sheet)
        assert max(sheet.shape[1:]) >= 448
        for edge in (sheet[:, :4], sheet[:, -4:], sheet[:, :, :4], sheet[:, :, -4:]):
            assert edge.min() == 1  # nothing runs out of the sheet

    def test_peak_survives_the_reduction(self):
        """One bright pixel of a map that is larger than the sheet: it is drawn, in its colour."""
        peak, empty = torch.zeros(300, 4000), torch.zeros(150, 2000)  # reduced by whole numbers
        peak[123, 1777] = 50  # a round limit, which has the brightest colour
        sheet, without = (evidence_sheet(one, empty, empty) for one in (peak, peak * 0))
        assert sheet.shape[2] < 2100
        assert contains(sheet, BRIGHTEST) == contains(without, BRIGHTEST) + 1  # the scale bars hold this colour too

    def test_zero_maps_have_a_scale_too(self):
        assert is_sheet(evidence_sheet(torch.zeros(50, 50), torch.zeros(25, 25), torch.zeros(50, 50)))


class TestOverlay:
    def test_colours_are_those_of_the_map(self):
        levels = torch.linspace(0, 10, 256)[None]
        overlay = evidence_overlay(levels, limit=10)
        assert overlay.shape == (3, 1, 256)
        assert np.array_equal(overlay[:, 0].T.mul(255).round().numpy(), INFERNO)

    @pytest.mark.parametrize(("most", "limit"), [(0, 1), (0.7, 1), (1.5, 2), (4, 5), (33, 50), (180, 255)])
    def test_limit_is_the_next_round_number(self, most, limit):
        levels = torch.linspace(0, most, 400).reshape(20, 20)
        assert torch.equal(evidence_overlay(levels), evidence_overlay(levels, limit=limit))

    def test_a_few_outliers_do_not_darken_the_rest(self):
        levels = torch.full((100, 100), 1.9)
        levels[0, :20] = 200
        overlay = evidence_overlay(levels)
        assert torch.equal(overlay, evidence_overlay(levels, limit=2))
        assert torch.equal(overlay[:, 0, 0], BRIGHTEST)


class TestBlocks:
    @pytest.mark.parametrize(("first", "rows", "columns"), [((0, 0), [8, 16], [8]), ((5, 2), [5, 13], [2, 10])])
    def test_corners_of_blocks_are_marked_in_all_maps(self, first, rows, columns):
        """An input of 20 x 16 pixels, each 23 pixels of the sheet: crosses of 7 pixels with light blue middles."""
        empty = torch.zeros(40, 32)
        sheet = evidence_sheet(empty, torch.zeros(20, 16), empty, blocks=first, note="corners of blocks")
        plain = evidence_sheet(empty, torch.zeros(20, 16), empty)
        marks = ((sheet[:, : plain.shape[1] - 12] - plain[:, :-12]).abs() > 1e-4).any(0)
        middles = (F.avg_pool2d(marks[None, None].float(), (1, 7), 1) == 1)[0, 0] & marks[:, 3:-3]
        found = {(int(y) - 58, int(x) + 3 - 12) for y, x in middles.nonzero() if x < 400}
        assert found == {(24 * row, 24 * column) for row in rows for column in columns}
        assert int(middles.sum()) == 3 * len(found)
        assert sheet[:, -20:].min() < 0.5  # the note
        assert sheet.shape[1] > plain.shape[1]

    def test_blocks_too_narrow_to_see_are_not_marked(self):
        empty = torch.zeros(40, 1500)
        sheet = evidence_sheet(empty, empty, empty, blocks=(3, 3))
        assert torch.equal(sheet, evidence_sheet(empty, empty, empty))
