"""Sets in the published layouts, and a folder of ten images, made for each test."""

from pathlib import Path

import pytest

from tests.data.trees import SURVFACE, TINYFACE, make_tree, write_list, write_pairs


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "ten", [f"{index}.png" for index in range(10)])


@pytest.fixture
def tinyface(tmp_path: Path) -> Path:
    """The folder that tinyface.zip unpacks into; its lists number persons anew, as the published ones do."""
    root = make_tree(tmp_path / "data" / "tinyface", TINYFACE)
    (root / "Training_Set" / "read.txt").write_text("not an image")
    for part, key, photos in (("gallery_match", "gallery", (7, 8)), ("probe", "probe", (1, 2))):
        names = [f"{person}_{photo}.jpg" for person in (11, 12, 13) for photo in photos]
        write_list(root / "Testing_Set" / f"{part}_img_ID_pairs.mat", key, names, [1, 1, 2, 2, 3, 3])
    return root


@pytest.fixture
def survface(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "data" / "QMUL-SurvFace", SURVFACE)
    lists = root / "Face_Identification_Test_Set"
    write_list(lists / "gallery_img_ID_pairs.mat", "gallery", ["21_cam2_1.jpg", "22_cam2_1.jpg"], [1, 2])
    write_list(lists / "mated_probe_img_ID_pairs.mat", "mated_probe", ["21_cam3_1.jpg", "22_cam3_1.jpg"], [1, 2])
    pairs = root / "Face_Verification_Test_Set"
    write_pairs(pairs / "negative_pairs_names.mat", "negative_pairs_names", [("21_cam2_1.jpg", "22_cam2_1.jpg")])
    write_pairs(pairs / "positive_pairs_names.mat", "positive_pairs_names", [("21_cam2_1.jpg", "21_cam2_1.jpg")])
    return root
