"""Pixels in, pixels out: one image or several enlarged as a request asks, with the evidence and what was done."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from zssr_gan.degradation.compression import find_compression, find_phase
from zssr_gan.degradation.footage import jpeg_of_frame
from zssr_gan.degradation.found_compression import SetCompression, codec_words
from zssr_gan.degradation.model import Degradation, Jpeg, KernelBlur
from zssr_gan.degradation.noise import picture_noise
from zssr_gan.degradation.operators import Downscale
from zssr_gan.devices import Machine, device_name, download, machine, resolve_device, upload
from zssr_gan.errors import ImageError, NumericalError
from zssr_gan.imaging.colour import LEVELS, psnr_db
from zssr_gan.imaging.picture import Picture, is_mostly_faint, quantise, seen_colours, stretch_of
from zssr_gan.imaging.resize import Size, enlarged_size, resize
from zssr_gan.inference.evidence import added_variation, evidence_figures
from zssr_gan.inference.generator import generate, images_together
from zssr_gan.inference.record import SHOWS_NOTHING, DegradationFacts, Work, versions
from zssr_gan.inference.region import check_inside, cut, cut_picture
from zssr_gan.inference.request import PresetSettings, Request
from zssr_gan.progress import OnProgress
from zssr_gan.settings.zeroshot import SMALLEST_SIDE, GeneratorSettings, ZeroShotSettings
from zssr_gan.zeroshot.apply import images_at_once
from zssr_gan.zeroshot.scheduler import TrainJob, run_jobs, run_single
from zssr_gan.zeroshot.upscale import SuperResolved, upscale

_MOST_NETWORKS = 16  # trained at once on a GPU: their iterations take it little longer than one's

_ROUNDING = 2.0**-18  # a quarter of a 16-bit level


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A result, its evidence, and what was done."""

    source: Picture
    """What went in, whole."""
    picture: Picture
    """What came out (of a region: its pixels), rounded to the levels of the input's depth; metadata as in the input."""
    disagreement: Tensor
    """`sH sW`, 8-bit levels (0 to 255): standard deviation of the views of the self-ensemble, mean over channels."""
    residual: Tensor
    """`H W` of the input or region, 8-bit levels: the result shrunk again against the input, mean over channels."""
    added_variation: Tensor
    """`sH sW`, 8-bit levels: how much more the result varies locally than bicubic does (see `added_variation`)."""
    settings: PresetSettings
    """For the image's size."""
    machine: Machine
    """Device, precision, threads and tile as they came out."""
    work: Work
    request: Request
    """What was asked, with the degradation that was used for this picture."""

    @property
    def size(self) -> Size:
        """Of the whole source (rows, columns)."""
        return (self.source.pixels.shape[-2], self.source.pixels.shape[-1])

    @property
    def shown(self) -> Tensor:
        """The pixels of the source that the result shows, `C H W`."""
        return cut(self.source.pixels, self.request.region, self.size)

    @property
    def bicubic(self) -> Tensor:
        """The plain interpolation `C sH sW` to put beside the result, [0, 1]; computed when asked for."""
        large = resize(self.source.pixels, enlarged_size(self.size, self.request.scale)).clamp_(0, 1)
        return cut(large, self.request.region, self.size)


def enhance_picture(picture: Picture, request: Request, on_progress: OnProgress | None = None) -> Enhanced:
    """Enlarge one picture; see `enhance_pictures`."""
    (enhanced,) = enhance_pictures([picture], request, on_progress)
    return enhanced


def enhance_pictures(
    pictures: Sequence[Picture],
    request: Request,
    on_progress: OnProgress | None = None,
    *,
    jpegs: Sequence[Jpeg | None] = (),
    degradations: Sequence[DegradationFacts] = (),
) -> list[Enhanced]:
    """Enlarge pictures by what each, or all images of its case, teach, or by a trained generator.

    What comes of a picture does not depend on the others, except that an error is one of all. Alpha is enlarged apart,
    by interpolation.

    Args:
        pictures: at least 8 pixels a side; for a generator of any size, but all of one size and kind.
        request: of whose run nothing is left to be estimated or learnt.
        on_progress: called often, from this thread.
        jpegs: how the file of each picture was compressed, where that is known.
        degradations: of each picture, in place of the request's, for zero-shot learning.

    Raises:
        ImageError: too small, holding NaN or infinity, or of several sizes for a generator.
        SettingsError: a region beyond the picture, unknown precision, or a shared model of other degradations or
            scales.
        DeviceError: no such device, or too little memory on it.
        NumericalError: NaN or infinity came out.
    """
    for picture in pictures:
        if not torch.isfinite(picture.pixels).all():
            raise ImageError("the image holds NaN or infinity")
        if request.region is not None:
            check_inside(request.region, (picture.pixels.shape[-2], picture.pixels.shape[-1]))
    if request.model is None or not pictures:
        device = resolve_device(request.options.device)
        requests = [replace(request, degradation=facts) for facts in degradations] or [request] * len(pictures)
        given = list(zip(pictures, requests, jpegs or [None] * len(pictures), strict=True))
        enhanced: list[Enhanced] = []
        for _, alike in groupby(given, lambda one: one[0].pixels.shape):
            ones, most = list(alike), pictures_together(request, device, given[len(enhanced)][0])
            for at in range(0, len(ones), most):
                enhanced += _learn_and_upscale(ones[at : at + most], on_progress)
        return enhanced
    if len({picture.pixels.shape for picture in pictures}) > 1:
        raise ImageError("images that go through a generator together have one size and are all gray or all colour")
    downscale = request.degradation.values.downscale
    with machine(request.options) as used:
        began = time.perf_counter()
        assert isinstance(request.settings, GeneratorSettings)
        facts = request.model.facts
        for picture in pictures:
            facts.check(picture.pixels.new_empty(facts.channels[0], *picture.pixels.shape[-2:]))
        lr = [seen_colours(picture).to(used.device) for picture in pictures]
        most = images_together(used.device, (lr[0].shape[-2], lr[0].shape[-1]))
        results: dict[int, SuperResolved] = {}
        for channels in {len(one) for one in lr}:  # gray pictures in RGB pass apart from those with colours
            places = [place for place, one in enumerate(lr) if len(one) == channels]
            for some in (places[at : at + most] for at in range(0, len(places), most)):
                images = [lr[place] for place in some]
                made = generate(images, request.scale, request.settings, downscale, request.model, used, on_progress)
                results |= zip(some, made, strict=True)
        seconds = (time.perf_counter() - began) / len(pictures)
        return [
            _assemble(picture, one, results[place], request, downscale, used, seconds)
            for place, (picture, one) in enumerate(zip(pictures, lr, strict=True))
        ]


def pictures_together(request: Request, device: torch.device, picture: Picture) -> int:
    """How many pictures of one size go through at once on a device; it depends on the size alone."""
    size = (picture.pixels.shape[-2], picture.pixels.shape[-1])
    if request.model is not None:
        return images_together(device, size)
    return images_at_once(device, size) if request.shared is not None else _networks_together(device, size)


def _networks_together(device: torch.device, size: Size) -> int:
    """How many networks are trained at once: always just so many, so that a GPU's sums have one shape."""
    return min(_MOST_NETWORKS, images_at_once(device, size))


def _learn_and_upscale(
    given: list[tuple[Picture, Request, Jpeg | None]], on_progress: OnProgress | None
) -> list[Enhanced]:
    """Pictures of one size by zero-shot learning; `on_progress` gets the steps of the first one's networks."""
    pictures, options = [picture for picture, *_ in given], given[0][1].options
    # On its threads from the first operation on: what two have computed before makes learning on one slow.
    with machine(options.for_image(pictures[0].pixels[0].numel())) as used:
        requests = [_with_seen_degradation(*one) for one in given]
        began = time.perf_counter()
        jobs = [
            _make_job(picture, request, used, None if n else on_progress)
            for n, (picture, request) in enumerate(zip(pictures, requests, strict=True))
        ]
        size = (pictures[0].pixels.shape[-2], pictures[0].pixels.shape[-1])
        if (networks := _networks_together(used.device, size)) > 1:
            ended = sorted(run_jobs(enumerate(jobs), networks, exact=True), key=lambda one: one.key)
            results = [one.unwrap() for one in ended]
        else:
            results = [run_single(job) for job in jobs]
        seconds = (time.perf_counter() - began) / len(given)
        return [
            _assemble(picture, *result, request, request.degradation.values.downscale, used, seconds)
            for picture, request, result in zip(pictures, requests, results, strict=True)
        ]


def _with_seen_degradation(picture: Picture, request: Request, jpeg: Jpeg | None) -> Request:
    """The request for a picture of whose camera nothing is known: with the compression or the noise that it shows."""
    if request.degradation.source != "default" or request.shared is not None:
        return request
    pixels = seen_colours(picture)
    low, gain = _stretch_of(pixels, picture, request)
    told, step, compression = picture.footage, picture.webp_step, None
    if picture.bits == 8 and (found := find_compression([pixels], [jpeg]).groups[0]).jpeg is not None:
        compression = SetCompression.of(found, [""]).of_image("")
        again = f", saved again with {found.outer.quality}" if found.outer is not None else ""
        seen, why = Degradation(jpeg=found.jpeg), f"JPEG {found.jpeg.summary}{again}"
    elif (shown := picture_noise((pixels - low) * gain)) is not None:
        noise = shown.noise if gain == 1 else shown.noise.stretched(-low * gain, 1 / gain)
        levels, error = LEVELS * noise.sigma, LEVELS * shown.error / gain
        seen, why = Degradation(noise=noise), f"noise of {levels:.1f} +- {error:.1f} of {LEVELS} levels"
    elif (told or picture.bits == 8) and (frame := jpeg_of_frame(pixels, told, step)) is not None:
        seen, why = Degradation(jpeg=frame), codec_words("video" if step is None else "webp", frame)
    else:
        alone = replace(request, degradation=DegradationFacts(why=SHOWS_NOTHING))
        return alone if request.degradation == DegradationFacts() else request
    why = f"the picture shows {why}, which the networks learn to remove (--degradation bicubic ignores it)"
    codec = None if seen.jpeg is None or compression else "video" if step is None else "webp"
    facts = DegradationFacts.of(seen, "picture", why)
    return replace(request, degradation=facts.model_copy(update={"compression": compression, "codec": codec}))


def _with_phase(picture: Picture, request: Request) -> Request:
    """The request with the place of the picture's blocks, where the compression of its set or its file is known."""
    facts = request.degradation
    found, jpeg = facts.compression, facts.values.jpeg
    if found is None or jpeg is None or found.saved_again is not None or picture.bits != 8:
        return request
    if found.phase is None or found.evidence is None:  # a file's blocks begin elsewhere where EXIF turned its picture
        found = found.model_copy(update={"phase": find_phase(seen_colours(picture), jpeg, found.phase)})
    return replace(request, degradation=facts.model_copy(update={"compression": found}))


def _stretch_of(pixels: Tensor, picture: Picture, request: Request) -> tuple[float, float]:
    """`stretch_of` a 16-bit picture that is learnt from alone; not with compression, whose levels are of 8 bits."""
    alone = picture.bits == 16 and request.shared is None and request.degradation.values.jpeg is None
    return stretch_of(pixels) if alone else (0.0, 1.0)


def _make_job(
    picture: Picture, request: Request, used: Machine, on_progress: OnProgress | None
) -> TrainJob[tuple[Tensor, SuperResolved]]:
    """A job of `run_jobs` that gives the picture's colours `C H W` on the device, and their zero-shot result."""
    height, width = picture.pixels.shape[-2:]
    smallest = SMALLEST_SIDE
    if isinstance(blur := request.degradation.values.blur, KernelBlur):
        # An HR image is cut to whole multiples of both factors, in every phase.
        rows, columns = blur.scale
        smallest = max(SMALLEST_SIDE // 2 * max(2, rows, columns), math.lcm(rows, columns) + max(rows, columns) - 1)
    if min(height, width) < smallest:
        raise ImageError(
            f"the image is {width}x{height} pixels; zero-shot learning needs at least {smallest} pixels a side"
        )
    settings = request.settings_for(height * width)
    assert isinstance(settings, ZeroShotSettings)
    pixels = seen_colours(picture)
    low, gain = _stretch_of(pixels, picture, request)
    lr, values = upload(pixels, used.device), request.degradation.values
    downscale = values.downscale
    if gain > 1 and values.noise is not None:
        downscale = values.model_copy(update={"noise": values.noise.stretched(low, gain)}).downscale
    above, below = (lr - (low + 1 / gain)).clamp(min=0), (low - lr).clamp(min=0)  # none of a picture that is not faint
    outside = int((above + below > _ROUNDING).any(0).sum()) if gain > 1 else 0
    inside = (lr - low) * gain if gain > 1 else lr
    done = yield from upscale(
        inside.clamp(0, 1) if outside else inside,
        request.scale,
        settings,
        downscale,
        used,
        seed=request.seed,
        shared=request.shared,
        on_progress=on_progress,
    )
    if gain > 1:  # a network learns small differences as badly as large ones
        done.image_CHW = done.image_CHW.div_(gain).add_(low)
        done.disagreement_HW = done.disagreement_HW / gain
        what = "pixels stretched before learning, and back afterwards: x -> (x - low) * gain"
        done.steps.insert(0, {"name": "stretch", "what": what, "low": low, "gain": gain, "seconds": 0.0})
        done.notices.append(f"the picture is faint: it uses 1/{gain:g} of its range, and was stretched for the network")
        if outside:
            size = (done.image_CHW.shape[-2], done.image_CHW.shape[-1])
            # Each of one sign, so that no dark ring surrounds a bright pixel.
            done.image_CHW += resize(above, size).clamp_(min=0) - resize(below, size).clamp_(min=0)
            done.notices.append(
                f"{outside} of its pixels, such as hot ones, lie outside that range: interpolated there"
            )
    elif picture.bits == 16 and stretch_of(pixels)[1] > 1:
        why = "compression is learnt against" if request.shared is None else "a network for all images is used"
        done.notices.append(
            f"the picture is faint, and is not stretched for the network, since {why}: it learns such small "
            "differences badly (--init scratch with --degradation bicubic stretches it)"
        )
    elif picture.bits == 16 and is_mostly_faint(pixels):
        done.notices.append(
            "most of the picture is faint: nine tenths of its samples use at most 1/16 of its range, but too many lie "
            "outside to stretch it for the network, which learns such small differences badly"
        )
    return lr, done


def _assemble(
    picture: Picture,
    lr: Tensor,
    done: SuperResolved,
    request: Request,
    downscale: Downscale,
    used: Machine,
    seconds: float,
) -> Enhanced:
    """The file's pixels, what they miss of the input, and what was done. `done` gives its image up."""
    began = time.perf_counter()
    result = _rounded(picture, done.take_image().cpu())
    colours = upload(result.pixels[: len(lr)], lr.device)
    again = downscale(colours[None], (lr.shape[-2], lr.shape[-1]))[0]
    residual = (again - lr).abs()
    if picture.alpha is not None:  # where it hides the pixels nothing is missed
        residual *= upload(picture.alpha, lr.device)
    added = added_variation(colours, lr, 2**result.bits - 1)
    if result.alpha is not None:
        added *= upload(result.alpha[0], lr.device)
    size, region = (lr.shape[-2], lr.shape[-1]), request.region
    disagreement, missed, more, error = download(
        cut(done.disagreement_HW, region, size).float(),
        cut(residual.mean(0).mul(LEVELS), region, size),
        cut(added, region, size),
        cut(residual, region, size).square().mean(),
    )
    # What was seen unasked, a user should know.
    seen = [request.degradation.why] if request.degradation.source == "picture" else []
    y, x = (large / small for large, small in zip(result.pixels.shape[-2:], lr.shape[-2:], strict=True))
    work = Work(
        true_scale=(y, x),
        downscale=downscale.name,
        choice=done.selection,
        steps=tuple(done.steps),
        residual_db=round(psnr_db(float(error)), 3),
        evidence=evidence_figures(disagreement, missed, more, views=done.views),
        notices=(*picture.notices, *seen, *done.notices),
        warnings=tuple(done.warnings),
        device_name=device_name(used.device),
        versions=dict(versions()),
        seconds=round(seconds + time.perf_counter() - began, 3),
    )
    settings, used = request.settings_for(picture.pixels[0].numel()), replace(used, tile=done.tile or used.tile)
    made = cut_picture(result, region, size), disagreement, missed, more
    return Enhanced(picture, *made, settings, used, work, _with_phase(picture, request))


def _rounded(source: Picture, pixels: Tensor) -> Picture:
    """The result's picture, rounded, with the channels of its source, and alpha enlarged beside the colour."""
    if not torch.isfinite(pixels).all():
        raise NumericalError("the result holds NaN or infinity; try the precision fp32")
    alpha = None
    if source.alpha is not None:
        alpha = resize(source.alpha, (pixels.shape[-2], pixels.shape[-1])).clamp_(0, 1)
    return quantise(Picture(pixels.expand(len(source.pixels), -1, -1), alpha, source.bits, source.metadata))
