"""`zssr-gan store`: looks into a store of synthetic images, checks it, and writes its images out."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Final

import typer
from torch import Tensor

from zssr_gan.cli.exit_codes import show_progress, talk
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import atomic_write
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture, from_samples
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.inference.outputs import stems_below
from zssr_gan.provenance import LABELS, MARK, provenance_text

if TYPE_CHECKING:
    from zssr_gan.data.store import Damage
    from zssr_gan.data.synthetic_set import Summary
    from zssr_gan.progress import Display


# A store's images written out as PNG files, with a contact sheet, for the eye and for other programs.


ROWS: Final = 24
"""Images that the contact sheet shows: the first by their ids."""

_SHEET = "contact-sheet"

OnImage = Callable[[int, int], None]
"""Called with how many images are written, and of how many."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    images: int
    sheet: Path


def export_images(
    store: SyntheticSet,
    folder: Path,
    *,
    role: str | None = None,
    overwrite: bool = False,
    on_image: OnImage | None = None,
) -> Exported:
    """Write the synthetic HR images of `store` as PNG files, named by the stems of their sources.

    Where a stem is not unique in the store, the name is the path with `/` as `__` (see `naming.unique_stems`); which
    images are asked for has no part in it. Each file says in its text what its pixels were learnt from, and how. The
    sheet shows the first LR images, their bicubic enlargements and their synthetic HR side by side.

    Args:
        store: the images.
        folder: made where it is missing.
        role: only images of this role.
        overwrite: whether files that exist are replaced; without it they are an error before anything is written.
        on_image: told of progress.

    Raises:
        StoreError: no image of that role, or a damaged shard.
        OutputError: a file exists and `overwrite` is not set, or the disk refuses.
    """
    chosen = [number for number, own in enumerate(store.roles) if role is None or own == role]
    if not chosen:
        known = ", ".join(sorted({own or "none" for own in store.roles}))
        raise StoreError(f"{store.folder}: no image has the role {role}; roles there: {known}.")
    names = _names(store.ids)
    sheet = folder / f"{_sheet_name(names)}.png"
    targets = {number: folder / f"{names[number]}.png" for number in chosen}
    _refuse_existing([*targets.values(), sheet], overwrite=overwrite)
    shown = set(chosen[:ROWS])
    rows: dict[int, list[tuple[str, Tensor]]] = {}
    # In the order of the disk; by ids each shard would be opened many times in a large store.
    for done, number in enumerate([number for number in store.by_shard() if number in targets]):
        if on_image is not None:
            on_image(done, len(chosen))
        lr, sr = (from_samples(array, Metadata()) for array in store.pixels(number))
        atomic_write(targets[number], encode_picture(sr, "png", _provenance(store, number)), overwrite=overwrite)
        if number in shown:
            rows[number] = _row(names[number], lr.pixels, sr.pixels)
    picture = Picture(contact_sheet([rows[number] for number in sorted(rows)]), None, 8, Metadata())
    atomic_write(sheet, encode_picture(picture, "png", {MARK: "comparison sheet"}), overwrite=overwrite)
    if on_image is not None:
        on_image(len(chosen), len(chosen))
    return Exported(len(chosen), sheet)


def _names(ids: tuple[str, ...]) -> list[str]:
    paths = [PurePosixPath(name) for name in ids]
    common = os.path.commonpath([path.parent for path in paths])
    return stems_below([path.relative_to(common) for path in paths])


def _sheet_name(names: list[str]) -> str:
    taken = {name.casefold() for name in names}
    sheet = _SHEET
    while sheet in taken:
        sheet = f"_{sheet}"
    return sheet


def _refuse_existing(targets: list[Path], *, overwrite: bool) -> None:
    existing = [path for path in targets if os.path.lexists(path)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]} exists already{more}: --overwrite replaces, -o names another folder")


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


def _row(name: str, lr: Tensor, sr: Tensor) -> list[tuple[str, Tensor]]:
    height, width = sr.shape[-2:]
    bicubic = resize(lr, (height, width)).clamp(0, 1)
    return [(f"{name}: LR", lr.clone()), ("bicubic", bicubic), (f"{width}x{height}", sr.clone())]


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into a store of synthetic images (`runs/NAME/synthetic`), check it, write its images out.",
)

_SIZES_SHOWN = 10

Folder = Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="The folder of the store.")]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def _talk() -> AbstractContextManager["Display"]:
    return talk(
        "Stopped: files that were written are whole and kept.", lambda error: 2 if isinstance(error, StoreError) else 1
    )


@app.command(no_args_is_help=True)
def info(folder: Folder, as_json: AsJson = False) -> None:
    """Count the images of a store, and show what is known of them: roles, sizes, labels, mean and median of figures.

    Exit codes: 0 done, 2 no store, or one that cannot be read.
    """
    with _talk():
        from zssr_gan.data.synthetic_set import summarise
        from zssr_gan.progress import printable

        summary = summarise(folder)
        if as_json:
            typer.echo(json.dumps(asdict(summary)))
            return
        lines = list(_lines(summary))
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            typer.echo(printable(f"{name:{width}}  {value}"))


def _lines(summary: "Summary") -> Iterator[tuple[str, str]]:
    shards = "shard" if summary.shards == 1 else "shards"
    yield "images", f"{summary.images} in {summary.shards} {shards}, {summary.size_bytes / 1e6:.1f} MB on the disk"
    for name, counts in (("label", summary.labels), ("role", summary.roles), ("choice", summary.choices)):
        if counts:
            yield name, ", ".join(f"{value} {count}" for value, count in counts.items())
    for place, (size, count) in enumerate(summary.sizes.items()):
        if place < _SIZES_SHOWN:
            yield "size", f"{size}: {count}"
    if len(summary.sizes) > _SIZES_SHOWN:
        yield "", f"and {len(summary.sizes) - _SIZES_SHOWN} more sizes"
    for name, figure in summary.figures.items():
        some = "" if figure.images == summary.images else f" ({figure.images} images)"
        yield name, f"mean {figure.mean:.5g}, median {figure.median:.5g}{some}"
    yield "settings", summary.settings_sha256
    if summary.versions:
        yield "zssr-gan", ", ".join(summary.versions)


@app.command(no_args_is_help=True)
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Compare every byte of a store with its hashes, and name what is damaged. Nothing is changed.

    Exit codes: 0 all is as written, 1 something is damaged, 2 no store.
    """
    with _talk() as display:
        from zssr_gan.data.store import check as check_store
        from zssr_gan.data.store import sidecar_files
        from zssr_gan.progress import printable

        damages = check_store(folder, lambda done, total: show_progress(display, "checking shards", done, total))
        shards = len(sidecar_files(folder))
        if as_json:
            found = [asdict(damage) for damage in damages]
            display.result(json.dumps({"folder": str(folder), "ok": not damages, "shards": shards, "damages": found}))
        else:
            for line in _verdict(damages, shards):
                display.result(printable(line))
    raise typer.Exit(1 if damages else 0)


def _verdict(damages: list["Damage"], shards: int) -> Iterator[str]:
    for damage in damages:
        yield f"{damage.shard}: {damage.reason}"
        for name in damage.ids:
            yield f"  {name}"
    if damages:
        yield (
            f"{len(damages)} of {shards} shards are damaged, with {sum(len(one.ids) for one in damages)} images named "
            "above; the run's own command again (make synth) drops these shards and makes just their images anew."
        )
    else:
        yield f"all {shards} shards are as they were written"


@app.command(no_args_is_help=True)
def export(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT", help="Folder for the files [DIR/images].")
    ] = None,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only images of this role: zssr, generator, table1.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Write the synthetic HR images as PNG, each named by its source, and a contact sheet of the first ones.

    Exit codes: 0 done, 1 a file exists or cannot be written, 2 no store, 130 Ctrl-C, 143 SIGTERM.
    """
    with _talk() as display:
        from zssr_gan.data.synthetic_set import SyntheticSet
        from zssr_gan.progress import printable

        target = folder / "images" if output is None else output
        with SyntheticSet(folder) as store:
            done = export_images(
                store,
                target,
                role=role,
                overwrite=overwrite,
                on_image=lambda count, total: show_progress(display, "writing images", count, total),
            )
        display.result(printable(f"{target}: {done.images} images, and {done.sheet.name} of the first ones"))
