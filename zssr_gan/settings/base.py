"""The base of all settings, how they are read from YAML 1.2, merged and checked, and errors that name the key."""

import copy
import io
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from zssr_gan.errors import SettingsError
from zssr_gan.files import why_unreadable


class Settings(BaseModel):
    """A group of settings: frozen, unknown keys are refused, and nothing in it is guessed."""

    # strict: text is no number and true is not 1; what a file says is what is meant.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


_Group = TypeVar("_Group", bound=Settings)

_UNION_TAGS = ("slope", "cosine")  # pydantic names a union's chosen branch in the path; a user's file has no such key

_RENAMED = {"guide": "reference", "turns": "alternation"}
"""Keys of earlier versions, and what they are called now."""

_YAML_KINDS: dict[type, str] = {
    **{list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"},
    type(None): "nothing",
}

_MUST = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}


def parse(kind: type[_Group], data: object, name: str) -> _Group:
    """Check settings that came from YAML or JSON.

    Args:
        kind: what they are to be.
        data: nested mappings.
        name: what the error message calls them.

    Raises:
        SettingsError: names all unknown keys, each with the nearest known one, or the first that is wrong, and why.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise SettingsError(f"{name}: {explain(kind, error)}.") from error


def explain(kind: type[Settings], error: ValidationError) -> str:
    """Why settings are none of a kind: its unknown keys, or the first that is wrong, in words of a user's file."""
    found = error.errors(include_url=False)
    named = [one for one in found if one["type"] == "extra_forbidden"] or found[:1]
    texts = []
    for one in named:
        keys = [part for part in one["loc"] if part not in _UNION_TAGS]
        near = _nearest(kind, keys) if one["type"] == "extra_forbidden" else ""
        texts.append(f"{'.'.join(map(str, keys))}{': ' if keys else ''}{_reason(one)}{near}")
    more = f" (and {len(found) - len(named)} more)" if len(found) > len(named) else ""
    return "; ".join(texts) + more


def _nearest(kind: type[BaseModel], keys: Sequence[int | str]) -> str:
    """The known key nearest to an unknown one, in brackets; nothing where none is near."""
    groups = [kind]
    for key in keys[:-1]:
        if isinstance(key, str):
            groups = [group for one in groups if key in one.model_fields
                      for group in _groups_in(one.model_fields[key].annotation)]  # fmt: skip
    if (new := _RENAMED.get(str(keys[-1]))) is not None and any(new in group.model_fields for group in groups):
        return f" (it is called {new} now)"
    near = get_close_matches(str(keys[-1]), [name for group in groups for name in group.model_fields], n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _groups_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The groups of settings that a field may hold, or a list or a mapping in it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _groups_in(part)


def _reason(error: ErrorDetails) -> str:
    """Why a value is refused, in words of a user's file where pydantic's are those of Python."""
    context, value = error.get("ctx", {}), error["input"]
    tag = str(context.get("discriminator", "")).strip("'")
    match error["type"]:
        case "model_type" | "model_attributes_type" | "dict_type":
            given = _YAML_KINDS.get(type(value), "another value")
            return f"a mapping of settings (key: value) is needed, not {given}"
        case "union_tag_invalid":
            return f"{tag} is {context['expected_tags'].replace(', ', ' or ')}"
        case "union_tag_not_found":
            return f"{tag} is missing"
        case "extra_forbidden":
            return "there is no such setting"
        case "missing":
            return "is missing"
        case "too_long":
            why = f"must have at most {context['max_length']} entries"
        case "too_short":
            why = f"must have {context['min_length']} or more entries"
        case kind:
            # pydantic's own words come before those of our checks.
            words = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            why = _MUST.get(kind, words[:1].lower() + words[1:])
    if isinstance(value, Mapping | list | tuple):
        return why
    return f"{why}, not {'null' if value is None else repr(value)}"


def merged(under: Any, over: Any) -> Any:
    """Mappings merged key by key, copied; anything else of `over` replaces what is under it."""
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return copy.deepcopy(over)
    rest = {key: copy.deepcopy(value) for key, value in under.items() if key not in over}
    return rest | {key: merged(under.get(key), value) for key, value in over.items()}


def read_preset(name: str, known: Sequence[str]) -> object:
    """What a preset's YAML holds: by its name, or that of a file.

    Raises:
        SettingsError: neither one of the presets `known` nor a readable YAML file.
    """
    if name in known:
        return read_yaml(resources.files("zssr_gan.settings").joinpath("presets", f"{name}.yaml").read_text("utf-8"))
    path = Path(name)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise SettingsError(f"no preset is called {name!r}: choose {', '.join(known)}, or give a .yaml file.")
    return read_yaml_file(path)


def read_yaml_file(path: Path) -> object:
    """What a YAML file holds; an empty one holds `{}`. Raises SettingsError where it cannot be read."""
    try:
        data = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {why_unreadable(path, error)}.") from error
    except ValueError as error:  # also bytes that are not UTF-8
        raise SettingsError(f"{path}: is not valid YAML ({error}).") from error
    return {} if data is None else data


def read_yaml(text: str) -> Any:
    """What a text in YAML 1.2 says: 1e-4 is a number, and a key that stands twice in one mapping is an error.

    Raises:
        ValueError: not YAML; its words say why, and the line where that is known.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise ValueError("its lists or mappings are nested too deeply") from None
    except MarkedYAMLError as error:
        mark, words = error.problem_mark, str(error.problem or error).splitlines()[0]
        raise ValueError(f"line {mark.line + 1}: {words}" if mark is not None else words) from error
    except (YAMLError, ValueError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def write_yaml(data: Mapping[str, Any]) -> str:
    """Nested mappings of plain values as YAML that `read_yaml` reads back."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width, yaml.allow_unicode = False, 120, True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None alone
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()
