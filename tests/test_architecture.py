"""Dependencies go one way: a module imports its own room and those before it in ORDER, and there are no circles."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    *("errors", "seeds", "signals", "progress", "files", "provenance", "devices", "distributed"),
    *("settings", "imaging", "ops", "degradation", "networks", "zeroshot", "data", "training", "inference", "video"),
    *("evaluation", "web", "cli", "__init__", "__main__"),
]
SETTINGS_MAY_NOT = {"torch", "numpy"}
EXTRAS = {"skimage", "torchmetrics", "tensorboard", "jinja2", "pillow_heif", "av"}
"""Imported where they are used: a module imports without them, and names the extra."""
EXTRAS_OF = {"web": {"starlette", "uvicorn"}}
"""What a room imports at once: whoever imports those modules of it looks first whether the extra is there."""


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


Modules = dict[str, ast.Module]


@pytest.fixture(scope="module")
def modules() -> Modules:
    """The package's, parsed."""
    return {module_name(file): ast.parse(file.read_text("utf-8")) for file in (ROOT / "zssr_gan").rglob("*.py")}


def imports(nodes: "list[ast.stmt] | ast.Module", modules: Modules) -> set[str]:
    """Full names of what is imported; `from a import b` is a.b where that is a module."""
    found = set()
    for node in nodes if isinstance(nodes, list) else ast.walk(nodes):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in full}
    return found


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def test_imports_go_one_way(modules: Modules) -> None:
    for module, tree in modules.items():
        found = imports(tree, modules)
        later = {name for name in found & modules.keys() if ORDER.index(room(name)) > ORDER.index(room(module))}
        assert not later, module
        top_level = {name.split(".")[0] for name in imports(tree.body, modules)}
        everywhere = {name.split(".")[0] for name in found}
        extras = EXTRAS.union(*(names for of, names in EXTRAS_OF.items() if of != room(module)))
        assert not top_level & extras, module
        assert not everywhere & {"pipelines", "benchmarks", "tests"}, module
        assert room(module) != "settings" or not everywhere & SETTINGS_MAY_NOT, module
        assert not set(module.split(".")) & {"utils", "util", "helpers", "common", "misc"}


def test_modules_are_short_and_have_rooms() -> None:
    files = [file for folder in ("zssr_gan", "pipelines", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    lines = {file.relative_to(ROOT): len(file.read_text("utf-8").splitlines()) for file in files}
    assert not {file: count for file, count in lines.items() if count > 350}
    assert {file.stem for file in (ROOT / "zssr_gan").glob("*.py")} <= set(ORDER)


def test_image_files_are_read_within_a_limit_of_bytes(modules: Modules) -> None:
    """What decodes pictures reads no file by itself: `read_image_bytes` knows how large one may be."""
    for module, tree in modules.items():
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        decodes = any(isinstance(one, ast.Name) and one.id == "decode_picture" for one in called)
        reads = any(isinstance(one, ast.Attribute) and one.attr == "read_bytes" for one in called)
        assert not (decodes and reads) or module == "zssr_gan.imaging.io", module


def test_there_are_no_circles(modules: Modules) -> None:
    order = graphlib.TopologicalSorter({name: imports(tree, modules) - {name} for name, tree in modules.items()})
    order.prepare()  # raises CycleError, which names the circle
