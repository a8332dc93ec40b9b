"""Which checkpoints stay and count: damaged ones, those of other trainings, and those that lead to NaN do not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.conftest import stop_at
from zssr_gan.errors import NumericalError, SettingsError
from zssr_gan.training.checkpoints import KEEP
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop

Make = Callable[..., Loop]


def interrupted(make_loop: Make, name: str, step: int, **changes: object) -> Loop:
    loop = make_loop(name, Callbacks(progress=stop_at(step)), **changes)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    return loop


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def same_log(folder: Path, *others: str) -> bool:
    return len({(folder / name / "metrics.jsonl").read_bytes() for name in others}) == 1


class TestResume:
    def test_the_newest_stay(self, make_loop: Make, tmp_path: Path) -> None:
        loop = make_loop()
        loop.run()
        assert len(names(tmp_path / "train")) == KEEP
        assert names(tmp_path / "train")[-1] == f"step-{loop.schedule.total:08}.pt"
        before = loop.log.path.read_bytes()
        make_loop().run()  # a finished one does nothing
        assert loop.log.path.read_bytes() == before

    def test_what_a_kill_left_is_cut_back(self, make_loop: Make, tmp_path: Path) -> None:
        """A kill comes after the checkpoint of step 8: lines behind it, one of them torn, and half a file."""
        make_loop("whole").run()
        interrupted(make_loop, "killed", 8)
        assert names(tmp_path / "killed")[-1] == "step-00000008.pt"
        with (tmp_path / "killed/metrics.jsonl").open("a") as file:
            file.write('{"step": 9, "loss": 1.0}\n{"step": 10, "lo')
        (tmp_path / "killed/checkpoints/.zssr-gan-0123.tmp").write_bytes(b"half")
        make_loop("killed").run()
        assert same_log(tmp_path, "whole", "killed")
        assert not list((tmp_path / "killed/checkpoints").glob(".*"))

    def test_a_damaged_one_falls_back(self, make_loop: Make, tmp_path: Path) -> None:
        """And leaves the place of the newest to good ones; one that lacks a part is damaged, too."""
        make_loop("whole").run()
        interrupted(make_loop, "hurt", 9)
        folder = tmp_path / "hurt/checkpoints"
        newest, torn = folder / "step-00000009.pt", folder / "step-99999999.pt"
        torn.write_bytes(newest.read_bytes()[:100])
        content = torch.load(newest, weights_only=True)
        del content["mean"]
        torch.save(content, newest)
        said: list[str] = []
        loop = make_loop("hurt", Callbacks(notice=said.append))
        loop.run()
        assert said[0].startswith(f"{torn}: cannot be read")
        assert "it is now step-99999999.pt.damaged" in said[0]
        assert said[1].startswith(f"{newest}: cannot be read")
        assert names(tmp_path / "hurt")[-2:] == [f"step-{loop.schedule.total:08}.pt", f"{torn.name}.damaged"]
        assert same_log(tmp_path, "whole", "hurt")

    def test_without_a_readable_one_nothing_begins(self, make_loop: Make, tmp_path: Path) -> None:
        before = interrupted(make_loop, "train", 9).log.path.read_bytes()
        for path in (tmp_path / "train/checkpoints").glob("*.pt"):
            path.write_bytes(path.read_bytes()[:100])
        for _ in range(2):  # said once more as long as nobody has done anything
            with pytest.raises(SettingsError, match=r"none of the checkpoints there can be read: .* another run_dir"):
                make_loop().run()
        assert (tmp_path / "train/metrics.jsonl").read_bytes() == before
        assert all(name.endswith(".damaged") for name in names(tmp_path / "train"))

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


class TestNaN:
    @pytest.mark.parametrize(("at", "good"), [(2, "there is no good checkpoint"), (10, "last good checkpoint is")])
    def test_it_stops_and_names_the_last_good_one(self, make_loop: Make, tmp_path: Path, at: int, good: str) -> None:
        def poison(done: int, *_: object) -> None:
            if done == at:
                with torch.no_grad():
                    loop.generator.tail.bias.fill_(torch.nan)

        loop = make_loop(callbacks=Callbacks(progress=poison))
        words = rf"^step {at + 1}: the loss or gradient of the \w+ is NaN or infinite; .*{good}"
        with pytest.raises(NumericalError, match=words):
            loop.run()
        for path in (tmp_path / "train/checkpoints").glob("*.pt"):
            content = torch.load(path, weights_only=True)
            assert all(tensor.isfinite().all() for tensor in content["generator"].values())

    def test_finite_weights_that_lead_to_it_do_not_count(self, make_loop: Make, tmp_path: Path) -> None:
        """Written after step 8, they are so large that step 9 cannot be computed: the one before is what counts."""
        make_loop("whole").run()

        def spoil(step: int, *_: object) -> None:
            if step == 8:
                with torch.no_grad():
                    loop.generator.tail.weight.fill_(1e38)
                loop.checkpoints.write(loop.state)  # as the step would have left it

        loop = make_loop("spoilt", Callbacks(progress=spoil))
        with pytest.raises(NumericalError) as caught:
            loop.run()
        good = tmp_path / "spoilt/checkpoints/step-00000004.pt"
        assert f"the last good checkpoint is {good}" in str(caught.value)
        assert names(tmp_path / "spoilt") == ["step-00000004.pt", "step-00000008.pt.diverged"]
        make_loop("spoilt").run()
        assert same_log(tmp_path, "whole", "spoilt")

    def test_a_killed_one_goes_back_too(self, make_loop: Make) -> None:
        """The kill came between the checkpoint and the step that it leads to."""
        loop = interrupted(make_loop, "train", 9)
        with torch.no_grad():
            loop.generator.tail.weight.fill_(1e38)
        loop.checkpoints.write(loop.state)
        with pytest.raises(NumericalError, match=r"step-00000008\.pt \(.*step-00000009\.pt led to it"):
            make_loop().run()
        make_loop().run()

    @pytest.mark.parametrize("where", ["generator", "discriminator", "mean", "optimiser"])
    def test_no_state_with_it_is_written(self, make_loop: Make, tmp_path: Path, where: str) -> None:
        """Of a stop, too: it comes before the step that would have found out."""

        def poison(done: int, *_: object) -> None:
            if done == 6:
                state = loop.state
                moments = next(iter(state.optimisers["generator"][0].state.values()))["exp_avg"]
                tensor = moments if where == "optimiser" else next(getattr(state, where).parameters())
                with torch.no_grad():
                    tensor.view(-1)[0] = torch.inf
                raise KeyboardInterrupt

        loop = make_loop(callbacks=Callbacks(progress=poison))
        with pytest.raises(NumericalError, match="at or before step 6: a loss, gradient or weight is NaN or infinite"):
            loop.run()
        assert names(tmp_path / "train") == ["step-00000004.pt"]

    def test_outputs_are_checked_before_they_are_measured(self, make_loop: Make) -> None:
        def poison(done: int, *_: object) -> None:
            if done == 4:
                with torch.no_grad():
                    loop.state.mean.tail.weight.fill_(1e38)

        loop = make_loop(callbacks=Callbacks(progress=poison), ema=0.99, every={"checkpoint": 100})
        with pytest.raises(NumericalError, match="step 5: the generator's outputs are NaN or infinite"):
            loop.run()
        assert "validation" not in loop.log.read()[-1]
