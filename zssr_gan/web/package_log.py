"""What a package says of its case, made of the lines of its log; and the check of a package against its log."""

import contextlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zssr_gan.inference.verify import Check
from zssr_gan.provenance import VERSION
from zssr_gan.web import log
from zssr_gan.web.case_folder import CASE_FILE, facts_in_log
from zssr_gan.web.names import job_number

FOLDERS = ("originals/", "results/", "tracks/", "report/")
"""Of a case, and of a package."""

_FILES = ("README.txt", "COMMANDS.txt", "VERSIONS.txt", log.NAME, CASE_FILE)
_WITH_VERSIONS = ("torch", "numpy", "scipy", "pillow", "av", "h5py", "imagecodecs", "tifffile", "safetensors")
_LAST_OF_VERSIONS = "Each record says which versions made its result."

# Compared by `log_checks`, as COMMANDS.txt is: other words need another PACKAGE_VERSION.
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


FOUND = "files found"
"""The act that tells of files in a case that no job of it made."""


def name_of(path: str) -> str:
    """The name of an original; of an opened folder its whole path, below originals/, so that names do not clash.

    Characters that no plain name in a zip has are given as `%3a`.
    """
    if path.startswith("originals/"):
        return path
    quoted = re.sub(r"[%:\\\x00-\x1f\ud800-\udfff]", lambda found: f"%{ord(found[0]):02x}", path)
    return f"originals/{quoted.lstrip('/')}"


@dataclass(frozen=True, slots=True)
class LoggedFiles:
    """What the lines of a log tell of the files of a case."""

    hashes: Mapping[str, str]
    """SHA-256 by the names in a package."""
    needed: frozenset[str]
    """Names that a package must have."""
    found: frozenset[str]
    """Of those with a hash, the files that no job made."""
    unfinished: frozenset[int]
    """Numbers of jobs that wait or run: their files may be there, and may change."""

    def tells(self, name: str) -> bool:
        """Whether a file is one that the log has, or of an unfinished job."""
        return name in self.hashes or self.is_unfinished(name)

    def is_unfinished(self, name: str) -> bool:
        """Whether a file has no hash yet, since its job has not ended."""
        parts = Path(name).parts
        of_job = len(parts) > 1 and parts[0] != "originals" and job_number(Path(parts[1])) in self.unfinished
        return of_job and name not in self.hashes


def made_of_log(entries: Iterable[dict[str, Any]], version: str) -> dict[str, bytes]:
    """README.txt and COMMANDS.txt, as the lines of a log and the version of the program give them."""
    entries = list(entries)
    readme = _README.format(title=facts_in_log(entries).get("title"), version=version)
    return {
        name: text.encode("utf-8", "replace")
        for name, text in (("README.txt", readme), ("COMMANDS.txt", _commands(entries)))
    }


def versions() -> str:
    """VERSIONS.txt of this machine."""
    found = [f"zssr-gan {VERSION}"]
    for name in _WITH_VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return "\n".join([*found, "", _LAST_OF_VERSIONS, ""])


def log_checks(folder: Path, listed: Mapping[str, Any]) -> Iterator[Check]:
    """The chain of the log, and whether files, commands and title are those that it tells of."""
    chain = log.verify_log(folder)
    yield Check("log", chain.ok, chain.text)
    entries = log.read_log(folder)
    logged = files_in_log(entries)
    of_case = [name for name in listed if name.startswith(FOLDERS)]
    unknown = [name for name in of_case if not logged.tells(name)]
    wrong = {
        "the log has another hash": [n for n in of_case if logged.hashes.get(n, listed[n][0]) != listed[n][0]],
        "is in the log, but is not here": sorted(logged.needed - listed.keys()),
        "was not received, as the log says": [name for name in unknown if name.startswith("originals/")],
        "is not in the log: no job made it": [name for name in unknown if not name.startswith("originals/")],
        "is not as the log says": [CASE_FILE] * (facts_in_log(entries) != _case_facts(folder)),
        "is not as this program writes it of the log": _texts_not_as_made(folder, entries),
        "is no file of a package": [name for name in listed if not name.startswith(FOLDERS) and name not in _FILES],
    }
    for what, names in wrong.items():
        yield from (Check("log", False, f"{name}: {what}") for name in names)
    notes = {
        "is not in the log yet: its job had not ended": [name for name in of_case if logged.is_unfinished(name)],
        "was found in the case when it was packed: no job made it": sorted(logged.found & listed.keys()),
    }
    for what, names in notes.items():
        yield from (Check("log", True, f"{name}: {what}") for name in names)
    if not any(wrong.values()):
        count = len(of_case) - sum(map(len, notes.values()))
        yield Check("log", True, f"{count} originals, results, tracks and reports are as it says")


def files_in_log(entries: Iterable[dict[str, Any]]) -> LoggedFiles:
    """What the lines of a log tell of files."""
    hashes, of_jobs = dict[str, str](), dict[int, dict[str, str]]()
    needed, found, unfinished = set[str](), set[str](), set[int]()
    for entry in entries:
        act, facts = entry["act"], entry["facts"]
        files: dict[str, str] = facts["files"] if isinstance(facts.get("files"), dict) else {}
        job: int = facts["job"] if isinstance(facts.get("job"), int) else 0
        if act == "received":
            needed.add(name := name_of(str(facts.get("path"))))
            hashes[name] = str(facts.get("sha256"))
        elif act in ("job queued", "job started", "job resumed"):
            unfinished.add(job)
            for name in of_jobs.pop(job, {}):  # of an attempt before: it goes on, and writes anew
                hashes.pop(name, None)
        elif act == "job ended":
            unfinished.discard(job)
            hashes |= files
            of_jobs[job] = {} if facts.get("state") == "done" else files
            needed |= files.keys() if facts.get("state") == "done" else set()
        elif act in ("report made", FOUND):
            hashes |= files
            found |= files.keys() if act == FOUND else set()
        elif act == "track edited":
            needed.add(name := str(facts.get("written")))
            hashes[name] = str(facts.get("sha256"))
    needed = {name for name in needed if not name.endswith(".zip")}
    return LoggedFiles(hashes, frozenset(needed), frozenset(found), frozenset(unfinished - {0}))


def _texts_not_as_made(folder: Path, entries: list[dict[str, Any]]) -> list[str]:
    """Which of README.txt, COMMANDS.txt and VERSIONS.txt holds anything else than a package of ours."""
    wrong, text = list[str](), (_bytes(folder / "VERSIONS.txt") or b"").decode("utf-8", "replace")
    word = r"[\w.+!-]{1,60}"
    libraries = "".join(f"({name} {word}\n)?" for name in _WITH_VERSIONS)
    found = re.fullmatch(f"zssr-gan ({word})\n{libraries}\n{re.escape(_LAST_OF_VERSIONS)}\n", text)
    if found is None:
        wrong.append("VERSIONS.txt")
    made = made_of_log(entries, found[1] if found else VERSION)
    return wrong + [name for name, data in made.items() if _bytes(folder / name) != data]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _case_facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / CASE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts


def _commands(entries: Iterable[dict[str, Any]]) -> str:
    lines = [
        "The commands of the jobs. 'zssr-gan verify --rerun' makes the results again; by hand, give another -o.",
        "",
    ]
    for entry in entries:
        facts = entry["facts"]
        if entry["act"] == "job queued":
            lines += [f"# job {facts.get('job')}, {entry['time']}, {entry['user']}", log.command_of(facts), ""]
        elif entry["act"] == "job ended":
            code = "" if facts.get("code") is None else f" with exit code {facts['code']}"
            lines += [f"# job {facts.get('job')} {facts.get('state')}{code}, {entry['time']}", ""]
    return "\n".join(lines) + "\n"
