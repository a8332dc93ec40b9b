"""Many processes on one run: who is who, who does what, what one tells the others. Only this file knows torchrun.

    torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3 ... -m pipelines.synth --config configs/paper.yaml

Processes share a small key-value store (torch's c10d store), and nothing else: no gradients, no collectives. Where one
dies, torchrun stops and starts all of them; each start has a store of its own, so nothing of a dead one is waited for.
"""

import datetime
import os
from dataclasses import dataclass
from typing import Protocol

from torch.distributed.rendezvous import rendezvous

from zssr_gan.errors import DeviceError

_PATIENCE = datetime.timedelta(days=7)  # rank 0 may learn for hours before the others hear of it


class _Store(Protocol):
    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...


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

    def claim(self, name: str) -> int:
        """The next number of that name, from 0: each is given to one process only."""
        return self.store.add(f"claim/{name}", 1) - 1

    def count(self, name: str, amount: int) -> int:
        """Add to a number that all share; what it is then."""
        return self.store.add(f"count/{name}", amount)

    def publish(self, name: str, value: bytes) -> None:
        """Tell the others."""
        self.store.set(f"value/{name}", value)

    def hear(self, name: str) -> bytes:
        """What one published; waits for it."""
        return self.store.get(f"value/{name}")

    def gather(self, name: str, value: bytes) -> list[bytes]:
        """Everybody's value, in the order of the ranks; waits for all. Every rank calls it."""
        self.publish(f"{name}/{self.rank}", value)
        return [self.hear(f"{name}/{rank}") for rank in range(self.world)]


def join() -> Ranks:
    """Meet the other processes that torchrun started, or be alone where it started none.

    Raises:
        DeviceError: the others cannot be reached.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and "MASTER_ADDR" not in os.environ:
        return Ranks(0, 1, 0, _Alone())
    try:
        store, rank, world = next(iter(rendezvous("env://", timeout=_PATIENCE)))
    except (RuntimeError, ValueError, KeyError) as error:
        raise DeviceError(
            f"the other processes of the run cannot be reached ({error}): start it with torchrun"
        ) from error
    store.set_timeout(_PATIENCE)
    return Ranks(rank, world, int(os.environ.get("LOCAL_RANK", "0")), store)
