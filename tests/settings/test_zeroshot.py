"""Settings: presets load, mistakes are named in one sentence, and the variants are what they say."""

import json
import re
from importlib import resources
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from zssr_gan.errors import SettingsError
from zssr_gan.settings.base import read_yaml
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    PRESETS,
    SMALL_PIXELS,
    CosineSchedule,
    GeneratorSettings,
    SlopeSchedule,
    ZeroShotSettings,
    load_generator_preset,
    load_preset,
    parse_generator_settings,
    parse_settings,
)

FILES = sorted(Path(str(resources.files("zssr_gan.settings"))).joinpath("presets").glob("*.yaml"))


def message(data: object) -> str:
    """What a user reads for wrong settings: one sentence."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(data, "mine.yaml")
    text = str(caught.value)
    assert text.startswith("mine.yaml: ")
    assert "\n" not in text
    assert not re.search("pydantic|instance|dictionary|discriminator|extra inputs", text)
    return text


class TestPresets:
    def test_names_and_files_are_the_same(self) -> None:
        assert {file.stem for file in FILES} == {*PRESETS, *GENERATOR_PRESETS}

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_the_head_is_a_comment_that_names_its_command(self, file: Path) -> None:
        first, second, *_ = file.read_text("utf-8").splitlines()
        assert re.fullmatch(rf"# zssr-gan enhance \S+ (--model \S+ )?--preset {file.stem}", first)
        assert second.startswith("# ")

    @pytest.mark.parametrize("name", PRESETS)
    def test_by_name_and_by_file_are_the_same(self, name: str) -> None:
        (file,) = (file for file in FILES if file.stem == name)
        assert load_preset(name) == load_preset(str(file))
        assert load_preset(name).description

    @pytest.mark.parametrize("name", PRESETS)
    def test_a_record_gives_the_settings_back(self, name: str) -> None:
        """Through JSON, which has no tuples."""
        settings = load_preset(name)
        assert parse_settings(json.loads(json.dumps(settings.model_dump(mode="json"))), name) == settings

    def test_original_has_its_authors_constants(self) -> None:
        s = load_preset("original")
        assert isinstance(s.schedule, SlopeSchedule)
        assert (s.network.depth, s.network.width, s.network.bias, s.network.grid) == (8, 64, False, "interpolated")
        assert (s.network.initial, s.network.residual) == ("original", False)
        assert (s.pairs.crop, s.pairs.batch, s.pairs.affine, s.pairs.plain) == (128, 1, 0.5, 0.05)
        assert (s.pairs.scale_min, s.pairs.anisotropy, s.pairs.shear) == (0.5, 0.25, 0.1)
        assert (s.schedule.lr, s.schedule.ratio, s.schedule.covariance) == (1e-3, 1.5, "numpy-1.15")
        assert (s.schedule.stop_lr, s.schedule.iterations) == (9e-6, 3000)
        assert s.refinement.ensemble
        assert (s.refinement.member_back_projections, s.refinement.back_projections) == (10, 10)

    def test_paper_turns_only_and_reads_the_test_its_way(self) -> None:
        s = load_preset("paper")
        assert isinstance(s.schedule, SlopeSchedule)
        assert (s.pairs.affine, s.pairs.plain) == (0, 0)
        assert (s.schedule.ratio, s.schedule.covariance, s.schedule.stop_lr) == (1, "unbiased", 1e-6)

    def test_they_differ(self) -> None:
        assert len({load_preset(name).model_dump_json() for name in PRESETS}) == len(PRESETS)


class TestMistakes:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"netwrok": {}}, "netwrok: there is no such setting (did you mean network?)."),
            ({"network": {"dept": 8}}, "network.dept: there is no such setting (did you mean depth?)."),
            (
                {"schedule": {"kind": "slope", "iteration": 1}},
                "schedule.iteration: there is no such setting (did you mean",
            ),
            ({"schedule": {"kind": "cosine", "ratio": 3}}, "schedule.ratio"),
            (
                {"small": {"networks": 2, "pairs": {"crops": 3}}},
                "small.pairs.crops: there is no such setting (did you mean crop?).",
            ),
            (
                {"netwrok": {}, "pairs": {"shea": 1, "zzz": 2}, "networks": 0},
                "pairs.shea: there is no such setting (did you mean shear?); pairs.zzz: there is no such setting; "
                "netwrok: there is no such setting (did you mean network?) (and 1 more).",
            ),
            ({"network": {"depth": "eight"}}, "network.depth"),
            ({"network": {"depth": 7.5}}, "network.depth"),
            ({"networks": True}, "networks"),
            ({"networks": 0}, "networks"),
            ({"pairs": {"plain": 1.6}}, "pairs.plain"),
            ({"pairs": {"shear": float("nan")}}, "pairs.shear"),
            ({"pairs": None}, "pairs"),
            ({"steps": {"gradual": [[1.0, 1.5]]}}, "steps.gradual"),
            ([1, 2], "a mapping of settings (key: value) is needed, not a list"),
            ("fast", "a mapping of settings (key: value) is needed, not text"),
            (None, "a mapping of settings (key: value) is needed, not nothing"),
            ({"pairs": 3}, "pairs: a mapping of settings (key: value) is needed, not a number"),
            ({"schedule": [1]}, "schedule: a mapping of settings (key: value) is needed, not a list"),
            ({"schedule": {"lr": 0.1}}, "schedule: kind is missing"),
            ({"schedule": {"kind": "steps"}}, "schedule: kind is 'slope' or 'cosine'"),
            # At odds with each other.
            ({"network": {"residual": True, "depth": 7}}, "network: a residual network has an even depth"),
            ({"pairs": {"affine": 0.7, "plain": 0.4}}, "pairs: affine and plain are shares"),
            *(({"steps": {"gradual": g}}, "steps: the last gradual sub-step must be [1, 1]") for g in ([[0.5, 1]], [])),
            ({"choice": {"folds": 1}}, "choice: one fold would leave nothing"),
        ],
        ids=str,
    )
    def test_the_key_is_named(self, data: object, words: str) -> None:
        assert message(data).startswith(f"mine.yaml: {words}")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("networks: 1.5", "networks: must be a whole number, not 1.5"),
            ("networks: null", "networks: must be a whole number, not null"),
            ("steps: {gradual: 5}", "steps.gradual: must be a list, not 5"),
            ("steps: {gradual: [[1]]}", "steps.gradual.0.1: is missing"),
            ("steps: {gradual: [[1, 1, 1]]}", "steps.gradual.0: must have at most 2 entries"),
            ("network: {bias: 1}", "network.bias: must be true or false, not 1"),
            ("network: {grid: '5'}", "network.grid: must be 'interpolated' or 'lr', not '5'"),
            ("networks: 0", "networks: must be greater than or equal to 1, not 0"),
            ("schedule: {kind: cosine, lr: '1e-4'}", "schedule.lr: must be a number, not '1e-4'"),
            ("network: {bias: yes}", "network.bias: must be true or false, not 'yes'"),
        ],
    )
    def test_the_words_are_a_users(self, text: str, words: str) -> None:
        assert message(read_yaml(text)) == f"mine.yaml: {words}."

    def test_numbers_are_those_of_yaml_1_2(self) -> None:
        assert parse_settings(read_yaml("schedule: {kind: cosine, lr: 1e-4}"), "x").schedule.lr == 1e-4
        assert read_yaml("[010, 08, -010, 0o10, 0x10]") == [10, 8, -10, 8, 16]

    def test_several_are_counted(self) -> None:
        assert message({"networks": 0, "pairs": 2, "steps": 3}).endswith("(and 2 more).")

    def test_no_such_preset(self) -> None:
        with pytest.raises(SettingsError, match="no preset is called 'best': choose paper, original, quality, fast"):
            load_preset("best")
        with pytest.raises(SettingsError, match=r"none\.yaml: no such file"):
            load_preset("none.yaml")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"network: {depth: 4, depth: 6}", 'is not valid YAML (line 1: found duplicate key "depth"'),
            (b"description: 2026-99-99", "is not valid YAML"),
            (b"a: 1", "a:"),
            (b"[]", "a mapping"),
        ],
    )
    def test_broken_files(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "mine.yaml").write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            load_preset(str(tmp_path / "mine.yaml"))
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_merged_group_may_be_changed(self, tmp_path: Path) -> None:
        """YAML's `<<` brings a group's keys along; to set one of them anew is no repetition."""
        text = "pairs: &few {crop: 64, batch: 2}\nsmall: {pairs: {<<: *few, crop: 16}}"
        (tmp_path / "mine.yaml").write_text(text)
        small = load_preset(str(tmp_path / "mine.yaml")).small
        assert small == {"pairs": {"crop": 16, "batch": 2}}

    def test_an_empty_file_is_the_defaults(self, tmp_path: Path) -> None:
        (tmp_path / "mine.YAML").write_text("# nothing\n", "utf-8")
        assert load_preset(str(tmp_path / "mine.YAML")) == ZeroShotSettings()

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(ValidationError):
            ZeroShotSettings().networks = 3  # type: ignore[misc]


class TestBlocks:
    def test_without_a_block_nothing_changes(self) -> None:
        settings = load_preset("original")
        assert settings.for_size(1) == settings

    def test_small_is_merged_key_by_key_up_to_the_limit(self) -> None:
        block: dict[str, JsonValue] = {"schedule": {"iterations": 7}, "networks": 4}
        settings = ZeroShotSettings(schedule=CosineSchedule(lr=0.5), small=block)
        small = settings.for_size(SMALL_PIXELS)
        assert small == ZeroShotSettings(schedule=CosineSchedule(lr=0.5, iterations=7), networks=4)
        assert settings.for_size(SMALL_PIXELS + 1) == ZeroShotSettings(schedule=CosineSchedule(lr=0.5))
        assert small.for_size(1) == small

    def test_a_schedule_of_another_kind_is_replaced(self) -> None:
        settings = ZeroShotSettings(schedule=SlopeSchedule(), small={"schedule": {"kind": "cosine", "iterations": 3}})
        assert settings.for_size(1).schedule == CosineSchedule(iterations=3)

    def test_a_shared_model_holds_nothing_out(self) -> None:
        case = load_preset("quality").for_case()
        assert (case.rounds, case.networks, case.choice.folds) == (2, 1, 0)
        assert case.pairs.batch == 16
        assert (case.small, case.shared) == (None, None)


def test_the_default_preset_is_the_defaults() -> None:
    assert load_generator_preset("generator").refinement == GeneratorSettings().refinement
    raw = load_generator_preset("raw").refinement
    assert (raw.ensemble, raw.back_projections) == (False, 0)


@pytest.mark.parametrize("name", GENERATOR_PRESETS)
def test_a_record_gives_generator_settings_back(name: str) -> None:
    settings = load_generator_preset(name)
    assert settings.description
    assert parse_generator_settings(settings.model_dump(mode="json"), name) == settings


def test_a_file_of_settings(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("refinement: {ensemble: false, back_projections: 3}", encoding="utf-8")
    refinement = load_generator_preset(str(path)).refinement
    assert (refinement.back_projections, refinement.ensemble) == (3, False)


def test_what_is_of_the_other_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trains.yaml"
    path.write_text("schedule: {kind: cosine}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"trains\.yaml \(for a generator\): schedule: there is no such setting"):
        load_generator_preset(str(path))
    path.write_text("refinement: {member_back_projections: 3}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"refinement\.member_back_projections: there is no such setting"):
        load_generator_preset(str(path))
    with pytest.raises(SettingsError, match=r"the preset quality says how a network is trained.*generator or raw"):
        load_generator_preset("quality")
    with pytest.raises(SettingsError, match="no preset is called 'rough': choose generator, raw"):
        load_generator_preset("rough")
    with pytest.raises(SettingsError, match="no preset is called 'raw'"):
        load_preset("raw")
