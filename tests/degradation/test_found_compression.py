"""What was found of a set's compression: of each image its place in the grid, in words, and from a file back."""

import io

import numpy as np
import torch
from PIL import Image
from skimage import data

from zssr_gan.degradation.compression import find_compression
from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.estimate_lines import lines_of
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.found_compression import set_compressions
from zssr_gan.provenance import CaseImage

CORNERS = [(101 + 33 * n, 42 + 5 * n) for n in range(6)]


def saved(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def evidence(name: str, image: Image.Image, file: bytes = b"") -> Evidence:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return Evidence(CaseImage(name=name, sha256=name), pixels, jpeg_of(file))


def crops() -> list[Evidence]:
    """Six crops of a photograph, and a small file of its own compression."""
    photograph = Image.fromarray(data.astronaut()[:400, 60:460])
    whole = Image.open(io.BytesIO(saved(photograph, 65)))
    made = [evidence(f"crop{n}", whole.crop((x, y, x + 32, y + 32))) for n, (x, y) in enumerate(CORNERS)]
    file = saved(photograph.crop((200, 200, 232, 232)), 95)
    return [*made, evidence("file", Image.open(io.BytesIO(file)), file)]


def test_each_image_has_its_place_and_a_file_its_own() -> None:
    found = estimate_degradation(crops())
    assert Estimate.model_validate_json(encode_estimate(found)) == found
    for n, (x, y) in enumerate(CORNERS):
        one = found.compression_of(f"crop{n}")
        assert one is not None
        assert one.quality is not None
        assert abs(one.quality - 65) <= 1
        assert one.images == 6
        assert one.phase in (None, (-y % 8, -x % 8))
    assert found.compressions[0].seen >= 5
    assert sum(found.compressions[0].places.values()) >= 5
    assert "of 6 images, evidence of" in dict(lines_of(found))["found"] or len(found.compressions) > 1
    own = found.compression_of("file")
    assert own is not None
    assert (own.quality, own.evidence, own.phase) == (95, None, (0, 0))
    assert "the tables of 1 file" in own.summary
    other = found.compression_of("not searched")
    assert other is not None
    assert (other.quality, other.phase) == (found.compressions[0].quality, None)
    assert "this image was not searched itself" in other.summary
    assert "searched itself" not in own.summary


def test_images_without_compression_have_none() -> None:
    clean = torch.from_numpy(data.astronaut()[100:132, 200:232].copy()).permute(2, 0, 1).float() / 255
    assert set_compressions(find_compression([clean]).groups, ["a"]) == ()
