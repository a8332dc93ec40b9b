"""Weights by name: fetched whole and right or not at all, and read without running what a file may hold."""

import hashlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.networks import pretrained
from zssr_gan.networks.pretrained import (
    PUBLISHED,
    Published,
    cache_folder,
    damage,
    fetch,
    read_tensors,
    tensors_of,
    vgg,
)
from zssr_gan.networks.vgg import VGGOptions, orthogonal_weights

SHALLOW = VGGOptions(layers=("conv1_1",))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """The first two convolutions of VGG19: what shallow features need."""
    whole = orthogonal_weights(torch.Generator().manual_seed(7))
    return {name: tensor for name, tensor in whole.items() if name.startswith(("features.0.", "features.2."))}


@pytest.fixture(scope="module")
def content(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file in the old form in which torchvision publishes VGG19, with a classifier that is not needed."""
    path = tmp_path_factory.mktemp("published") / "vgg19.pth"
    given = {**tensors, "classifier.6.bias": torch.zeros(1000)}
    torch.save(given, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


class Server(ThreadingHTTPServer):
    content = b""
    breaks_after: int | None = None
    requests = 0


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


class TestFetch:
    def test_it_is_fetched_once(self, found: Published, server: Server, content: bytes, folder: Path) -> None:
        told: list[tuple[int, int]] = []
        assert fetch(found, lambda done, total: told.append((done, total)))
        assert found.path.read_bytes() == content
        assert files(folder) == ["vgg19-test.pth"]
        assert told[-1] == (len(content), len(content))
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert len(told) > 3
        assert damage(found) is None
        assert not fetch(found)
        assert server.requests == 1

    def test_another_file_than_published_is_not_kept(self, found: Published, server: Server, folder: Path) -> None:
        server.content = bytes([server.content[0] ^ 1]) + server.content[1:]
        with pytest.raises(WeightsError, match=f"not the published {found.sha256}, and was not kept"):
            fetch(found)
        assert files(folder) == []

    def test_more_than_published_is_not_kept(self, found: Published, server: Server, folder: Path) -> None:
        server.content += b"x"
        with pytest.raises(WeightsError, match="brought more than the"):
            fetch(found)
        assert files(folder) == []

    def test_a_download_that_breaks_off(self, found: Published, server: Server, folder: Path) -> None:
        server.breaks_after = len(server.content) // 2
        with pytest.raises(WeightsError, match="try again"):
            fetch(found)
        assert files(folder) == []
        server.breaks_after = None
        assert fetch(found)

    def test_an_interrupt(self, found: Published, folder: Path) -> None:
        def stop(done: int, _total: int) -> None:
            if done > 3000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch(found, stop)
        assert files(folder) == []

    def test_a_damaged_file_is_replaced_only_by_a_right_one(self, found: Published, server: Server) -> None:
        fetch(found)
        broken = b"x" + found.path.read_bytes()[1:]
        found.path.write_bytes(broken)
        server.breaks_after = 10
        with pytest.raises(WeightsError):
            fetch(found)
        assert found.path.read_bytes() == broken
        server.breaks_after = None
        assert fetch(found)
        assert damage(found) is None

    def test_no_such_file_there(self, found: Published, folder: Path) -> None:
        with pytest.raises(WeightsError, match=r"cannot be downloaded \(HTTP 404\).*put it at"):
            fetch(replace(found, url=f"{found.url}.gz"))
        assert files(folder) == []

    def test_nobody_there(self, found: Published) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{taken.getsockname()[1]}/vgg19-test.pth"
            with pytest.raises(WeightsError, match=r"cannot be downloaded \(Connection refused\)"):
                fetch(replace(found, url=address))

    def test_what_killed_downloads_left_goes_after_a_day(self, found: Published, folder: Path) -> None:
        folder.mkdir()
        for name in (".zssr-gan-old.tmp", ".zssr-gan-new.tmp", ".other"):
            (folder / name).write_bytes(b"half")
        for name in (".zssr-gan-old.tmp", ".other"):
            os.utime(folder / name, (time.time() - 100_000,) * 2)
        fetch(found)
        assert files(folder) == [".other", ".zssr-gan-new.tmp", "vgg19-test.pth"]


class TestFolder:
    def test_the_variable_is_obeyed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZSSR_GAN_WEIGHTS", "~/weights")
        assert cache_folder() == Path.home() / "weights"

    @pytest.mark.parametrize(
        ("platform", "variables", "folder"),
        [
            ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/zssr-gan/weights"),
            ("linux", {"XDG_CACHE_HOME": ""}, "/home/me/.cache/zssr-gan/weights"),
            ("darwin", {}, "/home/me/Library/Caches/zssr-gan/weights"),
            ("win32", {"LOCALAPPDATA": "/local"}, "/local/zssr-gan/weights"),
        ],
    )
    def test_each_platform_has_its_own(
        self, platform: str, variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ZSSR_GAN_WEIGHTS", raising=False)
        monkeypatch.setenv("HOME", "/home/me")
        monkeypatch.setattr(pretrained.sys, "platform", platform)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert cache_folder() == Path(folder)


class TestVGG:
    def test_imagenet(self, found: Published, tensors: dict[str, Tensor]) -> None:
        fetch(found)
        network, origin = vgg(SHALLOW, "imagenet")
        assert torch.equal(network.state_dict()["features.0.weight"], tensors["features.0.weight"])
        assert (origin.kind, origin.sha256, origin.source) == ("imagenet", found.sha256, found.url)
        assert origin.warning is None

    def test_missing_weights_name_the_ways_out(self, found: Published, server: Server, folder: Path) -> None:
        with pytest.raises(WeightsError) as refusal:
            vgg(SHALLOW, "imagenet")
        told = str(refusal.value)
        assert str(found.path) in told
        assert "`zssr-gan weights fetch vgg19`" in told
        assert "set weights to a file of them or to random" in told
        assert server.requests == 0  # nothing is fetched unasked
        assert files(folder) == []

    def test_vgg16_has_none_to_fetch(self) -> None:
        shallow = VGGOptions("vgg16", ("conv1_1",))
        with pytest.raises(WeightsError, match=r"VGG16's ImageNet weights are not among .* set weights to a file"):
            vgg(shallow, "imagenet")
        assert vgg(shallow, "random")[1].network == "VGG16"

    def test_damaged_weights_are_not_used(self, found: Published) -> None:
        fetch(found)
        found.path.write_bytes(found.path.read_bytes()[:-1] + b"x")
        with pytest.raises(WeightsError, match=r"is damaged \(its SHA-256"):
            vgg(SHALLOW, "imagenet")
        found.path.write_bytes(b"short")
        with pytest.raises(WeightsError, match="it has 5 bytes"):
            vgg(SHALLOW, "imagenet")

    @pytest.mark.parametrize("name", ["own.pth", "own.PT", "own.safetensors"])
    def test_a_file(self, name: str, tensors: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file(tensors, path)
        else:
            torch.save(tensors, path)
        network, origin = vgg(SHALLOW, str(path))
        assert torch.equal(network.state_dict()["features.0.weight"], tensors["features.0.weight"])
        assert (origin.kind, origin.source, origin.warning) == ("file", name, None)
        assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_another_networks_file(self, tmp_path: Path) -> None:
        path = tmp_path / "resnet.safetensors"
        save_file({"conv1.weight": torch.zeros(1)}, path)
        with pytest.raises(WeightsError, match=r"resnet\.safetensors: these are no weights of VGG19: features\.0"):
            vgg(SHALLOW, str(path))

    def test_random_weights_are_seeded_and_said_aloud(self) -> None:
        one, origin = vgg(SHALLOW, "random", seed=3)
        same, again = vgg(SHALLOW, "random", seed=3)
        _, other = vgg(SHALLOW, "random", seed=4)
        assert torch.equal(one.state_dict()["features.0.weight"], same.state_dict()["features.0.weight"])
        assert origin == again
        assert origin.sha256 != other.sha256
        assert origin.warning is not None
        assert "RANDOM weights (seed 3)" in origin.warning


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil-was-here",))


class TestReading:
    def test_bytes_of_safetensors(self, tensors: dict[str, Tensor]) -> None:
        assert tensors_of(save(tensors)).keys() == tensors.keys()
        header = b'{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
        for rubbish, words in (
            (b"", r"cannot be read as safetensors \(.+\)$"),
            (len(header).to_bytes(8, "little") + header + b"0", r"\(it holds tensors of type F4\)$"),
        ):
            with pytest.raises(WeightsError, match=words):
                tensors_of(rubbish)

    def test_code_in_a_file_is_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save({"features.0.weight": Evil()}, tmp_path / "zip.pth")
        (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
        for name in ("zip.pth", "plain.pth"):
            with pytest.raises(WeightsError, match="cannot be read as plain tensors"):
                read_tensors(tmp_path / name)
        assert not (tmp_path / "evil-was-here").exists()

    @pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
    def test_rubbish(self, name: str, tmp_path: Path) -> None:
        for rubbish in (b"", b"rubbish", bytes(1000)):
            (tmp_path / name).write_bytes(rubbish)
            with pytest.raises(WeightsError, match="cannot be read") as refusal:
                read_tensors(tmp_path / name)
            assert "\n" not in str(refusal.value)

    def test_other_things_than_tensors(self, tmp_path: Path) -> None:
        for number, other in enumerate((torch.zeros(3), {"epoch": 3}, [torch.zeros(1)])):
            torch.save(other, tmp_path / f"{number}.pth")
            with pytest.raises(WeightsError, match="something else than named tensors"):
                read_tensors(tmp_path / f"{number}.pth")

    def test_no_file_and_other_kinds(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no such file of weights"):
            read_tensors(tmp_path / "imagnet")
        (tmp_path / "x.h5").write_bytes(b"")
        with pytest.raises(WeightsError, match=r"\.pth, \.pt and \.safetensors alone"):
            read_tensors(tmp_path / "x.h5")
