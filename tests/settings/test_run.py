"""Settings of the stages: every shipped config loads, changes reach what they name, and mistakes are one sentence."""

from pathlib import Path
from typing import Any

import pytest

from zssr_gan.errors import SettingsError
from zssr_gan.settings.base import read_yaml
from zssr_gan.settings.data import DataSettings
from zssr_gan.settings.run import RunSettings, load_run

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {sources: [{kind: folder, root: faces}, {kind: lfw}]}")
    return path


def message(path: Path, *changes: str) -> str:
    """What a user reads: one sentence."""
    with pytest.raises(SettingsError) as caught:
        load_run(path, changes)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert "pydantic" not in text.lower()
    return text


class TestShippedConfigs:
    @pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
    def test_they_load_and_say_what_they_are(self, file: Path) -> None:
        settings = load_run(file)
        assert settings.description
        assert settings.folder(file) == Path("runs") / file.stem
        first, second, *_ = file.read_text("utf-8").splitlines()
        assert first.startswith("# make ")
        assert f"CONFIG=configs/{file.name}" in first
        assert second.startswith("# ")

    def test_paper_has_the_papers_numbers_and_recommended_takes_the_same_images(self) -> None:
        paper, recommended, demo = (
            load_run(ROOT / f"configs/{name}.yaml") for name in ("paper", "recommended", "demo")
        )
        data = paper.data
        assert [source.kind for source in data.sources] == ["tinyface", "survface"]
        assert all(source.count is None for source in data.sources)
        assert (data.size, data.train, data.roles.zssr, data.roles.generator) == (32, 0.7, 7000, 3000)
        assert (data, paper.seed) == (recommended.data, recommended.seed)
        assert (paper.synth.degradation, recommended.synth.degradation) == ("bicubic", "estimate")
        assert [source.kind for source in demo.data.sources] == ["lfw"]  # needs no file


class TestChanges:
    @pytest.mark.parametrize(
        ("change", "value"),
        [
            ("seed=7", lambda s: s.seed == 7),
            ("data.size=null", lambda s: s.data.size is None),
            ("data.size=", lambda s: s.data.size is None),
            ("data.train=0.5", lambda s: s.data.train == 0.5),
            ("data.roles.zssr=3", lambda s: s.data.roles.zssr == 3),
            ("data.sources.0.root=a=b", lambda s: s.data.sources[0].root == "a=b"),
            ("data.sources=[{kind: lfw, name: x}]", lambda s: s.data.sources[0].label == "x"),
            ("synth.degradation=case.json", lambda s: s.synth.degradation_from == "file"),
            ("synth.degradation=estimate", lambda s: s.synth.degradation_from == "estimate"),
            ("seed=0", lambda s: s.synth.degradation_from == "bicubic"),
            ("run_dir=elsewhere", lambda s: s.folder(Path("c.yaml")) == Path("elsewhere")),
        ],
        ids=lambda one: one if isinstance(one, str) else "is reached",
    )
    def test_they_reach_what_they_name(self, config: Path, change: str, value: Any) -> None:
        assert value(load_run(config, [change]))

    def test_the_last_one_counts(self, config: Path) -> None:
        assert load_run(config, ["seed=1", "seed=2"]).seed == 2

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("seed", "is not of the form key=value"),
            ("=1", "is not of the form key=value"),
            ("data..size=1", "is not of the form key=value"),
            ("seed=[1", "the value is not valid YAML"),
            ("data.sources.2.root=x", "data.sources is a list of 2, counted from 0"),
            ("data.sources.first.root=x", "data.sources is a list of 2, counted from 0"),
            ("data.sources.0.root.x=1", "data.sources.0.root is one value and has no x"),
        ],
    )
    def test_those_that_cannot_be_made(self, config: Path, change: str, words: str) -> None:
        assert message(config, change).startswith(f"--set {change}: {words}")


SMALL = """
description: of a set
data: {sources: [{kind: folder, root: faces}, {kind: folder, root: others, name: more}], size: 64}
train: {batch: 50, epochs: 100, generator: {options: {width: 64, blocks: 16}}, validation: {images: 64}}
small:
  data: {sources: [{kind: lfw}]}
  train: {epochs: 2, generator: {options: {width: 8}}}
"""


class TestSmall:
    @pytest.fixture
    def both(self, tmp_path: Path) -> Path:
        path = tmp_path / "set.yaml"
        path.write_text(SMALL)
        return path

    @pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
    def test_shipped_ones_load_both_ways(self, file: Path) -> None:
        if "\nsmall:" not in file.read_text("utf-8"):
            with pytest.raises(SettingsError, match="has no block 'small'"):
                load_run(file, small=True)
            return
        settings = load_run(file, small=True)
        assert settings.folder(file) == Path("runs") / f"{file.stem}-small"
        assert settings != load_run(file)

    def test_it_is_laid_over_the_rest(self, both: Path) -> None:
        whole, small = load_run(both), load_run(both, small=True)
        assert (whole.train.epochs, small.train.epochs) == (100, 2)
        assert small.train.generator.options == {"width": 8, "blocks": 16}
        assert (small.train.batch, small.train.validation.images, small.data.size) == (50, 64, 64)
        assert [source.kind for source in small.data.sources] == ["lfw"]  # lists are replaced
        assert (whole.folder(both), small.folder(both)) == (Path("runs/set"), Path("runs/set-small"))

    def test_its_folder(self, both: Path) -> None:
        both.write_text(SMALL + "run_dir: mine\n")
        assert load_run(both, small=True).folder(both) == Path("mine-small")
        assert load_run(both, ["run_dir=other"], small=True).folder(both) == Path("other")
        both.write_text(SMALL + "  run_dir: own\n")
        assert load_run(both, small=True).folder(both) == Path("own")

    def test_changes_come_last(self, both: Path) -> None:
        assert load_run(both, ["train.epochs=7"], small=True).train.epochs == 7
        assert load_run(both, ["data.sources.1.root=x"]).data.sources[1].root == "x"  # small has no second source

    def test_a_mistake_in_it_is_told_without_it_too(self, both: Path) -> None:
        both.write_text(SMALL.replace("epochs: 2", "epoch: 2"))
        assert message(both).startswith(f"{both}: small: train.epoch: there is no such setting")
        both.write_text(SMALL + "  small: {seed: 1}\n")
        assert message(both).startswith(f"{both}: small: small: there is no such setting")
        both.write_text(SMALL.partition("small:")[0] + "small: 3")
        assert message(both).startswith(f"{both}: small: must be a group of settings")

    def test_without_it(self, config: Path) -> None:
        with pytest.raises(SettingsError, match="has no block 'small'"):
            load_run(config, small=True)


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("sede=1", "sede: there is no such setting"),
            ("data.roles.zsr=1", "data.roles.zsr: there is no such setting"),
            ("data.sources.0.rot=x", "data.sources.0.rot: there is no such setting (did you mean root?)"),
            ("train.losses.guide=input", "train.losses.guide: there is no such setting (it is called reference now)"),
            ("train.turns.unit=steps", "train.turns: there is no such setting (it is called alternation now)"),
            ("data.train='0.5'", "data.train: must be a number, not '0.5'"),
            ("data.train=1", "data.train: must be less than 1, not 1"),
            ("data.size=big", "data.size: must be a whole number, not 'big'"),
            ("data.size=true", "data.size: must be a whole number, not True"),
            ("seed=-1", "seed: must be greater than or equal to 0, not -1"),
            ("seed=null", "seed: must be a whole number, not null"),
            ("data.sources=[]", "data.sources: must have 1 or more entries"),
            ("data.sources=x", "data.sources: must be a list"),
            ("data.roles=3", "data.roles: a mapping of settings (key: value) is needed, not a number"),
            ("data=null", "data: a mapping of settings (key: value) is needed, not nothing"),
            (
                "data.sources.0.kind=celeba",
                "data.sources.0.kind: must be 'folder', 'tinyface', 'survface', 'lfw' or 'photographs', not",
            ),
            ("data.sources.0.name=a/b", "data.sources.0.name: "),
            (
                "data.sources=[{kind: lfw}, {kind: lfw}]",
                "data: two sources are called 'lfw': give each a name of its own",
            ),
            ("data.sources=[{kind: folder}]", "data.sources.0: root is missing: name the folder"),
            ("synth.degradation=null", "synth.degradation: must be text, not null"),
            ("synth.degradation=''", "synth.degradation: "),
            (
                "synth={degradation: estimate, noise: 0.1}",
                "synth: noise is part of the degradation: leave noise out, or set degradation to bicubic",
            ),
            ("data.sources=[{kind: lfw, root: x}]", "data.sources.0: lfw is built in and has no root"),
            ("data.sources=[{kind: photographs, root: x}]", "data.sources.0: photographs is built in and has no root"),
            ("data.sources=[{root: x}]", "data.sources.0.kind: is missing"),
            ("data.roles={zssr: null, generator: null}", "data.roles: zssr and generator cannot both take"),
        ],
    )
    def test_the_key_is_named(self, config: Path, change: str, words: str) -> None:
        assert message(config, change).startswith(f"{config}: {words}")

    def test_several_are_counted(self, config: Path) -> None:
        assert message(config, "seed=x", "data.size=x", "run_dir=1").endswith("(and 2 more).")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "data: is missing"),
            (b"[1]", "holds no settings"),
            (b"a: [1", "is not valid YAML (line 1"),
            (b"seed: 1\nseed: 2", 'is not valid YAML (line 2: found duplicate key "seed"'),
            (b"a: " + b"[" * 500, "nested too deeply"),
            (b"\xff\xfe\xff", "is not valid YAML"),
        ],
    )
    def test_broken_files(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "mine.yaml").write_bytes(content)
        assert words in message(tmp_path / "mine.yaml")

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert "none.yaml: no such file" in message(tmp_path / "none.yaml")


def test_as_resolved_it_reads_back(config: Path, tmp_path: Path) -> None:
    settings = load_run(config, ["data.size=null", "seed=3"])
    text = settings.as_yaml(config)
    (tmp_path / "config.yaml").write_text(text)
    again = load_run(tmp_path / "config.yaml")
    assert again == settings.model_copy(update={"run_dir": "runs/mine"})
    assert again.folder(tmp_path / "config.yaml") == Path("runs/mine")
    assert set(read_yaml(text)) == set(RunSettings.model_fields)


def test_what_is_kept_of_the_data_names_no_place(config: Path) -> None:
    one, other = (load_run(config, [f"data.sources.0.root={root}"]).data for root in ("here", "there"))
    assert isinstance(one, DataSettings)
    assert one.without_roots() == other.without_roots()
    assert "here" not in str(one.without_roots())
    assert [source["name"] for source in one.without_roots()["sources"]] == ["folder", "lfw"]  # type: ignore[union-attr,index]
