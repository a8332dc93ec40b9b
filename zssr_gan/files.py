"""Hashes, atomic writes and locks.

A file is whole or absent: its bytes go to a hidden temporary file beside it, are flushed to the disk, and then get its
name. A kill in between leaves the hidden file and nothing else.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import filelock

from zssr_gan.errors import ImageError, OutputError, ZssrGanError

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
    errno.EEXIST: "a part of its path is a file, not a folder",  # says mkdir
    errno.EISDIR: "it is a folder",
    errno.EFBIG: "the file is larger than is allowed there",
    errno.ENAMETOOLONG: "its name is too long for this disk",
}


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in constant memory. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_unchanged(path: Path, sha256: str) -> None:
    """ImageError where a file that was read with the hash `sha256` has another by now, or is gone."""
    with contextlib.suppress(OSError):
        if sha256_file(path) == sha256:
            return
    raise ImageError(f"{path}: the file was changed while it was worked on: run it again")


def canonical_sha256(value: object) -> str:
    """SHA-256 of a JSON value with sorted keys and without blanks, so that the layout of a file does not matter."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def json_keys(path: Path) -> frozenset[str]:
    """The keys of the JSON object in a file, by which kinds of records differ; none where it holds no such object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return frozenset()
    return frozenset(content) if isinstance(content, dict) else frozenset()


def with_checksum(data: bytes) -> bytes:
    """Prefix `data` with a line of its SHA-256, so that corruption is detected on read."""
    return f"{sha256_bytes(data)}\n".encode() + data


def without_checksum(data: bytes) -> bytes:
    """Remove what `with_checksum` added. Raises ValueError where the content has another hash."""
    digest, _, content = data.partition(b"\n")
    if digest != sha256_bytes(content).encode():
        raise ValueError("is damaged: its hash is another")
    return content


def atomic_write(path: Path, data: bytes | Iterable[bytes], *, overwrite: bool = False) -> None:
    """Write `data`, or its pieces one by one, to `path`; missing folders are made.

    Raises:
        OutputError: the file exists (also if it appears while we write) and `overwrite` is not set, or the disk
            refuses. After any failure, an interrupt included, no part of the new file is left.
    """
    write_together({path: data}, replaceable=[path] if overwrite else [])


def write_together(contents: Mapping[Path, bytes | Iterable[bytes]], *, replaceable: Collection[Path] = ()) -> None:
    """Write files that belong together; see `atomic_write`.

    All bytes are on the disk before the first file gets its name. Names are given in the order of `contents`, so the
    file that vouches for the others comes last.

    Args:
        contents: the bytes of each file, or their pieces.
        replaceable: files that may exist already.

    Raises:
        OutputError: another one exists, or the disk refuses.
    """
    temporary: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            with as_output_error(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "is a folder")
                if path.exists() and path not in replaceable:
                    raise _exists(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                # The target's name may already be as long as the disk allows.
                temporary[path] = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}.tmp"
            _write_through(temporary[path], data, path)
        for path, written in temporary.items():
            with as_output_error(path):
                _rename(written, path, replace=path in replaceable)
    finally:
        for written in temporary.values():
            written.unlink(missing_ok=True)
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece, which gets its name once the block has ended; see `atomic_write`."""
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}.tmp"
    try:
        with as_output_error(path):
            if path.exists():
                raise _exists(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("xb")
        try:
            yield file
            with as_output_error(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                file.close()
        with as_output_error(path):
            _rename(temporary, path, replace=False)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlive a power cut, where the system can; the contents are on the disk already."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_leftover(path: Path) -> bool:
    """Whether a file is the temporary file of a write that was killed."""
    return path.name.startswith(_TEMPORARY) and path.suffix == ".tmp"


@contextlib.contextmanager
def locked(path: Path, held: ZssrGanError | None = None) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is made and stays; the lock ends with the process.

    Args:
        path: of the lock.
        held: raised where another process has the lock; without it, wait for the lock.

    Raises:
        OutputError: the file cannot be made, or its file system has no locks.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=held is None)
    except filelock.Timeout:
        assert held is not None
        raise held from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in _REASONS:
            raise _output_error(path, error) from error
        raise OutputError(
            f"{path}: this file system has no locks ({error}), which keep a second writer out; choose a folder on a "
            "local disk, or mount it with locks"
        ) from error
    try:
        yield
    finally:
        lock.release()


def why_unreadable(path: Path, error: OSError, what: str = "file") -> str:
    """Why a `what` cannot be opened, to follow its name: not there, a link to nothing, the system's words."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and path.is_symlink():
        return f"is {'a loop of links' if error.errno == errno.ELOOP else 'a broken link'} (to {path.readlink()})"
    if error.errno == errno.ENOENT:
        return f"no such {what}" + ("" if path.is_absolute() else f" in the working directory {Path.cwd()}")
    return f"cannot be read ({error.strerror or error})"


def relative_path(target: Path, folder: Path) -> str:
    """`target` relative to `folder`, with forward slashes; absolute where no relative path exists (another drive)."""
    # Symbolic links are followed up to the file's own name, since ".." climbs the real folders.
    resolved = target.parent.resolve() / target.name
    try:
        return Path(os.path.relpath(resolved, folder.resolve())).as_posix()
    except ValueError:
        return resolved.as_posix()


def _write_through(temporary: Path, data: bytes | Iterable[bytes], path: Path) -> None:
    """Write a new file and wait until the disk holds it; errors of the pieces' own source pass unchanged."""
    with as_output_error(path):
        file = temporary.open("xb")
    try:
        for piece in [data] if isinstance(data, bytes) else data:
            with as_output_error(path):
                file.write(piece)
        with as_output_error(path):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):  # a full disk is reported once; after fsync nothing is left to fail
            file.close()


def _rename(temporary: Path, path: Path, *, replace: bool) -> None:
    """Give `temporary` the name `path`: a hard link refuses a name that is taken, where a rename would replace it."""
    if not replace:
        try:
            return os.link(temporary, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if path.exists():  # not free of a race, but the file still appears whole
                raise _exists(path) from None
    temporary.replace(path)
    return None


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn an OSError, libav's own among them, into an OutputError that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = _REASONS.get(error.errno or 0)
    words = f" ({error.strerror or error}); choose another folder" if reason is None else f", because {reason}"
    return OutputError(f"{path}: cannot be written{words}.")


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path}: exists already and is kept; allow overwriting or choose another name.")
