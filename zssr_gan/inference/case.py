"""The images of one run as a case: what its camera does, and one network learnt on all, written beside the results.

Unless a user says otherwise the images themselves decide (`decide_init`): enough small ones are learnt from together,
and the camera of several is estimated from all of them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimator import middle_for_estimate
from zssr_gan.degradation.model import Degradation, degradation_of
from zssr_gan.degradation.plot import picture_path, write_estimate
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.devices import Machine, machine
from zssr_gan.errors import ImageError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.imaging.colour import without_equal_channels
from zssr_gan.imaging.io import decode_picture, read_image_bytes, size_in_header
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.inference.options import with_estimate
from zssr_gan.inference.outputs import RunPlan
from zssr_gan.inference.record import DegradationFacts, OptionFile
from zssr_gan.inference.request import Request
from zssr_gan.progress import OnCount, OnProgress
from zssr_gan.provenance import MAX_MEGAPIXELS, CaseImage
from zssr_gan.settings.zeroshot import SMALL_PIXELS, SMALLEST_SIDE, ZeroShotSettings, is_small, learns_on_all
from zssr_gan.signals import uninterrupted
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr
from zssr_gan.zeroshot.shared import LARGEST_SIDE, SharedModel, read_shared, write_shared

LABELLED_CASE = "results are labelled case; --init scratch keeps each internal"


class CaseFiles:
    """The LR images of a case, each file decoded once; those that cannot be read are left out."""

    def __init__(self, sources: Sequence[Path], max_megapixels: float = MAX_MEGAPIXELS) -> None:
        self.sources, self.max_megapixels = sources, max_megapixels
        self.failures: dict[Path, str] = {}
        """Why a file cannot be read, a sentence each."""
        self._small: dict[Path, LRImage] = {}

    def small(self) -> int:
        """How many are small images that can be read; 0 where their headers say that too few are to learn on all."""
        small = [path for path in self.sources if (size := size_in_header(path)) is not None and is_small(*size)]
        if not learns_on_all(len(small), len(self.sources)):
            return 0
        read = {path: self._decoded(path, network=True) for path in small}
        self._small = {path: image for path, image in read.items() if image is not None}
        return len(self._small)

    def images(self, *, network: bool, on_image: OnCount | None = None) -> list[LRImage]:
        """All that can be read; `network`: whether one is to be learnt on their middles, which takes more memory."""
        found = []
        for number, path in enumerate(self.sources, 1):
            image = self._small.get(path) or self._decoded(path, network=network)
            found += [] if image is None else [image]
            if on_image is not None:
                on_image(number, len(self.sources))
        return found

    def _decoded(self, path: Path, *, network: bool) -> LRImage | None:
        try:
            data = read_image_bytes(path, self.max_megapixels)
            picture = decode_picture(data, str(path), max_megapixels=self.max_megapixels)
        except ImageError as error:
            self.failures[path] = str(error)
            return None
        pixels = picture.pixels
        blocks = middle_for_estimate(pixels, len(self.sources))
        middle = copied_middle_of(without_equal_channels(pixels), LARGEST_SIDE) if network else blocks
        image = CaseImage(name=path.name, sha256=sha256_bytes(data))
        return LRImage(image, middle, blocks, jpeg_of(data), picture.footage, picture.webp_step)


def learn_from_files(
    plan: RunPlan, request: Request, on_image: OnCount, on_progress: OnProgress, say: Callable[[str], None]
) -> Request:
    """The request of a run, decided by its images, with what is still to be estimated and learnt from them.

    What the images teach lies beside the results, from where the same case takes it again. Where every result exists,
    nothing is estimated or learnt: `to_estimate` and `to_learn` then say what the results should come from.

    Args:
        plan: of the run.
        request: what is asked of each.
        on_image: called with how many images are read, and how many there are.
        on_progress: called often with what is estimated or learnt.
        say: gets what a user should know, a line at a time.

    Raises:
        ImageError: what was asked for needs images that can be read, or are large enough, and there is none.
        SettingsError: the file of an earlier run was changed.
        OutputError: the disk refuses.
        NumericalError: NaN or infinity came out.
    """
    tasks = (*plan.skipped, *plan.todo)  # whichever images are done already
    files = CaseFiles([task.source for task in tasks], request.max_megapixels)
    request, line = decide_init(files, request)
    if not plan.todo:
        return request
    if line:
        say(line)
    if not (request.to_estimate or request.to_learn):
        return request
    images = files.images(network=request.to_learn, on_image=on_image)
    return _learn(images, request, min(task.result.parent for task in tasks), on_progress, say)


def learn_from_pictures(pictures: Sequence[Picture], request: Request, on_progress: OnProgress | None) -> list[Request]:
    """What is asked of each of some pictures, decided and learnt as for files; nothing is written.

    Raises:
        ImageError: a shared model was asked for, and none of the pictures can be learnt from.
        NumericalError: NaN or infinity came out.
    """
    small = sum(is_small(one.pixels.shape[-1], one.pixels.shape[-2]) for one in pictures)
    request = _decided(request, small, len(pictures))
    if not (request.to_estimate or request.to_learn):
        return [request] * len(pictures)
    hashes = [sha256_bytes(one.pixels.contiguous().numpy().tobytes()) for one in pictures]
    images = [
        read_lr(CaseImage(name=f"picture {n}", sha256=sha256), without_equal_channels(one.pixels), None, picture=one)
        for n, (sha256, one) in enumerate(zip(hashes, pictures, strict=True))
    ]
    request = _learn(images, request, None, on_progress, lambda _: None)
    return [replace(request, degradation=request.degradation_of(one)) for one in hashes]


def _learn(
    images: Sequence[LRImage],
    request: Request,
    folder: Path | None,
    on_progress: OnProgress | None,
    say: Callable[[str], None],
) -> Request:
    """The request with what was decided to be estimated and learnt, which is read from and written into the folder."""
    with machine(request.options) as used:
        if request.to_estimate:
            request, line = _with_degradation(images, request, folder, on_progress)
            if line:
                say(line)
        if request.to_learn:
            degradations = [request.degradation_of(one.image.sha256).values for one in images]
            what = f"{len(images)} images"
            request, line = with_network(images, degradations, request, folder, used, on_progress, what)
            say(line)
    return request


def decide_init(files: CaseFiles, request: Request) -> tuple[Request, str]:
    """Decide by the images of a run what a request leaves open: one network for all, or each its own.

    Returns:
        The request, whose `init` is no longer `auto`, and a line for the user where there is something to say.
    """
    count, automatic = len(files.sources), request.init == "auto"
    small = files.small() if automatic else 0
    request = _decided(request, small, count)
    side = math.isqrt(SMALL_PIXELS)
    line = f"{small} of {count} images are small (at most {side}x{side} pixels), so one network is learnt on all"
    return request, f"{line}: {LABELLED_CASE}" if automatic and request.to_learn else ""


def _decided(request: Request, small: int, images: int) -> Request:
    """The request with its `init` and `to_estimate` decided by how many images there are, and how many are small."""
    if images < 2 and request.to_estimate == "auto":
        request = replace(request, to_estimate=None)
    if request.init != "auto":
        return request
    assert isinstance(request.settings, ZeroShotSettings)
    if not learns_on_all(small, images) or request.settings.shared is None:
        return replace(request, init="scratch")
    return replace(request, init="shared", settings=request.settings.for_case())


def _with_degradation(
    images: Sequence[LRImage], request: Request, folder: Path | None, on_progress: OnProgress | None
) -> tuple[Request, str]:
    """Estimate the degradation from the images of a run, or take what an earlier run estimated in `folder`.

    It lies there as degradation-HASH.json, with its picture; the hash is that of the images, the settings and
    the seed, so that the same case finds it again. Where it was not asked for, and shows nothing that images learnt
    from apart do not show each by itself, none is written. The text is a line for the user.
    """
    began, asked = time.perf_counter(), request.to_estimate == "asked"
    if not images:  # each one's own reason is given when its turn comes
        if not asked:
            return replace(request, to_estimate=None), ""
        raise ImageError("no degradation can be estimated: none of the images can be read")
    key = {
        "images": sorted(one.image.sha256 for one in images),
        "settings": asdict(EstimationSettings()),
        "seed": request.seed,
    }
    path = None if folder is None else folder / f"degradation-{canonical_sha256(key)[:12]}.json"
    how = f"from {len(images)} images by an earlier run, and used again"
    if path is None or not path.exists():
        (found,) = learn_case(images, seed=request.seed, on_progress=on_progress).estimates.values()
        how = f"from {len(images)} images in {time.perf_counter() - began:.0f} s"
        if not asked and not _is_shared(found, request):
            line = f"degradation: {found.reasons} ({how})"
            if not request.to_learn:
                line += "; compression or noise that a picture shows by itself is still used for that picture"
            return replace(request, to_estimate=None, degradation=DegradationFacts(why=found.reasons)), line
        if path is None:
            return replace(request, to_estimate=None, estimate=found, degradation=DegradationFacts.estimated(found)), ""
        with uninterrupted():
            # A picture without its file is what a kill left.
            write_estimate(found, path, replaceable=[picture_path(path)])
    used = with_estimate(request, path)
    if asked:
        return used, f"{path}: estimated {how}"
    assert used.estimate is not None
    label = "" if request.to_learn else f": {LABELLED_CASE}"
    return used, f"degradation: {used.estimate.summary}; {used.estimate.reasons} (estimated {how}: {path}){label}"


def _is_shared(found: Estimate, request: Request) -> bool:
    """Whether an estimate says more of each image than the image itself shows."""
    if request.to_learn:  # with one network for all, none is looked at by itself
        return found.degradation != Degradation() or bool(found.others)
    seen = [one for kind in found.kinds for one in kind.compressions]
    from_pixels = any(one.quality is not None and one.evidence is not None for one in seen)
    return from_pixels or any(not kind.fallback or kind.own_blur for kind in found.kinds)


def with_network(
    images: Sequence[LRImage],
    degradations: Sequence[Degradation],
    request: Request,
    folder: Path | None,
    used: Machine,
    on_progress: OnProgress | None,
    what: str,
    **beside: object,
) -> tuple[Request, str]:
    """Learn one network on all images that are large enough, or take that of an earlier run.

    It lies as shared-HASH.safetensors in `folder`; the hash is that of the images, the settings, the degradations, the
    seed and what is named `beside`, so that the same case finds it again.

    Args:
        images, degradations: of the case, and that of each.
        request: with the settings for a case.
        folder, used, on_progress: where it lies (None: nowhere), what it is learnt on, and what is called often.
        what: the images in words.
        beside: what else the network depends on, JSON values.

    Returns:
        The request with its network, and a line for the user.

    Raises:
        ImageError: none of the images can be learnt from.
        SettingsError: the file of an earlier run was changed.
        OutputError: the disk refuses.
        NumericalError: NaN or infinity came out.
    """
    began = time.perf_counter()
    large = [n for n, one in enumerate(images) if min(one.pixels.shape[-2:]) >= SMALLEST_SIDE]
    images, degradations = [images[n] for n in large], [degradations[n] for n in large]
    several = sorted({one.sha256 for one in degradations} - {request.degradation.sha256})
    key = {
        "images": sorted(one.image.sha256 for one in images),
        "settings": request.settings.model_dump(mode="json"),
        "scale": list(request.scale),
        "degradation": degradation_of(request.degradation.values.downscale),
        "seed": request.seed,
        **({"own_degradations": several} if several else {}),
        **beside,
    }
    path = None if folder is None else folder / f"shared-{canonical_sha256(key)[:12]}.safetensors"
    if path is not None and path.exists():
        return with_shared(
            request, read_shared(path), path
        ), f"{path}: learnt on {what} by an earlier run, and used again"
    assert isinstance(request.settings, ZeroShotSettings), "a trained generator learns on no case"
    shared = learn_case(
        images,
        seed=request.seed,
        degradations=[one.downscale for one in degradations],
        settings=request.settings,
        scale=request.scale,
        machine=used,
        on_progress=on_progress,
    ).shared
    assert shared is not None
    if path is None:
        return replace(request, shared=shared), ""
    with uninterrupted():
        write_shared(shared, path)
    return with_shared(request, shared, path), f"{path}: learnt on {what} in {time.perf_counter() - began:.0f} s"


def with_shared(request: Request, shared: SharedModel, path: Path) -> Request:
    """The request with a network that was learnt on its case, and lies at `path`."""
    files = {**request.files, "init-from": OptionFile(path=str(path), sha256=shared.sha256)}
    return replace(request, shared=shared, files=files)
