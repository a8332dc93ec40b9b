"""Writes that are whole or absent, through interrupts, kills and disks that refuse."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import (
    atomic_write,
    locked,
    sha256_bytes,
    sha256_file,
    with_checksum,
    without_checksum,
    write_together,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_hashes(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(data)
    assert sha256_bytes(data) == sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [b"", b"\n", b"two\nlines\n"])
def test_a_checksum_notices_any_byte(data):
    whole = with_checksum(data)
    assert without_checksum(whole) == data
    for damaged in [b"", *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole)))]:
        with pytest.raises(ValueError, match="is damaged"):
            without_checksum(damaged)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_new_file_in_new_folders_is_an_ordinary_one(tmp_path):
    target = tmp_path / "a" / "b" / ("x" * 255)  # the longest name that a disk allows
    atomic_write(target, b"data")
    assert target.read_bytes() == b"data"
    assert names(target.parent) == [target.name]
    (tmp_path / "ordinary").write_bytes(b"")
    assert target.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.fixture(params=[None, errno.EPERM, errno.ENOTSUP], ids=["links", "no links", "links not supported"])
def disk(request, monkeypatch):
    """Disks with and without hard links."""

    def no_links(*_):
        raise OSError(request.param, "no hard links here")

    if request.param is not None:
        monkeypatch.setattr(os, "link", no_links)


@pytest.mark.usefixtures("disk")
def test_what_exists_is_never_replaced_unasked(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"

    def pieces() -> Iterator[bytes]:
        yield b"ours"
        (tmp_path / "late").write_bytes(b"theirs")  # another process takes the name after the first look

    with pytest.raises(OutputError, match="exists already"):
        atomic_write(tmp_path / "late", pieces())
    assert (tmp_path / "late").read_bytes() == b"theirs"
    atomic_write(target, b"new", overwrite=True)
    assert target.read_bytes() == b"new"
    atomic_write(tmp_path / "other", b"data")
    assert names(tmp_path) == ["late", "other", "x"]


def test_one_of_many_writers_wins(tmp_path):
    target = tmp_path / "x"
    outcomes = []

    def write(number):
        try:
            atomic_write(target, bytes([number]) * 100_000)
            outcomes.append(number)
        except OutputError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert target.read_bytes() == bytes(outcomes) * 100_000
    assert names(tmp_path) == ["x"]


@pytest.mark.usefixtures("disk")
def test_all_files_are_on_the_disk_before_the_first_has_its_name(tmp_path):
    old, new, last = (tmp_path / name for name in ("old", "deep/new", "last"))
    old.write_bytes(b"before")
    contents = {old: b"1", new: b"2", last: b"3"}
    with pytest.raises(OutputError, match="old: exists already"):
        write_together(contents, replaceable=[last])

    def full() -> Iterator[bytes]:
        yield b"3"
        raise OutputError("full")

    with pytest.raises(OutputError, match="full"):
        write_together(contents | {last: full()}, replaceable=contents)
    assert old.read_bytes() == b"before"
    assert names(tmp_path) == ["deep", "old"]
    assert names(tmp_path / "deep") == []
    write_together(contents, replaceable=[old])
    assert {path: path.read_bytes() for path in contents} == contents
    assert names(tmp_path) == ["deep", "last", "old"]


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), OutputError, "no permission"),
        (OSError(errno.EIO, "Input/output error"), OutputError, "Input/output error"),
        (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
    ],
)
def test_failures_leave_nothing(tmp_path, monkeypatch, failure, expected, message):
    def fail(_):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(expected, match=message):
        atomic_write(tmp_path / "x", b"data")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), KeyboardInterrupt("stopped")])
def test_an_error_of_the_source_passes_and_leaves_what_was_there(tmp_path, error):
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise error

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(type(error), match=str(error)):
        atomic_write(tmp_path / "x", pieces(), overwrite=True)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_folders_in_the_way(tmp_path):
    with pytest.raises(OutputError, match="it is a folder"):
        atomic_write(tmp_path, b"data", overwrite=True)
    (tmp_path / "file").write_bytes(b"")
    for target in ("file/x", "file/deeper/x"):
        with pytest.raises(OutputError, match="not a folder"):
            atomic_write(tmp_path / target, b"data")
    with pytest.raises(OutputError, match="name is too long"):
        atomic_write(tmp_path / ("x" * 300), b"data")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02, 0.05, 0.1])
def test_kill_in_the_middle_of_a_write(tmp_path, delay):
    """SIGKILL at any moment: the target is absent or whole, and what is left over is hidden."""
    script = (
        "import sys; from pathlib import Path; from zssr_gan.files import atomic_write\n"
        "data = bytes(64 * 2**20); print('ready', flush=True)\n"
        "for number in range(100): atomic_write(Path(sys.argv[1]) / f'{number}.bin', data)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        deadline = time.monotonic() + 60
        # Wait until a write is under way, then a little longer.
        while not names(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert left
    for name in left:
        assert name.startswith(".") or (tmp_path / name).stat().st_size == 64 * 2**20


def test_a_lock_is_held_once_and_ends_with_its_process(tmp_path):
    path, busy = tmp_path / "deep" / ".lock", StoreError("busy")
    script = (
        "import sys; from pathlib import Path; from zssr_gan.files import locked\n"
        "with locked(Path(sys.argv[1])): print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(StoreError, match="busy"), locked(path, busy):
            pass
        holder.kill()
    with locked(path, busy), pytest.raises(StoreError, match="busy"), locked(path, busy):
        pass
    with locked(path):
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here takes no files")
def test_a_folder_that_takes_no_files_is_one_sentence():
    path = Path("/proc/x/y")
    sentence = r"^/proc/x/y: cannot be written \(No such file or directory\); choose another folder\.$"
    with pytest.raises(OutputError, match=sentence):
        atomic_write(path, b"")
    with pytest.raises(OutputError, match=sentence), locked(path):
        pass


def test_disks_without_locks_are_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    message = r"this file system has no locks .*No locks available.* local disk"
    with pytest.raises(OutputError, match=message), locked(tmp_path / ".lock"):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="not a folder"), locked(tmp_path / "file" / ".lock"):
        pass
