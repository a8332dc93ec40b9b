"""Settings: strict pydantic models, how they are read from YAML, and errors that name the key."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from zssr_gan.errors import SettingsError


class StrictSettings(BaseModel):
    """A group of settings: frozen, and nothing in it is guessed."""

    # strict: text is no number and true is not 1; what a file says is what is meant.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


_Kind = TypeVar("_Kind", bound=StrictSettings)


def parse_as(kind: type[_Kind], data: object, name: str) -> _Kind:
    """Check settings that came from YAML or JSON.

    Args:
        kind: what they are to be.
        data: nested mappings.
        name: what the error message calls them.

    Raises:
        SettingsError: names the first key that is unknown or wrong, and why.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # pydantic names a union's chosen branch in the path; a user's file has no such key.
        key = ".".join(str(part) for part in first["loc"] if part not in ("slope", "cosine"))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise SettingsError(f"{name}: {key}{': ' if key else ''}{_why(first)}{more}") from error


_KINDS: dict[type, str] = {
    **{list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"},
    type(None): "nothing",
}
"""What a user calls the values that YAML makes of a file."""


def _why(error: ErrorDetails) -> str:
    """Why a value is refused, in words of a user's file where pydantic's are those of Python."""
    context = error.get("ctx", {})
    kind = str(context.get("discriminator", "")).strip("'")
    match error["type"]:
        case "model_type" | "model_attributes_type":
            given = _KINDS.get(type(error["input"]), "another value")
            return f"a mapping of settings (key: value) is needed, not {given}"
        case "union_tag_invalid":
            return f"{kind} is {context['expected_tags'].replace(', ', ' or ')}"
        case "union_tag_not_found":
            return f"{kind} is missing"
        case "extra_forbidden":
            return "there is no such setting"
        case _:
            return must_be(error)


def read_preset(name: str, known: Sequence[str]) -> object:
    """What a preset's YAML holds: by its name, or that of a file.

    Raises:
        SettingsError: neither one of the presets `known` nor a readable YAML file.
    """
    if name in known:
        return read_yaml(resources.files("zssr_gan.settings").joinpath("presets", f"{name}.yaml").read_text("utf-8"))
    path = Path(name)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise SettingsError(f"no preset is called {name!r}: choose {', '.join(known)}, or give a .yaml file")
    try:
        data = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{name}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # also bytes that are not UTF-8
        raise SettingsError(f"{name}: is not valid YAML ({error})") from error
    return {} if data is None else data


_MUST = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "missing": "is missing",
}
"""Kinds of pydantic's errors in a user's words."""


def must_be(error: ErrorDetails) -> str:
    """What a value must be, and what it is instead."""
    context, value = error.get("ctx", {}), error["input"]
    match error["type"]:
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
    number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", value)
    if number and error["type"] in ("float_type", "int_type"):
        return f"{why}, and {value!r} is text in YAML: write it without quotes and with a dot, as 1.0e-4"
    return f"{why}, not {'null' if value is None else repr(value)}"


class _Loader(yaml.SafeLoader):
    """YAML in which no key of a mapping stands twice: the last would count, and the other be lost unseen."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in keys:
                raise yaml.MarkedYAMLError(problem=f"{key.value} stands there twice", problem_mark=key.start_mark)
            keys.add((key.tag, key.value))
        return node


def read_yaml(text: str) -> Any:
    """What a text in YAML says; a key that stands twice in one mapping is an error.

    Raises:
        ValueError: not YAML; its words say why, and the line where that is known.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except RecursionError:
        raise ValueError("its lists or mappings are nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"line {mark.line + 1}: {words}" if mark is not None else str(words)) from error


class Settings(BaseModel):
    """A group of settings."""

    # strict: text is no number and true is not 1; what a file says is what is meant.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
