"""Frames that are done, in one hidden file that only grows: a run that was killed goes on from there.

An entry is a line of JSON with the length and the SHA-256 of the bytes that follow it. The first says what the run is;
what a kill has cut off at the end is removed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zssr_gan.errors import OutputError
from zssr_gan.files import sha256_bytes

Entry = tuple[dict[str, Any], bytes]


class Journal:
    """The file of one run; entries before the present run are read from it, later ones are appended.

    Raises OutputError where the disk refuses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        """Entries that have a `row`."""
        end = 0
        for facts, _, at in self._read():
            self.frames += "row" in facts
            end = at
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(end)
        except OSError as error:
            raise _refused(path, error) from error

    def append(self, facts: dict[str, Any], data: bytes = b"") -> None:
        """Add an entry; facts are JSON values."""
        line = json.dumps({"bytes": len(data), "sha256_of_bytes": sha256_bytes(data), **facts})
        try:
            self._file.write(line.encode() + b"\n" + data)
            self._file.flush()
        except OSError as error:
            raise _refused(self.path, error) from error
        self.frames += "row" in facts

    def clear(self) -> None:
        """Remove all entries."""
        self._file.truncate(0)
        self.frames = 0

    def entries(self) -> Iterator[Entry]:
        """All entries, from the first."""
        for facts, data, _ in self._read():
            yield facts, data

    def close(self) -> None:
        """Close the file, which stays if it has an entry."""
        self._file.close()
        if not self.path.stat().st_size:
            self.path.unlink()

    def _read(self) -> Iterator[tuple[dict[str, Any], bytes, int]]:
        """Whole entries, and where each ends."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            while (line := file.readline()).endswith(b"\n"):
                try:
                    facts = json.loads(line)
                    data = file.read(facts.pop("bytes"))
                    whole = sha256_bytes(data) == facts.pop("sha256_of_bytes")
                except (ValueError, KeyError, TypeError, AttributeError):
                    return
                if not whole:
                    return
                yield facts, data, file.tell()


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path.parent}: takes no more of this video's frames ({error.strerror}); make room, or choose "
                       "another folder: the same command then goes on from there.")  # fmt: skip
