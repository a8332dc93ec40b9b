"""The images of one run as a case: what its camera does, and one network learnt on all, kept beside the results."""

import time
from collections.abc import Callable
from dataclasses import replace

from zssr_gan.degradation.estimator import gather
from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.plot import picture_path, write_estimate
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.devices import machine
from zssr_gan.errors import ImageError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.imaging.colour import without_equal_channels
from zssr_gan.imaging.io import decode_picture
from zssr_gan.inference.enhance import OnProgress
from zssr_gan.inference.options import with_estimate
from zssr_gan.inference.outputs import Plan
from zssr_gan.inference.record import OptionFile
from zssr_gan.inference.request import Request
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.signals import uninterrupted
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr
from zssr_gan.zeroshot.shared import read_shared, write_shared
from zssr_gan.zeroshot.steps import SMALLEST_SIDE


def with_degradation(
    plan: Plan, request: Request, on_image: Callable[[int, int], None], on_progress: OnProgress
) -> tuple[Request, str]:
    """Estimate the degradation from all images of a plan, or take what an earlier run estimated.

    It lies as degradation-HASH.json, with its picture, in the folder of the results; the hash is that of the
    images, the settings and the seed, so that the same case finds it again.

    Returns:
        The request with its degradation, and a line for the user.

    Raises:
        ImageError: none of the images can be read.
        SettingsError: the file of an earlier run was changed.
        OutputError: the disk refuses.
    """
    began = time.perf_counter()
    sources = [job.source for job in (*plan.skipped, *plan.todo)]
    evidence = gather(sources, max_megapixels=request.max_megapixels, on_image=on_image).evidence
    if not evidence:  # each one's own reason is given when its turn comes
        raise ImageError("no degradation can be estimated: none of the images can be read")
    key = {
        "images": sorted(one.image.sha256 for one in evidence),
        "settings": EstimationSettings().model_dump(mode="json"),
        "seed": request.seed,
    }
    path = plan.todo[0].result.parent / f"degradation-{canonical_sha256(key)[:12]}.json"
    how = "by an earlier run, and used again"
    if not path.exists():
        images = [LRImage(one.image, one.pixels, one.pixels, one.jpeg) for one in evidence]
        with machine(request.options):
            (found,) = learn_case(images, seed=request.seed, on_progress=on_progress).estimates.values()
        with uninterrupted():
            # A picture without its file is what a kill left.
            write_estimate(found, path, replaceable=[picture_path(path)])
        how = f"in {time.perf_counter() - began:.0f} s"
    return with_estimate(request, path), f"{path}: estimated from {len(evidence)} images {how}"


def with_shared_model(plan: Plan, request: Request, on_progress: OnProgress) -> tuple[Request, str]:
    """Learn one network on all images of a plan, also those whose results exist already, or take an earlier run's.

    It lies as shared-HASH.safetensors in the folder of the results; the hash is that of the images, the settings,
    the degradation and the seed, so that the same case finds it again.

    Returns:
        The request with its shared model, and a line for the user.

    Raises:
        ImageError: none of the images can be learnt from.
        OutputError: the disk refuses.
        NumericalError: NaN or infinity came out.
    """
    assert isinstance(request.settings, ZeroShotSettings), "a trained generator learns on no case"
    began, images = time.perf_counter(), _read(plan, request)
    degradations = [request.degradation_of(image.image.sha256).values for image in images]
    downscales = {one.sha256: one.downscale for one in (request.degradation.values, *degradations)}
    several = sorted({one.sha256 for one in degradations} - {request.degradation.sha256})
    key = {
        "images": sorted(one.image.sha256 for one in images),
        "settings": request.settings.model_dump(mode="json"),
        "scale": list(request.scale),
        "degradation": degradation_of(downscales[request.degradation.values.sha256]),
        "seed": request.seed,
    } | ({"own_degradations": several} if several else {})
    path = plan.todo[0].result.parent / f"shared-{canonical_sha256(key)[:12]}.safetensors"
    if path.exists():
        shared = read_shared(path)
        line = f"{path}: learnt on these {len(images)} images by an earlier run, and used again"
    else:
        with machine(request.options) as used:
            case = learn_case(
                images,
                seed=request.seed,
                degradations=[downscales[one.sha256] for one in degradations],
                settings=request.settings,
                scale=request.scale,
                machine=used,
                on_progress=on_progress,
            )
        assert case.shared is not None
        shared = case.shared
        with uninterrupted():
            write_shared(shared, path)
        line = f"{path}: learnt on {len(images)} images in {time.perf_counter() - began:.0f} s"
    files = {**request.files, "init-from": OptionFile(path=str(path), sha256=shared.sha256)}
    return replace(request, shared=shared, learns=False, files=files), line


def _read(plan: Plan, request: Request) -> list[LRImage]:
    """What can be read and is large enough; the rest has its own error when its turn comes."""
    images = []
    for job in (*plan.skipped, *plan.todo):
        try:
            data = job.source.read_bytes()
            pixels = decode_picture(data, str(job.source), max_megapixels=request.max_megapixels).pixels
        except (OSError, ImageError):
            continue
        if min(pixels.shape[-2:]) >= SMALLEST_SIDE:
            image = CaseImage(name=job.source.name, sha256=sha256_bytes(data))
            images.append(read_lr(image, without_equal_channels(pixels), None))
    return images
