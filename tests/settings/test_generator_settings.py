"""Settings of the generative way: presets, files, and the refusal of what belongs to the other way."""

from pathlib import Path

import pytest

from zssr_gan.errors import SettingsError
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    GeneratorSettings,
    load_generator_preset,
    load_preset,
    parse_generator_settings,
)


def test_the_default_preset_is_the_defaults() -> None:
    assert load_generator_preset("generator").refinement == GeneratorSettings().refinement
    raw = load_generator_preset("raw").refinement
    assert (raw.ensemble, raw.back_projections) == (False, 0)


@pytest.mark.parametrize("name", GENERATOR_PRESETS)
def test_a_record_gives_the_settings_back(name: str) -> None:
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
