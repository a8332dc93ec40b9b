"""Weights by name: fetched whole and right or not at all, and read without running what a file may hold."""

import hashlib
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.networks.weights import vgg_weights
from zssr_gan.errors import WeightsError
from zssr_gan.networks import pretrained
from zssr_gan.networks.pretrained import (
    PUBLISHED,
    Published,
    cache_folder,
    damage,
    fetch,
    read_tensors,
    vgg,
)
from zssr_gan.networks.vgg import VGGOptions

SHALLOW = VGGOptions(layers=("conv1_1",))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """The first two convolutions of VGG19: what shallow features need."""
    return {name: tensor for name, tensor in vgg_weights().items() if name.startswith(("features.0.", "features.2."))}


@pytest.fixture(scope="module")
def content(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file in the old form in which torchvision publishes VGG19, with a classifier that is not needed."""
    path = tmp_path_factory.mktemp("published") / "vgg19.pth"
    given = {**tensors, "classifier.6.bias": torch.zeros(1000)}
    torch.save(given, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


class Server(ThreadingHTTPServer):
    content, requests = b"", 0
    breaks_after: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path != "/models/vgg19-test.pth":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.breaks_after])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(content: bytes) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content = content
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ZSSR_GAN_WEIGHTS", str(folder))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pretrained, "_PIECE_BYTES", 1000)
    return folder


@pytest.fixture
def found(server: Server, folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Published:  # noqa: ARG001 - the folder is set before
    """What stands in for torchvision's file."""
    address = f"http://127.0.0.1:{server.server_address[1]}/models/vgg19-test.pth"
    sha256 = hashlib.sha256(content).hexdigest()
    found = Published("vgg19", "a test's", address, sha256, len(content))
    monkeypatch.setitem(PUBLISHED, "vgg19", found)
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_what_is_published() -> None:
    for found in PUBLISHED.values():
        assert found.url.startswith("https://")
        assert len(found.sha256) == 64
        # torchvision names its files by the first digits.
        assert found.path.stem.rsplit("-", 1)[1] == found.sha256[:8]


def test_a_file_is_fetched_once(found: Published, server: Server, content: bytes, folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    assert fetch(found, lambda done, total: calls.append((done, total)))
    assert found.path.read_bytes() == content
    assert files(folder) == ["vgg19-test.pth"]
    assert calls[-1] == (len(content), len(content))
    assert calls == sorted(set(calls))
    assert len(calls) > 3
    assert damage(found) is None
    assert not fetch(found)
    assert server.requests == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda server: setattr(server, "content", b"\xff" + server.content[1:]), "not the published .* was not kept"),
        (lambda server: setattr(server, "content", server.content + b"x"), "brought more than the"),
        (lambda server: setattr(server, "breaks_after", len(server.content) // 2), "try again"),
    ],
    ids=["another file", "more", "less"],
)
def test_what_was_not_published_is_not_kept(
    found: Published, server: Server, folder: Path, change: Callable[[Server], None], words: str
) -> None:
    """Neither beside nothing, nor in place of a damaged file, which a good download replaces."""
    good = server.content
    change(server)
    with pytest.raises(WeightsError, match=words):
        fetch(found)
    assert files(folder) == []
    found.path.parent.mkdir(exist_ok=True)
    found.path.write_bytes(b"broken")
    with pytest.raises(WeightsError, match=words):
        fetch(found)
    assert found.path.read_bytes() == b"broken"
    server.content, server.breaks_after = good, None
    assert fetch(found)
    assert damage(found) is None


def test_an_interrupt_leaves_nothing(found: Published, folder: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done > 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(found, stop)
    assert files(folder) == []


def test_nothing_there(found: Published, folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(HTTP 404\).*put it at"):
        fetch(replace(found, url=f"{found.url}.gz"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/vgg19-test.pth"
        with pytest.raises(WeightsError, match=r"cannot be downloaded \(Connection refused\)"):
            fetch(replace(found, url=address))
    assert files(folder) == []


def test_what_killed_downloads_left_goes_after_a_day(found: Published, folder: Path) -> None:
    folder.mkdir()
    for name in (".zssr-gan-old.tmp", ".zssr-gan-new.tmp", ".other"):
        (folder / name).write_bytes(b"half")
    for name in (".zssr-gan-old.tmp", ".other"):
        os.utime(folder / name, (time.time() - 100_000,) * 2)
    fetch(found)
    assert files(folder) == [".other", ".zssr-gan-new.tmp", "vgg19-test.pth"]


@pytest.mark.skipif(sys.platform != "linux", reason="each platform has a folder of its own")
def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSSR_GAN_WEIGHTS", "~/weights")
    assert cache_folder() == Path.home() / "weights"
    monkeypatch.delenv("ZSSR_GAN_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/zssr-gan/weights")


class TestVGG:
    def test_imagenet(self, found: Published, tensors: dict[str, Tensor]) -> None:
        fetch(found)
        network, origin = vgg(SHALLOW, "imagenet")
        assert torch.equal(network.state_dict()["features.0.weight"], tensors["features.0.weight"])
        assert (origin.kind, origin.sha256, origin.source) == ("imagenet", found.sha256, found.url)
        assert origin.warning is None
        for content, words in ((found.path.read_bytes()[:-1] + b"x", "its SHA-256"), (b"short", "it has 5 bytes")):
            found.path.write_bytes(content)
            with pytest.raises(WeightsError, match=rf"is damaged \({words}.* run `zssr-gan weights fetch vgg19` again"):
                vgg(SHALLOW, "imagenet")

    def test_missing_weights_name_the_ways_out(self, found: Published, server: Server, folder: Path) -> None:
        words = f"{found.path}.*`zssr-gan weights fetch vgg19`, or set weights to a file of them or to random"
        with pytest.raises(WeightsError, match=words):
            vgg(SHALLOW, "imagenet")
        assert server.requests == 0  # nothing is fetched unasked
        assert files(folder) == []
        with pytest.raises(WeightsError, match=r"VGG16's ImageNet weights are not among .* set weights to a file"):
            vgg(VGGOptions("vgg16", ("conv1_1",)), "imagenet")

    @pytest.mark.parametrize("name", ["own.pth", "own.PT", "own.safetensors"])
    def test_a_file(self, name: str, tensors: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / name
        (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
        network, origin = vgg(SHALLOW, str(path))
        assert torch.equal(network.state_dict()["features.0.weight"], tensors["features.0.weight"])
        assert (origin.kind, origin.source, origin.warning) == ("file", name, None)
        assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_another_networks_file(self, tmp_path: Path) -> None:
        path = tmp_path / "resnet.safetensors"
        save_file({"conv1.weight": torch.zeros(1)}, path)
        with pytest.raises(WeightsError, match=r"resnet\.safetensors: these are no weights of VGG19: features\.0"):
            vgg(SHALLOW, str(path))

    def test_random_weights_are_seeded_and_warned_of(self) -> None:
        (_, origin), (_, other) = (vgg(SHALLOW, "random", seed=seed) for seed in (0, 3))
        assert origin.sha256 != other.sha256
        assert "RANDOM weights (seed 0)" in (origin.warning or "")


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil-was-here",))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Evil()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(WeightsError, match="cannot be read as plain tensors"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "evil-was-here").exists()


def test_what_holds_no_tensors(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    cases: list[tuple[str, Any, str]] = [("imagnet", None, "no such file of weights"), ("x.h5", b"", "read from .pth")]
    cases += [
        (name, bad, "cannot be read") for name in ("x.pth", "x.safetensors") for bad in (b"", b"rubbish", bytes(99))
    ]
    cases += [("x.safetensors", len(header).to_bytes(8, "little") + header + b"0", "tensors of type F4")]
    cases += [
        ("x.pth", other, "something else than named") for other in (torch.zeros(3), {"epoch": 3}, [torch.ones(1)])
    ]
    for name, content, words in cases:
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            torch.save(content, tmp_path / name)
        with pytest.raises(WeightsError, match=words) as refusal:
            read_tensors(tmp_path / name)
        assert "\n" not in str(refusal.value)
