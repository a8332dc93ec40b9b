"""A worker as a process of its own: `main(["FOLDER OF CASES", "DEVICE", "PATIENCE"])`."""

from collections.abc import Sequence
from pathlib import Path

from zssr_gan.cli.main import main as command
from zssr_gan.errors import ZssrGanError
from zssr_gan.web.worker import run


def main(words: Sequence[str]) -> int:
    try:
        run(Path(words[0]), words[1] if words[1:] else "cpu", command, float(words[2]) if words[2:] else 15)
    except ZssrGanError as error:
        print(error)  # noqa: T201
        return 2
    return 0
