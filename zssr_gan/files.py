"""The disk, touched with care: hashes, writes that are whole or absent, and locks.

A reader of a folder never meets half a file: bytes go to a hidden temporary file beside the target, are flushed to the
disk, and only then get the target's name. A kill in between leaves the hidden file and nothing else.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from zssr_gan.errors import OutputError

# What a file system without hard links (FAT, some network shares) answers to os.link.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}

_TEMPORARY = ".zssr-gan-"

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "its name is too long for this disk",
}


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sealed(data: bytes) -> bytes:
    """Data below a line with its own hash: one changed byte would be believed."""
    return f"{sha256_bytes(data)}\n".encode() + data


def unsealed(data: bytes) -> bytes:
    """What `sealed` was given. Raises ValueError where it is not whole."""
    told, _, content = data.partition(b"\n")
    if told != sha256_bytes(content).encode():
        raise ValueError("is damaged: its hash is another")
    return content


def canonical_sha256(value: object) -> str:
    """SHA-256 of a JSON value: keys sorted, no blanks, so that the hash does not hang on how a file is laid out."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_bytes(text.encode())


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hexadecimal digits, in memory that does not grow with the file.

    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` to `path` so that the file is whole or absent, whatever happens; missing folders are made.

    Raises OutputError where the file exists and `overwrite` is not set (also if it appears while we write), and where
    the disk refuses. The temporary file is removed on every failure, an interrupt included.
    """
    write_together({path: data}, replaceable=[path] if overwrite else [])


def write_together(contents: Mapping[Path, bytes], *, replaceable: Collection[Path] = ()) -> None:
    """Write files that belong together: all of them, or none, and then what was there before is there still.

    All bytes are on the disk before the first file gets its name; names are given in the order of `contents`, so the
    file that vouches for the others comes last. Only a kill between two names leaves some of them new.

    Args:
        contents: what each file shall hold; missing folders are made.
        replaceable: those that may exist already.

    Raises:
        OutputError: another one exists (also if it appears while we write), or the disk refuses.
    """
    hidden: list[Path] = []
    ready: list[tuple[Path, Path]] = []
    named: list[tuple[Path, Path | None]] = []
    try:
        for path, data in contents.items():
            with _refusals(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "is a folder")
                if path not in replaceable and path.exists():
                    raise _exists(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                ready.append((path, _temporary_beside(path, hidden)))
                _write_through(ready[-1][1], data)
        for place, (path, temporary) in enumerate(ready):
            with _refusals(path):
                if path not in replaceable:
                    _rename_to_free_name(temporary, path)
                    old = None
                else:
                    # After the last name nothing can fail any more.
                    last = place == len(ready) - 1
                    old = None if last or not path.exists() else _keep_aside(path, hidden)
                    temporary.replace(path)
            named.append((path, old))
    except BaseException:
        for path, old in reversed(named):
            if old is None:
                path.unlink(missing_ok=True)
            else:
                hidden.remove(old)  # were it refused its name, it must at least stay
                old.replace(path)
        raise
    finally:
        for path in hidden:
            path.unlink(missing_ok=True)
    for folder in {path.parent for path in contents}:
        _flush_folder(folder)


@contextlib.contextmanager
def write_in_pieces(path: Path, *, overwrite: bool = False) -> Iterator[Callable[[bytes], None]]:
    """For what is too large for memory: the block writes piece after piece with the function that it is given.

    The file gets its name when the block ends well; an error in it, an interrupt included, leaves nothing behind.
    Missing folders are made.

    Raises:
        OutputError: the file exists and `overwrite` is not set (also if it appears meanwhile), or the disk refuses.
    """
    hidden: list[Path] = []
    try:
        with _refusals(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            if path.exists() and not overwrite:
                raise _exists(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _temporary_beside(path, hidden).open("xb")

        def write(piece: bytes) -> None:
            with _refusals(path):
                file.write(piece)

        try:
            yield write
            with _refusals(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):  # a full disk is told once; after fsync nothing is left to fail
                file.close()
        with _refusals(path):
            if overwrite:
                hidden[0].replace(path)
            else:
                _rename_to_free_name(hidden[0], path)
    finally:
        for left in hidden:
            left.unlink(missing_ok=True)
    _flush_folder(path.parent)


def is_leftover(path: Path) -> bool:
    """Whether a file is what a write leaves where it is killed in its middle."""
    return path.name.startswith(_TEMPORARY) and path.suffix == ".tmp"


class FileLock:
    """An exclusive lock on a file (flock), which ends with the process that holds it, however that ends.

    A process that is forked off does not share it: it would keep the lock after its parent's death. Beside the lock
    the file means nothing; it stays, since removing it would let two processes lock two files of one name.
    Used as a context manager, it waits until it has the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock, making the file and its folders where they are missing; False where another holds it.

        Raises OutputError where the system or the file system has no such locks, or the file cannot be made.
        """
        if sys.platform == "win32":
            raise OutputError(
                f"{self.path}: this system has no flock, which keeps a second writer out; use Linux or WSL."
            )
        import fcntl

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _refusal(self.path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise OutputError(
                f"{self.path}: this file system has no locks (flock: {error.strerror}), which keep a second writer "
                "out; choose a folder on a local disk, or mount it with locks."
            ) from error
        self._descriptor = descriptor
        _locked.add(descriptor)
        return True

    def release(self) -> None:
        """Give the lock back; without one, nothing happens."""
        # After a fork the child's number may belong to another file by now, and is in the set no more.
        if sys.platform != "win32" and self._descriptor in _locked:
            import fcntl

            _locked.discard(self._descriptor)
            # Closing alone leaves the lock to a child that is just being forked.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire(wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_locked: set[int] = set()


def _leave_locks_to_the_parent() -> None:
    for descriptor in _locked:
        os.close(descriptor)  # the parent's own keeps the lock
    _locked.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the disk says of one file, as a sentence that names it."""
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from error


def _temporary_beside(path: Path, hidden: list[Path]) -> Path:
    # The name does not contain the target's: that may already be as long as the disk allows.
    hidden.append(path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}.tmp")
    return hidden[-1]


def _keep_aside(path: Path, hidden: list[Path]) -> Path:
    """A second, hidden name for a file that is about to be replaced."""
    aside = _temporary_beside(path, hidden)
    try:
        os.link(path, aside)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        shutil.copy2(path, aside)
    return aside


def _refusal(path: Path, error: OSError) -> OutputError:
    # mkdir says "exists" where a parent is a file.
    code = errno.ENOTDIR if isinstance(error, FileExistsError) else error.errno or 0
    reason = _REASONS.get(code, error.strerror or str(error))
    return OutputError(f"{path}: cannot be written, because {reason}.")


def _write_through(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk holds it."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _rename_to_free_name(temporary: Path, path: Path) -> None:
    """Give `temporary` the name `path` unless that is taken: a hard link then refuses, where a rename would replace."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Not free of a race, but the file still appears whole.
        if path.exists():
            raise _exists(path) from None
        temporary.replace(path)


def _flush_folder(folder: Path) -> None:
    """Make the new name outlive a power cut, where the system can; the file itself is already safe."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path}: exists already and is kept; allow overwriting or choose another name.")


def relative_path(target: Path, folder: Path) -> str:
    """`target` as seen from `folder`, with forward slashes; absolute where no relative way exists (another drive)."""
    # Symbolic links are followed up to the file's own name, since ".." climbs the real folders.
    whole = target.parent.resolve() / target.name
    try:
        return Path(os.path.relpath(whole, folder.resolve())).as_posix()
    except ValueError:
        return whole.as_posix()
