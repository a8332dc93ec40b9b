"""The file of a SQLite database: a connection for each thread, and transactions that outlive a power cut."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from zssr_gan.errors import OutputError
from zssr_gan.files import sync_folder

_BUSY_S = 30.0
_DAMAGED = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BESIDE = ("-wal", "-shm")


class Database:
    """A database in WAL mode, for use by several threads and processes.

    Args:
        path: of the file, which is made.
        schema: statements that make what is missing, separated by `;`.

    Raises:
        OutputError: it cannot be written, or is no such database.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path, self._connections = path, threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.writing() as db:
            for statement in schema.split(";"):
                db.execute(statement)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        if not hasattr(self._connections, "db"):
            try:
                db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
                db.execute("pragma journal_mode = wal")
            except sqlite3.Error as error:
                raise self._refused(error) from error
            self._connections.db = db
        connection: sqlite3.Connection = self._connections.db
        return connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, which ends on the disk unless not `durable`."""
        db = self.connection
        try:
            db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> OutputError:
        mend = "make room there, or allow writing"
        if _is_damage(error):
            mend = "start 'zssr-gan web' again, which makes a new one from the logs of the cases"
        return OutputError(f"{self._path}: the queue cannot be used ({error}); {mend}.")


def set_aside_damaged(path: Path, query: str) -> Path | None:
    """Rename a database that is damaged, with the files beside it; nobody may have it open.

    Args:
        path: of the file.
        query: that a sound one answers.

    Returns:
        The new path, `NAME-damaged-DATE-TIME.sqlite`; None where the file is sound, missing or empty.

    Raises:
        OutputError: it cannot be renamed.
    """
    beside = [path.with_name(path.name + ending) for ending in _BESIDE]
    try:
        if not path.exists() or path.stat().st_size == 0:
            for file in beside:  # of a database that is gone
                file.unlink(missing_ok=True)
            return None
        if _is_sound(path, query):
            return None
        target = path.with_stem(f"{path.stem}-damaged-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
        path.rename(target)
        for file, ending in zip(beside, _BESIDE, strict=True):
            if file.exists():
                file.rename(target.with_name(target.name + ending))
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: is damaged and cannot be moved away ({error.strerror}); do so.") from error
    return target


def _is_sound(path: Path, query: str) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as db:
            if not db.execute("select 1 from sqlite_master").fetchone():
                return True  # a kill came before the schema
            db.execute(query).fetchone()
            return bool(db.execute("pragma quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error as error:
        return not _is_damage(error)  # else opening it says what is wrong


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is to blame: it is cut short, holds other bytes, or has other columns."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGED
