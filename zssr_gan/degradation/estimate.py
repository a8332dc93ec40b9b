"""An estimate of a degradation, and the file that holds it."""

import json
from collections import Counter
from pathlib import Path
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

from zssr_gan.degradation.found_compression import Codec, ImageCompression, SetCompression, codec_words
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, Jpeg, MotionBlur
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


class _WithoutHash(dict[str, Any]):
    """Fields of an estimate whose hash was taken out: within another model, pydantic validates a class that has itself
    as a field twice."""


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
    codec: Codec | None = None
    """Whether the images (not those of `fewer`) are frames of a video, or lossy WebP: `degradation.jpeg` stands for
    what that did."""
    fewer: "Estimate | None" = None
    """Of frames of a video among more other images, or of other images among more frames: of each the blur and the
    compression are in its own."""
    images: tuple[CaseImage, ...]
    """All that were looked at, those of `fewer` too."""
    settings: dict[str, JsonValue]
    seed: int
    versions: dict[str, str]

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def evidence_sha256(self) -> str:
        """Of what the label of a result depends on beside the degradation, as canonical JSON."""
        # An estimate that is not finite is null in its file.
        included = _EVIDENCE | {name for name in ("own_jpeg", "own_blur", "codec", "fewer") if getattr(self, name)}
        return canonical_sha256(json.loads(self.model_dump_json(include=included)))

    def of_kind(self, sha256: str) -> "Estimate":
        """The estimate of images of the same kind as that with this hash: frames of a video, or none."""
        fewer = self.fewer
        return fewer if fewer is not None and any(image.sha256 == sha256 for image in fewer.images) else self

    @property
    def kinds(self) -> "tuple[Estimate, ...]":
        """This and that of fewer images of another kind."""
        return (self,) if self.fewer is None else (self, self.fewer)

    def of(self, sha256: str) -> Degradation:
        """What the camera is taken to have done to the image with this hash: its own blur, its own compression."""
        kind = self.of_kind(sha256)
        blur = kind.own_blur.get(sha256, kind.degradation.blur)
        jpeg = kind.own_jpeg.get(sha256, kind.degradation.jpeg)
        return self.degradation.model_copy(update={"blur": blur, "jpeg": jpeg})

    def codec_of(self, sha256: str) -> Codec | None:
        """That of the image with this hash: WebP among frames of a video has a compression of its own."""
        kind = self.of_kind(sha256)
        return "webp" if kind.codec == "video" and sha256 in kind.own_jpeg else kind.codec

    def with_others(self, others: "Estimate") -> "Estimate":
        """This estimate with that of fewer images of another kind."""
        images = tuple(sorted((*self.images, *others.images), key=lambda image: (image.sha256, image.name)))
        return self.model_copy(update={"fewer": others, "images": images})

    def compression_of(self, sha256: str) -> ImageCompression | None:
        """What was found in the image with this hash; where it was not searched, what is assumed of it."""
        jpeg, kind = self.of(sha256).jpeg, self.of_kind(sha256)
        its = [one for one in kind.compressions if sha256 in one.phases]
        its += [one for one in kind.compressions if jpeg is not None and one.quality == jpeg.quality]
        return its[0].of_image(sha256) if its else None

    @property
    def others(self) -> tuple[str, ...]:
        """SHA-256 of the images that have another degradation than most."""
        fewer = () if self.fewer is None else (image.sha256 for image in self.fewer.images)
        own = dict.fromkeys([*self.own_jpeg, *self.own_blur, *fewer])
        return tuple(sha256 for sha256 in own if self.of(sha256) != self.degradation)

    @property
    def given(self) -> bool:
        """Whether a person gave the degradation, and nothing was read from images."""
        read = (self.certainty, self.blur_estimated)
        return all(one is None for one in read) and self.noise_from == self.jpeg_from == "nothing"

    @model_validator(mode="wrap")
    @classmethod
    def _as_hashed(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """A file's evidence is that which was hashed."""
        if info.mode != "json" or not isinstance(data, dict) or isinstance(data, _WithoutHash):
            return handler(data)
        recorded = data.get("evidence_sha256")
        made = handler(_WithoutHash({key: value for key, value in data.items() if key != "evidence_sha256"}))
        if recorded != made.evidence_sha256:
            raise PydanticCustomError("evidence", "what it was estimated from was changed after it was hashed")
        if not (made.images or made.given):
            raise PydanticCustomError("evidence", "it was estimated, but lists no image that it was estimated from")
        return made

    @property
    def summary(self) -> str:
        """What is assumed of the camera, in one line."""
        noise = self.degradation.noise
        words = f"noise {noise.sigma * LEVELS:.1f}/255" if noise else "no noise"
        text = f"{self.blur_words}, {words}, {self.compression_words}"
        return text if self.fewer is None else f"{text}; {self._kind}: {self.fewer.summary_of_kind}"

    @property
    def reasons(self) -> str:
        """`why`, with that of fewer images of another kind."""
        return self.why if self.fewer is None else f"{self.why}; {self._kind}: {self.fewer.why}"

    @property
    def _kind(self) -> str:
        """How many images are of the other kind, and of which."""
        assert self.fewer is not None
        count, what = len(self.fewer.images), {"video": "of a video", "webp": "lossy WebP", None: "of no video"}
        return f"{count} of {len(self.images)} images {'is' if count == 1 else 'are'} {what[self.fewer.codec]}"

    @property
    def summary_of_kind(self) -> str:
        """Blur and compression, in one line."""
        return f"{self.blur_words}, {self.compression_words}"

    @property
    def compression_words(self) -> str:
        """The compression, and how many images have another."""
        jpeg = self.degradation.jpeg
        words = f"JPEG {jpeg.summary}" if jpeg else "no compression found"
        words = codec_words(self.codec, jpeg) if self.codec and jpeg else words
        count = len(self.own_jpeg)
        return words + (f" ({_counted(count)} ha{'s' if count == 1 else 've'} another compression)" if count else "")

    @property
    def blur_words(self) -> str:
        """The blur, and what is about images that have another."""
        blur = self.degradation.blur.summary if isinstance(self.degradation.blur, Blur) else "bicubic"
        lengths = [one.length for one in self.own_blur.values() if isinstance(one, MotionBlur)]
        if lengths:
            return (
                f"{blur} over all; {_counted(len(lengths))} ha{'s its' if len(lengths) == 1 else 've each their'} own "
                f"motion ({min(lengths):.2f} to {max(lengths):.2f} LR pixels)"
            )
        counts = Counter(self.own_blur.values())
        sharper = counts.pop(None, 0)
        parts = [f"{_counted(count)}: {_widths(one)}" for one, count in counts.items() if one is not None]
        several = f" over all; several cameras by their sharpness ({'; '.join(parts)})" if parts else ""
        own = f" ({_counted(sharper)} {'is' if sharper == 1 else 'are'} sharper: bicubic)" if sharper else ""
        return f"{blur}{several}{own}"


def _widths(blur: Blur) -> str:
    """In a few words, without the angle."""
    if not isinstance(blur, GaussianBlur):
        return blur.summary
    return f"{blur.sigma_major:.1f} x {blur.sigma_minor:.1f} LR pixels"


def _counted(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


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
