"""BMP, WebP, AVIF and HEIF: alpha, profiles, orientation, ill metadata, and refusals by name."""

import io
import struct
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms

from zssr_gan.errors import ImageError
from zssr_gan.imaging import formats
from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.vp8 import luma_step

RGB = skimage.data.astronaut()[40:64, 200:232]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
ILL_EXIF = b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff"


def levels(picture):
    return (picture.pixels * (2**picture.bits - 1)).round().int().permute(1, 2, 0).numpy()


def saved(kind, samples=RGB, **options):
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x112], block[271] = orientation, "Maker"
    return block.tobytes()


class TestBmp:
    def bmp(self, alpha, *, size=108, space=0x73524742, tail=b"", numbers=(0,) * 12):
        """32 bits a pixel with masks for all four channels, and a header of version 4 (108 bytes) or 5 (124)."""
        pixels = np.dstack([RGB[::-1, :, ::-1], np.broadcast_to(alpha, RGB.shape[:2]).astype(np.uint8)]).tobytes()
        height, width = RGB.shape[:2]
        header = struct.pack("<LllHHLLllLL", size, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
        header += struct.pack("<LLLLL", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, space) + struct.pack("<12L", *numbers)
        if size == 124:
            header += struct.pack("<LLLL", 4, size + len(pixels), len(PROFILE), 0)
        return (
            struct.pack("<2sLHHL", b"BM", 14 + size + len(pixels) + len(tail), 0, 0, 14 + size) + header + pixels + tail
        )

    @pytest.mark.parametrize("size", [108, 124])
    def test_alpha_of_zero_everywhere_is_opaque(self, size):
        picture = decode_picture(self.bmp(0, size=size), "x.bmp")
        assert picture.alpha is None
        assert np.array_equal(levels(picture), RGB)
        ramp = np.arange(32)[None]
        picture = decode_picture(self.bmp(ramp, size=size), "x.bmp")
        assert np.array_equal(levels(picture), RGB)
        assert np.array_equal((picture.alpha[0, 0] * 255).round(), ramp[0])

    @pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
    def test_masks_with_alpha(self, size):
        """Compression 6, BI_ALPHABITFIELDS of Windows CE: behind a header of 40 bytes stand four masks."""
        data = self.bmp(np.arange(32)[None], size=max(size, 108))
        data = data[:14] + struct.pack("<L", size) + data[18:30] + struct.pack("<L", 6) + data[34:]
        if size < 108:
            data = data[:10] + struct.pack("<L", 70) + data[14:70] + data[122:]
        picture = decode_picture(data, "x.bmp")
        assert np.array_equal(levels(picture), RGB)
        assert np.array_equal((picture.alpha[0, 0] * 255).round(), np.arange(32))

    @pytest.mark.parametrize("top_down", [False, True])
    @pytest.mark.parametrize(("size", "compression"), [(40, 6), (56, 3), (124, 3)])
    def test_alpha_of_one_bit(self, size, compression, top_down):
        stored = np.random.default_rng(0).integers(0, 2**16, (4, 5), np.uint16)
        rows = np.pad(stored if top_down else stored[::-1], ((0, 0), (0, 1))).tobytes()
        start = 14 + max(size, 56)
        header = struct.pack("<LllHHLLllLL", size, 5, -4 if top_down else 4, 1, 16, compression, len(rows), 0, 0, 0, 0)
        header += struct.pack("<LLLL", 0x7C00, 0x3E0, 0x1F, 0x8000)
        data = struct.pack("<2sLHHL", b"BM", start + len(rows), 0, 0, start) + header.ljust(start - 14, b"\0") + rows
        picture = decode_picture(data, "x.bmp")
        assert np.array_equal(picture.alpha[0].numpy() == 1, stored >= 2**15)
        assert np.array_equal((picture.pixels[0] * 31).round().numpy(), stored >> 10 & 31)

    def files(self):
        """One of each kind of header and of storage."""
        palette = Image.fromarray(RGB).quantize(16)
        runs = bytes([32, 7, 0, 0]) * 24 + b"\0\1"
        coded = struct.pack("<LllHHLLllLL", 40, 32, 24, 1, 8, 1, len(runs), 0, 0, 4, 0) + bytes(range(16)) + runs
        old = struct.pack("<LHHHH", 12, 32, 24, 1, 24) + RGB[::-1, :, ::-1].tobytes()
        found = [saved("BMP"), saved("BMP", np.asarray(palette)), self.bmp(9), self.bmp(9, size=124)]
        for start, body in ((14 + 40 + 16, coded), (26, old)):
            found.append(struct.pack("<2sLHHL", b"BM", 14 + len(body), 0, 0, start) + body)
        return found

    def test_a_short_file_is_named_in_words(self):
        for data in self.files():
            decode_picture(data, "x.bmp")
            header = 14 + int.from_bytes(data[14:18], "little")
            for length in (14, 17, 22, header - 1):
                with pytest.raises(ImageError, match="its header is not complete"):
                    decode_picture(data[:length], "x.bmp")
            for length in (header, header + 9, len(data) - 9):
                with pytest.raises(ImageError, match=r"\(its pixels are not complete\)"):
                    decode_picture(data[:length], "x.bmp")

    def test_pixels_that_begin_in_the_header_are_refused(self):
        for data in self.files():
            for start in (0, 10, 13 + int.from_bytes(data[14:18], "little")):
                with pytest.raises(ImageError, match=f"begin at byte {start}, before the end of its header"):
                    decode_picture(data[:10] + start.to_bytes(4, "little") + data[14:], "x.bmp")

    @pytest.mark.parametrize(("compression", "bits"), [(4, 24), (5, 24), (11, 32)])
    def test_what_pillow_does_not_read_is_not_called_damaged(self, compression, bits):
        data = self.bmp(255)
        data = data[:28] + struct.pack("<HL", bits, compression) + data[34:]
        with pytest.raises(ImageError, match="a kind that is not read"):
            decode_picture(data, "x.bmp")

    def test_profile_is_carried(self):
        data = self.bmp(255, size=124, space=0x4D424544, tail=PROFILE)
        assert decode_picture(data, "x.bmp").metadata.icc == PROFILE
        picture = decode_picture(data[:-9], "x.bmp")
        assert picture.metadata.icc is None
        assert "profile" in picture.notices[0]

    def test_calibration_becomes_colour_signalling(self):
        primaries = [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)]
        luminance = (0.2126, 0.7152, 0.0722)
        ends = [part for (x, y), lum in zip(primaries, luminance, strict=True)
                for part in (x * lum / y, lum, (1 - x - y) * lum / y)]  # fmt: skip
        numbers = (*(round(value * 2**30) for value in ends), *[round(2.2 * 65536)] * 3)
        colour = dict(decode_picture(self.bmp(255, space=0, numbers=numbers), "x.bmp").metadata.colour)
        assert colour["gAMA"] == struct.pack(">L", 45455)
        assert np.array(struct.unpack(">8L", colour["cHRM"])) / 1e5 == pytest.approx(
            [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06], abs=1e-3
        )
        assert decode_picture(self.bmp(255, space=0), "x.bmp").metadata.colour == ()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_of_zero_everywhere_is_named(kind):
    samples = np.dstack([RGB, np.zeros_like(RGB[:, :, :1])])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = decode_picture(saved(kind, samples, **options), "x")
    assert picture.alpha.max() == 0
    assert "alpha is 0" in picture.notices[0]


class TestWebp:
    def parts(self, data):
        at, found = 12, []
        while at < len(data):
            kind, size = struct.unpack_from("<4sL", data, at)
            found.append((kind, data[at + 8 : at + 8 + size]))
            at += 8 + size + size % 2
        return found

    def test_metadata_is_carried(self):
        data = saved("WEBP", lossless=True, icc_profile=PROFILE, exif=exif(3), xmp=XMP)
        picture = decode_picture(data, "x.webp")
        assert np.array_equal(levels(picture), RGB[::-1, ::-1])
        assert picture.notices == ()
        for extension in ("png", "tif"):
            metadata = decode_picture(encode_picture(picture, extension), "y").metadata
            assert (metadata.icc, metadata.xmp) == (PROFILE, XMP)
            assert b"Maker" in metadata.exif

    @pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
    def test_ill_metadata_cost_no_pixels(self, options):
        sound = decode_picture(saved("WEBP", **options), "x")
        data = saved("WEBP", **options, icc_profile=b"x" * 200, exif=ILL_EXIF, xmp=b"<x")
        picture = decode_picture(data, "x")
        assert np.array_equal(picture.pixels, sound.pixels)
        for word in ("profile", "EXIF", "XMP"):
            assert word in " ".join(picture.notices)
        assert len(self.parts(data)) >= 4
        cut = decode_picture(data[:-3], "x")
        assert np.array_equal(cut.pixels, sound.pixels)
        assert "cut short" in " ".join(cut.notices)

    def test_lossy_ones_say_how_coarsely_they_are_quantised(self):
        """With four segments, as libwebp writes them, and with one."""
        steps = {quality: decode_picture(saved("WEBP", quality=quality), "x").webp_step for quality in (20, 60, 90)}
        assert 35 < steps[20] < 60
        assert 15 < steps[60] < 25
        assert 4 < steps[90] < 9
        assert decode_picture(saved("WEBP", quality=100), "x").webp_step == pytest.approx(4 / 2 * 255 / 219)
        assert decode_picture(saved("WEBP", quality=60), "x").footage
        lossless = decode_picture(saved("WEBP", lossless=True), "x")
        assert (lossless.webp_step, lossless.footage) == (None, None)

    @pytest.mark.parametrize("content", [b"", bytes(10), b"\0\0\0\x9d\x01\x2a", b"\0\0\0\x9d\x01\x2a" + b"\xff" * 12])
    def test_a_damaged_header_says_no_quantiser(self, content):
        assert luma_step(content) is None or luma_step(content) > 0

    def test_cut_pixels_are_refused(self):
        data = saved("WEBP", lossless=True, icc_profile=PROFILE)
        for end in (len(data) - 9, len(data) // 2, 30):
            with pytest.raises(ImageError, match="truncated"):
                decode_picture(data[:end], "x")


@pytest.mark.skipif(not formats.features.check("avif"), reason="Pillow without AVIF")
class TestAvif:
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_is_read(self, orientation):
        data = saved("AVIF", quality=100, subsampling="4:4:4", exif=exif(orientation), icc_profile=PROFILE, xmp=XMP)
        picture = decode_picture(data, "x.avif")
        upright = np.rot90(RGB, {1: 0, 3: 2, 6: -1, 8: 1}[orientation]).astype(int)
        assert np.abs(levels(picture) - upright).mean() < 3
        assert picture.metadata.icc == PROFILE
        assert picture.metadata.xmp == XMP
        assert b"Maker" in picture.metadata.exif

    def test_is_refused_by_name(self, monkeypatch):
        monkeypatch.setattr(formats.features, "check", lambda _: False)
        with pytest.raises(ImageError, match=r"AVIF image.*install pillow"):
            decode_picture(saved("PNG")[:0] + b"\0\0\0\x1cftypavif" + bytes(20), "x.avif")

    def test_cut(self):
        data = saved("AVIF", quality=80)
        for end in (30, len(data) // 2, len(data) - 200):
            with pytest.raises(ImageError):
                decode_picture(data[:end], "x")

    def test_ill_exif_costs_no_pixels(self):
        data = saved("AVIF", quality=90, exif=exif(1))
        ill = data.replace(exif(1)[6:16], b"MM\0*\xff\xff\xff\xff\0\0") if exif(1)[6:16] in data else data
        picture = decode_picture(ill, "x")
        assert picture.pixels.shape == (3, 24, 32)
        assert ill == data or picture.metadata.exif is None or picture.notices

    def test_colour_signalling(self):
        data = saved("AVIF", quality=90)
        assert decode_picture(data, "x").metadata.colour == ()
        at = data.index(b"colrnclx")
        wide = data[: at + 8] + struct.pack(">HH", 9, 16) + data[at + 12 :]
        assert decode_picture(wide, "x").metadata.colour == (("cICP", bytes([9, 16, 0, 1])),)


class TestHeif:
    def heif(self, samples=RGB, mode="RGB", **options):
        pillow_heif = pytest.importorskip("pillow_heif")
        buffer = io.BytesIO()
        size = (samples.shape[1], samples.shape[0])
        pillow_heif.from_bytes(mode=mode, size=size, data=samples.tobytes()).save(buffer, **options)
        return buffer.getvalue()

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_is_read(self, orientation):
        pytest.importorskip("pillow_heif")
        data = self.heif(quality=100, exif=exif(orientation), xmp=XMP, icc_profile=PROFILE, chroma=444)
        picture = decode_picture(data, "x.heic")
        # Its own transformation, where a writer makes one of the orientation, has turned it: EXIF's tag must not again.
        assert picture.pixels.shape in ((3, 24, 32), (3, 32, 24))
        upright = RGB if picture.pixels.shape[2] == 32 else np.rot90(RGB, -1)
        assert np.abs(levels(picture) - upright.astype(int)).mean() < 4
        block = Image.Exif()
        block.load(picture.metadata.exif)
        assert (block[0x112], block[271]) == (1, "Maker")
        assert picture.metadata.xmp == XMP

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_resolution_turns_with_the_pixels(self, orientation):
        block = Image.Exif()
        block[0x112], block[0x11A], block[0x11B], block[0x128] = orientation, 72, 144, 2
        picture = decode_picture(self.heif(exif=block.tobytes()), "x.heic")
        assert picture.metadata.dpi == ((144, 72) if orientation in (6, 8) else (72, 144))

    def test_ten_bits_are_sixteen(self):
        samples = RGB.astype(np.uint16) * 257
        picture = decode_picture(self.heif(samples, "RGB;16", quality=-1, chroma=444), "x.heic")
        assert picture.bits == 16
        assert np.abs(levels(picture) - samples.astype(int)).mean() < 400
        assert decode_picture(self.heif(samples * 0 + 65535, "RGB;16", quality=-1), "x").pixels.max() == 1

    def test_alpha(self):
        samples = np.dstack([RGB, np.broadcast_to(np.arange(32, dtype=np.uint8) * 8, RGB.shape[:2])[:, :, None]])
        picture = decode_picture(self.heif(samples, "RGBA", quality=-1), "x.heic")
        assert np.abs((picture.alpha[0] * 255).numpy() - samples[:, :, 3]).max() <= 2

    def test_damaged(self):
        data = self.heif(quality=80)
        for end in (30, len(data) // 2):
            with pytest.raises(ImageError, match="damaged or truncated"):
                decode_picture(data[:end], "x")

    def test_is_refused_by_name(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        for brand in (b"heic", b"mif1", b"heix"):
            with pytest.raises(ImageError, match=r"HEIC image.*zssr-gan\[heif\]"):
                decode_picture(b"\0\0\0\x1cftyp" + brand + bytes(4) + b"heicmif1" + bytes(8), "x.heic")
        with pytest.raises(ImageError, match="is a video"):
            decode_picture(b"\0\0\0\x1cftypisom" + bytes(4) + b"isommp42" + bytes(8), "x.mp4")
