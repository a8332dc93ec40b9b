"""The `zssr-gan` command: parses, calls, shows; the work is done elsewhere.

Exit codes: 0 done, 1 some images failed (verify: a mismatch), 2 usage, 130 Ctrl-C, 143 SIGTERM.
Whatever needs torch is imported inside the commands, so that `--help` and `--version` answer at once.
"""

import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from zssr_gan.cli import compare, degradation, model, store, weights
from zssr_gan.devices import has_fast_bf16, resolve_device
from zssr_gan.errors import ZssrGanError
from zssr_gan.networks.pretrained import cache_folder
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception

# What this program runs on: what a user pastes into a bug report (`zssr-gan info`).


_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?")


def describe_environment() -> list[tuple[str, str]]:
    """Facts as (name, value), in the order in which a person wants them."""
    return [
        ("zssr-gan", f"{importlib.metadata.version('zssr-gan')} ({Path(__file__).parent})"),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *_packages(),
        *_devices(),
        ("threads", f"{torch.get_num_threads()} used by default, {os.cpu_count()} logical processors"),
        ("bf16", _bf16()),
        ("caches", f"weights: {cache_folder()}; torch.compile's: {_compile_cache()}"),
    ]


def _packages() -> Iterator[tuple[str, str]]:
    """Versions of what zssr-gan requires, read from its own metadata so that the list is never out of date."""
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("zssr-gan") or []:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        if match["extra"]:
            extras.setdefault(match["extra"], []).append(match["name"])
        else:
            yield match["name"], _version(match["name"]) or "not installed"
    for extra, names in sorted(extras.items()):
        missing = [name for name in names if _version(name) is None]
        yield f"extra {extra}", f"missing {', '.join(missing)}" if missing else "installed"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[tuple[str, str]]:
    yield "device cpu", platform.processor() or platform.machine()
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield f"device cuda:{index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "device mps", "Apple GPU"
    if not torch.cuda.is_available():
        build = torch.version.cuda
        yield "cuda", f"torch is built for CUDA {build}, but sees no GPU" if build else "torch is a build without CUDA"


def _bf16() -> str:
    fast = has_fast_bf16(resolve_device("auto"))
    return "fast: --precision auto takes it" if fast else "not fast here: --precision auto takes fp32"


def _compile_cache() -> str:
    user = os.environ.get("USER") or os.environ.get("USERNAME") or "user"
    default = Path(tempfile.gettempdir(), f"torchinductor_{user}")
    return os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(default))


# Panels of the help.
_FILES, _MACHINE, _TALK = "Files", "Machine", "What is said"

app = typer.Typer(
    name="zssr-gan",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(compare.app)
app.add_typer(degradation.app, name="degradation")
app.add_typer(store.app, name="store")
app.add_typer(weights.app, name="weights")
app.add_typer(model.app, name="model")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit code."""
    turn_sigterm_into_an_exception()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="zssr-gan")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except OSError as error:  # of standard output; files have errors of their own
        typer.echo(f"error: the output cannot be written ({error.strerror})", err=True)
        return 1
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zssr-gan {importlib.metadata.version('zssr-gan')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Super-resolution of images that exist only in low resolution, learnt from each image itself.

    `zssr-gan enhance photo.jpg` writes `photo_x2.png` and its record `photo_x2.json` beside the photo.
    `zssr-gan enhance --help` explains the rest.
    """


@app.command(no_args_is_help=True)
def enhance(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", show_default=False, help="Images (PNG, JPEG, TIFF, BMP, WebP), or folders of them."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Folder, or a file name if there is one input [beside it]."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            *("-s", "--scale"),
            metavar="S",
            help="Factor per side, 1 to 8: 2, 1.5; or WIDTHxHEIGHT: 2x3 [2; a model's own].",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="One of those above, or a .yaml file of settings [quality].", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A trained generator, as `make train` writes it: nothing is learnt here."),
    ] = None,
    init: Annotated[
        Literal["scratch", "shared"] | None,
        typer.Option(
            metavar="WAY",
            help="shared: one network learnt on all the images first; better for tiny ones [scratch].",
            show_default=False,
        ),
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="FILE", help="A shared start kept by an earlier run.")
    ] = None,
    kernel: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Blur kernel of the input: KernelGAN's .mat, or .npy.")
    ] = None,
    degradation: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What the camera did: bicubic, estimate (from these images), or a FILE of an estimate [bicubic].",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        float | None, typer.Option(metavar="SD", help="For noisy footage: noise to learn against; try 0.0125.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Same seed, same bytes.")] = 0,
    extension: Annotated[
        Literal["png", "tif", "tiff"] | None,
        typer.Option("--ext", metavar="EXT", rich_help_panel=_FILES, help="png or tif [png; tif for a TIFF]."),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", rich_help_panel=_FILES, help="Ending of the results' names [_x2].")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", rich_help_panel=_FILES, help="Look into subfolders too.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", rich_help_panel=_FILES, help="Go on where a run was stopped.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=_FILES, help="Replace results that exist.")
    ] = False,
    evidence: Annotated[
        bool,
        typer.Option("--evidence", rich_help_panel=_FILES, help="Write NAME_evidence.png: a map of what to doubt."),
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="SHEET", rich_help_panel=_FILES, help="Write one .png: input, bicubic, result, evidence in rows."
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record/--no-record", rich_help_panel=_FILES, help="Write NAME.json [yes].", show_default=False),
    ] = True,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME", rich_help_panel=_MACHINE, help="auto (CUDA, else CPU), cpu, cuda (cuda:1, ...) or mps."
        ),
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(metavar="KIND", rich_help_panel=_MACHINE, help="fp32, bf16 or auto."),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, metavar="N", rich_help_panel=_MACHINE, help="CPU threads [all cores]."),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=16, metavar="PX", rich_help_panel=_MACHINE, help="Side of a tile; smaller takes less memory."),
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(metavar="MP", rich_help_panel=_MACHINE, help="Refuse larger inputs.")
    ] = 100.0,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=_TALK, help="One JSON object an image on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", rich_help_panel=_TALK, help="Say failures only.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", rich_help_panel=_TALK, help="Tracebacks of failures too.")
    ] = False,
) -> None:
    """Enlarge images, each by a network that is trained on that image alone, or by a trained generator.

    **Examples**

    ```
    zssr-gan enhance photo.jpg
    zssr-gan enhance photo.jpg -o big.png -s 3
    zssr-gan enhance faces/ -o out/ --preset fast --compare sheet.png
    zssr-gan enhance frames/ -o out/ --noise 0.0125 --skip-existing
    zssr-gan enhance faces/ -o out/ --init shared --degradation estimate
    zssr-gan enhance faces/ -o out/ --model generator.safetensors --evidence
    ```

    **Presets**

    | name | what it is |
    | --- | --- |
    | quality | the best we know; minutes an image |
    | fast | half a minute an image, at little loss |
    | original | the constants of Shocher et al. 2018 |
    | paper | the seed paper: flips and turns only |

    Tiny images have little to learn from: `--init shared` learns one network on all the images given (a case), and
    uses it for each. Results are then labelled `case`, not `internal`, and their records list what was learnt from.

    `--model FILE` takes a generator that `make train` has trained, at its own scale and at once: results are labelled
    `generative`, since their detail may stem from other people's images. With it, `--preset` says what is done with its
    output: `generator` (the default: eight flips and turns, then back-projection to the input), `raw` (as it is), or a
    .yaml file with the group refinement. The camera is taken to be the one it was trained for, unless `--degradation`
    says otherwise. `zssr-gan model card FILE` shows what it was trained on.

    A camera blurs, adds noise and compresses; by default it is taken to shrink like bicubic interpolation.
    `--degradation estimate` finds out from all the images given (of one camera), and keeps what it found beside the
    results; `zssr-gan degradation --help` tells more. Where the images tell too little, bicubic is assumed, and said.

    Scales other than 2: `-s 1.5`, or width before height: `-s 2x3` makes it twice as wide and three times as high.

    An input is never written over. Each result has a record, NAME.json, by which anyone can check and repeat it:
    `zssr-gan verify NAME.json --rerun`.

    Exit codes: 0 done, 1 some images failed, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    if quiet and verbose:
        raise typer.BadParameter("-q and -v contradict each other")
    try:
        from zssr_gan.cli.enhance import show_run
        from zssr_gan.devices import RunOptions
        from zssr_gan.inference.outputs import plan_run
        from zssr_gan.inference.request import make_request

        try:
            request = make_request(
                scale,
                preset,
                model=model,
                seed=seed,
                noise=noise,
                kernel=kernel,
                degradation=degradation,
                init=init,
                init_from=init_from,
                options=RunOptions(device=device, precision=precision, threads=threads, tile=tile),
                max_megapixels=max_megapixels,
                overwrite=overwrite,
            )
            plan = plan_run(
                inputs,
                scale=request.scale,
                output=output,
                suffix=suffix,
                extension=extension,
                recursive=recursive,
                record=record,
                evidence=evidence,
                compare=compare,
                overwrite=overwrite,
                skip_existing=skip_existing,
            )
        except ZssrGanError as error:
            raise _usage_error(str(error)) from error
        except OSError as error:  # a path that cannot even be looked at: too long a name, a forbidden folder
            raise _usage_error(f"{error.filename}: {error.strerror}") from error
        code = show_run(plan, request, compare, as_json=as_json, quiet=quiet, verbose=verbose)
    except KeyboardInterrupt as stop:
        typer.echo("Stopped before the work began: nothing is written.", err=True)
        raise typer.Exit(exit_code(stop)) from stop
    raise typer.Exit(code)


def _usage_error(text: str) -> typer.Exit:
    from zssr_gan.progress import Display, printable

    Display().note(f"error: {printable(text)}", "red")
    return typer.Exit(2)


@app.command(no_args_is_help=True)
def verify(
    records: Annotated[list[Path], typer.Argument(metavar="NAME.json...", show_default=False, help="Records.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make the image again from the record and compare the bytes.")
    ] = False,
) -> None:
    """Check results against their records: the hashes of input, output and settings.

    Files are looked for from the record's own folder, so a case folder can be moved as a whole. `--rerun` makes each
    image again with the recorded settings, seed, threads and tiles.

    Exit codes: 0 all is as recorded, 1 something is not, 2 a record is missing or broken.
    """
    try:
        from zssr_gan.inference.verify import verify_record
        from zssr_gan.progress import Display, printable

        codes = [0]
        with Display(quiet=not rerun) as display:
            for path in records:
                if rerun:
                    display.start(0, str(path))
                try:
                    found = verify_record(path, rerun=rerun, on_progress=display.update)
                except ZssrGanError as error:
                    display.note(f"error: {printable(str(error))}", "red")
                    codes.append(2)
                    continue
                except Exception as error:  # a record may hold anything, and must not cost the others their check
                    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
                    display.note(
                        printable(f"error: {path}: cannot be checked, since it leads to an error ({why})"), "red"
                    )
                    codes.append(2)
                    continue
                if len(records) > 1:
                    display.result(printable(f"{path}:"))
                for check in found.checks:
                    display.result(printable(f"{check.name:11} {'ok' if check.ok else 'NO':3} {check.text}"))
                codes.append(0 if found.ok else 1)
    except KeyboardInterrupt as stop:
        raise typer.Exit(exit_code(stop)) from stop
    raise typer.Exit(max(codes))


@app.command()
def info() -> None:
    """Show versions, devices and caches: what belongs into a bug report."""

    facts = describe_environment()
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name:{width}}  {value}")
