"""The compression that was found in images, as an estimate's file and a result's record hold it, in words too."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field

from zssr_gan.degradation.compression import CompressionGroup
from zssr_gan.provenance import FileModel

Phase = tuple[int, int]
"""Rows and columns, 0 to 7, from an image's corner to its first whole block of 8x8 pixels."""


class _Found(FileModel):
    quality: int | None = Field(description="of the first compression, as libjpeg counts it; null: not known")
    saved_again: int | None = Field(description="quality of a later save, under which the first was found")
    evidence: float | None = Field(
        description="natural logarithm of how much likelier the pixels of all images with it are with the compression "
        "than without; null: the files' own tables say it"
    )
    seen: int = Field(description="how many of these images say so each for itself")

    def _text(self, images: int) -> str:
        name = "quality not known" if self.quality is None else f"quality {self.quality}"
        again = "" if self.saved_again is None else f", saved again with {self.saved_again}"
        if self.evidence is None:
            return f"{name}{again}: the tables of {images} file{'s' * (images > 1)}"
        count = f"{self.seen} of {images} image{'s' * (images > 1)}"
        return f"{name}{again}: seen in {count}, evidence of {self.evidence:,.0f} nats"


class ImageCompression(_Found):
    """What was found in one image, and in how many others with it."""

    images: int = Field(description="how many images were searched and have it")
    phase: Phase | None = Field(description="rows and columns from the corner to the first block; null: not known")

    @property
    def summary(self) -> str:
        """In a few words."""
        where = (
            "" if self.evidence is None or self.phase is None else f", blocks from ({self.phase[1]}, {self.phase[0]})"
        )
        return f"{self._text(self.images)}{where}"


class SetCompression(_Found):
    """What was found in some images of a set."""

    phases: dict[str, Phase | None] = Field(description="of each image that was searched and has it, by its SHA-256")

    @classmethod
    def of(cls, group: CompressionGroup, hashes: Sequence[str]) -> Self:
        """A group of images with these hashes, in the group's order."""
        return cls(
            quality=group.quality,
            saved_again=None if group.outer is None else group.outer.quality,
            evidence=None if math.isinf(group.evidence) else round(group.evidence, 1),
            seen=group.seen,
            phases=dict(zip(hashes, group.phases, strict=True)),
        )

    def of_image(self, sha256: str) -> ImageCompression:
        """As a record of the image with this hash has it."""
        values = {name: getattr(self, name) for name in _Found.model_fields}
        return ImageCompression(**values, images=len(self.phases), phase=self.phases.get(sha256))

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
