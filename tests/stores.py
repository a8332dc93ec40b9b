"""Images for a store, each a function of its number, so that what is read can be compared with what was written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zssr_gan.data.shard import StoredImage
from zssr_gan.data.store import Store, check

SETTINGS = {"synth": {"preset": "paper", "init": "scratch", "scale": 2}, "data": {"sources": [{"kind": "lfw"}]}}


def stored(
    number: int, name: str = "", *, size: tuple[int, int] = (8, 8), channels: int = 3, **figures: object
) -> StoredImage:
    draw = np.random.default_rng(number)
    rows, columns = size
    return StoredImage(
        name or f"set/{number % 3}/{number:04}.png",
        draw.integers(0, 256, (rows, columns, channels), np.uint8),
        draw.integers(0, 256, (2 * rows, 2 * columns, channels), np.uint8),
        {
            "label": "internal",
            "role": "zssr",
            "iterations": number,
            "loss": number / 7,
            "seeds": [number, 1],
            **figures,
        },
    )


def fill(folder: Path, numbers: Sequence[int], a_shard: int = 4) -> None:
    """What a run does: write what is not there yet."""
    with Store(folder, SETTINGS) as store:
        done = store.done
        todo = [one for number in numbers if (one := stored(number)).id not in done]
        for start in range(0, len(todo), a_shard):
            store.write(todo[start : start + a_shard])


def write_bicubic(run: Path, config: Path) -> None:
    """The synthetic HR images of a prepared run whose values do not matter: 50 px, made by bicubic."""
    # torch, for which processes that write need not wait
    from zssr_gan.data.prepared import Prepared
    from zssr_gan.data.split import read_split
    from zssr_gan.imaging.colour import to_levels
    from zssr_gan.imaging.resize import resize
    from zssr_gan.settings.run import load_run

    images = Prepared(read_split(run / "split.json"), load_run(config).data, ("zssr", "table1"))
    made = []
    for number, name in enumerate(images.ids):
        lr = images.image(number)
        planes = [to_levels(x).permute(1, 2, 0).numpy() for x in (lr, resize(lr, (50, 50)))]
        made.append(StoredImage(name, *planes, {"label": "internal", "role": images.member(number).role}))
    with Store(run / "synthetic", {}) as store:
        store.write(made)


def assert_same(found: StoredImage, written: StoredImage) -> None:
    assert (found.id, found.figures) == (written.id, written.figures)
    for one, other in ((found.lr, written.lr), (found.sr, written.sr)):
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)


def assert_whole(folder: Path, numbers: Sequence[int]) -> None:
    """Nothing is damaged, and these images and no others are there, as `fill` wrote them."""
    from zssr_gan.data.synthetic_set import SyntheticSet  # loads torch, for which processes that write need not wait

    assert check(folder) == []
    with SyntheticSet(folder) as store:
        assert sorted(store.ids) == sorted(stored(number).id for number in numbers)
        for number in numbers:
            assert_same(store[store.index(stored(number).id)], stored(number))
