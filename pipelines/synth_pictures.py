"""What a person looks at after `make synth`: results beside inputs, and how much was gained over back-projection."""

import io
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.files import atomic_write
from zssr_gan.imaging.codecs import Metadata, encode_picture
from zssr_gan.imaging.picture import Picture, from_samples
from zssr_gan.imaging.resampling import resize
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.record import MARK

SHOWN = 12
"""Rows of the contact sheet."""


def draw_pictures(store: Path) -> Iterator[Path]:
    """Write contact-sheet.png and, where there are figures to draw, gains.png into a store's folder; their paths."""
    with SyntheticSet(store, allow_empty=True) as images:
        if not len(images):
            return
        sheet = store / "contact-sheet.png"
        atomic_write(sheet, contact_sheet_png(images), overwrite=True)
        yield sheet
        gains, held_out = own_scale_gains(images)
        if gains:
            path = store / "gains.png"
            atomic_write(path, histogram_png(gains, held_out), overwrite=True)
            yield path


def contact_sheet_png(images: SyntheticSet) -> bytes:
    """Input, bicubic and result of evenly chosen images, in rows."""
    rows = []
    count = min(SHOWN, len(images))
    for place in range(count):
        number = place * (len(images) - 1) // max(1, count - 1)
        lr, sr = (from_samples(samples, Metadata()).pixels for samples in images.pixels(number))
        bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        label = str(images.figures(number)["label"])
        rows.append([(images.ids[number], lr.clone()), ("bicubic", bicubic), (f"synthetic HR, {label}", sr.clone())])
    picture = Picture(contact_sheet(rows, title="Synthetic HR images", cell=192), None, 8, Metadata())
    return encode_picture(picture, "png", {MARK: "comparison sheet"})


def own_scale_gains(images: SyntheticSet) -> tuple[list[float], bool]:
    """Each image's PSNR over back-projection on its own shrunk copy, dB; and whether that was held out everywhere."""
    gains, held_out = [], True
    for number in range(len(images)):
        choice = images.figures(number)["choice"]
        assert isinstance(choice, dict)
        network, plain = choice["network_db"], choice["back_projection_db"]
        if isinstance(network, float) and isinstance(plain, float):
            gains.append(network - plain)
            held_out = held_out and bool(choice["held_out"])
    return gains, held_out


def histogram_png(gains: list[float], held_out: bool) -> bytes:
    """The gains as a histogram that says what it shows."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(gains, bins=min(40, max(5, len(gains) // 5)), color="#3b6ea5", edgecolor="white")
    mean = sum(gains) / len(gains)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.axvline(mean, color="#c0392b", linewidth=1.5, label=f"mean {mean:+.2f} dB")
    worse = sum(gain < 0 for gain in gains)
    learnt = "on parts that were held out" if held_out else "which the networks may have learnt from"
    axes.set_title(
        f"{len(gains):,} images enlarged from their own shrunk copies,\n{learnt}; {worse:,} below 0", fontsize=11
    )
    axes.set_xlabel("PSNR over bicubic + back-projection, dB")
    axes.set_ylabel("images")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()
