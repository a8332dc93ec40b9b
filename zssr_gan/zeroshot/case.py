"""A case: what a set of LR images teaches together, the degradation of each camera and one network for all images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Jpeg
from zssr_gan.degradation.operators import Downscale
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.resize import Scale
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.progress import OnProgress, Progress
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import SMALLEST_SIDE, ZeroShotSettings
from zssr_gan.zeroshot.shared import LARGEST_SIDE, SharedModel, learn_shared

JPEG_BLOCK = 16  # pixels of JPEG's blocks where colour is halved: a cut between them keeps them whole


@dataclass(frozen=True, slots=True, eq=False)
class LRImage:
    """An LR image of a case."""

    image: CaseImage
    pixels: Tensor
    """`C H W`, [0, 1]: its middle, for the shared network."""
    blocks: Tensor
    """The same, cut between the blocks of its file's compression, for the degradation."""
    jpeg: Jpeg | None = None
    """How its file was compressed, where the pixels are the file's own."""
    footage: bool | None = None
    """Whether it is a frame of a video whose codec changed it; None: not known."""
    webp_step: float | None = None
    """Of its quantiser, in levels, where its file is lossy WebP."""
    camera: str = ""
    """Images of one camera have one degradation."""


@dataclass(frozen=True, slots=True, eq=False)
class LearntCase:
    """What was learnt."""

    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """By camera; empty where the degradations were given."""
    shared: SharedModel | None = None


def read_lr(
    image: CaseImage, pixels: Tensor, file: bytes | None, *, camera: str = "", picture: Picture | None = None
) -> LRImage:
    """An LR image as a case learns from it.

    Args:
        image: its name and hash.
        pixels: `C H W`, [0, 1], of any size.
        file: the file's bytes, where these are its pixels.
        camera: which one took it.
        picture: says what its file tells of a codec.
    """
    jpeg = None if file is None else jpeg_of(file)
    middle, blocks = copied_middle_of(pixels, LARGEST_SIDE), copied_middle_of(pixels, LARGEST_SIDE, JPEG_BLOCK)
    footage, webp_step = (None, None) if picture is None else (picture.footage, picture.webp_step)
    return LRImage(image, middle, blocks, jpeg, footage, webp_step, camera)


def learn_case(
    images: Sequence[LRImage],
    *,
    seed: int,
    degradations: Downscale | Sequence[Downscale] | None = None,
    settings: ZeroShotSettings | None = None,
    scale: Scale = (2.0, 2.0),
    machine: Machine | None = None,
    on_progress: OnProgress | None = None,
) -> LearntCase:
    """Estimate each camera's degradation, and learn one network on all images.

    Args:
        images: of the case; those below 8 pixels a side teach the degradation alone.
        seed: the run's.
        degradations: how all images, or each, came out of HR ones; None: estimated, one for each camera.
        settings: of the network (`ZeroShotSettings.for_case`); None: none is learnt.
        scale: (y, x) of the network.
        machine: what the network is learnt on.
        on_progress: called with the stage: `blur` or `certainty`, with the camera where it has a name, or
            `learning on the case`.

    Raises:
        ImageError: no image to learn from.
        NumericalError: the network gave NaN or infinity.
    """
    estimates: dict[str, Estimate] = {}
    if degradations is None:
        for camera in dict.fromkeys(one.camera for one in images):
            stage = f"degradation of {camera}: " if camera else ""

            def report(what: str, done: int, total: int, stage: str = stage) -> None:
                if on_progress is not None:
                    on_progress(Progress(stage + what, done, total, math.nan, math.nan))

            its = [one for one in images if one.camera == camera]
            evidence = [Evidence(one.image, one.blocks, one.jpeg, one.footage, one.webp_step) for one in its]
            estimates[camera] = estimate_degradation(evidence, EstimationSettings(), seed=seed, on_estimate=report)
        by_camera = {camera: estimate.degradation.downscale for camera, estimate in estimates.items()}
        degradations = [by_camera[one.camera] for one in images]
    if settings is None:
        return LearntCase(estimates)
    each = list(degradations) if isinstance(degradations, Sequence) else [degradations] * len(images)
    large = [n for n, one in enumerate(images) if min(one.pixels.shape[-2:]) >= SMALLEST_SIDE]
    if not large:
        raise ImageError("none of the images can be learnt from together: they are broken or too small")
    assert machine is not None, "a network is learnt on a machine"
    shared = learn_shared(
        [(images[n].image, images[n].pixels) for n in large],
        settings,
        scale,
        [each[n] for n in large],
        seed=seed,
        machine=machine,
        on_learning=None
        if on_progress is None
        else lambda iteration, total, loss: on_progress(
            Progress("learning on the case", iteration, total, loss, math.nan)
        ),
    )
    return LearntCase(estimates, shared)
