"""A store of synthetic pairs: the cost of writing, the size on the disk, the time of an epoch of reading.

    python -m benchmarks.store_speed [--pairs 14000] [--side 32] [--workers 2] [--repeats 3]

Crops of scikit-image's photographs, as LR and twice as large as HR, in a temporary folder. An epoch is the torch
`Dataset` read once in random order by a `DataLoader` with batches of 64, as training does, from the file cache, its
workers' start included. Other work on the machine makes the seconds more and the processor's seconds hardly.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import JsonValue
from torch.utils.data import DataLoader

from benchmarks.protocol import parsed
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.sources import SIDE, BuiltIn
from zssr_gan.data.store import Store, check
from zssr_gan.data.synthetic_set import SyntheticPairs
from zssr_gan.imaging.picture import Metadata, Picture, to_samples
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.data import SourceSettings


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
    """Write, read and check a store."""
    args = parsed(__doc__, pairs=14_000, side=32, workers=2, repeats=3, shard=256)
    torch.set_num_threads(1)
    made = list(images(args.pairs, args.side))
    raw = sum(image.lr.nbytes + image.sr.nbytes for image in made)
    print(f"{args.pairs} pairs, {raw / 1e6:.0f} MB of pixels, {args.workers} workers, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="store-speed-") as temporary:
        folder, began = Path(temporary), time.perf_counter()
        with Store(folder, {}) as store:
            for start in range(0, len(made), args.shard):
                store.write(made[start : start + args.shard])
        written = time.perf_counter() - began
        size = sum(path.stat().st_size for path in folder.iterdir())
        epochs = sorted(epoch(folder, args.workers) for _ in range(args.repeats))
        began = time.perf_counter()
        assert not check(folder)
        checked = time.perf_counter() - began
    spans = ", ".join(f"{seconds:.1f}" for seconds, _ in epochs)
    used = min(processor for _, processor in epochs)
    print(f"written in {written:.1f} s, {size / 1e6:.0f} MB; checked in {checked:.1f} s")
    print(f"epochs of {spans} s, {used:.1f} processor s")


if __name__ == "__main__":
    main()
