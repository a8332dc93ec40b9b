"""Small sets of tiny faces in the published layouts, made on the spot, each image noise of its own; their splits."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from zssr_gan.data.prepared import Prepared, open_sources
from zssr_gan.data.sources import Source
from zssr_gan.data.split import Split, make_split
from zssr_gan.settings.data import DataSettings


def pixels(name: str, height: int = 20, width: int = 16) -> np.ndarray:
    """H W 3 uint8, drawn by the name: the same everywhere."""
    block = b"".join(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(height * width * 3 // 32 + 1))
    return np.frombuffer(block, np.uint8)[: height * width * 3].reshape(height, width, 3)


def write_image(path: Path, height: int = 20, width: int = 16) -> None:
    """A BMP under any name: its bytes hang on no encoder's version, and readers go by content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(path.name, height, width)).save(path, format="BMP")


def make_tree(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        write_image(root / name)
    return root


def cells(names: Sequence[str]) -> np.ndarray:
    """A MATLAB cell array, read back as item[0].item()."""
    column = np.empty((len(names), 1), object)
    column[:, 0] = names
    return column


def write_list(path: Path, key: str, names: Sequence[str], labels: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {f"{key}_set": cells(names), f"{key}_ids": np.array(labels, np.uint16)[:, np.newaxis]}
    scipy.io.savemat(path, content)


def write_pairs(path: Path, key: str, pairs: Sequence[Sequence[str]]) -> None:
    table = np.empty((len(pairs), len(pairs[0])), object)
    table[:] = pairs
    scipy.io.savemat(path, {key: table})


TINYFACE = (
    *(f"Training_Set/{person}/{person}_{photo}.jpg" for person in (1, 2, 3) for photo in (1, 2)),
    *(f"Testing_Set/Probe/{person}_{photo}.jpg" for person in (11, 12, 13) for photo in (1, 2)),
    *(f"Testing_Set/Gallery_Match/{person}_{photo}.jpg" for person in (11, 12, 13) for photo in (7, 8)),
    *(f"Testing_Set/Gallery_Distractor/{number}_x_{number}_y.jpg" for number in range(10)),
)

SURVFACE = (
    *(f"training_set/{person}/{person}_cam1_{photo}.jpg" for person in (1, 2, 3) for photo in (1, 2)),
    *(f"Face_Identification_Test_Set/gallery/{person}_cam2_1.jpg" for person in (21, 22)),
    *(f"Face_Identification_Test_Set/mated_probe/{person}_cam3_1.jpg" for person in (21, 22)),
    "Face_Identification_Test_Set/unmated_probe/31_cam1_1.jpg",
    "Face_Identification_Test_Set/unmated_probe/31_cam1_2.jpg",
    *(f"Face_Identification_Test_Set/unmated_probe/distractors_{number}.jpg" for number in range(4)),
    "Face_Verification_Test_Set/verification_images/21_cam2_1.jpg",  # of the same name above: the same bytes
    "Face_Verification_Test_Set/verification_images/22_cam2_1.jpg",
)


def source(root: Path, kind: str = "folder", **others: Any) -> dict[str, Any]:
    """The settings of a source that lies in a folder."""
    return {"kind": kind, "root": str(root), **others}


def opened(kind: str, root: Path | None = None, name: str | None = None) -> Source:
    (found,) = open_sources(settings({"kind": kind, "root": root and str(root), "name": name}))
    return found


def settings(*sources: dict[str, Any], roles: Sequence[int | None] = (2, 1, 1, None), **others: Any) -> DataSettings:
    """`roles`: how many images are zssr, generator, table1 and unseen."""
    named = dict(zip(("zssr", "generator", "table1", "unseen"), roles, strict=True))
    return DataSettings.model_validate({"sources": list(sources), "roles": named, **others})


def split(*sources: dict[str, Any], seed: int = 0, **others: Any) -> Split:
    data = settings(*sources, **others)
    return make_split(data, open_sources(data), seed)


def prepared(*sources: dict[str, Any], only: Any = None, **others: Any) -> Prepared:
    """The images with a role, or `only` those with some of them."""
    return Prepared(split(*sources, **others), settings(*sources, **others), only)
