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
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import is_leftover, json_keys, new_file, why_unreadable
from zssr_gan.inference.verify import Check, Verification
from zssr_gan.provenance import VERSION
from zssr_gan.web import log
from zssr_gan.web.case_folder import CASE_FILE, Case, Original, facts_in_log, results_in
from zssr_gan.web.package_log import FOLDERS, log_checks, made_of_log, name_of, versions
from zssr_gan.web.report import renew_report

PACKAGE_VERSION = 1
MANIFEST = "manifest.json"

_PIECE = 1 << 20
_MOST_ENTRIES = 200_000
_LONGEST_MANIFEST = 1 << 28
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
    renew_report(case, dict(_files(case, case.originals())))
    data = log.read_bytes(case.folder)
    data = data[: data.rfind(b"\n") + 1]  # without a line that is being written
    entries = log.entries_of(data)  # all is made of these lines: others may come while files are packed
    originals, facts = case.originals(entries), facts_in_log(entries)
    texts = {
        **made_of_log(entries, VERSION),
        "VERSIONS.txt": versions().encode(),
        log.NAME: data,
        CASE_FILE: (json.dumps(facts, indent=2) + "\n").encode(),
    }
    files = dict(sorted(_files(case, originals)))
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
        _link_originals(folder)
        for record in _records(folder):
            shown = record.relative_to(folder).as_posix()
            try:
                found = verify(record)
            except Exception as error:  # a record may hold anything, and must not cost the others their check
                why = " ".join(str(error).replace(f"{folder}/", "").split()) or type(error).__name__
                yield Check("record", False, f"{shown}: {why}")
                continue
            wrong = [f"{check.name}: {check.text}" for check in found.checks if not check.ok]
            said = "; ".join(wrong) or "; ".join(check.text for check in found.checks if check.name == "rerun")
            yield Check("record", found.ok, f"{shown}: {said or 'as recorded'}".replace(f"{folder}/", ""))


def _add(package: zipfile.ZipFile, name: str, pieces: Any, size: int = 0) -> dict[str, Any]:
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


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _files(case: Case, originals: Iterable[Original]) -> Iterator[tuple[str, Path]]:
    """Names in the package, and where the files lie."""
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
    if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise PackageError(f"{path}: its entries are larger than the file: they overlap, or unpack to more")
    for entry in entries:
        name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
        plain = PurePosixPath(name)
        parts = plain.parts
        leads_out = plain.is_absolute() or ".." in parts or re.search(r"[\\:\x00-\x1f]", name) or str(plain) != name
        if leads_out or name.startswith("/") or len(name) > 1000:
            raise PackageError(f"{path}: the entry {name[:80]!r} leads out of the package or is no plain name")
        if kind not in (0, stat.S_IFREG) or entry.is_dir():
            raise PackageError(f"{path}: the entry {name[:80]!r} is no file: a link, or a folder")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise PackageError(f"{path}: the entry {name[:80]!r} is compressed or encrypted, as none of a package is")
        if name.lower() in names:
            raise PackageError(f"{path}: the entry {name[:80]!r} stands there twice")
        names.add(name.lower())
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


def _link_originals(folder: Path) -> None:
    """Put originals of an opened folder beside the records, which name them by paths of another machine."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        if json.loads((folder / CASE_FILE).read_bytes()).get("opened_from") is None:
            return
    originals = [path for path in (folder / "originals").rglob("*") if path.is_file()]
    for place in {record.parent for record in _records(folder)}:
        for path in originals:
            if not (place / path.name).exists():
                with contextlib.suppress(OSError):
                    shutil.copyfile(path, place / path.name)
