"""An estimate of a degradation, and the file that holds it."""

import json
import math
from collections import Counter
from pathlib import Path
from statistics import stdev
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    computed_field,
    model_validator,
)
from pydantic_core import PydanticCustomError, from_json

from zssr_gan.degradation.found_compression import ImageCompression, SetCompression
from zssr_gan.degradation.model import Blur, DefocusBlur, Degradation, GaussianBlur, Jpeg, KernelBlur, MotionBlur, Noise
from zssr_gan.errors import SettingsError
from zssr_gan.files import canonical_sha256, why_unreadable
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.provenance import VERSION, CaseImage, FileModel, first_problem

_EVIDENCE = {"fallback", "why", "blur_estimated", "certainty", "noise_from", "jpeg_from", "images"}
"""What the label of a result depends on, beside the degradation."""


class Certainty(FileModel):
    """How sure an estimate is: the set is dealt into parts, and each is estimated for itself."""

    blurs: tuple[Annotated[Blur, Field(discriminator="kind")], ...]
    """What each part says."""
    tiles: int
    """Parts of images that were looked at."""
    sigma_major: float
    sigma_minor: float
    """Standard errors of the blur's widths (standard deviations along and across), in pixels of the LR image."""
    spread_db: float
    """PSNR of an image of the case blurred by the estimate, against one blurred by it moved by its standard error."""
    bicubic_db: float
    """The same against one not blurred at all: how far the estimate is from bicubic."""
    misfit: float
    """Mean square of what the logarithms of the statistics are apart."""
    misfit_bicubic: float
    """The same where no blur is assumed."""


class Brightness(FileModel):
    """The noise at one brightness."""

    brightness: float
    """[0, 1]."""
    sigma: float
    """Standard deviation, [0, 1] units."""


class Estimate(FileModel):
    """A degradation, and how it came to be known; what a file of ours holds."""

    schema_version: Literal[1] = 1
    degradation: Degradation
    degradation_sha256: str
    """Of the degradation as canonical JSON."""
    blur_estimated: Annotated[Blur, Field(discriminator="kind")] | None
    """What was found, also where it is not used."""
    fallback: bool
    """Whether bicubic is assumed because the estimate is not sure enough."""
    why: str
    """One sentence."""
    certainty: Certainty | None
    noise_from: Literal["colours", "recurrence", "nothing"]
    """Where the noise was read: from what red, green and blue do not share, or together with the blur."""
    noise_by_brightness: tuple[Brightness, ...] = ()
    jpeg_from: Literal["tables", "pixels", "colours", "nothing"]
    """Where the compression was read: from the files' quantisation tables, or from the pixels. `colours`: they are a
    video's, of which JPEG of that quality stands for a compression that is not known."""
    jpeg_qualities: dict[str, int] = Field(default_factory=dict)
    """How many images have which quality; of several the middle one is assumed."""
    compressions: tuple[SetCompression, ...] = ()
    """What was found in the images that were searched, the most first; of a large set they are some."""
    own_jpeg: dict[str, Jpeg | None] = Field(default_factory=dict)
    """Compression of the images that have another than `degradation`'s, by their SHA-256."""
    own_blur: dict[str, Annotated[Blur, Field(discriminator="kind")] | None] = Field(default_factory=dict)
    """Blur of the images that have another than `degradation`'s, by their SHA-256; None is bicubic."""
    images: tuple[CaseImage, ...]
    settings: dict[str, JsonValue]
    seed: int
    versions: dict[str, str]

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def evidence_sha256(self) -> str:
        """Of what the label of a result depends on beside the degradation, as canonical JSON."""
        # An estimate that is not finite is null in its file.
        included = _EVIDENCE | {name for name in ("own_jpeg", "own_blur") if getattr(self, name)}
        return canonical_sha256(json.loads(self.model_dump_json(include=included)))

    def of(self, sha256: str) -> Degradation:
        """What the camera is taken to have done to the image with this hash: its own blur, its own compression."""
        its: dict[str, object] = {"jpeg": self.own_jpeg[sha256]} if sha256 in self.own_jpeg else {}
        its |= {"blur": self.own_blur[sha256]} if sha256 in self.own_blur else {}
        return self.degradation.model_copy(update=its) if its else self.degradation

    def with_others(self, others: "Estimate") -> "Estimate":
        """This estimate with that of fewer images of another kind: each of these has its own compression and blur."""
        hashes = [image.sha256 for image in others.images]
        images = tuple(sorted((*self.images, *others.images), key=lambda image: (image.sha256, image.name)))
        jpeg = {sha256: others.of(sha256).jpeg for sha256 in hashes}
        blur = {sha256: others.of(sha256).blur for sha256 in hashes}
        update = {
            "own_jpeg": self.own_jpeg | {n: one for n, one in jpeg.items() if one != self.degradation.jpeg},
            "own_blur": self.own_blur | {n: one for n, one in blur.items() if one != self.degradation.blur},
            "compressions": self.compressions + others.compressions,
            "images": images,
            "why": f"{self.why}; {len(hashes)} of {len(images)} images are of another kind: {others.why}",
        }
        return self.model_copy(update=update)

    def compression_of(self, sha256: str) -> ImageCompression | None:
        """What was found in the image with this hash; where it was not searched, what is assumed of it."""
        jpeg = self.of(sha256).jpeg
        its = [one for one in self.compressions if sha256 in one.phases]
        its += [one for one in self.compressions if jpeg is not None and one.quality == jpeg.quality]
        return its[0].of_image(sha256) if its else None

    @property
    def others(self) -> tuple[str, ...]:
        """SHA-256 of the images that have another degradation than most."""
        return tuple(dict.fromkeys([*self.own_jpeg, *self.own_blur]))

    @property
    def given(self) -> bool:
        """Whether a person gave the degradation, and nothing was read from images."""
        read = (self.certainty, self.blur_estimated)
        return all(one is None for one in read) and self.noise_from == self.jpeg_from == "nothing"

    @model_validator(mode="wrap")
    @classmethod
    def _as_hashed(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """A file's evidence is that which was hashed."""
        if info.mode != "json" or not isinstance(data, dict):
            return handler(data)
        recorded = data.get("evidence_sha256")
        made = handler({key: value for key, value in data.items() if key != "evidence_sha256"})
        if recorded != made.evidence_sha256:
            raise PydanticCustomError("evidence", "what it was estimated from was changed after it was hashed")
        if not (made.images or made.given):
            raise PydanticCustomError("evidence", "it was estimated, but lists no image that it was estimated from")
        return made

    @property
    def summary(self) -> str:
        """What is assumed of the camera, in one line."""
        d = self.degradation
        blur = d.blur.summary if isinstance(d.blur, Blur) else "bicubic"
        noise = f"noise {d.noise.sigma * LEVELS:.1f}/255" if d.noise else "no noise"
        name = "a video's compression, taken as JPEG" if self.jpeg_from == "colours" else "JPEG"
        compression = f"{name} {d.jpeg.summary}" if d.jpeg else "no compression found"
        count = len(self.own_jpeg)
        own = f" ({count} image{'s have' if count > 1 else ' has'} another compression)" if count else ""
        return f"{blur}{self._own_blurs}, {noise}, {compression}{own}"

    @property
    def _own_blurs(self) -> str:
        """What of the summary is about images that have another blur."""
        lengths = [blur.length for blur in self.own_blur.values() if isinstance(blur, MotionBlur)]
        if lengths:
            return (
                f" over all; {len(lengths)} images have each their own motion ({min(lengths):.2f} to "
                f"{max(lengths):.2f} LR pixels)"
            )
        counts = Counter(self.own_blur.values())
        sharper = counts.pop(None, 0)
        parts = [f"{count} images: {blur.summary}" for blur, count in counts.items() if blur is not None]
        several = f" over all; several cameras by their sharpness ({'; '.join(parts)})" if parts else ""
        return several + (f" ({sharper} images are sharper: bicubic)" if sharper else "")


def given_estimate(degradation: Degradation, why: str) -> Estimate:
    """A degradation that a person gave, as an estimate's file holds one; `why` says so in one sentence."""
    return Estimate(
        degradation=degradation,
        degradation_sha256=degradation.sha256,
        blur_estimated=None,
        fallback=False,
        why=why,
        certainty=None,
        noise_from="nothing",
        jpeg_from="nothing",
        images=(),
        settings={},
        seed=0,
        versions={"zssr-gan": VERSION},
    )


class _OfAGroup(BaseModel):
    group: str
    estimate: Estimate


class _OfARun(BaseModel):
    """As much of a run's degradation.json as an estimate is read from."""

    groups: tuple[_OfAGroup, ...] = Field(min_length=1)


def read_estimate(path: Path) -> Estimate:
    """Read an estimate's file, or a run's degradation.json where it holds one camera's estimate.

    Raises:
        SettingsError: missing, no estimate, the estimates of several cameras, or changed after it was hashed.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {why_unreadable(path, error)}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is no degradation: it is not text") from error
    try:
        estimate = _of_one_camera(text, path)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "evidence":
            raise SettingsError(f"{path}: {first['msg']}") from error
        raise SettingsError(
            f"{path}: is no degradation as `zssr-gan degradation estimate` writes it ({first_problem(error)})"
        ) from error
    if estimate.degradation.sha256 != estimate.degradation_sha256:
        raise SettingsError(f"{path}: its degradation was changed after it was hashed")
    return estimate


def _of_one_camera(text: str, path: Path) -> Estimate:
    """The estimate; that of the only group, where it is a run's file."""
    try:
        content = from_json(text)
    except ValueError:  # no JSON, or nested without end: the model says it
        content = None
    if not isinstance(content, dict) or "groups" not in content:
        return Estimate.model_validate_json(text)
    groups = _OfARun.model_validate_json(text).groups
    if len(groups) > 1:
        shown = ", ".join(one.group for one in groups[:4]) + (", ..." if groups[4:] else "")
        raise SettingsError(
            f"{path}: holds the estimates of {len(groups)} cameras ({shown}): "
            "estimate one for the images of one camera by `zssr-gan degradation estimate`"
        )
    return groups[0].estimate


def encode_estimate(estimate: Estimate) -> bytes:
    """The file's bytes."""
    return (estimate.model_dump_json(indent=2) + "\n").encode()


_NOISE_FROM = {
    "colours": "read from what red, green and blue do not share",
    "recurrence": "found together with the blur",
    "nothing": "",
}

_JPEG_FROM = {
    "tables": "read from the files' tables",
    "pixels": "read from the pixels",
    "colours": "in place of a video's compression, the strength of which is not known",
    "nothing": "",
}


def account(estimate: Estimate) -> list[tuple[str, str]]:
    """An estimate in lines for a person: the name of each and its text. Widths are standard deviations in LR pixels."""
    lines = [("assumed", estimate.summary)]
    if estimate.fallback:
        found = "the blur below: BICUBIC IS ASSUMED in its place"
        lines.append(
            ("not used", found if estimate.blur_estimated else "no blur could be estimated: BICUBIC IS ASSUMED")
        )
    blur = estimate.degradation.blur
    if estimate.blur_estimated is not None:
        lines += _blur(estimate.blur_estimated, estimate.certainty)
    elif isinstance(blur, Blur):
        lines += _blur(blur, None)
    elif isinstance(blur, KernelBlur):
        lines.append(("blur", f"a kernel of {len(blur.values[0])} x {len(blur.values)} HR pixels for x{blur.scale[1]}"))
    lines.append(("noise", _noise(estimate.degradation.noise, _NOISE_FROM[estimate.noise_from])))
    lines.append(("JPEG", _jpeg(estimate.degradation.jpeg, _JPEG_FROM[estimate.jpeg_from], estimate.jpeg_qualities)))
    lines += [("found", f"JPEG, {one.summary}") for one in estimate.compressions]
    looked = f", {estimate.certainty.tiles} parts of them looked at" if estimate.certainty is not None else ""
    lines.append(("images", f"{len(estimate.images)}{looked}"))
    lines.append(("why", estimate.why))
    return lines


def _blur(blur: Blur, certainty: Certainty | None) -> list[tuple[str, str]]:
    def shown(name: str) -> str:
        error = None if certainty is None else _standard_error(blur, certainty, name)
        return f"{getattr(blur, name):.2f}" + ("" if error is None else f" +/- {error:.2f}")

    unit = "LR pixels; at x2 twice as many HR pixels"
    if isinstance(blur, DefocusBlur):
        lines = [
            ("blur", f"defocus, a disk with a radius of {shown('radius')}, its edge {shown('sigma')} wide ({unit})")
        ]
    elif isinstance(blur, MotionBlur):
        lines = [("blur", f"straight motion of {shown('length')}, {shown('sigma')} wide across it ({unit})")]
    else:
        across = f"{shown('sigma_minor')} across its wider axis"
        lines = [("blur", f"{shown('sigma_major')} along, {across} ({unit})")]
    if not isinstance(blur, DefocusBlur):
        lines.append(("angle", f"{blur.angle_degrees:.0f} degrees, clockwise from the horizontal"))
    if certainty is not None:
        lines.append(
            (
                "confidence",
                f"moved by its standard error it makes images {certainty.spread_db:.0f} dB PSNR from these; "
                f"bicubic's are {certainty.bicubic_db:.0f} dB from them",
            )
        )
    return lines


def _standard_error(blur: Blur, certainty: Certainty, name: str) -> float | None:
    """Of one of a blur's numbers, by how the parts' differ; None where they are of another kind."""
    if isinstance(blur, GaussianBlur):
        return float(getattr(certainty, name))
    values = [getattr(part, name) for part in certainty.blurs if part.kind == blur.kind]
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _noise(noise: Noise | None, where: str) -> str:
    if noise is None:
        return "none assumed"
    shot = f", {noise.shot:.0%} of its variance in proportion to brightness" if noise.shot >= 0.005 else ""
    gray = "" if noise.coloured else ", the same in all colours"
    return f"{noise.sigma * LEVELS:.1f} of 255 levels at medium brightness{shot}{gray}{where and f'; {where}'}"


def _jpeg(compression: Jpeg | None, where: str, qualities: dict[str, int]) -> str:
    if compression is None:
        return "none found"
    several = ", ".join(
        f"{count} of {quality}" for quality, count in sorted(qualities.items(), key=lambda one: int(one[0]))
    )
    return f"{compression.summary}{where and f', {where}'}{f' ({several})' if len(qualities) > 1 else ''}"
