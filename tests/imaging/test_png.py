"""PNG chunk by chunk: colour signalling, checksums, transparency, text; files are put together here by hand."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from zssr_gan.errors import ImageError
from zssr_gan.imaging.coding import coding_text
from zssr_gan.imaging.io import decode_picture, encode_picture, left_out, read_provenance
from zssr_gan.imaging.png import png_texts

GAMMA = ("gAMA", struct.pack(">L", 100000))
ADOBE = ("cHRM", struct.pack(">8L", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
PQ = ("cICP", bytes([9, 16, 0, 1]))
P3 = ("cICP", bytes([12, 13, 0, 1]))
SRGB = ("sRGB", b"\0")
MASTERING = ("mDCV", bytes(range(24)))
LIGHT = ("cLLI", bytes(range(8)))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ICCP = ("iCCP", b"x\0\0" + zlib.compress(PROFILE))


def chunk(name, content):
    body = name.encode() + content
    return struct.pack(">L", len(content)) + body + zlib.crc32(body).to_bytes(4)


def chunks_of(data):
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">L", data, at)
        found.append((data[at + 4 : at + 8].decode(), data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(depth=8, colour=2, *, before=(), after=(), interlaced=False, size=(9, 11), seed=0):
    """A PNG of random samples, each row unfiltered; interlaced by Adam7 with the same random bytes."""
    width, height = size
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    random = np.random.default_rng(seed)
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        row = (columns * channels * depth + 7) // 8
        raw += b"".join(b"\0" + random.bytes(row) for _ in range(rows) if columns)
    palette = [("PLTE", random.bytes(3 << depth))] if colour == 3 else []
    header = ("IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
    parts = [header, *before, *palette, *after, ("IDAT", zlib.compress(raw)), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


KINDS = [
    *((depth, 0) for depth in (1, 2, 4, 8, 16)),
    *((depth, 3) for depth in (1, 2, 4, 8)),
    *((depth, colour) for depth in (8, 16) for colour in (2, 4, 6)),
]


def pixels(data):
    return decode_picture(data, "x.png").pixels


class TestColour:
    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize("signals", [
        [GAMMA], [ADOBE], [GAMMA, ADOBE], [SRGB], [PQ], [PQ, MASTERING, LIGHT], [P3, ICCP, GAMMA, ADOBE], [ICCP, GAMMA],
    ])  # fmt: skip
    def test_is_carried_into_png(self, depth, signals):
        picture = decode_picture(png(depth, before=signals), "x.png")
        assert picture.notices == ()
        written = chunks_of(encode_picture(picture, "png", {"Software": "x"}))
        names = [name for name, _ in written]
        for name, content in signals:
            if name == "iCCP":
                assert picture.metadata.icc == PROFILE
            else:
                assert (name, content) in written
            assert names.index(name) < names.index("IDAT")
        order = ["cICP", "mDCV", "cLLI", "iCCP", "sRGB", "gAMA", "cHRM"]
        assert [name for name in names if name in order] == [name for name in order if name in dict(signals)]

    def test_profile_has_precedence_over_srgb(self):
        names = [name for name, _ in chunks_of(encode_picture(decode_picture(png(before=[ICCP, SRGB]), "x"), "png"))]
        assert "iCCP" in names
        assert "sRGB" not in names

    @pytest.mark.parametrize("colour", [0, 2, 3])
    @pytest.mark.parametrize("signals", [[GAMMA], [ADOBE, GAMMA], [SRGB], [P3]])
    def test_becomes_a_profile_in_tiff(self, colour, signals):
        picture = decode_picture(png(8, colour, before=signals), "x.png")
        data = encode_picture(picture, "tif")
        assert data == encode_picture(picture, "tif")  # no time in the profile
        again = decode_picture(data, "x.tif")
        assert again.metadata.icc is not None
        assert again.notices == ()
        profile = ImageCms.ImageCmsProfile(io.BytesIO(again.metadata.icc)).profile
        assert profile.xcolor_space.strip() == ("GRAY" if colour == 0 else "RGB")
        assert left_out(picture.metadata, len(picture.pixels), ".tif") == ()
        if ADOBE in signals and colour:
            # The chromatic adaptation to D50 moves them: Adobe RGB (1998) has its green at (0.2973, 0.6257) or so.
            x, y, _ = profile.green_primary[1]
            assert (x, y) == pytest.approx((0.230, 0.702), abs=0.005)

    def test_profile_says_the_curve(self):
        """A linear gray of 0.5 is shown as sRGB's level 188 (0.735)."""
        linear = decode_picture(encode_picture(decode_picture(png(8, 2, before=[GAMMA]), "x"), "tif"), "x").metadata.icc
        gray = Image.new("RGB", (1, 1), (128, 128, 128))
        shown = ImageCms.profileToProfile(gray, io.BytesIO(linear), io.BytesIO(PROFILE))
        assert shown.getpixel((0, 0)) == pytest.approx((188, 188, 188), abs=1)

    def test_what_no_profile_says_is_named(self):
        picture = decode_picture(png(16, before=[PQ]), "x.png")
        assert "cICP" in left_out(picture.metadata, 3, ".tiff")[0]
        assert left_out(picture.metadata, 3, "png") == ()
        assert decode_picture(encode_picture(picture, "tif"), "x.tif").metadata.icc is None

    @pytest.mark.parametrize("ill", [("gAMA", bytes(4)), ("gAMA", b"\1"), ("cHRM", bytes(32)), ("sRGB", b"\7")])
    def test_ill_signals_are_named(self, ill):
        picture = decode_picture(png(before=[ill]), "x.png")
        assert ill[0] in picture.notices[0]
        assert picture.metadata.colour == ()


class TestChecksums:
    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize(("depth", "colour"), KINDS)
    def test_no_flipped_bit_changes_pixels_in_silence(self, depth, colour, interlaced, capfd):
        """Every one-bit flip: refused, named in a notice, or the same pixels."""
        transparent = [("tRNS", b"\0\1")] if colour == 0 else [("tRNS", b"\7")] if colour == 3 else []
        data = png(depth, colour, before=[GAMMA], after=transparent, interlaced=interlaced, size=(5, 6))
        sound = decode_picture(data, "x")
        assert sound.notices == ()
        refused = 0
        for place in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            try:
                picture = decode_picture(bytes(flipped), "x")
            except ImageError:
                refused += 1
                continue
            assert np.array_equal(picture.pixels, sound.pixels)
            assert picture.notices, place
            assert place // 8 < len(data) - 12 or "IEND" in picture.notices[-1], place
        assert refused > 8 * (len(data) - 92)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("name", ["IHDR", "PLTE", "IDAT"])
    def test_critical_chunks(self, name):
        data = bytearray(png(8, 3))
        at = data.index(name.encode())
        (length,) = struct.unpack_from(">L", data, at - 4)
        data[at + 4 + length] ^= 1
        with pytest.raises(ImageError, match=f"'{name}' has a wrong checksum"):
            decode_picture(bytes(data), "x")

    @pytest.mark.parametrize("depth", [8, 16])
    def test_checksum_of_the_pixels(self, depth, capfd):
        """zlib's own (Adler-32), under a chunk whose checksum is right."""
        parts = dict(chunks_of(png(depth)))
        parts["IDAT"] = parts["IDAT"][:-1] + bytes([parts["IDAT"][-1] ^ 1])
        with pytest.raises(ImageError, match="damaged or truncated"):
            decode_picture(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts.items()), "x")
        assert capfd.readouterr() == ("", "")

    def test_unknown_critical_chunk(self):
        with pytest.raises(ImageError, match="'CgBI'"):
            decode_picture(png(before=[("CgBI", b"")]), "x")


class TestIllMetadata:
    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize("name", ["tEXt", "zTXt", "iTXt", "iCCP", "pHYs", "eXIf", "tIME", "gAMA", "tRNS", "prVt"])
    def test_wrong_checksum(self, depth, name):
        data = bytearray(png(depth, after=[(name, b"12345678")]))
        data[data.index(name.encode()) + 5] ^= 4
        picture = decode_picture(bytes(data), "x")
        assert np.array_equal(picture.pixels, pixels(png(depth)))
        assert name in picture.notices[0]

    def test_wrong_length(self):
        for length in (3, 300, 2**31):
            data = bytearray(png(before=[("tEXt", b"Comment\0hello")]))
            at = data.index(b"tEXt") - 4
            data[at : at + 4] = length.to_bytes(4)
            picture = decode_picture(bytes(data), "x")
            assert np.array_equal(picture.pixels, pixels(png()))
            assert "tEXt" in picture.notices[0]

    @pytest.mark.parametrize("bit", range(64))
    def test_no_sound_chunk_is_lost_behind_a_damaged_one(self, bit):
        """One bit of a text's length or type is wrong: gamma and transparency behind it are there."""
        rest = [("gAMA", (45455).to_bytes(4)), ("pHYs", (2835).to_bytes(4) * 2 + b"\1")]
        wanted = decode_picture(png(before=rest), "x")
        data = bytearray(png(before=[("tEXt", b"Comment\0words that are letters alone"), *rest]))
        data[data.index(b"tEXt") - 4 + bit // 8] ^= 1 << bit % 8
        try:
            picture = decode_picture(bytes(data), "x")
        except ImageError:  # its type is none, or that of a chunk that must be known
            assert bit // 8 >= 4
            return
        assert np.array_equal(picture.pixels, wanted.pixels)
        assert picture.notices
        assert (picture.metadata.colour, picture.metadata.dpi) == (wanted.metadata.colour, wanted.metadata.dpi)
        assert wanted.metadata.colour
        assert wanted.metadata.dpi

    @pytest.mark.parametrize("text", [
        ("zTXt", b"parameters\0\0" + zlib.compress(bytes(3 * 10**6))),
        ("iTXt", b"parameters\0\1\0\0\0" + zlib.compress(bytes(3 * 10**6))),
        ("tEXt", b"parameters\0" + b"a" * 3 * 10**6),
        ("zTXt", b"parameters\0\0" + b"no zlib"),
        ("iTXt", b"parameters"),
    ])  # fmt: skip
    def test_ill_texts(self, text):
        picture = decode_picture(png(before=[text]), "x")
        assert np.array_equal(picture.pixels, pixels(png()))
        assert "parameters" in picture.notices[0]

    def test_bomb_in_a_profile(self):
        picture = decode_picture(png(before=[("iCCP", b"x\0\0" + zlib.compress(bytes(10**8), 9))]), "x")
        assert "iCCP" in picture.notices[0]

    @pytest.mark.parametrize(("depth", "colour"), KINDS)
    @pytest.mark.parametrize("trailing", [b"", b"something else"])
    @pytest.mark.parametrize("wrong", [b"\0\0\0\0IEND\0\0\0\0", b"\0\0\1\0IEND\xae\x42\x60\x82"])
    def test_damaged_end(self, depth, colour, trailing, wrong):
        """Of IEND alone the checksum or the length is wrong."""
        picture = decode_picture(png(depth, colour)[:-12] + wrong + trailing, "x")
        assert np.array_equal(picture.pixels, pixels(png(depth, colour)))
        assert "IEND" in picture.notices[0]

    @pytest.mark.parametrize("cut", [1, 6, 12])
    def test_missing_end(self, cut):
        picture = decode_picture(png()[:-cut], "x")
        assert np.array_equal(picture.pixels, pixels(png()))
        assert "IEND" in picture.notices[0]


class TestTransparency:
    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_gray_level(self, depth):
        """The level is scaled as the samples are."""
        level = 3 & (2**depth - 1)
        opaque = decode_picture(png(depth, 0), "x").pixels
        picture = decode_picture(png(depth, 0, after=[("tRNS", level.to_bytes(2))]), "x")
        hidden = (opaque * (2**depth - 1)).round() == level
        if depth < 8:
            assert hidden.any()
        assert np.array_equal(picture.alpha == 0, hidden)
        assert np.array_equal(picture.pixels, opaque)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_colour(self, depth):
        opaque = decode_picture(png(depth, 2), "x").pixels
        key = (opaque[:, 4, 5] * (2**depth - 1)).round().int().tolist()
        picture = decode_picture(png(depth, 2, after=[("tRNS", struct.pack(">3H", *key))]), "x")
        assert picture.alpha[0, 4, 5] == 0
        assert picture.alpha.mean() > 0.9

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_palette(self, depth):
        picture = decode_picture(png(depth, 3, after=[("tRNS", b"\x80" * 2 ** (depth - 1))]), "x")
        assert set(picture.alpha.unique().tolist()) == {np.float32(128 / 255).item(), 1.0}

    def test_ill(self):
        picture = decode_picture(png(8, 2, after=[("tRNS", b"\1")]), "x")
        assert picture.alpha is None
        assert "tRNS" in picture.notices[0]


class TestBackground:
    """bKGD is carried, in the depth of the result; sBIT is said to be left out."""

    @pytest.mark.parametrize(("depth", "colour", "content", "expected"), [
        (1, 0, (1,), (255,)), (2, 0, (2,), (170,)), (4, 0, (5,), (85,)), (8, 0, (7,), (7,)), (16, 0, (300,), (300,)),
        (8, 4, (9,), (9,)), (8, 2, (1, 2, 3), (1, 2, 3)), (16, 6, (1, 2, 65535), (1, 2, 65535)),
    ])  # fmt: skip
    def test_is_carried(self, depth, colour, content, expected):
        raw = struct.pack(f">{len(content)}H", *content)
        picture = decode_picture(png(depth, colour, before=[("bKGD", raw)]), "x")
        assert not picture.notices
        written = dict(chunks_of(encode_picture(picture, "png")))
        assert written["bKGD"] == struct.pack(f">{len(expected)}H", *expected)
        assert left_out(picture.metadata, 3, "png") == ()
        assert "bKGD" in left_out(picture.metadata, 3, "tif")[0]

    def test_of_a_palette(self):
        data = png(8, 3, after=[("bKGD", b"\2")])
        written = dict(chunks_of(encode_picture(decode_picture(data, "x"), "png")))
        entry = dict(chunks_of(data))["PLTE"][6:9]
        assert written["bKGD"] == struct.pack(">3H", *entry)

    @pytest.mark.parametrize(("depth", "colour", "content"), [
        (8, 0, b"\1\0"), (8, 2, b"\0\1"), (8, 0, b"\0\0\0"), (4, 0, b"\0\x10"), (16, 6, b"\0\0"), (8, 3, b"")
    ])  # fmt: skip
    def test_ill(self, depth, colour, content):
        picture = decode_picture(png(depth, colour, after=[("bKGD", content)]), "x")
        assert picture.metadata.background is None
        assert "bKGD" in picture.notices[0]

    def test_significant_bits(self):
        assert "sBIT" in decode_picture(png(before=[("sBIT", b"\5\6\5")]), "x").notices[0]


class TestTexts:
    TEXTS = (
        ("tEXt", b"Title\0caf\xe9"),
        ("tEXt", b"Author\0Zo\xc3\xab"),  # UTF-8 where Latin-1 belongs
        ("zTXt", b"Comment\0\0" + zlib.compress(b"caf\xe9")),
        ("iTXt", b"Description\0\0\0\0\0" + "超解像".encode()),
    )
    READ = {"Title": "café", "Author": "Zoë", "Comment": "café", "Description": "超解像"}  # noqa: RUF012

    def test_encodings(self):
        data = png(before=self.TEXTS)
        assert png_texts(data) == self.READ

    @pytest.mark.parametrize("extension", ["png", "tif"])
    def test_are_carried(self, extension, tmp_path):
        path = tmp_path / f"x.{extension}"
        path.write_bytes(encode_picture(decode_picture(png(before=self.TEXTS), "x"), extension, {"Title": "ours"}))
        assert read_provenance(path) == {**self.READ, "Title": "ours"}

    def test_what_a_result_says_of_itself_is_not_handed_on(self):
        data = encode_picture(decode_picture(png(), "x"), "png", {"zssr-gan:label": "internal: ...", "Note": "n"})
        assert dict(decode_picture(data, "x").metadata.texts) == {"Note": "n"}

    @pytest.mark.parametrize(
        ("text", "footage"),
        [
            ({}, None),
            (coding_text("h264", "yuv420p", "limited", lossless=False), True),
            (coding_text("ffv1", "yuv420p", "limited", lossless=True), False),
            ({"zssr-gan:coding": "h264"}, None),
            ({"zssr-gan:coding": "[]"}, None),
            ({"zssr-gan:coding": '{"lossless": "no"}'}, None),
        ],
    )
    def test_of_a_still_say_whether_a_codec_changed_it(self, text, footage):
        data = encode_picture(decode_picture(png(), "x"), "png", text)
        assert decode_picture(data, "x").footage is footage
        again = encode_picture(decode_picture(data, "x"), "png")  # a result is no frame
        assert decode_picture(again, "x").footage is None


def test_every_depth_is_read_as_pillow_reads_it():
    for depth, colour in KINDS:
        for interlaced in (False, True):
            data = png(depth, colour, interlaced=interlaced, size=(21, 17))
            ours = decode_picture(data, "x")
            if depth == 16:
                expected = imagecodecs.png_decode(data)
            else:
                mode = {0: "L", 2: "RGB", 3: "RGB", 4: "LA", 6: "RGBA"}[colour]
                expected = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
            parts = ours.pixels if ours.alpha is None else np.concatenate([ours.pixels, ours.alpha])
            samples = (np.asarray(parts).astype(float) * (2**ours.bits - 1)).round().transpose(1, 2, 0)
            assert np.array_equal(np.squeeze(samples), expected)
