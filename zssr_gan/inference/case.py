"""The images of one run as a case: what its camera does, and one network learnt on all, written beside the results.

Unless a user says otherwise the images themselves decide (`decide_init`): enough small ones are learnt from together,
and the camera of several is estimated from all of them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimator import gather
from zssr_gan.degradation.model import Degradation, degradation_of
from zssr_gan.degradation.plot import picture_path, write_estimate
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.devices import machine
from zssr_gan.errors import ImageError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.imaging.colour import without_equal_channels
from zssr_gan.imaging.io import decode_picture, read_picture, size_in_header
from zssr_gan.imaging.picture import Picture
from zssr_gan.inference.enhance import OnProgress
from zssr_gan.inference.options import with_estimate
from zssr_gan.inference.outputs import ImageTask, RunPlan
from zssr_gan.inference.record import DegradationFacts, OptionFile
from zssr_gan.inference.request import Request
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import SMALL_PIXELS, SMALLEST_SIDE, ZeroShotSettings, is_small, learns_on_all
from zssr_gan.signals import uninterrupted
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr
from zssr_gan.zeroshot.shared import read_shared, write_shared

LABELLED_CASE = "results are labelled case; --init scratch keeps each internal"


def decide_init(plan: RunPlan, request: Request) -> tuple[Request, str]:
    """Decide by the images of a plan, done or not, what a request leaves open: one network for all, or each its own.

    Returns:
        The request, whose `init` is no longer `auto`, and a line for the user where there is something to say.
    """
    tasks = _tasks(plan)
    if len(tasks) < 2 and request.estimates == "auto":
        request = replace(request, estimates=None)
    if request.init != "auto":
        return request, ""
    small = sum(_is_small_file(task.source) for task in tasks)
    request = _decided(request, small, len(tasks))
    side = math.isqrt(SMALL_PIXELS)
    line = f"{small} of {len(tasks)} images are small (at most {side}x{side} pixels), so one network is learnt on all"
    return request, f"{line}: {LABELLED_CASE}" if request.learns else ""


def _decided(request: Request, small: int, images: int) -> Request:
    """The request with its `init` decided by how many images there are, and how many of them are small."""
    assert isinstance(request.settings, ZeroShotSettings)
    if not learns_on_all(small, images) or request.settings.shared is None:
        return replace(request, init="scratch")
    return replace(request, init="shared", settings=request.settings.for_case())


def learn_from_pictures(pictures: Sequence[Picture], request: Request, on_progress: OnProgress | None) -> list[Request]:
    """What is asked of each of some pictures, decided and learnt as for files; nothing is written.

    Raises:
        ImageError: a shared model was asked for, and none of the pictures can be learnt from.
        NumericalError: NaN or infinity came out.
    """
    if len(pictures) < 2 and not request.learns:
        return [request] * len(pictures)
    sizes = [one.pixels.shape[-2:] for one in pictures]
    if request.init == "auto":
        small = sum(is_small(width, height) for height, width in sizes)
        request = _decided(request, small, len(pictures))
    hashes = [sha256_bytes(one.pixels.contiguous().numpy().tobytes()) for one in pictures]
    images = [
        read_lr(CaseImage(name=f"picture {n}", sha256=sha256), without_equal_channels(one.pixels), None)
        for n, (sha256, one) in enumerate(zip(hashes, pictures, strict=True))
    ]
    if request.estimates and len(pictures) > 1:
        (found,) = learn_case(images, seed=request.seed, on_progress=on_progress).estimates.values()
        if request.estimates == "asked" or _is_shared(found, request):
            request = replace(request, estimate=found, degradation=DegradationFacts.estimated(found))
    if request.learns:
        assert isinstance(request.settings, ZeroShotSettings)
        with machine(request.options) as used:
            case = learn_case(
                images,
                seed=request.seed,
                degradations=[request.degradation_of(one).values.downscale for one in hashes],
                settings=request.settings,
                scale=request.scale,
                machine=used,
                on_progress=on_progress,
            )
        request = replace(request, shared=case.shared)
    return [replace(request, degradation=request.degradation_of(one)) for one in hashes]


def _is_small_file(path: Path) -> bool:
    """Whether a file is a small image that can be read; of larger ones only the header is read."""
    size = size_in_header(path)
    if size is None or not is_small(*size):
        return False
    try:
        return read_picture(path).pixels.numel() > 0
    except Exception:  # its image has its own error when its turn comes
        return False


def _tasks(plan: RunPlan) -> tuple[ImageTask, ...]:
    return (*plan.skipped, *plan.todo)


def _folder(plan: RunPlan) -> Path:
    """Where the files of the case lie, whichever images are done already."""
    return min(task.result.parent for task in _tasks(plan))


def with_degradation(
    plan: RunPlan, request: Request, on_image: Callable[[int, int], None], on_progress: OnProgress
) -> tuple[Request, str]:
    """Estimate the degradation from all images of a plan, or take what an earlier run estimated.

    It lies as degradation-HASH.json, with its picture, in the folder of the results; the hash is that of the
    images, the settings and the seed, so that the same case finds it again. Where it was not asked for, and tells
    nothing that images learnt from apart do not show each by itself, none is written.

    Returns:
        The request with its degradation, and a line for the user.

    Raises:
        ImageError: it was asked for, and none of the images can be read.
        SettingsError: the file of an earlier run was changed.
        OutputError: the disk refuses.
    """
    began, asked = time.perf_counter(), request.estimates == "asked"
    sources = [task.source for task in _tasks(plan)]
    evidence = gather(sources, max_megapixels=request.max_megapixels, on_image=on_image).evidence
    if not evidence:  # each one's own reason is given when its turn comes
        if asked:
            raise ImageError("no degradation can be estimated: none of the images can be read")
        return replace(request, estimates=None), ""
    key = {
        "images": sorted(one.image.sha256 for one in evidence),
        "settings": EstimationSettings().model_dump(mode="json"),
        "seed": request.seed,
    }
    path = _folder(plan) / f"degradation-{canonical_sha256(key)[:12]}.json"
    how = f"from {len(evidence)} images by an earlier run, and used again"
    if not path.exists():
        images = [LRImage(one.image, one.pixels, one.pixels, one.jpeg) for one in evidence]
        with machine(request.options):
            (found,) = learn_case(images, seed=request.seed, on_progress=on_progress).estimates.values()
        how = f"from {len(evidence)} images in {time.perf_counter() - began:.0f} s"
        if not asked and not _is_shared(found, request):
            alone = replace(request, estimates=None, degradation=DegradationFacts(why=found.why))
            why = found.why.removeprefix("bicubic is assumed: ")
            return (
                alone,
                f"degradation: the compression or noise that an image shows, else bicubic: {why} (estimated {how})",
            )
        with uninterrupted():
            # A picture without its file is what a kill left.
            write_estimate(found, path, replaceable=[picture_path(path)])
    used = with_estimate(request, path)
    if asked:
        return used, f"{path}: estimated {how}"
    assert used.estimate is not None
    label = "" if request.learns else f": {LABELLED_CASE}"
    return used, f"degradation: {used.estimate.summary}; {used.estimate.why} (estimated {how}: {path}){label}"


def _is_shared(found: Estimate, request: Request) -> bool:
    """Whether an estimate tells more of each image than it shows by itself."""
    if request.learns:
        return found.degradation != Degradation()
    return not found.fallback or found.jpeg_from == "pixels"


def with_shared_model(plan: RunPlan, request: Request, on_progress: OnProgress) -> tuple[Request, str]:
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
    path = _folder(plan) / f"shared-{canonical_sha256(key)[:12]}.safetensors"
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
    return replace(request, shared=shared, files=files), line


def _read(plan: RunPlan, request: Request) -> list[LRImage]:
    """What can be read and is large enough; the rest has its own error when its turn comes."""
    images = []
    for task in _tasks(plan):
        try:
            data = task.source.read_bytes()
            pixels = decode_picture(data, str(task.source), max_megapixels=request.max_megapixels).pixels
        except (OSError, ImageError):
            continue
        if min(pixels.shape[-2:]) >= SMALLEST_SIDE:
            image = CaseImage(name=task.source.name, sha256=sha256_bytes(data))
            images.append(read_lr(image, without_equal_channels(pixels), None))
    return images
