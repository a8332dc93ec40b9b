"""Folders of images, videos and results that are opened as cases, and are not changed."""

import functools
from collections.abc import Hashable, Iterator
from pathlib import Path

from zssr_gan.files import json_keys, locked, sha256_file, why_unreadable
from zssr_gan.provenance import is_ours
from zssr_gan.web.case_folder import LOCK, Case, CaseError, create_case, holds_cases, list_cases
from zssr_gan.web.memo import stamp
from zssr_gan.web.names import kind_of


def open_folder(cases: Path, folder: Path, user: str) -> Case:
    """Make a case of a folder of images and videos, or of one that this program wrote into, which is not changed.

    The files are hashed, and stay in place. A folder that was opened before gives its case again, with what is new.

    Raises:
        CaseError: no such folder, or one without images and videos, or where the cases lie.
        OutputError: the folder of cases cannot be written.
    """
    try:
        folder = folder.resolve(strict=True)
        if holds_cases(cases, folder):
            raise CaseError(f"{folder}: the cases of this server lie there; open them from the list")
        found = set(_media(folder))
    except OSError as error:
        raise CaseError(f"{folder}: {why_unreadable(folder, error, 'folder')}") from error
    if not found and not list(results_in(folder)):
        raise CaseError(f"{folder}: holds no image and no video; choose the folder that holds them")
    case = next((one for one in list_cases(cases) if one.facts.opened_from == str(folder)), None)
    case = case or create_case(cases, folder.name, user, opened_from=str(folder))
    with locked(case.folder / LOCK):
        had = case.originals()
        for path in sorted(found - {Path(one.path) for one in had}):
            had.append(case.receive(path.relative_to(folder).as_posix(), path, sha256_file(path), user, had))
    return case


def results_in(folder: Path) -> Iterator[Path]:
    """The records in a folder: JSON files of ours, also in its folders, in the order of their names."""
    for path in sorted(folder.rglob("*.json")):
        keys = _keys(path, stamp(path))
        if {"schema_version", "output"} <= keys or keys & {"fusion_version", "clip_version"}:
            yield path


@functools.lru_cache(10_000)
def _keys(path: Path, _stamp: Hashable) -> frozenset[str]:
    """`json_keys`, read once until the file changes: a folder that was opened may hold large files of others."""
    return json_keys(path)


def _media(folder: Path) -> Iterator[Path]:
    """The images and videos in a folder and its folders that are not results of ours."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not (hidden or path.is_symlink()) and kind_of(path) != "other" and not is_ours(path):
            yield path
