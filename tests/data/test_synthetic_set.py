"""Reading a store: by number and id, from workers of every kind, and as pairs for a generator."""

import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from tests.stores import assert_same, stored
from zssr_gan.data import synthetic_set
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.store import Store
from zssr_gan.data.synthetic_set import Pair, SyntheticPairs, SyntheticSet
from zssr_gan.errors import StoreError


def image(number: int, side: int = 8, channels: int = 3) -> StoredImage:
    role = ("zssr", "table1")[number % 2]
    return stored(number, f"set/{number:02}.png", size=(side, side), channels=channels, role=role)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images in shards of 3, written in an order that is not that of their ids."""
    folder = tmp_path_factory.mktemp("store")
    order = [*range(10, 20), *range(10)]
    with Store(folder, {"seed": 0}) as store:
        for start in range(0, 20, 3):
            store.write([image(number) for number in order[start : start + 3]])
    return folder


def test_images_come_in_the_order_of_their_ids(folder: Path) -> None:
    with SyntheticSet(folder) as store:
        assert len(store) == 20
        assert list(store.ids) == [f"set/{number:02}.png" for number in range(20)]
        assert store.roles[:3] == ("zssr", "table1", "zssr")
        assert store.settings.settings == {"seed": 0}
        assert [one.figures["iterations"] for one in store] == list(range(20))
        assert store.index("set/07.png") == 7
        assert store[-1].id == "set/19.png"
        for wrong in (20, -21):
            with pytest.raises(IndexError, match="store of 20"):
                store[wrong]
        with pytest.raises(StoreError, match="no image of this id"):
            store.index("set/99.png")


def test_few_files_are_open_at_once_and_it_can_be_pickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_set, "_OPEN_SHARDS", 2)
    with SyntheticSet(folder) as store:
        for number in [*range(20), *reversed(range(20))]:
            assert_same(store[number], image(number))
            assert store._opened.cache_info().currsize <= 2
        copy = pickle.loads(pickle.dumps(store))
        assert copy[3].id == "set/03.png"
    assert store[3].id == "set/03.png"  # closed, it opens its files again


def test_empty_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        SyntheticSet(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="no store of synthetic images"):
        SyntheticSet(tmp_path)
    with Store(tmp_path, {}):
        pass
    with pytest.raises(StoreError, match="the store is empty"):
        SyntheticSet(tmp_path)
    assert len(SyntheticSet(tmp_path, allow_empty=True)) == 0


def test_a_truncated_shard_is_said_where_it_is_read(tmp_path: Path) -> None:
    with Store(tmp_path, {}) as store:
        path = store.write([image(0)])
        store.write([image(1)])
    path.write_bytes(path.read_bytes()[:1000])
    found = SyntheticSet(tmp_path)
    assert found[1].id == image(1).id
    with pytest.raises(StoreError, match=r"shard-0000\.h5: .*store check"):
        found[0]


def test_pairs_are_tensors_in_the_unit_range(folder: Path) -> None:
    pairs = SyntheticPairs(folder, {"table1"})
    assert len(pairs) == 10
    lr, sr, name = pairs[3]
    assert name == "set/07.png"
    assert lr.dtype == sr.dtype == torch.float32
    assert lr.is_contiguous()
    for pixels, samples in ((lr, image(7).lr), (sr, image(7).sr)):
        assert torch.equal(pixels, torch.from_numpy(samples).permute(2, 0, 1) / 255)
    with pytest.raises(StoreError, match="no image has the role unseen; roles there: table1, zssr"):
        SyntheticPairs(folder, ["unseen"])


def test_sizes_and_channels_may_differ(tmp_path: Path) -> None:
    with Store(tmp_path, {}) as store:
        store.write([stored(0, "a", size=(2, 3)), image(1, side=12), image(2, side=5, channels=1)])
    (batch,) = DataLoader(SyntheticPairs(tmp_path), batch_size=3, collate_fn=list)
    assert [tuple(pair.sr.shape) for pair in batch] == [(3, 4, 6), (3, 24, 24), (1, 10, 10)]


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
# torch warns of forking a process with threads, which earlier tests of a run may have left.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_every_kind_read_the_same(folder: Path, method: str, workers: int) -> None:
    pairs = SyntheticPairs(folder)
    assert pairs[0].id == "set/00.png"  # the parent's file is open while they start
    loader = DataLoader(pairs, batch_size=6, shuffle=True, num_workers=workers, multiprocessing_context=method)
    seen = []
    for batch in loader:
        assert isinstance(batch, Pair)
        assert batch.lr.shape[1:] == (3, 8, 8)
        for lr, sr, name in zip(batch.lr, batch.sr, batch.id, strict=True):
            want = image(int(name[4:6]))
            for pixels, samples in ((lr, want.lr), (sr, want.sr)):
                assert torch.equal(pixels, torch.from_numpy(samples).permute(2, 0, 1) / 255)
            seen.append(name)
    assert sorted(seen) == list(pairs.store.ids)
    assert pairs[19].id == "set/19.png"
