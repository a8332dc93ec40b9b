"""A store through everything that happens to one: kills, full disks, damage, second writers, other settings."""

import errno
import json
import os
import random
import re
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from pydantic import JsonValue

from tests.stores import SETTINGS, assert_same, assert_whole, fill, stored
from zssr_gan.data import shard
from zssr_gan.data import store as store_module
from zssr_gan.data.shard import StoredImage, encode_shard
from zssr_gan.data.store import Store, check, write_shard
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import sha256_bytes


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("shard-")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "synthetic"


def test_every_size_and_gray_beside_colour_come_back(folder: Path) -> None:
    sizes = [(1, 1), (8, 8), (5, 31), (64, 3), (32, 32)]
    images = [stored(n, size=size, channels=c) for n, (size, c) in enumerate((s, c) for s in sizes for c in (1, 3))]
    base = stored(11, size=(6, 9))  # views are stored as they look
    images.append(StoredImage("set/turned.png", base.lr[::-1].transpose(1, 0, 2), base.sr[:, ::2], base.figures))
    text: dict[str, JsonValue] = {"label": "case", "residual_db": float("inf"), "note": "π\0"}
    images.append(StoredImage("集合/ü __ \n.png", base.lr, base.sr, text))
    with Store(folder, SETTINGS) as store:
        assert (store.done, store.next_number) == (set(), 0)
        store.write(images[:7])
        store.write(images[7:])
        assert (store.done, store.next_number) == ({one.id for one in images}, 2)
    assert check(folder) == []
    text["residual_db"] = "inf"
    with SyntheticSet(folder) as found:
        assert len(found) == len(images)
        for one in images:
            assert_same(found[found.index(one.id)], one)


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / name, range(6))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 4


def test_the_example_of_the_format_reads_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [1])
    assert shard.__doc__ is not None
    example = shard.__doc__.split("channels:\n\n")[1].split("\n\n")[0]
    assert len(example.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(textwrap.dedent(example), found)
    assert found["name"] == stored(1).id
    assert np.array_equal(found["sr"], stored(1).sr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": np.zeros((2, 2, 3), np.uint16)}, "LR image is uint16"),
        ({"sr": np.zeros((2, 2), np.uint8)}, r"shape \(2, 2\)"),
        ({"lr": np.zeros((2, 2, 4), np.uint8)}, "gray or RGB"),
        ({"lr": np.zeros((0, 2, 3), np.uint8)}, "shape"),
        ({"figures": {}}, "lack a label"),
        *(({"id": name}, "plain relative path") for name in ("", "a\0b", "/a/b", "a/../b", "a//b")),
        ({"id": "a\udcff"}, "UTF-8"),
    ],
)
def test_what_a_store_does_not_hold_is_refused(folder: Path, change: dict, message: str) -> None:
    with Store(folder, SETTINGS) as store, pytest.raises(StoreError, match=message):
        store.write([stored(0), replace(stored(1), **change)])
    assert contents(folder) == {}


def test_an_image_is_kept_once_and_of_the_stores_settings(folder: Path) -> None:
    fill(folder, range(4))
    before = contents(folder)
    with Store(folder, SETTINGS) as store:
        for error, message, number, numbers, settings in (
            (StoreError, r"set/2/0002\.png: is in shard 0", 1, [9, 2], store.settings_sha256),
            (StoreError, "twice in one shard", 1, [9, 9], store.settings_sha256),
            (OutputError, "exists already", 0, [9], store.settings_sha256),
            (StoreError, "other settings", 1, [9], "0" * 64),
            (ValueError, "at least one", 1, [], store.settings_sha256),
        ):
            with pytest.raises(error, match=message):
                write_shard(folder, number, [stored(n) for n in numbers], settings)
    assert contents(folder) == before


def test_two_processes_with_the_same_image_by_mistake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one finishes between our shard and our sidecar."""
    with Store(folder, SETTINGS) as store:

        def late(*arguments, **options):
            monkeypatch.undo()
            write_shard(folder, 5, [stored(1)], store.settings_sha256)
            return encode_shard(*arguments, **options)

        monkeypatch.setattr("zssr_gan.data.store.encode_shard", late)
        with pytest.raises(StoreError, match="already"):
            write_shard(folder, 4, [stored(0), stored(1)], store.settings_sha256)
    assert set(contents(folder)) == {"shard-0005.h5", "shard-0005.json"}
    assert_whole(folder, [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synth": SETTINGS["synth"] | {"init": "shared"}}, 'synth.init = "scratch", and "shared" is asked for now'),
        ({"synth": SETTINGS["synth"] | {"scale": 2.0}}, "synth.scale = 2, and 2.0 is"),
        ({"data": {"sources": [{"kind": "folder"}]}}, r'data.sources\[0\].kind = "lfw", and "folder" is'),
        ({"seed": 3}, "seed = nothing, and 3 is"),
    ],
)
def test_other_settings_are_refused_by_name(folder: Path, change: dict, message: str) -> None:
    fill(folder, range(4))
    before = contents(folder)
    with pytest.raises(StoreError, match=message + r".*choose another folder"), Store(folder, SETTINGS | change):
        pass
    assert contents(folder) == before
    # The order of keys is no difference, and the refusal left no lock behind.
    with Store(folder, dict(reversed(SETTINGS.items()))) as store:
        assert len(store.done) == 4


def test_a_second_writer_is_refused_at_once(folder: Path) -> None:
    message = f"{folder}: another run is writing there"
    with Store(folder, {}), pytest.raises(StoreError, match=message), Store(folder, {}):
        pass


@pytest.mark.parametrize("calls", [1, 2], ids=["shard", "sidecar"])
def test_a_full_disk_leaves_nothing_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    fill(folder, range(4))
    before = contents(folder)
    fsync, left = os.fsync, iter(range(calls - 1))

    def full(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with Store(folder, SETTINGS) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="the disk is full"):
                store.write([stored(4)])
        assert contents(folder) == before
        assert not list(folder.glob("*.tmp"))
        store.write([stored(4)])
    assert_whole(folder, range(5))


def test_a_write_that_stops_in_its_middle(folder: Path) -> None:
    """No file of this process grows beyond a limit: writes stop in their middle, as on a full disk."""
    fill(folder, [0])
    before, (soft, hard) = contents(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(folder, SETTINGS) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["shard-0000.h5"]), hard))
        try:
            with pytest.raises(OutputError, match="cannot be written, because"):
                store.write([stored(1, size=(64, 64))])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(folder) == before
    assert_whole(folder, [0])


def flip(path: Path, what: bytes) -> None:
    """Flip a bit in the last place of a file where these bytes are."""
    content = bytearray(path.read_bytes())
    content[content.rindex(what) + len(what) - 1] ^= 1
    path.write_bytes(content)


def add_twice(folder: Path) -> None:
    """Make shard 1 one that holds an image of shard 0, as two runs without a lock would."""
    for suffix in ("h5", "json"):
        (folder / f"shard-0001.{suffix}").unlink()
    with Store(folder.with_name("other"), SETTINGS) as other:
        write_shard(other.folder, 1, [stored(number) for number in range(3, 8)], other.settings_sha256)
    for name, content in contents(other.folder).items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda h5, _: h5.write_bytes(h5.read_bytes()[:5000]), "cannot be read"),
        (lambda h5, _: h5.write_bytes(b""), "cannot be read"),
        (lambda h5, _: h5.unlink(), "is missing"),
        (lambda h5, _: flip(h5, stored(5).sr.tobytes()), stored(5).id),
        (lambda h5, _: flip(h5, stored(6).id.encode()), "do not agree"),
        (lambda h5, _: flip(h5, b'"iterations": 7'), "its figures"),
        (lambda _, sidecar: sidecar.write_text("{"), r"0001\.json: is damaged"),
        (lambda _, sidecar: sidecar.write_bytes(b""), r"0001\.json: is damaged"),
        (lambda _, sidecar: flip(sidecar, sha256_bytes(stored(7).sr.tobytes()).encode()), "do not agree"),
        (lambda _, sidecar: flip(sidecar, b'"number": 1'), "settings or number"),
        (lambda h5, _: add_twice(h5.parent), f"that shard-0000 holds already .{stored(3).id}"),
        (lambda _, sidecar: sidecar.unlink(), None),
    ],
)
def test_a_damaged_shard_is_named_and_made_again(folder: Path, damage: Callable, reason: str | None) -> None:
    fill(folder, range(12))
    before = contents(folder)
    damage(folder / "shard-0001.h5", folder / "shard-0001.json")
    made = {stored(number).id for number in range(4, 8)}
    found = check(folder)
    if reason is None:  # without a sidecar a shard is not part of the store, and so not damaged
        assert found == []
    else:
        assert [one.shard for one in found] == ["shard-0001"]
        assert re.search(reason, found[0].reason)
        assert made <= {*found[0].ids, stored(3).id}
    with Store(folder, SETTINGS) as store:
        assert list(store.dropped) == found
        assert store.done == {stored(number).id for number in range(12)} - made
    fill(folder, range(12))
    assert_whole(folder, range(12))
    after = contents(folder)
    assert len(after) == 6
    assert {name: after[name] for name in before if "0001" not in name} == {
        name: content for name, content in before.items() if "0001" not in name
    }


def test_a_flipped_bit_is_found_or_does_no_harm(folder: Path) -> None:
    """In the file's bookkeeping there are bits without a meaning; no image, table or figure may change unseen."""
    fill(folder, range(2), a_shard=2)
    draw, harmless = random.Random(0), 0
    for name, content in contents(folder).items():
        for _ in range(25):
            flipped = bytearray(content)
            flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            (folder / name).write_bytes(flipped)
            if not check(folder):
                harmless += 1
                with SyntheticSet(folder) as store:
                    for number in range(2):
                        assert_same(store[store.index(stored(number).id)], stored(number))
        (folder / name).write_bytes(content)
    assert harmless < 25


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_shard_that_another_program_opens_is_not_made_again(folder: Path, version: str, killed: bool) -> None:
    """By h5py's mode `a`, while it is open, or after the program was killed and HDF5's flags stayed set in the file."""
    fill(folder, range(4))
    path = folder / "shard-0000.h5"
    before = path.read_bytes()
    code = f"""
        import h5py, sys
        file = h5py.File({str(path)!r}, "a", libver={version!r})
        file.attrs["note"] = "looked at"
        file.flush()
        print("open", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        if killed:
            other.kill()
            other.wait()
        assert path.read_bytes() != before
        with Store(folder, SETTINGS) as store:
            assert store.dropped == ()
        assert_whole(folder, range(4))
        other.kill()


def test_sidecars_of_earlier_versions_hash_the_file_for_the_figures(folder: Path) -> None:
    fill(folder, range(4))
    sidecar, file = folder / "shard-0000.json", folder / "shard-0000.h5"
    earlier = json.loads(sidecar.read_text())
    del earlier["figures_sha256"]
    sidecar.write_text(json.dumps(earlier))
    assert check(folder) == []
    flip(file, b'"iterations": 3')
    assert [one.shard for one in check(folder)] == ["shard-0000"]


def test_what_was_not_finished_is_removed_and_nothing_else(folder: Path) -> None:
    fill(folder, range(4))
    before = contents(folder)
    for name in ("shard-0001.h5", ".zssr-gan-0123456789abcdef.tmp", "shared.safetensors", "notes.tmp"):
        (folder / name).write_bytes(b"half")
    assert check(folder) == []
    with Store(folder, SETTINGS) as store:
        assert store.next_number == 1
    assert contents(folder) == before
    assert (folder / "shared.safetensors").exists()
    assert (folder / "notes.tmp").exists()
    assert not (folder / ".zssr-gan-0123456789abcdef.tmp").exists()


@pytest.mark.parametrize("content", [None, b"", b"{}", b"flipped"])
def test_damaged_settings_are_made_again_where_the_shards_know_them(folder: Path, content: bytes | None) -> None:
    fill(folder, range(4))
    path = folder / "settings.json"
    whole = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(whole.replace(b"paper", b"qaper") if content == b"flipped" else content)
    assert [one.shard for one in check(folder)] == ["settings.json"]
    with pytest.raises(StoreError), Store(folder, {"other": 1}):
        pass
    fill(folder, range(6))
    assert path.read_bytes() == whole
    assert_whole(folder, range(6))


def test_shards_of_somebody_else_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "shard-0000.h5").write_bytes(b"theirs")
    with pytest.raises(StoreError, match="no store"), Store(folder, SETTINGS):
        pass
    assert (folder / "shard-0000.h5").read_bytes() == b"theirs"


def test_a_shard_that_cannot_be_looked_at_is_not_taken_for_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, range(4))
    before, read = contents(folder), Path.open

    def refuse(path: Path, *arguments, **options):
        if path.name == "shard-0000.h5":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path, *arguments, **options)

    for target, name, fails, words in (
        (Path, "open", refuse, "shard-0000.h5: cannot be read"),
        (store_module, "describe_shard", Mock(side_effect=MemoryError), "does not fit into the free memory"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fails)
            with pytest.raises(StoreError, match=words), Store(folder, SETTINGS):
                pass
    assert contents(folder) == before


WRITER = """
import sys
from pathlib import Path
from tests.stores import fill, stored
from zssr_gan.data.shard import encode_shard
# HDF5's first steps take longer than the rest, and are not what is to be interrupted.
encode_shard(0, [stored(0)], {})
print("ready", flush=True)
fill(Path(sys.argv[1]), range(int(sys.argv[2])), a_shard=2)
"""


@pytest.mark.parametrize(
    ("images", "kills", "seed"),
    [(60, 1, 0), *(pytest.param(400, 10, seed, marks=pytest.mark.slow) for seed in range(3))],
)
def test_killed_at_random_moments(folder: Path, images: int, kills: int, seed: int) -> None:
    """Kill a real writer at random moments, look at what is there, and let another go on, until all is made."""
    draw, command = random.Random(seed), [sys.executable, "-c", WRITER, str(folder), str(images)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    kept: dict[str, bytes] = {}
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            while not (folder / "settings.json").exists():
                assert writer.poll() is None
            time.sleep(draw.uniform(0, 0.25))
            writer.kill()
        now = contents(folder)
        # What was whole before is so still, byte by byte; what has a sidecar now is whole.
        assert {name: now.get(name) for name in kept} == kept
        assert check(folder) == []
        sound = {name.removesuffix(".json") for name in now if name.endswith(".json")}
        kept = {name: content for name, content in now.items() if name.partition(".")[0] in sound}
    fill(folder, range(images))
    assert_whole(folder, range(images))
    assert {name: contents(folder).get(name) for name in kept} == kept
