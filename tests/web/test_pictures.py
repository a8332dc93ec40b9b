import hashlib
import json
import os
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zssr_gan.files import sha256_file
from zssr_gan.web.decoding import _say
from zssr_gan.web.pictures import Decoder, Pictures, Unfinished
from zssr_gan.web.refusals import Refusal


def look(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": sha256_file(path)}


@pytest.fixture
def pictures(tmp_path: Path, decoder: Decoder) -> Pictures:
    return Pictures(tmp_path / "cache", decoder)


def test_an_image_has_a_view_a_thumbnail_and_facts(tmp_path: Path, pictures: Pictures) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 500, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pictures.make("key", "look_at_image", look(tmp_path / "a.png")).result(60)
    view, thumb, facts = (pictures.place("key", name) for name in ("view.png", "thumb.png", "facts.json"))
    assert view
    assert thumb
    assert facts
    with Image.open(view) as shown, Image.open(thumb) as small:
        assert np.array_equal(np.asarray(shown), pixels)
        assert small.size == (320, 26)
    found = json.loads(facts.read_text())
    assert (found["width"], found["height"], found["frames"]) == (500, 40, None)
    assert ["bits a sample", "8"] in found["facts"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def test_a_bomb_and_a_crash_are_one_sentence_on_one_file(tmp_path: Path, pictures: Pictures, decoder: Decoder) -> None:
    rows = zlib.compress(bytes(9001 * 9000), 9)  # 81 megapixels of gray in a few kilobytes; float32 of it is 324 MB
    head = (9000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for path, why in ((bomb, "needs more memory"), (text, "is not an image of a kind that is read")):
        for _ in range(2):  # the second time by the stored sentence
            with pytest.raises(Refusal, match=why) as refused:
                pictures.make(path.name, "look_at_image", look(path)).result(60)
            assert refused.value.status == 422
    assert decoder.decode("no such work", {}, 30) == "cannot be decoded (KeyError: 'no such work')"


def test_frames_that_take_long_hold_no_thumbnail(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def decode(task: str, *_rest: object) -> None:
        if task == "show_frames":
            goes_on.wait(60)

    monkeypatch.setattr(pictures.decoder, "decode", decode)
    frames = [pictures.make("video", "show_frames", {}, once=f"frames-{number}") for number in range(9)]
    pictures.make("image", "look_at_image", {}).result(60)
    assert not any(frame.done() for frame in frames)
    goes_on.set()
    for frame in frames:
        frame.result(60)


def test_what_a_killed_decoder_did_not_finish_is_tried_again(
    tmp_path: Path, pictures: Pictures, decoder: Decoder
) -> None:
    path = tmp_path / "a.png"
    os.mkfifo(path)  # nobody writes into it: who reads it waits until it is killed
    begun = pictures.make("key", "look_at_image", {"path": str(path), "sha256": ""})
    while not decoder._asked:
        time.sleep(0.001)
    assert decoder._process
    os.killpg(decoder._process.pid, signal.SIGKILL)  # as a server that ends does
    for _ in range(2):
        with pytest.raises(Refusal, match="was not looked at to the end, since its decoder was stopped: look again"):
            begun.result(60)
        begun = pictures.make("key", "look_at_image", {"path": str(path), "sha256": ""})
    futures.wait([begun], 60)
    assert pictures.problem("key", "look_at_image")
    path.unlink()
    Image.new("L", (8, 8)).save(path)
    again = Pictures(tmp_path / "cache", decoder)
    assert again.problem("key", "look_at_image") is None
    pictures.forget_problems("key")
    pictures.make("key", "look_at_image", look(path)).result(60)
    assert again.place("key", "thumb.png")


@pytest.mark.parametrize("data", [b"", bytes(40)])
def test_what_a_power_cut_took_of_the_cache_is_absent(tmp_path: Path, pictures: Pictures, data: bytes) -> None:
    folder = tmp_path / "cache" / "key"
    folder.mkdir()
    for name in ("frames.json", "map.png.json", "thumb.png", "look_at_image.problem"):
        (folder / name).write_bytes(data)
    assert (pictures.stored("key", "frames.json"), pictures.stored("key", "map.png.json")) == (None, None)
    assert (pictures.place("key", "thumb.png"), pictures.problem("key", "look_at_image")) == (None, None)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    pictures.make("key", "look_at_image", look(tmp_path / "a.png")).result(60)
    assert pictures.place("key", "thumb.png")


def test_a_long_sentence_of_a_decoder_is_one_line_of_its_answers(tmp_path: Path, pictures: Pictures) -> None:
    path = tmp_path / ("\U0001f600\x01" * 40) / ("\U0001f600" * 60)
    error = pictures.decoder.decode("look_at_image", {"path": str(path), "folder": "", "sha256": ""}, 60)
    assert error == "no such file"
    asked = {"path": str(tmp_path), "folder": "\U0001f600\x01" * 2000, "name": "a", "width": 1, "height": 1}
    error = pictures.decoder.decode("show_bicubic", {**asked, "region": None}, 60)
    assert error is not None
    read, write = os.pipe()
    _say(write, id=1, error="\x01\U0001f600\udc80" * 200)
    assert len(os.read(read, 10_000)) < 4096


def test_what_is_renamed_while_the_cache_is_pruned_costs_nothing(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "cache" / name).mkdir()
        (tmp_path / "cache" / name / "x.png").write_bytes(b"x")
    real = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        yield from real(folder)
        if folder.name in ("a", "b"):
            yield folder / ".thumb.png.7"  # another decoder renamed it

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr("zssr_gan.web.pictures.CACHE_BYTES", 1)
    pictures._prune()
    assert len(list(real(tmp_path / "cache"))) == 1


def test_a_plain_enlargement_that_was_not_finished_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise Unfinished("look again")

    decoder = Decoder()
    monkeypatch.setattr(decoder, "decode", decode)
    pictures = Pictures(tmp_path / "cache", decoder)
    for task in ("show_bicubic", "look_at_image"):
        with pytest.raises(Refusal, match="look again"):
            pictures.make("key", task, {}).result(60)
    assert pictures.problem("key", "show_bicubic") is None
    assert pictures.problem("key", "look_at_image") == "look again"


def test_facts_that_a_power_cut_took_are_found_again(tmp_path: Path, pictures: Pictures) -> None:
    (tmp_path / "cache" / "key").mkdir()
    (tmp_path / "cache" / "key" / "facts.json").write_bytes(b"")
    assert pictures.facts("key") is None
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    pictures.make("key", "look_at_image", {"path": str(tmp_path / "a.png"), "sha256": digest}).result(60)
    assert pictures.facts("key")
