"""The group `train.pairs`: LR images that are made of HR ones, patch by patch, during a training."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictFloat, model_validator

from zssr_gan.settings.base import Settings


def _both_ends(value: Any) -> Any:
    """A number stands for a range of that number alone."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    if not isinstance(value, list | tuple):
        raise ValueError("must be a number or two of them")
    return value


Span = Annotated[tuple[StrictFloat, StrictFloat], BeforeValidator(_both_ends), Field(strict=False)]
"""A number, or the two ends of a range, `[0.0, 0.05]`."""


class PairDegradationSettings(Settings):
    """What is done to an HR image on its way to the LR one: blur, then bicubic shrinking, noise, compression.

    Each is a number or the two ends of a range. Of ranges, 64 degradations are drawn by the run's seed before the
    training, and each patch draws one of them: so the card can list all that the generator was trained for.
    """

    blur: Span = (0.0, 0.0)
    """Standard deviation of a round Gaussian, pixels of the HR image, 0 to 8."""
    noise: Span = (0.0, 0.0)
    """Standard deviation of Gaussian noise of each channel, [0, 1] units, 0 to 0.5."""
    jpeg: Span | None = None
    """Quality as libjpeg counts it, whole numbers from 1 to 100; null: no compression."""

    @model_validator(mode="after")
    def _within(self) -> Self:
        limits = {"blur": (0, 8), "noise": (0, 0.5), "jpeg": (1, 100)}
        for name, (least, most) in limits.items():
            span = getattr(self, name)
            if span is not None and not least <= span[0] <= span[1] <= most:
                raise ValueError(f"{name} is a number from {least} to {most}, or two of them, the smaller one first")
        if self.jpeg is not None and any(end != int(end) for end in self.jpeg):
            raise ValueError("jpeg is a quality in whole numbers, such as 75")
        return self


class AugmentSettings(Settings):
    """How the HR image is moved before a patch is cut out of it, drawn anew for each patch. 0: not at all.

    What comes into view from beyond the image's border is its mirror image.
    """

    flips: bool = True
    """Whether patches are flipped and turned by quarters, all eight ways."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Up to so many degrees either way."""
    shear: float = Field(0.0, ge=0, le=45)
    """Up to so many degrees either way, along the rows."""
    translate: float = Field(0.0, ge=0, le=0.5)
    """Up to such a share of a patch's side either way, by parts of pixels too."""

    @property
    def warps(self) -> bool:
        """Whether an image is interpolated, which costs some sharpness."""
        return bool(self.rotate or self.shear or self.translate)


class PatchSettings(Settings):
    """Which patches are cut out of the HR images; their side is `train.patch`, in LR pixels."""

    per_image: int = Field(1, ge=1)
    """So many of each image in an epoch."""
    corner: Literal["any", "inner"] = "any"
    """`inner`: the first corner lies in the inner half of rows and columns, or as near to it as the image allows."""


class PairedSettings(Settings):
    """LR images made of HR ones: those of the training part, with the roles `zssr` and `generator`."""

    scale: Literal[1, 2, 3, 4, 8] = 4
    """Factor per side."""
    shrink: Literal[2, 3, 4, 8] | None = None
    """With scale 1: the image is shrunk by this, and enlarged again by bicubic to its own size."""
    degradation: PairDegradationSettings = PairDegradationSettings()
    augment: AugmentSettings = AugmentSettings()
    patches: PatchSettings = PatchSettings()
    channels: Literal[1, 3] | None = None
    """1: luma alone; 3: RGB; null: as the images held out are, gray where none of them has colours."""
    memory: int = Field(1024, ge=16)
    """MiB of decoded HR images that are kept for the next patches of them."""

    @model_validator(mode="after")
    def _shrinks(self) -> Self:
        if self.scale == 1 and self.shrink is None:
            raise ValueError("scale 1 needs shrink: by how much an image is shrunk before it is enlarged again")
        if self.scale != 1 and self.shrink is not None:
            raise ValueError("shrink is for scale 1 alone: leave it out, as scale says how an image is shrunk")
        return self

    @property
    def reduction(self) -> int:
        """By what an image is shrunk a side."""
        return self.shrink or self.scale
