"""Estimates of what a camera does, between files: images in, a JSON file and its picture out."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from zssr_gan.errors import ImageError
from zssr_gan.files import sha256_bytes, write_together
from zssr_gan.imaging.codecs import Metadata, Picture, decode_picture, encode_picture
from zssr_gan.imaging.crops import copied_middle_of
from zssr_gan.record import MARK, MAX_MEGAPIXELS
from zssr_gan.zeroshot.degradation import Evidence, jpeg_of
from zssr_gan.zeroshot.degradation_estimate import Estimate, encode_estimate
from zssr_gan.zeroshot.degradation_picture import degradation_picture
from zssr_gan.zeroshot.shared import CaseImage

_PIXELS = 2**25
"""Pixels of all images together that are kept in memory; of more, each image's middle is."""
_LEAST_SIDE, _MOST_SIDE = 256, 2048
_BLOCK = 8  # pixels of JPEG's blocks


@dataclass(frozen=True, slots=True)
class Gathered:
    """What could be read of a set of image files."""

    evidence: tuple[Evidence, ...]
    failures: tuple[str, ...]
    """Of the others, a sentence each."""


def gather(
    sources: Sequence[Path],
    *,
    max_megapixels: float = MAX_MEGAPIXELS,
    on_image: Callable[[int, int], None] | None = None,
) -> Gathered:
    """Read images as an estimate takes them; `on_image` gets how many are read, and how many there are."""
    evidence, failures = [], []
    side = min(_MOST_SIDE, max(_LEAST_SIDE, math.isqrt(_PIXELS // max(1, len(sources))))) // _BLOCK * _BLOCK
    for number, path in enumerate(sources, 1):
        try:
            data = path.read_bytes()
            pixels = decode_picture(data, str(path), max_megapixels=max_megapixels).pixels
        except OSError as error:
            failures.append(f"{path}: cannot be read ({error.strerror})")
        except ImageError as error:
            failures.append(str(error))
        else:
            image = CaseImage(name=path.name, sha256=sha256_bytes(data))
            evidence.append(Evidence(image, copied_middle_of(pixels, side, _BLOCK), jpeg_of(data)))
        if on_image is not None:
            on_image(number, len(sources))
    return Gathered(tuple(evidence), tuple(failures))


def picture_path(path: Path) -> Path:
    """Where the picture of an estimate's file lies."""
    return path.with_suffix(".png")


def write_estimate(estimate: Estimate, path: Path, *, replaceable: Collection[Path] = ()) -> None:
    """Write an estimate and, beside it, its picture: both, or none.

    Raises:
        OutputError: one of them exists and is not `replaceable`, or the disk refuses.
    """
    sheet = Picture(pixels=degradation_picture(estimate), alpha=None, bits=8, metadata=Metadata())
    text = {MARK: "degradation", "zssr-gan:degradation-sha256": estimate.degradation_sha256}
    # The JSON file last: where it stands, the picture does too.
    contents = {picture_path(path): encode_picture(sheet, "png", text), path: encode_estimate(estimate)}
    write_together(contents, replaceable=replaceable)
