"""The group `train`: networks, losses, optimiser, alternation, and what is measured on the way."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from zssr_gan.settings.base import Settings
from zssr_gan.settings.pairs import PairedSettings


class PatienceSettings(Settings):
    """For how long a loss may fail to fall below its lowest value; looked at when an epoch of the generator ends."""

    of: Literal["validation", "training"] = "validation"
    """Which: the weighted content losses on the images held out, or the mean of the generator's loss over the epoch."""
    patience: int = Field(10, ge=1)
    """Epochs in a row."""


class NetworkSettings(Settings):
    """A network by name, and its options: those of the dataclass in the network's own file."""

    name: str = "srgan"
    """The `kind` of a network in `networks/`. Generators: `srgan`, `esrgan`, `srcnn`, `autoencoder`, `dcgan`;
    discriminators: `srgan`, `dcgan`."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """See the dataclass in the network's own file, such as `SRGANGeneratorOptions` in `networks/srgan.py`; what is left
    out keeps its default, and scale, channels and size may be left out, as the data give them."""


class MediatorSettings(Settings):
    """The network in whose features the generator's outputs are compared with their references."""

    network: Literal["vgg19", "vgg16"] = "vgg19"
    """The paper's, or its smaller sister."""
    weights: str = Field("imagenet", min_length=1)
    """`imagenet` (VGG19's, fetched by `zssr-gan weights fetch vgg19`), `random`, or a file."""
    layers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("conv5_4",)
    """Names of its convolutions, conv1_1 to conv5_4 (VGG16: conv5_3)."""
    activated: bool = True
    """Features after the ReLU, or before it."""


class LossSettings(Settings):
    """Weights of what the generator minimises; 0 leaves a loss out, and what only it needs is then not computed."""

    adversarial: float = Field(1.0e-3, ge=0)
    """To pass the discriminator; in the adversarial phase alone."""
    mediator: float = Field(1.0, ge=0)
    """Mean squared distance to the reference in the mediator's features; with ImageNet's weights some hundred times
    what it is among pixels."""
    pixel: float = Field(0.0, ge=0)
    """Mean distance to the reference, pixel by pixel."""
    pixel_norm: Literal["l1", "l2"] = "l1"
    """Of `pixel`: the mean absolute distance (MAE), or the mean squared one (MSE)."""
    consistency: float = Field(0.0, ge=0)
    """The output, degraded as the camera did it, must give the input back."""
    recurrence: float = Field(0.0, ge=0)
    """The input, shrunk and captured as the camera did it, must give the input: what stage 1 learns from, too."""
    recurrence_features: float = Field(0.0, ge=0)
    """The same in the mediator's features: what detail looks like, from the only sharp images that there are."""
    reference: Literal["input", "synthetic", "truth"] = "input"
    """What outputs are compared with: the enlarged input (bicubic), the image's own synthetic HR, or, with `pairs`, the
    HR image itself, which is then the default."""
    gan: Literal["bce", "relativistic"] = "bce"
    """What the two networks play for: `bce`, whether an example is real; `relativistic`, whether it is more real than
    fakes are on average (ESRGAN)."""

    @property
    def against_reals(self) -> bool:
        """Whether the generator's adversarial loss holds its outputs against real examples."""
        return self.gan == "relativistic"

    @property
    def need_features(self) -> bool:
        """Whether any of them looks through the mediator."""
        return bool(self.mediator or self.recurrence_features)

    @property
    def have_content(self) -> bool:
        """Whether there is anything but the adversarial loss."""
        return bool(self.need_features or self.pixel or self.consistency or self.recurrence)


class RealSettings(Settings):
    """What the discriminator takes for real, by weight; 0 leaves a kind out, and it is then not drawn."""

    synthetic: float = Field(1.0, ge=0)
    """Synthetic HR images: only as sharp as they were made."""
    truth: float = Field(0.0, ge=0)
    """With `pairs`: the HR images themselves; then 1, and synthetic 0, where nothing else is said."""
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
        return dict(self)


class OptimiserSettings(Settings):
    """Adam, of the generator and of the discriminator; or Muon for the generator."""

    kind: Literal["adam", "muon"] = "adam"
    """Of the generator. `muon` (Jordan et al. 2024): convolutions between features step along their orthogonalised
    momentum, all other weights by Adam."""
    lr: float = Field(2.0e-4, gt=0, le=1e30)
    """Learning rate of the generator; more than 1e30, and float32 does not hold a step of Adam."""
    lr_discriminator: float | None = Field(None, gt=0, le=1e30)
    """Of the discriminator; null: as the generator's."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """`cosine` lets the rates fall to 0, over both phases: a new start with the second would undo the first. `plateau`
    halves them where a loss has not gained for some epochs."""
    plateau: PatienceSettings = PatienceSettings()
    """When `schedule: plateau` halves the rates."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of a network's gradient; null: any."""


class AlternationSettings(Settings):
    """How discriminator and generator alternate in the adversarial phase."""

    unit: Literal["epochs", "steps"] = "steps"
    """What the numbers count. A network's epoch is one pass through its own images. The last turns are whole ones: with
    `generator` 2 and `epochs` 3, it trains for 4."""
    discriminator: int = Field(1, ge=1)
    generator: int = Field(1, ge=1)


class ValidationSettings(Settings):
    """What is measured, and on which images; they are taken from those with a synthetic HR, or with `pairs` from the HR
    images, and not trained on."""

    images: int = Field(16, ge=2)
    """How many."""
    best: Literal["synthetic", "truth", "residual", "training_loss", "last"] = "synthetic"
    """Which generator of the last phase is kept: the one closest to the synthetic HR images (PSNR), with `pairs` the
    one closest to the HR images, the one whose outputs, degraded, come closest to the inputs, the one at the end of the
    epoch with the lowest mean loss of the generator, or the last."""


class IntervalSettings(Settings):
    """After how many steps something is done."""

    log: int = Field(10, ge=1)
    """A line in metrics.jsonl; counted by each network for itself."""
    validation: int = Field(500, ge=1)
    """Validation."""
    checkpoint: int = Field(500, ge=1)
    """A checkpoint: what a kill costs at most."""
    samples: int = Field(2000, ge=1)
    """A sheet of samples; validation comes with it, since it needs the same outputs."""


_WITH_PAIRS: Mapping[str, Mapping[str, JsonValue]] = {
    "losses": {"reference": "truth"},
    "reals": {"synthetic": 0.0, "truth": 1.0},
    "validation": {"best": "truth"},
}
"""Defaults of a training that has the HR images, by group."""


class TrainSettings(Settings):
    """How the generator is trained: without any HR image, or, with `pairs`, on HR images and LR images made of them."""

    generator: NetworkSettings = NetworkSettings()
    discriminator: NetworkSettings = NetworkSettings()
    images: Literal["generator", "zssr"] = "generator"
    """Role of the LR images that the generator learns from: those of its own, or those that have a synthetic HR."""
    pairs: PairedSettings | None = None
    """How LR images are made of HR ones; null: there are no HR images. With it, the images of the training part are HR
    images, `images` has no meaning, and no synthetic ones are needed."""
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
    stop: PatienceSettings | None = None
    """When the training ends early, counted from the beginning of the last phase; null: never."""
    alternation: AlternationSettings = AlternationSettings()
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

    @model_validator(mode="before")
    @classmethod
    def _of_pairs(cls, data: Any) -> Any:
        """Other defaults where the HR images are there."""
        if not isinstance(data, dict) or data.get("pairs") is None:
            return data
        given = {name: {} if data.get(name) is None else data[name] for name in _WITH_PAIRS}
        groups = {name: {**_WITH_PAIRS[name], **group} for name, group in given.items() if isinstance(group, dict)}
        return {**data, **groups}

    @model_validator(mode="after")
    def _truths(self) -> Self:
        """What needs HR images, and what has no meaning beside them."""
        losses, reals, best = self.losses, self.reals, self.validation.best
        of_truths = {
            "losses.reference: truth": losses.reference == "truth",
            "reals.truth": reals.truth > 0,
            "validation.best: truth": best == "truth",
        }
        of_synthetic = {
            "images: zssr": self.images == "zssr",
            "losses.reference: synthetic": losses.reference == "synthetic",
            "validation.best: synthetic": best == "synthetic",
            "reals.synthetic": reals.synthetic > 0,
        }
        of_want = {
            "losses.recurrence": losses.recurrence > 0,
            "losses.recurrence_features": losses.recurrence_features > 0,
            "reals.lr": reals.lr > 0,
            "reals.shrunk": reals.shrunk > 0,
        }
        without = "needs HR images: say in train.pairs how LR images are made of them"
        synthetic = "is of synthetic HR images, and with train.pairs there are none: leave it out"
        want = "is for want of HR images, and train.pairs has them: leave it out"
        for asked, why in (
            [(of_truths, without)] if self.pairs is None else [(of_synthetic, synthetic), (of_want, want)]
        ):
            if key := next((key for key, asks in asked.items() if asks), None):
                raise ValueError(f"{key} {why}")
        return self

    @model_validator(mode="after")
    def _content(self) -> Self:
        losses = self.losses
        if losses.reference == "synthetic" and self.images != "zssr":
            raise ValueError("losses.reference: synthetic needs images that have one: set train.images to zssr")
        if not losses.have_content:
            if self.pretrain:
                raise ValueError(
                    "pretrain goes by content alone, and all content losses are 0: set one, or pretrain to 0"
                )
            if not losses.adversarial:
                raise ValueError("losses: all are 0, so there is nothing to learn")
        plateau = self.optimiser.plateau if self.optimiser.schedule == "plateau" else None
        for key, patience in (("stop", self.stop), ("optimiser.plateau", plateau)):
            if patience is not None and patience.of == "validation" and not losses.have_content:
                raise ValueError(
                    f"{key}.of: validation needs a content loss that an image has by itself: set one, or take training"
                )
        if not self.pretrain + self.epochs:
            raise ValueError("pretrain and epochs are both 0, so there is nothing to do")
        if self.epochs and not losses.adversarial:
            raise ValueError("losses.adversarial: is 0, so set epochs to 0 too and train by pretrain alone")
        return self
