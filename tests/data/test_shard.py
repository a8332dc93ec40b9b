"""What a shard looks like to others."""

import textwrap
from pathlib import Path

import numpy as np
import pytest

from zssr_gan.data import shard
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.store import Store


def test_the_example_of_the_docstring_reads_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sr = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    with Store(tmp_path, {}) as store:
        store.write([StoredImage("set/a.png", sr[::2, ::2], sr, {"label": "internal"})])
    assert shard.__doc__ is not None
    example = shard.__doc__.split("channels:\n\n")[1].split("\n\n")[0]
    assert len(example.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(textwrap.dedent(example), found)
    assert found["name"] == "set/a.png"
    assert np.array_equal(found["sr"], sr)
