"""Two processes at half the batch are one at the whole: gradients are averaged, and each process draws its share."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.training.conftest import TINY, images_of
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine
from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import SettingsError
from zssr_gan.networks.srgan import SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop

CPU = torch.device("cpu")
# Batch normalisation would see half the batch; only CUDA has a synchronised one.
CHANGES = {
    "generator": {"options": {"width": 4, "blocks": 3, "skip_probability": 0.4, "norm": False}},
    "discriminator": {"options": {"width": 4, "blocks": 2, "head": "adaptive", "hidden": 4, "norm": "none"}},
    "reals": {"lr": 1.0, "shrunk": 1.0},
    # The first process alone measures, and what it decides holds for both.
    "optimiser": {"kind": "muon", "lr": 1e-30, "schedule": "plateau", "plateau": {"patience": 1}, "clip": 1.0},
    "stop": {"patience": 2},
    "epochs": 5,
}


def made(folder: Path, group: DataParallel | None, callbacks: Callbacks | None = None, **changes: Any) -> Loop:
    both = images_of(10)
    return Loop(
        TrainSettings.model_validate({**TINY, **CHANGES, **changes}),
        TrainingData(both, both, images_of(3, 100), (BicubicDownscale(),), 1, 2),
        None,
        seed=0,
        machine=Machine(CPU, "fp32", 1, 512),
        folder=folder,
        facts={},
        callbacks=callbacks or Callbacks(),
        group=group,
    )


def train(folder: Path, group: DataParallel | None) -> Loop:
    loop = made(folder, group)
    loop.run()
    return loop


def one_of_two(rank: int, folder: str, start: int) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/meeting-{start}", 2)
    with DataParallel(Ranks(rank, 2, rank, store), CPU) as group:
        loop = train(Path(folder) / "two", group)
        torch.save(weights(loop), f"{folder}/rank-{rank}.pt")


def start_two(folder: Path, start: int) -> list[multiprocessing.context.SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=one_of_two, args=(rank, str(folder), start)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def results(folder: Path, processes: list[multiprocessing.context.SpawnProcess]) -> list[dict[str, torch.Tensor]]:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": tensor
        for name in ("generator", "discriminator", "mean")
        for key, tensor in getattr(loop.state, name).state_dict().items()
    }


def logged(folder: Path) -> list[dict[str, Any]]:
    """What each line of metrics.jsonl says in numbers, those of a validation beside the others."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    flat = [{**line, **line.get("validation", {}), **line.get("epoch", {}).get("generator", {})} for line in lines]
    flat = [{**line, "rate": whole.get("epoch", {}).get("rate")} for line, whole in zip(flat, lines, strict=True)]
    return [{key: value for key, value in line.items() if isinstance(value, int | float)} for line in flat]


@pytest.mark.slow
def test_two_at_half_are_one_at_the_whole(tmp_path: Path) -> None:
    processes = start_two(tmp_path, 0)
    whole = train(tmp_path / "one", None)
    ranks = results(tmp_path, processes)
    for name, wanted in weights(whole).items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], wanted, rtol=0, atol=1e-4)
    assert whole.state.stopped
    assert whole.state.rate < 1
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert len(one) == len(two)
    assert {"loss", "accuracy", "adversarial", "residual_db", "rate"} <= {key for line in one for key in line}
    for line, wanted_line in zip(two, one, strict=True):
        assert line == pytest.approx(wanted_line, rel=1e-3, abs=1e-4)

    newest = sorted((tmp_path / "two/checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    again = results(tmp_path, start_two(tmp_path, 1))  # both from the one before
    for name, wanted in ranks[0].items():
        assert torch.equal(again[0][name], wanted), name
        assert torch.equal(again[1][name], wanted), name


def test_a_batch_that_cannot_be_dealt_evenly(tmp_path: Path) -> None:
    ranks = Ranks(0, 3, 0, Ranks.alone().store)
    with pytest.raises(SettingsError, match=r"train\.batch: 4 images cannot be dealt evenly to 3 processes"):
        made(tmp_path, DataParallel(ranks, CPU))


def test_parts_of_a_batch_are_told_of(tmp_path: Path) -> None:
    """Two processes on CPUs, whose batch normalisation cannot be synchronised."""
    group = DataParallel(Ranks(0, 2, 0, Ranks.alone().store), CPU)
    told = []
    for generator in (CHANGES["generator"], TINY["generator"]):
        said: list[str] = []
        made(tmp_path, group, Callbacks(notice=said.append), generator=generator)
        told.append([text for text in said if text.startswith("batch normalisation sees 2 images of a batch in each")])
    assert [len(texts) for texts in told] == [0, 1]


def test_on_cuda_they_are_one_batch() -> None:
    networks = [SRGANGenerator(SRGANGeneratorOptions(width=4, blocks=1, norm=norm)) for norm in (True, False)]
    group = DataParallel(Ranks(0, 2, 0, Ranks.alone().store), torch.device("cuda"))  # not entered: no device is needed
    assert [group.synchronise(network) for network in networks] == [True, True]
    kinds = {type(module).__name__ for module in networks[0].modules()}
    assert "SyncBatchNorm" in kinds
    assert "BatchNorm2d" not in kinds
