"""`zssr-gan weights`: fetches published weights of networks, lists them, and checks what was fetched."""

import json
from typing import Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import AsJson
from zssr_gan.errors import ZssrGanError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fetch weights that others published, for the networks that need them. Nothing is fetched unasked.",
)

_MB = 1_000_000


@app.command(no_args_is_help=True)
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="vgg19.")]) -> None:
    """Download published weights (vgg19: 575 MB), check their SHA-256, and only then put them in place.

    They go to the platform's cache folder, or to the folder that the variable ZSSR_GAN_WEIGHTS names. Weights that are
    there and right are not downloaded again.

    Exit codes: 0 they are there, 1 they could not be fetched or are not what was published, 2 an unknown name,
    130 Ctrl-C, 143 SIGTERM.
    """
    with running():
        from zssr_gan.networks.pretrained import fetch as fetch_weights
        from zssr_gan.networks.pretrained import published

        found = published(name)
    with running("Stopped: an unfinished download is not kept.", failed=ZssrGanError) as bar:
        bar.start(0, found.url)
        fresh = fetch_weights(
            found, lambda done, total: bar.update(f"fetching {name}, MB", done // _MB, -(-total // _MB))
        )
        bar.result(f"{name}: {'fetched and checked' if fresh else 'already there'}, {found.path}")


@app.command(name="list")
def list_weights(as_json: AsJson = False) -> None:
    """Name the weights that can be fetched, how large they are, and which of them are here."""
    with running() as bar:
        from zssr_gan.networks.pretrained import PUBLISHED

        if as_json:
            bar.result(json.dumps({"weights": [found.as_json() for found in PUBLISHED.values()]}))
            return
        for found in PUBLISHED.values():
            bar.result(f"{found.name}  {found.what}, {found.size_bytes / _MB:.0f} MB")
            bar.result(f"  {found.path if found.path.is_file() else f'not here; from {found.url}'}")


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="vgg19 [all that are here].")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare every byte of fetched weights with the published SHA-256.

    Exit codes: 0 all is as published, 1 something is damaged, 2 the weights named are not here.
    """
    with running() as bar:
        from zssr_gan.networks.pretrained import PUBLISHED, damage, published

        chosen = [published(name)] if name else [found for found in PUBLISHED.values() if found.path.is_file()]
        wrong = {found.name: damage(found) for found in chosen}
        if as_json:
            bar.result(json.dumps({"ok": not any(wrong.values()), "weights": wrong}))
        else:
            for found in chosen:
                why = wrong[found.name]
                again = f"damaged, {why}; run `zssr-gan weights fetch {found.name}` again"
                bar.result(f"{found.path}: {'as published' if why is None else again}")
            if not chosen:
                bar.result("no weights have been fetched on this machine")
    raise typer.Exit(1 if any(wrong.values()) else 0)
