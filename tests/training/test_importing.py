"""Generators that others trained, as files of ours: what is kept, what is said, and what is refused."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from tests.networks.weights import NAMINGS, esrgan_weights
from zssr_gan.cli.main import app
from zssr_gan.errors import OutputError, WeightsError
from zssr_gan.files import sha256_file
from zssr_gan.inference.record import read_record
from zssr_gan.inference.verify import verify_record
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.training.importing import import_generator, load_esrgan, options_from, rename
from zssr_gan.training.model_card import load_generator


@pytest.fixture(scope="module")
def network() -> ESRGAN:
    options = ESRGANOptions(scale=2, width=6, growth=4, blocks=2, unshuffle=2)
    return ESRGAN(options, torch.Generator().manual_seed(0)).eval()


def written(folder: Path, network: ESRGAN, naming: str = "BasicSR", kind: str = "params_ema") -> Path:
    """A file as others write it."""
    weights = esrgan_weights(network, naming)
    path = folder / f"{kind}.pth"
    if kind == "safetensors":
        path = folder / "weights.safetensors"
        save_file(weights, path)
    elif kind == "plain":
        torch.save(weights, path)
    elif kind == "module":
        torch.save({"params": {f"module.{name}": weight for name, weight in weights.items()}}, path)
    else:
        torch.save({"params": {"other": torch.zeros(1)}, kind: weights}, path)
    return path


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("kind", ["params_ema", "plain", "module", "safetensors"])
def test_all_that_is_usual_gives_the_same_outputs(tmp_path: Path, network: ESRGAN, naming: str, kind: str) -> None:
    source = written(tmp_path, network, naming, kind)
    card = import_generator(source, tmp_path / "out/generator.safetensors")
    loaded = load_generator(tmp_path / "out/generator.safetensors")
    assert loaded.card == card
    assert card.origin is not None
    assert (card.origin.file, card.origin.sha256) == (source.name, sha256_file(source))
    wrapper = {"params_ema": "params_ema", "module": "params"}.get(kind)
    assert (card.origin.naming, card.origin.wrapper) == (naming, wrapper)
    assert card.options == {"scale": 2, "channels": 3, "width": 6, "growth": 4, "blocks": 2, "unshuffle": 2}
    x = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x).clamp(0, 1))


def test_nothing_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"params": Trap()}, protocol=2))
    torch.save(nn.Conv2d(3, 3, 3), tmp_path / "whole.pth")
    for name in ("trap", "whole"):
        with pytest.raises(WeightsError, match=r"holds more than weights \(.*have its maker save the state_dict alone"):
            import_generator(tmp_path / f"{name}.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_any_damage_is_told_in_one_sentence(tmp_path: Path) -> None:
    path, draws = tmp_path / "damaged.pth", np.random.default_rng(0)
    torch.save({"a": torch.zeros(3, 3), "b": torch.ones(4)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for number in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        data[draws.integers(1, len(data), 3)] = draws.integers(0, 256, 3)
        path.write_bytes(data[: draws.integers(1, len(data)) if number % 3 == 0 else None].tobytes())
        with pytest.raises(WeightsError) as caught:  # where the damage does not show: these are no generator's weights
            import_generator(path, tmp_path / "out.safetensors")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "model_state_dict", "generator"])
def test_a_single_set_of_weights_may_have_any_name(tmp_path: Path, network: ESRGAN, name: str) -> None:
    state = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, name: network.state_dict(), "optimizer": state}, tmp_path / "kept.pth")
    card = import_generator(tmp_path / "kept.pth", tmp_path / "generator.safetensors")
    assert card.origin is not None
    assert card.origin.wrapper == name


def test_weights_that_share_memory(tmp_path: Path, network: ESRGAN) -> None:
    weights = dict(network.state_dict())
    weights["body.1.rdb1.conv1.weight"] = weights["body.0.rdb1.conv1.weight"]
    torch.save(weights, tmp_path / "shared.pth")
    import_generator(tmp_path / "shared.pth", tmp_path / "generator.safetensors")
    loaded = load_generator(tmp_path / "generator.safetensors").network.state_dict()
    assert torch.equal(loaded["body.1.rdb1.conv1.weight"], weights["body.0.rdb1.conv1.weight"])


def test_others_are_refused_in_one_sentence(tmp_path: Path, network: ESRGAN) -> None:
    good = written(tmp_path, network)
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "torn.pth").write_bytes(good.read_bytes()[:-100])
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save({"g": {"x": torch.zeros(1)}, "d": {"x": torch.zeros(1)}}, tmp_path / "several.pth")
    (tmp_path / "byte.pth").write_bytes(b"\x80")
    (tmp_path / "odd.pth").write_bytes(pickle.dumps({"epoch": 3}, protocol=4)[:-3])
    header = json.dumps({"x": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "f4.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(1))
    torch.save({"body.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "compact.pth")
    weights = network.state_dict()
    torch.save({name: weights[name] for name in weights if name != "body.1.rdb3.conv5.bias"}, tmp_path / "lacks.pth")
    for name, words in (
        ("none.pth", "cannot be read (No such file"),
        ("text.pth", "is no file of torch, and cannot be read as safetensors ("),
        ("torn.pth", "is damaged or no file of weights"),
        ("byte.pth", "is damaged or no file of weights (index out of range)"),
        ("odd.pth", "is damaged or no file of weights."),
        ("f4.safetensors", "cannot be read as safetensors (it holds tensors of type F4)"),
        ("list.pth", "holds no weights by name, but a list"),
        ("empty.pth", "holds no weights, neither bare nor under params_ema, params, state_dict, but epoch:"),
        ("several.pth", "holds several sets of weights, none under params_ema, params, state_dict, but g, d:"),
        ("compact.pth", "no weights of an ESRGAN generator"),
        ("lacks.pth", "body.1.rdb3.conv5.bias is missing"),
        (".", "cannot be read (Is a directory"),
    ):
        with pytest.raises(WeightsError) as caught:
            import_generator(tmp_path / name, tmp_path / "out.safetensors")
        told = str(caught.value)
        assert told.startswith(f"{tmp_path / name}: "), told
        assert words in told
        assert "\n" not in told
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(OutputError, match="exists"):
        import_generator(good, good)


def small(**options: Any) -> ESRGAN:
    chosen = ESRGANOptions(**{"width": 6, "growth": 4, "blocks": 2, **options})
    return ESRGAN(chosen, torch.Generator().manual_seed(0))


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 2}, {"scale": 8, "channels": 1}, {"scale": 2, "unshuffle": 2}, {"scale": 1, "unshuffle": 4}],
)
def test_each_naming_gives_the_same_network(naming: str, options: dict[str, Any]) -> None:
    network = small(**options).eval()
    family, weights = rename(esrgan_weights(network, naming))
    assert family == naming
    assert options_from(weights) == network.options
    x = noise(1, network.options.channels, 6, 7)
    with torch.no_grad():
        assert torch.equal(load_esrgan(weights)(x), network(x))


@pytest.mark.filterwarnings("ignore")  # torch warns of kinds of tensors that it will drop, or has not finished
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("body.1.rdb2.conv4.bias", None, "is missing"),
        ("conv_last.weight", None, "is missing"),
        ("body.0.rdb1.conv1x1.weight", lambda _: noise(4, 6, 1, 1), "belongs to no generator"),
        ("conv_body.weight", lambda _: noise(6, 6, 1, 1), "is 6x6x1x1, not 6x6x3x3"),
        ("conv_up1.bias", lambda bias: bias * torch.nan, "is NaN"),
        ("conv_up1.bias", lambda bias: torch.full_like(bias, 1e300, dtype=torch.float64), "infinite"),
        ("conv_first.weight", lambda _: noise(6, 5, 3, 3), "takes 5 channels"),
        ("conv_last.weight", lambda _: noise(4, 6, 3, 3), "takes 3 channels"),
        ("body.9999.rdb1.conv1.weight", lambda _: noise(4, 6, 3, 3), "blocks"),
        ("conv_up1.bias", lambda bias: bias.to(torch.float8_e4m3fn), "of type float8_e4m3fn, and read are"),
        ("conv_up1.bias", lambda bias: torch.quantize_per_tensor(bias, 1.0, 0, torch.quint8), "of type quint8"),
        ("conv_first.weight", lambda weight: weight.to(torch.complex64), "of type complex64"),
        ("conv_first.weight", lambda weight: weight.int(), "of type int32"),
        ("conv_first.weight", lambda weight: weight.to_sparse(), "of type float32, and not dense on the CPU"),
        ("conv_first.weight", lambda weight: weight.to("meta"), "not dense on the CPU"),
        ("conv_up1.bias", lambda bias: torch.nested.nested_tensor([bias]), "not dense on the CPU"),
    ],
)
def test_wrong_weights_are_named(name: str, change: Any, words: str) -> None:
    weights = {own: weight.clone() for own, weight in small().state_dict().items()}
    weight = weights.pop(name, torch.empty(0))
    if change is not None:
        weights[name] = change(weight)
    with pytest.raises(WeightsError, match=words):
        load_esrgan(rename(weights)[1])


def test_usual_types_become_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        found = load_esrgan({name: weight.to(dtype) for name, weight in small().state_dict().items()})
        assert {weight.dtype for weight in found.state_dict().values()} == {torch.float32}


class TestCommand:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, network: ESRGAN, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        written(tmp_path, network)
        draws = np.random.default_rng(0)
        Image.fromarray(draws.integers(0, 255, (21, 18, 3), np.uint8)).save("photo.png")

    def run(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    def test_import_and_enhance(self) -> None:
        done = self.run("model", "import", "params_ema.pth", "-o", "generator.safetensors")
        assert (done.exit_code, done.stdout.splitlines()) == (
            0,
            ["generator.safetensors: esrgan, scale 2, channels 3, width 6, growth 4, blocks 2, unshuffle 2"],
        )
        assert "what it was trained on is not known" in done.stderr
        arguments = ("--model", "generator.safetensors", "--preset", "raw", "--device", "cpu")
        done = self.run("enhance", "photo.png", *arguments)
        assert done.exit_code == 0, done.stderr
        assert "WARNING: the generator comes from params_ema.pth" in done.stderr
        record = read_record(Path("photo_x2.json"))
        assert record.label == "generative"
        assert record.request.model is not None
        assert record.request.model.card["origin"]["sha256"] == sha256_file(Path("params_ema.pth"))  # type: ignore[index, call-overload]
        assert verify_record(Path("photo_x2.json"), rerun=True).ok
        done = self.run("model", "card", "generator.safetensors")
        assert done.exit_code == 0
        sha256 = sha256_file(Path("params_ema.pth"))
        assert f"training    not known: from params_ema.pth (SHA-256 {sha256})" in done.stdout
        assert "inputs      not known" in done.stdout
        assert "cameras     bicubic (assumed)" in done.stdout
        assert "WARNING     the generator comes from params_ema.pth" in done.stdout
        done = self.run("model", "card", "generator.safetensors", "--images")
        assert (done.stdout, done.stderr) == ("", "the images that it was trained on are not known\n")

    def test_mistakes(self) -> None:
        done = self.run("model", "import", "photo.png", "-o", "generator.safetensors")
        assert done.exit_code == 2
        assert done.stderr.startswith("error: photo.png: is no file of torch, and cannot be read as safetensors")
        assert len(done.stderr.splitlines()) == 1
        Path("there.safetensors").write_text("mine")
        done = self.run("model", "import", "params_ema.pth", "-o", "there.safetensors")
        assert done.exit_code == 1
        assert Path("there.safetensors").read_text() == "mine"
