"""`zssr-gan case`: the report of a case of `zssr-gan web`, and its package for a court."""

from pathlib import Path
from typing import Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import Overwrite
from zssr_gan.errors import OutputError, SettingsError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make the report of a case of `zssr-gan web`, and the package that `zssr-gan verify` checks.",
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The case: the folder with case.json.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")]


@app.command(no_args_is_help=True)
def report(folder: Folder, output: Output, overwrite: Overwrite = False) -> None:
    """Write one HTML page of a case, which opens in any browser without a network.

    ```
    zssr-gan case report cases/car-park -o report.html
    ```

    It shows the originals with their hashes, each result beside its plain enlargement and its evidence map, its label,
    what was assumed of the camera, its command, the tracks, and the log.

    Exit codes: 0 done, 1 the file exists or cannot be written, 2 no such case.
    """
    with running(failed=OutputError) as bar:
        from zssr_gan.files import atomic_write
        from zssr_gan.web.case_folder import read_case
        from zssr_gan.web.report import make_report

        if output.suffix.lower() not in (".html", ".htm"):
            raise SettingsError(f"-o {output}: a report is an .html file")
        case = read_case(folder.absolute())
        atomic_write(output, make_report(case), overwrite=overwrite)
        bar.result(f"{output}: the report of {case.facts.title}")


@app.command(no_args_is_help=True)
def package(folder: Folder, output: Output) -> None:
    """Write a case as one zip that another analyst can check: originals, results, records, tracks, report, log.

    ```
    zssr-gan case package cases/car-park -o car-park.zip
    zssr-gan verify car-park.zip --rerun
    ```

    Its manifest has the SHA-256 of every file; COMMANDS.txt and VERSIONS.txt say how each result was made, README.txt
    what it may be used for. The files are not compressed. Note the SHA-256 of the zip where it is handed over.

    Exit codes: 0 done, 1 the file exists or cannot be written, or an original was changed, 2 no such case.
    """
    with running("Stopped: nothing is written.") as bar:
        from zssr_gan.files import sha256_file
        from zssr_gan.web.case_folder import read_case
        from zssr_gan.web.package import PackageError, make_package

        if output.suffix.lower() != ".zip":
            raise SettingsError(f"-o {output}: a package is a .zip file")
        case = read_case(folder.absolute())
        bar.start(0, str(folder))
        try:
            make_package(case, output, bar.update)
        except (OutputError, PackageError) as error:
            bar.note(f"error: {error}", "red")
            raise typer.Exit(1) from error
        bar.result(f"{output}: SHA-256 {sha256_file(output)}")
