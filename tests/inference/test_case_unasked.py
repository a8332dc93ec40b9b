"""A folder with no option given: its images say how they are learnt, and by which camera."""

import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.ndimage import gaussian_filter
from skimage import data

from tests.inference import files
from zssr_gan.cli.main import main
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.found_compression import SetCompression
from zssr_gan.degradation.model import Degradation, Jpeg
from zssr_gan.errors import SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.imaging.coding import coding_text
from zssr_gan.inference import case
from zssr_gan.inference.arrays import enhance as from_python
from zssr_gan.inference.record import Record, read_record
from zssr_gan.settings.base import write_yaml
from zssr_gan.settings.zeroshot import FEWEST_SMALL
from zssr_gan.zeroshot.case import LearntCase

TOGETHER = files.TINY | {
    "network": {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"},
    "steps": {"gradual": [[1, 1], [1, 1]]},
    "small": {"choice": {"folds": 2}},
    "shared": {"schedule": {"kind": "cosine", "iterations": 4}},
}
"""As in the presets, an image alone, a small one and a case have settings of their own."""

WAYS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "unasked": ((), {"unasked", "shared"}),
    "shared": (("--init", "shared"), {"unasked", "shared"}),
    "alone": (("--init", "scratch"), {"alone"}),
    "a camera set by hand": (("--degradation", "camera.json"), {"a camera set by hand"}),
}
"""Options, and which ways give the same results."""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with quick settings: one that learns on a case, and one that never does."""
    monkeypatch.chdir(tmp_path)
    Path("together.yaml").write_text(write_yaml(TOGETHER), encoding="utf-8")
    Path("alone.yaml").write_text(write_yaml(files.TINY), encoding="utf-8")
    return tmp_path


def crops(count: int, quality: int | None, blur: float = 0.0, side: int = 28) -> list[Image.Image]:
    """Cut out of a photograph that was blurred and compressed, at any place of the grid."""
    photograph = data.astronaut()[:480, :480]
    whole = Image.fromarray(gaussian_filter(photograph, (blur, blur, 0)) if blur else photograph)
    if quality is not None:
        file = io.BytesIO()
        whole.save(file, "JPEG", quality=quality)
        whole = Image.open(file)
    corners = [(70 + 31 * (n % 4) + n, 13 + 35 * (n // 4) + n) for n in range(count)]
    return [whole.crop((x, y, x + side, y + side)) for x, y in corners]


def save(images: list[Image.Image], folder: str = "in") -> None:
    Path(folder).mkdir(exist_ok=True)
    for number, image in enumerate(images):
        image.save(Path(folder) / f"{number:02}.png")


def enhance(*options: str, preset: str = "together.yaml") -> int:
    return main(["enhance", "in", "-o", "out", "--preset", preset, "--threads", "1", "--device", "cpu", *options])


def records() -> dict[str, Record]:
    paths = sorted(Path("out").glob("*_x2.json"))
    return {path.name.removesuffix("_x2.json"): read_record(path) for path in paths}


@pytest.mark.usefixtures("desk", "quick_estimates")
class TestDegradation:
    def test_compression_that_the_images_tell_together_is_used_and_said_in_one_line(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a folder, of which each file is decoded once for all that is learnt; and as a list in Python."""
        images = crops(12, 72, side=24)
        save(images)
        decoded: list[str] = []
        decode = case.decode_picture
        monkeypatch.setattr(case, "decode_picture", lambda *a, **k: decoded.append(a[1]) or decode(*a, **k))
        assert enhance() == 0
        assert sorted(decoded) == sorted(map(str, Path("in").iterdir()))
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("degradation:")]
        assert len(said) == 1
        assert re.search(r"JPEG quality 7[123]; .*estimated from 12 images", said[0])
        for record in records().values():
            facts = record.request.degradation
            assert facts.source == "estimate"
            assert facts.values.jpeg is not None
            assert facts.values.jpeg.quality == pytest.approx(72, abs=1)
            assert len(facts.images) == 12
            assert facts.compression is not None
            assert facts.compression.images == 12
            assert facts.compression.seen >= 8
        assert not files.failed(Path("out/03_x2.json"), rerun=True)
        made = from_python(images, preset="together.yaml", threads=1, device="cpu")
        for number, one in enumerate(made):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(Image.open(f"out/{number:02}_x2.png")))
        assert enhance("--degradation", "bicubic", "--overwrite") == 0
        assert "degradation:" not in capsys.readouterr().err
        assert {one.request.degradation.source for one in records().values()} == {"bicubic"}

    def test_blur_is_used_where_the_images_are_sure_also_where_each_is_learnt_from_alone(
        self,
        make_estimate: Callable[..., Estimate],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        save(crops(2, None))
        found = make_estimate(*(sha256_file(path) for path in sorted(Path("in").iterdir())))
        monkeypatch.setattr(case, "learn_case", lambda *_, **__: LearntCase({"": found}))
        assert enhance() == 0
        assert "blur of 0.90 x 0.40 LR pixels" in (said := capsys.readouterr().err)
        assert "labelled case; --init scratch keeps each internal" in said
        assert {(one.label, one.request.degradation.sha256) for one in records().values()} == {
            ("case", found.degradation_sha256)
        }
        monkeypatch.setattr(case, "learn_case", lambda *_, **__: pytest.fail("estimated again"))
        Path("out/01_x2.json").unlink()
        Path("out/01_x2.png").unlink()
        assert enhance("--skip-existing") == 0
        assert "exists already\n" in capsys.readouterr().out

    def test_images_that_tell_nothing_are_bicubic(self, capsys: pytest.CaptureFixture[str]) -> None:
        save(crops(3, None))
        assert enhance() == 0
        said = capsys.readouterr().err
        assert "bicubic is assumed: 3 parts of images" in said
        assert "noise that a picture shows by itself is still used" in said
        made = records()
        assert {one.label for one in made.values()} == {"internal"}
        assert all("bicubic is assumed: " in one.request.degradation.why for one in made.values())
        assert not list(Path("out").glob("degradation-*"))

    @pytest.mark.parametrize("together", [True, False])
    def test_a_few_images_with_a_compression_of_their_own_have_it_beside_bicubic(
        self, together: bool, make_estimate: Callable[..., Estimate], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(crops(3, None))
        first, *others = (sha256_file(path) for path in sorted(Path("in").iterdir()))
        jpeg, learn = Jpeg.of_quality(60), case.learn_case
        seen = SetCompression(quality=60, saved_again=None, evidence=90.0, seen=1, phases={first: (3, 5)})
        own = {"own_jpeg": {first: jpeg}, "compressions": (seen,)}
        found = make_estimate(first, *others, degradation=Degradation(), fallback=True, **own)
        monkeypatch.setattr(
            case, "learn_case", lambda *a, **k: learn(*a, **k) if "settings" in k else LearntCase({"": found})
        )
        assert enhance(*(["--init", "shared"] if together else [])) == 0
        assert [one.request.degradation.values.jpeg for one in records().values()] == [jpeg, None, None]

    def test_scratch_keeps_every_result_internal_with_what_each_image_shows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(crops(2, None, blur=1.2))
        Image.open("in/00.png").save("in/saved.jpg", quality=60)
        monkeypatch.setattr(case.CaseFiles, "images", lambda *_, **__: pytest.fail("looked at other images"))
        assert enhance("--init", "scratch") == 0
        made = records()
        assert {one.label for one in made.values()} == {"internal"}
        jpeg = made["saved"].request.degradation.values.jpeg
        assert jpeg is not None
        assert jpeg.quality == 60
        assert made["01"].request.degradation.source == "default"

    def test_a_still_is_taken_as_compressed_as_its_video_was(self) -> None:
        for name, lossless in (("h264", False), ("ffv1", True)):
            text = PngInfo()
            for key, value in coding_text(name, "yuv420p", "limited", lossless=lossless).items():
                text.add_text(key, value)
            Path("in").mkdir(exist_ok=True)
            crops(1, None)[0].save(f"in/{name}.png", pnginfo=text)
        assert enhance("--init", "scratch") == 0
        made = {name: record.request.degradation for name, record in records().items()}
        assert made["h264"].values.jpeg is not None
        assert "a video's compression" in made["h264"].why
        assert made["ffv1"].source == "default"

    def test_one_picture_alone_and_a_folder_of_broken_ones(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(crops(1, None))
        with monkeypatch.context() as patch:  # its header says that no case is learnt
            patch.setattr(case, "decode_picture", lambda *_, **__: pytest.fail("decoded for a case"))
            assert enhance() == 0
        assert "degradation" not in capsys.readouterr().err
        for number in range(10):
            Path(f"in/{number:02}.png").write_bytes(b"not an image")
        assert enhance("--overwrite") == 1
        assert capsys.readouterr().err.count("failed: in/") == 10


@pytest.mark.usefixtures("desk")
class TestPython:
    def test_scratch_is_each_image_alone(self) -> None:
        images = [np.asarray(one) for one in crops(2, None)]
        made = from_python(images, preset="together.yaml", init="scratch", threads=1, device="cpu")
        alone = from_python(images[1], preset="together.yaml", threads=1, device="cpu")
        np.testing.assert_array_equal(made[1], alone)
        with pytest.raises(SettingsError, match="give a list"):
            from_python(images[0], degradation="estimate")
        assert from_python([]) == []


@pytest.mark.usefixtures("desk")
class TestInit:
    def test_enough_small_images_are_learnt_together_and_the_label_is_said_first(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save(crops(FEWEST_SMALL, None))
        assert enhance() == 0
        lines = capsys.readouterr().err.splitlines()
        assert "labelled case; --init scratch keeps each internal" in lines[0]
        assert {one.label for one in records().values()} == {"case"}
        assert not files.failed(Path("out/00_x2.json"), rerun=True)

    @pytest.mark.parametrize("why", ["too few", "too large", "no settings for a case"])
    def test_else_each_is_learnt_alone(self, why: str) -> None:
        count, side = (FEWEST_SMALL - 1, 28) if why == "too few" else (FEWEST_SMALL, 66 if why == "too large" else 28)
        save(crops(count, None, side=side))
        assert enhance("--degradation", "bicubic", preset="alone.yaml" if why[0] == "n" else "together.yaml") == 0
        assert {one.label for one in records().values()} == {"internal"}
        assert not list(Path("out").glob("shared-*"))

    def test_a_few_large_images_beside_do_not_matter_and_broken_ones_do_not_count(self) -> None:
        save([*crops(FEWEST_SMALL - 1, None), *crops(1, None, side=100)])
        Path("in/broken.png").write_bytes(Path("in/00.png").read_bytes()[:400])
        assert enhance("--degradation", "bicubic") == 1
        assert {one.label for one in records().values()} == {"internal"}
        save(crops(FEWEST_SMALL, None, side=30)[-1:], "more")
        Path("more/00.png").rename("in/more.png")
        assert enhance("--degradation", "bicubic", "--overwrite") == 1
        assert {one.label for one in records().values()} == {"case"}

    def test_a_set_that_has_changed_is_said_and_what_exists_stays(self, capsys: pytest.CaptureFixture[str]) -> None:
        save(crops(FEWEST_SMALL, None))
        assert enhance() == 0
        before = {path: path.read_bytes() for path in Path("out").iterdir()}
        assert enhance("--skip-existing") == 0
        assert capsys.readouterr().out.count("exists already\n") == FEWEST_SMALL
        crops(FEWEST_SMALL + 1, None)[-1].save("in/new.png")
        assert enhance("--skip-existing", "--json") == 0
        messages = [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()]
        said = f"other images in the case ({FEWEST_SMALL}, and now {FEWEST_SMALL + 1})"
        assert sum(said in message for message in messages) == FEWEST_SMALL
        assert {path: path.read_bytes() for path in before} == before
        assert enhance("--skip-existing") == 0  # of what is not estimated again nothing else is said
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.endswith(f"exists already, but was made with {said}") for line in lines) == FEWEST_SMALL
        Path("in/new.png").unlink()
        for name in ("out/new_x2.png", "out/new_x2.json"):
            Path(name).unlink()
        Path("in/00.png").write_bytes(Path("in/01.png").read_bytes())  # nothing is left to do, and the set is another
        assert enhance("--skip-existing") == 0
        assert "other images in the case" in capsys.readouterr().out

    @pytest.mark.usefixtures("quick_estimates")
    @pytest.mark.parametrize("way", ["unasked", "alone", "a camera set by hand"])
    def test_what_exists_is_said_to_differ_only_from_what_was_asked_for_otherwise(
        self, way: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Made in one way, and asked for in each, whether or not something is left that decides it."""
        save(crops(FEWEST_SMALL, None, side=24))
        assert main(["degradation", "set", "--noise", "1", "-o", "camera.json"]) == 0
        assert enhance(*WAYS[way][0]) == 0
        for missing, (other, (options, same)) in itertools.product((False, True), WAYS.items()):
            if missing:
                for path in Path("out").glob("07_*"):
                    path.unlink()
            capsys.readouterr()
            assert enhance(*options, "--skip-existing") == 0
            said = [line for line in capsys.readouterr().out.splitlines() if "exists already" in line]
            assert len(said) == FEWEST_SMALL - missing
            alike = all(line.endswith("exists already") for line in said)
            assert alike == (way in same), (other, said[0])
