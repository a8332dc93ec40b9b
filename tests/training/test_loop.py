"""The loop: an interrupted training is the uninterrupted one, bit by bit; NaN stops it; what is due is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zssr_gan.errors import NumericalError, SettingsError
from zssr_gan.training.checkpoints import TrainingState
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.loop import Callbacks, Loop

Make = Callable[..., Loop]
PATCH = {"options": {"width": 4, "blocks": 1, "head": "patch", "hidden": 4}}


def tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    """Everything that a state consists of."""
    found = {
        f"{name}.{key}": tensor
        for name in ("generator", "discriminator", "mean")
        for key, tensor in getattr(state, name).state_dict().items()
    }
    for name, optimisers in state.optimisers.items():
        for place, optimiser in enumerate(optimisers):
            for number, values in optimiser.state_dict()["state"].items():
                found |= {f"{name}.{place}.{number}.{key}": torch.as_tensor(value) for key, value in values.items()}
    return {**found, "accuracy": state.accuracy}


def stop_at(step: int) -> Callable[..., None]:
    """Ctrl-C, as it comes between two steps."""

    def watch(done: int, *_: object) -> None:
        if done == step:
            raise KeyboardInterrupt

    return watch


class TestResume:
    @pytest.mark.parametrize("stop", [3, 10, 14])  # in the pre-training, in both kinds of turns
    @pytest.mark.parametrize("unit", ["steps", "epochs"])
    def test_it_is_exact(self, make_loop: Make, tmp_path: Path, stop: int, unit: str) -> None:
        whole = make_loop("whole", turns={"unit": unit})
        whole.run()
        with pytest.raises(KeyboardInterrupt):
            make_loop("parts", Callbacks(progress=stop_at(stop)), turns={"unit": unit}).run()
        parts = make_loop("parts", turns={"unit": unit})
        parts.run()
        assert parts.state.step == whole.state.step == whole.schedule.total
        one, other = tensors(whole.state), tensors(parts.state)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert (parts.state.best, parts.state.best_phase) == (whole.state.best, whole.state.best_phase)
        logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
        assert logs[0] == logs[1]

    def test_with_all_kinds_of_reals_too(self, make_loop: Make) -> None:
        changes = {"reals": {"synthetic": 1.0, "lr": 1.0, "shrunk": 0.5}, "discriminator": PATCH}
        whole = make_loop("whole", **changes)
        whole.run()
        with pytest.raises(KeyboardInterrupt):
            make_loop("parts", Callbacks(progress=stop_at(11)), **changes).run()
        parts = make_loop("parts", **changes)
        parts.run()
        one, other = tensors(whole.state), tensors(parts.state)
        assert all(torch.equal(one[name], other[name]) for name in one)
        plain = make_loop("plain", discriminator=PATCH)
        plain.run()
        assert plain.schedule == whole.schedule
        assert not torch.equal(tensors(plain.state)["generator.tail.weight"], one["generator.tail.weight"])

    def test_what_a_kill_left_is_cut_back(self, make_loop: Make, tmp_path: Path) -> None:
        """A kill comes after the checkpoint of step 8: lines behind it, one of them torn, and half a file."""
        make_loop("whole").run()
        with pytest.raises(KeyboardInterrupt):
            make_loop("killed", Callbacks(progress=stop_at(8))).run()
        folder = tmp_path / "killed"
        assert [path.name for path in sorted((folder / "checkpoints").iterdir())][-1] == "step-00000008.pt"
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 9, "loss": 1.0}\n{"step": 10, "lo')
        (folder / "checkpoints/.zssr-gan-0123.tmp").write_bytes(b"half")
        make_loop("killed").run()
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
        assert not list((folder / "checkpoints").glob(".*"))

    def test_a_damaged_checkpoint_falls_back(self, make_loop: Make, tmp_path: Path) -> None:
        """And leaves the place of the newest to good ones, of which `keep` stay."""
        every = {"checkpoint": 4, "keep": 1}
        make_loop("whole", every=every).run()
        with pytest.raises(KeyboardInterrupt):
            make_loop("hurt", Callbacks(progress=stop_at(9)), every=every).run()
        folder = tmp_path / "hurt/checkpoints"
        hurt = folder / "step-99999999.pt"
        hurt.write_bytes((folder / "step-00000009.pt").read_bytes()[:100])
        said: list[str] = []
        loop = make_loop("hurt", Callbacks(notice=said.append), every=every)
        loop.run()
        assert said[0].startswith(f"{hurt}: cannot be read")
        assert "it is now step-99999999.pt.damaged" in said[0]
        assert {path.name for path in folder.iterdir()} == {f"step-{loop.schedule.total:08}.pt", f"{hurt.name}.damaged"}
        assert loop.checkpoints.newest == folder / f"step-{loop.schedule.total:08}.pt"
        assert (tmp_path / "hurt/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()

    def test_without_a_readable_one_nothing_begins(self, make_loop: Make, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            make_loop(callbacks=Callbacks(progress=stop_at(9))).run()
        folder = tmp_path / "train/checkpoints"
        before = (tmp_path / "train/metrics.jsonl").read_bytes()
        for path in folder.glob("*.pt"):
            path.write_bytes(path.read_bytes()[:100])
        for _ in range(2):  # said once more as long as nobody has done anything
            with pytest.raises(SettingsError, match=r"none of the checkpoints there can be read: .* another run_dir"):
                make_loop().run()
        assert (tmp_path / "train/metrics.jsonl").read_bytes() == before
        assert {path.suffix for path in folder.iterdir()} == {".damaged"}

    def test_one_that_lacks_a_part_is_damaged(self, make_loop: Make) -> None:
        loop = make_loop()
        loop.run()
        newest = loop.checkpoints.newest
        assert newest is not None
        content = torch.load(newest, weights_only=True)
        del content["mean"]
        torch.save(content, newest)
        make_loop().run()
        assert newest.with_name(f"{newest.name}.damaged").exists()

    def test_what_the_disk_does_not_give_is_not_damaged(
        self, make_loop: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_loop(epochs=0).run()

        def refuse(_path: Path) -> bytes:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(SettingsError, match=r"cannot be opened \(Permission denied\)"):
            make_loop(epochs=0).run()
        assert not list((tmp_path / "train/checkpoints").glob("*.damaged"))

    def test_another_training_is_refused(self, make_loop: Make) -> None:
        make_loop(epochs=0).run()
        with pytest.raises(SettingsError, match=r"was begun with batch = 4, and 5 is asked for now"):
            make_loop(epochs=0, batch=5).run()

    def test_another_seed_is_another_training(self, make_loop: Make) -> None:
        one, other = make_loop("one", epochs=0), make_loop("other", seed=1, epochs=0)
        one.run()
        other.run()
        assert not torch.equal(one.generator.tail.weight, other.generator.tail.weight)

    def test_a_finished_one_does_nothing(self, make_loop: Make) -> None:
        make_loop(epochs=0).run()
        again = make_loop(epochs=0)
        before = again.log.path.read_bytes()
        again.run()
        assert again.log.path.read_bytes() == before


class TestCheckpoints:
    def test_the_newest_are_kept(self, make_loop: Make) -> None:
        loop = make_loop()
        loop.run()
        names = [path.name for path in loop.checkpoints.paths]
        assert len(names) == 2
        assert names[-1] == f"step-{loop.schedule.total:08}.pt"

    def test_each_phase_has_its_best(self, make_loop: Make) -> None:
        kept: list[tuple[int, str]] = []
        loop = make_loop(callbacks=Callbacks(best=lambda _generator, step, phase, _figures: kept.append((step, phase))))
        loop.run()
        assert {phase for _, phase in kept} == {"pretrain", "adversarial"}
        assert loop.state.best_phase == kept[-1][1] == "adversarial"
        assert any(step == loop.schedule.pretrain for step, _ in kept)


class TestNaN:
    @pytest.mark.parametrize("at", [2, 10])
    def test_it_stops_and_names_the_last_good_checkpoint(self, make_loop: Make, tmp_path: Path, at: int) -> None:
        loop = make_loop()

        def poison(done: int, *_: object) -> None:
            if done == at:
                with torch.no_grad():
                    loop.generator.tail.bias.fill_(torch.nan)

        loop.callbacks = Callbacks(progress=poison)
        with pytest.raises(NumericalError) as caught:
            loop.run()
        good = "the last good checkpoint is" if at > 4 else "there is no good checkpoint"
        assert good in str(caught.value)
        assert f"step {at + 1}" in str(caught.value)
        for path in (tmp_path / "train/checkpoints").glob("*.pt"):
            content = torch.load(path, weights_only=True)
            assert all(tensor.isfinite().all() for tensor in content["generator"].values())

    def test_finite_weights_that_lead_to_it_are_no_good_checkpoint(self, make_loop: Make, tmp_path: Path) -> None:
        """Kept after step 8, they are so large that step 9 cannot be computed: the one before is what counts."""
        every = {"checkpoint": 4, "keep": 1}
        whole = make_loop("whole", every=every)
        whole.run()

        def spoil(step: int, *_: object) -> None:
            if step == 8:
                with torch.no_grad():
                    loop.generator.tail.weight.fill_(1e38)
                # As a step would have left them, before what is due after it.
                loop._write_checkpoint()

        loop = make_loop("spoilt", Callbacks(progress=spoil), every=every)
        with pytest.raises(NumericalError) as caught:
            loop.run()
        folder = tmp_path / "spoilt/checkpoints"
        assert f"the last good checkpoint is {folder / 'step-00000004.pt'}" in str(caught.value)
        assert {path.name for path in folder.iterdir()} == {"step-00000004.pt", "step-00000008.pt.diverged"}
        again = make_loop("spoilt", every=every)
        again.run()
        assert again.log.path.read_bytes() == whole.log.path.read_bytes()

    def test_a_killed_one_goes_back_too(self, make_loop: Make) -> None:
        """The kill came between the checkpoint and the step that it leads to."""
        loop = make_loop(every={"checkpoint": 4, "keep": 2}, callbacks=Callbacks(progress=stop_at(9)))
        with pytest.raises(KeyboardInterrupt):
            loop.run()
        with torch.no_grad():
            loop.generator.tail.weight.fill_(1e38)
        loop.checkpoints.write(loop.state)
        with pytest.raises(NumericalError, match=r"step-00000008\.pt \(.*step-00000009\.pt led to it"):
            make_loop(every={"checkpoint": 4, "keep": 2}).run()
        make_loop(every={"checkpoint": 4, "keep": 2}).run()

    @pytest.mark.parametrize("where", ["generator", "discriminator", "mean", "optimiser"])
    def test_no_state_with_it_is_kept(self, make_loop: Make, tmp_path: Path, where: str) -> None:
        """Of a stop, too: it comes before the step that would have found out."""

        def poison(done: int, *_: object) -> None:
            if done == 6:
                state = loop.state
                tensor = (
                    next(iter(state.optimisers["generator"][0].state.values()))["exp_avg"]
                    if where == "optimiser"
                    else next(getattr(state, where).parameters())
                )
                with torch.no_grad():
                    tensor.view(-1)[0] = torch.inf
                raise KeyboardInterrupt

        loop = make_loop(callbacks=Callbacks(progress=poison))
        with pytest.raises(NumericalError, match="at or before step 6: a loss, gradient or weight is NaN or infinite"):
            loop.run()
        assert [path.name for path in (tmp_path / "train/checkpoints").iterdir()] == ["step-00000004.pt"]

    def test_outputs_are_judged_before_they_are_measured(self, make_loop: Make) -> None:
        def poison(done: int, *_: object) -> None:
            if done == 4:
                with torch.no_grad():
                    loop.state.mean.tail.weight.fill_(1e38)

        loop = make_loop(callbacks=Callbacks(progress=poison), ema=0.99, every={"checkpoint": 100})
        with pytest.raises(NumericalError, match="step 5: the generator's outputs are NaN or infinite"):
            loop.run()
        assert "validation" not in loop.log.read()[-1]


class TestLearning:
    def test_content_alone_gets_closer_than_it_was(self, make_loop: Make) -> None:
        loop = make_loop(
            pretrain=40, epochs=0, generator={"options": {"width": 8, "blocks": 1, "norm": False, "residual": True}}
        )
        loop.run()
        found = [line["validation"]["synthetic_db"] for line in loop.log.read() if "validation" in line]
        assert found[-1] > found[0] + 0.5

    def test_both_networks_learn_in_turns(self, make_loop: Make) -> None:
        loop = make_loop()
        before = {name: tensor.clone() for name, tensor in tensors(loop.state).items()}
        loop.run()
        after = tensors(loop.state)
        assert not torch.equal(before["discriminator.features.0.weight"], after["discriminator.features.0.weight"])
        assert not torch.equal(before["mean.tail.weight"], after["mean.tail.weight"])
        lines = loop.log.read()
        assert {line.get("who") for line in lines} == {"generator", "discriminator", None}
        assert all("adversarial" not in line for line in lines if line["phase"] == "pretrain")

    def test_losses_on_reals_and_fakes_are_logged(self, make_loop: Make) -> None:
        loop = make_loop()
        loop.run()
        lines = [line for line in loop.log.read() if line.get("who") == "discriminator"]
        assert lines
        assert all(line["real"] + line["fake"] == pytest.approx(line["loss"], rel=1e-5) for line in lines)

    @pytest.mark.parametrize("paired", [True, False])
    def test_a_relativistic_generator_sees_reals(self, make_loop: Make, paired: bool) -> None:
        """The batch's own HR images, or a batch of others; without gradients, and beside those of `statistics`."""
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
        plain = make_loop("plain", pretrain=0, epochs=1, **changes)
        plain.run()
        assert not torch.equal(loop.generator.tail.weight, plain.generator.tail.weight)

    def test_it_goes_on_exactly(self, make_loop: Make) -> None:
        changes = {"losses": {"gan": "relativistic", "pixel_norm": "l2"}}
        whole = make_loop("whole", **changes)
        whole.run()
        with pytest.raises(KeyboardInterrupt):
            make_loop("parts", Callbacks(progress=stop_at(11)), **changes).run()
        parts = make_loop("parts", **changes)
        parts.run()
        one, other = tensors(whole.state), tensors(parts.state)
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_the_mean_soon_leaves_the_random_start(self, make_loop: Make) -> None:
        loop = make_loop(pretrain=4, epochs=0, ema=0.999)
        start = loop.generator.tail.weight.detach().clone()
        seen: list[torch.Tensor] = []
        loop.callbacks = Callbacks(progress=lambda *_: seen.append(loop.generator.tail.weight.detach().clone()))
        loop.run()
        mean = start
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
        assert all(tensor.isfinite().all() for tensor in tensors(loop.state).values())

    def test_reals_that_do_not_suit_the_discriminator(self, make_loop: Make) -> None:
        said: list[str] = []
        make_loop(callbacks=Callbacks(notice=said.append), reals={"lr": 1.0})
        assert len(said) == 1
        assert "looks at the whole image at once" in said[0]
        with pytest.raises(SettingsError, match=r"^train\.reals\.lr: .*options\.head to patch\.$"):
            make_loop(reals={"lr": 1.0}, discriminator={"options": {"head": "flatten", "hidden": 4}})

    def test_a_flat_head_takes_the_images_size(self, make_loop: Make) -> None:
        flat = {"options": {"width": 4, "blocks": 2, "head": "flatten", "hidden": 4}}
        assert make_loop(patch=None, discriminator=flat).discriminator.options.size == 20
        assert make_loop(discriminator=flat).discriminator.options.size == 16
        with pytest.raises(SettingsError, match=r"train\.discriminator\.options\.size: is 64, and the data ask for 16"):
            make_loop(discriminator={"options": {"size": 64}})

    def test_a_flat_head_takes_no_oblongs(self, make_loop: Make, data: TrainingData) -> None:
        for one in (data.inputs, data.reals):
            object.__setattr__(one, "lr", tuple(lr[:, :8] for lr in one.lr))
        with pytest.raises(
            SettingsError, match=r"^train\.discriminator\.options\.head: the discriminator takes images of"
        ):
            make_loop(patch=None, discriminator={"options": {"head": "flatten"}})
