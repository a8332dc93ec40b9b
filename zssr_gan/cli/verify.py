"""`zssr-gan verify`: results against their records, and whole cases by their packages."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.errors import SettingsError, ZssrGanError, is_out_of_memory

if TYPE_CHECKING:
    from zssr_gan.inference.verify import Verification
    from zssr_gan.progress import Bar


def verify(
    records: Annotated[list[Path], typer.Argument(metavar="NAME.json...", help="Records, or packages (.zip).")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make the image again from the record and compare the bytes.")
    ] = False,
) -> None:
    """Check results against their records: the hashes of input, output and settings.

    Files are looked for from the record's own folder, so a case folder can be moved as a whole. `--rerun` makes each
    image again with the recorded settings, seed, threads and tiles. Of the package of a case (`zssr-gan case package`)
    every file is compared with its hash, the log's chain is checked, and then each record.

    Exit codes: 0 all is as recorded, 1 something is not, or was not made again (`--rerun` of a record of schema 1
    or of a comparison), 2 a record is missing or broken.
    """
    codes = [0]
    with running("Stopped: nothing was written.", quiet=not rerun) as bar:
        from zssr_gan.web.package import verify_package

        for path in records:
            try:
                if path.is_dir():
                    raise SettingsError(
                        f"{path}: is a folder; name a record, or make the package of a case first: "
                        f"zssr-gan case package {shlex.quote(str(path))} -o case.zip"
                    )
                if path.suffix.lower() == ".zip":
                    checks = verify_package(path, lambda record: _verify(record, bar, rerun=rerun))
                else:
                    checks = iter(_verify(path, bar, rerun=rerun).checks)
                for place, check in enumerate(checks):
                    if place == 0 and len(records) > 1:
                        bar.result(f"{path}:")
                    bar.result(f"{check.name:11} {'ok' if check.ok else 'NO':3} {check.text}")
                    codes.append(0 if check.ok else 1)
            except ZssrGanError as error:
                bar.note(f"error: {error}", "red")
                codes.append(2)
            except Exception as error:  # a record may hold anything, and must not cost the others their check
                why = f"it leads to an error ({type(error).__name__}: {' '.join(str(error).split())})"
                if is_out_of_memory(error):
                    why = "this needs more memory than the machine gives"
                bar.note(f"error: {path}: cannot be checked, since {why}", "red")
                codes.append(2)
    raise typer.Exit(max(codes))


def _verify(path: Path, bar: "Bar", *, rerun: bool) -> "Verification":
    """Check one record, of any kind."""
    from zssr_gan.files import json_keys
    from zssr_gan.inference.verify import verify_record
    from zssr_gan.video.clip_verify import verify_clip
    from zssr_gan.video.fuse_files import verify_fusion

    if rerun:
        bar.start(0, str(path))
    keys = json_keys(path)
    if "fusion_version" in keys:
        return verify_fusion(path, rerun=rerun)
    if "clip_version" in keys:
        return verify_clip(path, rerun=rerun, report=bar.update)
    return verify_record(path, rerun=rerun, on_progress=bar.step)
