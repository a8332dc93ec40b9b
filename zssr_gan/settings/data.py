"""The group `data`: which images, and how they are dealt out."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from zssr_gan.settings.base import Settings

Kind = Literal["folder", "tinyface", "survface", "lfw", "photographs"]

_BUILT_IN = ("lfw", "photographs")


class SourceSettings(Settings):
    """One set of images: of low resolution, or with `train.pairs` of high resolution."""

    kind: Kind
    """`folder` (any tree of images), `tinyface`, `survface` (their published layouts; see data/README.md), `lfw` (the
    100 gray faces of 25x25 px that scikit-image ships), or `photographs` (its five colour photographs, in 64 tiles of
    128x128 px)."""
    root: str | None = None
    """Folder of the images; `lfw` and `photographs` have none."""
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
        built_in = self.kind in _BUILT_IN
        if (self.root is None) != built_in:
            raise ValueError(
                f"{self.kind} is built in and has no root" if built_in else "root is missing: name the folder"
            )
        return self


class RoleSettings(Settings):
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


class DataSettings(Settings):
    """Which images, and how they are dealt out."""

    sources: Annotated[tuple[SourceSettings, ...], Field(strict=False, min_length=1)]
    """The sets of images."""
    size: int | None = Field(32, ge=8, le=4096)
    """Images are resized to a square of this side in pixels (antialiased bicubic, 8 bit); null keeps each image's own
    size, as photographs of any shape should."""
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
