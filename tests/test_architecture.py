"""Who may import whom: data and dependencies go one way, the top is imported by nothing, and there are no circles."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "zssr_gan"

# Bottom to top. A room may import its own modules and the rooms that it names, nothing else of ours. A room's rule
# comes with the room: a rule for what is not there yet would be a guess that nobody checks.
GROUND = {"errors", "files", "plain_yaml", "config", "stages", "networks"}
MIDDLE = GROUND | {"imaging", "distributed", "devices"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "plain_yaml": set(),
    "config": {"errors", "plain_yaml"},
    "stages": {"errors", "plain_yaml"},
    "networks": {"errors"},
    "imaging": GROUND,
    "distributed": {"errors"},
    "weights": {"errors", "files", "networks"},
    "record": MIDDLE,
    "zeroshot": MIDDLE | {"record"},
    "data": MIDDLE | {"record", "zeroshot", "interrupts"},
    "training": MIDDLE | {"record", "weights", "zeroshot", "data", "interrupts"},
    "evaluation": MIDDLE | {"record", "weights", "training"},
    "devices": {"errors"},
    "generator_settings": {"errors", "config"},
    "generative": MIDDLE | {"generator_settings", "zeroshot", "training"},
    "finishing": MIDDLE | {"record", "zeroshot"},
    "enhancement": MIDDLE | {"finishing", "record", "zeroshot", "training", "generator_settings", "generative"},
    "__init__": {"config", "errors", "enhancement", "training"},
    # What the command stands on: files in, files out, and what a person sees.
    "environment": {"devices", "weights"},
    "interrupts": {"errors"},
    "naming": {"errors", "record"},
    "display": {"enhancement"},
    "talk": {"errors", "interrupts", "display", "enhancement"},
    "comparison": MIDDLE | {"record", "enhancement", "naming"},
    "export": MIDDLE | {"record", "data", "naming"},
    "kept": MIDDLE | {"record", "zeroshot", "training"},
    "request": MIDDLE | {"record", "zeroshot", "generator_settings", "generative", "enhancement", "naming", "kept"},
    "stream": set(),
    "outcome": {"naming", "record"},
    "jobs": MIDDLE
    | {"record", "generator_settings", "generative", "enhancement", "naming", "interrupts", "kept", "request", "stream"}
    | {"outcome"},
    "estimates": MIDDLE | {"record", "zeroshot"},
    "cases": MIDDLE | {"record", "zeroshot", "enhancement", "naming", "interrupts", "kept", "request", "estimates"},
    "rerun": MIDDLE | {"record", "zeroshot", "training", "generator_settings", "enhancement", "kept", "jobs"},
    "side_by_side": MIDDLE
    | {"record", "generative", "enhancement", "naming", "interrupts", "request", "outcome", "jobs", "comparison"},
    "verification": MIDDLE | {"record", "zeroshot", "training", "enhancement", "kept", "rerun"},
    "shown_run": {
        *("errors", "zeroshot", "enhancement", "interrupts", "naming", "display", "comparison", "request", "jobs"),
        *("record", "kept", "cases", "degradation_cli", "outcome"),
    },
    "compare_cli": {"errors", "devices", "record", "talk", "display", "naming", "side_by_side"},
    "degradation_cli": {"errors", "zeroshot", "interrupts", "talk", "display", "naming", "estimates"},
    "store_cli": {"errors", "data", "talk", "display", "export"},
    "weights_cli": {"errors", "weights", "talk", "display"},
    "model_cli": {"errors", "training", "display"},
    "cli": {
        *("errors", "enhancement", "environment", "interrupts"),
        *(
            "naming",
            "display",
            "request",
            "shown_run",
            "verification",
            "store_cli",
            "compare_cli",
            "degradation_cli",
            "weights_cli",
            "model_cli",
        ),
    },
    "__main__": {"cli"},
}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """'zssr_gan.imaging.codecs' -> 'imaging'; the package itself -> '__init__'."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def imports(module: str) -> frozenset[str]:
    """Full names of what a module imports, inside functions too; `from a import b` is a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are written in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else str(node.module))
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name in MODULES and name != module}


ROOMS = {room(module) for module in MODULES}


def test_every_room_has_a_rule() -> None:
    new = sorted(ROOMS - set(MAY_IMPORT))
    assert not new, f"no rule for {', '.join(new)}: say in MAY_IMPORT what it may import, and in whose rules it stands"


def test_every_rule_has_its_room() -> None:
    named = set(MAY_IMPORT).union(*MAY_IMPORT.values())
    gone = sorted(named - ROOMS)
    assert not gone, f"rules name {', '.join(gone)}, which zssr_gan/ does not have: a rule comes and goes with its room"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    # A room without a rule fails once, in the test above, and not once more for each of its modules.
    allowed = MAY_IMPORT.get(room(module), ROOMS) | {room(module)}
    wrong = {name for name in ours(module) if room(name) not in allowed}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


@pytest.mark.parametrize("module", MODULES)
def test_the_library_does_not_reach_into_the_checkout(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & {"pipelines", "benchmarks", "tests"}


@pytest.mark.parametrize("module", MODULES)
def test_extras_are_imported_where_they_are_used(module: str) -> None:
    """Not at the top of a file: who has not installed them must be able to import it, and be told."""
    top = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & {"skimage", "torchmetrics", "tensorboard", "jinja2"}


@pytest.mark.parametrize("module", ["zssr_gan.config", *(name for name in MODULES if room(name) == "stages")])
def test_settings_know_no_torch(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & {"torch", "numpy"}


def test_there_are_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(ours(module)):
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_no_catch_all_modules(module: str) -> None:
    assert not set(module.split(".")) & {"utils", "util", "helpers", "common", "misc"}
