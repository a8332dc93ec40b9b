"""QMUL-TinyFace and QMUL-SurvFace in their published layouts (Cheng, Zhu, Gong 2018).

The name of an image's folder or file gives the identity of its person. The `.mat` lists number the persons anew (their
1 is not the names' 1): a list gives the identity of images without one in their name, and the other names are compared
with it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from zssr_gan.data.sources import Content, Listing, Source, files_under, read_file
from zssr_gan.errors import SettingsError

# Files beside the images; all others are images, for some of these have no extension.
_NO_IMAGES = frozenset({".mat", ".m", ".txt", ".md", ".csv", ".json", ".pdf", ".html", ".db", ".ini", ".zip"})

# The identity of an image's person, by its path below the section's folder.
_BY_FOLDER = r"([^/]+)/"  # "17/17_cam1_2.jpg": 17
_BY_NUMBER = r"(?:.*/)?(\d+)_[^/]*$"  # "17_2.jpg": 17
_BY_CAMERA = r"(?:.*/)?(\d+)_cam[^/]*$"  # "17_cam1_2.jpg": 17; "distractors_2.jpg": nobody that is known
_NOBODY = r"(?!)"


_Section = tuple[str, str, tuple[str, ...], str]
"""Folder, pattern of its names, candidates for its list, and KEY: the list's columns are KEY_set and KEY_ids."""


def _identification(part: str) -> _Section:
    # Public loaders disagree about where SurvFace's identification lists lie.
    folders = ("Face_Identification_Test_Set", "Face_Identification_Evaluation")
    lists = tuple(f"{folder}/{part}_img_ID_pairs.mat" for folder in folders)
    return f"Face_Identification_Test_Set/{part}", _BY_CAMERA, lists, part


_VERIFICATION = "Face_Verification_Test_Set/verification_images"

_SECTIONS: Mapping[str, tuple[_Section, ...]] = {
    "tinyface": (
        ("Training_Set", _BY_FOLDER, (), ""),
        ("Testing_Set/Gallery_Distractor", _NOBODY, (), ""),
        ("Testing_Set/Gallery_Match", _BY_NUMBER, ("Testing_Set/gallery_match_img_ID_pairs.mat",), "gallery"),
        ("Testing_Set/Probe", _BY_NUMBER, ("Testing_Set/probe_img_ID_pairs.mat",), "probe"),
    ),
    "survface": (
        ("training_set", _BY_FOLDER, (), ""),
        _identification("gallery"),
        _identification("mated_probe"),
        ("Face_Identification_Test_Set/unmated_probe", _BY_CAMERA, (), ""),
        (_VERIFICATION, _BY_CAMERA, (), ""),
    ),
}


@dataclass(frozen=True, slots=True)
class Qmul(Source):
    """A set of native faces; the root holds its sections' folders, or the folder that its archive unpacks into.

    `tinyface`: QMUL-TinyFace, 169,403 faces; distractors have no identity. `survface`: QMUL-SurvFace, 463,507 faces of
    surveillance cameras; its verification images are copies of test images, so they come out as duplicates.
    """

    def listing(self) -> Listing:
        """All images. Raises SettingsError where no part of the set is under the root."""
        census = _Census(self._base())
        labels: dict[str, int] = {}
        for folder, pattern, files, key in _SECTIONS[self.settings.kind]:
            images = census.add(folder, pattern)
            if files and images is not None:
                labels |= census.labels(folder, images, files, key)
        census.use(labels)
        if self.settings.kind == "survface" and (census.base / _VERIFICATION).is_dir():
            census.check_pairs("positive_pairs_names", same=True)
            census.check_pairs("negative_pairs_names", same=False)
        return Listing(
            dict(sorted(census.identities.items())),
            tuple(census.unusable),
            tuple(sorted(census.missing)),
            tuple(f"{self.name}: {notice}" for notice in census.notices),
        )

    def read(self, path: str) -> Content:
        """One image; see `zssr_gan.data.sources.read_file`."""
        return read_file(self._base() / path, f"{self.name}/{path}")

    def camera(self, path: str) -> str | None:
        """ "cam1" of SurvFace's "17_cam1_2.jpg"; None where the name has no camera."""
        found = re.match(r"\d+_cam0*(\d+)_", path.rpartition("/")[2], re.IGNORECASE)
        return f"cam{found[1]}" if found and self.settings.kind == "survface" else None

    def _base(self) -> Path:
        """The folder that the sections lie in. Raises SettingsError where there is none of them."""
        folders = [section[0] for section in _SECTIONS[self.settings.kind]]
        for base in (self.root, self.root / ("tinyface" if self.settings.kind == "tinyface" else "QMUL-SurvFace")):
            if any((base / folder).is_dir() for folder in folders):
                return base
        tops = sorted({folder.split("/")[0] for folder in folders})
        what = "does not exist" if not self.root.exists() else f"holds none of the folders {', '.join(tops)}"
        raise SettingsError(f"{self.root}: {what}; data/README.md says how to get the set and where to unpack it.")


@dataclass
class _Census:
    """A set's images with their identities, and what differs between them and the set's `.mat` lists."""

    base: Path
    identities: dict[str, str | None] = field(default_factory=dict)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)

    def add(self, folder: str, pattern: str) -> list[str] | None:
        """Add a section's images, with the identities in their names; their paths in it, None where it is not there."""
        if not (self.base / folder).is_dir():
            self.notices.append(f"the folder {folder} is not there.")
            return None
        names, _, unusable = files_under(self.base / folder)
        self.unusable += [(f"{folder}/{name}", reason) for name, reason in unusable]
        images = [name for name in names if Path(name).suffix.lower() not in _NO_IMAGES]
        for name in images:
            person = re.match(pattern, name, re.IGNORECASE)
            self.identities[f"{folder}/{name}"] = person[1] if person else None
        return images

    def labels(self, folder: str, images: Sequence[str], files: Sequence[str], key: str) -> dict[str, int]:
        """The number of each path in the first of these lists that is there."""
        file = next((file for file in files if (self.base / file).is_file()), None)
        if file is None:
            self.notices.append(f"the list {files[0]} is not there; the names alone were read.")
            return {}
        try:
            cells, numbers = _load(self.base / file, f"{key}_set", f"{key}_ids")
            listed = _names(cells)
            if numbers.size != len(listed) or not np.issubdtype(numbers.dtype, np.number):
                raise ValueError(f"it has {len(listed)} names and {numbers.size} {key}_ids, which are numbers")
        except ValueError as error:
            self.notices.append(f"{Path(file).name}: {error}. The names alone were read.")
            return {}
        known, labels = {_stem(name): f"{folder}/{name}" for name in images}, {}
        for name, number in zip(listed, numbers.tolist(), strict=True):
            if (path := known.get(_stem(name))) is None:
                self.missing.add(f"{folder}/{name}")
            else:
                labels[path] = int(number)
        if len(labels) < len(images):
            self.notices.append(f"{file} does not list {len(images) - len(labels)} images that are there.")
        return labels

    def use(self, labels: Mapping[str, int]) -> None:
        """Give images without an identity in their name that of their number; count where names and lists disagree."""
        persons: dict[int, str] = {}
        numbers: dict[str, int] = {}
        wrong = 0
        for path, number in sorted(labels.items()):
            if (person := self.identities[path]) is not None:
                wrong += persons.setdefault(number, person) != person or numbers.setdefault(person, number) != number
        for path, number in labels.items():
            self.identities[path] = self.identities[path] or persons.get(number, f"list-{number}")
        if wrong:
            self.notices.append(f"the lists group {wrong} images otherwise than their names; the names hold.")

    def check_pairs(self, key: str, *, same: bool) -> None:
        """Compare a list of pairs of verification images with the images that are there and their identities."""
        file = f"Face_Verification_Test_Set/{key}.mat"
        if not (self.base / file).is_file():
            return
        try:
            (cells,) = _load(self.base / file, key)
            names = _names(cells)
            if len(names) % 2:
                raise ValueError("it is no list of pairs")
        except ValueError as error:
            self.notices.append(f"{key}.mat: {error}.")
            return
        known = {_stem(path): person for path, person in self.identities.items() if path.startswith(_VERIFICATION)}
        self.missing |= {f"{_VERIFICATION}/{name}" for name in names if _stem(name) not in known}
        persons = [known.get(_stem(name)) for name in names]
        pairs = zip(persons[::2], persons[1::2], strict=True)
        if wrong := sum(None not in pair and (pair[0] == pair[1]) != same for pair in pairs):
            kind = "the same person" if same else "two persons"
            self.notices.append(f"{file}: {wrong} pairs of {kind} are otherwise by their names.")


def _load(file: Path, *keys: str) -> list[NDArray[Any]]:
    """Variables of a MATLAB file, row by row in one dimension. Raises ValueError, which says what is wrong."""
    try:
        content = scipy.io.loadmat(file, squeeze_me=True)
    except Exception as error:  # its parser raises anything on damaged bytes
        raise ValueError("cannot be read as a MATLAB file") from error
    if absent := [key for key in keys if key not in content]:
        raise ValueError(f"it has no {absent[0]}")
    return [np.ravel(content[key]) for key in keys]


def _names(cells: NDArray[Any]) -> list[str]:
    """The file names that a list's cells hold. Raises ValueError where one holds something else."""
    if not all(isinstance(cell, str) for cell in cells):
        raise ValueError("an entry is no file name")
    return [str(cell).strip() for cell in cells]


def _stem(name: str) -> str:
    """A file's name without extension, by which lists and files meet: some files have none, or have it in capitals."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return re.sub(r"\.(jpe?g|png|bmp|tiff?|webp)$", "", base, flags=re.IGNORECASE)
