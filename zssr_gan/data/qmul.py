"""QMUL-TinyFace and QMUL-SurvFace in their published layouts (Cheng, Zhu, Gong 2018).

Whom an image shows stands in its folder's or its file's name. The `.mat` lists number the persons anew (their 1 is not
the names' 1), so a list is used for images whose names say nothing, and checked against the names for all others.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from zssr_gan.data.sources import Content, Entry, Listing, files_under, read_file
from zssr_gan.errors import SettingsError, ZssrGanError

# The `.mat` lists that come with QMUL's sets: which images a part of the set holds, and whom each shows.


class ListError(ZssrGanError):
    """A list that is not what its name says; the set can be read without it."""


@dataclass(frozen=True, slots=True)
class NameList:
    """File names, and a number for each: the same number, the same person."""

    names: tuple[str, ...]
    labels: tuple[int, ...]


def read_names(file: Path, names_key: str, labels_key: str) -> NameList:
    """Read a list of names with a label each. Raises ListError."""
    content = _load(file, names_key, labels_key)
    names = tuple(_text(cell, file) for cell in content[names_key].reshape(-1))
    try:
        labels = tuple(int(label) for label in content[labels_key].reshape(-1))
    except (TypeError, ValueError) as error:
        raise ListError(f"{file.name}: its {labels_key} are not numbers.") from error
    if len(names) != len(labels):
        raise ListError(f"{file.name}: it has {len(names)} names for {len(labels)} identities.")
    return NameList(names, labels)


def read_pairs(file: Path, key: str) -> list[tuple[str, str]]:
    """Read a list of pairs of names. Raises ListError."""
    pairs = _load(file, key)[key]
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ListError(f"{file.name}: it is no list of pairs.")
    return [(_text(one, file), _text(other, file)) for one, other in pairs]


def _load(file: Path, *keys: str) -> dict[str, NDArray[np.generic]]:
    try:
        content: dict[str, NDArray[np.generic]] = scipy.io.loadmat(file)
    except Exception as error:  # its parser raises anything on damaged bytes
        raise ListError(f"{file.name}: cannot be read as a MATLAB file.") from error
    for key in keys:
        if key not in content:
            raise ListError(f"{file.name}: it has no {key}.")
    return content


def _text(cell: object, file: Path) -> str:
    """A name out of the cell, or the nest of cells, that it lies in."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.reshape(-1)[0]
    if not isinstance(cell, str):
        raise ListError(f"{file.name}: an entry is no file name.")
    return str(cell).strip()


# Files beside the images; all others are images, for some of these have no extension.
_NO_IMAGES = frozenset({".mat", ".m", ".txt", ".md", ".csv", ".json", ".pdf", ".html", ".db", ".ini", ".zip"})

Named = Callable[[str], str | None]
"""Whom a file shows, by the name of its folder and its own ("17/17_cam1_2.jpg")."""


@dataclass(frozen=True, slots=True)
class Section:
    """A folder of a set: how its names are read, and its list (candidate files, key of names, key of labels)."""

    folder: str
    named: Named
    lists: tuple[str, ...] = ()
    names_key: str = ""
    labels_key: str = ""


def _by_folder(name: str) -> str | None:
    return name.split("/")[0] if "/" in name else None


def _by_number(name: str) -> str | None:
    """ "17_2.jpg" shows 17."""
    found = re.match(r"(\d+)_", name.rpartition("/")[2])
    return found[1] if found else None


def _by_camera(name: str) -> str | None:
    """ "17_cam1_2.jpg" shows 17; "distractors_2.jpg" nobody that is known."""
    found = re.match(r"(\d+)_cam", name.rpartition("/")[2], re.IGNORECASE)
    return found[1] if found else None


def _nobody(_name: str) -> str | None:
    return None


_TINYFACE = (
    Section("Training_Set", _by_folder),
    Section("Testing_Set/Gallery_Distractor", _nobody),
    Section(
        "Testing_Set/Gallery_Match",
        _by_number,
        ("Testing_Set/gallery_match_img_ID_pairs.mat",),
        *("gallery_set", "gallery_ids"),
    ),
    Section("Testing_Set/Probe", _by_number, ("Testing_Set/probe_img_ID_pairs.mat",), "probe_set", "probe_ids"),
)


# Public loaders disagree about where the identification lists lie.
_SURVFACE_LISTS = ("Face_Identification_Test_Set", "Face_Identification_Evaluation")

_SURVFACE_VERIFICATION = "Face_Verification_Test_Set/verification_images"

_SURVFACE = (
    Section("training_set", _by_folder),
    Section(
        "Face_Identification_Test_Set/gallery",
        _by_camera,
        tuple(f"{folder}/gallery_img_ID_pairs.mat" for folder in _SURVFACE_LISTS),
        *("gallery_set", "gallery_ids"),
    ),
    Section(
        "Face_Identification_Test_Set/mated_probe",
        _by_camera,
        tuple(f"{folder}/mated_probe_img_ID_pairs.mat" for folder in _SURVFACE_LISTS),
        *("mated_probe_set", "mated_probe_ids"),
    ),
    Section("Face_Identification_Test_Set/unmated_probe", _by_camera),
    Section(_SURVFACE_VERIFICATION, _by_camera),
)


@dataclass(frozen=True, slots=True)
class TinyFace:
    """QMUL-TinyFace: 169,403 native faces; `root` holds Training_Set and Testing_Set, or a folder tinyface with both.

    Identities: a training image's folder, and the number that a probe's or gallery image's name begins with.
    Distractors have none.
    """

    name: str
    root: Path

    def listing(self) -> Listing:
        """All images. Raises SettingsError where no part of the set is under the root."""
        return _Survey(self.name, _base(self.root, "tinyface", _TINYFACE), _TINYFACE).listing()

    def read(self, path: str) -> Content:
        """One image; see `zssr_gan.data.sources.read_file`."""
        return read_file(_base(self.root, "tinyface", _TINYFACE) / path, f"{self.name}/{path}")

    def camera(self, path: str) -> str | None:  # noqa: ARG002 - what others need
        """Not known: the images are from the web."""
        return None


@dataclass(frozen=True, slots=True)
class SurvFace:
    """QMUL-SurvFace: 463,507 native faces of surveillance cameras; `root` holds training_set and the test sets'
    folders, or a folder QMUL-SurvFace with them.

    Identities: a training image's folder, and the number before "_cam" in other names. The verification images are
    copies of test images, so they come out as duplicates.
    """

    name: str
    root: Path

    def listing(self) -> Listing:
        """All images. Raises SettingsError where no part of the set is under the root."""
        survey = _Survey(self.name, _base(self.root, "QMUL-SurvFace", _SURVFACE), _SURVFACE)
        folder = "Face_Verification_Test_Set"
        survey.check_pairs(f"{folder}/positive_pairs_names.mat", "positive_pairs_names", same=True)
        survey.check_pairs(f"{folder}/negative_pairs_names.mat", "negative_pairs_names", same=False)
        return survey.listing()

    def read(self, path: str) -> Content:
        """One image; see `zssr_gan.data.sources.read_file`."""
        return read_file(_base(self.root, "QMUL-SurvFace", _SURVFACE) / path, f"{self.name}/{path}")

    def camera(self, path: str) -> str | None:
        """ "cam1" of "17_cam1_2.jpg"; None where the name has no camera."""
        found = re.match(r"\d+_cam0*(\d+)_", path.rpartition("/")[2], re.IGNORECASE)
        return f"cam{found[1]}" if found else None


def _base(root: Path, inner: str, sections: Sequence[Section]) -> Path:
    """The folder that the sections lie in. Raises SettingsError where there is none of them."""
    for base in (root, root / inner):
        if any((base / section.folder).is_dir() for section in sections):
            return base
    tops = sorted({section.folder.split("/")[0] for section in sections})
    what = "does not exist" if not root.exists() else f"holds none of the folders {', '.join(tops)}"
    raise SettingsError(f"{root}: {what}; data/README.md says how to get the set and where to unpack it.")


@dataclass
class _Survey:
    """Lists a set section by section, gathering what is odd."""

    name: str
    base: Path
    sections: Sequence[Section]
    unusable: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    identities: dict[str, str | None] = field(default_factory=dict)
    """By path."""

    def __post_init__(self) -> None:
        labelled: dict[str, int] = {}
        for section in self.sections:
            if not (self.base / section.folder).is_dir():
                self.notices.append(f"{self.name}: the folder {section.folder} is not there.")
                continue
            paths = self._images(section)
            if section.lists:
                labelled |= self._labels(section, paths)
        self._use(labelled)

    def listing(self) -> Listing:
        """What was found."""
        entries = tuple(Entry(path, self.identities[path]) for path in sorted(self.identities))
        return Listing(entries, tuple(self.unusable), tuple(sorted(set(self.missing))), tuple(self.notices))

    def check_pairs(self, file: str, key: str, *, same: bool) -> None:
        """Hold a list of pairs of verification images against the images that are there and whom they show."""
        if not (self.base / file).is_file() or not (self.base / _SURVFACE_VERIFICATION).is_dir():
            return
        try:
            pairs = read_pairs(self.base / file, key)
        except ListError as error:
            self.notices.append(f"{self.name}: {error}")
            return
        known = _by_stem(path for path in self.identities if path.startswith(f"{_SURVFACE_VERIFICATION}/"))
        for name in {name for pair in pairs for name in pair}:
            if _stem(name) not in known:
                self.missing.append(f"{_SURVFACE_VERIFICATION}/{name}")
        wrong = 0
        for pair in pairs:
            shown = [self.identities.get(known.get(_stem(name), "")) for name in pair]
            wrong += None not in shown and (shown[0] == shown[1]) != same
        if wrong:
            kind = "the same person" if same else "two persons"
            self.notices.append(f"{self.name}: {file}: {wrong} pairs of {kind} are otherwise by their names.")

    def _images(self, section: Section) -> list[str]:
        paths, unusable = files_under(self.base / section.folder, self.base)
        self.unusable += unusable
        paths = [path for path in paths if Path(path).suffix.lower() not in _NO_IMAGES]
        for path in paths:
            self.identities[path] = section.named(path[len(section.folder) + 1 :])
        return paths

    def _labels(self, section: Section, paths: Sequence[str]) -> dict[str, int]:
        """The list's number of each path; what is listed and not there goes to `missing`."""
        file = next((file for file in section.lists if (self.base / file).is_file()), None)
        if file is None:
            self.notices.append(f"{self.name}: the list {section.lists[0]} is not there; the names alone were read.")
            return {}
        try:
            found = read_names(self.base / file, section.names_key, section.labels_key)
        except ListError as error:
            self.notices.append(f"{self.name}: {error} The names alone were read.")
            return {}
        known = _by_stem(paths)
        labelled = {}
        for name, label in zip(found.names, found.labels, strict=True):
            path = known.get(_stem(name))
            if path is None:
                self.missing.append(f"{section.folder}/{name}")
            else:
                labelled[path] = label
        if len(labelled) < len(paths):
            self.notices.append(
                f"{self.name}: {file} does not list {len(paths) - len(labelled)} images that are there."
            )
        return labelled

    def _use(self, labelled: dict[str, int]) -> None:
        """Give images without a name's identity that of their list's number; count where names and lists disagree."""
        persons: dict[int, str] = {}
        numbers: dict[str, int] = {}
        wrong = 0
        for path in sorted(labelled):
            person, number = self.identities[path], labelled[path]
            if person is not None:
                wrong += persons.setdefault(number, person) != person or numbers.setdefault(person, number) != number
        for path, number in labelled.items():
            if self.identities[path] is None:
                self.identities[path] = persons.get(number, f"list-{number}")
        if wrong:
            self.notices.append(
                f"{self.name}: the lists group {wrong} images otherwise than their names; the names hold."
            )


def _stem(name: str) -> str:
    """A file's name without extension, by which lists and files meet: some files have none, or have it in capitals."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return re.sub(r"\.(jpe?g|png|bmp|tiff?|webp)$", "", base, flags=re.IGNORECASE)


def _by_stem(paths: Iterable[str]) -> dict[str, str]:
    return {_stem(path): path for path in paths}
