"""What an estimate of a degradation says, in lines for a person: the command prints them, the picture carries them."""

from zssr_gan.imaging.degradation import GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.imaging.spectra import LEVELS
from zssr_gan.zeroshot.degradation_estimate import Certainty, Estimate

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
