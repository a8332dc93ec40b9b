"""The cameras that took a split's images, and the degradation of each.

Images are grouped by camera where their source says it, else by source. One degradation is estimated from all LR
images of a group; `degradation.json` in the run's folder holds all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from zssr_gan.data.prepared import Prepared
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.model import Degradation, DegradedDownscale
from zssr_gan.degradation.operators import BicubicDownscale, Downscale
from zssr_gan.degradation.plot import degradation_picture
from zssr_gan.errors import SettingsError
from zssr_gan.files import write_together
from zssr_gan.imaging.sheets import encode_sheet
from zssr_gan.provenance import FileModel, read_json
from zssr_gan.signals import uninterrupted

SMALLEST_GROUP: Final = 100
"""Images that a camera needs for an estimate of its own: with fewer, what these images happen to show counts more than
what the camera did, and their source's other images say more of it."""


class GroupEstimate(FileModel):
    """What was estimated from one group of images."""

    group: str
    """The source's name; a camera's, with a slash between, where it has an estimate of its own."""
    estimate: Estimate


class CaseDegradations(FileModel):
    """The degradations of a run's images: what degradation.json holds."""

    schema_version: Literal[1] = 1
    seed: int | None
    """The run's; None where they came from a file."""
    size: int | None
    """Side in pixels that the images were resized to before, `data.size`."""
    left_out: tuple[str, ...] = ()
    """Ids of the images that could not be read."""
    groups: Annotated[tuple[GroupEstimate, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _hashes(self) -> Self:
        for one in self.groups:
            if one.estimate.degradation.sha256 != one.estimate.degradation_sha256:
                raise ValueError(f"the degradation of {one.group} was changed after it was hashed")
        return self

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each group's degradation."""
        return {one.group: one.estimate.degradation_sha256 for one in self.groups}


def encode_degradations(degradations: CaseDegradations) -> bytes:
    """The file's bytes."""
    return (degradations.model_dump_json(indent=1) + "\n").encode()


def read_degradations(path: Path) -> CaseDegradations:
    """Read degradation.json. Raises SettingsError: missing, damaged, or not of a version known here."""
    return read_json(path, CaseDegradations, SettingsError)


def write_degradations(degradations: CaseDegradations, path: Path) -> None:
    """Write degradation.json and degradation.png, unless they hold these already."""
    picture, content = path.with_suffix(".png"), encode_degradations(degradations)
    if not picture.exists() or not path.exists() or path.read_bytes() != content:
        contents = {picture: _picture(degradations), path: content}
        with uninterrupted():
            write_together(contents, replaceable=list(contents))


def _picture(degradations: CaseDegradations) -> bytes:
    """What is assumed of each camera, one picture below the other."""
    pictures = [degradation_picture(one.estimate, one.group) for one in degradations.groups]
    widest = max(picture.shape[2] for picture in pictures)
    filled = [F.pad(picture, (0, widest - picture.shape[2]), value=1.0) for picture in pictures]
    return encode_sheet(torch.cat(filled, 1), "degradation")


def group_images(images: Prepared, smallest: int = SMALLEST_GROUP) -> tuple[dict[str, list[int]], list[str]]:
    """Places of the images of each group, sorted by its name, and what a user should know, one sentence each.

    A camera with fewer than `smallest` images joins those of its source that have none.
    """
    by_camera: dict[tuple[str, str | None], list[int]] = {}
    for number in range(len(images)):
        by_camera.setdefault((images.member(number).source, images.camera(number)), []).append(number)
    groups: dict[str, list[int]] = {}
    joined: dict[str, list[str]] = {}
    for (source, camera), numbers in by_camera.items():
        group = source if camera is None or len(numbers) < smallest else f"{source}/{camera}"
        groups.setdefault(group, []).extend(numbers)
        if camera is not None and group == source:
            joined.setdefault(source, []).append(f"{camera} ({len(numbers)})")
    notices = [
        f"{source}: {', '.join(sorted(cameras))}: fewer than {smallest} images each, so they join the rest of {source}"
        for source, cameras in sorted(joined.items())
    ]
    return {group: sorted(groups[group]) for group in sorted(groups)}, notices


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """What is assumed of how an image was made."""

    group: str | None
    """Where its degradation was estimated; None for bicubic, which nobody estimated."""
    sha256: str
    """Of the degradation."""
    downscale: Downscale
    """One object for all images of one degradation: who learns the same shares a fleet."""
    learnt_from: frozenset[str] = field(default=frozenset(), repr=False)
    """SHA-256 of the images that it was estimated from."""


class Cameras:
    """The camera of each image.

    Args:
        degradations: of the run; None assumes bicubic of all images.
    """

    def __init__(self, degradations: CaseDegradations | None = None) -> None:
        plain, groups = Degradation(), () if degradations is None else degradations.groups
        self._bicubic = Camera(None, plain.sha256, BicubicDownscale())
        # Bicubic may be taken in several steps, the others only in one: one network cannot learn both.
        every = [one.estimate.of(image) for one in groups for image in ("", *one.estimate.others)]
        mixed = any(degradation != plain for degradation in every)
        downscales: dict[str, Downscale] = {
            degradation.sha256: DegradedDownscale(degradation) if mixed else self._bicubic.downscale
            for degradation in dict.fromkeys(every)
        }

        def camera(one: GroupEstimate, image: str) -> Camera:
            sha256 = one.estimate.of(image).sha256
            learnt_from = frozenset(image.sha256 for image in one.estimate.images)
            return Camera(one.group, sha256, downscales[sha256], learnt_from)

        self.all: Mapping[str, Camera] = {one.group: camera(one, "") for one in groups}
        self._own = {(one.group, image): camera(one, image) for one in groups for image in one.estimate.others}
        self._largest = sorted(self.all, key=lambda group: (-len(self.all[group].learnt_from), group))

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """Those of the run in `folder`: what degradation.json says, bicubic where there is none."""
        path = folder / "degradation.json"
        return cls(read_degradations(path) if path.exists() else None)

    @property
    def downscales(self) -> Sequence[Downscale]:
        """Each one once."""
        every = (*self.all.values(), *self._own.values())
        return list(dict.fromkeys(camera.downscale for camera in every)) or [self._bicubic.downscale]

    def of(self, images: Prepared, number: int) -> Camera:
        """The camera of an image.

        One without an estimate of its own has its source's, else that of its source's camera with the most images, else
        that of the group with the most: all of these were learnt from, and so a shared model knows them. One that has
        a compression of its own has it here too.
        """
        if not self.all:
            return self._bicubic
        source = images.member(number).source
        wanted = (f"{source}/{images.camera(number)}", source)
        found = next((group for group in wanted if group in self.all), None)
        if found is None:
            its = (group for group in self._largest if group.startswith(f"{source}/"))
            found = next(its, self._largest[0])
        return self._own.get((found, images.member(number).sha256), self.all[found])
