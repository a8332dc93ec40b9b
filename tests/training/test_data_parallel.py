"""Two processes at half the batch are one at the whole: gradients are averaged, and each process draws its share."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.training.conftest import TINY, images_of
from zssr_gan.devices import Machine
from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import SettingsError
from zssr_gan.imaging.resampling import BicubicDownscale
from zssr_gan.stages import TrainSettings
from zssr_gan.training.loop import Loop
from zssr_gan.training.material import Material

CPU = torch.device("cpu")
# Batch normalisation would see half the batch; only CUDA has a synchronised one.
CHANGES = {
    "generator": {"options": {"width": 4, "blocks": 3, "skip_probability": 0.4, "norm": False}},
    "discriminator": {"options": {"width": 4, "blocks": 2, "head": "adaptive", "hidden": 4, "norm": "none"}},
    "reals": {"lr": 1.0, "shrunk": 1.0},
}


def train(folder: Path, group: DataParallel | None, **changes: Any) -> Loop:
    both = images_of(10)
    loop = Loop(
        TrainSettings.model_validate({**TINY, **CHANGES, **changes}),
        Material(both, both, images_of(3, 100), (BicubicDownscale(),), 1, 2, ()),
        None,
        seed=0,
        machine=Machine(CPU, "fp32", 1, 512),
        folder=folder,
        facts={},
        group=group,
    )
    loop.run()
    return loop


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/meeting", 2)
    with DataParallel(Ranks(rank, 2, rank, store), CPU) as group:
        loop = train(Path(folder) / "two", group)
        torch.save(loop.generator.state_dict(), f"{folder}/rank-{rank}.pt")


def test_two_at_half_are_one_at_the_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=one_of_two, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    whole = train(tmp_path / "one", None)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    for name, wanted in whole.generator.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], wanted, rtol=0, atol=1e-4)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1])


def test_a_batch_that_cannot_be_dealt_evenly(tmp_path: Path) -> None:
    ranks = Ranks(0, 3, 0, Ranks.alone().store)
    with pytest.raises(SettingsError, match=r"train\.batch: 4 images cannot be dealt evenly to 3 processes"):
        train(tmp_path, DataParallel(ranks, CPU))
