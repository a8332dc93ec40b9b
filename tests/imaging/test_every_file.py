"""Files of every mode, depth, layout and format, compared pixel by pixel with what was written into them."""

import io
import itertools

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.picture import Metadata, from_samples

HEIGHT, WIDTH = 19, 23  # odd, and no multiple of a tile
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
ALPHA = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)


def samples_of(picture):
    parts = picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha])
    return (parts.double() * (2**picture.bits - 1)).round().permute(1, 2, 0).numpy().astype(np.uint16)


def images():
    base = Image.fromarray(RGB)
    made = {mode: base.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA")}
    for mode in ("LA", "RGBA"):
        made[mode].putalpha(Image.fromarray(ALPHA))
    made |= {f"P{colours}": base.quantize(colours) for colours in (2, 4, 16, 256)}
    made["I;16"] = Image.fromarray(RANDOM.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16))
    return made


def expected(image, kind):
    """`H W C` of what a file of this kind holds of an image."""
    image = image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode))
    if kind == "WEBP":  # has colours always
        image = image.convert({"L": "RGB", "LA": "RGBA"}.get(image.mode, image.mode))
    samples = np.asarray(image)
    return samples if samples.ndim == 3 else samples[:, :, None]


OPTIONS = {
    "PNG": [{}, {"bits": 1}, {"bits": 2}, {"bits": 4}, {"optimize": True}],
    "TIFF": [
        *({"compression": kind} for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd",
                                            "lzma", "group3", "group4")),
        {"big_tiff": True},
    ],
    "BMP": [{}],
    "WEBP": [{"lossless": True, "exact": True}],
}  # fmt: skip


@pytest.mark.parametrize("kind", OPTIONS)
def test_files_that_pillow_writes(kind):
    tried = 0
    for (name, image), options in itertools.product(images().items(), OPTIONS[kind]):
        colours = int(name[1:]) if image.mode == "P" else 0
        bits, fax = options.get("bits"), options.get("compression") in ("group3", "group4")
        unwritten = kind in ("BMP", "WEBP") and name in ("LA", "RGBA", "I;16")[kind == "WEBP" and 2 :]
        if (bits and not 0 < colours <= 2**bits) or (fax and name != "1") or unwritten:
            continue
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        picture = decode_picture(buffer.getvalue(), "x")
        assert np.array_equal(samples_of(picture), expected(image, kind)), (name, options)
        tried += 1
    assert tried >= {"PNG": 25, "TIFF": 70, "BMP": 6, "WEBP": 8}[kind]


LAYOUTS = [
    (order, big, tile, planar, predictor, dtype, channels, compression)
    for order, big, tile, planar, predictor, dtype, channels, compression in itertools.product(
        "<>", (False, True), (None, (16, 16)), ("contig", "separate"), (False, True), (np.uint8, np.uint16),
        (1, 2, 3, 4), (None, "zlib", "lzw", "packbits", "zstd"),
    )
    if not (predictor and compression in (None, "packbits")) and not (channels == 1 and planar == "separate")
]  # fmt: skip
"""Byte order, size of offsets, strips or tiles, planes, prediction, depth, channels, compression: 896 files."""


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 7))])
def test_files_that_tifffile_writes(part):
    for order, big, tile, planar, predictor, dtype, channels, compression in LAYOUTS[part::7]:
        samples = RANDOM.integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)
        stored = samples if planar == "contig" else np.ascontiguousarray(samples.transpose(2, 0, 1))
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            stored[:, :, 0] if channels == 1 else stored,
            byteorder=order,
            bigtiff=big,
            tile=tile,
            planarconfig=None if channels == 1 else planar,
            predictor=predictor,
            compression=compression,
            photometric="rgb" if channels > 2 else "minisblack",
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            rowsperstrip=None if tile else 5,
            metadata=None,
        )
        picture = decode_picture(buffer.getvalue(), "x")
        assert np.array_equal(samples_of(picture), samples), (order, big, tile, planar, predictor, dtype, channels)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_files_that_are_written_here(extension):
    texts = (("Title", "caf\xe9"), ("Kanji", "超解像"))
    xmp, iptc, gamma = b"<a/>", b"\x1c\x02\x05\0\1a", (("gAMA", (45455).to_bytes(4)),)
    rich = Metadata(None, None, (300, 150), xmp, iptc, gamma, texts)
    for dtype, channels, metadata in itertools.product((np.uint8, np.uint16), (1, 2, 3, 4), (Metadata(), rich)):
        for height, width in ((1, 1), (HEIGHT, WIDTH), (200, 3)):
            samples = RANDOM.integers(1, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
            data = encode_picture(from_samples(samples, metadata), extension, {"Note": "n"})
            again = decode_picture(data, "x")
            assert again.notices == ()
            assert again.bits == 8 * samples.itemsize
            assert np.array_equal(samples_of(again), samples)
            assert (again.metadata.xmp, again.metadata.iptc) == (metadata.xmp, metadata.iptc)
