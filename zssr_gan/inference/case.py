"""The images of one run as a case: what its camera does, and one network learnt on all, kept beside the results."""

import time
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.degradation.estimator import EstimationSettings, OnEstimate, estimate_degradation
from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.plot import gather, picture_path, write_estimate
from zssr_gan.devices import machine
from zssr_gan.errors import ImageError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.imaging.io import decode_picture
from zssr_gan.inference.enhance import make_downscale
from zssr_gan.inference.outputs import Plan
from zssr_gan.inference.request import KeptStart, Request, read_degradation
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.signals import uninterrupted
from zssr_gan.zeroshot.shared import OnLearning, SharedStart, learn_shared, middle, read_shared, write_shared
from zssr_gan.zeroshot.steps import SMALLEST_SIDE


def with_degradation(plan: Plan, request: Request, on_estimate: OnEstimate) -> tuple[Request, list[str]]:
    """Estimate the degradation from all images of a plan, or take what an earlier run estimated.

    It is kept as degradation-HASH.json, with its picture, in the folder of the results; the hash is that of the
    images, the settings and the seed, so that the same case finds it again.

    Returns:
        The request with its degradation, and what a user should know, a line each.

    Raises:
        ImageError: none of the images can be read.
        SettingsError: the file of an earlier run was changed.
        OutputError: the disk refuses.
    """
    began, settings = time.perf_counter(), EstimationSettings()
    gathered = gather(
        [job.source for job in (*plan.skipped, *plan.todo)],
        max_megapixels=request.max_megapixels,
        on_image=lambda done, total: on_estimate("reading", done, total),
    )
    if not gathered.evidence:  # each one's own reason is said when its turn comes
        raise ImageError("no degradation can be estimated: none of the images can be read")
    what: dict[str, JsonValue] = {
        "images": [*sorted(one.image.sha256 for one in gathered.evidence)],
        "settings": settings.model_dump(mode="json"),
        "seed": request.seed,
    }
    path = plan.todo[0].result.parent / f"degradation-{canonical_sha256(what)[:12]}.json"
    how = "by an earlier run, and used again"
    if not path.exists():
        with machine(request.options):
            found = estimate_degradation(gathered.evidence, settings, seed=request.seed, on_estimate=on_estimate)
        with uninterrupted():
            # A picture without its file is what a kill left.
            write_estimate(found, path, replaceable=[picture_path(path)])
        how = f"in {time.perf_counter() - began:.0f} s"
    said = [f"{path}: estimated from {len(gathered.evidence)} images {how}"]
    return replace(request, degradation=read_degradation(path)), said


def with_shared_start(plan: Plan, request: Request, on_learning: OnLearning) -> tuple[Request, list[str]]:
    """Learn on all images of a plan, also those whose results exist already, or take what an earlier run learnt.

    The network is kept as shared-HASH.safetensors in the folder of the results; the hash is that of the images, the
    settings and the seed, so that the same case finds it again.

    Returns:
        The request with its shared start, and what a user should know, a line each.

    Raises:
        ImageError: none of the images can be learnt from.
        OutputError: the disk refuses.
        NumericalError: NaN or infinity came out.
    """
    assert isinstance(request.settings, ZeroShotSettings), "a trained generator learns on no case"
    images = _read(plan, request)
    if not images:
        raise ImageError("none of the images can be learnt from together: they are broken or too small")
    camera = None if request.degradation is None else request.degradation.degradation
    downscale = make_downscale(None if request.kernel is None else request.kernel.values, request.scale, camera)
    what: dict[str, JsonValue] = {
        "images": [*sorted(image.sha256 for image, _ in images)],
        "settings": request.settings.model_dump(mode="json"),
        "scale": list(request.scale),
        "degradation": degradation_of(downscale),
        "seed": request.seed,
    }
    path = plan.todo[0].result.parent / f"shared-{canonical_sha256(what)[:12]}.safetensors"
    if path.exists():
        said = [f"{path}: learnt on these {len(images)} images by an earlier run, and used again"]
        return _using(request, read_shared(path), path), said
    began = time.perf_counter()
    with machine(request.options) as used:
        start = learn_shared(
            images, request.settings, request.scale, downscale, seed=request.seed, machine=used, on_learning=on_learning
        )
    with uninterrupted():
        write_shared(start, path)
    said = [f"{path}: learnt on {len(images)} images in {time.perf_counter() - began:.0f} s"]
    return _using(request, start, path), said


def _using(request: Request, start: SharedStart, path: Path) -> Request:
    return replace(request, shared=KeptStart(start, path))


def _read(plan: Plan, request: Request) -> list[tuple[CaseImage, Tensor]]:
    """What can be read and is large enough; the rest has its own error when its turn comes."""
    images = []
    for job in (*plan.skipped, *plan.todo):
        try:
            data = job.source.read_bytes()
            picture = decode_picture(data, str(job.source), max_megapixels=request.max_megapixels)
        except (OSError, ImageError):
            continue
        if min(picture.pixels.shape[-2:]) >= SMALLEST_SIDE:
            images.append((CaseImage(name=job.source.name, sha256=sha256_bytes(data)), middle(picture.pixels)))
    return images
