"""A store's images for the eye and for other programs: PNG files, contact sheets, and a histogram of the gains."""

import io
import json
import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from matplotlib.figure import Figure
from torch import Tensor

from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import OutputError
from zssr_gan.files import atomic_write
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet
from zssr_gan.progress import OnCount
from zssr_gan.provenance import Label, provenance_text

ROWS: Final = 24
"""Images that the contact sheet of an export shows: the first by their ids."""

SHOWN: Final = 12
"""Images that the contact sheet of a run shows: evenly chosen."""

_SHEET = "comparison sheet"

Row = list[tuple[str, Tensor]]


def export_images(
    store: SyntheticSet,
    folder: Path,
    *,
    role: str | None = None,
    overwrite: bool = False,
    on_image: OnCount = lambda *_: None,
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
    chosen = store.with_roles(None if role is None else {role})
    names = _names(store.ids)
    sheet = folder / "contact-sheet.png"
    while sheet.stem in {name.casefold() for name in names}:
        sheet = sheet.with_name(f"_{sheet.name}")
    targets = {number: folder / f"{names[number]}.png" for number in chosen}
    existing = [path for path in (*targets.values(), sheet) if os.path.lexists(path)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]} exists already{more}: --overwrite replaces, -o names another folder")
    rows: dict[int, Row] = {}
    # In the order of the disk; by ids each shard would be opened many times in a large store.
    for done, number in enumerate([number for number in store.by_shard() if number in targets]):
        on_image(done, len(chosen))
        lr, sr = store.tensors(number)
        content = encode_picture(Picture(sr, None, 8, Metadata()), "png", _provenance(store, number))
        atomic_write(targets[number], content, overwrite=overwrite)
        if number in chosen[:ROWS]:
            rows[number] = _row(lr, sr, f"{names[number]}: LR", f"{sr.shape[-1]}x{sr.shape[-2]}")
    content = encode_sheet(contact_sheet([rows[number] for number in sorted(rows)]), _SHEET)
    atomic_write(sheet, content, overwrite=overwrite)
    on_image(len(chosen), len(chosen))
    return len(chosen), sheet


def _names(ids: tuple[str, ...]) -> list[str]:
    """Of each image, its stem, else its path, else its path with the ending: the first that no other has."""
    common = os.path.commonpath([PurePosixPath(name).parent for name in ids])
    paths = [PurePosixPath(name).relative_to(common) for name in ids]
    names, whole = [path.stem for path in paths], ["__".join(path.with_suffix("").parts) for path in paths]
    for longer in (whole, [f"{name}_{path.suffix[1:]}" for name, path in zip(whole, paths, strict=True)]):
        counts = Counter(name.casefold() for name in names)
        names = [name if counts[name.casefold()] == 1 else more for name, more in zip(names, longer, strict=True)]
    return names


def _provenance(store: SyntheticSet, number: int) -> dict[str, str]:
    figures = store.figures(number)
    facts = {
        "id": store.ids[number],
        "role": store.roles[number] or "none",
        "settings_sha256": store.settings.settings_sha256,
        "figures": json.dumps(figures),
    }
    label = cast("Label", figures["label"])
    return provenance_text(kind="result", version=store.version(number), label=label, facts=facts)


def _row(lr: Tensor, sr: Tensor, lr_caption: str, sr_caption: str) -> Row:
    bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
    return [(lr_caption, lr), ("bicubic", bicubic), (sr_caption, sr)]


def draw_pictures(store: Path) -> list[Path]:
    """Write contact-sheet.png and, where there are figures to draw, gains.png into a store's folder; their paths."""
    with SyntheticSet(store, allow_empty=True) as images:
        pictures = {"contact-sheet.png": _contact_sheet(images), "gains.png": _histogram(images)} if len(images) else {}
    drawn = {store / name: content for name, content in pictures.items() if content is not None}
    for path, content in drawn.items():
        atomic_write(path, content, overwrite=True)
    return list(drawn)


def _contact_sheet(images: SyntheticSet) -> bytes:
    """Input, bicubic and result of evenly chosen images, in rows."""
    rows, count = [], min(SHOWN, len(images))
    for place in range(count):
        number = place * (len(images) - 1) // max(1, count - 1)
        caption = f"synthetic HR, {images.figures(number)['label']}"
        rows.append(_row(*images.tensors(number), images.ids[number], caption))
    return encode_sheet(contact_sheet(rows, title="Synthetic HR images", cell=192), _SHEET)


def _histogram(images: SyntheticSet) -> bytes | None:
    """Each image's PSNR over back-projection on its own shrunk copy, dB; None where no image has such figures."""
    choices: list[Any] = [images.figures(number)["choice"] for number in range(len(images))]
    compared = [
        one for one in choices if isinstance(one["network_db"], float) and isinstance(one["back_projection_db"], float)
    ]
    gains = [one["network_db"] - one["back_projection_db"] for one in compared]
    if not gains:
        return None
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
        f"{len(gains):,} images enlarged from their own shrunk copies (not the quality of the results),\n"
        f"{learnt}; {worse:,} below 0",
        fontsize=11,
    )
    axes.set_xlabel("PSNR over bicubic + back-projection, dB")
    axes.set_ylabel("images")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()
