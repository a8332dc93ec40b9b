"""QMUL-TinyFace and QMUL-SurvFace in their published layouts (Cheng, Zhu, Gong 2018).

Whom an image shows stands in its folder's or its file's name. The `.mat` lists number the persons anew (their 1 is not
the names' 1), so a list is used for images whose names say nothing, and checked against the names for all others.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.io
from numpy.typing import NDArray

from zssr_gan.data.sources import Content, Entry, Listing, Source, files_under, read_file
from zssr_gan.errors import SettingsError

# Files beside the images; all others are images, for some of these have no extension.
_NO_IMAGES = frozenset({".mat", ".m", ".txt", ".md", ".csv", ".json", ".pdf", ".html", ".db", ".ini", ".zip"})

# Whom an image shows, by its path below the section's folder.
_BY_FOLDER = r"([^/]+)/"  # "17/17_cam1_2.jpg": 17
_BY_NUMBER = r"(?:.*/)?(\d+)_[^/]*$"  # "17_2.jpg": 17
_BY_CAMERA = r"(?:.*/)?(\d+)_cam[^/]*$"  # "17_cam1_2.jpg": 17; "distractors_2.jpg": nobody that is known
_NOBODY = r"(?!)"


@dataclass(frozen=True, slots=True)
class Section:
    """A folder of a set: the pattern of its names, and its list (candidate files; in it KEY_set and KEY_ids)."""

    folder: str
    pattern: str
    lists: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a set is laid out. `inner`: the folder that its archive unpacks into. `pairs`: (list, whether of one person)
    of images in the folder `verification`."""

    inner: str
    sections: tuple[Section, ...]
    verification: str = ""
    pairs: tuple[tuple[str, bool], ...] = ()


def _survface_section(part: str, key: str) -> Section:
    # Public loaders disagree about where the identification lists lie.
    folders = ("Face_Identification_Test_Set", "Face_Identification_Evaluation")
    lists = tuple(f"{folder}/{part}_img_ID_pairs.mat" for folder in folders)
    return Section(f"Face_Identification_Test_Set/{part}", _BY_CAMERA, lists, key)


LAYOUTS: Mapping[Literal["tinyface", "survface"], Layout] = {
    "tinyface": Layout(
        "tinyface",
        (
            Section("Training_Set", _BY_FOLDER),
            Section("Testing_Set/Gallery_Distractor", _NOBODY),
            Section(
                "Testing_Set/Gallery_Match", _BY_NUMBER, ("Testing_Set/gallery_match_img_ID_pairs.mat",), "gallery"
            ),
            Section("Testing_Set/Probe", _BY_NUMBER, ("Testing_Set/probe_img_ID_pairs.mat",), "probe"),
        ),
    ),
    "survface": Layout(
        "QMUL-SurvFace",
        (
            Section("training_set", _BY_FOLDER),
            _survface_section("gallery", "gallery"),
            _survface_section("mated_probe", "mated_probe"),
            Section("Face_Identification_Test_Set/unmated_probe", _BY_CAMERA),
            Section("Face_Verification_Test_Set/verification_images", _BY_CAMERA),
        ),
        "Face_Verification_Test_Set/verification_images",
        (
            ("Face_Verification_Test_Set/positive_pairs_names.mat", True),
            ("Face_Verification_Test_Set/negative_pairs_names.mat", False),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Qmul(Source):
    """A set of native faces; `root` holds its sections' folders, or the folder that its archive unpacks into.

    `tinyface`: QMUL-TinyFace, 169,403 faces; distractors have no identity. `survface`: QMUL-SurvFace, 463,507 faces of
    surveillance cameras; its verification images are copies of test images, so they come out as duplicates.
    """

    root: Path
    kind: Literal["tinyface", "survface"]

    def listing(self) -> Listing:
        """All images. Raises SettingsError where no part of the set is under the root."""
        layout, base = LAYOUTS[self.kind], self._base()
        notices, missing = list[str](), set[str]()
        unusable = list[tuple[str, str]]()
        identities, labels = dict[str, str | None](), dict[str, int]()
        for section in layout.sections:
            if not (base / section.folder).is_dir():
                notices.append(f"the folder {section.folder} is not there.")
                continue
            files, _, odd = files_under(base / section.folder)
            unusable += [(f"{section.folder}/{path}", reason) for path, reason in odd]
            names = [name for name in files if Path(name).suffix.lower() not in _NO_IMAGES]
            for name in names:
                person = re.match(section.pattern, name, re.IGNORECASE)
                identities[f"{section.folder}/{name}"] = person[1] if person else None
            if section.lists:
                labels |= _labels(base, section, names, notices, missing)
        if wrong := _use_labels(identities, labels):
            notices.append(f"the lists group {wrong} images otherwise than their names; the names hold.")
        for file, same in layout.pairs:
            if (base / file).is_file() and (base / layout.verification).is_dir():
                _check_pairs(base / file, file, same, layout.verification, identities, notices, missing)
        return Listing(
            tuple(Entry(path, identities[path]) for path in sorted(identities)),
            tuple(unusable),
            tuple(sorted(missing)),
            tuple(f"{self.name}: {notice}" for notice in notices),
        )

    def read(self, path: str) -> Content:
        """One image; see `zssr_gan.data.sources.read_file`."""
        return read_file(self._base() / path, f"{self.name}/{path}")

    def camera(self, path: str) -> str | None:
        """ "cam1" of SurvFace's "17_cam1_2.jpg"; None where the name has no camera."""
        found = re.match(r"\d+_cam0*(\d+)_", path.rpartition("/")[2], re.IGNORECASE)
        return f"cam{found[1]}" if found and self.kind == "survface" else None

    def _base(self) -> Path:
        """The folder that the sections lie in. Raises SettingsError where there is none of them."""
        layout = LAYOUTS[self.kind]
        for base in (self.root, self.root / layout.inner):
            if any((base / section.folder).is_dir() for section in layout.sections):
                return base
        tops = sorted({section.folder.split("/")[0] for section in layout.sections})
        what = "does not exist" if not self.root.exists() else f"holds none of the folders {', '.join(tops)}"
        raise SettingsError(f"{self.root}: {what}; data/README.md says how to get the set and where to unpack it.")


def _labels(base: Path, section: Section, names: list[str], notices: list[str], missing: set[str]) -> dict[str, int]:
    """The list's number of each path; what is listed and not there goes to `missing`."""
    file = next((file for file in section.lists if (base / file).is_file()), None)
    if file is None:
        notices.append(f"the list {section.lists[0]} is not there; the names alone were read.")
        return {}
    try:
        cells, numbers = _load(base / file, f"{section.key}_set", f"{section.key}_ids")
        listed = [_text(cell) for cell in cells.reshape(-1)]
        if numbers.size != len(listed) or not np.issubdtype(numbers.dtype, np.number):
            raise ValueError(f"it has {len(listed)} names and {numbers.size} {section.key}_ids, which are numbers")
    except ValueError as error:
        notices.append(f"{Path(file).name}: {error}. The names alone were read.")
        return {}
    known = _by_stem(names)
    labels = {}
    for name, person in zip(listed, numbers.reshape(-1).tolist(), strict=True):
        if (found := known.get(_stem(name))) is None:
            missing.add(f"{section.folder}/{name}")
        else:
            labels[f"{section.folder}/{found}"] = int(person)
    if len(labels) < len(names):
        notices.append(f"{file} does not list {len(names) - len(labels)} images that are there.")
    return labels


def _use_labels(identities: dict[str, str | None], labels: Mapping[str, int]) -> int:
    """Give images without a name's identity that of their list's number; how many images name and list disagree on."""
    persons: dict[int, str] = {}
    numbers: dict[str, int] = {}
    wrong = 0
    for path in sorted(labels):
        person, number = identities[path], labels[path]
        if person is not None:
            wrong += persons.setdefault(number, person) != person or numbers.setdefault(person, number) != number
    for path, number in labels.items():
        if identities[path] is None:
            identities[path] = persons.get(number, f"list-{number}")
    return wrong


def _check_pairs(
    path: Path,
    file: str,
    same: bool,
    verification: str,
    identities: Mapping[str, str | None],
    notices: list[str],
    missing: set[str],
) -> None:
    """Hold a list of pairs of verification images against the images that are there and whom they show."""
    try:
        (table,) = _load(path, path.stem)
        if table.ndim != 2 or table.shape[1] != 2:
            raise ValueError("it is no list of pairs")
        pairs = [(_text(one), _text(other)) for one, other in table]
    except ValueError as error:
        notices.append(f"{path.name}: {error}.")
        return
    known = _by_stem(name for name in identities if name.startswith(f"{verification}/"))
    missing |= {f"{verification}/{name}" for pair in pairs for name in pair if _stem(name) not in known}
    wrong = 0
    for pair in pairs:
        one, other = (identities.get(known.get(_stem(name), "")) for name in pair)
        wrong += None not in (one, other) and (one == other) != same
    if wrong:
        kind = "the same person" if same else "two persons"
        notices.append(f"{file}: {wrong} pairs of {kind} are otherwise by their names.")


def _load(file: Path, *keys: str) -> list[NDArray[np.generic]]:
    """Variables of a MATLAB file. Raises ValueError, which says what is wrong."""
    try:
        content: dict[str, NDArray[np.generic]] = scipy.io.loadmat(file)
    except Exception as error:  # its parser raises anything on damaged bytes
        raise ValueError("cannot be read as a MATLAB file") from error
    if absent := [key for key in keys if key not in content]:
        raise ValueError(f"it has no {absent[0]}")
    return [content[key] for key in keys]


def _text(cell: object) -> str:
    """A file name out of the cell, or the nest of cells, that it lies in. Raises ValueError."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.reshape(-1)[0]
    if not isinstance(cell, str):
        raise ValueError("an entry is no file name")
    return str(cell).strip()


def _stem(name: str) -> str:
    """A file's name without extension, by which lists and files meet: some files have none, or have it in capitals."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return re.sub(r"\.(jpe?g|png|bmp|tiff?|webp)$", "", base, flags=re.IGNORECASE)


def _by_stem(paths: Iterable[str]) -> dict[str, str]:
    return {_stem(path): path for path in paths}
