"""Many processes on one run: ranks, shares of the work, and values that ranks exchange. Only this file knows torchrun.

    torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3 ... -m pipelines.synth --config configs/paper.yaml

Processes of `synth` share a small key-value store (torch's c10d store), and nothing else: no gradients, no collectives.
Those of `train` average their gradients too, by torch's DistributedDataParallel. Where one dies, torchrun stops and
starts all of them, and they meet in the store of those before them. So each start has a number that all its processes
agree on, and keys of its own: nothing of a dead one is heard or waited for.
"""

import datetime
import os
import time
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from zssr_gan.errors import DeviceError

_PATIENCE = datetime.timedelta(days=7)  # rank 0 may learn for hours before the others hear of it

_PAUSE = 0.05  # seconds between two looks for what another process is to say


class _Store(Protocol):
    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: Any) -> None: ...  # text or bytes; torch's annotation knows text alone
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


class _Alone:
    """The store of a single process."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.values: dict[str, bytes] = {}

    def add(self, key: str, amount: int) -> int:
        self.counts[key] = self.counts.get(key, 0) + amount
        return self.counts[key]

    def set(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the run."""

    rank: int
    """0 is the one that writes what there is one of."""
    world: int
    """How many there are."""
    local_rank: int
    """Its number on its host, and so its GPU's."""
    store: _Store
    start: int = 0
    """Which start of all processes this is; its keys are its own."""

    @classmethod
    def alone(cls) -> Self:
        """A single process."""
        return cls(0, 1, 0, _Alone())

    def own_device(self, name: str) -> str:
        """The device that was asked for; each process of a host has a GPU of its own."""
        if self.world > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name

    def claim(self, name: str) -> int:
        """The next number of that name, from 0: each is given to one process only."""
        return self.store.add(self._key("claim", name), 1) - 1

    def count(self, name: str, amount: int) -> int:
        """Add to a number that all share; what it is then."""
        return self.store.add(self._key("count", name), amount)

    def publish(self, name: str, value: bytes) -> None:
        """Tell the others."""
        self.store.set(self._key("value", name), value)

    def hear(self, name: str) -> bytes:
        """What one published; waits for it."""
        key = self._key("value", name)
        _wait_for(self.store, key)
        return self.store.get(key)

    def gather(self, name: str, value: bytes) -> list[bytes]:
        """Everybody's value, in the order of the ranks; waits for all. Every rank calls it."""
        self.publish(f"{name}/{self.rank}", value)
        return [self.hear(f"{name}/{rank}") for rank in range(self.world)]

    def _key(self, kind: str, name: str) -> str:
        return f"{self.start}/{kind}/{name}"


def join() -> Ranks:
    """Meet the other processes that torchrun started, or be alone where it started none.

    Raises:
        DeviceError: the others cannot be reached.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and "MASTER_ADDR" not in os.environ:
        return Ranks.alone()
    try:
        store, rank, world = next(iter(rendezvous("env://", timeout=_PATIENCE)))
    except (RuntimeError, ValueError, KeyError) as error:
        raise DeviceError(
            f"the other processes of the run cannot be reached ({error}): start it with torchrun"
        ) from error
    store.set_timeout(_PATIENCE)
    start = agree_on_start(store, rank, world)
    return Ranks(rank, world, int(os.environ.get("LOCAL_RANK", "0")), store, start)


class DataParallel:
    """Processes that each compute the gradient of a part of a batch, and all take the mean as theirs.

    A context manager around torch's process group.

    Args:
        ranks: of this process; where it is alone, nothing is done.
        device: of the tensors: NCCL on CUDA, gloo elsewhere.
    """

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks, self.device = ranks, device

    def __enter__(self) -> Self:
        if self.ranks.world > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            assert isinstance(self.ranks.store, Store)
            dist.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                store=PrefixStore(f"{self.ranks.start}/group", self.ranks.store),
                rank=self.ranks.rank,
                world_size=self.ranks.world,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.ranks.world > 1:
            dist.destroy_process_group()

    def synchronise(self, network: nn.Module) -> bool:
        """Have batch normalisation take its statistics over all processes, in place; whether it now does, or there is
        none. torch can on CUDA alone."""
        if self.ranks.world == 1 or not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            return True
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return self.device.type == "cuda"

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as it is called in a training step: its backward pass gives all processes the mean gradient.

        Blocks may be skipped, the same in all processes: their gradients stay None.
        """
        if self.ranks.world == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False, find_unused_parameters=True)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.ranks.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.ranks.world

    def any(self, here: bool) -> bool:
        """Whether something is so in any process."""
        if self.ranks.world == 1:
            return here
        return bool(self.mean(torch.tensor(float(here), device=self.device)) > 0)


def agree_on_start(store: _Store, rank: int, world: int) -> int:
    """The number of this start of all processes, in a store that may remember earlier ones.

    torchrun's own restart count is each host's, and differs between them. Here rank 0 draws the next number. Another
    rank joins a number that no process of its rank has joined before, and goes on when rank 0 says that all have: so
    the number is not that of a start whose rank 0 is dead.
    """
    if rank == 0:
        start = store.add("start", 1)
        for other in range(1, world):
            _wait_for(store, f"joined/{world}/{start}/{other}")
        store.set(f"all/{world}/{start}", "joined")
        return start
    seen = store.add(f"seen/{world}/{rank}", 0)
    joined = 0
    while not (joined and store.check([f"all/{world}/{joined}"])):
        now = store.add("start", 0)
        if now > seen:
            store.add(f"seen/{world}/{rank}", now - seen)
            store.set(f"joined/{world}/{now}/{rank}", "joined")
            seen = joined = now
        time.sleep(_PAUSE)
    return joined


def _wait_for(store: _Store, key: str) -> None:
    """Wait until somebody has set it. The store's own waiting hears neither Ctrl-C nor SIGTERM."""
    while not store.check([key]):
        time.sleep(_PAUSE)
