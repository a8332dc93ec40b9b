"""Which network learns at which step, and what an epoch's end decides: rates, early stops, the best weights."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.settings.train import PatienceSettings, TrainSettings
from zssr_gan.training.loop import Callbacks, Loop
from zssr_gan.training.schedule import EpochState, Patience, Schedule


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


Make = Callable[..., Loop]
STOP = {"patience": 2, "gain": 0.9}
ALONE = DataParallel(Ranks.alone(), torch.device("cpu"))
PLATEAU = {"schedule": "plateau", "plateau": {"patience": 1, "gain": 0.9}}  # no loss falls by nine tenths an epoch


class TestPatience:
    def test_patience_ends_and_begins_anew(self) -> None:
        waiting, patience = Patience(), PatienceSettings(patience=2)
        losses = [1.0, 0.8, 0.9, 0.8, 0.7, 0.71, 0.72, 0.73, 0.74]
        assert [waiting.ends(loss, patience) for loss in losses] == [
            *(False, False, False, True),  # as good as the best is no gain
            *(False, False, True, False, True),
        ]

    def test_a_small_gain_is_none(self) -> None:
        waiting, patience = Patience(), PatienceSettings(patience=1, gain=0.1)
        assert [waiting.ends(loss, patience) for loss in (1.0, 0.91, 0.89, 0.81, 0.8)] == [
            False,
            True,
            False,
            True,
            False,
        ]

    def test_a_loss_below_zero_gains_as_well(self) -> None:
        waiting, patience = Patience(), PatienceSettings(patience=1, gain=0.1)
        assert [waiting.ends(loss, patience) for loss in (-1.0, -1.05, -1.2)] == [False, True, False]


class TestMeans:
    def test_of_each_network(self) -> None:
        state = EpochState()
        for value in (1.0, 2.0, 6.0):
            state.add("generator", {"loss": torch.tensor(value), "pixel": torch.tensor(2 * value)})
        state.add("discriminator", {"loss": torch.tensor(4.0)})
        again = EpochState.from_dict(asdict(state), torch.device("cpu"))
        for one in (state, again):
            assert one.take_means(ALONE) == {"generator": {"loss": 3.0, "pixel": 6.0}, "discriminator": {"loss": 4.0}}
            assert one.take_means(ALONE) == {}


def rates(loop: Loop) -> list[dict[str, float]]:
    """The rate of each network's first optimiser at each of its updates, as the optimiser itself uses it."""
    seen: list[dict[str, float]] = []
    for name, optimisers in loop.state.optimisers.items():
        optimisers[0].register_step_pre_hook(
            lambda optimiser, *_, name=name: seen.append({name: optimiser.param_groups[0]["lr"]})
        )
    return seen


class TestPlateau:
    def test_the_rate_reaches_the_optimisers(self, make_loop: Make) -> None:
        """Epochs of three steps; the first gains on nothing before, each later one is one without a gain."""
        loop = make_loop(pretrain=4, epochs=0, optimiser={**PLATEAU, "kind": "adam", "lr": 1e-3})
        seen = rates(loop)
        loop.run()
        assert [one["generator"] for one in seen] == [1e-3] * 6 + [5e-4] * 3 + [2.5e-4] * 3
        lines = [line["epoch"] for line in loop.log.read() if "epoch" in line]
        assert [line["rate"] for line in lines] == [1e-3, 1e-3, 5e-4, 2.5e-4]
        assert [line["number"] for line in lines] == [1, 2, 3, 4]

    def test_both_networks_follow(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=1, epochs=3, optimiser={**PLATEAU, "lr": 1e-3, "lr_discriminator": 4e-3})
        seen = rates(loop)
        loop.run()
        assert {one["discriminator"] / 4 for one in seen[3:] if "discriminator" in one} == {1e-3, 5e-4}
        # Another phase has another loss: its first epoch gains.
        assert loop.state.epochs.rate == 0.25

    def test_a_loss_that_gains_keeps_it(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=4, epochs=0, optimiser={"schedule": "plateau", "plateau": {"of": "training"}})
        loop.run()
        assert loop.state.epochs.rate == 1
        assert loop.state.optimisers["generator"][0].param_groups[0]["lr"] == loop.settings.optimiser.lr


class TestStop:
    def test_it_ends_with_all_that_an_end_has(self, make_loop: Make, tmp_path: Path) -> None:
        said: list[str] = []
        drawn: list[int] = []
        callbacks = Callbacks(notice=said.append, samples=lambda step, _total, _made: drawn.append(step))
        loop = make_loop(callbacks=callbacks, pretrain=9, epochs=0, stop=STOP)
        loop.run()
        assert loop.state.step == 9 < loop.schedule.total  # after the third of nine epochs of three steps
        assert said[-1] == "stopped early, after step 9: the validation loss has not gained for 2 epochs"
        assert drawn[-1] == 9
        assert loop.checkpoints.newest == tmp_path / "train/checkpoints/step-00000009.pt"
        again = make_loop(callbacks=callbacks, pretrain=9, epochs=0, stop=STOP)
        again.run()
        assert again.state.step == 9
        assert said[-1].startswith("stopped early")

    def test_it_waits_for_the_last_phase(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=4, epochs=4, stop=STOP)
        loop.run()
        assert loop.state.epochs.stopped
        assert loop.state.step == 4 * 3 + 3 * 6

    def test_of_the_training_loss(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=9, epochs=0, stop={**STOP, "of": "training"})
        loop.run()
        assert loop.state.step == 9


class TestBest:
    def test_by_the_training_loss(self, make_loop: Make) -> None:
        kept: list[int] = []
        callbacks = Callbacks(best=lambda _generator, step, _phase, _figures: kept.append(step))
        loop = make_loop(callbacks=callbacks, pretrain=5, epochs=0, validation={"images": 2, "best": "training_loss"})
        loop.run()
        lowest, wanted = float("inf"), []
        for line in loop.log.read():
            if "epoch" in line and line["epoch"]["generator"]["loss"] < lowest:
                lowest = line["epoch"]["generator"]["loss"]
                wanted.append(line["step"])
        assert kept == wanted
        assert loop.state.best == -lowest


class TestLines:
    def test_means_are_those_of_the_steps(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=2, epochs=1)
        loop.run()
        lines = loop.log.read()
        for number, ended in enumerate(line for line in lines if "epoch" in line):
            for who in ("generator", "discriminator"):
                first = lines[: lines.index(ended)]
                before = [place for place, line in enumerate(first) if "epoch" in line]
                its = [line for line in first[before[-1] if before else 0 :] if line.get("who") == who]
                if its:
                    mean = sum(line["loss"] for line in its) / len(its)
                    assert ended["epoch"][who]["loss"] == pytest.approx(mean, rel=1e-5)
            assert ended["epoch"]["number"] == number + 1

    def test_the_validation_loss_is_the_content_loss(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=1, epochs=0, losses={"consistency": 0.0, "pixel": 2.0})
        loop.run()
        made = loop.validation.outputs(loop.state)
        hr = loop.data.held_out.hr
        assert hr is not None
        wanted = sum(2 * (sr - x.float() / 255).abs().mean().item() for sr, x in zip(made, hr, strict=True)) / len(made)
        checks = [line["validation"] for line in loop.log.read() if "validation" in line]
        assert checks[-1]["loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("stop", [5, 14])
def test_resume_is_exact(make_loop: Make, tmp_path: Path, stop: int) -> None:
    """With a plateau, a stop, and a best by the training loss: in the middle of an epoch, its sums go along."""
    given: dict[str, Any] = {
        "pretrain": 3,
        "epochs": 9,
        "optimiser": {**PLATEAU, "lr": 1e-3},
        "stop": {"patience": 2, "gain": 0.9, "of": "training"},
        "validation": {"images": 2, "best": "training_loss"},
    }

    def interrupt(done: int, *_: object) -> None:
        if done == stop:
            raise KeyboardInterrupt

    whole = make_loop("whole", **given)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        make_loop("parts", Callbacks(progress=interrupt), **given).run()
    parts = make_loop("parts", **given)
    parts.run()
    assert parts.state.epochs.stopped
    assert parts.state.step == whole.state.step < whole.schedule.total
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    one, other = (loop.state.generator.state_dict() for loop in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert parts.state.epochs == whole.state.epochs
    assert (parts.state.best, parts.state.best_phase) == (whole.state.best, whole.state.best_phase)


@pytest.mark.parametrize(
    "changes",
    [
        {"stop": {}, "losses": {"mediator": 0.0}, "pretrain": 0},
        {
            "optimiser": {"schedule": "plateau"},
            "losses": {"mediator": 0.0, "pixel": 0.0},
            "pretrain": 0,
        },
    ],
)
def test_a_validation_loss_needs_something_to_compare_with(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of: validation needs a content loss that an image has by itself"):
        TrainSettings.model_validate(changes)
