"""PIL images and arrays: metadata and orientation of what Pillow opened, and of what comes back."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms

from zssr_gan.errors import ImageError, ResultWarning
from zssr_gan.imaging.convert import like, picture_of
from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.picture import Metadata
from zssr_gan.imaging.profiles import profile_for

RGB = skimage.data.astronaut()[40:64, 200:232]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
UPRIGHT = {1: 0, 3: 2, 6: -1, 8: 1}


def opened(kind, samples=RGB, **options):
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, kind, **options)
    return Image.open(buffer)


def exif(orientation, **fields):
    block = Image.Exif()
    block[0x112], block[271] = orientation, "Maker"
    block.update(fields.get("more", {}))
    again = Image.Exif()
    again.load(block.tobytes())
    return again


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_opened_file_keeps_its_metadata_and_is_turned_upright(kind, orientation):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    if kind != "WEBP":
        options["dpi"] = (100, 200)
    if kind in ("JPEG", "WEBP"):
        options["xmp"] = XMP
    image = opened(kind, exif=exif(orientation), icc_profile=PROFILE, **options)
    picture = picture_of(image)
    upright = np.rot90(RGB, UPRIGHT[orientation]).astype(int)
    tolerance = 8 if kind == "JPEG" else 0
    assert np.abs((picture.pixels * 255).round().int().permute(1, 2, 0).numpy() - upright).max() <= tolerance
    result = like(image, picture)
    assert np.abs(np.asarray(result).astype(int) - upright).max() <= tolerance
    assert result.info["icc_profile"] == PROFILE
    if kind != "WEBP":
        turned = (100, 200) if orientation < 5 else (200, 100)
        assert result.info["dpi"] == pytest.approx(turned, abs=0.02)
    if "xmp" in options:
        assert result.info["xmp"] == XMP
    block = Image.Exif()
    block.load(result.info["exif"])
    assert block.get(0x112, 1) == 1
    assert block[271] == "Maker"
    again = picture_of(result)  # a result is upright: it is not turned again
    assert np.array_equal(again.pixels, picture.pixels)
    assert again.metadata == picture.metadata


@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_in_another_type(kind):
    entry = struct.pack(">HHL", 0x112, kind, 1) + struct.pack(
        {3: ">HH", 4: ">L"}[kind], *([6, 0] if kind == 3 else [6])
    )
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\1" + entry + bytes(4)
    assert picture_of(opened("JPEG", exif=block)).pixels.shape == (3, 32, 24)


def test_pillows_own_resolution_is_not_taken():
    assert picture_of(opened("JPEG", exif=exif(1))).metadata.dpi is None
    assert picture_of(opened("JPEG", exif=exif(1), dpi=(72, 72))).metadata.dpi == (72, 72)


def test_ill_exif_costs_no_pixels():
    image = opened("PNG")
    image.info["exif"] = b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff"
    picture = picture_of(image)
    assert picture.metadata.exif is None
    assert "EXIF" in picture.notices[0]


def test_colour_signalling():
    samples = np.ascontiguousarray(RGB)
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "PNG")
    data = buffer.getvalue()
    body = b"gAMA" + struct.pack(">L", 100000)
    data = data[:33] + struct.pack(">L", 4) + body + zlib.crc32(body).to_bytes(4) + data[33:]
    image = Image.open(io.BytesIO(data))
    picture = picture_of(image)
    assert picture.metadata.colour == (("gAMA", struct.pack(">L", 100000)),)
    assert like(image, picture).info["gamma"] == 1


@pytest.mark.parametrize(("mode", "given"), [
    ("1", None), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("CMYK", None), ("F", None),
    ("I;16", "I;16"),
])  # fmt: skip
def test_modes(mode, given):
    image = Image.fromarray(RGB).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if given is None:
        with pytest.raises(TypeError, match="mode"):
            picture_of(image)
    else:
        result = like(image, picture_of(image))
        assert result.mode == given
        assert np.array_equal(np.asarray(result), np.asarray(image.convert("RGB") if mode == "P" else image))


@pytest.mark.parametrize("orientation", [1, 6])
def test_16_bits_of_either_byte_order_are_the_file(tmp_path, orientation):
    """Pillow opens a big-endian TIFF file in another mode."""
    levels = np.arange(6 * 8, dtype=np.uint16).reshape(6, 8) * 1365
    for order, mode in (("<", "I;16"), (">", "I;16B")):
        pixels = levels.astype(f"{order}u2").tobytes()
        tags = {256: 8, 257: 6, 258: 16, 259: 1, 262: 1, 273: 8, 274: orientation, 277: 1, 278: 6, 279: len(pixels)}
        directory = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
        head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels))
        file = tmp_path / "deep.tif"
        file.write_bytes(head + pixels + struct.pack(f"{order}H", len(tags)) + directory + bytes(4))
        image = Image.open(file)
        assert image.mode == mode
        given = picture_of(image)
        assert torch.equal(given.pixels, decode_picture(file.read_bytes(), file.name).pixels)
        assert np.array_equal(np.asarray(like(image, given)), levels if orientation == 1 else np.rot90(levels, -1))


def test_a_transparent_level_becomes_alpha():
    image = opened("PNG", RGB[:, :, 0].copy(), transparency=int(RGB[0, 0, 0]))
    picture = picture_of(image)
    assert np.array_equal(picture.alpha[0].numpy() == 0, RGB[:, :, 0] == RGB[0, 0, 0])


def keyed_png(colour, depth):
    """A PNG file of noise in gray (0) or RGB (2), of which the colour of the first pixel is transparent; its alpha."""
    samples = np.random.default_rng(depth).integers(0, 2**depth, (6, 8, 3 if colour else 1))
    samples[0, 0] |= 2
    samples[4, 5] = samples[0, 0]
    bits = (samples[..., None] >> np.arange(depth)[::-1]) & 1
    raw = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in bits)
    key = samples[0, 0].astype(">u2").tobytes()
    parts = [(b"IHDR", struct.pack(">LLBBBBB", 8, 6, depth, colour, 0, 0, 0)), (b"tRNS", key),
             (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]  # fmt: skip
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in parts:
        data += struct.pack(">L", len(content)) + name + content + zlib.crc32(name + content).to_bytes(4)
    return data, (samples != samples[0, 0]).any(2)


@pytest.mark.parametrize("way", ["open", "loaded", "memory", "copy"])
@pytest.mark.parametrize(("colour", "depth"), [(0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_transparent_level_of_a_png(colour, depth, way, tmp_path):
    data, alpha = keyed_png(colour, depth)
    (tmp_path / "a.png").write_bytes(data)
    image = Image.open(io.BytesIO(data) if way == "memory" else tmp_path / "a.png")
    if way == "loaded":
        image.load()
    elif way == "copy":
        image = image.copy()
    if way == "copy" and (depth < 8 or (colour, depth) == (2, 16)):  # Pillow has changed the samples, not the level
        with pytest.warns(ResultWarning, match="transparent"):
            picture_of(image)
        return
    picture = picture_of(image)
    assert np.array_equal(picture.alpha[0].numpy() == 1, alpha)
    assert np.array_equal(picture.alpha[0].numpy() == 0, ~alpha)
    saved = io.BytesIO()
    result = like(image, picture)
    result.save(saved, "PNG")
    again = decode_picture(saved.getvalue(), "a")
    assert np.array_equal(again.alpha, picture.alpha)
    assert again.bits == picture.bits
    assert np.array_equal(again.pixels[:, alpha], picture.pixels[:, alpha])


def test_sixteen_bit_result_is_transparent_in_no_other_pixel():
    image = opened("PNG", np.full((4, 4), 700, np.uint16), transparency=701)
    picture = picture_of(image)
    pixels, alpha = torch.full_like(picture.pixels, 701 / 65535), torch.ones_like(picture.alpha)
    alpha[:, 0] = 0
    again = picture_of(like(image, replace(picture, pixels=pixels, alpha=alpha)))
    assert np.array_equal(again.alpha, alpha)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("names", [("gAMA",), ("cHRM",), ("gAMA", "cHRM"), ("sRGB",), ("sRGB", "gAMA")])
def test_colour_signalling_of_a_saved_result(names, mode):
    """Pillow writes neither gAMA nor cHRM: a profile stands for them, and none for sRGB."""
    chunks = {"gAMA": struct.pack(">L", 100000), "sRGB": b"\0",
              "cHRM": struct.pack(">8L", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)}  # fmt: skip
    metadata = Metadata(colour=tuple((name, chunks[name]) for name in names))
    image = Image.fromarray(RGB).convert(mode)
    image = Image.open(io.BytesIO(encode_picture(replace(picture_of(image), metadata=metadata), "png")))
    result, saved = like(image, picture_of(image)), io.BytesIO()
    result.save(saved, "PNG")
    profile, _ = profile_for(metadata, 3 if mode == "RGB" else 1)
    assert Image.open(saved).info.get("icc_profile") == (None if "sRGB" in names else profile)
    assert profile is not None
    assert dict(picture_of(result).metadata.colour) == dict(metadata.colour)


@pytest.mark.parametrize("loaded", [False, True])
def test_colour_signalling_that_pillow_does_not_read(loaded, tmp_path):
    """Display P3 by code points (cICP), of a file that is open or was."""
    code = bytes([12, 13, 0, 1])
    data = encode_picture(replace(picture_of(RGB), metadata=Metadata(colour=(("cICP", code),))), "png")
    (tmp_path / "a.png").write_bytes(data)
    image = Image.open(tmp_path / "a.png")
    if loaded:
        image.load()
    picture = picture_of(image)
    assert dict(picture.metadata.colour) == {"cICP": code}
    assert dict(picture_of(Image.open(io.BytesIO(data))).metadata.colour) == {"cICP": code}
    result = like(image, picture)
    assert np.array_equal(np.asarray(result), RGB)
    assert dict(picture_of(result).metadata.colour)["cICP"] == code
    saved = io.BytesIO()
    result.save(saved, "PNG")  # without cICP: by Pillow
    profile, srgb = (ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile for icc in (
        Image.open(saved).info["icc_profile"], PROFILE
    ))  # fmt: skip
    assert profile.red_colorant[0][0] > srgb.red_colorant[0][0] + 0.05


def test_bmp_of_alpha_zero():
    pixels = np.dstack([RGB[::-1, :, ::-1], np.zeros_like(RGB[:, :, :1])]).tobytes()
    header = struct.pack("<LllHHLLllLL", 108, 32, 24, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<LLLL", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    data = struct.pack("<2sLHHL", b"BM", 122 + len(pixels), 0, 0, 122) + header + pixels
    picture = picture_of(Image.open(io.BytesIO(data)))
    assert picture.alpha is None
    assert np.array_equal((picture.pixels * 255).round().permute(1, 2, 0).numpy(), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_result_is_saved_with_the_exif_block_of_its_info(kind):
    image = opened("JPEG", exif=exif(6))
    result, buffer = like(image, picture_of(image)), io.BytesIO()
    result.save(buffer, kind, exif=result.info["exif"])
    assert Image.open(buffer).getexif()[271] == "Maker"


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_resolution_of_heif_turns_with_the_pixels(orientation, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    for registry in ("OPEN", "ID", "MIME", "SAVE", "EXTENSION"):
        monkeypatch.setattr(Image, registry, type(known := getattr(Image, registry))(known))
    pillow_heif.register_heif_opener()
    block = exif(orientation, more={0x11A: 72, 0x11B: 144, 0x128: 2})
    image = opened("HEIF", exif=block.tobytes())
    data = image.fp.getvalue()
    picture = picture_of(image)
    assert picture.metadata.dpi == ((144, 72) if orientation > 4 else (72, 144))
    assert picture.metadata.dpi == decode_picture(data, "x").metadata.dpi
    assert picture_of(like(image, picture)).metadata.dpi == picture.metadata.dpi


def bmp(*, size, compression=0, space=0, tail=b""):
    """24 bits a pixel, with Display P3's end points and powers of 1.8, or with a profile behind the pixels."""
    ends = [round(value * 2**30) for value in (0.64, 0.33, 0.03, 0.21, 0.71, 0.08, 0.15, 0.06, 0.79)]
    pixels = RGB[::-1, :, ::-1].tobytes()
    header = struct.pack("<LllHHLLllLL", size, 32, 24, 1, 24, compression, len(pixels), 0, 0, 0, 0)
    header += bytes(16) + struct.pack("<13L", space, *ends, *[round(1.8 * 65536)] * 3)
    header += struct.pack("<LLLL", 4, size + len(pixels), len(tail), 0) if size == 124 else b""
    return struct.pack("<2sLHHL", b"BM", 14 + size + len(pixels), 0, 0, 14 + size) + header + pixels + tail


def opened_bmp(data, path, way):
    """A PIL image of a file, which is `gone` where it was loaded from memory."""
    path.write_bytes(data)
    image = Image.open(io.BytesIO(data) if way in ("memory", "gone") else path)
    if way in ("loaded", "gone"):
        image.load()
    return image


@pytest.mark.parametrize("way", ["open", "loaded", "memory", "gone"])
@pytest.mark.parametrize(("size", "space", "tail"), [(108, 0, b""), (124, 0, b""), (124, 0x4D424544, PROFILE)])
def test_colour_of_a_bmp(size, space, tail, way, tmp_path):
    data = bmp(size=size, space=space, tail=tail)
    image = opened_bmp(data, tmp_path / "a.bmp", way)
    if way == "gone":
        with pytest.warns(ResultWarning, match="colour profile"):
            picture_of(image)
        return
    metadata, of_file = picture_of(image).metadata, decode_picture(data, "x").metadata
    assert (metadata.icc, metadata.colour) == (of_file.icc, of_file.colour)
    assert metadata.icc == tail if tail else dict(metadata.colour).keys() == {"gAMA", "cHRM"}


def bmp_of_one_bit(seed, *, size=56, top_down=False):
    """A BMP file of 16 bits a pixel, of which the highest is alpha, and that alpha."""
    stored = np.random.default_rng(seed).integers(0, 2**16, (6, 8), np.uint16)
    header = struct.pack("<LllHHLLllLL", size, 8, -6 if top_down else 6, 1, 16, 3, stored.nbytes, 0, 0, 0, 0)
    header += struct.pack("<LLLL", 0x7C00, 0x3E0, 0x1F, 0x8000)
    head = struct.pack("<2sLHHL", b"BM", 14 + size + stored.nbytes, 0, 0, 14 + size) + header.ljust(size, b"\0")
    return head + (stored if top_down else stored[::-1]).tobytes(), stored >= 2**15


@pytest.mark.parametrize("way", ["open", "loaded", "memory", "gone", "smaller"])
@pytest.mark.parametrize(("size", "top_down"), [(56, False), (108, True), (124, False)])
def test_alpha_of_one_bit_of_a_bmp(size, top_down, way, tmp_path):
    data, alpha = bmp_of_one_bit(size, size=size, top_down=top_down)
    image = opened_bmp(data, tmp_path / "a.bmp", way)
    if way == "gone":
        with pytest.warns(ResultWarning, match="alpha"):
            assert picture_of(image).alpha is None
        return
    if way == "smaller":
        image.thumbnail((4, 4))
        assert picture_of(image).alpha is None
        return
    picture, of_file = picture_of(image), decode_picture(data, "x")
    assert np.array_equal(picture.alpha[0].numpy() == 1, alpha)
    assert np.array_equal(picture.alpha, of_file.alpha)
    assert np.array_equal(picture.pixels, of_file.pixels)
    assert like(image, picture).mode == "RGBA"


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("order", "<>")
def test_alpha_of_gray_tiff_in_planes(order, orientation):
    """Pillow has zeros for it."""
    planes, buffer = np.moveaxis(RGB[:, :, :2], 2, 0), io.BytesIO()
    tifffile.imwrite(
        buffer, planes, photometric="minisblack", planarconfig="separate", extrasamples=["unassalpha"], byteorder=order,
        compression="zlib", extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    image = Image.open(buffer)
    picture, of_file = picture_of(image), decode_picture(buffer.getvalue(), "x")
    assert np.array_equal(picture.pixels, of_file.pixels)
    assert np.array_equal(picture.alpha, of_file.alpha)
    assert like(image, picture).mode == "LA"


def test_white_is_zero_in_16_bits():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, RGB[:, :, 0].astype(np.uint16) * 257, photometric="miniswhite", byteorder="<")
    assert np.array_equal(picture_of(Image.open(buffer)).pixels, decode_picture(buffer.getvalue(), "x").pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_what_pillow_cannot_load_is_one_sentence(kind):
    data = opened(kind).fp.getvalue()
    with pytest.raises(ImageError, match="Pillow cannot load"):
        picture_of(Image.open(io.BytesIO(data[: len(data) * 9 // 10])))


def test_ill_fields_of_a_tiff_cost_no_pixels():
    """A maker that is a fraction, which Pillow does not write as text."""
    data = bytearray(opened("TIFF", exif=exif(1)).fp.getvalue())
    at = data.index(struct.pack("<HH", 271, 2))
    data[at + 2 : at + 8] = struct.pack("<HL", 5, 1)
    picture = picture_of(Image.open(io.BytesIO(bytes(data))))
    assert np.array_equal((picture.pixels * 255).round().permute(1, 2, 0).numpy(), RGB)
    assert "EXIF" in picture.notices[0]


@pytest.mark.parametrize("resolution", [(144, 72), (72, 144)])
def test_unequal_resolution_of_exif(resolution):
    block = Image.Exif()
    block[282], block[283], block[296] = (*map(float, resolution), 2)
    image = opened("JPEG", exif=block)
    assert picture_of(image).metadata.dpi == resolution
    image.info["dpi"] = (300, 300)  # by the person who uses it
    assert picture_of(image).metadata.dpi == (300, 300)


@pytest.mark.parametrize(
    "change", [Image.Image.copy, lambda image: image.crop((0, 0, 9, 9)), lambda image: image.convert("L")]
)
def test_unequal_resolution_of_a_copy(change):
    """JFIF has the shape of pixels alone, and Pillow EXIF's x for both."""
    block = Image.Exif()
    block[282], block[283], block[296] = 144.0, 72.0, 2
    assert picture_of(change(opened("JPEG", exif=block))).metadata.dpi == (144, 72)
    assert picture_of(change(opened("JPEG", exif=block, dpi=(300, 300)))).metadata.dpi == (300, 300)
    assert picture_of(change(opened("JPEG", exif=exif(1)))).metadata.dpi is None


@pytest.mark.parametrize("resolution", [(72, 72), (300, 150), None])
def test_resolution_of_a_tiff_beside_a_description(resolution):
    image = opened("TIFF", exif=exif(1), **({} if resolution is None else {"dpi": resolution}))
    assert picture_of(image).metadata.dpi == resolution
    assert picture_of(image.copy()).metadata.dpi == resolution
    assert picture_of(like(image, picture_of(image))).metadata.dpi == resolution


def test_a_resolution_of_72_that_a_person_sets():
    block = Image.Exif()
    block[282], block[283], block[296] = 144.0, 144.0, 2
    image = opened("JPEG", exif=block)
    image.info["dpi"] = (72, 72)
    assert picture_of(image).metadata.dpi == (72, 72)
