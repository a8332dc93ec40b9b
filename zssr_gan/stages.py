"""Settings of the stages (prepare, synth, ...): one YAML file a run, as frozen pydantic models. They know no torch.

A stage's group is one model and one field of `RunSettings`. An unknown key is an error that names it, and so is a
value of the wrong kind: "1e-4" without a dot is text in YAML.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import ErrorDetails

from zssr_gan.errors import SettingsError
from zssr_gan.plain_yaml import must_be, read_yaml

Kind = Literal["folder", "tinyface", "survface", "lfw"]


class _Settings(BaseModel):
    # strict: text is no number and true is not 1; what a file says is what is meant.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class SourceSettings(_Settings):
    """One set of low-resolution images."""

    kind: Kind
    """`folder` (any tree of images), `tinyface`, `survface` (their published layouts; see data/README.md), or `lfw`
    (the 100 gray faces of 25x25 px that scikit-image ships)."""
    root: str | None = None
    """Folder of the images; `lfw` has none."""
    count: int | None = Field(None, ge=1)
    """Take a sample of so many images; null takes all."""
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """First part of its images' ids; null: the kind."""

    @property
    def label(self) -> str:
        """The name, or the kind where none is given."""
        return self.name or self.kind

    @model_validator(mode="after")
    def _root(self) -> Self:
        if (self.root is None) != (self.kind == "lfw"):
            raise ValueError("lfw is built in and has no root" if self.root else "root is missing: name the folder")
        return self


class RoleSettings(_Settings):
    """How many images OF EACH SOURCE have which role; null takes all that remain in that part, 0 none."""

    zssr: int | None = Field(7000, ge=0)
    """Training part: super-resolved, for the discriminator."""
    generator: int | None = Field(3000, ge=0)
    """Training part: others, for the generator."""
    table1: int | None = Field(8, ge=0)
    """Test part: super-resolved too, never shown to generator or discriminator."""
    unseen: int | None = Field(None, ge=0)
    """Test part: never super-resolved by the zero-shot way."""

    @model_validator(mode="after")
    def _remainders(self) -> Self:
        for one, other in (("zssr", "generator"), ("table1", "unseen")):
            if getattr(self, one) is None and getattr(self, other) is None:
                raise ValueError(f"{one} and {other} cannot both take what remains: give one of them a number")
        return self


class DataSettings(_Settings):
    """Which images, and how they are dealt out."""

    sources: Annotated[tuple[SourceSettings, ...], Field(strict=False, min_length=1)]
    """The sets of images."""
    size: int | None = Field(32, ge=8, le=1024)
    """Images are resized to this side in pixels (antialiased bicubic, 8 bit); null keeps each image's own size."""
    smallest: int = Field(8, ge=1)
    """Images with a shorter side, in pixels, are listed and skipped."""
    train: float = Field(0.7, gt=0, lt=1)
    """Share of the training part: of the identities, and of the images without one."""
    roles: RoleSettings = RoleSettings()

    @model_validator(mode="after")
    def _names(self) -> Self:
        labels = [source.label for source in self.sources]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"two sources are called {twice!r}: give each a name of its own")
        return self

    def without_roots(self) -> dict[str, JsonValue]:
        """The settings as JSON without where the files lie: what is the same on every machine."""
        data: dict[str, Any] = self.model_dump(mode="json")
        for source, settings in zip(data["sources"], self.sources, strict=True):
            del source["root"]
            source["name"] = settings.label
        return data


class SynthSettings(_Settings):
    """How synthetic HR images are made of LR ones, without any HR image."""

    preset: str = "quality"
    """Zero-shot settings: `paper`, `original`, `quality`, `fast`, or a YAML file."""
    scale: float = Field(2.0, ge=1, le=8)
    """Factor per side."""
    init: Literal["scratch", "shared"] = "shared"
    """`scratch`: a network of its own for each image (the paper's way; label internal). `shared`: one network learnt
    on the LR images of the training part (label case)."""
    init_from: str | None = None
    """With `shared`: a kept shared start (.safetensors) instead of learning one."""
    degradation: str = Field("bicubic", min_length=1)
    """How the cameras shrank the scene: `bicubic`, without noise and compression; `estimate`, from the LR images of the
    training part, of each camera for itself (label case); or the file of an estimate, for all images."""
    noise: float | None = Field(None, ge=0, le=0.5)
    """Standard deviation of the noise in training, [0, 1] units; null leaves the preset's."""
    shard: int = Field(256, ge=1, le=100_000)
    """Images of one file of the store: what a kill may cost each process, at most twice."""

    @model_validator(mode="after")
    def _start(self) -> Self:
        if self.init_from is not None and self.init != "shared":
            raise ValueError("init_from names a shared start, and init is scratch: set init to shared")
        if self.init_from is not None and self.noise is not None:
            raise ValueError("a shared start is used as it was learnt: leave noise out, or init_from")
        if self.noise is not None and self.degradation != "bicubic":
            raise ValueError("noise is part of the degradation: leave noise out, or set degradation to bicubic")
        return self

    @property
    def degradation_from(self) -> Literal["bicubic", "estimate", "file"]:
        """Where the degradation comes from."""
        return "bicubic" if self.degradation == "bicubic" else "estimate" if self.degradation == "estimate" else "file"


class NetworkSettings(_Settings):
    """A network by name, and its options: those of the dataclass in the network's own file."""

    name: str = "srgan"
    """`srgan`."""
    options: dict[str, JsonValue] = {}
    """See `GeneratorOptions` and `DiscriminatorOptions` in `networks/srgan.py`; what is left out keeps its default, and
    scale, channels and size may be left out, as the data give them."""


class MediatorSettings(_Settings):
    """The network in whose features the generator's outputs are compared with their guides."""

    network: Literal["vgg19", "vgg16"] = "vgg19"
    """The paper's, or its smaller sister."""
    weights: str = Field("imagenet", min_length=1)
    """`imagenet` (VGG19's, fetched by `zssr-gan weights fetch vgg19`), `random`, or a file."""
    layers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("conv5_4",)
    """Names of its convolutions, conv1_1 to conv5_4 (VGG16: conv5_3)."""
    activated: bool = True
    """Features after the ReLU, or before it."""


class LossSettings(_Settings):
    """Weights of what the generator minimises; 0 leaves a loss out, and what only it needs is then not computed."""

    adversarial: float = Field(1.0e-3, ge=0)
    """To pass the discriminator; in the adversarial phase alone."""
    mediator: float = Field(1.0, ge=0)
    """Mean squared distance to the guide in the mediator's features; with ImageNet's weights some hundred times what it
    is among pixels."""
    statistics: float = Field(0.0, ge=0)
    """Distance of the features' means and deviations to those of synthetic HR images."""
    pixel: float = Field(0.0, ge=0)
    """Mean absolute distance to the guide, pixel by pixel."""
    consistency: float = Field(0.0, ge=0)
    """The output, degraded as the camera did it, must give the input back."""
    recurrence: float = Field(0.0, ge=0)
    """The input, shrunk and captured as the camera did it, must give the input: what stage 1 learns from, too."""
    recurrence_features: float = Field(0.0, ge=0)
    """The same in the mediator's features: what detail looks like, from the only sharp images that there are."""
    guide: Literal["input", "synthetic"] = "input"
    """What outputs are compared with: the enlarged input (bicubic), or the image's own synthetic HR."""
    guides_as_fakes: bool = False
    """Whether the discriminator sees the guides as fakes too (FG-SRGAN)."""
    real_label: float = Field(1.0, gt=0.5, le=1)
    """What the discriminator should say of real examples."""

    @property
    def need_features(self) -> bool:
        """Whether any of them looks through the mediator."""
        return bool(self.mediator or self.statistics or self.recurrence_features)

    @property
    def have_content(self) -> bool:
        """Whether there is anything but the adversarial loss."""
        return bool(self.need_features or self.pixel or self.consistency or self.recurrence)


class RealSettings(_Settings):
    """What the discriminator takes for real, by weight; 0 leaves a kind out, and it is then not drawn."""

    synthetic: float = Field(1.0, ge=0)
    """Synthetic HR images: only as sharp as they were made."""
    lr: float = Field(0.0, ge=0)
    """Patches of the LR images as they are, noise and all: edges as sharp as the camera's pixels."""
    shrunk: float = Field(0.0, ge=0)
    """Patches of the LR images, shrunk by bicubic: with half the blur and less noise, so for blurred footage."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.weights.values()):
            raise ValueError("all are 0, so the discriminator sees nothing real: set synthetic to 1")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each kind."""
        return {"synthetic": self.synthetic, "lr": self.lr, "shrunk": self.shrunk}


class OptimiserSettings(_Settings):
    """Adam, of the generator and of the discriminator; or Muon for the generator."""

    kind: Literal["adam", "muon"] = "adam"
    """Of the generator. `muon` (Jordan et al. 2024): convolutions between features step along their orthogonalised
    momentum, all other weights by Adam."""
    muon_ratio: float = Field(10.0, gt=0, le=1e6)
    """Muon's rate as a multiple of `lr`."""
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    """Decay of Muon's momentum."""
    lr: float = Field(2.0e-4, gt=0, le=1e30)
    """Learning rate of the generator; more than 1e30, and float32 does not hold a step of Adam."""
    lr_discriminator: float | None = Field(None, gt=0, le=1e30)
    """Of the discriminator; null: as the generator's."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` lets the rates fall to 0, over both phases: a new start with the second would undo the first."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of a network's gradient; null: any."""


class TurnSettings(_Settings):
    """How discriminator and generator take turns in the adversarial phase."""

    unit: Literal["epochs", "steps"] = "steps"
    """What the numbers count. A network's epoch is one pass through its own images. The last turns are whole ones: with
    `generator` 2 and `epochs` 3, it trains for 4."""
    discriminator: int = Field(1, ge=1)
    generator: int = Field(1, ge=1)


class ValidationSettings(_Settings):
    """What is measured, and on which images; they are taken from those with a synthetic HR, and not trained on."""

    images: int = Field(16, ge=2)
    """How many."""
    best: Literal["synthetic", "residual", "last"] = "synthetic"
    """Which generator of the last phase is kept: the one closest to the synthetic HR images (PSNR), the one whose
    outputs, degraded, come closest to the inputs, or the last."""


class IntervalSettings(_Settings):
    """After how many steps something is done."""

    log: int = Field(10, ge=1)
    """A line in metrics.jsonl; counted by each network for itself."""
    validation: int = Field(500, ge=1)
    """Validation."""
    checkpoint: int = Field(500, ge=1)
    """A checkpoint: what a kill costs at most."""
    samples: int = Field(2000, ge=1)
    """A sheet of samples; validation comes with it, since it needs the same outputs."""
    keep: int = Field(3, ge=1)
    """So many checkpoints are kept, the newest."""


class TrainSettings(_Settings):
    """How the generator is trained, without any HR image."""

    generator: NetworkSettings = NetworkSettings()
    discriminator: NetworkSettings = NetworkSettings()
    images: Literal["generator", "zssr"] = "generator"
    """Role of the LR images that the generator learns from: those of its own, or those that have a synthetic HR."""
    mediator: MediatorSettings = MediatorSettings()
    losses: LossSettings = LossSettings()
    reals: RealSettings = RealSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    batch: int = Field(50, ge=1)
    """Images of one step, over all processes."""
    patch: int | None = Field(32, ge=8)
    """Side in LR pixels of what is cut out of each image; smaller images are left out. null: whole images, all of one
    size."""
    pretrain: int = Field(1, ge=0)
    """Epochs of the generator by content alone, without the discriminator."""
    epochs: int = Field(100, ge=0)
    """Adversarial epochs of the generator, after these."""
    turns: TurnSettings = TurnSettings()
    ema: float = Field(0.999, ge=0, lt=1)
    """Share that the mean of the generator's weights keeps at each of its steps, smaller in the first ones; the mean is
    what is validated and kept. 0: the weights themselves."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of products; `auto`: bf16 where the device has matrix units for it."""
    compile: bool = False
    """Whether the networks are compiled (torch.compile): takes minutes and a C++ compiler first, and is worth it on a
    GPU, if anywhere. Results differ in their last bits."""
    validation: ValidationSettings = ValidationSettings()
    every: IntervalSettings = IntervalSettings()
    tensorboard: bool = False
    """Whether metrics and samples are written for TensorBoard too; needs the extra `zssr-gan[tensorboard]`."""

    @model_validator(mode="after")
    def _content(self) -> Self:
        losses = self.losses
        if losses.guide == "synthetic" and self.images != "zssr":
            raise ValueError("losses.guide: synthetic needs images that have one: set train.images to zssr")
        if not losses.have_content:
            if self.pretrain:
                raise ValueError(
                    "pretrain goes by content alone, and all content losses are 0: set one, or pretrain to 0"
                )
            if not losses.adversarial:
                raise ValueError("losses: all are 0, so there is nothing to learn")
        if not self.pretrain + self.epochs:
            raise ValueError("pretrain and epochs are both 0, so there is nothing to do")
        if self.epochs and not losses.adversarial:
            raise ValueError("losses.adversarial: is 0, so set epochs to 0 too and train by pretrain alone")
        return self


class TruthSettings(SourceSettings):
    """Images of high resolution, which are made small: what methods make of these is held against them."""

    kind: Kind = "folder"
    """As a source's."""
    side: int = Field(64, ge=16, le=1024)
    """Truths are resized to this side in pixels; a multiple of `synth.scale`."""
    preset: str = "quality"
    """Zero-shot settings of the network that is learnt on all small images together, and of those of `alone`."""
    alone: bool = True
    """Whether each small image gets a zero-shot network of its own, too: the slowest of the methods."""


class EvaluateSettings(_Settings):
    """What the tables and figures are made of."""

    samples: int = Field(8, ge=1, le=100)
    """Images of each role that are shown one by one, drawn by the run's seed."""
    most: int | None = Field(1000, ge=1)
    """At most so many images of a role are measured, drawn by the run's seed; null: all."""
    timed: int = Field(8, ge=1)
    """Synthetic HR images that are made again, side by side, to know how long it takes."""
    features: MediatorSettings = MediatorSettings()
    """What perceptual and Frechet distance look through."""
    truth: TruthSettings | None = None
    """Where truths are known; null: nowhere."""


class RunSettings(_Settings):
    """A whole run: what its `configs/*.yaml` holds."""

    description: str = ""
    """One line for a person who chooses."""
    run_dir: str | None = None
    """Folder of the run; null: runs/<name of the config file>."""
    seed: int = Field(0, ge=0)
    """Same seed, same draws."""
    data: DataSettings
    synth: SynthSettings = SynthSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    def folder(self, config: Path) -> Path:
        """The run's folder, for settings that were read from the file `config`."""
        return Path("runs") / config.stem if self.run_dir is None else Path(self.run_dir).expanduser()

    def as_yaml(self, config: Path) -> str:
        """All settings, defaults filled in, as YAML that `load_run` reads back; `config` gives the run's folder."""
        data = {**self.model_dump(mode="json"), "run_dir": str(self.folder(config))}
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def load_run(path: Path, changes: Sequence[str] = ()) -> RunSettings:
    """Settings from a YAML file with changes put in.

    Args:
        path: the file.
        changes: "a.b=value", the value read as YAML; "data.sources.0.root=faces" reaches into a list.

    Raises:
        SettingsError: names the file or the change, the key, and what is wrong with it.
    """
    try:
        data = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:  # also bytes that are not UTF-8
        raise SettingsError(f"{path}: is not valid YAML ({error}).") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: holds no settings: lines such as 'seed: 0' belong there.")
    for change in changes:
        _change(data, change)
    try:
        return RunSettings.model_validate(data)
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise SettingsError(f"{path}: {_plainly(error.errors(include_url=False)[0])}{more}.") from error


def _change(data: dict[str, Any], change: str) -> None:
    """Put one "a.b=value" into nested mappings and lists."""
    key, equals, text = change.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SettingsError(f"--set {change}: is not of the form key=value, such as data.size=32.")
    try:
        value = read_yaml(text)
    except ValueError as error:
        raise SettingsError(f"--set {change}: the value is not valid YAML ({error}).") from error
    node: Any = data
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                place = ".".join(parts[:depth])
                raise SettingsError(f"--set {change}: {place} is a list of {len(node)}, counted from 0.")
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
            if not last and node.get(part) is None:
                node[part] = {}
        else:
            raise SettingsError(f"--set {change}: {'.'.join(parts[:depth])} is one value and has no {part}.")
        if last:
            node[index] = value
        node = node[index]


def _plainly(error: ErrorDetails) -> str:
    """pydantic's first complaint in a user's words, the key first."""
    key = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such setting"
    if error["type"] == "missing":
        return f"{key}: is missing"
    if error["type"] == "model_type":
        return f"{key}: must be a group of settings"
    return f"{key}: {must_be(error)}"
