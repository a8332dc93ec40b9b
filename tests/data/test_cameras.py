"""Cameras: whose images go together, and which degradation an image finds."""

from pathlib import Path

import pytest
import torch

from tests.data.trees import make_tree, prepared, source
from tests.estimates import NARROW, WIDE, estimate_of
from zssr_gan.data.cameras import (
    SMALLEST_GROUP,
    Cameras,
    CaseDegradations,
    GroupEstimate,
    encode_degradations,
    group_images,
    read_degradations,
)
from zssr_gan.data.prepared import Prepared
from zssr_gan.degradation.model import Degradation, Jpeg
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import SettingsError
from zssr_gan.provenance import CaseImage

NAMES = (
    *(f"surv/training_set/{person}/{person}_cam1_1.jpg" for person in range(1, 5)),
    *(f"surv/training_set/{person}/{person}_cam2_1.jpg" for person in range(1, 4)),
    "surv/training_set/1/1_cam3_1.jpg",
    "surv/training_set/2/2_x_1.jpg",
    *(f"folder/{number}_cam1_1.bmp" for number in range(5)),
)


@pytest.fixture
def images(tmp_path: Path) -> Prepared:
    make_tree(tmp_path, NAMES)
    sources = source(tmp_path / "surv", "survface", name="surv"), source(tmp_path / "folder")
    return prepared(*sources, size=None, roles=(None, 0, None, 0))


def case(**groups: Degradation) -> CaseDegradations:
    """The first group was learnt from the most images."""
    kept = [
        GroupEstimate(
            group=name.replace("_", "/"),
            estimate=estimate_of(degradation, [CaseImage(name=str(n), sha256=f"{n:064}") for n in range(9 - place)]),
        )
        for place, (name, degradation) in enumerate(groups.items())
    ]
    return CaseDegradations(seed=0, size=None, groups=tuple(kept))


@pytest.mark.parametrize("smallest", [3, SMALLEST_GROUP])
def test_a_group_is_a_camera_where_it_has_enough_images_else_a_source(images: Prepared, smallest: int) -> None:
    groups, (notice,) = group_images(images, smallest)
    paths = {group: [images.member(n).path.rpartition("/")[2] for n in its] for group, its in groups.items()}
    assert len(paths["folder"]) == 5, "a folder's names tell no camera"
    if smallest == 3:
        assert list(paths) == ["folder", "surv", "surv/cam1", "surv/cam2"]
        assert sorted(paths["surv"]) == ["1_cam3_1.jpg", "2_x_1.jpg"]
        assert all("_cam1_" in path for path in paths["surv/cam1"])
        assert (len(paths["surv/cam1"]), len(paths["surv/cam2"])) == (4, 3)
        assert notice == "surv: cam3 (1): fewer than 3 images each, so they join the rest of surv"
    else:
        assert {group: len(its) for group, its in groups.items()} == {"folder": 5, "surv": 9}
        assert f"cam1 (4), cam2 (3), cam3 (1): fewer than {SMALLEST_GROUP}" in notice


class TestCameras:
    @pytest.mark.parametrize(
        ("groups", "path", "group"),
        [
            (("surv", "surv_cam1", "folder"), "1_cam1_1.jpg", "surv/cam1"),
            (("surv", "surv_cam1", "folder"), "1_cam2_1.jpg", "surv"),
            (("surv", "surv_cam1", "folder"), "2_x_1.jpg", "surv"),
            (("surv", "surv_cam1", "folder"), "4_cam1_1.bmp", "folder"),
            # Else the one with the most images that was learnt from, of its source if there is any.
            (("surv_cam2", "surv_cam1"), "1_cam3_1.jpg", "surv/cam2"),
            (("surv_cam2", "surv_cam1"), "4_cam1_1.bmp", "surv/cam2"),
        ],
    )
    def test_its_own_else_its_sources(self, images: Prepared, groups: tuple[str, ...], path: str, group: str) -> None:
        cameras = Cameras(case(**dict.fromkeys(groups, WIDE)))
        number = next(n for n in range(len(images)) if images.member(n).id.endswith(path))
        assert cameras.of(images, number).group == group

    def test_an_image_of_another_compression_has_its_own(self, images: Prepared) -> None:
        jpeg = Jpeg.of_quality(60)
        (group,) = case(surv=WIDE).groups
        estimate = group.estimate.model_copy(update={"own_jpeg": {images.member(0).sha256: jpeg}})
        cameras = Cameras(CaseDegradations(seed=0, size=None, groups=(GroupEstimate(group="surv", estimate=estimate),)))
        own, other = cameras.of(images, 0), cameras.of(images, 1)
        assert own.sha256 == WIDE.model_copy(update={"jpeg": jpeg}).sha256
        assert other.sha256 == WIDE.sha256
        assert own.learnt_from == other.learnt_from
        assert cameras.downscales == [other.downscale, own.downscale]

    def test_bicubic_of_all_without_any(self, images: Prepared) -> None:
        camera = Cameras().of(images, 0)
        assert (camera.group, camera.learnt_from) == (None, frozenset())
        assert camera.sha256 == Degradation().sha256
        assert isinstance(camera.downscale, BicubicDownscale)
        assert len(Cameras().downscales) == 1

    def test_one_object_a_degradation(self) -> None:
        cameras = Cameras(case(surv=WIDE, surv_cam1=NARROW, folder=WIDE))
        assert cameras.all["surv"].downscale is cameras.all["folder"].downscale
        assert len(cameras.downscales) == 2

    def test_beside_others_bicubic_is_one_step_too(self) -> None:
        """A scale of 4 would else be two steps for one image and one for the other, and no network could learn both."""
        cameras = Cameras(case(surv=WIDE, folder=Degradation()))
        assert all(downscale.single_step for downscale in cameras.downscales)
        plain = cameras.all["folder"].downscale
        image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(plain(image, (8, 8)), BicubicDownscale()(image, (8, 8)), atol=1e-6)
        (alone,) = Cameras(case(folder=Degradation())).downscales
        assert isinstance(alone, BicubicDownscale)


def test_the_file_comes_back(tmp_path: Path) -> None:
    degradations = case(surv=WIDE, folder=Degradation())
    (tmp_path / "degradation.json").write_bytes(encode_degradations(degradations))
    assert read_degradations(tmp_path / "degradation.json") == degradations
    assert degradations.hashes == {"surv": WIDE.sha256, "folder": Degradation().sha256}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"{", b"", "is damaged"),
        (b'"schema_version": 1', b'"schema_version": 2', "is damaged"),
        (b'"sigma_major": 1.0', b'"sigma_major": 1.5', "the degradation of surv was changed after it was hashed"),
        (None, b'{"seed": 0, "size": null, "groups": []}', "groups: Tuple should have at least 1 item"),
        (None, None, "no such file"),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, old: bytes | None, new: bytes | None, words: str) -> None:
    path = tmp_path / "degradation.json"
    if new is not None:
        path.write_bytes(new if old is None else encode_degradations(case(surv=WIDE)).replace(old, new, 1))
    with pytest.raises(SettingsError, match=words) as caught:
        read_degradations(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
