"""The curves of a training: every value that was logged is drawn, under the name of what it is."""

from typing import Any

import pytest
from matplotlib.axes import Axes

from zssr_gan.training.logs import curves_png

LINES: list[dict[str, Any]] = [
    {"step": 1, "phase": "pretrain", "who": "generator", "pixel": 0.5, "loss": 0.5, "gradient": 1.0},
    {"step": 2, "phase": "adversarial", "who": "discriminator", "loss": 1.4, "accuracy": 0.0, "gradient": 1.0},
    {
        **{"step": 3, "phase": "adversarial", "who": "generator"},
        **{"pixel": 0.0, "adversarial": 0.7, "loss": 0.0007, "gradient": 1.0},
    },
    {"step": 3, "phase": "adversarial", "validation": {"synthetic_db": 0.0, "bicubic_db": 30.0, "residual_db": 40.0}},
]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points of each curve by its label, by the label of its panel."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    finish = Axes.set_ylabel

    def labelled(axes: Axes, label: str, **style: Any) -> Any:
        found[label] = {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}  # type: ignore[arg-type]
        return finish(axes, label, **style)

    monkeypatch.setattr(Axes, "set_ylabel", labelled)
    assert curves_png(LINES, "a title").startswith(b"\x89PNG")
    return found


def test_zeros_are_drawn(panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    assert panels["generator: losses, unweighted"]["pixel"] == [(1, 0.5), (3, 0.0)]
    assert panels["discriminator: accuracy"] == {"told rightly": [(2, 0.0)]}
    assert panels["validation: PSNR, dB"]["to the synthetic HR"] == [(3, 0.0)]


def test_the_sum_is_told_from_the_losses(panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    generator = panels["generator: losses, unweighted"]
    assert generator.keys() == {"pixel", "adversarial", "weighted sum"}
    assert generator["weighted sum"] == [(1, 0.5), (3, 0.0007)]
    assert panels["discriminator: loss"] == {"loss": [(2, 1.4)]}


def test_a_training_that_logged_nothing() -> None:
    assert curves_png([], "a title").startswith(b"\x89PNG")
