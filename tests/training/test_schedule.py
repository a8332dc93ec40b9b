"""Who learns at which step: the paper's counts, and turns by epochs and by steps."""

from itertools import groupby
from typing import Any

import pytest

from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.schedule import Schedule


def schedule(lr: int, real: int, **changes: Any) -> Schedule:
    return Schedule.of(TrainSettings.model_validate(changes), lr, real)


def test_the_papers_count() -> None:
    """14,000 and 6,000 images in batches of 50, 2,000 epochs each: 560,000 and 240,000 steps."""
    papers = schedule(6000, 14000, pretrain=0, epochs=2000, batch=50, turns={"unit": "epochs"})
    assert papers.cycles * papers.discriminator == 560_000
    assert papers.cycles * papers.generator == 240_000
    assert papers.total == 800_000


@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_turns(unit: str) -> None:
    made = schedule(20, 30, batch=10, pretrain=1, epochs=4, turns={"unit": unit, "discriminator": 2, "generator": 1})
    turns = [made.at(step) for step in range(made.total)]
    runs = [(who, len(list(its))) for who, its in groupby(turn.network for turn in turns)]
    ours = 2 if unit == "epochs" else 1
    theirs = 6 if unit == "epochs" else 2
    assert runs == [("generator", 2), *[("discriminator", theirs), ("generator", ours)] * (8 // ours)]
    for who in ("generator", "discriminator"):
        numbers = [turn.number for turn in turns if turn.network == who]
        assert numbers == list(range(len(numbers)))
    assert [turn.phase for turn in turns].count("pretrain") == 2
    assert max(turn.epoch for turn in turns) == 4
    assert all(0 <= turn.done < 1 for turn in turns)


def test_the_last_turns_are_whole_ones() -> None:
    """With turns of two epochs, three are four, as the settings say."""
    made = schedule(20, 30, batch=10, pretrain=0, epochs=3, turns={"unit": "epochs", "generator": 2})
    turns = [made.at(step) for step in range(made.total)]
    assert sum(turn.network == "generator" for turn in turns) == 4 * made.epoch
