"""`enhance --model` as a user meets it: files, records, verification, what is refused, and a folder at full speed."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from tests.estimates import NARROW, WIDE, estimate_of
from tests.generators import written_generator
from tests.inference.files import edit, failed, timeless
from zssr_gan.cli.main import app
from zssr_gan.degradation.estimate import encode_estimate
from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.imaging.io import read_provenance
from zssr_gan.inference import batch, generator
from zssr_gan.inference.arrays import enhance as from_python
from zssr_gan.inference.record import Record, read_record
from zssr_gan.networks.srcnn import SRCNN, SRCNNOptions
from zssr_gan.provenance import LABELS
from zssr_gan.settings.base import write_yaml
from zssr_gan.settings.zeroshot import load_generator_preset
from zssr_gan.training.model_card import CameraCard, MediatorCard, load_generator

RANDOM = MediatorCard(network="VGG19", kind="random", sha256="", source="seed 0", warning="the weights are RANDOM")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, face: Tensor, astronaut: Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: in/ with gray, colour, 16 bit and alpha, and a file that is none; and two generators."""
    gray = np.round(face[0].numpy() * 255).astype(np.uint8)
    rgb = np.round(astronaut[:, 20:45, 20:45].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    pictures = {"a": gray, "b": rgb, "c": gray.astype(np.uint16) * 257, "d": np.dstack([rgb, gray]), "e": gray[:9, :14]}
    (tmp_path / "in").mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    written_generator(tmp_path / "models", {"mediator": RANDOM})
    written_generator(tmp_path / "large", scale=4, seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


MODEL = "models/generator.safetensors"


def enhance(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["enhance", "--device", "cpu", "--threads", "1", *arguments])


def zero_weights(folder: str) -> str:
    """A generator whose weights are all zero: its output is gray whatever goes in."""
    network = SRCNN(SRCNNOptions(width=4), torch.Generator().manual_seed(0))
    for weights in network.parameters():
        torch.nn.init.zeros_(weights)
    return str(written_generator(Path(folder), {"name": "srcnn"}, network=network))


@pytest.mark.parametrize("preset", ["raw", "generator"])
def test_an_output_of_one_colour_is_said_aloud_and_recorded(preset: str) -> None:
    done = enhance("in/a.png", "in/b.png", "-o", "out", "--model", zero_weights("zero"), "--preset", preset, "-q")
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert [line.split(": WARNING: the generator's output is of one colour")[0] for line in lines] == [
        "in/a.png",
        "in/b.png",
    ]
    (warning,) = read_record(Path("out/a_x2.json")).enhancement.warnings
    assert warning in lines[0]
    assert json.loads(enhance("in/a.png", "--model", "zero/generator.safetensors", "--json").stdout)["warnings"]
    assert CliRunner().invoke(app, ["verify", "out/a_x2.json", "--rerun"]).exit_code == 0
    assert "WARNING" not in enhance("in/a.png", "-o", "good", "--model", MODEL).stderr.replace(
        "WARNING: the weights", ""
    )


def test_a_folder() -> None:
    Path("in/bad.png").write_bytes(b"not an image")
    done = enhance("in", "-o", "out", "--model", MODEL, "--evidence", "--compare", "sheet.png")
    assert done.exit_code == 1
    assert "5 done, 1 failed" in done.stderr
    assert "the weights are RANDOM" in done.stderr
    assert f"generative: {LABELS['generative']}" in done.stderr
    assert "out/a_x2.png: generator (a trained generator is used as it is), generative," in done.stdout
    assert {path.name for path in Path("out").iterdir()} == {
        f"{stem}_x2{end}" for stem in "abcde" for end in (".png", ".json", "_evidence.png")
    }
    for stem, mode in {"a": "L", "b": "RGB", "c": "I;16", "d": "RGBA"}.items():
        with Image.open(f"out/{stem}_x2.png") as image:
            assert image.mode == mode
    for stem in "abcde":
        assert not failed(Path(f"out/{stem}_x2.json"), rerun=True)
    assert read_provenance(Path("sheet.png"))["zssr-gan:label"].startswith("generative: ")


def test_the_record_holds_the_model() -> None:
    assert enhance("in/a.png", "-o", "out", "--model", MODEL).exit_code == 0
    record = read_record(Path("out/a_x2.json"))
    assert (record.label, record.label_means) == ("generative", LABELS["generative"])
    assert record.request.model is not None
    file = record.request.files["model"]
    assert (file.path, file.sha256) == (f"../{MODEL}", sha256_file(Path(MODEL)))
    assert record.request.model.card == load_generator(MODEL).card.model_dump(mode="json")
    assert record.request.settings == load_generator_preset("generator").model_dump(mode="json")
    apply, refine = record.enhancement.steps
    assert (apply["symmetries"], refine["back_projections"]) == ([*range(8)], 10)
    text = read_provenance(Path("out/a_x2.png"))
    assert text["zssr-gan:label"].startswith("generative: ")
    assert text["zssr-gan:model-sha256"] == file.sha256


def test_the_models_own_scale_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    large = "large/generator.safetensors"
    done = enhance("in/a.png", "-o", "out", "--model", large, "--preset", "raw", "--json")
    shown = json.loads(done.stdout)
    assert (shown["label"], shown["model_sha256"]) == ("generative", sha256_file(Path(large)))
    with Image.open("out/a_x4.png") as image:
        assert image.size == (100, 100)
    Path("mine.yaml").write_text(write_yaml({"refinement": {"back_projections": 3}}), "utf-8")
    mine = enhance("in/a.png", "-o", "out", "--model", large, "-s", "4", "--suffix", "_mine", "--preset", "mine.yaml")
    assert mine.exit_code == 0, mine.output
    record = read_record(Path("out/a_mine.json"))
    assert sha256_file(Path("out/a_x4.png")) != record.output.sha256
    monkeypatch.chdir("in")
    done = CliRunner().invoke(app, shlex.split(record.command_line)[1:])
    assert done.exit_code == 0, done.output
    assert sha256_file(Path("a_mine_again.png")) == record.output.sha256
    assert not failed(Path("a_mine_again.json"), rerun=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", MODEL, "-s", "3"], "--scale 3: the generator enlarges by 2 alone: leave --scale out"),
        (["--model", MODEL, "--preset", "fast"], "choose generator or raw, or a .yaml file"),
        (["--model", MODEL, "--init", "shared"], "--model has learnt already: leave --init out"),
        (["--model", MODEL, "--init-from", MODEL], "leave --init-from out"),
        (["--model", "in/a.png"], "in/a.png: cannot be read as safetensors"),
        (
            ["--init-from", MODEL],
            f"{MODEL}: is a trained generator, not a shared model: give it as --model",
        ),
        (["--preset", "raw"], "no preset is called 'raw'"),
    ],
)
def test_refusals_exit_2_and_write_nothing(arguments: list[str], said: str) -> None:
    done = enhance("in/a.png", "-o", "out", *arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not Path("out").exists()


def test_a_shared_start_is_told_from_a_generator() -> None:
    tiny = {"network": {"depth": 2, "width": 4, "grid": "lr"}, "schedule": {"kind": "cosine", "iterations": 2}}
    Path("tiny.yaml").write_text(write_yaml(tiny), encoding="utf-8")
    assert enhance("in", "-o", "out", "--init", "shared", "--preset", "tiny.yaml").exit_code == 0
    (start,) = Path("out").glob("shared-*.safetensors")
    done = enhance("in/a.png", "-o", "other", "--model", str(start))
    assert done.exit_code == 2
    assert f"--model {start}: is a shared model, not a trained generator: give it as --init-from" in done.stderr


def test_verify_asks_for_the_model() -> None:
    path = Path("out/a_x2.json")
    assert enhance("in/a.png", "-o", "out", "--model", MODEL).exit_code == 0
    kept = Path(MODEL).rename("elsewhere.safetensors")
    found = failed(path, rerun=True)
    assert found.keys() == {"model", "rerun"}
    assert "generator.safetensors" in found["rerun"]
    kept.rename("out/generator.safetensors")  # beside the record is as good
    assert not failed(path, rerun=True)
    Path("out/generator.safetensors").unlink()
    written_generator(Path("models"), seed=7)
    found = failed(path, rerun=True)
    assert found.keys() == {"model", "rerun"}
    assert "is not the recorded generator: put the one of SHA-256" in found["rerun"]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda content: content["request"]["model"]["card"].update(steps=10), "model"),
        (lambda content: content["request"]["model"].update(input_was=["inputs"]), "model"),
        (lambda content: content.update(label="internal", label_means=LABELS["internal"]), "label"),
        (lambda content: content["request"].update(preset="raw"), "rerun"),
    ],
)
def test_verify_finds_what_was_changed(change: Any, wrong: str) -> None:
    assert enhance("in/a.png", "-o", "out", "--model", MODEL).exit_code == 0
    assert wrong in failed(edit(Path("out/a_x2.json"), change), rerun=True)


def test_degradations_and_kernels() -> None:
    np.save("k.npy", np.outer([1, 2, 1], [1, 2, 1]))
    assert enhance("in/b.png", "-o", "out", "--model", MODEL, "--kernel", "k.npy").exit_code == 0
    record = read_record(Path("out/b_x2.json"))
    assert record.enhancement.downscale == "kernel"
    assert not failed(Path("out/b_x2.json"), rerun=True)
    estimated = enhance("in", "-o", "case", "--model", MODEL, "--degradation", "estimate")
    assert estimated.exit_code == 0, estimated.output
    record = read_record(Path("case/b_x2.json"))
    assert record.label == "generative"
    assert not failed(Path("case/b_x2.json"), rerun=True)


def test_an_image_that_was_trained_on() -> None:
    own, other = (sha256_file(Path(f"in/{stem}.png")) for stem in "ae")
    listed = {"inputs": {"set/a.png": own}, "reals": {}, "held_out": {"set/a.png": own, "set/e.png": other}}
    model = str(written_generator(Path("known"), listed=listed))
    done = enhance("in", "-o", "out", "--model", model)
    assert done.exit_code == 0, done.output
    assert "in/a.png: the generator was trained on this very image (inputs, held_out)" in done.stderr
    assert "in/e.png: the generator was validated with this very image (held_out)" in done.stderr
    assert done.stderr.count("this very image") == 2
    for stem, was in {"a": ("inputs", "held_out"), "b": (), "e": ("held_out",)}.items():
        record = read_record(Path(f"out/{stem}_x2.json"))
        assert record.request.model is not None
        assert record.request.model.input_was == was
        assert not failed(Path(f"out/{stem}_x2.json"), rerun=True)


class TestCameras:
    """A generator is used with the camera that it was trained for."""

    WIDE_MODEL = "wide/generator.safetensors"

    @pytest.fixture(autouse=True)
    def _kept(self, desk: Path) -> None:
        """A generator for one camera and one for two, and both cameras as files."""
        both = [CameraCard.of(WIDE), CameraCard.of(NARROW)]
        written_generator(desk / "wide", {"cameras": both[:1]})
        written_generator(desk / "two", {"cameras": both})
        for name, degradation in {"wide": WIDE, "narrow": NARROW}.items():
            (desk / f"{name}.json").write_bytes(encode_estimate(estimate_of(degradation, [])))

    def used(self, name: str, *options: str, model: str = WIDE_MODEL) -> tuple[Record, str]:
        done = enhance("in/a.png", "-o", name, "--model", model, *options)
        assert done.exit_code == 0, done.output
        assert not failed(Path(name, "a_x2.json"), rerun=True)
        return read_record(Path(name, "a_x2.json")), done.stderr

    def test_its_own_is_taken_said_and_recorded(self) -> None:
        record, said = self.used("own")
        degradation = record.request.degradation
        assert (degradation.values, degradation.source) == (WIDE, "model")
        assert degradation.why == "the generator was trained for it"
        assert f"by degradation {WIDE.sha256[:12]}, which it was trained for" in said
        assert record.output.sha256 == self.used("same", "--degradation", "wide.json")[0].output.sha256
        assert record.output.sha256 != self.used("plain", "--degradation", "bicubic")[0].output.sha256
        image = np.asarray(Image.open("in/a.png"))
        for option, name in ((None, "own"), ("bicubic", "plain")):
            made = from_python(image, model=self.WIDE_MODEL, degradation=option, device="cpu", threads=1)
            assert np.array_equal(made, np.asarray(Image.open(f"{name}/a_x2.png")))
        again = enhance("in/a.png", "-o", "own", "--model", self.WIDE_MODEL, "--skip-existing")
        assert again.stdout == "own/a_x2.png: exists already\n"

    @pytest.mark.parametrize(("option", "values"), [("bicubic", Degradation()), ("narrow.json", NARROW)])
    def test_another_is_used_said_and_repeated(
        self, monkeypatch: pytest.MonkeyPatch, option: str, values: Degradation
    ) -> None:
        record, said = self.used("out", "--degradation", option)
        assert record.request.degradation.values == values
        assert f"trained for degradation {WIDE.sha256[:12]}; its outputs are back-projected onto the input by" in said
        monkeypatch.chdir("in")
        assert CliRunner().invoke(app, shlex.split(record.command_line)[1:]).exit_code == 0
        assert sha256_file(Path("a_x2_again.png")) == record.output.sha256

    def test_of_several_one_must_be_named(self) -> None:
        two = "two/generator.safetensors"
        done = enhance("in/a.png", "-o", "out", "--model", two)
        assert done.exit_code == 2
        assert "say which by --degradation FILE" in done.stderr
        with pytest.raises(SettingsError, match="trained for 2 cameras"):
            from_python(np.zeros((9, 9), np.uint8), model=two)
        assert "as asked" not in self.used("narrow", "--degradation", "narrow.json", model=two)[1]
        assert "as asked" in self.used("bicubic", "--degradation", "bicubic", model=two)[1]

    def test_verify_finds_another_than_the_cards(self) -> None:
        self.used("out")
        other = {"values": NARROW.model_dump(mode="json"), "sha256": NARROW.sha256}
        path = edit(Path("out/a_x2.json"), lambda content: content["request"]["degradation"].update(other))
        assert "rerun" in failed(path, rerun=True)


def test_a_result_of_another_model_is_told() -> None:
    assert enhance("in/a.png", "-o", "out", "--model", MODEL).exit_code == 0
    written_generator(Path("models"), seed=7)
    other = enhance("in/a.png", "-o", "out", "--model", MODEL, "--skip-existing")
    assert "exists already, but was made with another model" in other.stdout


class TestTogether:
    """As on a GPU, where several images share a pass: here on the CPU, where that is not the default."""

    @pytest.fixture(autouse=True)
    def _passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(generator._PIXELS_TOGETHER, "cpu", 8 * 25 * 25 * 3)

    def test_who_shares_a_pass_does_not_matter(self) -> None:
        for number in range(5):
            with Image.open("in/a.png") as image:
                image.rotate(90 * number).save(f"in/a{number}.png")
        Path("in/a2.png").write_bytes(b"not an image")
        shared = enhance("in", "-o", "shared", "--model", MODEL, "--evidence", "--compare", "sheet.png")
        assert shared.exit_code == 1
        assert "9 done, 1 failed" in shared.stderr
        assert "in/a2.png" in shared.stderr
        lines = [line.split(":")[0] for line in shared.stdout.splitlines()]
        names = ["a", "a0", "a1", "a3", "a4", "b", "c", "d", "e"]
        assert lines[:-1] == [f"shared/{name}_x2.png" for name in names]
        for name in names:
            assert not failed(Path(f"shared/{name}_x2.json"), rerun=True)
            assert enhance(f"in/{name}.png", "-o", "alone", "--model", MODEL, "--evidence").exit_code == 0
            for end in (".png", "_evidence.png"):
                assert sha256_file(Path(f"alone/{name}_x2{end}")) == sha256_file(Path(f"shared/{name}_x2{end}"))
            one, other = (json.loads(Path(place, f"{name}_x2.json").read_bytes()) for place in ("alone", "shared"))
            assert timeless(one) == timeless(other)

    def test_a_pass_that_fails_is_tried_one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        work = batch.enhance_pictures

        def fails(pictures: list[Any], *arguments: Any, **options: Any) -> Any:
            if any(picture.bits == 16 for picture in pictures):
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return work(pictures, *arguments, **options)

        monkeypatch.setattr(batch, "enhance_pictures", fails)
        Path("in/b.png").unlink()
        done = enhance("in", "-o", "out", "--model", MODEL)
        assert done.exit_code == 1
        assert "3 done, 1 failed" in done.stderr
        assert "in/c.png: not enough memory" in done.stderr

    def test_an_interrupt_keeps_whole_results(self, monkeypatch: pytest.MonkeyPatch) -> None:
        work = batch.enhance_pictures

        def stops(pictures: list[Any], *arguments: Any, **options: Any) -> Any:
            if pictures[0].alpha is not None:
                raise KeyboardInterrupt
            return work(pictures, *arguments, **options)

        monkeypatch.setattr(batch, "enhance_pictures", stops)
        done = enhance("in", "-o", "out", "--model", MODEL)
        assert done.exit_code == 130
        assert "Stopped: 3 of 5 images are done" in done.stderr
        assert {path.name for path in Path("out").iterdir()} == {
            f"{name}_x2{end}" for name in "abc" for end in (".png", ".json")
        }
