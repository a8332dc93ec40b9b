"""A store's images for the eye and for other programs: PNG files, contact sheets, and a histogram of the gains."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from matplotlib.figure import Figure
from torch import Tensor

from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import atomic_write
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, from_samples
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet
from zssr_gan.provenance import LABELS, provenance_text

ROWS: Final = 24
"""Images that the contact sheet of an export shows: the first by their ids."""

SHOWN: Final = 12
"""Images that the contact sheet of a run shows: evenly chosen."""


def export_images(
    store: SyntheticSet,
    folder: Path,
    *,
    role: str | None = None,
    overwrite: bool = False,
    on_image: Callable[[int, int], None] | None = None,
) -> tuple[int, Path]:
    """Write the synthetic HR images of `store` as PNG files, named by the stems of their sources.

    Where a stem is not unique in the store, the name is the path with `/` as `__`, whichever images are asked for.
    Each file's text says what its pixels were learnt from, and how. The sheet shows the first LR images, their bicubic
    enlargements and their synthetic HR side by side.

    Args:
        store: the images.
        folder: made where it is missing.
        role: only images of this role.
        overwrite: whether files that exist are replaced; without it they are an error before anything is written.
        on_image: called with how many images are written, and of how many.

    Returns:
        How many images were written, and the sheet's file.

    Raises:
        StoreError: no image of that role, or a damaged shard.
        OutputError: a file exists and `overwrite` is not set, or the disk refuses.
    """
    chosen = [number for number, own in enumerate(store.roles) if role is None or own == role]
    if not chosen:
        known = ", ".join(sorted({own or "none" for own in store.roles}))
        raise StoreError(f"{store.folder}: no image has the role {role}; roles there: {known}.")
    names = _names(store.ids)
    sheet = folder / "contact-sheet.png"
    while sheet.stem in {name.casefold() for name in names}:
        sheet = sheet.with_name(f"_{sheet.name}")
    targets = {number: folder / f"{names[number]}.png" for number in chosen}
    existing = [path for path in (*targets.values(), sheet) if os.path.lexists(path)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]} exists already{more}: --overwrite replaces, -o names another folder")
    rows: dict[int, list[tuple[str, Tensor]]] = {}
    # In the order of the disk; by ids each shard would be opened many times in a large store.
    for done, number in enumerate([number for number in store.by_shard() if number in targets]):
        if on_image is not None:
            on_image(done, len(chosen))
        lr, sr = (from_samples(array, Metadata()) for array in store.pixels(number))
        atomic_write(targets[number], encode_picture(sr, "png", _provenance(store, number)), overwrite=overwrite)
        if number in chosen[:ROWS]:
            size = f"{sr.pixels.shape[-1]}x{sr.pixels.shape[-2]}"
            rows[number] = _row(lr.pixels, sr.pixels, f"{names[number]}: LR", size)
    content = encode_sheet(contact_sheet([rows[number] for number in sorted(rows)]), "comparison sheet")
    atomic_write(sheet, content, overwrite=overwrite)
    if on_image is not None:
        on_image(len(chosen), len(chosen))
    return len(chosen), sheet


def _names(ids: tuple[str, ...]) -> list[str]:
    """Of each image, its stem, else its path, else its path with the ending: the first that no other has."""
    common = os.path.commonpath([PurePosixPath(name).parent for name in ids])
    paths = [PurePosixPath(name).relative_to(common) for name in ids]
    stems, joined = [path.stem for path in paths], ["__".join(path.with_suffix("").parts) for path in paths]
    counts = [Counter(name.casefold() for name in names) for names in (stems, joined)]
    return [
        stem
        if counts[0][stem.casefold()] == 1
        else whole
        if counts[1][whole.casefold()] == 1
        else f"{whole}_{path.suffix[1:]}"
        for path, stem, whole in zip(paths, stems, joined, strict=True)
    ]


def _provenance(store: SyntheticSet, number: int) -> dict[str, str]:
    figures = store.figures(number)
    label = next((known for known in LABELS if known == figures.get("label")), None)
    if label is None:
        raise StoreError(f"{store.folder}: {store.ids[number]} lacks a label, so what it was learnt from is not known.")
    facts = {
        "id": store.ids[number],
        "role": store.roles[number] or "none",
        "settings_sha256": store.settings.settings_sha256,
        "figures": json.dumps(figures),
    }
    return provenance_text(kind="result", version=store.version(number), label=label, facts=facts)


def _row(lr: Tensor, sr: Tensor, lr_caption: str, sr_caption: str) -> list[tuple[str, Tensor]]:
    bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
    return [(lr_caption, lr.clone()), ("bicubic", bicubic), (sr_caption, sr.clone())]


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
        rows.append(_row(lr, sr, images.ids[number], f"synthetic HR, {images.figures(number)['label']}"))
    return encode_sheet(contact_sheet(rows, title="Synthetic HR images", cell=192), "comparison sheet")


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
