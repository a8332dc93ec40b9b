"""An estimate in words and as a picture: what is sure is drawn, what is not used is said loudly."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimate_lines import lines_of
from zssr_gan.degradation.found_compression import SetCompression
from zssr_gan.degradation.model import Blur, DefocusBlur, Degradation, Jpeg, KernelBlur, MotionBlur
from zssr_gan.degradation.plot import degradation_picture

Make = Callable[..., Estimate]
WHOLE, PARTS = (torch.tensor(colour) / 255 for colour in ((213.0, 94.0, 0.0), (86.0, 180.0, 233.0)))

COMPRESSED = SetCompression(
    quality=75, saved_again=90, evidence=812.3, seen=2, phases={"a": (3, 7), "b": (3, 7), "c": None}
)


def count(sheet: Tensor, colour: Tensor) -> int:
    return int(((sheet - colour[:, None, None]).abs() < 1e-4).all(0).sum())


def test_the_picture_shows_the_estimate_and_its_parts(make_estimate: Make) -> None:
    sheet = degradation_picture(make_estimate("0" * 64, noise_by_brightness=()))
    assert sheet.dtype == torch.float32
    assert len(sheet) == 3
    assert 0 <= sheet.min() <= sheet.max() <= 1
    assert count(sheet, WHOLE) > 150
    assert count(sheet, PARTS) > 150


def test_a_chart_of_noise_where_it_was_measured(make_estimate: Make) -> None:
    plain, chart = (
        degradation_picture(make_estimate("0" * 64, **changes)) for changes in ({"noise_by_brightness": ()}, {})
    )
    assert chart.shape[2] > plain.shape[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"degradation": Degradation(), "fallback": True},
        {"degradation": Degradation(), "fallback": True, "blur_estimated": None, "certainty": None},
        {"degradation": Degradation(jpeg=Jpeg.of_quality(75)), "jpeg_qualities": {"75": 3, "90": 2}},
        {"degradation": Degradation(jpeg=Jpeg.of_quality(75)), "compressions": (COMPRESSED, COMPRESSED)},
        {
            "degradation": Degradation(blur=KernelBlur(values=((0.1, 0.2), (0.3, 0.4)), scale=(3, 3))),
            "blur_estimated": None,
            "certainty": None,
        },
    ],
    ids=["fallback", "too few", "jpeg", "blocks", "kernel"],
)
def test_every_kind_can_be_drawn_and_told(make_estimate: Make, changes: dict[str, object]) -> None:
    estimate = make_estimate("0" * 64, noise_from="nothing", noise_by_brightness=(), **changes)
    assert degradation_picture(estimate).isfinite().all()
    said = dict(lines_of(estimate))
    assert said["why"] == estimate.why
    assert ("BICUBIC IS ASSUMED" in said.get("not used", "")) == estimate.fallback


def test_blocks_are_drawn_where_they_begin(make_estimate: Make) -> None:
    plain, blocks = (
        degradation_picture(make_estimate("0" * 64, compressions=some), words=False) for some in ((), (COMPRESSED,))
    )
    panel = blocks[..., plain.shape[2] :]
    assert panel.shape[2] == plain.shape[2] // 3
    dark = (panel[:, 40:420].amax(0) < 0.05).float()
    rows, columns = dark.mean(1), dark.mean(0)
    # One cell of 64, in the fourth row and the last column.
    assert 3 / 8 < float((rows * torch.arange(len(rows))).sum() / rows.sum()) / len(rows) < 4 / 8 + 0.03
    assert float((columns * torch.arange(len(columns))).sum() / columns.sum()) / len(columns) > 0.8


def test_the_words(make_estimate: Make) -> None:
    said = dict(lines_of(make_estimate("0" * 64, "1" * 64)))
    assert said["blur"].startswith("0.90 +/- 0.02 along, 0.40 +/- 0.01 across")
    assert said["angle"].startswith("30 degrees")
    assert said["images"] == "2, 40 parts of them looked at"
    assert said["noise"].endswith("read from what red, green and blue do not share")


@pytest.mark.parametrize(
    ("blur", "parts", "summary", "line"),
    [
        (
            MotionBlur(length=3.5, angle_degrees=28),
            tuple(MotionBlur(length=length, angle_degrees=28) for length in (3.4, 3.5, 3.6)),
            "motion of 3.50 LR pixels at 28 degrees",
            "straight motion of 3.50 +/- 0.06",
        ),
        (
            DefocusBlur(radius=1.25),
            tuple(DefocusBlur(radius=radius) for radius in (1.2, 1.3)),
            "defocus, a disk with a radius of 1.25 LR pixels",
            "defocus, a disk with a radius of 1.25 +/- 0.05",
        ),
    ],
    ids=["motion", "defocus"],
)
def test_shapes_are_named_and_drawn(
    make_estimate: Make, blur: Blur, parts: tuple[Blur, ...], summary: str, line: str
) -> None:
    certainty = make_estimate("0" * 64).certainty
    assert certainty is not None
    estimate = make_estimate(
        "0" * 64,
        degradation=Degradation(blur=blur),
        blur_estimated=blur,
        certainty=certainty.model_copy(update={"blurs": parts}),
        noise_by_brightness=(),
    )
    assert estimate.summary.startswith(summary)
    assert dict(lines_of(estimate))["blur"].startswith(line)
    assert Estimate.model_validate_json(estimate.model_dump_json()) == estimate
    sheet = degradation_picture(estimate)
    assert count(sheet, WHOLE) > 30
    assert count(sheet, PARTS) > 30
