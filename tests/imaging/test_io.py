"""Image files in and out: every kind, its metadata, every refusal; made and checked by other libraries."""

import io
import json
import resource
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from zssr_gan.errors import ImageError
from zssr_gan.imaging.endings import READ_KINDS
from zssr_gan.imaging.io import _DECODERS, decode_picture, encode_picture, read_picture, read_provenance
from zssr_gan.imaging.picture import Metadata, Picture, quantise

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RGB8 = skimage.data.astronaut()[40:61, 200:233]  # odd sides, not square
GRAY8 = skimage.data.camera()[100:121, 200:233]


def wide(samples):
    """8-bit samples as 16-bit ones that use the lower bits too."""
    noise = np.random.default_rng(0).integers(0, 256, samples.shape)
    return (samples.astype(np.uint16) * 256 + noise).astype(np.uint16)


def with_alpha(samples):
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    ramp = np.linspace(0, np.iinfo(samples.dtype).max, samples.shape[1]).astype(samples.dtype)
    return np.concatenate([samples, np.broadcast_to(ramp[None, :, None], (*samples.shape[:2], 1))], axis=2)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reloaded(exif):
    """As if read from a file: Pillow writes sub-directories into TIFF only from such a block."""
    again = Image.Exif()
    again.load(exif.tobytes())
    return again


def tiff_bytes(samples, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def samples_of(picture):
    """A picture's pixels as integers `H W C`, alpha last."""
    parts = picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha])
    return (parts.double() * (2**picture.bits - 1)).round().permute(1, 2, 0).numpy().astype(int)


def assert_holds(picture, samples):
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    assert picture.bits == samples.dtype.itemsize * 8
    assert picture.pixels.dtype == torch.float32
    assert picture.pixels.is_contiguous()
    assert 0 <= picture.pixels.min() <= picture.pixels.max() <= 1
    assert np.array_equal(samples_of(picture), samples)


SAMPLES = {
    "gray8": GRAY8,
    "rgb8": RGB8,
    "gray-alpha8": with_alpha(GRAY8),
    "rgba8": with_alpha(RGB8),
    "gray16": wide(GRAY8),
    "rgb16": wide(RGB8),
    "gray-alpha16": with_alpha(wide(GRAY8)),
    "rgba16": with_alpha(wide(RGB8)),
}


class TestRead:
    @pytest.mark.parametrize("name", SAMPLES)
    def test_png(self, name):
        picture = decode_picture(imagecodecs.png_encode(SAMPLES[name]), "x.png")
        assert_holds(picture, SAMPLES[name])
        assert picture.notices == ()

    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("name", SAMPLES)
    def test_tiff(self, name, compression, planar):
        samples = SAMPLES[name]
        options = {"photometric": "rgb" if "rgb" in name else "minisblack", "compression": compression}
        if samples.ndim == 3:
            options["planarconfig"] = planar
            samples = samples if planar == "contig" else np.ascontiguousarray(samples.transpose(2, 0, 1))
        if "a" in name.removeprefix("gray"):
            options["extrasamples"] = ["unassalpha"]
        data = tiff_bytes(samples, metadata=None, **options)
        assert_holds(decode_picture(data, "x.tif"), SAMPLES[name])

    @pytest.mark.parametrize("compression", ["jpeg", "group4", "tiff_lzw", "tiff_adobe_deflate"])
    def test_tiff_written_by_pillow(self, compression):
        image = Image.fromarray(RGB8)
        if compression == "group4":
            image = image.convert("1")
        data = saved(image, "TIFF", compression=compression)
        with Image.open(io.BytesIO(data)) as expected:
            assert_holds(decode_picture(data, "x"), np.asarray(expected.convert("L" if image.mode == "1" else "RGB")))

    @pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}])
    def test_tiff_layouts(self, options):
        for name in ("rgb8", "rgb16"):
            assert_holds(decode_picture(tiff_bytes(SAMPLES[name], **options), "x.tif"), SAMPLES[name])

    @pytest.mark.parametrize("kind", ["BMP", "WEBP"])
    def test_lossless_kinds(self, kind):
        data = saved(Image.fromarray(RGB8), kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert_holds(decode_picture(data, "x"), RGB8)

    def test_webp_alpha(self):
        data = saved(Image.fromarray(with_alpha(RGB8)), "WEBP", lossless=True, exact=True)
        assert_holds(decode_picture(data, "x"), with_alpha(RGB8))

    @pytest.mark.parametrize("samples", [GRAY8, RGB8], ids=["gray", "rgb"])
    def test_jpeg(self, samples):
        data = saved(Image.fromarray(samples), "JPEG", quality=95)
        assert_holds(decode_picture(data, "x.jpg"), np.asarray(Image.open(io.BytesIO(data))))

    def test_one_bit_is_gray(self):
        image = Image.fromarray(GRAY8).convert("1")
        for kind in ("PNG", "TIFF", "BMP"):
            assert_holds(decode_picture(saved(image, kind), "x"), np.asarray(image.convert("L")))

    def test_few_bits_of_gray(self):
        image = Image.fromarray(RGB8).convert("L").quantize(4)
        assert_holds(decode_picture(saved(image, "PNG", bits=2), "x"), np.asarray(image.convert("RGB")))

    def test_palette(self):
        image = Image.fromarray(RGB8).quantize(16)
        for kind in ("PNG", "TIFF", "BMP"):
            assert_holds(decode_picture(saved(image, kind), "x"), np.asarray(image.convert("RGB")))

    def test_palette_transparency(self):
        image = Image.fromarray(RGB8).quantize(16)
        picture = decode_picture(saved(image, "PNG", transparency=3), "x")
        assert np.array_equal(samples_of(picture)[:, :, 3], np.where(np.asarray(image) == 3, 0, 255))

    def test_transparent_gray_and_colour(self):
        gray = decode_picture(saved(Image.fromarray(GRAY8), "PNG", transparency=int(GRAY8[0, 0])), "x")
        assert gray.pixels.shape[0] == 1
        assert np.array_equal(samples_of(gray)[:, :, 1], np.where(GRAY8[0, 0] == GRAY8, 0, 255))
        key = tuple(int(value) for value in RGB8[3, 4])
        colour = decode_picture(saved(Image.fromarray(RGB8), "PNG", transparency=key), "x")
        assert np.array_equal(samples_of(colour)[:, :, 3], np.where((RGB8[3, 4] == RGB8).all(2), 0, 255))

    def test_white_is_zero(self):
        for name in ("gray8", "gray16"):
            data = tiff_bytes(SAMPLES[name], photometric="miniswhite")
            assert_holds(decode_picture(data, "x"), np.iinfo(SAMPLES[name].dtype).max - SAMPLES[name])

    def test_premultiplied_tiff_is_straightened(self):
        straight = with_alpha(wide(RGB8))
        alpha = straight[:, :, 3:].astype(float) / 65535
        stored = np.concatenate([np.rint(straight[:, :, :3] * alpha).astype(np.uint16), straight[:, :, 3:]], axis=2)
        picture = decode_picture(tiff_bytes(stored, photometric="rgb", extrasamples=["assocalpha"]), "x")
        opaque = straight[:, :, 3] > 6000
        assert np.abs(samples_of(picture)[opaque] - straight[opaque].astype(int)).max() <= 6
        assert "premultiplied" in picture.notices[0]
        stored[..., 3] = 0
        hidden = decode_picture(tiff_bytes(stored, photometric="rgb", extrasamples=["assocalpha"]), "x")
        assert np.array_equal(samples_of(hidden)[..., :3], stored[..., :3]), "colours without alpha are as stored"

    def test_channels_that_mean_nothing_are_left_out(self):
        picture = decode_picture(
            tiff_bytes(with_alpha(wide(RGB8)), photometric="rgb", extrasamples=["unspecified"]), "x"
        )
        assert_holds(picture, wide(RGB8))
        assert "left out" in picture.notices[0]

    def test_sixteen_bits_that_look_like_eight(self):
        """The depth is the file's, not guessed from the values."""
        assert decode_picture(imagecodecs.png_encode(np.full((5, 5), 255, np.uint16)), "x").bits == 16

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind):
        image = Image.fromarray(RGB8).convert("CMYK")
        picture = decode_picture(saved(image, kind), "x")
        assert picture.pixels.shape == (3, 21, 33)
        assert "plain formula" in picture.notices[0]
        assert np.abs(samples_of(picture) - RGB8).mean() < 6

    def test_cmyk_with_a_damaged_profile(self):
        picture = decode_picture(saved(Image.fromarray(RGB8).convert("CMYK"), "JPEG", icc_profile=b"x" * 200), "x")
        assert "damaged" in picture.notices[0]
        assert picture.metadata.icc is None

    def test_photograph_of_a_phone(self):
        """A JPEG with further pictures behind the first is still a photograph."""
        first, second = Image.fromarray(RGB8), Image.fromarray(RGB8[::-1])
        picture = decode_picture(saved(first, "MPO", save_all=True, append_images=[second]), "x.jpg")
        assert np.abs(samples_of(picture) - RGB8).mean() < 6
        assert "2 pictures" in picture.notices[0]


class TestMetadata:
    def exif(self, orientation=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[271], exif[270] = "Maker", "A caption"
        exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0x829A: IFDRational(1, 125)}
        exif[0x8825] = {1: "N"}
        return reloaded(exif)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF16"])
    def test_orientation(self, kind, orientation):
        exif = self.exif(orientation)
        stored = {
            1: RGB8,
            2: RGB8[:, ::-1],
            3: RGB8[::-1, ::-1],
            4: RGB8[::-1],
            5: RGB8.transpose(1, 0, 2),
            6: np.rot90(RGB8, 1),
            7: np.rot90(RGB8, 2).transpose(1, 0, 2),
            8: np.rot90(RGB8, -1),
        }[orientation]
        if kind == "TIFF16":
            data = tiff_bytes(np.ascontiguousarray(stored).astype(np.uint16) * 257, photometric="rgb",
                              extratags=[(274, 3, 1, orientation, True)])  # fmt: skip
        else:
            options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
            data = saved(Image.fromarray(stored), kind, exif=exif, **options)
        picture = decode_picture(data, "x")
        assert picture.pixels.shape == (3, 21, 33)
        unit, tolerance = (257 if kind == "TIFF16" else 1), (8 if kind == "JPEG" else 0)
        assert np.abs(samples_of(picture) // unit - RGB8).max() <= tolerance
        again = Image.open(io.BytesIO(encode_picture(picture, "png")))
        assert again.getexif().get(0x0112, 1) == 1

    @pytest.mark.parametrize("name", SAMPLES)
    @pytest.mark.parametrize("extension", ["png", "tif"])
    def test_carried_into_results(self, name, extension):
        source = io.BytesIO(saved(Image.fromarray(RGB8), "JPEG", exif=self.exif(6), icc_profile=SRGB, dpi=(300, 150)))
        metadata = decode_picture(source.getvalue(), "x.jpg").metadata
        if "gray" in name:
            metadata = Metadata(metadata.exif, None, metadata.dpi)
        samples = SAMPLES[name] if SAMPLES[name].ndim == 3 else SAMPLES[name][:, :, None]
        top = np.iinfo(samples.dtype).max
        planes = torch.from_numpy(samples.transpose(2, 0, 1).astype(np.float32) / top)
        colours = 1 if len(planes) < 3 else 3
        alpha = planes[colours:] if len(planes) in (2, 4) else None
        picture = Picture(planes[:colours], alpha, samples.dtype.itemsize * 8, metadata)

        data = encode_picture(picture, extension, {"Software": "zssr-gan", "Note": "Łódź"})
        again = decode_picture(data, "again")
        assert_holds(again, SAMPLES[name])
        assert again.notices == ()
        assert again.metadata.icc == metadata.icc
        assert again.metadata.dpi == pytest.approx((150, 300), abs=0.02)  # turned with the axes
        exif = Image.Exif()
        exif.load(again.metadata.exif)
        assert exif.get(0x0112, 1) == 1
        assert exif[271] == "Maker"
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert float(exif.get_ifd(0x8769)[0x829A]) == 1 / 125
        assert exif.get_ifd(0x8825)[1] == "N"
        if extension == "tif":
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                assert np.array_equal(file.asarray(), np.squeeze(samples))
                fields = json.loads(file.pages.first.description)
            assert fields == {"ImageDescription": "A caption", "Software": "zssr-gan", "Note": "Łódź"}
        else:
            assert again.metadata.exif == metadata.exif
            assert Image.open(io.BytesIO(data)).text == {"Software": "zssr-gan", "Note": "Łódź"}
            assert np.array_equal(imagecodecs.png_decode(data), np.squeeze(samples))

    def test_caption_of_a_tiff_without_provenance_stays(self):
        picture = decode_picture(saved(Image.fromarray(RGB8), "PNG", exif=self.exif()), "x")
        with tifffile.TiffFile(io.BytesIO(encode_picture(picture, "tiff"))) as file:
            assert file.pages.first.description == "A caption"

    def test_tiff_to_tiff(self):
        data = saved(Image.fromarray(RGB8), "TIFF", exif=self.exif(), icc_profile=SRGB, dpi=(72, 72))
        picture = decode_picture(encode_picture(decode_picture(data, "x"), "tif"), "y")
        assert picture.metadata.icc == SRGB
        assert picture.metadata.dpi == (72, 72)
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"

    def test_accents_of_a_tiff(self):
        data = tiff_bytes(RGB8, extratags=[(315, 2, 0, "Zoë".encode("latin-1") + b"\0", True)])
        for extension in ("png", "tif"):
            metadata = decode_picture(encode_picture(decode_picture(data, "x"), extension), "y").metadata
            exif = Image.Exif()
            exif.load(metadata.exif)
            assert exif[315] == "Zoë"

    def test_late_exif_of_a_png(self):
        """Some tools put eXIf behind the pixels."""
        early = encode_picture(decode_picture(saved(Image.fromarray(RGB8), "PNG", exif=self.exif()), "x"), "png")
        start = early.index(b"eXIf") - 4
        length = int.from_bytes(early[start : start + 4]) + 12
        late = early[:start] + early[start + length : -12] + early[start : start + length] + early[-12:]
        assert decode_picture(late, "x").metadata.exif == decode_picture(early, "x").metadata.exif

    def test_damaged_exif_costs_no_pixels(self):
        picture = decode_picture(saved(Image.fromarray(RGB8), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff"), "x")
        assert_holds(picture, RGB8)
        assert picture.metadata.exif is None
        assert "EXIF" in picture.notices[0]

    def test_profile_of_another_kind_is_left_out(self):
        picture = decode_picture(saved(Image.fromarray(GRAY8), "JPEG", icc_profile=SRGB), "x")
        assert picture.metadata.icc is None
        assert "profile" in picture.notices[0]

    def test_senseless_resolution_is_dropped(self):
        data = tiff_bytes(RGB8, resolution=(0, 0), resolutionunit="inch")
        assert decode_picture(data, "x").metadata.dpi is None


def test_the_kinds_that_are_read_are_those_that_are_named():
    page = (Path(__file__).parents[2] / "docs" / "enhance.md").read_text("utf-8")
    assert all(kind in page for kind in READ_KINDS)
    assert {kind.upper() for kind in READ_KINDS} == {"HEIC" if kind == "HEIF" else kind for kind in _DECODERS}


class TestRefusals:
    def refusal(self, data, **options):
        with pytest.raises(ImageError) as caught:
            decode_picture(data, "bad.png", **options)
        message = str(caught.value)
        assert message.startswith("bad.png: ")
        assert "\n" not in message
        return message

    def test_not_an_image(self):
        assert "not an image" in self.refusal(b"%PDF-1.7 and so on")
        assert "not an image" in self.refusal(saved(Image.fromarray(GRAY8), "GIF"))
        assert "is empty" in self.refusal(b"")

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PNG16", "TIFF16", "TIFF-LZW"])
    @pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
    def test_truncated(self, kind, part):
        image = Image.fromarray(skimage.data.astronaut()[::4, ::4])
        samples = wide(np.asarray(image))
        if kind == "PNG16":
            data = imagecodecs.png_encode(samples)
        elif kind == "TIFF16":
            data = tiff_bytes(samples, rowsperstrip=8)
        else:
            kind, _, packed = kind.partition("-")
            data = saved(image, kind, **({"compression": "tiff_lzw"} if packed else {}))
        assert "truncated" in self.refusal(data[: int(len(data) * part)])

    def test_animated(self):
        frames = [Image.fromarray(np.roll(RGB8, shift, 0)) for shift in range(3)]
        for kind in ("PNG", "WEBP", "TIFF"):
            data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
            assert "3 pages" in self.refusal(data)

    def test_preview_beside_a_tiff_is_no_page(self):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            writer.write(RGB8, photometric="rgb")
            writer.write(RGB8[::2, ::2], photometric="rgb", subfiletype=1)
        assert_holds(decode_picture(buffer.getvalue(), "x"), RGB8)

    def test_limit_of_megapixels(self):
        data = saved(Image.new("L", (2000, 1000)), "PNG")
        assert "2.0 megapixels (2000 x 1000), more than the limit of 1.9" in self.refusal(data, max_megapixels=1.9)
        assert decode_picture(data, "x", max_megapixels=2).pixels.shape == (1, 1000, 2000)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_bombs_are_refused_by_their_header(self, bits):
        """A header of 4 gigapixels: refused at once, and in little memory."""
        header = (60000).to_bytes(4) + (70000).to_bytes(4) + bytes([bits, 2, 0, 0, 0])
        chunk = b"IHDR" + header
        pixels = zlib.compress(bytes(10**6), 9)
        data = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
        data += len(pixels).to_bytes(4) + b"IDAT" + pixels + zlib.crc32(b"IDAT" + pixels).to_bytes(4)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert "4200.0 megapixels" in self.refusal(data)
        dtype = np.uint8 if bits == 8 else np.uint16
        tiff = bytearray(tiff_bytes(np.zeros((7, 9), dtype), metadata=None))
        with tifffile.TiffFile(io.BytesIO(bytes(tiff))) as file:
            for tag in (256, 257):
                at = file.pages.first.tags[tag].valueoffset
                tiff[at : at + 4] = (60000).to_bytes(4, "little") if tag == 257 else (50000).to_bytes(4, "little")
        assert "megapixels" in self.refusal(bytes(tiff)) or "truncated" in self.refusal(bytes(tiff))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000

    def test_directories_in_a_circle(self):
        data = bytearray(tiff_bytes(GRAY8, metadata=None))
        with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
            page = file.pages.first
            end = page.offset + 2 + 12 * len(page.tags)
        data[end : end + 4] = page.offset.to_bytes(4, "little")
        assert_holds(decode_picture(bytes(data), "x"), GRAY8)

    @pytest.mark.parametrize("tag", ["Software", "BitsPerSample"])
    def test_fields_larger_than_the_file(self, tag):
        """A damaged count made tifffile take gigabytes and minutes."""
        data = bytearray(tiff_bytes(GRAY8, software="x" * 20, bigtiff=True, metadata=None))
        with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
            at = file.pages.first.tags[tag].offset + 4
        data[at : at + 8] = (10**10).to_bytes(8, "little")
        if tag == "Software":
            assert "305" in decode_picture(bytes(data), "x").notices[0]
        else:
            assert "exceeds the file" in self.refusal(bytes(data))

    def test_limit_may_lie_above_that_of_pillow(self, monkeypatch):
        """Pillow alone warns above its limit, and refuses above twice it."""
        for limit in (20 * 33, 10 * 33):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            for kind in ("PNG", "TIFF"):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    assert_holds(decode_picture(saved(Image.fromarray(RGB8), kind), "x"), RGB8)
            assert limit == Image.MAX_IMAGE_PIXELS

    def test_no_pixels(self):
        data = bytearray(saved(Image.fromarray(GRAY8), "PNG"))
        data[16:20] = bytes(4)
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
        assert "no pixels" in self.refusal(bytes(data)) or "damaged" in self.refusal(bytes(data))

    @pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
    def test_samples_that_are_not_read(self, dtype):
        assert "up to 8, and of 16 bits" in self.refusal(tiff_bytes(GRAY8.astype(dtype)))

    def test_paths(self, tmp_path):
        with pytest.raises(ImageError, match="is a folder"):
            read_picture(tmp_path)
        with pytest.raises(ImageError, match=r"missing\.png: no such file$"):
            read_picture(tmp_path / "missing.png")
        with pytest.raises(ImageError, match="is not a file"):
            read_picture(Path("/dev/null"))
        huge = tmp_path / "huge.bmp"
        with huge.open("wb") as file:
            file.truncate(10**9)
        with pytest.raises(ImageError, match="too large"):
            read_picture(huge, max_megapixels=10)

    def test_unreadable(self, tmp_path, monkeypatch):
        path = tmp_path / "locked.png"
        path.write_bytes(b"x")

        def locked(_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", locked)
        with pytest.raises(ImageError, match="Permission denied"):
            read_picture(path)


class TestWrite:
    def picture(self, **changes):
        torch.manual_seed(0)
        return Picture(**{"pixels": torch.rand(3, 9, 300) * 1.2 - 0.1, "alpha": None, "bits": 8,
                          "metadata": Metadata(), **changes})  # fmt: skip

    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("extension", ["png", ".TIF"])
    def test_quantised_pixels_are_those_of_the_file(self, bits, extension):
        picture = self.picture(bits=bits, alpha=torch.rand(1, 9, 300))
        again = decode_picture(encode_picture(picture, extension), "x")
        assert torch.equal(quantise(picture).pixels, again.pixels)
        assert torch.equal(quantise(picture).alpha, again.alpha)
        assert torch.equal(quantise(again).pixels, again.pixels)

    def test_same_bytes(self):
        for extension in ("png", "tif"):
            assert encode_picture(self.picture(), extension) == encode_picture(self.picture(), extension)

    def test_provenance(self, tmp_path):
        text = {"Software": "zssr-gan 0.1", "Label": "internal", "Where": "Zürich", "Kanji": "超解像"}
        for extension in ("png", "tif"):
            path = tmp_path / f"x.{extension}"
            path.write_bytes(encode_picture(self.picture(), extension, text))
            assert read_provenance(path) == text
        (tmp_path / "x.jpg").write_bytes(saved(Image.fromarray(RGB8), "JPEG"))
        assert read_provenance(tmp_path / "x.jpg") == {}
        with pytest.raises(ImageError):
            read_provenance(tmp_path / "none.png")

    def test_other_kinds_are_refused(self):
        with pytest.raises(ImageError, match="PNG or TIFF"):
            encode_picture(self.picture(), "jpg")

    @pytest.mark.parametrize("key", ["", "k" * 80, "鍵"])
    def test_keys_that_png_cannot_hold(self, key):
        with pytest.raises(ValueError, match="text key"):
            encode_picture(self.picture(), "png", {key: "value"})


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the process from /proc")
@pytest.mark.slow
def test_memory_of_a_large_photograph(tmp_path):
    """12 megapixels, 8 bits: at most three times the float32 picture above the process itself."""
    noise = np.random.default_rng(0).integers(0, 40, (3000, 4000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg", quality=90)
    script = """
import sys
from pathlib import Path
from zssr_gan.imaging.endings import READ_KINDS
from zssr_gan.imaging.io import _DECODERS, decode_picture, encode_picture, read_picture
from PIL import Image
import re
def status(key):
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
before = status("VmRSS")
picture = read_picture(Path(sys.argv[1]))
print((status("VmHWM") - before) / (picture.pixels.numel() * 4))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "large.jpg")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 3
