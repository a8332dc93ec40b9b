import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from zssr_gan.errors import OutputError
from zssr_gan.web.log import append, append_once, read_log, verify_log


def test_each_line_carries_the_hash_of_the_one_before(tmp_path: Path) -> None:
    append(tmp_path, "ann", "created", title="Fälle\n\u2028")
    append(tmp_path, "bob", "received", sha256="ab" * 32)
    first, second = read_log(tmp_path)
    assert second["previous"] == first["sha256"]
    assert [first["n"], second["n"]] == [1, 2]
    assert verify_log(tmp_path).ok
    assert verify_log(tmp_path).entries == 2
    assert not verify_log(tmp_path / "elsewhere").ok


@pytest.mark.parametrize("change", ["fact", "hash", "dropped", "order", "added", "cut", "nonsense"])
def test_the_first_changed_line_is_named(tmp_path: Path, change: str) -> None:
    for number in range(5):
        append(tmp_path, "ann", "act", number=number)
    path = tmp_path / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    entry = json.loads(lines[2])
    if change == "fact":
        lines[2] = lines[2].replace(b'"number": 2', b'"number": 7')
    elif change == "hash":
        lines[2] = lines[2].replace(entry["sha256"].encode(), b"0" * 64)
    elif change == "dropped":
        del lines[2]
    elif change == "order":
        lines[2:4] = lines[3], lines[2]
    elif change == "added":
        lines.insert(2, lines[1])
    elif change == "cut":
        lines[2:] = [lines[2][:40]]
    else:
        lines[2] = b'["no entry"]\n'
    path.write_bytes(b"".join(lines))
    found = verify_log(tmp_path)
    assert not found.ok
    assert found.text.startswith("line 3 ")


def test_a_line_that_a_power_cut_left_is_removed_and_that_is_logged(tmp_path: Path) -> None:
    append(tmp_path, "ann", "created")
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "ti')
    assert not verify_log(tmp_path).ok
    assert append(tmp_path, "ann", "received")["facts"] == {"unfinished_bytes_removed": 12}
    assert verify_log(tmp_path).ok


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, "ann", "created")
    before, pwrite = (tmp_path / "log.jsonl").read_bytes(), os.pwrite

    def short(descriptor: int, data: bytes, offset: int) -> int:
        pwrite(descriptor, data[:5], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(OutputError, match="No space left"):
        append(tmp_path, "ann", "received")
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_what_a_kill_left_logged_is_not_logged_again(tmp_path: Path) -> None:
    first = append_once(tmp_path, "ann", "job ended", 3, 1, code=0)
    assert append_once(tmp_path, "ann", "job ended", 3, 1, code=1) == first
    append_once(tmp_path, "ann", "job ended", 3, 2, code=1)
    assert [entry["facts"]["code"] for entry in read_log(tmp_path)] == [0, 1]


def test_threads_write_one_chain(tmp_path: Path) -> None:
    def write(**facts: Any) -> None:
        for _ in range(10):
            append(tmp_path, "ann", "act", **facts)

    threads = [threading.Thread(target=write, kwargs={"thread": n}) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify_log(tmp_path).ok
    assert verify_log(tmp_path).entries == 40
