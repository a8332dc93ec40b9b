"""The `.mat` lists that come with QMUL's sets: which images a part of the set holds, and whom each shows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from zssr_gan.errors import ZssrGanError


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
