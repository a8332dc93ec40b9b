"""YAML as people write it: read strictly, and its mistakes said in their words, not in those of Python or pydantic."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic_core import ErrorDetails

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
