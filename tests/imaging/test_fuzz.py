"""Damaged files of every kind: each gives a picture or one clean ImageError, never another exception."""

import contextlib
import io
import random
import resource
import struct
import time
import zlib

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms, features

from zssr_gan.errors import ImageError
from zssr_gan.imaging.io import decode_picture, encode_picture

MUTANTS = 500

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'

PAGES = ("png-animated", "tiff-pages")

CHECKSUMS = ("png", "png-palette", "png-texts", "png16")
"""Kinds whose pixels, and how they are stored, have a checksum."""

CHUNKS = [b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"eXIf", b"zTXt", b"iTXt",
          b"acTL"]  # fmt: skip


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

    def previews(samples: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            writer.write(samples[::2, ::2], photometric="rgb", subfiletype=1, subifds=1)
            writer.write(samples[::4, ::4], photometric="rgb", subfiletype=1)
            writer.write(samples, photometric="rgb", compression="zlib")
        return buffer.getvalue()

    picture = Image.fromarray(rgb)
    texts = saved(picture, "JPEG", exif=exif, icc_profile=profile, xmp=XMP, dpi=(300, 300))
    modern = {}
    if features.check("avif"):
        modern["avif"] = saved(picture, "AVIF", exif=exif, xmp=XMP, speed=10)
    with contextlib.suppress(ImportError):
        import pillow_heif

        buffer = io.BytesIO()
        pillow_heif.from_pillow(picture).save(buffer, exif=exif.tobytes(), xmp=XMP)
        modern["heif"] = buffer.getvalue()
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
        "bmp5": bmp5(rgb, profile),
        "tiff-big-endian": tiff(rgb, byteorder=">", compression="zlib", extratags=[(700, 1, len(XMP), XMP, True)]),
        "tiff-previews": previews(rgb),
        "tiff-palette": saved(picture.quantize(16), "TIFF", compression="tiff_adobe_deflate"),
        "tiff-one-bit": saved(picture.convert("1"), "TIFF", compression="group4"),
        "png-texts": encode_picture(decode_picture(texts, "texts"), "png", {"Note": "Łódź"}),
        "jpeg-restarts": saved(picture, "JPEG", restart_marker_blocks=1, xmp=XMP),
        "webp-metadata": saved(picture, "WEBP", exif=exif, icc_profile=profile, xmp=XMP),
        **modern,
        "webp": saved(picture, "WEBP", exif=exif),
        "webp-lossless": saved(Image.fromarray(rgba), "WEBP", lossless=True),
    }


def bmp5(rgb: np.ndarray, profile: bytes) -> bytes:
    """A BMP of 32 bits with alpha, a header of version 5, and a profile."""
    pixels = np.dstack([rgb[::-1, :, ::-1], rgb[::-1, :, :1]]).tobytes()
    header = struct.pack("<LllHHLLllLL", 124, rgb.shape[1], rgb.shape[0], 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<LLLLL", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, 0x4D424544) + bytes(48)
    header += struct.pack("<LLLL", 4, 124 + len(pixels), len(profile), 0)
    body = header + pixels + profile
    return struct.pack("<2sLHHL", b"BM", 14 + len(body), 0, 0, 14 + 124) + body


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


def mutate_inside(data: bytes, kind: str, chance: random.Random) -> bytes:
    """Damage that checksums do not tell: a PNG chunk's content under a new checksum, a field of a TIFF directory."""
    mutant = bytearray(data)
    if kind.startswith("png"):
        at, places = 8, []
        while at < len(data):
            length = int.from_bytes(data[at : at + 4])
            places.append((at, length))
            at += 12 + length
        at, length = chance.choice(places)
        content = mutate(data[at + 8 : at + 8 + length], chance)
        name = chance.choice(CHUNKS) if chance.random() < 0.2 else data[at + 4 : at + 8]
        checksum = zlib.crc32(name + content).to_bytes(4)
        mutant[at : at + 12 + length] = len(content).to_bytes(4) + name + content + checksum
    elif kind.startswith("tiff"):
        big, order = data[2:4] in (b"+\0", b"\0+"), "little" if data[:2] == b"II" else "big"
        first = int.from_bytes(data[8:16] if big else data[4:8], order)  # type: ignore[arg-type]
        step = 20 if big else 12
        for _ in range(chance.choice([1, 1, 3])):
            at = first + (8 if big else 2) + step * chance.randrange(16)
            value = chance.choice([0, 1, 2, 5, 255, 2**16 - 1, 2**31, 2**32 - 1, first, chance.randrange(len(data))])
            if at + step <= len(mutant):
                part, size = chance.choice([(0, 2), (2, 2), (4, 8 if big else 4), (step - 4, 4)])
                mutant[at + part : at + part + size] = (value % 2 ** (8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    return bytes(mutant)


def try_mutants(numbers: range, seed: int, capfd: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """Decode so many mutants of each kind in turn: how many gave a picture, and how many an error."""
    chance = random.Random(seed)
    files = seeds()
    sound = {kind: decode_picture(data, kind).pixels for kind, data in files.items() if kind not in PAGES}
    pictures, messages = 0, []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        kind = list(files)[number % len(files)]
        inside = number % 3 == 0
        mutant = mutate_inside(files[kind], kind, chance) if inside else mutate(files[kind], chance)
        start = time.process_time()
        try:
            picture = decode_picture(mutant, "mutant", max_megapixels=1)
        except ImageError as error:
            messages.append(str(error))
        else:
            pictures += 1
            assert picture.bits in (8, 16)
            assert picture.pixels.shape[0] in (1, 3)
            assert torch.isfinite(picture.pixels).all(), (number, kind)
            if kind in CHECKSUMS and not inside and not picture.notices:
                assert torch.equal(picture.pixels, sound[kind]), (number, kind)
            for extension in ("png", "tif"):
                again = decode_picture(encode_picture(picture, extension), "again")
                assert torch.equal(again.pixels, picture.pixels), (number, kind)
        assert time.process_time() - start < 5, (number, kind)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    assert all(message.startswith("mutant: ") and "\n" not in message for message in messages)
    assert capfd.readouterr() == ("", "")
    return pictures, len(messages)


def test_mutated_files(capfd: pytest.CaptureFixture[str]) -> None:
    pictures, errors = try_mutants(range(MUTANTS), 20261121, capfd)
    assert min(pictures, errors) > MUTANTS // 10  # else the mutants are too tame or too wild to say anything


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_mutated_files(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    pictures, errors = try_mutants(range(2500), seed, capfd)
    assert min(pictures, errors) > 250


def test_sound_files_are_read() -> None:
    """The seeds themselves: else the test above would test refusals alone."""
    for kind, data in seeds().items():
        if kind in PAGES:
            with pytest.raises(ImageError, match="3 pages"):
                decode_picture(data, kind)
        else:
            assert decode_picture(data, kind).pixels.shape[1:] in ((24, 32), (32, 24)), kind
