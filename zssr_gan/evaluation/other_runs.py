"""Generators of other runs that stand in the same table: those of the literature, or of the user's own."""

from pathlib import Path

from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.evaluation.metrics.perceptual import reason
from zssr_gan.evaluation.run import Run, scale_of
from zssr_gan.networks.registry import parameters
from zssr_gan.training.model_card import TrainedGenerator, load_generator

_FILE = Path("train") / "generator.safetensors"


Others = dict[str, TrainedGenerator | str]
"""Generators of other runs by their names in a table; a text: why one cannot be used."""


def others_of(run: Run) -> Others:
    """Generators that `evaluate.truth.models` asks for and that enlarge by the run's scale, or by 1.

    Raises:
        SettingsError: one that is named is not there, or enlarges by another scale.
    """
    wanted = run.settings.evaluate.truth
    assert wanted is not None  # else there is no table to stand in
    if wanted.models == "beside":
        own = run.folder / _FILE
        paths = [path for path in sorted(run.folder.parent.glob(f"*/{_FILE}")) if path != own]
    else:
        paths = [_path(run, name) for name in wanted.models]
    found: Others = {}
    for path in paths:
        name = _name(path)
        try:
            generator = load_generator(path)
        except WeightsError as error:
            # With its path: two that cannot be read may have one name, and each gets its row.
            found[f"{name} ({path})"] = reason(error)
            continue
        scale = scale_of(generator)
        if scale in (run.scale[0], 1.0):
            weights = f"{parameters(generator) / 1e6:.2g} million weights, SHA-256 {generator.sha256[:8]}"
            found[f"{name} ({generator.card.name}, {weights})"] = generator
        elif wanted.models != "beside":
            raise SettingsError(
                f"evaluate.truth.models: {name} enlarges by {scale:g}, and the table is of x{run.scale[0]:g}."
            )
    return found


def training_images(others: Others) -> set[str]:
    """SHA-256 of all files that they were trained on or chosen by: none of these is a truth that they never saw."""
    lists = (files for one in others.values() if not isinstance(one, str) for files in one.images.values())
    return {sha256 for files in lists for sha256 in files.values()}


def _name(path: Path) -> str:
    """The run of a file, and its phase; a file elsewhere has its own name."""
    if path.parts[-2:] == _FILE.parts:
        return path.parents[1].name
    if path.parts[-3:] == ("train", "content", "generator.safetensors"):
        return f"{path.parents[2].name} before the discriminator"
    return path.stem


def _path(run: Run, name: str) -> Path:
    """The file of a name: a path, or a run beside this one."""
    for path in (Path(name).expanduser(), run.folder.parent / name / _FILE):
        if path.is_file():
            return path
    raise SettingsError(
        f"evaluate.truth.models: {name} is neither a file nor a run with a generator in {run.folder.parent}."
    )
