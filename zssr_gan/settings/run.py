"""A whole run: what its `configs/*.yaml` holds, read with the changes of `--set`."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from zssr_gan.errors import SettingsError
from zssr_gan.settings.base import Settings, must_be, read_yaml
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
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


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
    try:
        data = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:  # also bytes that are not UTF-8
        raise SettingsError(f"{path}: is not valid YAML ({error}).") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: holds no settings: lines such as 'seed: 0' belong there.")
    block = data.pop("small", None)
    if block is not None and not isinstance(block, dict):
        raise SettingsError(f"{path}: small: must be a group of settings, such as 'train: {{epochs: 2}}'.")
    if small and block is None:
        raise SettingsError(f"{path}: has no block 'small', which --small takes: leave --small (SMALL=1) out.")
    reduced = None if block is None else _reduced(data, block, path)
    if small:
        assert reduced is not None
        return _validated(reduced, changes, str(path))
    settings = _validated(data, changes, str(path))
    if reduced is not None:
        _validated(reduced, [], f"{path}: small", tried=changes)
    return settings


def _reduced(data: Mapping[str, Any], block: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Settings with those of the block `small` over them, and a folder of their own."""
    run_dir = data.get("run_dir")
    folder = Path("runs") / path.stem if run_dir is None else run_dir
    merged = _merged(data, {"run_dir": f"{folder}-small", **block})
    assert isinstance(merged, dict)
    return merged


def _merged(under: Any, over: Any) -> Any:
    """Mappings key by key, copied; anything else is replaced."""
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return copy.deepcopy(over)
    kept = {key: copy.deepcopy(value) for key, value in under.items() if key not in over}
    return kept | {key: _merged(under.get(key), value) for key, value in over.items()}


def _validated(data: dict[str, Any], changes: Sequence[str], name: str, tried: Sequence[str] = ()) -> RunSettings:
    """Settings of changed data; `name` opens every message. Changes that are only `tried` may not fit."""
    for change in changes:
        _change(data, change)
    for change in tried:
        with suppress(SettingsError):
            _change(data, change)
    try:
        return RunSettings.model_validate(data)
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise SettingsError(f"{name}: {_plainly(error.errors(include_url=False)[0])}{more}.") from error


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


def _plainly(error: ErrorDetails) -> str:
    """pydantic's first complaint in a user's words, the key first."""
    key = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such setting"
    if error["type"] == "missing":
        return f"{key}: is missing"
    if error["type"] == "model_type":
        return f"{key}: must be a group of settings"
    return f"{key}: {must_be(error)}"
