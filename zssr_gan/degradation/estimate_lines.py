"""An estimate of a degradation in lines for a person."""

import math
from statistics import stdev

from zssr_gan.degradation.estimate import Certainty, Estimate
from zssr_gan.degradation.model import Blur, DefocusBlur, GaussianBlur, Jpeg, KernelBlur, MotionBlur, Noise
from zssr_gan.imaging.colour import LEVELS

_NOISE_FROM = {
    "colours": "read from what red, green and blue do not share",
    "recurrence": "found together with the blur",
    "nothing": "",
}

_JPEG_FROM = {
    "tables": "read from the files' tables",
    "pixels": "read from the pixels",
    "colours": "in place of a video's compression, the strength of which is not known",
    "webp": "in place of WebP's compression, by the quantisers of the files",
    "nothing": "",
}


def lines_of(estimate: Estimate) -> list[tuple[str, str]]:
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
    where = _JPEG_FROM["webp" if estimate.codec == "webp" else estimate.jpeg_from]
    lines.append(("JPEG", _jpeg(estimate.degradation.jpeg, where, estimate.jpeg_qualities)))
    lines += [("found", f"JPEG, {one.summary}") for kind in estimate.kinds for one in kind.compressions]
    looked = f", {estimate.certainty.tiles} parts of them looked at" if estimate.certainty is not None else ""
    lines.append(("images", f"{len(estimate.images)}{looked}"))
    lines.append(("why", estimate.reasons))
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
