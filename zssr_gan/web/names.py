"""Names of files in a case: made of those that users give, and what they tell."""

import itertools
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from zssr_gan.imaging.endings import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS

Kind = Literal["image", "video", "other"]

LARGEST_JOB = 10**9
"""Of the numbers in logs and names, which may be a stranger's, those up to it count: far fewer than routes take."""

_LONGEST = 80
_RESERVED_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}
)


def job_number(path: Path) -> int:
    """The number of the job that made a file or folder, by its name: 3 of `3_enhance`; 0 of other names."""
    number = path.name.partition("_")[0]
    return int(number) if re.fullmatch("[0-9]{1,15}", number) else 0


def kind_of(path: Path) -> Kind:
    """Image, video or other, by the name's ending."""
    ending = path.suffix.lower()
    return "image" if ending in IMAGE_EXTENSIONS else "video" if ending in VIDEO_EXTENSIONS else "other"


def slug(name: str, otherwise: str = "file") -> str:
    """A safe file name made of a name that a user gave: ASCII letters, digits, `-`, `_` and one `.`, never a path.

    The ending is lower-case, since commands know a file by it. What has no such character becomes `otherwise`.
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    stem, dot, ending = plain.rpartition(".")
    stem, ending = (stem, ending) if dot else (ending, "")
    ending = re.sub(r"[^a-z0-9]", "", ending.lower())[:10]
    stem = re.sub(r"[-.]{2,}", "-", stem).strip("-._")[:_LONGEST].rstrip("-._") or otherwise
    if stem.lower() in _RESERVED_NAMES:
        stem = f"{stem}-file"
    return f"{stem}.{ending}" if ending else stem


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or with -2, -3, ... before its ending; names that differ in case alone are one on some disks."""
    lower, path = {one.lower() for one in taken}, Path(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one.lower() not in lower)
