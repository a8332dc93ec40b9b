"""Benchmarks run: each on images so small that it takes seconds."""

import argparse
import contextlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.compressed import GROUPS, Crops
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.base import write_yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture
def truths(tmp_path: Path) -> Path:
    """Two colour photographs of 40 px, and a preset that takes no time."""
    draws = np.random.default_rng(0)
    (tmp_path / "truths").mkdir()
    for name in "ab":
        coarse = Image.fromarray(draws.integers(0, 256, (10, 10, 3), dtype=np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(tmp_path / "truths" / f"{name}.png")
    tiny = {"network": {"depth": 2, "width": 8}, "schedule": {"kind": "cosine", "iterations": 5}}
    (tmp_path / "tiny.yaml").write_text(write_yaml({**tiny, "pairs": {"crop": 16}}), "utf-8")
    return tmp_path


TINY = ["--preset", "tiny.yaml", "--threads", "1"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["quality", "truths", *TINY, "--seeds", "0,1"], "deviation over seeds"),
        (["quality", "truths", *TINY, "--shared"], "tiny.yaml, shared, seed 0: PSNR-Y"),
        (["definitions", "truths"], "independent"),
        (["noise", "truths", *TINY, "--sides", "16"], "| least |"),
        (["track", "truths", "--sets", "D", "--frames", "2", "--count", "2"], "| fused |"),
        (["blind", "truths", *TINY, "--sets", "three"], "| three |"),
        (["blind", "truths", *TINY, "--sets", "photographs"], "share of the mean gain"),
        (["gpu_table", "--tiny", "--device", "cpu", "--threads", "1", "--only", "metrics,back"], "PSNR-Y"),
        pytest.param(
            ["gpu_table", "--tiny", "--device", "cpu", "--only", "machine,right,repeats,waits,profile,stage2,steps"],
            "back-projection, blur",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["training_step", "--configs", "demo.yaml", "--steps", "2", "--images", "8"],
            "outside the networks",
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        "quality",
        "quality shared",
        "definitions",
        "noise",
        "track",
        "blind, one network for all",
        "blind, networks of their own",
        "gpu_table, a CPU's",
        "gpu_table",
        "training_step",
    ],
)
def test_a_benchmark_runs(
    truths: Path, words: list[str], shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (truths / "demo.yaml").write_bytes((ROOT / "configs" / "demo.yaml").read_bytes())
    if words[0] == "track":
        for place, name in enumerate(f"{folder}_{number}.png" for folder in ("london", "utk") for number in (0, 1)):
            with Image.open(truths / "truths" / f"{'ab'[place % 2]}.png") as image:
                image.resize((128, 128), Image.Resampling.BICUBIC).save(truths / "truths" / name)
    monkeypatch.chdir(truths)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.delitem(sys.modules, f"benchmarks.{words[0]}", raising=False)  # else runpy warns
    with contextlib.suppress(SystemExit):  # of `definitions`, which finds such small images too far apart
        runpy.run_module(f"benchmarks.{words[0]}", run_name="__main__")
    printed = capsys.readouterr().out
    assert shown in printed
    assert " failed " not in printed  # of gpu_table, whose parts go on without each other


_NAMED = r"(`)?python3? (?:-m benchmarks[.]|benchmarks/)(\w+)(?:[.]py)?((?(1)[^`]*|[^\n#(]*))(`? of commit)?"


def _commands() -> dict[str, list[str]]:
    """By module, the words of the commands that pages, configs and benchmarks name, but those of earlier commits."""
    found: dict[str, list[str]] = {}
    pages = [path for place in ("benchmarks", "configs", "docs") for path in (ROOT / place).iterdir() if path.is_file()]
    for path in sorted([*pages, *ROOT.glob("*.md")]):
        for _, name, words, earlier in re.findall(_NAMED, path.read_text("utf-8")):
            if not earlier:
                found.setdefault(name, []).append(words.rstrip(".;:, "))
    return found


class _ParsedError(Exception):
    """Raised in place of a run."""


@pytest.mark.parametrize(("name", "named"), _commands().items(), ids=_commands())
def test_the_commands_of_the_pages_have_options_that_exist(
    name: str, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser) -> None:
        real(parser)
        raise _ParsedError

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    assert (ROOT / "benchmarks" / f"{name}.py").is_file()
    for words in filter(None, named):
        monkeypatch.setattr(sys, "argv", [name, *shlex.split(re.sub(r"[][]|[|]\S+", "", words))])
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
        with pytest.raises(_ParsedError):
            runpy.run_module(f"benchmarks.{name}", run_name="__main__")


def test_figures_in_the_heads_of_configs_stand_in_the_page_that_these_name() -> None:
    for path in (ROOT / "configs").glob("*.yaml"):
        head = "".join(line for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
        for page, figure in re.findall(r"(benchmarks/[\w-]+[.]md)[)]:[^.]*?([0-9]+[.][0-9]+)", head):
            assert figure in (ROOT / page).read_text("utf-8"), path


@pytest.mark.parametrize(
    "name",
    ["A85", "N75", "V23I", "V28P", "F28P-linear", "F28P-422", "F28P-fields", "FMPEG4", "F28P-mixed", "FFFV1-told"],
)
def test_crops_show_their_truths(tmp_path: Path, name: str) -> None:
    """In the same place: moved by a pixel, they are less alike."""
    if name[0] in "VF":
        pytest.importorskip("av")
    for folder, side in (("set5", 150), ("faces", 80)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            draws = np.random.default_rng(number)
            coarse = Image.fromarray(draws.integers(0, 256, (side // 5, side // 5, 3), dtype=np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / folder / f"{number}.png")
    crops = Crops(tmp_path, GROUPS[name], 3, 0, tmp_path / "lr")
    lr = [read_picture(path).pixels for path in sorted((tmp_path / "lr").iterdir())]
    rows, columns = GROUPS[name].size
    assert [tuple(one.shape) for one in lr] == [(3, rows, columns)] * 3
    for small, truth in zip(lr, crops.truths, strict=True):
        large = resize(small, (2 * rows, 2 * columns))[:, 8:-8, 8:-8]
        errors = {
            (y, x): float((large - truth.roll((y, x), (1, 2))[:, 8:-8, 8:-8]).square().mean())
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        }
        assert min(errors, key=errors.__getitem__) == (0, 0)
