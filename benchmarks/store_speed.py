"""How the pixels of a shard should lie: the cost of writing, the size on the disk, the time of an epoch of reading.

    python -m benchmarks.store_speed [--pairs 14000] [--side 32] [--workers 2] [--repeats 3] [--only contiguous]

Crops of scikit-image's photographs, as LR and twice as large as HR, in a temporary folder. An epoch is the torch
`Dataset` read once in random order by a `DataLoader` with batches of 64, as training does, from the file cache, its
workers' start included. Other work on the machine makes the seconds more and the processor's seconds hardly.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from pydantic import JsonValue
from torch.utils.data import DataLoader

from benchmarks.protocol import parsed
from zssr_gan.data import store as store_module
from zssr_gan.data.shard import StoredImage, encode_shard
from zssr_gan.data.sources import SIDE, BuiltIn
from zssr_gan.data.store import Store, check
from zssr_gan.data.synthetic_set import SyntheticPairs
from zssr_gan.imaging.picture import Metadata, Picture, to_samples
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.data import SourceSettings

CHUNKS: dict[str, object] = {"chunks": (12288,)}  # the HR image of 64 px: a larger one would be unpacked whole for each
GZIP = CHUNKS | {"compression": "gzip", "shuffle": True}
LAYOUTS: dict[str, dict[str, object]] = {
    "contiguous": {},
    "chunks of 12 KiB": CHUNKS,
    "chunks, lzf, shuffle": CHUNKS | {"compression": "lzf", "shuffle": True},
    "chunks, gzip 1, shuffle": GZIP | {"compression_opts": 1},
    "chunks, gzip 4, shuffle": GZIP | {"compression_opts": 4},
}


def images(count: int, side: int) -> Iterator[StoredImage]:
    """Pairs: HR is a crop of a photograph's tile, LR is the same crop at half its size."""
    source, generator = BuiltIn(SourceSettings(kind="photographs")), torch.Generator().manual_seed(0)
    tiles = [source.read(path).picture.pixels for path in source.listing().entries]
    for number in range(count):
        top, left = torch.randint(0, SIDE - 2 * side + 1, (2,), generator=generator).tolist()
        sr = tiles[number % len(tiles)][:, top : top + 2 * side, left : left + 2 * side]
        lr, hr = (
            to_samples(Picture(pixels, None, 8, Metadata())).astype("uint8")
            for pixels in (resize(sr, (side, side)).clamp(0, 1), sr)
        )
        figures: dict[str, JsonValue] = {"label": "internal", "role": "zssr", "iterations": number, "residual_db": 50.0}
        yield StoredImage(f"photographs/{number:06}.png", lr, hr, figures)


def epoch(folder: Path, workers: int) -> tuple[float, float]:
    """Seconds and processor seconds (workers' too) of one epoch in random order, from making the loader to its end."""
    began, used = time.perf_counter(), sum(os.times()[:4])
    pairs = SyntheticPairs(folder)
    seen = sum(len(batch.id) for batch in DataLoader(pairs, batch_size=64, shuffle=True, num_workers=workers))
    assert seen == len(pairs)
    return time.perf_counter() - began, sum(os.times()[:4]) - used


def main() -> None:
    """Print a row for each layout."""
    args = parsed(__doc__, pairs=14_000, side=32, workers=2, repeats=3, shard=256, only="")
    torch.set_num_threads(1)
    made = list(images(args.pairs, args.side))
    raw = sum(image.lr.nbytes + image.sr.nbytes for image in made)
    print(f"{args.pairs} pairs, {raw / 1e6:.0f} MB of pixels, {args.workers} workers, load {os.getloadavg()[0]:.1f}")
    print(f"{'layout':24} write s  size MB  epoch s (all repeats), processor s  check s")
    for name, storage in ((name, storage) for name, storage in LAYOUTS.items() if args.only in name):
        with tempfile.TemporaryDirectory(prefix="store-speed-") as temporary:
            folder, began = Path(temporary), time.perf_counter()
            encode = partial(encode_shard, storage=storage)
            with mock.patch.object(store_module, "encode_shard", encode), Store(folder, {"layout": name}) as store:
                for start in range(0, len(made), args.shard):
                    store.write(made[start : start + args.shard])
            written = time.perf_counter() - began
            size = sum(path.stat().st_size for path in folder.iterdir())
            epochs = sorted(epoch(folder, args.workers) for _ in range(args.repeats))
            used = min(processor for _, processor in epochs)
            began = time.perf_counter()
            assert not check(folder)
            checked = time.perf_counter() - began
        spans = ", ".join(f"{seconds:.1f}" for seconds, _ in epochs)
        print(f"{name:24} {written:7.1f}  {size / 1e6:7.0f}  {spans:22}  {used:11.1f}  {checked:7.1f}", flush=True)


if __name__ == "__main__":
    main()
