"""The court package: a plain zip of a case with the hash of each file, which `zssr-gan verify` checks.

Entries are stored, not compressed, in a fixed order and with a fixed date: one case gives one zip, byte for byte, and
nothing in it can unpack to more than its own size. The manifest comes last:
`{"package_version": 1, "case", "made_by", "files": {NAME: {"bytes", "sha256"}}}`.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import is_leftover, json_keys, new_file, sha256_file, why_unreadable
from zssr_gan.inference.verify import Check, Verification
from zssr_gan.provenance import VERSION
from zssr_gan.web import log
from zssr_gan.web.case_folder import CASE_FILE, Case, Original, facts_in_log
from zssr_gan.web.opened import results_in
from zssr_gan.web.package_log import (
    FOLDERS,
    FOUND,
    LoggedFiles,
    files_in_log,
    log_checks,
    made_of_log,
    name_of,
    versions,
)
from zssr_gan.web.report import REPORT, renew_report

PACKAGE_VERSION = 1
MANIFEST = "manifest.json"

_PIECE = 1 << 20
_MOST_ENTRIES = 200_000
_LONGEST_MANIFEST = 1 << 28
_NOT_PLAIN = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")  # of which systems think differently
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


class PackageError(ZssrGanError):
    """A zip that is no package, is damaged, or must not be unpacked."""


def make_package(case: Case, output: Path, on_progress: Callable[[str, int, int], None] | None = None) -> str:
    """Make the report of a case, where something came since, then its package; returns the SHA-256 of its manifest.

    Args:
        case: whose folder is packed, without earlier packages; of an opened folder the originals too.
        output: the .zip to write.
        on_progress: called with the stage, the bytes done, and all bytes.

    Raises:
        OutputError: it exists, or the disk refuses it.
        PackageError: an original is missing or was changed.
    """
    if on_progress is not None:
        on_progress("making the report", 0, 1)
    _log_found(case)
    renew_report(case, dict(_files(case, case.originals())))
    data = log.read_bytes(case.folder)
    data = data[: data.rfind(b"\n") + 1]  # without a line that is being written
    entries = log.entries_of(data)  # all is made of these lines: others may come while files are packed
    originals, facts, logged = case.originals(entries), facts_in_log(entries), files_in_log(entries)
    texts = {
        **made_of_log(entries, VERSION),
        "VERSIONS.txt": versions().encode(),
        log.NAME: data,
        CASE_FILE: (json.dumps(facts, indent=2) + "\n").encode(),
    }
    files = {name: path for name, path in sorted(_files(case, originals)) if logged.tells(name)}
    total, done = sum(map(_size, files.values())), 0
    manifest: dict[str, dict[str, Any]] = {}
    with new_file(output) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as package:
        for name, data in texts.items():
            manifest[name] = _add(package, name, [data])
        for name, path in files.items():
            try:
                file = path.open("rb")
            except FileNotFoundError:  # a job that runs removed it
                continue
            with file:
                if name not in logged.needed and _goes_on(case, name, file, logged):
                    continue
                manifest[name] = _add(package, name, _pieces(file), os.fstat(file.fileno()).st_size)
            done += manifest[name]["bytes"]
            if on_progress is not None:
                on_progress("packing", done, total)
        for one in originals:
            if manifest.get(name := name_of(one.path), {}).get("sha256") != one.sha256:
                raise PackageError(f"{name}: is missing, or was changed after it was received; see the log of the case")
        head = {"package_version": PACKAGE_VERSION, "case": facts, "made_by": VERSION}
        data = json.dumps({**head, "files": manifest}, indent=1).encode() + b"\n"
        return str(_add(package, MANIFEST, [data])["sha256"])


def verify_package(path: Path, verify: Callable[[Path], Verification]) -> Iterator[Check]:
    """Check a package: each file against the manifest, the log's chain, what the log says of files, every record.

    Args:
        path: of the zip.
        verify: checks a record, which lies among its files.

    Raises:
        PackageError: no package, damaged, or with entries that lead elsewhere.
    """
    with tempfile.TemporaryDirectory(prefix="zssr-gan-verify-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as package:
                manifest = _manifest(path, package)
                yield from _unpacked(package, manifest, folder)
        except OSError as error:
            why = why_unreadable(path, error) if error.filename == str(path) else f"cannot be unpacked ({error})"
            raise PackageError(f"{path}: {why}") from error
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise PackageError(f"{path}: is no zip, or a damaged one ({' '.join(str(error).split())})") from error
        yield from log_checks(folder, manifest)
        originals = _originals_by_hash(folder)
        for record in _records(folder):
            shown = record.relative_to(folder).as_posix()
            try:
                with _beside(record, originals):
                    found = verify(record)
            except Exception as error:  # a record may hold anything, and must not cost the others their check
                why = " ".join(str(error).replace(f"{folder}/", "").split()) or type(error).__name__
                yield Check("record", False, f"{shown}: {why}")
                continue
            wrong = [f"{check.name}: {check.text}" for check in found.checks if not check.ok]
            said = "; ".join(wrong) or "; ".join(check.text for check in found.checks if check.name == "rerun")
            yield Check("record", found.ok, f"{shown}: {said or 'as recorded'}".replace(f"{folder}/", ""))


def _add(package: zipfile.ZipFile, name: str, pieces: Any, size: int = 0) -> dict[str, Any]:
    if _NOT_PLAIN.search(name):
        raise PackageError(f"{name!r}: is no name for a zip; rename what the job was given, and make it anew")
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o100444 << 16
    digest, written = hashlib.sha256(), 0
    with package.open(info, "w", force_zip64=size > 1 << 30) as entry:
        for piece in pieces:
            entry.write(piece)
            digest.update(piece)
            written += len(piece)
    return {"bytes": written, "sha256": digest.hexdigest()}


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _goes_on(case: Case, name: str, file: BinaryIO, logged: LoggedFiles) -> bool:
    """Whether the job of a file was resumed since these lines of the log, and made another of it."""
    digest = hashlib.sha256()
    for piece in _pieces(file):
        digest.update(piece)
    file.seek(0)
    changed = logged.hashes.get(name, digest.hexdigest()) != digest.hexdigest()
    return changed and files_in_log(log.read_log(case.folder)).hashes.get(name) != logged.hashes[name]


def _log_found(case: Case) -> None:
    """Log the hashes of files that no job of the case made, as of commands that were typed in its folder."""
    there = dict(_files(case, []))  # before the log is read: files of a job that begins now are none of them
    logged = files_in_log(log.read_log(case.folder))
    found = {name: path for name, path in there.items() if not logged.tells(name) and not name.startswith("originals/")}
    hashes = {}
    for name, path in sorted(found.items()):
        with contextlib.suppress(FileNotFoundError):
            hashes[name] = sha256_file(path)
    hashes.pop(REPORT, None)  # which is made again
    if hashes:
        log.append(case.folder, "zssr-gan", FOUND, files=hashes)


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _files(case: Case, originals: Iterable[Original]) -> Iterator[tuple[str, Path]]:
    """Names in the package, and where the files lie; of the originals those that were received."""
    for path in (Path(place) / name for place, _, names in os.walk(case.folder) for name in names):
        name = path.relative_to(case.folder).as_posix()
        package = name.startswith("report/") and name.endswith(".zip")
        known = name.startswith(FOLDERS)
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if known and path.is_file() and not (path.is_symlink() or hidden or package or is_leftover(path)):
            yield name, path
    for one in originals:
        if not one.path.startswith("originals/") and case.path_of(one).is_file():
            yield name_of(one.path), case.path_of(one)


def _manifest(path: Path, package: zipfile.ZipFile) -> Mapping[str, Any]:
    """The manifest's files, after every entry was looked at: what it says must be safe to unpack."""
    entries, names = package.infolist(), set[str]()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise PackageError(
            f"{path}: its entries are compressed, as of a zip that was packed again: take the package as it was made"
        )
    if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise PackageError(f"{path}: its entries are larger than the file: they overlap, or unpack to more")
    for entry in entries:
        name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
        plain = PurePosixPath(name)
        parts = plain.parts
        bad = _NOT_PLAIN.search(name) or (os.name == "nt" and ":" in name)
        if plain.is_absolute() or ".." in parts or bad or str(plain) != name or len(name) > 4000:
            raise PackageError(f"{path}: the entry {name[:80]!r} leads out of the package or is no plain name")
        if kind not in (0, stat.S_IFREG) or entry.is_dir():
            raise PackageError(f"{path}: the entry {name[:80]!r} is no file: a link, or a folder")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise PackageError(f"{path}: the entry {name[:80]!r} is compressed or encrypted, as none of a package is")
        known = name if "/" in name else name.lower()  # the files of a folder may differ in case alone
        if known in names:
            raise PackageError(f"{path}: the entry {name[:80]!r} stands there twice")
        names.add(known)
    found = next((entry for entry in entries if entry.filename == MANIFEST), None)
    if found is None or found.file_size > _LONGEST_MANIFEST:
        raise PackageError(f"{path}: is no package of zssr-gan, since it has no {MANIFEST}")
    try:
        content = json.loads(package.read(found))
        version, files = content["package_version"], content["files"]
        listed = {str(name): (str(facts["sha256"]), int(facts["bytes"])) for name, facts in files.items()}
    except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise PackageError(f"{path}: its {MANIFEST} is broken") from error
    if version != PACKAGE_VERSION:
        raise PackageError(f"{path}: is of version {version}; this program reads {PACKAGE_VERSION}: upgrade it")
    return listed


def _unpacked(package: zipfile.ZipFile, listed: Mapping[str, Any], folder: Path) -> Iterator[Check]:
    """Unpack into an empty folder; compares each file with the manifest."""
    wrong, entries = 0, {entry.filename: entry for entry in package.infolist() if entry.filename != MANIFEST}
    for name, entry in entries.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with package.open(entry) as source, target.open("xb") as file:
            while piece := source.read(_PIECE):
                digest.update(piece)
                file.write(piece)
        if name not in listed or listed[name] != (digest.hexdigest(), entry.file_size):
            wrong += 1
            yield Check("file", False, f"{name}: {'was changed' if name in listed else f'is not in the {MANIFEST}'}")
    for name in listed.keys() - entries.keys():
        wrong += 1
        yield Check("file", False, f"{name}: is missing")
    if not wrong:
        yield Check("files", True, f"{len(entries)} files have the hashes of the {MANIFEST}")


def _records(folder: Path) -> Iterator[Path]:
    yield from results_in(folder / "results")
    yield from (path for path in sorted(folder.glob("results/*/*.json")) if "degradation_sha256" in json_keys(path))


def _originals_by_hash(folder: Path) -> dict[str, Path]:
    """The originals of an opened folder, which records name by paths of another machine; none of other cases."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        if json.loads((folder / CASE_FILE).read_bytes()).get("opened_from") is None:
            return {}
    return {sha256_file(path): path for path in (folder / "originals").rglob("*") if path.is_file()}


@contextlib.contextmanager
def _beside(record: Path, originals: Mapping[str, Path]) -> Iterator[None]:
    """Put the originals that a record names beside it: there they are looked for, too."""
    named = dict[Path, Path]()
    if originals:
        _find_named(json.loads(record.read_bytes()), record.parent, originals, named)
    links = [link for link in named if not link.exists()]
    for link in links:
        link.hardlink_to(named[link])
    try:
        yield
    finally:
        for link in links:
            link.unlink()


def _find_named(content: Any, place: Path, originals: Mapping[str, Path], named: dict[Path, Path]) -> None:
    """Collect where the files lie that JSON names by `path` and `sha256`, by where they are looked for."""
    if isinstance(content, dict):
        path, sha256 = content.get("path"), content.get("sha256")
        if isinstance(path, str) and isinstance(sha256, str) and sha256 in originals and Path(path).name:
            named.setdefault(place / Path(path).name, originals[sha256])
    for one in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _find_named(one, place, originals, named)
