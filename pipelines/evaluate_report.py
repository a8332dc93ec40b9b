"""The report of an evaluation, `report/index.html`: parts that lie in `report/parts`, and what is known of the run."""

import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from pipelines.evaluated_run import Run
from zssr_gan.data.cameras import read_degradations
from zssr_gan.data.manifest import SETTINGS, read_settings
from zssr_gan.data.split import PARTS
from zssr_gan.evaluation.parts import Part, decode_part
from zssr_gan.evaluation.report import Camera, Facts, Missing, Report, render
from zssr_gan.files import atomic_write, sha256_file
from zssr_gan.imaging.codecs import Metadata, encode_picture
from zssr_gan.imaging.picture import Picture
from zssr_gan.record import MARK
from zssr_gan.training.card import TrainedGenerator
from zssr_gan.training.card_account import account as account_of_card
from zssr_gan.zeroshot.degradation_account import account
from zssr_gan.zeroshot.degradation_picture import degradation_panels
from zssr_gan.zeroshot.shared import read_shared

_PACKAGES = ("zssr-gan", "torch", "numpy", "scipy", "scikit-image", "torchmetrics")


def write_report(run: Run, names: Sequence[str]) -> Path:
    """Write `report/index.html` in the run's folder, replacing an earlier one.

    Args:
        run: its folder has the parts, as `encode_part` writes them, in `report/parts/NAME.json`.
        names: of the parts, in the order in which the report has them. One that is not there, or that another version
            wrote, is named in the report with the command that makes it.

    Returns:
        The report's path.

    Raises:
        SettingsError: degradation.json or the shared start is damaged.
        StoreError: the synthetic images' settings are damaged.
        OutputError: the disk refuses.
    """
    folder = run.folder / "report"
    report = Report(
        title=f"Super-resolution of {', '.join(_sources(run))}",
        run=run.folder.name,
        description=run.settings.description,
        parts=tuple(_part(folder / "parts" / f"{name}.json", name) for name in names),
        warnings=tuple(dict.fromkeys(_warnings(run))),
        cameras=tuple(_cameras(run.folder / "degradation.json")),
        facts=tuple(_facts(run)),
        settings=run.settings.model_copy(update={"run_dir": str(run.folder)}).as_yaml(run.folder),
    )
    path = folder / "index.html"
    atomic_write(path, render(report), overwrite=True)
    return path


def _sources(run: Run) -> list[str]:
    return list(dict.fromkeys(member.source for member in run.split.entries))


def _part(path: Path, name: str) -> Part | Missing:
    part = decode_part(path.read_bytes()) if path.exists() else None
    if part is not None:
        return part
    return Missing(name, f'make eval ARGS="--only {name}"')


def _warnings(run: Run) -> Iterator[str]:
    for generator in (run.generator, run.content):
        if generator is not None:
            yield from generator.card.warnings
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


def _facts(run: Run) -> Iterator[Facts]:
    roles = Counter(member.role for member in run.split.entries if member.role is not None)
    yield Facts(
        "Images",
        (
            ("sources", ", ".join(_sources(run))),
            *((f"role {role}", f"{roles[role]:,}") for part in PARTS.values() for role in part if roles[role]),
        ),
    )
    yield _card("Model card of the generator", run.generator)
    if run.content is not None:
        yield _card("Model card of the generator before the discriminator", run.content)
    yield Facts("SHA-256", tuple(_hashes(run)))
    versions = (*((name, _version(name)) for name in _PACKAGES), ("python", platform.python_version()))
    yield Facts("Versions that this report was made with", versions)


def _card(title: str, generator: TrainedGenerator) -> Facts:
    card = generator.card
    mediator = "none" if card.mediator is None else f"{card.mediator.network}, {card.mediator.source}"
    lists = ((f"SHA-256 of {name}", one.sha256) for name, one in card.images.items())
    lines = (
        *account_of_card(generator),
        ("losses", json.dumps(card.settings.get("losses", {}))),
        ("mediator", mediator),
        ("weights", "the running mean of the training's" if card.mean_weights else "those of that step"),
        ("trained on", ", ".join([card.device, *(f"{name} {version}" for name, version in card.versions.items())])),
        *((name.replace("held_out", "held out"), sha256) for name, sha256 in lists),
    )
    return Facts(title, lines)


def _hashes(run: Run) -> Iterator[tuple[str, str]]:
    yield "split.json", sha256_file(run.folder / "split.json")
    store = run.folder / "synthetic"
    if (store / SETTINGS).exists():
        yield "settings of the synthetic images", read_settings(store).settings_sha256
    if (store / "shared.safetensors").exists():
        yield "shared start", read_shared(store / "shared.safetensors").sha256
    if (run.folder / "degradation.json").exists():
        yield "degradation.json", sha256_file(run.folder / "degradation.json")
    yield "generator", run.generator.sha256
    if run.content is not None:
        yield "generator before the discriminator", run.content.sha256


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
