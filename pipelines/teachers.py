"""The LR images that a run learns from: of the training part, read once for the degradation and the shared start."""

from dataclasses import dataclass

from torch import Tensor

from pipelines.progress import Bar
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role, Split
from zssr_gan.errors import ImageError
from zssr_gan.imaging.crops import copied_middle_of
from zssr_gan.imaging.degradation import Jpeg
from zssr_gan.stages import DataSettings
from zssr_gan.zeroshot.case import LARGEST_SIDE, middle
from zssr_gan.zeroshot.degradation import jpeg_of
from zssr_gan.zeroshot.shared import CaseImage

LEARNT_FROM: tuple[Role, ...] = ("zssr", "generator")
"""Roles that are learnt from: the training part. The test part teaches nobody."""

_BLOCK = 16  # pixels of JPEG's blocks where colour is halved: a cut between them keeps them whole


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """An LR image to learn from."""

    number: int
    """Its place among those with a role that is learnt from."""
    image: CaseImage
    pixels: Tensor
    """`C H W`, [0, 1]: what a shared start learns from."""
    blocks: Tensor
    """The same, cut between the blocks of its file's compression."""
    jpeg: Jpeg | None
    """How its file was compressed, where the pixels are the file's own."""


class Teachers:
    """The images with a role that is learnt from.

    Args:
        split: which image has which role.
        settings: where they lie.
    """

    def __init__(self, split: Split, settings: DataSettings) -> None:
        self.images = Prepared(split, settings, LEARNT_FROM)
        self.failures: list[str] = []
        """What could not be read, a line each."""
        self._read: list[Teacher] | None = None

    def read(self, bar: Bar) -> list[Teacher]:
        """All that can be learnt from; from the second call on those that the first one read."""
        if self._read is None:
            self._read = []
            for number in range(len(self.images)):
                bar.update("reading", number + 1, len(self.images))
                try:
                    self._read.append(self._one(number))
                except ImageError as error:
                    self.failures.append(f"{self.images.member(number).id}: was not learnt from ({error})")
        return self._read

    def _one(self, number: int) -> Teacher:
        member = self.images.member(number)
        image = self.images.read(number)
        jpeg = None if image.file is None else jpeg_of(image.file)
        named = CaseImage(name=member.id, sha256=member.sha256)
        return Teacher(number, named, middle(image.pixels), copied_middle_of(image.pixels, LARGEST_SIDE, _BLOCK), jpeg)
