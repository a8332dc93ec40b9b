"""What a package says of its case, made of the lines of its log; and the check of a package against its log."""

import contextlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zssr_gan.inference.verify import Check
from zssr_gan.provenance import VERSION
from zssr_gan.web import log
from zssr_gan.web.case_folder import CASE_FILE, facts_in_log

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


def name_of(path: str) -> str:
    """The name of an original; of an opened folder its whole path, below originals/, so that names do not clash."""
    return path if path.startswith("originals/") else "originals/" + re.sub(r"[:\\]", "_", path).lstrip("/")


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
    told, needed = _files_in_log(entries)
    of_case = [name for name in listed if name.startswith(FOLDERS)]
    unknown = [name for name in of_case if name not in told]
    wrong = {
        "the log has another hash": [name for name in of_case if told.get(name, listed[name][0]) != listed[name][0]],
        "is in the log, but is not here": sorted(needed - listed.keys()),
        "was not received, as the log says": [name for name in unknown if name.startswith("originals/")],
        "is not as the log says": [CASE_FILE] * (facts_in_log(entries) != _case_facts(folder)),
        "is not as this program writes it of the log": _texts_not_as_made(folder, entries),
        "is no file of a package": [name for name in listed if not name.startswith(FOLDERS) and name not in _FILES],
    }
    for what, names in wrong.items():
        yield from (Check("log", False, f"{name}: {what}") for name in names)
    if others := [name for name in unknown if not name.startswith("originals/")]:
        what = "of an unfinished job, or of a command that was typed"
        yield from (Check("log", True, f"{name}: is not in the log: {what}") for name in others)
    if not any(wrong.values()):
        yield Check("log", True, f"{len(of_case) - len(unknown)} originals, results, tracks and reports are as it says")


def _files_in_log(entries: Iterable[dict[str, Any]]) -> tuple[dict[str, str], set[str]]:
    """The hashes of files that the log tells, by their names in the package; the names that a package must have."""
    told, needed, of_jobs = dict[str, str](), set[str](), dict[str, set[str]]()
    for entry in entries:
        facts = entry["facts"]
        if entry["act"] == "received":
            told[name := name_of(str(facts.get("path")))] = str(facts.get("sha256"))
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
