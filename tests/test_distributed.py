"""Processes of one run: what each claims is its own, what one says all hear, and the dead are not listened to."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch.distributed import HashStore

from zssr_gan.distributed import Ranks, agree_on_start, join

ROOT = Path(__file__).parents[1]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    return join()


def test_alone(alone: Ranks) -> None:
    assert (alone.rank, alone.world, alone.local_rank) == (0, 1, 0)
    assert [alone.claim("chunk") for _ in range(3)] == [0, 1, 2]
    assert alone.claim("shard") == 0
    assert [alone.count("made", 2), alone.count("made", 3)] == [2, 5]
    assert alone.claim("made") == 0
    alone.publish("begin", b"now")
    assert alone.hear("begin") == b"now"
    assert alone.gather("end", b"x") == [b"x"]


class TestStarts:
    """Several starts in one store, as torchrun makes them: the ranks of each agree on a number of its own."""

    def test_each_start_has_its_number(self) -> None:
        store = HashStore()
        for number in (1, 2, 3):
            with ThreadPoolExecutor(3) as pool:
                assert list(pool.map(lambda rank: agree_on_start(store, rank, 3), range(3))) == [number] * 3

    @pytest.mark.parametrize("dead", [0, 1])
    def test_a_start_that_died_half_way_is_not_joined(self, dead: int) -> None:
        """Rank 0 had drawn a number and one of the others had joined, or none."""
        store = HashStore()
        store.add("start", 1)
        if dead:
            store.add("seen/3/1", 1)
            store.set("joined/3/1/1", "joined")
        with ThreadPoolExecutor(3) as pool:
            others = [pool.submit(agree_on_start, store, rank, 3) for rank in (1, 2)]
            time.sleep(0.2)
            assert not any(other.done() for other in others)
            assert agree_on_start(store, 0, 3) == 2
            assert [other.result() for other in others] == [2, 2]


SCRIPT = """
import json, sys, time
from pathlib import Path
from zssr_gan.distributed import join
ranks = join()
mine = []
while (number := ranks.claim("chunk")) < 40:
    mine.append(number)
    ranks.count("made", 1)
    time.sleep(0.002)
if ranks.rank == 0:
    ranks.publish("begin", b"said by 0")
heard = ranks.hear("begin").decode()
all_of_them = [json.loads(one) for one in ranks.gather("claims", json.dumps(mine).encode())]
Path(sys.argv[1], f"{ranks.rank}.json").write_text(json.dumps([mine, heard, all_of_them, ranks.count("made", 0)]))
"""


@pytest.mark.slow  # make synth with two processes is in the quick tests
def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (one, heard, gathered, made), (other, *same) = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (0, 1))
    assert sorted(one + other) == list(range(40))
    assert heard == "said by 0"
    assert gathered == [one, other]
    assert made == 40
    assert same == [heard, gathered, made]
