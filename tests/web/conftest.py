from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.client import Client
from zssr_gan.web.guard import Address
from zssr_gan.web.pictures import Decoder
from zssr_gan.web.server import build_app
from zssr_gan.web.site import Site


@pytest.fixture(scope="session")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(memory_bytes=256 << 20)
    yield decoder
    decoder.close()


@pytest.fixture
def site(tmp_path: Path, decoder: Decoder) -> Site:
    return Site(tmp_path / "cases", Address("http", "127.0.0.1", 8765), decoder=decoder)


@pytest.fixture
def client(site: Site) -> Client:
    """A browser that is signed in."""
    client = Client(build_app(site))
    assert client.get(f"/enter?token={site.sessions.token}").status == 303
    return client
