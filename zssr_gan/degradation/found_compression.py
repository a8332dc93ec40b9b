"""The compression that was found in images, as an estimate's file and a result's record hold it, in words too."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from zssr_gan.degradation.jpeg import is_own_table, quality_words
from zssr_gan.degradation.model import Jpeg
from zssr_gan.provenance import FileModel

Codec = Literal["video", "webp"]
"""A codec that predicts blocks, so that JPEG only stands for what it did."""

Phase = tuple[int, int]
"""Rows and columns, 0 to 7, from an image's corner to its first whole block of 8x8 pixels."""


class CompressionGroup(BaseModel):
    """Images that one compression explains, or nothing."""

    model_config = ConfigDict(frozen=True)

    images: tuple[int, ...]
    """Positions in the sequence."""
    jpeg: Jpeg | None
    """The first compression that is known; None where none was seen, or its quality is not known. Colour is taken to
    be stored at half the size unless the file says otherwise: luma alone is looked at."""
    outer: Jpeg | None
    """The later save under which `jpeg` was found."""
    evidence: float
    """Natural logarithm of how much likelier the pixels are with the compression than without it; 0 where none was
    seen, infinite where only the files' own tables say it."""
    phases: tuple[Phase | None, ...]
    """For each image, rows and columns from its corner to the first whole block; None where it does not say."""
    seen: int
    """How many of the images say so each for itself."""

    @property
    def quality(self) -> int | None:
        """As libjpeg counts it; None where no compression was seen or its quality is not known."""
        return None if self.jpeg is None else self.jpeg.quality

    @property
    def resaved(self) -> bool:
        """Whether the compression was found under a later one."""
        return self.outer is not None

    @property
    def on_grid(self) -> bool:
        """Whether the blocks begin in the corners of most images, and no later save hides them."""
        return not self.resaved and 2 * self.phases.count((0, 0)) > self.seen

    @property
    def summary(self) -> str:
        """One sentence."""
        count = f"{len(self.images)} image{'s' if len(self.images) > 1 else ''}"
        if self.evidence == 0:
            return f"{count}: no JPEG seen"
        if self.jpeg is None:
            return f"{count}: compressed by JPEG, quality not known"
        where = "the files' tables" if math.isinf(self.evidence) else f"the pixels of {self.seen}"
        under = "" if self.outer is None else f", saved again with quality {self.outer.quality}"
        return f"{count}: JPEG {self.jpeg.summary} ({where}){under}"


class Compression(BaseModel):
    """What was found in a set of images."""

    model_config = ConfigDict(frozen=True)

    groups: tuple[CompressionGroup, ...]
    """The largest first; each image is in one."""

    def of(self, image: int) -> CompressionGroup:
        """The group of an image by its position."""
        return next(group for group in self.groups if image in group.images)

    @property
    def summary(self) -> str:
        """One sentence for a person."""
        return "; ".join(group.summary for group in self.groups) or "no images"


class _Found(FileModel):
    quality: int | None = Field(description="of the first compression, as libjpeg counts it; null: not known")
    own_table: bool = Field(False, description="whether the table is the encoder's own; its quality is the nearest")
    saved_again: int | None = Field(description="quality of a later save, under which the first was found")
    evidence: float | None = Field(
        description="natural logarithm of how much likelier the pixels of all images with it are with the compression "
        "than without; null: the files' own tables say it"
    )
    seen: int = Field(description="how many of these images say so each for itself")

    @property
    def name(self) -> str:
        """The quality in words."""
        return "quality not known" if self.quality is None else quality_words(self.quality, own_table=self.own_table)

    def _text(self, images: int) -> str:
        again = "" if self.saved_again is None else f", saved again with {self.saved_again}"
        if self.evidence is None:
            return f"{self.name}{again}: the tables of {images} file{'s' * (images > 1)}"
        count = f"{self.seen} of {images} image{'s' * (images > 1)}"
        return f"{self.name}{again}: seen in {count}, evidence of {self.evidence:,.0f} nats"


class ImageCompression(_Found):
    """What was found in one image, and in how many others with it."""

    images: int = Field(description="how many images were searched and have it")
    searched: bool = Field(True, description="whether this image is one of them; else it is taken as they are")
    phase: Phase | None = Field(description="rows and columns from the corner to the first block; null: not known")

    @property
    def summary(self) -> str:
        """In a few words."""
        where = (
            "" if self.evidence is None or self.phase is None else f", blocks from ({self.phase[1]}, {self.phase[0]})"
        )
        return f"{self._text(self.images)}{where}{'' if self.searched else '; this image was not searched itself'}"


class SetCompression(_Found):
    """What was found in some images of a set."""

    phases: dict[str, Phase | None] = Field(description="of each image that was searched and has it, by its SHA-256")

    @classmethod
    def of(cls, group: CompressionGroup, hashes: Sequence[str]) -> Self:
        """A group of images with these hashes, in the group's order."""
        return cls(
            quality=group.quality,
            own_table=group.jpeg is not None and is_own_table(group.jpeg.luma, group.jpeg.quality),
            saved_again=None if group.outer is None else group.outer.quality,
            evidence=None if math.isinf(group.evidence) else round(group.evidence, 1),
            seen=group.seen,
            phases=dict(zip(hashes, group.phases, strict=True)),
        )

    def of_image(self, sha256: str) -> ImageCompression:
        """As a record of the image with this hash has it."""
        values = {name: getattr(self, name) for name in _Found.model_fields}
        # A file's own blocks begin in its corner, searched or not.
        phase = self.phases.get(sha256, (0, 0) if self.evidence is None else None)
        searched = sha256 in self.phases or self.evidence is None
        return ImageCompression(**values, images=len(self.phases), searched=searched, phase=phase)

    @property
    def places(self) -> Mapping[Phase, int]:
        """How many images have their first block where."""
        return Counter(phase for phase in self.phases.values() if phase is not None)

    @property
    def summary(self) -> str:
        """In a few words."""
        where = f", blocks from {len(self.places)} places of the grid" if self.evidence is not None else ""
        return f"{self._text(len(self.phases))}{where}"


def set_compressions(groups: Sequence[CompressionGroup], hashes: Sequence[str]) -> tuple[SetCompression, ...]:
    """What was found in images with these hashes, by their positions in the groups; nothing of those without any."""
    return tuple(SetCompression.of(one, [hashes[n] for n in one.images]) for one in groups if one.evidence)


def codec_words(codec: Codec, jpeg: Jpeg) -> str:
    """What a codec did, and the JPEG that stands for it."""
    if codec == "webp":
        return f"WebP's compression, taken as JPEG with steps of {jpeg.luma[0]} levels"
    return f"a video's compression, taken as JPEG {jpeg.summary}"
