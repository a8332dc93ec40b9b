"""A whole run: what its `configs/*.yaml` holds, read with the changes of `--set`."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field

from zssr_gan.errors import SettingsError
from zssr_gan.settings.base import Settings, merged, parse, read_yaml, read_yaml_file, write_yaml
from zssr_gan.settings.data import DataSettings
from zssr_gan.settings.evaluate import EvaluateSettings
from zssr_gan.settings.synth import SynthSettings
from zssr_gan.settings.train import TrainSettings


class RunSettings(Settings):
    """A whole run: what its `configs/*.yaml` holds."""

    description: str = ""
    """One line for a person who chooses."""
    run_dir: str | None = None
    """Folder of the run; null: runs/<name of the config file>."""
    seed: int = Field(0, ge=0)
    """Same seed, same draws."""
    data: DataSettings
    synth: SynthSettings = SynthSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @property
    def scale(self) -> float:
        """Factor per side of what is made: that of the pairs, or that of the synthetic images."""
        return self.synth.scale if self.train.pairs is None else float(self.train.pairs.scale)

    def folder(self, config: Path) -> Path:
        """The run's folder, for settings that were read from the file `config`."""
        return Path("runs") / config.stem if self.run_dir is None else Path(self.run_dir).expanduser()

    def as_yaml(self, config: Path) -> str:
        """All settings, defaults filled in, as YAML that `load_run` reads back; `config` gives the run's folder."""
        data = {**self.model_dump(mode="json"), "run_dir": str(self.folder(config))}
        return write_yaml(data)


def load_run(path: Path, changes: Sequence[str] = (), *, small: bool = False) -> RunSettings:
    """Settings from a YAML file with changes put in.

    A file may have a block `small`: settings that replace others for a run that is over in minutes on two cores. Groups
    are merged key by key, lists are replaced, and the run's folder is called `...-small`, if the block names none.

    Args:
        path: the file.
        changes: "a.b=value", the value read as YAML; "data.sources.0.root=faces" reaches into a list.
        small: take the block; else it is only checked.

    Raises:
        SettingsError: names the file or the change, the key, and what is wrong with it; there is no block `small`.
    """
    data = read_yaml_file(path)
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: holds no settings: lines such as 'seed: 0' belong there.")
    block = data.pop("small", None)
    if block is not None and not isinstance(block, dict):
        raise SettingsError(f"{path}: small: must be a group of settings, such as 'train: {{epochs: 2}}'.")
    if block is None:
        if small:
            raise SettingsError(f"{path}: has no block 'small', which --small takes: leave --small (SMALL=1) out.")
        return _changed(data, changes, str(path))
    folder = Path("runs") / path.stem if data.get("run_dir") is None else data["run_dir"]
    reduced = merged(data, {"run_dir": f"{folder}-small", **block})
    if small:
        return _changed(reduced, changes, str(path))
    settings = _changed(data, changes, str(path))
    for change in changes:  # that fit the whole run may not fit the block
        with suppress(SettingsError):
            _change(reduced, change)
    parse(RunSettings, reduced, f"{path}: small")
    return settings


def _changed(data: dict[str, Any], changes: Sequence[str], name: str) -> RunSettings:
    """Settings of changed data; `name` opens every message."""
    for change in changes:
        _change(data, change)
    return parse(RunSettings, data, name)


def _change(data: dict[str, Any], change: str) -> None:
    """Put one "a.b=value" into nested mappings and lists."""
    key, equals, text = change.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SettingsError(f"--set {change}: is not of the form key=value, such as data.size=32.")
    try:
        value = read_yaml(text)
    except ValueError as error:
        raise SettingsError(f"--set {change}: the value is not valid YAML ({error}).") from error
    node: Any = data
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                place = ".".join(parts[:depth])
                raise SettingsError(f"--set {change}: {place} is a list of {len(node)}, counted from 0.")
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
            if not last and node.get(part) is None:
                node[part] = {}
        else:
            raise SettingsError(f"--set {change}: {'.'.join(parts[:depth])} is one value and has no {part}.")
        if last:
            node[index] = value
        node = node[index]
