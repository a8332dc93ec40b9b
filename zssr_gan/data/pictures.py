"""Pictures of a store for a person: results beside inputs, and how much was gained over back-projection."""

import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.files import atomic_write
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture, from_samples
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.provenance import MARK

SHOWN = 12
"""Rows of the contact sheet."""


def draw_pictures(store: Path) -> list[Path]:
    """Write contact-sheet.png and, where there are figures to draw, gains.png into a store's folder; their paths."""
    with SyntheticSet(store, allow_empty=True) as images:
        pictures = {"contact-sheet.png": _contact_sheet(images), "gains.png": _histogram(images)} if len(images) else {}
    for name, content in pictures.items():
        if content is not None:
            atomic_write(store / name, content, overwrite=True)
    return [store / name for name, content in pictures.items() if content is not None]


def _contact_sheet(images: SyntheticSet) -> bytes:
    """Input, bicubic and result of evenly chosen images, in rows."""
    rows, count = [], min(SHOWN, len(images))
    for place in range(count):
        number = place * (len(images) - 1) // max(1, count - 1)
        lr, sr = (from_samples(samples, Metadata()).pixels for samples in images.pixels(number))
        bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        label = f"synthetic HR, {images.figures(number)['label']}"
        rows.append([(images.ids[number], lr.clone()), ("bicubic", bicubic), (label, sr.clone())])
    picture = Picture(contact_sheet(rows, title="Synthetic HR images", cell=192), None, 8, Metadata())
    return encode_picture(picture, "png", {MARK: "comparison sheet"})


def _histogram(images: SyntheticSet) -> bytes | None:
    """Each image's PSNR over back-projection on its own shrunk copy, dB; None where no image has such figures."""
    choices: list[Any] = [images.figures(number)["choice"] for number in range(len(images))]
    compared = [
        choice
        for choice in choices
        if isinstance(choice["network_db"], float) and isinstance(choice["back_projection_db"], float)
    ]
    if not compared:
        return None
    gains = [choice["network_db"] - choice["back_projection_db"] for choice in compared]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(gains, bins=min(40, max(5, len(gains) // 5)), color="#3b6ea5", edgecolor="white")
    mean = sum(gains) / len(gains)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.axvline(mean, color="#c0392b", linewidth=1.5, label=f"mean {mean:+.2f} dB")
    worse = sum(gain < 0 for gain in gains)
    held_out = all(choice["held_out"] for choice in compared)
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
