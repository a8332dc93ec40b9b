"""`zssr-gan verify`: results against their records."""

from pathlib import Path
from typing import Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.errors import ZssrGanError


def verify(
    records: Annotated[list[Path], typer.Argument(metavar="NAME.json...", help="Records.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make the image again from the record and compare the bytes.")
    ] = False,
) -> None:
    """Check results against their records: the hashes of input, output and settings.

    Files are looked for from the record's own folder, so a case folder can be moved as a whole. `--rerun` makes each
    image again with the recorded settings, seed, threads and tiles.

    Exit codes: 0 all is as recorded, 1 something is not, or was not made again (`--rerun` of a record of schema 1),
    2 a record is missing or broken.
    """
    codes = [0]
    with running("Stopped: nothing was written.", quiet=not rerun) as bar:
        from zssr_gan.files import json_keys
        from zssr_gan.inference.verify import verify_record
        from zssr_gan.video.clip_verify import verify_clip
        from zssr_gan.video.fuse_files import verify_fusion

        for path in records:
            if rerun:
                bar.start(0, str(path))
            try:
                keys = json_keys(path)
                if "fusion_version" in keys:
                    found = verify_fusion(path, rerun=rerun)
                elif "clip_version" in keys:
                    found = verify_clip(path, rerun=rerun, report=bar.update)
                else:
                    found = verify_record(path, rerun=rerun, on_progress=bar.step)
            except ZssrGanError as error:
                bar.note(f"error: {error}", "red")
                codes.append(2)
                continue
            except Exception as error:  # a record may hold anything, and must not cost the others their check
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"
                bar.note(f"error: {path}: cannot be checked, since it leads to an error ({why})", "red")
                codes.append(2)
                continue
            if len(records) > 1:
                bar.result(f"{path}:")
            for check in found.checks:
                bar.result(f"{check.name:11} {'ok' if check.ok else 'NO':3} {check.text}")
            codes.append(0 if found.ok else 1)
    raise typer.Exit(max(codes))
