"""A store at a glance: how many images of which roles, sizes and labels, and what their figures are on average."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from zssr_gan.data.manifest import SETTINGS, shard_files
from zssr_gan.data.synthetic_set import SyntheticSet


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over all images that have it as a finite number."""

    images: int
    mean: float
    median: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What `zssr-gan store info` shows; counts are of images, the most frequent first."""

    folder: str
    images: int
    shards: int
    size_bytes: int
    """On the disk: shards, sidecars and settings."""
    settings_sha256: str
    versions: dict[str, int]
    labels: dict[str, int]
    roles: dict[str, int]
    sizes: dict[str, int]
    """As in "32x32 to 64x64, RGB": width before height, LR to HR."""
    choices: dict[str, int]
    """What was chosen for an image, where its figures name a "choice"."""
    figures: dict[str, Figure]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return dataclasses.asdict(self)


def summarise(folder: Path) -> Summary:
    """Read every image's figures, not its pixels. Raises StoreError where there is no store or it is damaged."""
    with SyntheticSet(folder, allow_empty=True) as store:
        # Shard after shard rather than by id, so that each file is opened once.
        figures = [store.figures(number) for number in store.by_shard()]
        numbers: dict[str, list[float]] = {}
        for one in figures:
            for name, value in _numbers(one):
                numbers.setdefault(name, []).append(value)
        every = range(len(store))
        return Summary(
            folder=str(folder),
            images=len(store),
            shards=store.shards,
            size_bytes=sum(path.stat().st_size for path in [folder / SETTINGS, *shard_files(folder)]),
            settings_sha256=store.settings.settings_sha256,
            versions=_counted(store.version(number) for number in every),
            labels=_counted(str(one.get("label")) for one in figures),
            roles=_counted(role or "none" for role in store.roles),
            sizes=_counted(_size(*store.sizes(number)) for number in every),
            choices=_counted(made_by for one in figures if (made_by := _made_by(one)) is not None),
            figures={
                name: Figure(len(values), statistics.fmean(values), statistics.median(values))
                for name, values in numbers.items()
            },
        )


def _numbers(figures: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Figures that have a mean, dotted where they are nested; seeds are numbers that have none."""
    for key, value in figures.items():
        if "seed" in key:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + key, float(value)


def _made_by(figures: Mapping[str, JsonValue]) -> str | None:
    """What an image's pixels are of, by the network's share of them."""
    choice = figures.get("choice")
    if isinstance(choice, str):
        return choice
    share = choice.get("share") if isinstance(choice, Mapping) else None
    return None if share is None else {0.0: "back-projection", 1.0: "network"}.get(float(str(share)), "both")


def _counted(values: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _size(lr: tuple[int, int, int], sr: tuple[int, int, int]) -> str:
    return f"{lr[1]}x{lr[0]} to {sr[1]}x{sr[0]}, {'gray' if sr[2] == 1 else 'RGB'}"
