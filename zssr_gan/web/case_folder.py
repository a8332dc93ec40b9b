"""A case: a folder of originals, tracks, results and a log, which is the truth and opens on another machine.

    case.json       what the case is
    originals/      the files that were received, read-only, named by us
    tracks/         regions followed through a video
    results/        a folder for each job: 3_enhance/
    report/         what is handed over
    log.jsonl       every act, see `zssr_gan.web.log`; it lists the originals as well

A folder that was opened as a case is not changed: its case lies in the folder of cases; its originals stay in place.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zssr_gan.errors import OutputError, ZssrGanError
from zssr_gan.files import atomic_write, json_keys, locked, sha256_file, sync_folder
from zssr_gan.provenance import VERSION, FileModel, read_json
from zssr_gan.web import log
from zssr_gan.web.names import LARGEST_JOB, Kind, free_name, job_number, kind_of, slug

CASE_FILE = "case.json"
CASE_VERSION = 1
SERVER_FOLDER = ".zssr-gan-web"
"""In the folder of cases: the queue, users' sessions, uploads in work, pictures, previews, locks, what was measured."""

_FOLDERS = ("originals", "tracks", "results", "report")
LOCK = ".case.lock"
"""In a case: held by who changes its facts, originals or tracks."""


class CaseError(ZssrGanError):
    """A case that is missing, damaged or of a newer version, or something that it does not hold."""


class CaseFacts(FileModel):
    """`case.json`."""

    version: int = CASE_VERSION
    title: str
    number: str = ""
    operator: str = ""
    owner: str
    created: str
    """With its zone."""
    opened_from: str | None = None
    """The folder that was opened as a case; it is not changed."""
    program: str = VERSION


class Original(FileModel):
    """A file of a case."""

    id: str
    """Of the case's originals: "1", "2", ..."""
    name: str
    """As its sender named it."""
    path: str
    """As a command in the case's folder takes it: `originals/x.png`, or absolute where a folder was opened."""
    kind: Kind
    bytes: int
    sha256: str
    received: str


@dataclass(frozen=True, slots=True)
class Case:
    """A case that is there."""

    folder: Path
    facts: CaseFacts

    @property
    def id(self) -> str:
        """Name of its folder."""
        return self.folder.name

    def originals(self, entries: Iterable[dict[str, Any]] | None = None) -> list[Original]:
        """The files, in the order in which they were received, as its log (or these lines of it) tells."""
        entries = log.read_log(self.folder) if entries is None else entries
        inside = [f"{os.path.realpath(self.folder)}/originals/"]
        inside += [f"{os.path.realpath(self.facts.opened_from)}/"] if self.facts.opened_from else []
        received = (self._logged(entry, tuple(inside)) for entry in entries if entry["act"] == "received")
        return [one for one in received if one is not None]

    def _logged(self, entry: dict[str, Any], inside: tuple[str, ...]) -> Original | None:
        """The original of a line of the log; None of one that leads out of the case, as a stranger's log may."""
        try:
            facts = {key: value for key, value in entry["facts"].items() if key in Original.model_fields}
            one = Original.model_validate({**facts, "received": entry["time"]}, strict=True)
            path = os.path.realpath(self.folder / one.path)  # a folder may be a link
        except ValueError:
            return None
        return one if one.id.isdecimal() and path.startswith(inside) else None

    def original(self, number: str) -> Original:
        """The one with this id. Raises CaseError."""
        for one in self.originals():
            if one.id == number:
                return one
        raise CaseError(f"the case {self.facts.title} has no original {number}; load the page again")

    def path_of(self, original: Original) -> Path:
        """Where it lies."""
        return self.folder / original.path

    def add_original(self, source: Path, given_name: str, user: str) -> Original:
        """Move a file into the case, read-only, and log its hash.

        Bytes that the case has under the same name are not taken twice.

        Args:
            source: a whole file on the disk of the cases; it is gone afterwards.
            given_name: as its sender named it, folders included; it never becomes a path.
            user: who sent it.

        Raises:
            OutputError: the disk refuses it; `source` is then still there.
        """
        digest = sha256_file(source)
        with locked(self.folder / LOCK):
            had = self.originals()
            for one in had:
                if (one.sha256, one.name) == (digest, given_name) and self.path_of(one).is_file():
                    source.unlink()
                    return one
            return self.receive(given_name, self._moved(source, given_name, digest, had), digest, user, had)

    def _moved(self, source: Path, given_name: str, digest: str, had: list[Original]) -> Path:
        folder, taken = self.folder / "originals", {Path(one.path).name for one in had}
        target = folder / free_name(slug(given_name), taken | _unlogged_names(folder, taken, digest))
        try:
            if not target.exists():
                os.link(source, target)
            target.chmod(0o444)
            sync_folder(folder)
            source.unlink()
        except OSError as error:
            raise OutputError(f"{target}: cannot be written ({error.strerror}); make room there.") from error
        return target

    def receive(self, name: str, file: Path, digest: str, user: str, had: list[Original]) -> Original:
        """Log a file, which lies in its place, as one of the originals beside those that the case `had`."""
        path = f"originals/{file.name}" if file.parent == self.folder / "originals" else str(file)
        number = 1 + max((int(one.id) for one in had), default=0)
        facts: dict[str, Any] = {"id": str(number), "name": name, "path": path, "kind": kind_of(file)}
        facts |= {"bytes": file.stat().st_size, "sha256": digest}
        entry = log.append(self.folder, user, "received", **facts)
        return Original(**facts, received=entry["time"])

    def highest_job(self) -> int:
        """The highest number among its results and in its log, also of another machine; 0 of none."""
        numbers = [entry["facts"].get("job") for entry in log.read_log(self.folder)]
        numbers += map(job_number, (self.folder / "results").glob("*_*"))
        return max((number for number in numbers if isinstance(number, int) and number <= LARGEST_JOB), default=0)


def create_case(
    cases: Path, title: str, user: str, *, number: str = "", operator: str = "", opened_from: str | None = None
) -> Case:
    """Make an empty case in the folder of cases.

    Args:
        cases: the folder of cases.
        title: with a letter or a digit.
        user: who owns it.
        number, operator, opened_from: see `CaseFacts`.

    Raises:
        CaseError: a title without either.
        OutputError: the folder of cases cannot be written.
    """
    title = _title(title)
    try:
        cases.mkdir(parents=True, exist_ok=True)
        folder = _new_folder(cases, slug(re.sub(r"[./\\]", "-", title), "case").lower())
        for name in _FOLDERS:
            (folder / name).mkdir()
        sync_folder(cases)
    except OSError as error:
        raise OutputError(
            f"{cases}: cannot be written ({error.strerror}); choose another folder with --cases"
        ) from error
    facts = CaseFacts(title=title, owner=user, created=log.now(), number=number, operator=operator)
    case = Case(folder, facts.model_copy(update={"opened_from": opened_from}))
    try:
        log.append(folder, user, "created", **case.facts.model_dump(mode="json"))
        _write_facts(folder, case.facts)
    except OutputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return case


def open_case(cases: Path, name: str) -> Case:
    """The case with this id. Raises CaseError: there is none, it is damaged, or of a newer version."""
    if name != slug(name) or not (folder := cases / name).is_dir():
        raise CaseError(f"there is no case {name}; it was deleted, or lies in another folder of cases")
    case = read_case(folder)
    if case.facts.opened_from is not None and holds_cases(cases, Path(case.facts.opened_from)):
        raise CaseError(
            f"{folder / CASE_FILE}: says that it was opened from {case.facts.opened_from}, where other cases lie; "
            "move the case away"
        )
    return case


def holds_cases(cases: Path, folder: Path) -> bool:
    """Whether a folder that is opened as a case is, holds or lies in the folder of cases, which have other owners."""
    place, own = Path(os.path.realpath(folder)), Path(os.path.realpath(cases))
    return place.is_relative_to(own) or own.is_relative_to(place)


def read_case(folder: Path) -> Case:
    """The case in a folder. Raises CaseError, see `open_case`."""
    path = folder / CASE_FILE
    for name in (*_FOLDERS, CASE_FILE, log.NAME, LOCK, log.LOCK):
        if (folder / name).is_symlink():
            raise CaseError(
                f"{folder / name}: is a link, which may lead out of the case; put what it names in its place"
            )
    if path.is_file() and "version" in json_keys(path):
        version = json.loads(path.read_bytes())["version"]
        if isinstance(version, int) and version > CASE_VERSION:
            raise CaseError(f"{path}: is a case of version {version}; this program reads {CASE_VERSION}: upgrade it")
    return Case(folder, read_json(path, CaseFacts, CaseError))


def edit_case(case: Case, user: str, title: str, number: str, operator: str) -> Case:
    """Give a case another title, number and operator, and log the old and the new ones; its folder keeps its name.

    Raises:
        CaseError: a title without a letter or a digit.
        OutputError: it cannot be written.
    """
    new = {"title": _title(title), "number": number, "operator": operator}
    with locked(case.folder / LOCK):
        facts = read_case(case.folder).facts
        old = {name: getattr(facts, name) for name in new}
        if new != old:
            facts = facts.model_copy(update=new)
            log.append(case.folder, user, "case edited", **new, before=old)
            _write_facts(case.folder, facts)
    return Case(case.folder, facts)


def facts_in_log(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What `case.json` holds, as the lines of the log tell it."""
    facts: dict[str, Any] = {}
    for entry in entries:
        if entry["act"] == "created":
            facts = {name: value for name, value in entry["facts"].items() if name in CaseFacts.model_fields}
        elif entry["act"] == "case edited":
            facts |= {name: entry["facts"].get(name) for name in ("title", "number", "operator")}
    return facts


def _title(text: str) -> str:
    title = " ".join("".join(one for one in text if one.isprintable() or one.isspace()).split())
    if not any(character.isalnum() for character in title):
        raise CaseError("a case needs a title with a letter or a digit; type one")
    return title


def _write_facts(folder: Path, facts: CaseFacts) -> None:
    atomic_write(folder / CASE_FILE, (facts.model_dump_json(indent=2) + "\n").encode(), overwrite=True)


def list_cases(cases: Path) -> list[Case]:
    """The cases in a folder, by name; what is no case, or cannot be read, is left out."""
    found = []
    for path in sorted(cases.glob(f"*/{CASE_FILE}")):
        try:
            found.append(open_case(cases, path.parent.name))
        except CaseError:
            continue
    return found


def delete_case(case: Case, user: str) -> None:
    """Delete a case with its files, and log that in the folder of cases; an opened folder is not touched.

    The act is logged first, and the folder gets another name before it is emptied, so a kill leaves no half of a case.
    """
    server = case.folder.parent / SERVER_FOLDER
    server.mkdir(exist_ok=True)
    end = log.verify_log(case.folder)
    log.append(server, user, "deleted", id=case.id, title=case.facts.title, log_entries=end.entries, log_ok=end.ok)
    gone = server / f"deleted-{case.id}"
    shutil.rmtree(gone, ignore_errors=True)
    case.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _new_folder(cases: Path, name: str) -> Path:
    taken = {path.name for path in cases.iterdir()}
    while True:  # another window may take the name meanwhile
        folder = cases / free_name(name, taken)
        try:
            folder.mkdir(mode=0o700)  # other accounts of this machine have no part in it
            return folder
        except FileExistsError:
            taken.add(folder.name)


def _unlogged_names(folder: Path, logged: Collection[str], digest: str) -> set[str]:
    """Files that a killed server did not log yet, without those that hold these very bytes."""
    return {one.name for one in folder.iterdir() if one.name not in logged and sha256_file(one) != digest}
