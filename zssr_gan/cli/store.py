"""`zssr-gan store`: looks into a store of synthetic images, checks it, and writes its images out."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import AsJson, Overwrite
from zssr_gan.errors import ImageError, OutputError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into a store of synthetic images (`runs/NAME/synthetic`), check it, write its images out.",
)

_SIZES_SHOWN = 10

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the store.")]


@app.command(no_args_is_help=True)
def info(folder: Folder, as_json: AsJson = False) -> None:
    """Count the images of a store, and show what is known of them: roles, sizes, labels, mean and median of figures.

    Exit codes: 0 done, 2 no store, or one that cannot be read.
    """
    with running() as bar:
        from zssr_gan.data.synthetic_set import summarise

        summary = summarise(folder)
        if as_json:
            bar.result(json.dumps(summary))
            return
        lines = list(_lines(summary))
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            bar.result(f"{name:{width}}  {value}")


def _lines(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of what `summarise` found: a name and its values."""
    images, shards = summary["images"], summary["shards"]
    size = f"{summary['size_bytes'] / 1e6:.1f} MB on the disk"
    yield "images", f"{images} in {shards} {'shard' if shards == 1 else 'shards'}, {size}"
    for name in ("label", "role", "choice"):
        if counts := summary[f"{name}s"]:
            yield name, ", ".join(f"{value} {count}" for value, count in counts.items())
    for size, count in list(summary["sizes"].items())[:_SIZES_SHOWN]:
        yield "size", f"{size}: {count}"
    if (more := len(summary["sizes"]) - _SIZES_SHOWN) > 0:
        yield "", f"and {more} more sizes"
    for name, figure in summary["figures"].items():
        some = "" if figure["images"] == images else f" ({figure['images']} images)"
        yield name, f"mean {figure['mean']:.5g}, median {figure['median']:.5g}{some}"
    yield "settings", summary["settings_sha256"]
    if summary["versions"]:
        yield "zssr-gan", ", ".join(summary["versions"])


@app.command(no_args_is_help=True)
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Compare every image of a store with its hash, and name what is damaged. Nothing is changed.

    Exit codes: 0 all is as written, 1 something is damaged, 2 no store.
    """
    with running() as bar:
        from zssr_gan.data.store import check as check_store
        from zssr_gan.data.store import shard_files

        damages = check_store(folder, lambda done, total: bar.update("checking shards", done, total))
        shards = len(shard_files(folder, ".json"))
        if as_json:
            found = [asdict(damage) for damage in damages]
            bar.result(json.dumps({"folder": str(folder), "ok": not damages, "shards": shards, "damages": found}))
            raise typer.Exit(1 if damages else 0)
        for damage in damages:
            bar.result(f"{damage.shard}: {damage.reason}")
            for name in damage.ids:
                bar.result(f"  {name}")
        if damages:
            bar.result(
                f"{len(damages)} of {shards} shards are damaged, with {sum(len(one.ids) for one in damages)} images "
                "named above; the run's own command again (make synth) drops these shards and makes just their images "
                "anew."
            )
        else:
            bar.result(f"all {shards} shards are as they were written")
    raise typer.Exit(1 if damages else 0)


@app.command(no_args_is_help=True)
def export(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT", help="Folder for the files [DIR/images].")
    ] = None,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only images of this role: zssr, generator, table1.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the synthetic HR images as PNG, each named by its source, and a contact sheet of the first ones.

    Exit codes: 0 done, 1 a file exists or cannot be written, 2 no store, 130 Ctrl-C, 143 SIGTERM.
    """
    with running("Stopped: files that were written are complete.", failed=(ImageError, OutputError)) as bar:
        from zssr_gan.data.export import export_images
        from zssr_gan.data.synthetic_set import SyntheticSet

        target = folder / "images" if output is None else output
        with SyntheticSet(folder) as store:
            images, sheet = export_images(
                store,
                target,
                role=role,
                overwrite=overwrite,
                on_image=lambda done, total: bar.update("writing images", done, total),
            )
        bar.result(f"{target}: {images} images, and {sheet.name} of the first ones")
