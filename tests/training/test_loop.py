"""The loop: an interrupted training is the uninterrupted one, bit by bit; both networks learn, and from what."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import stop_at
from zssr_gan.errors import SettingsError
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop
from zssr_gan.training.state import TrainingState

Make = Callable[..., Loop]
PATCH = {"options": {"width": 4, "blocks": 1, "head": "patch", "hidden": 4}}


def tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    """Everything that a state consists of."""
    content = state.content()
    found = {f"{name}.{key}": x for name in ("generator", "discriminator", "mean") for key, x in content[name].items()}
    for name, optimisers in content["optimisers"].items():
        for place, optimiser in enumerate(optimisers):
            for number, values in optimiser["state"].items():
                found |= {f"{name}.{place}.{number}.{key}": torch.as_tensor(value) for key, value in values.items()}
    return {**found, "accuracy": state.accuracy}


@pytest.mark.parametrize(
    ("stops", "changes"),
    [
        ((3, 10), {"alternation": {"unit": "steps"}, "losses": {"gan": "relativistic", "pixel_norm": "l2"}}),
        (
            (14,),
            {
                "alternation": {"unit": "epochs"},
                "reals": {"synthetic": 1.0, "lr": 1.0, "shrunk": 0.5},
                "discriminator": PATCH,
            },
        ),
    ],
)
def test_resume_is_exact(make_loop: Make, tmp_path: Path, stops: tuple[int, ...], changes: dict[str, Any]) -> None:
    """In the pre-training, in both kinds of turns, and with all kinds of reals."""
    whole = make_loop("whole", **changes)
    whole.run()
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            make_loop("parts", Callbacks(progress=stop_at(stop)), **changes).run()
    parts = make_loop("parts", **changes)
    parts.run()
    assert parts.state.step == whole.state.step == whole.schedule.total
    one, other = tensors(whole.state), tensors(parts.state)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (parts.state.best, parts.state.best_phase) == (whole.state.best, whole.state.best_phase)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "parts/metrics.jsonl").read_bytes()


def test_each_phase_has_its_best(make_loop: Make) -> None:
    best: list[tuple[int, str]] = []
    loop = make_loop(callbacks=Callbacks(best=lambda _generator, step, phase, _figures: best.append((step, phase))))
    loop.run()
    assert {phase for _, phase in best} == {"pretrain", "adversarial"}
    assert loop.state.best_phase == best[-1][1] == "adversarial"
    assert any(step == loop.schedule.pretrain for step, _ in best)


class TestLearning:
    def test_content_alone_gets_closer_than_it_was(self, make_loop: Make) -> None:
        options = {"width": 8, "blocks": 1, "norm": False, "residual": True}
        loop = make_loop(pretrain=40, epochs=0, generator={"options": options})
        loop.run()
        found = [line["validation"]["synthetic_db"] for line in loop.log.read() if "validation" in line]
        assert found[-1] > found[0] + 0.5

    def test_both_networks_learn_in_turns(self, make_loop: Make) -> None:
        loop = make_loop()
        before = {name: tensor.clone() for name, tensor in tensors(loop.state).items()}
        loop.run()
        after, lines = tensors(loop.state), loop.log.read()
        for name in ("discriminator.features.0.weight", "mean.tail.weight"):
            assert not torch.equal(before[name], after[name])
        assert {line.get("who") for line in lines} == {"generator", "discriminator", None}
        assert all("adversarial" not in line for line in lines if line["phase"] == "pretrain")
        its = [line for line in lines if line.get("who") == "discriminator"]
        assert all(line["real"] + line["fake"] == pytest.approx(line["loss"], rel=1e-5) for line in its)

    def test_seeds_and_reals_count(self, make_loop: Make) -> None:
        """Another seed or other real examples, another generator."""
        changes: list[dict[str, Any]] = [{}, {"seed": 1}, {"reals": {"synthetic": 1.0, "lr": 1.0, "shrunk": 0.5}}]
        made = [
            make_loop(str(n), pretrain=0, epochs=1, discriminator=PATCH, **change) for n, change in enumerate(changes)
        ]
        for loop in made:
            loop.run()
        first, *others = (loop.generator.tail.weight for loop in made)
        assert not any(torch.equal(first, other) for other in others)

    @pytest.mark.parametrize("paired", [True, False])
    def test_a_relativistic_generator_sees_reals(self, make_loop: Make, paired: bool) -> None:
        """The batch's own HR images, or a batch of others; without gradients."""
        changes = {} if paired else {"reals": {"synthetic": 1.0, "lr": 1.0}, "discriminator": PATCH}
        loop = make_loop(pretrain=0, epochs=1, losses={"gan": "relativistic"}, **changes)
        seen: list[torch.Tensor] = []
        loop.discriminator.register_forward_pre_hook(lambda _module, given: seen.append(given[0].detach().clone()))
        loop.run()
        kinds = 1 if paired else 2
        # By turns: reals and outputs; then outputs, and again reals.
        assert len(seen) == loop.schedule.cycles * 2 * (kinds + 1)
        own = loop.inputs.batch(0).hr
        assert own is not None
        assert torch.equal(seen[kinds + 2], own) == paired

    def test_the_mean_soon_leaves_the_random_start(self, make_loop: Make) -> None:
        seen: list[torch.Tensor] = []
        watch = Callbacks(progress=lambda *_: seen.append(loop.generator.tail.weight.detach().clone()))
        loop = make_loop(callbacks=watch, pretrain=4, epochs=0, ema=0.999)
        mean = loop.generator.tail.weight.detach().clone()
        loop.run()
        for number, weight in enumerate(seen, 1):
            mean = torch.lerp(mean, weight, 1 - (1 + number) / (10 + number))
        torch.testing.assert_close(loop.state.mean.tail.weight, mean)

    def test_the_discriminator_sees_one_kind_at_a_time(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=0, epochs=1)
        seen: list[int] = []
        loop.discriminator.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
        loop.run()
        # Alternating: reals and outputs, four each; and outputs once more in the generator's step.
        assert seen == [4] * (2 + 1) * 3

    def test_bf16_learns_too(self, make_loop: Make) -> None:
        loop = make_loop(precision="bf16")
        loop.run()
        assert all(tensor.dtype == torch.float32 for tensor in loop.generator.parameters())
        assert loop.state.finite


class TestDiscriminator:
    def test_reals_that_do_not_suit_it(self, make_loop: Make) -> None:
        said: list[str] = []
        make_loop(callbacks=Callbacks(notice=said.append), reals={"lr": 1.0})
        assert len(said) == 1
        assert "looks at the whole image at once" in said[0]
        with pytest.raises(SettingsError, match=r"^train\.reals\.lr: .*options\.head to patch\.$"):
            make_loop(reals={"lr": 1.0}, discriminator={"options": {"head": "flatten", "hidden": 4}})

    def test_a_flat_head_takes_the_images_size(self, make_loop: Make, data: TrainingData) -> None:
        flat = {"options": {"width": 4, "blocks": 2, "head": "flatten", "hidden": 4}}
        assert make_loop(patch=None, discriminator=flat).discriminator.options.size == 20
        assert make_loop(discriminator=flat).discriminator.options.size == 16
        with pytest.raises(SettingsError, match=r"train\.discriminator\.options\.size: is 64, and the data ask for 16"):
            make_loop(discriminator={"options": {"size": 64}})
        for one in (data.inputs, data.reals):
            object.__setattr__(one, "lr", tuple(lr[:, :8] for lr in one.lr))
        with pytest.raises(
            SettingsError, match=r"^train\.discriminator\.options\.head: the discriminator takes images"
        ):
            make_loop(patch=None, discriminator=flat)


def test_without_a_running_mean_there_is_one_set_of_weights(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(ema=0.0)
    loop.run()
    pairs = list(zip(loop.state.mean.parameters(), loop.generator.parameters(), strict=True))
    assert all(mean.data_ptr() == now.data_ptr() and not mean.requires_grad for mean, now in pairs)
    others = zip(loop.state.mean.buffers(), loop.generator.buffers(), strict=True)
    assert all(mean.data_ptr() != now.data_ptr() for mean, now in others)
