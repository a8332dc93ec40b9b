import pytest

from zssr_gan.zeroshot import scheduler, shared, upscale


@pytest.fixture
def single_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that died, as tiny ones do after a few iterations, is used as it is."""
    for module in (scheduler, shared, upscale):
        monkeypatch.setattr(module, "RESTARTS", 0)
