"""What was read of files, until they change."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

_MOST = 2000


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from a changed one: inode, time of the last change in ns, size; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_stored(path: Path | None) -> Any:
    """The JSON of a file of the cache; None where there is none, or a power cut took its bytes."""
    try:
        return None if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


class Memo:
    """Values by key, each good for as long as its stamp is the same; the ones used longest ago are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, stamp: Hashable, make: Callable[[], _T]) -> _T:
        """The value of `key`, made where it is not there with this stamp; by one thread while others wait."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                known = self._values.get(key)
                if known is not None and known[0] == stamp:
                    self._values.move_to_end(key)
                    value: _T = known[1]
                    return value
            try:
                value = make()
            except BaseException:
                with self._lock:
                    self._making.pop(key, None)
                raise
            with self._lock:
                self._values[key] = stamp, value
                if len(self._values) > _MOST:
                    old, _ = self._values.popitem(last=False)
                    self._making.pop(old, None)
            return value
