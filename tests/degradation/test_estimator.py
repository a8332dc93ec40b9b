"""The degradation of a case from its own LR images: known cameras are found, and what cannot be told is said."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.zeroshot.native import QUICK, evidence, pieces
from zssr_gan.degradation import estimator
from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import Estimate, encode_estimate, read_estimate
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.found_compression import Compression, CompressionGroup
from zssr_gan.degradation.jpeg import tables_of
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, KernelBlur, MotionBlur, Noise
from zssr_gan.errors import SettingsError
from zssr_gan.provenance import CaseImage

CLEAN = Degradation(blur=GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=30))
NOISY = Degradation(blur=GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=150), noise=Noise(sigma=2 / 255))
COMPRESSED = Degradation(
    blur=GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=60),
    noise=Noise(sigma=2 / 255),
    jpeg=Jpeg.of_quality(90),
)
NO_BLUR = replace(QUICK, fewest=1000)
"""Looks for noise and compression alone, in a tenth of the time."""
MIXED = ((13, 16), (32, 32), (35, 44), (24, 17))

Make = Callable[..., Estimate]
Told = list[tuple[str, int, int]]


@pytest.fixture(scope="module", autouse=True)
def _few_are_read() -> Iterator[None]:
    """The search for compression reads 4 images of a set in place of 24."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimator, "_MOST_READ", 4)
        yield


@pytest.fixture(scope="module")
def noisy() -> Estimate:
    return estimate_degradation(evidence(pieces(NOISY)), QUICK)


@pytest.fixture(scope="module")
def hidden() -> tuple[Estimate, Told]:
    """Of noise that is the same in all colours, and what was told on the way."""
    degradation = Degradation(blur=NOISY.blur, noise=Noise(sigma=3 / 255, coloured=False))
    told: Told = []
    found = estimate_degradation(
        evidence(pieces(degradation)), QUICK, on_estimate=lambda what, done, total: told.append((what, done, total))
    )
    return found, told


def as_files(images: list[Tensor], **options: object) -> list[tuple[bytes, Tensor]]:
    """JPEG files by Pillow, and their pixels."""
    out = []
    for image in images:
        file = io.BytesIO()
        levels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(file, "JPEG", **options)
        pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255
        out.append((file.getvalue(), pixels))
    return out


def assert_blur(found: GaussianBlur | None, true: object, within: float) -> None:
    """Both widths, and the tilt's side."""
    assert found is not None
    assert isinstance(true, GaussianBlur)
    assert found.sigma_major == pytest.approx(true.sigma_major, abs=within)
    assert found.sigma_minor == pytest.approx(true.sigma_minor, abs=within)
    assert float(found.covariance()[0, 1]) * float(true.covariance()[0, 1]) > 0


def cropped(images: list[Tensor], *qualities: int) -> list[Tensor]:
    """Images as they were cut, two columns and three rows off the grid, out of pictures saved at these qualities."""
    for quality in qualities:
        images = [pixels[:, 3:, 2:] for _, pixels in as_files(images, quality=quality)]
    return images


class TestCropsOfCompressedPictures:
    def test_quality_is_found_and_noise_is_not_told_apart_from_it(self) -> None:
        found = estimate_degradation(evidence(cropped(pieces(CLEAN, (40, 40)), 75)[:30]), QUICK)
        assert found.jpeg_from == "pixels"
        assert found.degradation.jpeg is not None
        assert found.degradation.jpeg.quality == pytest.approx(75, abs=1)
        assert found.degradation.noise is None

    @pytest.mark.parametrize("tables", [False, True])
    def test_under_a_later_save_the_first_is_found(self, tables: bool) -> None:
        """Whether the later save is seen in the pixels or said by the files' tables."""
        files = as_files(cropped(pieces(CLEAN, (40, 40))[:8], 60), quality=92)
        jpeg = jpeg_of(files[0][0]) if tables else None
        found = estimate_degradation(evidence([pixels for _, pixels in files], jpeg), NO_BLUR)
        assert found.degradation.jpeg is not None
        assert found.degradation.jpeg.quality == pytest.approx(60, abs=1)
        assert found.jpeg_from == "pixels"

    @pytest.mark.parametrize("quality", [None, 40])
    def test_a_lone_image_that_is_not_searched_with_the_others_keeps_what_it_shows(self, quality: int | None) -> None:
        """All but it, of JPEG 75, look alike to a search of every fourth image."""
        images = pieces(CLEAN, (40, 40))
        alike = cropped(images, 75)[:15]
        lone = (cropped(images, quality) if quality else [image[:, 5:37, 3:35] for image in images])[15]
        found = estimate_degradation(evidence([*alike, lone]), NO_BLUR)
        assert found.degradation.jpeg is not None
        assert found.degradation.jpeg.quality == pytest.approx(75, abs=1)
        jpeg = found.of(f"{15:064x}").jpeg
        assert (jpeg is None) if quality is None else (jpeg is not None and abs(jpeg.quality - quality) <= 1)

    def test_an_unknown_quality_counts_as_that_of_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known, unknown, none = (
            CompressionGroup(
                images=images, jpeg=jpeg, outer=None, evidence=nats, phases=((1, 2),) * len(images), seen=len(images)
            )
            for images, jpeg, nats in (
                ((0, 1, 2), Jpeg.of_quality(75), 900.0),
                ((3,), None, 40.0),
                ((4,), None, 0.0),
            )
        )
        found = Compression(groups=(known, unknown, none))
        monkeypatch.setattr(estimator, "find_compression", lambda *_: found)
        images = evidence([torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(n)) for n in range(5)])
        estimate = estimate_degradation(images, NO_BLUR)
        assert list(estimate.own_jpeg.values()) == [None]
        assert sorted(estimate.of(one.image.sha256).jpeg is None for one in images) == [False] * 4 + [True]


class TestBlurAndNoise:
    def test_clean(self) -> None:
        found = estimate_degradation(evidence(pieces(CLEAN)), QUICK)
        assert_blur(found.blur_estimated, CLEAN.blur, 0.15)
        assert found.degradation.noise is None or found.degradation.noise.sigma < 0.3 / 255
        assert found.degradation.jpeg is None
        assert found.jpeg_from == "nothing"

    def test_noisy(self, noisy: Estimate) -> None:
        assert_blur(noisy.blur_estimated, NOISY.blur, 0.15)
        assert noisy.degradation.noise is not None
        assert noisy.degradation.noise.sigma * 255 == pytest.approx(2, abs=0.4)
        assert noisy.degradation.noise.coloured
        assert noisy.noise_from == "colours"
        assert len(noisy.noise_by_brightness) == 4

    def test_what_is_sure_is_used_and_said(self, noisy: Estimate) -> None:
        assert not noisy.fallback
        assert noisy.degradation.blur == noisy.blur_estimated
        assert "times as well under this blur as under bicubic" in noisy.why
        certainty = noisy.certainty
        assert certainty is not None
        assert len(certainty.blurs) == QUICK.parts
        assert certainty.spread_db > certainty.bicubic_db
        assert certainty.misfit < 0.5 * certainty.misfit_bicubic
        assert 0 < certainty.sigma_major < 0.2
        assert "LR pixels" in noisy.summary
        assert noisy.degradation_sha256 == noisy.degradation.sha256

    def test_motion_is_used_and_said(self, tmp_path: Path) -> None:
        motion = MotionBlur(length=3.5, angle_degrees=30)
        found = estimate_degradation(evidence(pieces(Degradation(blur=motion, noise=Noise(sigma=1 / 255)))), QUICK)
        blur = found.degradation.blur
        assert isinstance(blur, MotionBlur)
        assert blur.length == pytest.approx(motion.length, rel=0.15)
        assert blur.angle_degrees == pytest.approx(motion.angle_degrees, abs=8)
        assert found.summary.startswith("motion of ")
        assert found.noise_from == "colours"
        assert found.certainty is not None
        assert {part.kind for part in found.certainty.blurs} == {"motion"}
        path = tmp_path / "case.json"
        path.write_bytes(encode_estimate(found))
        assert read_estimate(path) == found

    def test_gray_images(self) -> None:
        """Also where they are stored as three equal channels, which say nothing of their noise."""
        gray = pieces(NOISY, gray=True)
        found = estimate_degradation(evidence(gray), QUICK)
        assert_blur(found.blur_estimated, NOISY.blur, 0.2)
        plain, threefold = (
            estimate_degradation(evidence([image.expand(count, -1, -1) for image in gray]), NO_BLUR) for count in (1, 3)
        )
        assert found.noise_from == "recurrence"
        assert plain.noise_from == threefold.noise_from == "nothing"
        assert found.degradation.noise is not None
        assert not found.degradation.noise.coloured
        assert found.degradation.noise.sigma * 255 == pytest.approx(2, abs=0.8)
        assert plain.degradation == threefold.degradation

    def test_noise_that_rises_with_brightness(self) -> None:
        rising = Degradation(blur=CLEAN.blur, noise=Noise(sigma=4 / 255, shot=0.9))
        steady = rising.model_copy(update={"noise": Noise(sigma=4 / 255)})
        found, other = (
            estimate_degradation(evidence(pieces(one)), NO_BLUR).degradation.noise for one in (rising, steady)
        )
        assert found is not None
        assert other is not None
        assert other.sigma * 255 == pytest.approx(4, abs=0.5)
        # The least noisy of three colours is seen, which is the darkest of them: a bound from below.
        assert 2.8 < found.sigma * 255 < 4.2
        assert found.shot > 0.5 > 0.2 > other.shot

    def test_noise_that_colours_do_not_tell_is_read_from_luma(self, hidden: tuple[Estimate, Told]) -> None:
        """A video's, whose colours were stored at half the size: red, green and blue have the same noise."""
        found, _ = hidden
        assert found.noise_from == "recurrence"
        assert found.noise_by_brightness == ()
        assert found.degradation.noise is not None
        assert not found.degradation.noise.coloured
        assert found.degradation.noise.sigma * 255 == pytest.approx(3, abs=1)
        assert_blur(found.blur_estimated, NOISY.blur, 0.25)

    @pytest.mark.parametrize("quality", [None, 75])
    def test_images_that_were_not_blurred_are_taken_as_bicubic(self, quality: int | None) -> None:
        """No scene recurs exactly, so they seem blurred by a third of a pixel, which would cost decibels."""
        kept = None if quality is None else Jpeg.of_quality(quality)
        found = estimate_degradation(evidence(pieces(Degradation(jpeg=kept)), kept), QUICK)
        assert found.fallback
        assert found.why.startswith("bicubic is assumed: small structures recur ")
        assert found.degradation == Degradation(jpeg=kept, noise=found.degradation.noise)

    def test_copies_tell_nothing_new(self) -> None:
        images = pieces(NOISY)[:3] * 8
        found = estimate_degradation(evidence(images), QUICK)
        assert found.why.startswith("bicubic is assumed: 3 parts")
        assert len(found.images) == 24

    def test_mixed_sizes(self) -> None:
        """Images below 16 pixels have no part in the blur, and are named all the same."""
        images = pieces(NOISY, *MIXED)
        found = estimate_degradation(evidence(images), QUICK)
        assert found.certainty is not None
        assert found.certainty.tiles == sum(min(image.shape[1:]) >= 16 for image in images) < len(images)
        assert len(found.images) == len(images)
        assert_blur(found.blur_estimated, NOISY.blur, 0.3)


class TestCompression:
    def test_by_tables_and_by_pixels(self) -> None:
        """Without their files' tables, the pixels say the same."""
        images = pieces(COMPRESSED)[:24]
        found = estimate_degradation(evidence(images, COMPRESSED.jpeg), QUICK)
        by_pixels = estimate_degradation(evidence(images[:4]), NO_BLUR)
        assert found.degradation.jpeg == by_pixels.degradation.jpeg == COMPRESSED.jpeg
        assert (found.jpeg_qualities, by_pixels.jpeg_qualities) == ({"90": 24}, {"90": 4})
        assert (found.jpeg_from, by_pixels.jpeg_from, found.noise_from) == ("tables", "pixels", "recurrence")
        assert_blur(found.blur_estimated, COMPRESSED.blur, 0.25)

    def test_of_files(self) -> None:
        files = as_files(pieces(NOISY), quality=75, subsampling=2)
        looked_at = [
            Evidence(CaseImage(name=f"{n}.jpg", sha256=f"{n:064x}"), pixels, jpeg_of(file))
            for n, (file, pixels) in enumerate(files)
        ]
        assert estimate_degradation(looked_at, NO_BLUR).degradation.jpeg == Jpeg.of_quality(75)

    def test_of_several_qualities_the_middle_one(self) -> None:
        images = pieces(CLEAN)[:9]
        qualities = [60, 60, 75, 75, 75, 90, 95, 95, 95]
        mixed = [
            Evidence(one.image, one.pixels, Jpeg.of_quality(quality))
            for one, quality in zip(evidence(images), qualities, strict=True)
        ]
        found = estimate_degradation(mixed[::2] + mixed[1::2], QUICK)
        assert found.degradation.jpeg == Jpeg.of_quality(75)
        assert found.jpeg_qualities == {"60": 2, "75": 3, "90": 1, "95": 3}

    def test_tables_of_few_files_are_not_the_cases(self) -> None:
        images = evidence(pieces(CLEAN)[:9])
        few = [Evidence(one.image, one.pixels, Jpeg.of_quality(60)) for one in images[:4]]
        assert estimate_degradation(few + images[4:], QUICK).degradation.jpeg is None

    def test_jpeg_of_a_file(self, astronaut: Tensor) -> None:
        ((file, _),) = as_files([astronaut], quality=83, subsampling=0)
        assert jpeg_of(file) == Jpeg.of_quality(83, halved=False)
        own = [step + 1 for step in tables_of(75)[0]]
        ((file, _),) = as_files([astronaut], quality=50, qtables=[own, own])
        found = jpeg_of(file)
        assert found is not None
        assert (found.luma, found.chroma) == (tuple(own), tuple(own))
        assert 68 <= found.quality <= 75
        assert jpeg_of(b"no JPEG") is None


class TestRepeats:
    def test_same_seed_same_bytes_in_any_order(self, noisy: Estimate) -> None:
        images = evidence(pieces(NOISY))
        again = estimate_degradation(images[::-1][7:] + images[::-1][:7], QUICK)
        assert encode_estimate(again) == encode_estimate(noisy)

    def test_progress_never_exceeds_its_total(self, hidden: tuple[Estimate, Told]) -> None:
        """Also where the colours' noise is given up, and the search begins anew."""
        _, told = hidden
        for phase in ("blur", "certainty", "motions", "thirds"):
            counts = [done for what, done, _ in told if what == phase]
            totals = {total for what, _, total in told if what == phase}
            assert counts == list(range(1, len(counts) + 1))
            assert len(counts) > (1 if phase == "motions" else 10)  # motions are tried once each lens
            assert len(totals) == 1
            assert len(counts) <= totals.pop()
        assert {what for what, _, _ in told} == {"blur", "certainty", "motions", "thirds"}


class TestFallback:
    @pytest.mark.parametrize("count", [0, 1, 9])
    def test_too_few_images(self, count: int) -> None:
        found = estimate_degradation(evidence(pieces(NOISY)[:count]), QUICK)
        assert found.fallback
        assert found.degradation.blur is None
        assert found.blur_estimated is None
        assert found.certainty is None
        assert found.why.startswith(f"bicubic is assumed: {count} part")
        assert " of images of 16 pixels a side or more are too few" in found.why
        assert "10 are needed" in found.why
        assert "bicubic" in found.summary
        assert len(found.images) == count

    def test_images_that_are_too_small_tell_noise_and_no_blur(self) -> None:
        found = estimate_degradation(evidence(pieces(NOISY, (13, 15))), QUICK)
        assert found.fallback
        assert found.why.startswith("bicubic is assumed: 0 parts")
        assert found.noise_from == "colours"
        assert found.degradation.noise is not None
        assert found.degradation.noise.sigma * 255 == pytest.approx(2, abs=0.5)

    def test_what_is_not_sure_enough_is_not_used(self, noisy: Estimate) -> None:
        """And of another seed it is another estimate, close by."""
        found = estimate_degradation(evidence(pieces(NOISY)), replace(QUICK, certainty=1e6), seed=1)
        assert found.fallback
        assert found.degradation.blur is None
        assert found.degradation.noise is not None
        assert found.blur_estimated != noisy.blur_estimated
        assert_blur(found.blur_estimated, noisy.blur_estimated, 0.15)
        assert found.why.startswith("bicubic is assumed: the blur is")

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_flat_images_say_nothing(self, value: float) -> None:
        """As many copies of a black, gray or white one: nothing is made up."""
        found = estimate_degradation(evidence([torch.full((3, 32, 32), value)] * 12), QUICK)
        assert found.fallback
        assert found.degradation == Degradation()


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "case.json"

    def refused(self, path: Path, content: bytes | str | dict[str, Any] | None = None) -> str:
        if content is not None:
            text = json.dumps(content) if isinstance(content, dict) else content
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(SettingsError) as caught:
            read_estimate(path)
        said = str(caught.value)
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
        return said

    def test_there_and_back(self, noisy: Estimate, make_estimate: Make, path: Path) -> None:
        kernel = Degradation(blur=KernelBlur(values=((0.5, 0.5),), scale=(1, 2)))
        for made in (noisy, *(make_estimate("0" * 64, degradation=one) for one in (COMPRESSED, kernel))):
            path.write_bytes(encode_estimate(made))
            assert read_estimate(path) == made
            assert encode_estimate(read_estimate(path)) == encode_estimate(made)

    def test_missing(self, path: Path) -> None:
        assert "no such file" in self.refused(path)
        assert "cannot be read" in self.refused(path.parent)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            *(
                (content, "")
                for content in (b"", b"no JSON", b"{", b"[1, 2]", b'{"a": 1}', b"null", b"\xff\xd8\xff\x00")
            ),
            ('{"groups": [{"group": "a"}]}', "(groups.0.estimate: "),
            ('{"groups": [{"group": 1}, {"group": 2}]}', "(groups.0.group: "),
            ('{"groups": []}', "(groups: "),
            ('{"groups": {"group": "a"}}', "(groups: "),
            ("[" * 100_000, "recursion limit"),
            ('{"groups":' * 100_000, "recursion limit"),
        ],
    )
    def test_other_content(self, content: bytes | str, words: str, path: Path) -> None:
        """Of an estimate, and of a run with several cameras."""
        said = self.refused(path, content)
        assert "is no degradation" in said
        assert words in said

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("blur", {"kind": "kernel", "values": [[-1.0]], "scale": [2, 2]}),
            ("blur", {"kind": "kernel", "values": [[1.0]], "scale": [0, 2]}),
            ("blur", {"kind": "gaussian", "sigma_major": -1, "sigma_minor": 0}),
            ("jpeg", {"quality": 75, "luma": [0] * 64, "chroma": [1] * 64}),
            ("noise", {"sigma": 2}),
        ],
    )
    def test_bad_values_name_their_place(self, noisy: Estimate, key: str, value: dict[str, object], path: Path) -> None:
        values = json.loads(encode_estimate(noisy))
        values["degradation"][key] = value
        assert f"(degradation.{key}" in self.refused(path, values)

    def test_changed_after_it_was_hashed(self, noisy: Estimate, path: Path) -> None:
        """The degradation, and the evidence, on which a result's label depends."""
        values = json.loads(encode_estimate(noisy))
        assert "schema_version" in self.refused(path, values | {"schema_version": 2})
        changes: list[dict[str, Any]] = [{"images": []}, {"images": values["images"][:1]}, {"fallback": True}]
        blur = values["degradation"]["blur"]
        wider = values["degradation"] | {"blur": blur | {"sigma_major": blur["sigma_major"] + 0.1}}
        for change in (*changes, {"why": "it was said"}, {"degradation": wider}):
            assert "changed after it was hashed" in self.refused(path, values | change)
        del values["evidence_sha256"]
        assert "changed after it was hashed" in self.refused(path, values)

    def test_only_what_was_given_lists_no_images(self, make_estimate: Make, path: Path) -> None:
        path.write_bytes(encode_estimate(make_estimate()))
        assert read_estimate(path).given
        hashed_anew = make_estimate("0" * 64).model_copy(update={"images": ()})
        for one in (hashed_anew, hashed_anew.model_copy(update={"certainty": None})):
            assert "lists no image" in self.refused(path, encode_estimate(one))
