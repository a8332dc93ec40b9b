"""Which network learns at which step, and what an epoch's end decides: rates, early stops, the best weights."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import stop_at
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop
from zssr_gan.training.state import Schedule

Make = Callable[..., Loop]
STILL = {"lr": 1e-30}  # weights do not move, so no loss falls after the first epoch
PLATEAU = {**STILL, "schedule": "plateau", "plateau": {"patience": 1}}


def schedule(lr: int, real: int, **changes: Any) -> Schedule:
    return Schedule.of(TrainSettings.model_validate(changes), lr, real)


def test_the_papers_count() -> None:
    """14,000 and 6,000 images in batches of 50, 2,000 epochs each: 560,000 and 240,000 steps."""
    papers = schedule(6000, 14000, pretrain=0, epochs=2000, batch=50, alternation={"unit": "epochs"})
    assert (papers.cycles * papers.discriminator, papers.cycles * papers.generator) == (560_000, 240_000)
    assert papers.total == 800_000


@pytest.mark.parametrize(("unit", "ours", "theirs"), [("steps", 1, 2), ("epochs", 2, 6)])
def test_turns(unit: str, ours: int, theirs: int) -> None:
    made = schedule(
        20, 30, batch=10, pretrain=1, epochs=4, alternation={"unit": unit, "discriminator": 2, "generator": 1}
    )
    turns = [made.at(step) for step in range(made.total)]
    runs = [(who, len(list(its))) for who, its in groupby(turn.network for turn in turns)]
    assert runs == [("generator", 2), *[("discriminator", theirs), ("generator", ours)] * (8 // ours)]
    for who in ("generator", "discriminator"):
        numbers = [turn.number for turn in turns if turn.network == who]
        assert numbers == list(range(len(numbers)))
    assert [turn.phase for turn in turns].count("pretrain") == 2
    assert max(turn.epoch for turn in turns) == 4
    assert all(0 <= turn.done < 1 for turn in turns)


def test_the_last_turns_are_whole_ones() -> None:
    """With turns of two epochs, three are four, as the settings say."""
    made = schedule(20, 30, batch=10, pretrain=0, epochs=3, alternation={"unit": "epochs", "generator": 2})
    assert sum(made.at(step).network == "generator" for step in range(made.total)) == 4 * made.epoch


def test_a_plateau_lowers_the_rates_of_both_optimisers(make_loop: Make) -> None:
    """Epochs of three steps, each after the first without a gain; the first of another phase has another loss."""
    loop = make_loop(pretrain=3, epochs=3, optimiser={**PLATEAU, "lr_discriminator": 4e-30})
    seen: list[tuple[str, float]] = []
    for name, optimisers in loop.state.optimisers.items():
        optimisers[0].register_step_pre_hook(
            lambda optimiser, *_, name=name: seen.append((name, optimiser.param_groups[0]["lr"]))
        )
    loop.run()
    its = [rate / 1e-30 for name, rate in seen if name == "generator"]
    assert its == pytest.approx([1] * 6 + [0.5] * 3 + [0.25] * 6 + [0.125] * 3)
    assert {round(rate / 4e-30, 6) for name, rate in seen if name == "discriminator"} == {0.25, 0.125}
    lines = [line["epoch"] for line in loop.log.read() if "epoch" in line]
    assert [line["rate"] / 1e-30 for line in lines] == pytest.approx([1, 1, 0.5, 0.25, 0.25, 0.125])
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert loop.state.rate == 0.0625


def test_a_loss_that_falls_keeps_the_rate(make_loop: Make) -> None:
    loop = make_loop(pretrain=4, epochs=0, optimiser={"schedule": "plateau", "plateau": {"of": "training"}})
    loop.run()
    assert loop.state.rate == 1


def test_an_early_stop_ends_with_all_that_an_end_has(make_loop: Make, tmp_path: Path) -> None:
    said: list[str] = []
    drawn: list[int] = []
    callbacks = Callbacks(notice=said.append, samples=lambda step, _total, _made: drawn.append(step))
    for _ in range(2):  # and once more does nothing
        loop = make_loop(callbacks=callbacks, pretrain=9, epochs=0, stop={"patience": 2}, optimiser=STILL)
        loop.run()
        assert loop.state.step == 9 < loop.schedule.total  # after the third of nine epochs of three steps
        assert said[-1] == "stopped early, after step 9: the validation loss has not gained for 2 epochs"
        assert drawn == [9]
        assert loop.checkpoints.paths[-1] == tmp_path / "train/checkpoints/step-00000009.pt"


def test_an_early_stop_waits_for_the_last_phase(make_loop: Make) -> None:
    loop = make_loop(pretrain=4, epochs=4, stop={"patience": 2}, optimiser=STILL)
    loop.run()
    assert loop.state.stopped
    assert loop.state.step == 4 * 3 + 3 * 6


def test_the_best_by_the_training_loss(make_loop: Make) -> None:
    best: list[int] = []
    callbacks = Callbacks(best=lambda _generator, step, _phase, _figures: best.append(step))
    loop = make_loop(callbacks=callbacks, pretrain=5, epochs=0, validation={"images": 2, "best": "training_loss"})
    loop.run()
    lowest, wanted = float("inf"), []
    for line in loop.log.read():
        if "epoch" in line and line["epoch"]["generator"]["loss"] < lowest:
            lowest = line["epoch"]["generator"]["loss"]
            wanted.append(line["step"])
    assert best == wanted
    assert loop.state.best == -lowest


def test_an_epochs_means_are_those_of_its_steps(make_loop: Make) -> None:
    loop = make_loop(pretrain=2, epochs=1)
    loop.run()
    losses: dict[str, list[float]] = {}
    epochs = 0
    for line in loop.log.read():
        if "who" in line:
            losses.setdefault(line["who"], []).append(line["loss"])
        elif "epoch" in line:
            epochs += 1
            assert line["epoch"]["number"] == epochs
            for who, values in losses.items():
                assert line["epoch"][who]["loss"] == pytest.approx(sum(values) / len(values), rel=1e-5)
            losses = {}
    assert epochs == 3


def test_the_validation_loss_is_the_content_loss(make_loop: Make) -> None:
    loop = make_loop(pretrain=1, epochs=0, losses={"consistency": 0.0, "pixel": 2.0})
    loop.run()
    made, figures = loop.validate()
    hr = loop.data.held_out.hr
    assert hr is not None
    wanted = sum(2 * (sr - x.float() / 255).abs().mean().item() for sr, x in zip(made, hr, strict=True)) / len(made)
    checks = [line["validation"] for line in loop.log.read() if "validation" in line]
    assert checks[-1]["loss"] == figures["loss"] == pytest.approx(wanted, rel=1e-5)


def test_resume_is_exact(make_loop: Make, tmp_path: Path) -> None:
    """With a plateau, a stop, and a best by the training loss: in the middle of an epoch, its sums go along."""
    given: dict[str, Any] = {
        **{"pretrain": 3, "epochs": 9, "optimiser": PLATEAU, "stop": {"patience": 2}},
        "validation": {"images": 2, "best": "training_loss"},
    }

    whole = make_loop("whole", **given)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        make_loop("parts", Callbacks(progress=stop_at(14)), **given).run()
    parts = make_loop("parts", **given)
    parts.run()
    assert parts.state.stopped
    assert parts.state.step < whole.schedule.total
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "parts/metrics.jsonl").read_bytes()
    one, other = (loop.state.content() for loop in (whole, parts))
    for name in ("step", "best", "best_phase", "rate", "phase", "waiting", "sums"):
        assert one[name] == other[name], name
    assert all(torch.equal(one["generator"][name], other["generator"][name]) for name in one["generator"])


@pytest.mark.parametrize(
    "changes",
    [
        {"stop": {}, "losses": {"mediator": 0.0}, "pretrain": 0},
        {"optimiser": {"schedule": "plateau"}, "losses": {"mediator": 0.0, "pixel": 0.0}, "pretrain": 0},
    ],
)
def test_a_validation_loss_needs_something_to_compare_with(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of: validation needs a content loss that an image has by itself"):
        TrainSettings.model_validate(changes)
