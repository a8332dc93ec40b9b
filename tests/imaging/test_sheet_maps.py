import pytest
import torch

from zssr_gan.imaging.resize import Size
from zssr_gan.imaging.sheet_maps import first_map
from zssr_gan.imaging.sheets import evidence_overlay, evidence_sheet, round_limit


@pytest.mark.parametrize("size", [(24, 30), (64, 50), (500, 37), (8, 8), (30, 900)])
@pytest.mark.parametrize("scale", [0.5, 30.0, 400.0])
@pytest.mark.parametrize("blocks", [None, (3, 4)])
def test_the_first_map_of_a_sheet_is_read_back(size: Size, scale: float, blocks: tuple[int, int] | None) -> None:
    draws = torch.Generator().manual_seed(0)
    values, small = torch.rand(size, generator=draws) * scale, torch.rand(size[0] // 2, size[1] // 2, generator=draws)
    sheet = evidence_sheet(values, small, values, views=8, blocks=blocks, note="a note")
    found = first_map(sheet, size)
    assert found is not None
    colours, limit = found
    assert limit == round_limit(values)
    same = (colours == evidence_overlay(values)).all(0).float().mean()
    assert same == 1 if blocks is None else same > 0.8
    assert first_map(sheet, (size[0] + 1, size[1] * 3)) is None
    assert first_map(torch.ones(3, 600, 1000), size) is None


def test_colours_in_reverse_have_zero_as_the_brightest() -> None:
    values = torch.linspace(0, 5, 256).reshape(16, 16)
    sheet = evidence_sheet(values, values, values)
    there, back = first_map(sheet, (16, 16)), first_map(sheet, (16, 16), reverse=True)
    assert there is not None
    assert back is not None
    assert back[1] == there[1] == 5
    assert torch.equal(back[0].flatten(1), there[0].flatten(1).flip(1))
