"""An estimate of a degradation as a picture: its kernel beside bicubic's, how sure it is, its noise, and the words.

Kernels stand enlarged on the grid of HR pixels, upright as the images are. Colours are told apart by the colour-blind
too (Okabe and Ito 2008).
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from zssr_gan.degradation.estimate import Brightness, Certainty, Estimate, encode_estimate
from zssr_gan.degradation.estimator import Evidence, jpeg_of
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.errors import ImageError
from zssr_gan.files import sha256_bytes, write_together
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.sheets import FAINT, INK, Colour, Text, font, tensor_of_sheet
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.provenance import MARK, MAX_MEGAPIXELS, CaseImage

# What an estimate of a degradation says, in lines for a person: the command prints them, the picture carries them.


_NOISE_FROM = {
    "colours": "read from what red, green and blue do not share",
    "recurrence": "found together with the blur",
    "nothing": "",
}

_JPEG_FROM = {"tables": "read from the files' tables", "pixels": "read from the pixels", "nothing": ""}


def account(estimate: Estimate) -> list[tuple[str, str]]:
    """What each line is about, in a word or two, and what it says. Widths are standard deviations in LR pixels."""
    lines = [("assumed", estimate.summary)]
    if estimate.fallback:
        lines.append(
            ("not used", "the blur below: BICUBIC IS ASSUMED in its place") if estimate.blur_estimated else _NONE
        )
    blur = estimate.degradation.blur
    if estimate.blur_estimated is not None:
        lines += _blur(estimate.blur_estimated, estimate.certainty)
    elif isinstance(blur, GaussianBlur):
        lines += _blur(blur, None)
    elif isinstance(blur, KernelBlur):
        lines.append(("blur", f"a kernel of {len(blur.values[0])} x {len(blur.values)} HR pixels for x{blur.scale[1]}"))
    lines.append(("noise", _noise(estimate.degradation.noise, _NOISE_FROM[estimate.noise_from])))
    lines.append(("JPEG", _jpeg(estimate.degradation.jpeg, _JPEG_FROM[estimate.jpeg_from], estimate.jpeg_qualities)))
    looked = f", {estimate.certainty.tiles} parts of them looked at" if estimate.certainty is not None else ""
    lines.append(("images", f"{len(estimate.images)}{looked}"))
    lines.append(("why", estimate.why))
    return lines


_NONE = ("not used", "no blur could be estimated: BICUBIC IS ASSUMED")


def _blur(blur: GaussianBlur, certainty: Certainty | None) -> list[tuple[str, str]]:
    major, minor = (
        f"{width:.2f}" + ("" if error is None else f" +/- {error:.2f}")
        for width, error in (
            (blur.sigma_major, certainty and certainty.sigma_major),
            (blur.sigma_minor, certainty and certainty.sigma_minor),
        )
    )
    shape = f"{major} along, {minor} across its wider axis (LR pixels; at x2 twice as many HR pixels)"
    lines = [("blur", shape), ("angle", f"{blur.angle_degrees:.0f} degrees, clockwise from the horizontal")]
    if certainty is not None:
        lines.append(
            (
                "confidence",
                f"moved by its standard error it makes images {certainty.spread_db:.0f} dB PSNR from these; "
                f"bicubic's are {certainty.bicubic_db:.0f} dB from them",
            )
        )
    return lines


def _noise(noise: Noise | None, where: str) -> str:
    if noise is None:
        return "none assumed"
    shot = f", {noise.shot:.0%} of its variance in proportion to brightness" if noise.shot >= 0.005 else ""
    gray = "" if noise.coloured else ", the same in all colours"
    return f"{noise.sigma * LEVELS:.1f} of 255 levels at medium brightness{shot}{gray}{where and f'; {where}'}"


def _jpeg(kept: Jpeg | None, where: str, qualities: dict[str, int]) -> str:
    if kept is None:
        return "none found"
    several = ", ".join(
        f"{count} of {quality}" for quality, count in sorted(qualities.items(), key=lambda one: int(one[0]))
    )
    return f"quality {kept.quality}{where and f', {where}'}{f' ({several})' if len(qualities) > 1 else ''}"


_WHOLE, _PARTS, _NEGATIVE = (213, 94, 0), (86, 180, 233), (204, 121, 167)

_GRID, _RULE = (225, 225, 225), (200, 200, 200)

_MARGIN = 24

_SIDE = 400

_TITLE, _POINTS = 22, 15

_FINE = 4  # lines are drawn so many times larger, and reduced: smooth

_SEEN = 0.01  # weights below this share of the peak are not shown

_LABELS = 110

Entry = tuple[str, Colour | None]
"""A line of a legend, and the colour that it tells of."""


def degradation_picture(estimate: Estimate, of: str = "") -> Tensor:
    """The picture of an estimate, `3 H W` in [0, 1]; `of` names the camera where there are several."""
    panels = _panels(estimate)
    width = _MARGIN + max(2, len(panels)) * (_SIDE + _MARGIN)
    title = Text.wrapped(_title(estimate, of), width - 2 * _MARGIN, _TITLE)
    lines = [(name, Text.wrapped(said, width - 2 * _MARGIN - _LABELS, _POINTS)) for name, said in account(estimate)]
    top = _MARGIN + title.height + _MARGIN // 2
    below = top + max(panel.height for panel in panels) + _MARGIN
    height = below + sum(text.height + 4 for _, text in lines) + _MARGIN // 2
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    title.draw(draw, _MARGIN, _MARGIN)
    _paste(sheet, panels, top)
    draw.line([(_MARGIN, below - _MARGIN // 2), (width - _MARGIN, below - _MARGIN // 2)], _RULE)
    for name, text in lines:
        loud = estimate.fallback and name in ("not used", "why")
        draw.text((_MARGIN, below), name, _WHOLE if loud else FAINT, font(_POINTS))
        text.draw(draw, _MARGIN + _LABELS, below)
        below += text.height + 4
    return tensor_of_sheet(sheet)


def degradation_panels(estimate: Estimate) -> Tensor:
    """The picture without title and account, for a page that has these as text: `3 H W` in [0, 1]."""
    panels = _panels(estimate)
    width = _MARGIN + len(panels) * (_SIDE + _MARGIN)
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels) + 2 * _MARGIN), "white")
    _paste(sheet, panels, _MARGIN)
    return tensor_of_sheet(sheet)


def _paste(sheet: Image.Image, panels: list[Image.Image], top: int) -> None:
    for number, panel in enumerate(panels):
        sheet.paste(panel, (_MARGIN + number * (_SIDE + _MARGIN), top))


def _title(estimate: Estimate, of: str) -> str:
    images = f"{len(estimate.images)} image{'' if len(estimate.images) == 1 else 's'}{of and f' of {of}'}"
    if estimate.fallback:
        return f"Degradation of {images}: not sure enough, bicubic is assumed"
    return f"Degradation of {images}, estimated from them alone"


def _panels(estimate: Estimate) -> list[Image.Image]:
    blur = estimate.degradation.blur or estimate.blur_estimated
    parts = () if estimate.certainty is None else estimate.certainty.blurs
    scale = blur.scale if isinstance(blur, KernelBlur) else (2, 2)
    ellipses = [blur] if isinstance(blur, GaussianBlur) else []
    none = Degradation().kernel(scale)
    found = none if blur is None else Degradation(blur=blur).kernel(scale)
    reach = max(_reach(found), _reach(none), *(2 * one.sigma_major * 1.1 for one in (*ellipses, *parts)), 3.0)
    panels = []
    if blur is not None:
        used = "not used" if estimate.fallback else "used"
        shown = _kernel(found, scale, reach, ellipses, parts)
        legend: list[Entry] = []
        if ellipses:
            legend.append(("the blur's one-sigma ellipse, from all images", _WHOLE))
        if parts:
            legend.append((f"the same from each of {len(parts)} parts of them", _PARTS))
        panels.append(_captioned(shown, f"Estimated kernel at x{scale[1]}, {used}: peak {found.max():.3f}", legend))
    caption = f"Bicubic's kernel{'' if blur is None else ' at the same size'}, x{scale[1]}: peak {none.max():.3f}"
    panels.append(
        _captioned(
            _kernel(none, scale, reach, (), ()),
            caption,
            [("HR pixels; the darker, the more weight", None), ("weight below zero", _NEGATIVE)],
        )
    )
    if estimate.noise_by_brightness:
        chart = _chart(estimate.noise_by_brightness, estimate.degradation.noise)
        legend = [("measured", _PARTS)]
        legend += [("assumed", _WHOLE)] if estimate.degradation.noise else []
        panels.append(_captioned(chart, "Noise (levels of 255) over brightness", legend))
    return panels


def _captioned(picture: Image.Image, caption: str, legend: list[Entry]) -> Image.Image:
    """A picture under its caption and over its legend: a stroke of the colour, and what it stands for."""
    heading = Text.wrapped(caption, _SIDE, _POINTS)
    texts = [Text.wrapped(said, _SIDE - (34 if colour else 0), _POINTS, FAINT) for said, colour in legend]
    height = heading.height + 6 + picture.height + 8 + sum(text.height for text in texts)
    panel = Image.new("RGB", (_SIDE, height), "white")
    draw = ImageDraw.Draw(panel)
    heading.draw(draw, 0, 0)
    panel.paste(picture, (0, heading.height + 6))
    top = heading.height + 6 + picture.height + 8
    for text, (_, colour) in zip(texts, legend, strict=True):
        if colour is not None:
            draw.line([(0, top + _POINTS // 2 + 2), (24, top + _POINTS // 2 + 2)], colour, 3)
        text.draw(draw, 34 if colour else 0, top)
        top += text.height
    return panel


def _reach(kernel: Tensor) -> float:
    """From a kernel's centre, as far as anything of it is to be seen, in HR pixels."""
    seen = (kernel.abs() >= _SEEN * kernel.abs().max()).nonzero()
    middle = torch.tensor([(side - 1) / 2 for side in kernel.shape])
    return float((seen - middle).abs().max()) + 0.5


def _kernel(
    kernel: Tensor,
    scale: tuple[int, int],
    reach: float,
    whole: Iterable[GaussianBlur],
    parts: Iterable[GaussianBlur],
) -> Image.Image:
    """A kernel enlarged to its pixels, with ellipses; `_SIDE` a side, `reach` HR pixels from the centre to an edge."""
    factor = _SIDE * _FINE / (2 * reach)
    share = (kernel / kernel.max()).numpy()
    side = _SIDE * _FINE
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    top, left = (side / 2 - length / 2 * factor for length in kernel.shape)
    for (row, column), weight in np.ndenumerate(share):
        if abs(weight) < _SEEN:
            continue
        # The square root, so that a kernel's flanks are seen beside its peak.
        strength = math.sqrt(min(1.0, abs(weight)))
        deepest = (60, 60, 60) if weight > 0 else _NEGATIVE
        colour = tuple(round(255 + (deep - 255) * strength) for deep in deepest)
        box = [left + column * factor, top + row * factor, left + (column + 1) * factor, top + (row + 1) * factor]
        draw.rectangle(box, fill=colour)
    count = math.ceil(reach) + 1
    for axis, length in enumerate(kernel.shape):
        start = side / 2 + (length % 2) / 2 * factor
        for number in range(-count, count + 1):
            at = start + number * factor
            ends = [(0, at), (side, at)] if axis == 0 else [(at, 0), (at, side)]
            draw.line(ends, _GRID, _FINE // 2)
    for blurs, colour, thick in ((whole, _WHOLE, 6), (parts, _PARTS, 1.25)):
        for blur in blurs:
            draw.line(_ellipse(blur, scale, factor, side / 2), colour, round(thick * _FINE), joint="curve")
    draw.rectangle([0, 0, side - 1, side - 1], outline=_RULE, width=_FINE)
    return picture.reduce(_FINE)


def _ellipse(blur: GaussianBlur, scale: tuple[int, int], factor: float, middle: float) -> list[tuple[float, float]]:
    """Points of a blur's one-sigma ellipse, `factor` of the picture's pixels for an HR pixel."""
    angle = math.radians(blur.angle_degrees)
    points = []
    for number in range(181):
        t = 2 * math.pi * number / 180
        along, across = blur.sigma_major * math.cos(t), blur.sigma_minor * math.sin(t)
        x = along * math.cos(angle) - across * math.sin(angle)
        y = along * math.sin(angle) + across * math.cos(angle)
        points.append((middle + x * scale[1] * factor, middle + y * scale[0] * factor))
    return points


def _chart(measured: tuple[Brightness, ...], assumed: Noise | None) -> Image.Image:
    """Standard deviation of the noise over brightness."""
    brightness = torch.linspace(0, 1, 101)
    line = [] if assumed is None else (assumed.deviation(brightness) * LEVELS).tolist()
    largest = max([one.sigma * LEVELS for one in measured] + line)
    step = next(step for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0) if largest <= 5 * step)
    limit = step * max(1, math.ceil(largest / step))
    left, right, high, low = 44, _SIDE - 12, 10, _SIDE - 44

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x * (right - left), low - y / limit * (low - high)

    large = Image.new("RGB", (_SIDE * _FINE, _SIDE * _FINE), "white")
    draw = ImageDraw.Draw(large)

    def stroke(points: list[tuple[float, float]], colour: Colour, thick: float) -> None:
        draw.line([(x * _FINE, y * _FINE) for x, y in points], colour, round(thick * _FINE), joint="curve")

    levels = [step * number for number in range(round(limit / step) + 1)]
    for level in levels:
        stroke([place(0, level), place(1, level)], _RULE if level == 0 else _GRID, 1)
    if line:
        stroke([place(x, y) for x, y in zip(brightness.tolist(), line, strict=True)], _WHOLE, 3)
    for one in measured:
        x, y = place(one.brightness, one.sigma * LEVELS)
        draw.ellipse([(x - 4) * _FINE, (y - 4) * _FINE, (x + 4) * _FINE, (y + 4) * _FINE], fill=_PARTS)
    chart = large.reduce(_FINE)
    draw = ImageDraw.Draw(chart)
    for level in levels:
        draw.text((left - 8, place(0, level)[1]), f"{level:g}", INK, font(_POINTS), "rm")
    for x, word in ((0.0, "black"), (0.5, "0.5"), (1.0, "white")):
        anchor = {0.0: "la", 1.0: "ra"}.get(x, "ma")
        draw.text((place(x, 0)[0], low + 8), word, INK, font(_POINTS), anchor)
    return chart


# Estimates of what a camera does, between files: images in, a JSON file and its picture out.


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
