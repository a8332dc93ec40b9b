"""TIFF by hand: previews, masks and sub-directories, palettes, checksums, orientation, ill fields, text."""

import io
import json
import lzma
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from zssr_gan.errors import ImageError
from zssr_gan.imaging.convert import picture_of
from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.metadata import text_of

GRAY = skimage.data.camera()[100:112, 200:216]
SMALL = GRAY[::2, ::2]
CODES = {1: "B", 2: "s", 3: "H", 4: "L", 5: "LL", 7: "s", 12: "d", 16: "Q"}


class File:
    """A TIFF file of gray pages, of either byte order, classic or big."""

    def __init__(self, order="<", big=False):
        self.order, self.big = order, big
        mark = {"<": b"II", ">": b"MM"}[order]
        version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
        self.data = bytearray(mark + version + bytes(8 if big else 4))
        self.link = 8 if big else 4

    def offset(self, value):
        return struct.pack(self.order + ("Q" if self.big else "L"), value)

    def put(self, content):
        self.data += bytes(len(self.data) % 2)
        at = len(self.data)
        self.data += content
        return at

    def directory(self, samples, fields=(), *, packed=None, photometric=1, bits=8, compression=1, linked=True):
        """Append a page with further fields (tag, type, values as a tuple or bytes); gives its place."""
        at = self.put(samples.tobytes() if packed is None else packed)
        height, width = samples.shape[:2]
        size = len(self.data) - at
        own = [(256, 4, (width,)), (257, 4, (height,)), (258, 3, (bits,)), (259, 3, (compression,)),
               (262, 3, (photometric,)), (273, 4, (at,)), (277, 3, (1,)), (278, 4, (height,)),
               (279, 4, (size,))]  # fmt: skip
        fields = {field[0]: field for field in [*own, *fields]}
        entries = b""
        room = 8 if self.big else 4
        for tag, kind, values in sorted(fields.values()):
            raw = values if isinstance(values, bytes) else struct.pack(
                self.order + CODES[kind] * (len(values) // len(CODES[kind])), *values
            )  # fmt: skip
            count = len(values) if isinstance(values, bytes) else len(values) // len(CODES[kind])
            inline = raw.ljust(room, b"\0") if len(raw) <= room else self.offset(self.put(raw))
            entries += struct.pack(self.order + "HH", tag, kind) + self.offset(count) + inline
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(fields))
        place = self.put(count + entries + self.offset(0))
        if linked:
            self.data[self.link : self.link + room] = self.offset(place)
            self.link = len(self.data) - room
        return place


LAYOUTS = [("<", False), (">", False), ("<", True), (">", True)]
PREVIEW, MASK = (254, 4, (1,)), (254, 4, (4,))


def levels(picture):
    return (picture.pixels * (2**picture.bits - 1)).round().int().permute(1, 2, 0).numpy().squeeze()


@pytest.mark.parametrize(("order", "big"), LAYOUTS)
class TestPages:
    @pytest.mark.parametrize("mark", [PREVIEW, (254, 3, (1,)), (254, 1, (1,)), (255, 3, (2,)), (254, 4, (3,))])
    @pytest.mark.parametrize("pages", ["pG", "Gp", "ppG", "pGp", "Gppp"])
    def test_previews(self, order, big, mark, pages):
        file = File(order, big)
        for page in pages:
            file.directory(SMALL, [mark]) if page == "p" else file.directory(GRAY)
        picture = decode_picture(bytes(file.data), "x")
        assert np.array_equal(levels(picture), GRAY)
        assert picture.notices == ()

    @pytest.mark.parametrize("pages", ["mG", "Gm", "pGm", "Gpm"])
    def test_masks(self, order, big, pages):
        file = File(order, big)
        for page in pages:
            match page:
                case "p":
                    file.directory(SMALL, [PREVIEW])
                case "m":
                    file.directory(GRAY, [MASK], packed=bytes(2 * 12), photometric=4, bits=1)
                case _:
                    file.directory(GRAY)
        picture = decode_picture(bytes(file.data), "x")
        assert np.array_equal(levels(picture), GRAY)
        assert "mask" in picture.notices[0]

    def test_picture_in_a_sub_directory(self, order, big):
        """As raw files have it: the chain of pages begins with a preview, which has the orientation too."""
        file = File(order, big)
        smaller = file.directory(SMALL, [PREVIEW], linked=False)
        picture = file.directory(GRAY, [(254, 4, (0,))], linked=False)
        file.directory(SMALL[::2], [PREVIEW, (330, 4, (smaller, picture)), (274, 3, (3,))])
        assert np.array_equal(levels(decode_picture(bytes(file.data), "x")), GRAY[::-1, ::-1])

    def test_reduced_copies_in_sub_directories(self, order, big):
        file = File(order, big)
        smaller = file.directory(SMALL, [PREVIEW], linked=False)
        file.directory(GRAY, [(330, 4, (smaller,))])
        assert np.array_equal(levels(decode_picture(bytes(file.data), "x")), GRAY)

    def test_pages_are_refused(self, order, big):
        file = File(order, big)
        for samples in (GRAY, GRAY, SMALL):
            file.directory(samples)
        file.directory(SMALL, [PREVIEW])
        with pytest.raises(ImageError, match="has 3 pages"):
            decode_picture(bytes(file.data), "x")

    def test_previews_alone(self, order, big):
        file = File(order, big)
        for samples in (SMALL, GRAY, SMALL[::2]):
            file.directory(samples, [PREVIEW])
        assert np.array_equal(levels(decode_picture(bytes(file.data), "x")), GRAY)

    def test_a_mask_alone(self, order, big):
        file = File(order, big)
        file.directory(GRAY, [MASK], packed=bytes(24), photometric=4, bits=1)
        with pytest.raises(ImageError, match="mask"):
            decode_picture(bytes(file.data), "x")

    @pytest.mark.parametrize("kind", [1, 3, 4])
    @pytest.mark.parametrize("orientation", [1, 3, 6])
    def test_orientation(self, order, big, kind, orientation):
        file = File(order, big)
        file.directory(GRAY, [(274, kind, (orientation,))])
        turned = np.rot90(GRAY, {1: 0, 3: 2, 6: -1}[orientation])
        assert np.array_equal(levels(decode_picture(bytes(file.data), "x")), turned)

    def test_resolution(self, order, big):
        file = File(order, big)
        file.directory(GRAY, [(282, 5, (72, 1)), (283, 5, (144, 1)), (296, 3, (2,)), (274, 3, (6,))])
        assert decode_picture(bytes(file.data), "x").metadata.dpi == (144, 72)
        file = File(order, big)
        file.directory(GRAY, [(282, 5, (1, 1)), (283, 5, (2, 1)), (296, 3, (1,))])
        assert decode_picture(bytes(file.data), "x").metadata.dpi is None

    @pytest.mark.parametrize("ill", [
        (282, 2, b"abc\0"), (282, 12, (float("nan"),)), (305, 2, b""), (34675, 7, b"no profile"), (700, 1, b"<no"),
        (33723, 7, b"no"), (34665, 4, (10**6,)), (34853, 4, (3,)), (330, 4, (7, 10**8)), (274, 3, (99,)),
        (318, 3, (0, 0)),
    ])  # fmt: skip
    def test_ill_fields_cost_no_pixels(self, order, big, ill):
        file = File(order, big)
        file.directory(GRAY, [ill, (283, 5, (72, 1))])
        picture = decode_picture(bytes(file.data), "x")
        assert np.array_equal(levels(picture), GRAY)
        if ill[0] in (34675, 700, 33723, 34665):
            assert "left out" in picture.notices[0]
        encode_picture(picture, "tif")

    def test_damaged_list_of_pages(self, order, big):
        file = File(order, big)
        file.directory(GRAY)
        file.data[file.link : file.link + 4] = b"\x70\x70\x70\x70"
        picture = decode_picture(bytes(file.data), "x")
        assert np.array_equal(levels(picture), GRAY)
        assert "pages" in picture.notices[0]

    def test_xmp_iptc_and_texts(self, order, big):
        xmp, iptc = b"<a tiff:Orientation='8' xmlns:tiff='t'/>", b"\x1c\x02\x78\0\1a"
        fields = [(700, 1, xmp), (33723, 7, iptc), (315, 2, "Zoë №".encode() + b"\0"), (270, 2, b"caf\xe9\0")]
        file = File(order, big)
        file.directory(GRAY, fields)
        picture = decode_picture(bytes(file.data), "x")
        for extension in ("png", "tif"):
            again = decode_picture(encode_picture(picture, extension), "y")
            assert again.metadata.xmp == xmp.replace(b"8", b"1")
            assert again.metadata.iptc == iptc
            assert "Zoë №".encode() in again.metadata.exif
        with tifffile.TiffFile(io.BytesIO(encode_picture(picture, "tif", {"Note": "n"}))) as written:
            assert json.loads(written.pages.first.description) == {"ImageDescription": "café", "Note": "n"}
            assert written.pages.first.tags[315].value == "Zoë №"


def test_iptc_as_numbers_of_either_byte_order():
    iptc = b"\x1c\x02\x78\0\3abc"
    for order in "<>":
        for swapped in (False, True):
            stored = np.frombuffer(iptc, "<u4").byteswap().tobytes() if swapped else iptc
            file = File(order)
            file.directory(GRAY, [(33723, 4, struct.unpack(order + "LL", stored))])
            assert decode_picture(bytes(file.data), "x").metadata.iptc == iptc


class TestPalettes:
    @pytest.mark.parametrize(("order", "big"), LAYOUTS)
    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    @pytest.mark.parametrize("eight", [False, True])
    def test_depths(self, order, big, bits, eight):
        random = np.random.default_rng(bits)
        palette = random.integers(0, 256, (3, 2**bits))
        palette[0, 0] = 255
        values = (palette if eight else palette * 257).ravel().tolist()
        indices = random.integers(0, 2**bits, (5, 16))
        each = [[(int(index) >> bit) & 1 for bit in reversed(range(bits))] for index in indices.ravel()]
        packed = np.packbits(np.array(each).reshape(5, -1), axis=1).tobytes()
        file = File(order, big)
        file.directory(indices, [(320, 3, tuple(values))], packed=packed, photometric=3, bits=bits)
        assert np.array_equal(levels(decode_picture(bytes(file.data), "x")), palette.T[indices])


class TestChecksums:
    @pytest.mark.parametrize("code", [8, 32946])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "predictor"])
    def test_no_flipped_bit_of_a_deflated_part_changes_pixels_in_silence(self, dtype, layout, code, capfd):
        samples = np.random.default_rng(0).integers(0, 255, (18, 20, 3)).astype(dtype)
        options = {"strips": {"rowsperstrip": 5}, "tiles": {"tile": (16, 16)}, "predictor": {"predictor": True},
                   "planes": {"planarconfig": "separate", "rowsperstrip": 7}}[layout]  # fmt: skip
        samples = samples.transpose(2, 0, 1) if layout == "planes" else samples
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, samples, photometric="rgb", compression=code, metadata=None, **options)
        data = buffer.getvalue()
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        sound = decode_picture(data, "x").pixels
        # Every bit of a part's begin and end, and every 131st of the rest: all of them take a minute.
        places = {place for at, n in parts for place in range(8 * at, 8 * (at + n), 131)}
        at, count = parts[-1]
        places |= {*range(8 * at, 8 * at + 32), *range(8 * (at + count) - 40, 8 * (at + count))}
        refused = 0
        for place in places:
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            try:
                pixels = decode_picture(bytes(flipped), "x").pixels
            except ImageError:
                refused += 1
            else:
                assert np.array_equal(pixels, sound), place
        assert refused > len(places) - 20
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_no_flipped_bit_of_an_lzma_strip_changes_pixels_in_silence(self, dtype, capfd):
        """The xz container has a checksum; Zstandard's is optional, and TIFF writers leave it out."""
        samples = (np.random.default_rng(0).integers(0, 8, (18, 20)) * 32).astype(dtype)
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, samples, compression="lzma", rowsperstrip=9, metadata=None)
        data = buffer.getvalue()
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            parts = list(zip(file.pages.first.dataoffsets, file.pages.first.databytecounts, strict=True))
        sound, refused = decode_picture(data, "x").pixels, 0
        places = [place for at, n in parts for place in range(8 * at, 8 * (at + n), 5)]
        for place in places:
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            try:
                assert np.array_equal(decode_picture(bytes(flipped), "x").pixels, sound), place
            except ImageError:
                refused += 1
        assert refused > 0.9 * len(places)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.slow
    @pytest.mark.parametrize("big_endian", [False, True])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_every_flipped_bit_of_deflated_strips(self, dtype, big_endian):
        samples = np.random.default_rng(0).integers(0, 255, (18, 20)).astype(dtype)
        buffer = io.BytesIO()
        order = "<>"[big_endian]
        tifffile.imwrite(buffer, samples, compression="zlib", rowsperstrip=5, metadata=None, byteorder=order)
        data = buffer.getvalue()
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            parts = list(zip(file.pages.first.dataoffsets, file.pages.first.databytecounts, strict=True))
        sound = decode_picture(data, "x").pixels
        for place in (place for at, n in parts for place in range(8 * at, 8 * (at + n))):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            try:
                pixels = decode_picture(bytes(flipped), "x").pixels
            except ImageError:
                continue
            assert np.array_equal(pixels, sound), place

    def test_a_short_part_without_compression(self):
        file = File()
        file.directory(GRAY, packed=GRAY.tobytes()[:-1])
        with pytest.raises(ImageError, match="shorter"):
            decode_picture(bytes(file.data), "x")

    def test_length_of_a_deflated_strip(self):
        for rows in (GRAY[:-1], np.concatenate([GRAY, GRAY])):
            file = File()
            file.directory(GRAY, packed=zlib.compress(rows.tobytes()), compression=8)
            with pytest.raises(ImageError, match="deflated"):
                decode_picture(bytes(file.data), "x")


def lzw(codes, *, old=False):
    """A stream of LZW codes of 9 bits, as TIFF 6.0 has them or in the old order of bits."""
    if old:
        return sum(code << 9 * n for n, code in enumerate(codes)).to_bytes(-(-9 * len(codes) // 8), "little")
    size = -(-9 * len(codes) // 8)
    return (int("".join(f"{code:09b}" for code in codes), 2) << (8 * size - 9 * len(codes))).to_bytes(size)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("marked", [False, True])
def test_description_in_utf_16(order, marked):
    text = "Bär, Zürich" if marked else "A. Name"
    raw = text.encode("utf-16-le" if order == "<" else "utf-16-be")
    raw = ({"<": b"\xff\xfe", ">": b"\xfe\xff"}[order] if marked else b"") + raw
    for end in (b"\0", b"\0\0"):
        file = File(order)
        file.directory(GRAY, [(270, 2, raw + end)])
        picture = decode_picture(bytes(file.data), "x")
        description = tifffile.TiffFile(io.BytesIO(encode_picture(picture, "tif"))).pages.first.tags[270].value
        assert description == text
        again = tifffile.TiffFile(io.BytesIO(encode_picture(picture, "tif", {"a": "b"}))).pages.first
        assert json.loads(again.tags[270].value)["ImageDescription"] == text


class TestUnpackedByLibtiff:
    """imagecodecs' LZW decoder follows the first code of a table, whatever it is: some end the process."""

    CLEAR, END = 256, 257

    @pytest.mark.parametrize(("order", "big"), LAYOUTS)
    @pytest.mark.parametrize("old", [False, True])
    def test_the_first_code_of_a_table_is_a_pixel(self, order, big, old):
        row = GRAY[:1, :12]
        codes = [int(level) for level in row[0]]

        def decoded(stream):
            file = File(order, big)
            file.directory(row, packed=lzw([*stream, self.END, 0, 0], old=old), compression=5)
            return levels(decode_picture(bytes(file.data), "x"))

        assert np.array_equal(decoded([self.CLEAR, *codes]), row[0])
        again = [self.CLEAR, *codes[:6], self.CLEAR, *codes[6:]]
        assert np.array_equal(decoded(again), row[0])
        for first in (258, 300, 511):
            with pytest.raises(ImageError, match="damaged or truncated"):
                decoded([self.CLEAR, *codes[:6], self.CLEAR, first, *codes[7:]])

    @pytest.mark.parametrize("compression", ["lzw", "packbits"])
    @pytest.mark.parametrize("order", "<>")
    def test_pixels_of_every_layout(self, compression, order):
        rng = np.random.default_rng(0)
        for dtype, top in ((np.uint8, 256), (np.uint16, 65536)):
            scene = rng.integers(0, top, (18, 21, 3)).astype(dtype)
            scene[4:14] = scene[4]
            for options in (
                {"rowsperstrip": 5}, {"tile": (16, 16)}, {"predictor": True, "rowsperstrip": 7},
                {"predictor": True, "tile": (16, 32)}, {"planarconfig": "separate", "rowsperstrip": 7},
            ):  # fmt: skip
                samples = scene.transpose(2, 0, 1) if "planarconfig" in options else scene
                buffer = io.BytesIO()
                tifffile.imwrite(buffer, samples, photometric="rgb", compression=compression, byteorder=order,
                                 metadata=None, **options)  # fmt: skip
                assert np.array_equal(levels(decode_picture(buffer.getvalue(), "x")), scene), options

    @pytest.mark.parametrize("bits", [1, 2, 4])
    @pytest.mark.parametrize("fill_order", [1, 2])
    def test_levels_below_a_byte(self, bits, fill_order):
        samples = np.random.default_rng(0).integers(0, 2**bits, (5, 11), dtype=np.uint8)
        each = samples[..., np.newaxis] >> np.arange(bits)[::-1] & 1
        rows = np.packbits(each.reshape(5, -1), axis=1)
        packed = np.frombuffer(lzw([self.CLEAR, *map(int, rows.ravel()), self.END]), np.uint8)
        if fill_order == 2:
            packed = np.packbits(np.unpackbits(packed, bitorder="little"))
        file = File(">")
        file.directory(samples, [(266, 3, (fill_order,))], packed=packed.tobytes(), bits=bits, compression=5)
        assert np.array_equal(levels(decode_picture(bytes(file.data), "x")), samples * (255 // (2**bits - 1)))

    @pytest.mark.parametrize("compression", [5, 32773])
    def test_a_part_that_ends_early_is_refused(self, compression):
        stream = lzw([self.CLEAR, *map(int, GRAY[0]), self.END]) if compression == 5 else bytes([15, *GRAY[0]])
        file = File()
        file.directory(GRAY[:2], packed=stream, compression=compression)
        with pytest.raises(ImageError, match="damaged or truncated"):
            decode_picture(bytes(file.data), "x")


@pytest.mark.parametrize("rows", [7, 24])
@pytest.mark.parametrize(("bits", "order"), [(8, "<"), (16, "<"), (16, ">"), (4, "<")])
@pytest.mark.parametrize(("compression", "pack"), [
    (8, zlib.compress), (32946, zlib.compress), (34925, lzma.compress), (50000, imagecodecs.zstd_encode),
])  # fmt: skip
def test_last_strip_padded_to_whole_rows(compression, pack, bits, order, rows):
    """libtiff reads such files; 12 rows in strips of 7 or in one of 24."""
    samples = GRAY.astype(order + "u2") * 257 if bits == 16 else GRAY >> 8 - bits
    stored = samples if bits >= 8 else samples[:, ::2] << 4 | samples[:, 1::2]
    padded = np.concatenate([stored, np.zeros((-12 % rows, stored.shape[1]), stored.dtype)])
    file = File(order)
    parts = [bytes(pack(padded[top : top + rows].tobytes())) for top in range(0, 12, rows)]
    places = [file.put(part) for part in parts]
    fields = [(273, 4, tuple(places)), (279, 4, tuple(map(len, parts))), (278, 4, (rows,))]
    file.directory(samples, fields, packed=b"", bits=bits, compression=compression)
    picture = decode_picture(bytes(file.data), "x")
    assert np.array_equal(levels(picture), samples * (17 if bits == 4 else 1))
    assert not picture.notices


@pytest.mark.parametrize("rows", [12, 24])
def test_damage_in_lzma_is_refused(rows):
    """Also in a strip that is padded to whole rows, whose check stands behind the picture's last pixel."""
    padded = np.concatenate([GRAY[:12], np.zeros((rows - 12, GRAY.shape[1]), np.uint8)])
    sound = lzma.compress(padded.tobytes())
    for at in range(24, len(sound), 13):
        part = bytearray(sound)
        part[at] ^= 4
        file = File()
        place = file.put(bytes(part))
        fields = [(273, 4, (place,)), (279, 4, (len(part),)), (278, 4, (rows,))]
        file.directory(GRAY[:12], fields, packed=b"", compression=34925)
        with pytest.raises(ImageError, match="damaged"):
            decode_picture(bytes(file.data), "x")


def test_transfer_function_is_named():
    file = File()
    file.directory(GRAY, [(301, 3, tuple(range(0, 65536, 256)))])
    for picture in (decode_picture(bytes(file.data), "x"), picture_of(Image.open(io.BytesIO(file.data)))):
        assert any("301" in notice for notice in picture.notices)


def test_primaries_become_colour_signalling():
    adobe = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    file = File()
    fields = [(number, round(1e5 * number)) for number in adobe]
    file.directory(GRAY, [
        (318, 5, (31270, 100000, 32900, 100000)),
        (319, 5, tuple(part for _, number in fields for part in (number, 100000))),
    ])  # fmt: skip
    picture = decode_picture(bytes(file.data), "x")
    assert picture_of(Image.open(io.BytesIO(file.data))).metadata.colour == picture.metadata.colour
    assert dict(picture.metadata.colour)["cHRM"] == struct.pack(
        ">8L", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000
    )
    assert Image.open(io.BytesIO(encode_picture(picture, "png"))).info["chromaticity"][4:6] == pytest.approx(
        (0.21, 0.71)
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["jpeg", "tiff", "pillow"])
def test_windows_texts_and_ratings(kind, order):
    """Title to subject in UTF-16, stars and percent: into PNG and TIFF, and through both."""
    texts = {tag: f"Straße {tag} Łódź".encode("utf-16-le") + b"\0\0" for tag in range(0x9C9B, 0x9CA0)}
    ratings = {0x4746: 4, 0x4749: 75}
    fields = [*((tag, 1, raw) for tag, raw in texts.items()), *((tag, 3, (n,)) for tag, n in ratings.items())]
    file = File(order)
    file.directory(GRAY, fields)
    if kind == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(GRAY).save(buffer, "JPEG", exif=b"Exif\0\0" + bytes(file.data))
        picture = decode_picture(buffer.getvalue(), "a")
    elif kind == "pillow":
        picture = picture_of(Image.open(io.BytesIO(bytes(file.data))))
    else:
        picture = decode_picture(bytes(file.data), "a")
    for way in (["png"], ["tif"], ["tif", "png"], ["png", "tif"]):
        result = picture
        for extension in way:
            data = encode_picture(result, extension)
            result = decode_picture(data, "b")
        found = Image.open(io.BytesIO(data)).getexif()
        assert {tag: bytes(found[tag]) for tag in texts} == texts
        assert {tag: found[tag] for tag in ratings} == ratings


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [
    "Photo", "Камера", "ЗИМА", "Фото 2024, Москва", "Ελλάδα", "Łódź", "שלום", "مرحبا", "हिन्दी भाषा", "ไทย",
])  # fmt: skip
def test_utf_16_without_a_mark(text, encoding):
    assert text_of(text.encode(encoding) + b"\0\0") == text


@pytest.mark.parametrize(
    "text", ["ab", "Café à Zürich", "photographer\0editor", "Камера", "中文", "1\t2\t3\r\n", "Naïve"]
)
def test_text_of_one_byte_a_character_is_not_taken_for_utf_16(text):
    assert text_of(text.encode()) == text
    assert all(ord(one) < 256 for one in text_of(text.encode("latin-1", "ignore")))


@pytest.mark.parametrize(("tag", "kind", "value", "named"), [
    (277, 3, 65535, "holds 65535 channels"), (256, 16, 2**40, "a size that no picture has"),
    (258, 3, None, "several depths"), (317, 2, b"abcd", r"damaged or truncated$"),
])  # fmt: skip
def test_absurd_fields_are_named_in_words(tag, kind, value, named):
    """Little memory, no number of hundreds of digits, none of Python's words."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8, 3), np.uint8), photometric="rgb", bigtiff=True, predictor=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        entry = file.pages.first.tags.get(tag) or file.pages.first.tags[305]
    at = entry.offset
    if value is None:  # bits of each sample: 8, 16, 8
        data[entry.valueoffset + 2 : entry.valueoffset + 4] = (16).to_bytes(2, "little")
    else:
        stored = value if isinstance(value, bytes) else value.to_bytes(8, "little")
        count = len(stored) if isinstance(value, bytes) else 1
        data[at : at + 20] = struct.pack("<HHQ8s", tag, kind, count, stored)
    with pytest.raises(ImageError, match=named) as caught:
        decode_picture(bytes(data), "x")
    assert len(str(caught.value)) < 100


def test_channels_count_against_the_limit_of_pixels():
    """Each takes as much memory as the picture itself: a small file may unpack to gigabytes."""
    data = io.BytesIO()
    tifffile.imwrite(data, np.zeros((100, 100, 12), np.uint8), photometric="rgb", compression="zlib")
    assert decode_picture(data.getvalue(), "a.tif", max_megapixels=0.03).pixels.shape == (3, 100, 100)
    with pytest.raises(ImageError, match=r"0\.1 million samples in 12 channels, more than the limit of 0\.08"):
        decode_picture(data.getvalue(), "a.tif", max_megapixels=0.02)
