"""Settings of the zero-shot way, and of what is done with a generator's output. They know no torch.

A preset is one of these as YAML (`zssr_gan/settings/presets/`). An unknown key is an error that names it, and so is a
value of the wrong kind.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from zssr_gan.errors import SettingsError
from zssr_gan.settings.base import Settings, explain, merged, parse, read_preset

PRESETS = ("paper", "original", "quality", "fast")

SMALL_PIXELS = 64 * 64
"""Images of at most so many pixels take the settings of a preset's block `small`."""

SMALLEST_SIDE = 8
"""Pixels a side that an image needs: shrunk by 2 it still has 4, the reach of the bicubic kernel."""

FEWEST_SMALL = 8
"""So many small images are learnt from together unasked, if they are at least half of all."""


def is_small(width: int, height: int) -> bool:
    """Whether an image that can be learnt from is small (`SMALL_PIXELS`)."""
    return min(width, height) >= SMALLEST_SIDE and width * height <= SMALL_PIXELS


def learns_on_all(small: int, images: int) -> bool:
    """Whether one network learns on all of some images unasked, by how many of them are small."""
    return small >= FEWEST_SMALL and 2 * small >= images


class ZSSRSettings(Settings):
    """The per-image CNN, `zssr_gan.networks.zssr.ZSSR`. The defaults are the original's."""

    depth: int = Field(8, ge=2, le=64)
    """Convolutions, the first and the last included."""
    width: int = Field(64, ge=1, le=1024)
    """Channels between them."""
    bias: bool = False
    """Whether convolutions have a bias."""
    grid: Literal["interpolated", "lr"] = "interpolated"
    """Whether the network works on the interpolated image (the original) or on the LR image's own pixels, of which its
    last convolution makes blocks of larger pixels (at x2 a quarter of the work, and twice the reach)."""
    residual: bool = False
    """Whether the inner convolutions go in pairs (convolution, ReLU, convolution) that are added to their input (Lim et
    al. 2017, EDSR's block); `depth` is then even."""
    initial: Literal["original", "lecun"] = "original"
    """Initialisation: `original` is N(0, 0.1 / (9 C_in)) (variance); `lecun` is N(0, 1 / (9 C_in)) (LeCun et al. 1998),
    with a tenth of that in the last layer and 0.3 of it in the second of a residual pair, on input moved to [-1, 1]."""

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.residual and self.depth % 2:
            raise ValueError("a residual network has an even depth: two ends and pairs between them")
        return self


class PairSettings(Settings):
    """How training pairs are drawn from the one image."""

    crop: int = Field(128, ge=8, le=1024)
    """Side of a training crop in pixels; never larger than the image."""
    batch: int = Field(1, ge=1, le=256)
    """Crops a step."""
    affine: float = Field(0.0, ge=0, le=1)
    """Share of crops that are warped (scaled, stretched, sheared, turned by any angle) beside the flips and quarter
    turns."""
    phases: bool = False
    """Whether the image is also learnt from shifted by each whole pixel below the scale, so that its LR patches are
    sampled at every sub-pixel shift."""
    plain: float = Field(0.0, ge=0, le=1)
    """Share of crops that are taken as they are, without flip or turn (the original's 5 %)."""
    scale_min: float = Field(0.5, gt=0.1, le=1)
    """A warped crop is shrunk by a factor drawn evenly from [scale_min, 1]."""
    anisotropy: float = Field(0.25, ge=0, le=1)
    """Standard deviation of the logarithm of a warped crop's stretch between its axes."""
    shear: float = Field(0.1, ge=0, le=1)
    """Standard deviation of a warped crop's shear."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.affine + self.plain > 1:
            raise ValueError("affine and plain are shares of the crops: together they are at most 1")
        return self


class OptimiserSettings(Settings):
    """What is done with a gradient."""

    kind: Literal["adam", "muon"] = "adam"
    """`adam`, or `muon` (Jordan et al. 2024): inner convolutions step along their orthogonalised momentum, the first,
    the last and the biases by Adam."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is used at the end; 0 uses the last weights."""
    clip: float = Field(0.0, ge=0)
    """Largest norm of a member's gradient; 0 does not clip."""


class SlopeSchedule(Settings):
    """The original's schedule: the learning rate falls when the reconstruction error stops falling."""

    kind: Literal["slope"] = "slope"
    lr: float = Field(1e-3, gt=0, le=1)
    """Learning rate at the start."""
    ratio: float = Field(1.5, gt=0)
    """The rate falls where ratio * (-slope) < standard deviation of the slope: 1.5 in the original, 1 in the seed
    paper's reading."""
    covariance: Literal["unbiased", "numpy-1.15"] = "numpy-1.15"
    """Normalisation of the slope's variance: residuals / (n - 2), or / (n - 4) as numpy's polyfit had it when the
    original was written."""
    stop_lr: float = Field(9e-6, gt=0)
    """Training ends when the rate is at or below this."""
    iterations: int = Field(3000, ge=1, le=1_000_000)
    """... and after so many iterations in any case."""


class CosineSchedule(Settings):
    """A fixed budget: a linear rise, then half a cosine down to zero (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    lr: float = Field(2e-3, gt=0, le=1)
    """Learning rate at the top."""
    iterations: int = Field(1000, ge=1, le=1_000_000)
    """Iterations."""


Schedule = Annotated[SlopeSchedule | CosineSchedule, Field(discriminator="kind")]

_Share = Annotated[float, Field(ge=0, le=1)]

_Pair = Annotated[tuple[_Share, _Share], Field(strict=False)]  # a list in a file, where there are no tuples


class StepSettings(Settings):
    """How the way to the asked scale is cut into steps."""

    gradual: Annotated[tuple[_Pair, ...], Field(strict=False)] = ((1.0, 1.0),)
    """Sub-steps (y, x), as shares of the way from 1 to the step's scale: at x2, 0.5 is x1.5. Weights are kept from one
    to the next and each result joins the images learnt from. The last must be (1, 1)."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not self.gradual or self.gradual[-1] != (1.0, 1.0):
            raise ValueError("the last gradual sub-step must be [1, 1]: the step's whole scale")
        return self


class OutputSettings(Settings):
    """What happens to any network's output."""

    ensemble: bool = True
    """Geometric self-ensemble: the image is put through in its 8 flips and turns (4 where the scales of the axes
    differ)."""
    back_projections: int = Field(10, ge=0, le=100)
    """Back-projections of the combined image; at most 2 where a blur kernel is given, as more diverge."""


class RefinementSettings(OutputSettings):
    """What happens to the output of networks that were learnt on the image or its case."""

    member_back_projections: int = Field(0, ge=0, le=100)
    """Back-projections of each view before they are combined. Left out above 2 output megapixels (memory); the record
    says so."""


class ChoiceSettings(Settings):
    """Network or plain back-projection: measured on parts of the image that a network was not trained on."""

    folds: int = Field(0, ge=0, le=64)
    """The image's blocks are dealt into so many folds; network j does not learn from fold j. 0 always takes the
    network."""

    @model_validator(mode="after")
    def _others(self) -> Self:
        if self.folds == 1:
            raise ValueError("one fold would leave nothing to learn from: set folds to 0, or to 2 or more")
        return self


class ZeroShotSettings(Settings):
    """Every constant of the zero-shot way."""

    description: str = ""
    """One line for a person who chooses."""
    network: ZSSRSettings = ZSSRSettings()
    pairs: PairSettings = PairSettings()
    schedule: Schedule = CosineSchedule()
    optimiser: OptimiserSettings = OptimiserSettings()
    steps: StepSettings = StepSettings()
    refinement: RefinementSettings = RefinementSettings()
    choice: ChoiceSettings = ChoiceSettings()
    networks: int = Field(1, ge=1, le=64)
    """Networks trained on the image, from different starts; their outputs are one larger ensemble."""
    rounds: int = Field(1, ge=1, le=10)
    """Of a shared model: from the second round on, the results of the round before are learnt from too."""
    small: dict[str, JsonValue] | None = None
    """Settings that small images, of at most `SMALL_PIXELS`, take over the others (merged key by key)."""
    shared: dict[str, JsonValue] | None = None
    """Settings that one model, learnt on all images of a case, takes over the others (merged key by key)."""

    @model_validator(mode="after")
    def _blocks(self) -> Self:
        for name in ("small", "shared"):
            block = getattr(self, name)
            if block is not None:
                try:
                    self._with(block)
                except ValidationError as error:
                    raise ValueError(f"{name}.{explain(ZeroShotSettings, error)}") from error
        return self

    def _with(self, block: Mapping[str, JsonValue] | None) -> "ZeroShotSettings":
        """The settings with those of a block over them, and without blocks."""
        data = self.model_dump(exclude={"small", "shared"})
        # A schedule of another kind shares no keys with this one's.
        schedule = (block or {}).get("schedule")
        if isinstance(schedule, Mapping) and schedule.get("kind", data["schedule"]["kind"]) != data["schedule"]["kind"]:
            del data["schedule"]
        return ZeroShotSettings.model_validate(merged(data, block or {}))

    def for_size(self, pixels: int) -> "ZeroShotSettings":
        """The settings for an image of so many pixels and networks of its own."""
        return self._with(self.small if pixels <= SMALL_PIXELS else None)

    def for_case(self) -> "ZeroShotSettings":
        """The settings for one model learnt on all images of a case.

        Its results are used as they are: nothing is held out of any single image.
        """
        alone = {"steps": StepSettings(), "choice": ChoiceSettings(), "networks": 1}
        return self._with(self.shared).model_copy(update=alone)


def parse_settings(data: object, name: str) -> ZeroShotSettings:
    """Check zero-shot settings. Raises SettingsError, which names the key."""
    return parse(ZeroShotSettings, data, name)


def load_preset(name: str) -> ZeroShotSettings:
    """Zero-shot settings by the name of a preset (`PRESETS`), or from a YAML file of the same form.

    Raises:
        SettingsError: neither a preset nor a readable YAML file with known keys.
    """
    return parse_settings(read_preset(name, PRESETS), name)


GENERATOR_PRESETS = ("generator", "raw")
"""The first is the default."""


class GeneratorSettings(Settings):
    """Every constant of the generative way."""

    description: str = ""
    """One line for a person who chooses."""
    refinement: OutputSettings = OutputSettings()


def parse_generator_settings(data: object, name: str) -> GeneratorSettings:
    """Check settings of a generator's output. Raises SettingsError, which names the key."""
    return parse(GeneratorSettings, data, name)


def load_generator_preset(name: str) -> GeneratorSettings:
    """Settings by the name of a preset (`GENERATOR_PRESETS`), or from a YAML file of the same form.

    Raises:
        SettingsError: neither, or a preset of the zero-shot way.
    """
    if name in PRESETS:
        raise SettingsError(
            f"the preset {name} says how a network is trained on the image, and a generator is trained already: choose "
            f"{' or '.join(GENERATOR_PRESETS)}, or a .yaml file with the group refinement."
        )
    data = read_preset(name, GENERATOR_PRESETS)
    return parse_generator_settings(data, name if name in GENERATOR_PRESETS else f"{name} (for a generator)")
