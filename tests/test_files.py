"""Writes that are whole or absent, through interrupts, kills and disks that refuse."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from zssr_gan import files
from zssr_gan.errors import OutputError
from zssr_gan.files import (
    FileLock,
    atomic_write,
    sealed,
    sha256_bytes,
    sha256_file,
    unsealed,
    write_in_pieces,
    write_together,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_hashes(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(data)
    assert sha256_bytes(data) == sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [b"", b"\n", b"two\nlines\n"])
def test_a_seal_is_broken_by_any_byte(data):
    whole = sealed(data)
    assert unsealed(whole) == data
    for place in range(len(whole)):
        with pytest.raises(ValueError, match="is damaged"):
            unsealed(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(ValueError, match="is damaged"):
        unsealed(b"")


def test_writes_into_folders_that_it_makes(tmp_path):
    target = tmp_path / "a" / "b" / "x.bin"
    atomic_write(target, b"data")
    assert target.read_bytes() == b"data"
    assert names(target.parent) == ["x.bin"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    atomic_write(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_keeps_what_exists(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    atomic_write(target, b"new", overwrite=True)
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_keeps_what_appears_meanwhile(tmp_path, monkeypatch, links):
    """Another process takes the name after the first look: the one file stays, and no temporary one."""
    target = tmp_path / "x"
    link = os.link

    def late(source, destination):
        target.write_bytes(b"theirs")
        if not links:
            raise OSError(errno.ENOTSUP, "no hard links here")
        link(source, destination)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(OutputError, match="exists already"):
        atomic_write(target, b"ours")
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["x"]


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


def test_disks_without_hard_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    atomic_write(tmp_path / "x", b"data")
    assert (tmp_path / "x").read_bytes() == b"data"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_files_that_belong_together_come_all_or_not_at_all(tmp_path, monkeypatch, links):
    if not links:

        def no_links(*_):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", no_links)
    old, new, last = (tmp_path / name for name in ("old", "deep/new", "last"))
    old.write_bytes(b"before")
    contents = {old: b"1", new: b"2", last: b"3"}
    with pytest.raises(OutputError, match="old: exists already"):
        write_together(contents, replaceable=[last])
    replace = Path.replace

    def refuse(source, target):
        if target == last:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(OutputError, match="last: cannot be written, because the disk is full"):
            write_together(contents, replaceable=contents)
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


def test_longest_name_that_a_disk_allows(tmp_path):
    atomic_write(tmp_path / ("x" * 255), b"data")


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
        deadline = time.monotonic() + 20
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


@pytest.mark.skipif(os.name != "posix", reason="flock is POSIX's")
def test_a_lock_is_held_once_and_given_back(tmp_path):
    first, second = FileLock(tmp_path / "deep" / ".lock"), FileLock(tmp_path / "deep" / ".lock")
    assert first.acquire(wait=False)
    assert not second.acquire(wait=False)
    first.release()
    first.release()
    with second:
        assert not first.acquire(wait=False)
    with first:
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_neither_keeps_nor_frees_the_lock(tmp_path):
    lock, other = FileLock(tmp_path / ".lock"), FileLock(tmp_path / ".lock")
    lock.acquire(wait=False)
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        lock.release()
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        os._exit(0)
    try:
        os.read(to_parent[0], 1)
        assert not other.acquire(wait=False)
        os.close(lock._descriptor)  # as if the parent were killed
        assert other.acquire(wait=False)  # though the child lives
    finally:
        os.write(to_child[1], b"x")
        os.waitpid(child, 0)
        files._locked.discard(lock._descriptor)
        other.release()


@pytest.mark.skipif(os.name != "posix", reason="flock is POSIX's")
def test_disks_without_locks_are_named(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError, match=r"this file system has no locks .*No locks available.* local disk"):
        FileLock(tmp_path / ".lock").acquire(wait=False)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="not a folder"):
        FileLock(tmp_path / "file" / ".lock").acquire(wait=False)


class TestPieces:
    def test_a_file_gets_its_name_at_the_end(self, tmp_path):
        target = tmp_path / "a" / "x.bin"
        with write_in_pieces(target) as write:
            write(b"one")
            assert not target.exists()
            write(b"two")
        assert target.read_bytes() == b"onetwo"
        assert names(target.parent) == ["x.bin"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_in_the_block_leaves_what_was_there(self, tmp_path, error):
        target = tmp_path / "x"
        target.write_bytes(b"old")
        with pytest.raises(error), write_in_pieces(target, overwrite=True) as write:  # noqa: PT012 - the block is it
            write(b"new")
            raise error
        assert target.read_bytes() == b"old"
        assert names(tmp_path) == ["x"]

    def test_keeps_what_exists(self, tmp_path):
        target = tmp_path / "x"
        target.write_bytes(b"old")
        with pytest.raises(OutputError, match="exists already"), write_in_pieces(target):
            pass
        with write_in_pieces(target, overwrite=True) as write:
            write(b"new")
        assert target.read_bytes() == b"new"

    def test_keeps_what_appears_meanwhile(self, tmp_path):
        target = tmp_path / "x"
        with pytest.raises(OutputError, match="exists already"), write_in_pieces(target):
            target.write_bytes(b"other")
        assert target.read_bytes() == b"other"
        assert names(tmp_path) == ["x"]

    def test_a_folder_of_that_name(self, tmp_path):
        with pytest.raises(OutputError, match="it is a folder"), write_in_pieces(tmp_path, overwrite=True):
            pass

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
    def test_a_full_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_temporary_beside", lambda _path, _hidden: Full("/dev/full"))
        with (
            pytest.raises(OutputError, match="the disk is full"),
            write_in_pieces(tmp_path / "x") as write,
        ):
            write(b"0" * 1_000_000)
        assert names(tmp_path) == []


class Full(type(Path())):
    """A path whose file takes nothing."""

    def open(self, *_):
        return open(self, "wb")  # noqa: PTH123 - the path's own open is what this stands in for
