"""The court package: a plain zip of a case with the hash of each file, which `zssr-gan verify` checks.

Entries are stored, not compressed, in a fixed order and with a fixed date: one case gives one zip, byte for byte, and
nothing in it can unpack to more than its own size. The manifest comes last:
`{"package_version": 1, "case", "made_by", "files": {NAME: {"bytes", "sha256"}}}`.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import is_leftover, json_keys, new_file, why_unreadable
from zssr_gan.inference.verify import Check, Verification
from zssr_gan.provenance import VERSION
from zssr_gan.web import log
from zssr_gan.web.case_folder import CASE_FILE, Case, facts_in_log, results_in
from zssr_gan.web.report import renew_report

PACKAGE_VERSION = 1
MANIFEST = "manifest.json"

_PIECE = 1 << 20
_MOST_ENTRIES = 200_000
_LONGEST_MANIFEST = 1 << 28
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_WITH_VERSIONS = ("torch", "numpy", "scipy", "pillow", "av", "h5py", "imagecodecs", "tifffile", "safetensors")

_README = """\
CASE: {title}

This folder was made by zssr-gan {version}. It holds everything that was given, made and done in one case.

AN INVESTIGATIVE LEAD, NOT AN IDENTIFICATION. An enlarged picture shows detail that the camera did not record. Each
result says by its label what its pixels were learnt from; its evidence map shows where it is least certain. Look at
the plain enlargement and at the original beside it.

originals/      what was received, unchanged, named by us; log.jsonl has the given names and the hashes
results/        what was made, a folder for each job; beside each picture lies its record (NAME.json) with every setting
tracks/         regions that were followed through a video
report/         one page with all of it; it opens in any browser
log.jsonl       every act in order; each line carries the hash of the line before
COMMANDS.txt    the command line of each job, as it was run
VERSIONS.txt    the program and the libraries
manifest.json   the SHA-256 of every file here

HOW TO CHECK IT
    zssr-gan verify THIS.zip            compares every file with its hash, the results with their records, and the log
    zssr-gan verify THIS.zip --rerun    makes each result again and compares the bytes

What no hash can show: who typed what, and whether lines were taken off the end of the log before this package was
made. Compare the SHA-256 of the zip with the one that was noted when it was handed over.
"""


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
    renew_report(case, dict(_files(case)))
    log_bytes = (case.folder / log.NAME).read_bytes()  # it may grow meanwhile
    texts = {
        "README.txt": _README.format(title=case.facts.title, version=VERSION),
        "COMMANDS.txt": _commands(case.folder),
        "VERSIONS.txt": _versions(),
    }
    files = dict(sorted(_files(case)))
    total, done = sum(path.stat().st_size for path in files.values()), 0
    manifest: dict[str, dict[str, Any]] = {}
    with new_file(output) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as package:
        for name, data in [*((name, text.encode()) for name, text in texts.items()), (log.NAME, log_bytes)]:
            manifest[name] = _add(package, name, [data])
        for name, path in files.items():
            with path.open("rb") as file:
                manifest[name] = _add(package, name, _pieces(file), path.stat().st_size)
            done += manifest[name]["bytes"]
            if on_progress is not None:
                on_progress("packing", done, total)
        for one in case.originals():
            if manifest.get(name := _name_of(one.path), {}).get("sha256") != one.sha256:
                raise PackageError(f"{name}: is missing, or was changed after it was received; see the log of the case")
        head = {"package_version": PACKAGE_VERSION, "case": case.facts.model_dump(mode="json"), "made_by": VERSION}
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
        yield from _log_checks(folder, manifest)
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


def _files(case: Case) -> Iterator[tuple[str, Path]]:
    """Names in the package, and where the files lie."""
    for path in case.folder.rglob("*"):
        name = path.relative_to(case.folder).as_posix()
        package = name.startswith("report/") and name.endswith(".zip")
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if path.is_file() and not (path.is_symlink() or hidden or package or is_leftover(path) or name == log.NAME):
            yield name, path
    for one in case.originals():
        if not one.path.startswith("originals/") and case.path_of(one).is_file():
            yield _name_of(one.path), case.path_of(one)


def _name_of(path: str) -> str:
    """The name of an original; of an opened folder its whole path, below originals/, so that names do not clash."""
    return path if path.startswith("originals/") else "originals/" + re.sub(r"[:\\]", "_", path).lstrip("/")


def _commands(case: Path) -> str:
    lines = [
        "The commands of the jobs. 'zssr-gan verify --rerun' makes the results again; by hand, give another -o.",
        "",
    ]
    for entry in log.read_log(case):
        facts = entry["facts"]
        if entry["act"] == "job queued":
            lines += [f"# job {facts.get('job')}, {entry['time']}, {entry['user']}", log.command_of(facts), ""]
        elif entry["act"] == "job ended":
            code = "" if facts.get("code") is None else f" with exit code {facts['code']}"
            lines += [f"# job {facts.get('job')} {facts.get('state')}{code}, {entry['time']}", ""]
    return "\n".join(lines) + "\n"


def _versions() -> str:
    found = [f"zssr-gan {VERSION}"]
    for name in _WITH_VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return "\n".join([*found, "", "Each record says which versions made its result.", ""])


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


def _log_checks(folder: Path, listed: Mapping[str, Any]) -> Iterator[Check]:
    """The chain of the log, and whether files, commands and title are those that it tells of."""
    chain = log.verify_log(folder)
    yield Check("log", chain.ok, chain.text)
    told, needed = _files_in_log(folder)
    of_case = [name for name in listed if name.startswith(("originals/", "results/", "tracks/", "report/"))]
    unknown = [name for name in of_case if name not in told]
    wrong = {
        "the log has another hash": [name for name in of_case if told.get(name, listed[name][0]) != listed[name][0]],
        "is in the log, but is not here": sorted(needed - listed.keys()),
        "was not received, as the log says": [name for name in unknown if name.startswith("originals/")],
        "holds other commands than the log": ["COMMANDS.txt"] * (_typed(folder) != _typed_in(_commands(folder))),
        "is not as the log says": [CASE_FILE] * (facts_in_log(folder) != _case_facts(folder)),
    }
    for what, names in wrong.items():
        yield from (Check("log", False, f"{name}: {what}") for name in names)
    if others := [name for name in unknown if not name.startswith("originals/")]:
        what = "of an unfinished job, or of a command that was typed"
        yield Check("log", True, f"{len(others)} files are not in the log, such as {others[0]}: {what}")
    if not any(wrong.values()):
        yield Check("log", True, f"{len(of_case) - len(unknown)} originals, results, tracks and reports are as it says")


def _files_in_log(folder: Path) -> tuple[dict[str, str], set[str]]:
    """The hashes of files that the log tells, by their names in the package; the names that a package must have."""
    told, needed, of_jobs = dict[str, str](), set[str](), dict[str, set[str]]()
    for entry in log.read_log(folder):
        facts = entry["facts"]
        if entry["act"] == "received":
            told[name := _name_of(str(facts.get("path")))] = str(facts.get("sha256"))
            needed.add(name)
        elif entry["act"] == "job ended" and isinstance(facts.get("files"), dict):
            told |= facts["files"]
            of_jobs[str(facts.get("job"))] = set(facts["files"]) if facts.get("state") == "done" else set()
        elif entry["act"] == "report made" and isinstance(facts.get("files"), dict):
            told |= facts["files"]
        elif entry["act"] == "track edited":
            told[name := str(facts.get("written"))] = str(facts.get("sha256"))
            needed.add(name)
    return told, {name for name in needed.union(*of_jobs.values()) if not name.endswith(".zip")}


def _typed(folder: Path) -> list[str]:
    path = folder / "COMMANDS.txt"
    return _typed_in(path.read_text("utf-8", "replace")) if path.is_file() else []


def _typed_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")][1:]


def _case_facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / CASE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts


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
