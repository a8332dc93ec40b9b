"""Damaged files of every kind: each gives a picture or one clean ImageError, never another exception."""

import io
import random
import time

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms

from zssr_gan.errors import ImageError
from zssr_gan.imaging.io import decode_picture, encode_picture

MUTANTS = 500


def seeds() -> dict[str, bytes]:
    """A small sound file of every kind that is read."""
    rgb = skimage.data.astronaut()[40:64, 200:232]
    rgba = np.dstack([rgb, rgb[:, :, :1]])
    rgb16 = rgb.astype(np.uint16) * 257
    block = Image.Exif()
    block[0x0112], block[271], block[0x8769] = 6, "Maker", {0x9003: "2024:05:06 07:08:09"}
    exif = Image.Exif()
    exif.load(block.tobytes())  # Pillow writes sub-directories into TIFF only from a block that was read
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    def saved(image: Image.Image, kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    def tiff(samples: np.ndarray, **options: object) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, samples, photometric="rgb", **options)
        return buffer.getvalue()

    def animated(kind: str) -> bytes:
        # New images each time: saving leaves the settings of an encoder in them.
        first, *others = (Image.fromarray(np.roll(rgb, shift, 0)) for shift in range(3))
        return saved(first, kind, save_all=True, append_images=others)

    picture = Image.fromarray(rgb)
    return {
        "png": saved(picture, "PNG", exif=exif, icc_profile=profile, dpi=(72, 72)),
        "png-palette": saved(picture.quantize(16), "PNG", transparency=1),
        "png-animated": animated("PNG"),
        "png16": imagecodecs.png_encode(rgb16),
        "jpeg": saved(picture, "JPEG", exif=exif, icc_profile=profile),
        "jpeg-progressive": saved(picture, "JPEG", progressive=True),
        "jpeg-cmyk": saved(picture.convert("CMYK"), "JPEG"),
        "mpo": animated("MPO"),
        "tiff": saved(picture, "TIFF", exif=exif),
        "tiff-lzw": saved(picture, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": saved(picture, "TIFF", compression="jpeg"),
        "tiff-pages": animated("TIFF"),
        "tiff16": tiff(rgb16, rowsperstrip=4),
        "tiff16-tiles": tiff(rgb16, tile=(16, 16), compression="zlib", predictor=True),
        "tiff16-lzw": tiff(rgb16, compression="lzw", bigtiff=True),
        "bmp": saved(picture, "BMP"),
        "bmp-palette": saved(picture.quantize(16), "BMP"),
        "webp": saved(picture, "WEBP", exif=exif),
        "webp-lossless": saved(Image.fromarray(rgba), "WEBP", lossless=True),
    }


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One of the ways in which files go bad: flipped bytes, extreme numbers, cut, shifted or repeated parts."""
    mutant = bytearray(data)
    # Half of the damage falls on the first bytes, where headers lie.
    reach = len(mutant) if chance.random() < 0.5 else min(len(mutant), 200)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        if reach < 8:
            break  # hardly anything is left
        at = chance.randrange(reach)
        match chance.randrange(6):
            case 0:
                mutant[at] ^= 1 << chance.randrange(8)
            case 1:
                mutant[at] = chance.randrange(256)
            case 2:
                mutant[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
            case 3:
                del mutant[at : at + chance.randrange(1, 20)]
            case 4:
                mutant[at:at] = mutant[at : at + chance.randrange(1, 20)]
            case 5:
                del mutant[max(len(mutant) - chance.randrange(1, 300), 8) :]
        reach = min(reach, len(mutant))
    return bytes(mutant)


def test_mutated_files(capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20261121)
    files = seeds()
    pictures, messages = 0, []
    for number in range(MUTANTS):
        kind = list(files)[number % len(files)]
        mutant = mutate(files[kind], chance)
        start = time.perf_counter()
        try:
            picture = decode_picture(mutant, "mutant", max_megapixels=4)
        except ImageError as error:
            messages.append(str(error))
        else:
            pictures += 1
            assert picture.bits in (8, 16)
            assert picture.pixels.shape[0] in (1, 3)
            assert torch.isfinite(picture.pixels).all(), (number, kind)
            for extension in ("png", "tif"):
                encode_picture(picture, extension)  # whatever metadata was taken can be written again
        assert time.perf_counter() - start < 5, (number, kind)
    assert all(message.startswith("mutant: ") and "\n" not in message for message in messages)
    assert 50 < pictures < MUTANTS - 50  # else the mutants are too tame or too wild to say anything
    assert capfd.readouterr() == ("", "")


def test_sound_files_are_read() -> None:
    """The seeds themselves: else the test above would test refusals alone."""
    for kind, data in seeds().items():
        if kind in ("png-animated", "tiff-pages"):
            with pytest.raises(ImageError, match="3 pages"):
                decode_picture(data, kind)
        else:
            assert decode_picture(data, kind).pixels.shape in ((3, 24, 32), (3, 32, 24))
