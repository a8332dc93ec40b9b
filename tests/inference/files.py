"""What the tests of files share: settings that take a moment, and a look into records."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zssr_gan.inference.verify import verify_record

TINY = {
    "network": {"depth": 2, "width": 4},
    "schedule": {"kind": "cosine", "iterations": 3},
    "refinement": {"back_projections": 1},
}


def timeless(value: object) -> object:
    """A record's JSON without times and durations."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in ("times", "seconds")}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def failed(path: Path, *, rerun: bool = False) -> dict[str, str]:
    """What verifying a record finds wrong, by the names of the checks."""
    return {check.name: check.text for check in verify_record(path, rerun=rerun).checks if not check.ok}


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the JSON of a record."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    return path
