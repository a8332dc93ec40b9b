"""What a result adds to bicubic: amplified noise shows, an equal result does not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.files import TINY
from zssr_gan.degradation.found_compression import ImageCompression
from zssr_gan.degradation.model import Degradation, Jpeg
from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.devices import RunOptions
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import enlarged_size, resize
from zssr_gan.inference import evidence
from zssr_gan.inference.batch import run_plan
from zssr_gan.inference.enhance import enhance_picture
from zssr_gan.inference.evidence import added_variation, blocks_in
from zssr_gan.inference.options import make_request
from zssr_gan.inference.outputs import plan_run
from zssr_gan.inference.record import DegradationFacts, EvidenceFigures
from zssr_gan.inference.region import Region
from zssr_gan.inference.verify import verify_record
from zssr_gan.settings.base import write_yaml


def noise(channels: int = 1, sigma: float = 4.0, size: tuple[int, int] = (48, 40)) -> torch.Tensor:
    """Flat gray with noise of so many levels, rounded to levels."""
    drawn = np.random.default_rng(0).normal(128, sigma, (channels, *size))
    return torch.from_numpy(np.round(drawn)).float() / 255


@pytest.mark.parametrize("scale", [(2, 2), (1.5, 3), (4, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_bicubic_adds_nothing_to_itself(channels: int, scale: tuple[float, float]) -> None:
    lr = noise(channels)
    plain = resize(lr, enlarged_size((48, 40), scale))
    assert float(added_variation((plain * 255).round() / 255, lr).max()) == pytest.approx(0, abs=1e-4)
    assert float(added_variation(plain, lr).max()) < 0.5
    assert not added_variation(torch.full_like(plain, 0.5), lr).any()  # less than bicubic is not more


@pytest.mark.parametrize("scale", [(2, 2), (1.5, 3), (4, 4)])
def test_noise_that_grows_shows_everywhere_with_its_levels(scale: tuple[float, float]) -> None:
    lr = noise()
    plain = resize(lr, enlarged_size((48, 40), scale))
    added = added_variation((plain - 0.5) * 1.5 + 0.5, lr)
    expected = 0.5 * float(plain.std()) * 255
    assert float(added.mean()) == pytest.approx(expected, rel=0.12)
    assert float(added.min()) > 0.2 * expected


def test_it_is_the_deviation_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As numpy computes it, window by window, also at the borders, and in strips of rows."""
    lr = noise(3, size=(11, 9))
    result = torch.rand(3, 22, 18, generator=torch.Generator().manual_seed(0))
    plain = (resize(lr, (22, 18)).clamp(0, 1) * 255).round() / 255

    def deviation(image: torch.Tensor, y: int, x: int) -> float:
        window = image[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].numpy().astype(float)
        return 255 * float(window.std())

    added = added_variation(result, lr)
    for y, x in ((0, 0), (10, 7), (21, 17), (3, 17)):
        expected = np.mean([deviation(result[c], y, x) - deviation(plain[c], y, x) for c in range(3)])
        assert float(added[y, x]) == pytest.approx(max(0.0, expected), abs=1e-3)
    monkeypatch.setattr(evidence, "_ROWS", 5)
    assert torch.allclose(added_variation(result, lr), added, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 16])
def test_flat_noise_is_bright_where_the_other_maps_are_dark(tmp_path: Path, bits: int) -> None:
    settings = {"network": {"depth": 2, "width": 4}, "schedule": {"kind": "cosine", "iterations": 2}}
    (tmp_path / "tiny.yaml").write_text(write_yaml({**settings, "refinement": {"back_projections": 10}}))
    request = make_request(
        2,
        str(tmp_path / "tiny.yaml"),
        init="scratch",
        degradation="bicubic",
        options=RunOptions("cpu", "fp32", threads=1),
    )
    done = enhance_picture(Picture(noise(), None, bits, Metadata()), request)
    assert float(done.picture.pixels.std()) > 1.2 * float(noise().std())  # back-projection writes noise back, and more
    assert float(done.residual.mean()) < 0.3
    assert done.added_variation.shape == (96, 80)
    assert float(done.added_variation.mean()) > 1.0
    figures = done.work.evidence
    assert figures.added_variation_mean == pytest.approx(float(done.added_variation.mean()), abs=1e-3)
    assert figures.added_variation_largest == pytest.approx(float(done.added_variation.max()), abs=1e-3)
    assert figures.added_variation_95th_percentile is not None
    assert figures.added_variation_mean < figures.added_variation_95th_percentile < figures.added_variation_largest


def test_back_projection_alone_shows() -> None:
    lr = noise()
    made = back_project(resize(lr[None], (96, 80)).clone(), lr[None], BicubicDownscale(), 10)[0]
    assert float(added_variation(made, lr).mean()) > 1.0


def test_figures_of_earlier_records_have_none() -> None:
    older = {"views": 8, "disagreement_mean": 1.0, "disagreement_95th_percentile": 2.0, "disagreement_largest": 3.0}
    figures = EvidenceFigures.model_validate({**older, "residual_mean": 0.1, "residual_largest": 0.2})
    assert figures.added_variation_mean is None


class TestBlocks:
    FOUND = ImageCompression(quality=75, saved_again=None, evidence=900.0, seen=4, images=4, phase=(5, 2))

    @pytest.mark.parametrize(("region", "first"), [(None, (5, 2)), ((3, 7, 20, 20), (6, 7)), ((2, 5, 9, 9), (0, 0))])
    def test_they_begin_elsewhere_in_a_region(self, region: Region | None, first: tuple[int, int]) -> None:
        blocks, note = blocks_in(DegradationFacts(compression=self.FOUND), region)
        assert blocks == first
        assert "quality 75: seen in 4 of 4 images" in note

    def test_without_a_place_there_is_a_note_alone(self) -> None:
        assert blocks_in(DegradationFacts(), None) == (None, "")
        found = self.FOUND.model_copy(update={"phase": None})
        blocks, note = blocks_in(DegradationFacts(compression=found), None)
        assert blocks is None
        assert "not known" in note

    def test_of_a_frame_it_is_said_what_stands_for_its_codec(self) -> None:
        facts = DegradationFacts(values=Degradation(jpeg=Jpeg.of_quality(60)), codec="video")
        blocks, note = blocks_in(facts, None)
        assert blocks is None
        assert "a video's compression" in note
        assert "taken as JPEG quality 60" in note

    def test_a_turned_file_s_map_and_record_have_them(self, tmp_path: Path, astronaut: torch.Tensor) -> None:
        """61 x 44 pixels, turned to 44 x 61: of the rows' blocks the cut one is at the left now."""
        levels = (astronaut[:, 10:54, 10:71] * 255).round().byte().permute(1, 2, 0).numpy()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(levels).save(tmp_path / "turned.jpg", quality=75, exif=exif)
        (tmp_path / "tiny.yaml").write_text(write_yaml(TINY))
        request = make_request(
            2, str(tmp_path / "tiny.yaml"), init="scratch", options=RunOptions("cpu", "fp32", threads=1)
        )
        (done,) = run_plan(plan_run([tmp_path / "turned.jpg"], evidence=True), request)
        assert done.record is not None
        compression = done.record.request.degradation.compression
        assert compression is not None
        assert compression.phase == (0, 4)
        shown = read_picture(tmp_path / "turned_x2_evidence.png").pixels
        assert bool(((shown * 255 - torch.tensor([86.0, 180, 233])[:, None, None]).abs() < 1).all(0).any())
        assert verify_record(tmp_path / "turned_x2.json", rerun=True).ok
