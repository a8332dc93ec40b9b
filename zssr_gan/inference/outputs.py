"""Which files are enhanced, and what their results are called: everything that is settled before the work begins.

Nothing here is left on the disk. Whatever would stop a result from being written is found now, not after hours of work.
"""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from zssr_gan.data.sources import FOLDER, NOT_READ, images_in
from zssr_gan.errors import ImageError, OutputError, SettingsError
from zssr_gan.files import why_unreadable
from zssr_gan.imaging.endings import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from zssr_gan.imaging.resize import Scale
from zssr_gan.inference.region import Region, region_text
from zssr_gan.provenance import is_ours, scale_text

WRITABLE = frozenset({".png", ".tif", ".tiff"})

# Room in the 255 bytes of a file name for the suffix, "_evidence" and the temporary name while writing.
_LONGEST_STEM = 180


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One image to enhance, and the files that come of it (`None`: not wanted)."""

    source: Path
    result: Path
    record: Path | None
    evidence: Path | None
    replaced: tuple[Path, ...] = ()
    """Files of ours that a killed run left without their record: these are written anew."""

    @property
    def targets(self) -> tuple[Path, ...]:
        """The files that this task writes."""
        return tuple(path for path in (self.result, self.record, self.evidence) if path is not None)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run will do."""

    todo: tuple[ImageTask, ...]
    skipped: tuple[ImageTask, ...]
    """Tasks whose files exist, where that was asked for."""
    notices: tuple[str, ...]
    """What is left out of the folders, a sentence each: results of earlier runs, files that are not read."""


def parse_scale(text: str) -> Scale:
    """Read "2", "1.5" or "2x3"; with two factors the width's comes first, as in 640x480.

    Returns:
        (y, x); whether these are in range is the request's to say.

    Raises:
        SettingsError: not a number.
    """
    parts = text.strip().lower().split("x")
    if len(parts) > 2 or not all(re.fullmatch(r"\d+(\.\d+)?", part) for part in parts):
        raise SettingsError(f"the scale {text!r} is not a number such as 2 or 1.5, or WIDTHxHEIGHT such as 2x3")
    return float(parts[-1]), float(parts[0])


def plan_run(
    inputs: Sequence[Path],
    *,
    scale: Scale = (2.0, 2.0),
    region: Region | None = None,
    output: Path | None = None,
    suffix: str | None = None,
    extension: str | None = None,
    recursive: bool = False,
    record: bool = True,
    evidence: bool = False,
    compare: Path | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> RunPlan:
    """Settle what is enhanced and what is written, with all that can be known to go wrong.

    Args:
        inputs: files and folders.
        scale, region: for the default suffix; a region is one of one file.
        output: a folder, or the result's name where there is one input file; default: beside each input.
        suffix: of the results' stems; default: the scale, as in `_x2`, and the region, as in `_x2_120_80_64_64`.
        extension: "png" or "tif"; default: as the input asks.
        recursive: whether folders are searched to their depths.
        record, evidence: whether these are written beside each result.
        compare: a sheet over the whole run.
        overwrite, skip_existing: what to do with files that exist; without either they are an error.
            `skip_existing` makes anew what a killed run left without its record.

    Raises:
        ImageError: an input is missing, or a folder has no images.
        OutputError: a file is an input (also by a link), exists, is wanted twice, or cannot be written.
        SettingsError: a suffix that is no part of a file name, or a region of several inputs or of a folder.
    """
    if suffix is not None and re.search(r"[/\\\0]", suffix):
        raise SettingsError(f"--suffix {suffix!r} is not a part of a file name")
    if region is not None and (len(inputs) != 1 or inputs[0].is_dir()):
        given = f"{inputs[0]} is a folder" if len(inputs) == 1 else f"there are {len(inputs)} inputs"
        raise SettingsError(f"--region is a part of one picture, and {given}: name one file")
    is_file = _output_is_file(output, inputs)
    if is_file and (suffix is not None or extension is not None):
        raise OutputError(f"-o {output} names the whole file, so --suffix and --ext have no place beside it")
    if compare is not None and compare.suffix.lower() not in WRITABLE:
        raise OutputError(f"--compare {compare}: the sheet is a .png or .tif file")
    sources, notices = collect_sources(inputs, recursive=recursive)
    if is_file and output is not None:
        places = [(output.parent, output.stem, output.suffix)]
    else:
        folders = [source.parent if output is None else output for source in sources]
        part = "" if region is None else f"_{region_text(region, '_')}"
        ending = f"_x{scale_text(scale)}{part}" if suffix is None else suffix
        places = [
            (folder, f"{stem}{ending}", f".{extension}" if extension else _ending(source))
            for source, folder, stem in zip(sources, folders, _stems_by_folder(sources, folders), strict=True)
        ]
    # A record is named as its result, so two results never share a stem, whatever their endings.
    tasks = [
        ImageTask(
            source,
            folder / f"{stem}{ending}",
            folder / f"{stem}.json" if record else None,
            folder / f"{stem}_evidence.png" if evidence else None,
        )
        for source, (folder, stem, ending) in zip(sources, places, strict=True)
    ]
    todo, skipped = _check_targets(tasks, compare=compare, overwrite=overwrite, skip_existing=skip_existing)
    return RunPlan(tuple(todo), tuple(skipped), notices)


def collect_sources(inputs: Sequence[Path], *, recursive: bool = False) -> tuple[list[Path], tuple[str, ...]]:
    """Find the images among files and folders, each once, a folder's in the order of their names.

    A file named outright is taken whatever it is. In folders, images are known by their endings (see `images_in`);
    hidden files, our own earlier results, and pictures and videos of kinds that are not read are left out.

    Returns:
        The images, and a notice each of the results and of the files that are left out.

    Raises:
        ImageError: an input is missing, not a file, or a folder without images.
    """
    found: dict[Path, Path] = {}
    ours, others = 0, dict[str, list[str]]()
    for given in inputs:
        if given.is_dir():
            images, unread = images_in(given, recursive=recursive)
            if not images:
                beside = "".join(f"; {_left_out(names, why)}" for why, names in unread.items())
                raise ImageError(f"{given}: no image of a kind that is read lies in this folder{beside}.")
            fresh = [path for path in images if not is_ours(path)]
            ours += len(images) - len(fresh)
            for why, names in unread.items():
                others.setdefault(why, []).extend(names)
        else:
            try:
                status = given.stat()
            except OSError as error:
                raise ImageError(f"{given}: {why_unreadable(given, error, 'file or folder')}.") from error
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{given}: is neither a file nor a folder.")
            fresh = [given]
        for path in fresh:
            found.setdefault(_absolute(path), path)
    if not found:
        raise ImageError(f"nothing to do: all {ours} images found are results of earlier runs")
    notices = [f"left out {ours} results of earlier runs found in the folders"] if ours else []
    notices += [_left_out(names, why) for why, names in others.items()]
    return list(found.values()), tuple(notices)


def _left_out(names: Sequence[str], why: str) -> str:
    """How many files or folders are left out, the first of their names, and why."""
    what = {NOT_READ: "file", FOLDER: "folder"}.get(why, "item")
    many = f"{len(names):,} {what}{'s' if len(names) > 1 else ''}, such as {', '.join(names[:3])}"
    reason = "--recursive looks into folders" if why == FOLDER else why.removeprefix("is ")
    return f"left out {many}: {reason}{_way_of_videos(names) if why == NOT_READ else ''}"


def _way_of_videos(names: Sequence[str]) -> str:
    """What to do with the videos among files that are left out."""
    video = next((name for name in names if name.lower().endswith(VIDEO_EXTENSIONS)), None)
    return f" ('zssr-gan video frames {video} -o DIR' writes a video's frames as images)" if video else ""


def _absolute(path: Path) -> Path:
    """The absolute path; links of folders are followed, a link to an image is an image by its own name."""
    return path.parent.resolve() / path.name


def _ending(source: Path) -> str:
    return ".tif" if source.suffix.lower() in {".tif", ".tiff"} else ".png"


def _stems_by_folder(sources: Sequence[Path], folders: Sequence[Path]) -> list[str]:
    """A stem for each source, unique among those whose results go to the same folder."""
    groups: dict[Path, list[Path]] = {}
    for source, folder in zip(sources, folders, strict=True):
        groups.setdefault(folder.resolve(), []).append(_absolute(source))
    stems: dict[tuple[Path, Path], str] = {}
    for folder, members in groups.items():
        try:
            common = os.path.commonpath([path.parent for path in members])
            relative = [path.relative_to(common) for path in members]
        except ValueError:  # on several drives
            relative = [path.relative_to(path.anchor) for path in members]
        stems |= {(folder, path): stem for path, stem in zip(members, unique_stems(relative), strict=True)}
    return [stems[folder.resolve(), _absolute(source)] for source, folder in zip(sources, folders, strict=True)]


def unique_stems(paths: Sequence[PurePath]) -> list[str]:
    """The file's stem where it is unique, else its path with `/` as `__`; `paths` are relative to one folder.

    Where that is not enough (`a.png` beside `a.jpg`) the ending joins in as `a_png`; where even that clashes, or a
    name grows too long, eight digits of the path's hash. Case is ignored, since some disks do.
    """
    joined = ["__".join(path.with_suffix("").parts) for path in paths]
    digests = [hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:8] for path in paths]
    names = [path.stem for path in paths]
    for others in (
        joined,
        [f"{name}_{path.suffix[1:]}" for name, path in zip(joined, paths, strict=True)],
        [f"{path.stem[:40]}-{digest}" for path, digest in zip(paths, digests, strict=True)],
    ):
        counts = Counter(name.casefold() for name in names)
        names = [
            other if counts[name.casefold()] > 1 or len(os.fsencode(name)) > _LONGEST_STEM else name
            for name, other in zip(names, others, strict=True)
        ]
    return names


def _output_is_file(output: Path | None, inputs: Sequence[Path]) -> bool:
    """Whether -o names the result itself rather than a folder: one input file, and a name ending as an image.

    Raises:
        OutputError: a file is named but cannot be meant: several inputs, or an ending that is not lossless.
    """
    if output is None or output.is_dir():
        return False
    ending = output.suffix.lower()
    if not (ending in IMAGE_EXTENSIONS or ending == ".gif" or output.is_file()):
        return False
    if len(inputs) != 1 or inputs[0].is_dir():
        raise OutputError(f"-o {output} names a file, but there is more than one input: name a folder")
    if ending not in WRITABLE:
        raise OutputError(f"-o {output}: results are written without loss, as .png or .tif")
    return True


def _check_targets(
    tasks: Sequence[ImageTask], *, compare: Path | None, overwrite: bool, skip_existing: bool
) -> tuple[list[ImageTask], list[ImageTask]]:
    """The tasks to do, and, with `skip_existing`, those to skip, of which every file exists; see `plan_run`."""
    skipped = [task for task in tasks if skip_existing and all(path.exists() for path in task.targets)]
    done = {task.result for task in skipped}
    todo = [_with_leftovers(task) if skip_existing else task for task in tasks if task.result not in done]
    # With nothing left to do there is no new sheet either, and the old one stays.
    sheet = [compare] if compare is not None and todo else []
    every = [path for task in tasks for path in task.targets] + sheet
    for name, count in Counter(str(_absolute(path)).casefold() for path in every).items():
        if count > 1:
            path = next(path for path in every if str(_absolute(path)).casefold() == name)
            raise OutputError(f"{path} would be written twice: choose another --suffix, -o or --compare")
    leftovers = {path for task in todo for path in task.replaced}
    targets = [path for task in todo for path in task.targets] + sheet
    ways = "--overwrite replaces, --skip-existing keeps what is complete"
    if skip_existing:
        ways = "not all files of that result are there (an interrupted run?); add --overwrite to make them again"
    _refuse_inputs(every, [task.source for task in tasks])
    _refuse_unwritable(targets)
    _refuse_existing([path for path in targets if path not in leftovers], ways, overwrite=overwrite)
    return todo, skipped


def check_new_files(targets: Sequence[Path], sources: Sequence[Path], *, overwrite: bool = False) -> None:
    """Make sure, before any work, that files which are made of all sources together can be written.

    Raises:
        OutputError: one is an input (also by a link), exists already, or cannot be written.
    """
    _refuse_inputs(targets, sources)
    _refuse_unwritable(targets)
    _refuse_existing(targets, "--overwrite replaces it", overwrite=overwrite)


def _refuse_existing(targets: Sequence[Path], ways: str, *, overwrite: bool) -> None:
    existing = [path for path in targets if os.path.lexists(path)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]} exists already{more}: {ways}")


def _with_leftovers(task: ImageTask) -> ImageTask:
    """The task, with the files that a killed run left of it: ours by their mark, and the record, written last, missing.

    A file without our mark stays an obstacle, and so does whatever lies beside a record: that run came to its end.
    """
    if task.record is None or os.path.lexists(task.record):
        return task
    left = tuple(path for path in task.targets if os.path.lexists(path))
    return replace(task, replaced=left) if all(is_ours(path) for path in left) else task


def _refuse_inputs(targets: Sequence[Path], sources: Sequence[Path]) -> None:
    # By device and inode: this sees through symbolic links, hard links and disks that ignore case.
    inputs = set()
    for source in sources:
        with contextlib.suppress(OSError):  # a broken link fails when its turn comes
            inputs.add(((status := source.stat()).st_dev, status.st_ino))
    for path in targets:
        if path.exists():
            status = path.stat()
            if (status.st_dev, status.st_ino) in inputs:
                raise OutputError(f"{path} is an input, and an input is never written over: choose another name")


def _refuse_unwritable(targets: Sequence[Path]) -> None:
    probed: set[Path] = set()
    for path in targets:
        if path.is_dir():
            raise OutputError(f"{path} is a folder: choose another name")
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise OutputError(f"{path} cannot be written: {folder} is not a folder")
        if folder not in probed:
            probed.add(folder)
            try:
                # Permissions alone do not say it: a disk may be read-only, or no place for files at all.
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {folder} takes no files ({error.strerror})") from error
