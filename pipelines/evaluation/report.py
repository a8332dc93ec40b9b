"""The report of an evaluation, `report/index.html`: parts that lie in `report/parts`, and what is known of the run."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pipelines.evaluation.run import Run
from zssr_gan.data.cameras import read_degradations
from zssr_gan.data.manifest import SETTINGS, read_settings
from zssr_gan.data.split import PARTS, Split, read_split
from zssr_gan.evaluation.parts import Part, decode_part
from zssr_gan.evaluation.report import Camera, Facts, Missing, Report, render
from zssr_gan.files import atomic_write, canonical_sha256, sha256_file
from zssr_gan.imaging.codecs import Metadata, encode_picture
from zssr_gan.imaging.picture import Picture
from zssr_gan.record import MARK
from zssr_gan.training.card import TrainedGenerator, load_generator
from zssr_gan.training.card_account import account as account_of_card
from zssr_gan.zeroshot.degradation_account import account
from zssr_gan.zeroshot.degradation_picture import degradation_panels
from zssr_gan.zeroshot.shared import read_shared

_SPLIT, _DEGRADATION = "split.json", "degradation.json"
_TABLES = (".csv", ".md", ".tex")
_PACKAGES = ("zssr-gan", "torch", "numpy", "scipy", "scikit-image", "torchmetrics")


def write_report(run: Run, names: Sequence[str]) -> Path:
    """Write `report/index.html` in the run's folder, replacing an earlier one.

    Args:
        run: its folder has the parts, as `encode_part` writes them, in `report/parts/NAME.json`; what else the stages
            left there stands in the report, and none of it must be there.
        names: of the parts, in the order in which the report has them. One that is not there, or that another version
            wrote, is named in the report with the command that makes it.

    Returns:
        The report's path.

    Raises:
        SplitError, SettingsError, StoreError, WeightsError: what a stage left is damaged.
        OutputError: the disk refuses.
    """
    folder = run.folder / "report"
    path = run.folder / _SPLIT
    split = read_split(path) if path.exists() else None
    generators = _generators(run.folder)
    sources = () if split is None else tuple(dict.fromkeys(member.source for member in split.entries))
    parts = tuple(_part(folder / "parts" / f"{name}.json", name) for name in names)
    report = Report(
        title=f"Super-resolution of {', '.join(sources)}" if sources else "Super-resolution",
        run=run.folder.name,
        description=run.settings.description,
        parts=parts,
        warnings=tuple(dict.fromkeys((*_warnings(run, generators), *_stale(run, parts)))),
        cameras=tuple(_cameras(run.folder / _DEGRADATION)),
        facts=(
            *(() if split is None else (_images(split, sources),)),
            *(_card(f"Model card of the {name}", generator) for name, generator in generators.items()),
            Facts("SHA-256", tuple(_hashes(run.folder, generators))),
            Facts("Versions that this report was made with", tuple(_versions())),
        ),
        settings=run.settings.model_copy(update={"run_dir": str(run.folder)}).as_yaml(run.folder),
        files=frozenset(path.name for path in folder.iterdir() if path.suffix in _TABLES),
    )
    path = folder / "index.html"
    atomic_write(path, render(report), overwrite=True)
    return path


_READ = {
    "table1": {"samples", "most"},
    "table2": {"samples", "most"},
    "truth": {"samples", "features", "lpips", "inception", "truth"},
    "blind": {"samples", "features", "lpips", "inception", "truth"},
    "sets": {"samples", "sets"},
    "native": {"samples", "most", "native", "native_preset"},
    "figures": {"samples", "most", "timed"},
}
"""Of the group `evaluate`, what each part hangs on."""
_LEFT = (
    *("split.json", "degradation.json", "synthetic/settings.json", "train/generator.safetensors"),
    "train/content/generator.safetensors",
)
"""Of what the stages before left."""


def stamp(run: Run, name: str) -> str:
    """Of all that a part hangs on in its run: a part with another one is no longer true of it."""
    settings = run.settings.model_dump(mode="json", exclude={"run_dir", "description", "evaluate"})
    left = {path: sha256_file(run.folder / path) for path in _LEFT if (run.folder / path).exists()}
    own = run.settings.evaluate.model_dump(mode="json", include=_READ[name])
    return canonical_sha256({"settings": settings, "evaluate": own, "left": dict(left)})


def _stale(run: Run, parts: Sequence[Part | Missing]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Part) and part.stamp != stamp(run, part.name):
            yield (
                f"The part {part.title!r} was made with other settings, images or another generator than those below: "
                "`make eval` makes it again."
            )


def _generators(folder: Path) -> dict[str, TrainedGenerator]:
    """Those of the run that are there, by what they are called."""
    places = {"generator": folder / "train", "generator before the discriminator": folder / "train" / "content"}
    return {
        name: load_generator(place / "generator.safetensors")
        for name, place in places.items()
        if (place / "generator.safetensors").exists()
    }


def _part(path: Path, name: str) -> Part | Missing:
    try:
        part = decode_part(path.read_bytes())
    except OSError:
        part = None
    if part is not None:
        return part
    return Missing(name, f'make eval ARGS="--only {name}"')


def _warnings(run: Run, generators: Mapping[str, TrainedGenerator]) -> Iterator[str]:
    split = run.folder / _SPLIT
    for name, generator in generators.items():
        yield from generator.card.warnings
        if split.exists() and generator.card.split_sha256 != sha256_file(split):
            yield f"The {name} was trained with another split.json than the run's: it may have seen unseen images."
    features = run.settings.evaluate.features
    if features.weights == "random":
        yield (
            f"Perceptual and Frechet distances look through a {features.network} with random weights: they were learnt "
            "from nothing, and rank nothing as people would. Set evaluate.features.weights to learnt ones."
        )


def _cameras(path: Path) -> Iterator[Camera]:
    if not path.exists():
        return
    for one in read_degradations(path).groups:
        picture = Picture(degradation_panels(one.estimate), None, 8, Metadata())
        png = encode_picture(picture, "png", {MARK: "degradation"})
        yield Camera(one.group, tuple(account(one.estimate)), png)


def _images(split: Split, sources: Sequence[str]) -> Facts:
    roles = Counter(member.role for member in split.entries)
    counted = ((f"role {role}", f"{roles[role]:,}") for part in PARTS.values() for role in part if roles[role])
    return Facts("Images", (("sources", ", ".join(sources)), *counted))


def _card(title: str, generator: TrainedGenerator) -> Facts:
    card = generator.card
    losses = card.settings.get("losses")
    weights = losses.items() if isinstance(losses, dict) else ()
    mediator = "none" if card.mediator is None else f"{card.mediator.network}, {card.mediator.source}"
    lists = ((f"SHA-256 of {name}", one.sha256) for name, one in card.images.items())
    if card.origin is not None:  # of its training nothing is known
        return Facts(title, tuple(account_of_card(generator)))
    lines = (
        *account_of_card(generator),
        ("losses", ", ".join(f"{name} {value}" for name, value in weights)),
        ("mediator", mediator),
        ("weights", "the running mean of the training's" if card.mean_weights else "those of that step"),
        (
            "trained on",
            ", ".join([str(card.device), *(f"{name} {version}" for name, version in card.versions.items())]),
        ),
        *((name.replace("held_out", "held out"), sha256) for name, sha256 in lists),
    )
    return Facts(title, lines)


def _hashes(folder: Path, generators: Mapping[str, TrainedGenerator]) -> Iterator[tuple[str, str]]:
    for name in (_SPLIT, _DEGRADATION):
        if (folder / name).exists():
            yield name, sha256_file(folder / name)
    store = folder / "synthetic"
    if (store / SETTINGS).exists():
        yield "settings of the synthetic images", read_settings(store).settings_sha256
    if (store / "shared.safetensors").exists():
        yield "shared start", read_shared(store / "shared.safetensors").sha256
    yield from ((name, generator.sha256) for name, generator in generators.items())


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "python", platform.python_version()
