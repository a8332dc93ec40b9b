"""JPEG segment by segment: restart markers, a missing end, and metadata, sound and ill."""

import contextlib
import io
import re
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms

from zssr_gan.errors import ImageError
from zssr_gan.imaging import jpeg as jpeg_module
from zssr_gan.imaging.io import decode_picture, encode_picture

RGB = Image.fromarray(skimage.data.astronaut()[40:75, 200:245])
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmlns:tiff="t" tiff:Orientation="6"/></x:xmpmeta>'
IPTC = b"\x1c\x02\x78\x00\x04abcd"


def jpeg(image=RGB, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_segment(data, marker, content):
    """The file with a further segment behind its first marker."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def exif(order="<", fields=(), *, thumbnail=b""):
    """An EXIF block of (tag, type, values) with a thumbnail at its end."""
    code = {1: "B", 3: "H", 4: "L", 8: "h", 9: "l", 11: "f"}
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    end = 8 + 2 + 12 * len(fields) + 4
    entries, extra = b"", b""
    for tag, kind, values in fields:
        if kind == 5:
            entries += struct.pack(order + "HHLL", tag, kind, 1, end + len(extra))
            extra += struct.pack(order + "LL", *values)
        else:
            entries += struct.pack(order + "HHL", tag, kind, 1) + struct.pack(order + code[kind], values).ljust(
                4, b"\0"
            )
    following = b""
    if thumbnail:
        at = end + len(extra)
        following = struct.pack(order + "H", 2)
        following += struct.pack(order + "HHLL", 0x201, 4, 1, at + 30) + struct.pack(
            order + "HHLL", 0x202, 4, 1, len(thumbnail)
        )
        following += bytes(4) + thumbnail
    body = (
        struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "L", end + len(extra) if following else 0)
    )
    return head + body + extra + following


def pixels(picture):
    return (picture.pixels * 255).round().byte().permute(1, 2, 0).numpy()


def expected(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


RESTARTS = {"restart_marker_blocks": 1}
KINDS = [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 95}]


class TestRestartMarkers:
    @pytest.mark.parametrize("size", [(45, 35), (16, 16), (17, 33), (130, 9)])
    @pytest.mark.parametrize("options", KINDS)
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_sound_files(self, options, mode, size):
        if mode != "RGB":
            options = {key: value for key, value in options.items() if key != "subsampling"}
        for interval in (1, 3, 7):
            data = jpeg(RGB.convert(mode).resize(size), restart_marker_blocks=interval, **options)
            assert b"\xff\xdd" in data
            picture = decode_picture(data, "x")
            assert picture.pixels.shape == (1 if mode == "L" else 3, size[1], size[0])
            assert len(picture.notices) == (mode == "CMYK")

    @pytest.mark.parametrize("options", KINDS)
    @pytest.mark.parametrize("harm", ["missing", "first missing", "last missing", "swapped", "doubled", "number"])
    def test_are_checked(self, options, harm):
        data = jpeg(**options, **RESTARTS)
        places = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
        assert len(places) > 4
        bad = bytearray(data)
        match harm:
            case "missing":
                del bad[places[2] : places[2] + 2]
            case "first missing":
                del bad[places[0] : places[0] + 2]
            case "last missing":
                del bad[places[-1] : places[-1] + 2]
            case "swapped":
                bad[places[1] + 1], bad[places[2] + 1] = bad[places[2] + 1], bad[places[1] + 1]
            case "doubled":
                bad[places[1] : places[1]] = bad[places[1] : places[1] + 2]
            case "number":
                bad[places[3] + 1] ^= 4
        with pytest.raises(ImageError, match="restart markers are missing or misordered"):
            decode_picture(bytes(bad), "x")

    @pytest.mark.parametrize("options", KINDS)
    @pytest.mark.parametrize("scene", ["photo", "white", "black", "gray photo", "gray white"])
    def test_another_interval_is_refused(self, options, scene):
        image = RGB if "photo" in scene else Image.new("RGB", RGB.size, scene.split()[-1])
        if "gray" in scene:
            image, options = image.convert("L"), {key: value for key, value in options.items() if key != "subsampling"}
        data = jpeg(image, restart_marker_blocks=2, **options)
        decode_picture(data, "x")
        at = data.index(b"\xff\xdd") + 4
        assert data[at : at + 2] == b"\0\2"
        for interval in (1, 3, 5):
            with pytest.raises(ImageError, match="restart"):
                decode_picture(data[:at] + interval.to_bytes(2) + data[at + 2 :], "x")

    @pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"optimize": True}, {"progressive": True}])
    def test_zeros_before_a_marker_are_passed_over(self, options):
        """As decoders do; other bytes there are as many units as the interval has not."""
        data = jpeg(**options, restart_marker_blocks=2)
        scan = data.index(b"\xff\xda")
        for zeros in (1, 2, 9):
            filled = data[:scan] + re.sub(rb"(?=\xff[\xd0-\xd7])", bytes(zeros), data[scan:])
            assert np.array_equal(pixels(decode_picture(filled, "x")), expected(data))
            assert np.array_equal(expected(filled), expected(data))
        with pytest.raises(ImageError, match="not one interval, DRI, of pixels"):
            decode_picture(data[:scan] + data[scan:].replace(b"\xff\xd0", b"UU\xff\xd0", 1), "x")

    def test_a_lost_interval(self):
        """Eight intervals less leave the order as it was."""
        data = jpeg(RGB.resize((200, 64)), restart_marker_blocks=1)
        places = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
        with pytest.raises(ImageError, match=r"missing or misordered: \d+ of \d+"):
            decode_picture(data[: places[3]] + data[places[11] :], "x")

    def test_of_a_jpeg_in_a_tiff(self):
        import tifffile

        part = jpeg(RGB, subsampling=0, **RESTARTS)
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.asarray(RGB), photometric="rgb", compression="jpeg")
        with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
            page = file.pages.first
            start, count = page.dataoffsets[0], page.tags["StripByteCounts"]
        for number, sound in ((1, True), (2, False)):
            data = bytearray(buffer.getvalue())
            bad = part if sound else part.replace(b"\xff\xd1", b"\xff\xd5", 1)
            data[start:] = bad
            data[count.valueoffset : count.valueoffset + 4] = len(bad).to_bytes(4, "little")
            if count.valueoffset > start:
                pytest.skip("tifffile puts its directory behind the pixels")
            if sound:
                assert decode_picture(bytes(data), "x").pixels.shape == (3, 35, 45), number
            else:
                with pytest.raises(ImageError, match="restart markers"):
                    decode_picture(bytes(data), "x")


class TestMissingEnd:
    @pytest.mark.parametrize("options", [*KINDS, RESTARTS])
    def test_complete_pixels_are_taken(self, options):
        data = jpeg(**options)
        for tail in (b"", b"\xff", bytes(20)):
            picture = decode_picture(data[:-2] + tail, "x")
            assert np.array_equal(pixels(picture), expected(data))
            assert "EOI" in picture.notices[0]

    @pytest.mark.parametrize("options", KINDS)
    def test_incomplete_pixels_are_refused(self, options):
        data = jpeg(**options)
        scan = data.rindex(b"\xff\xda")
        for end in range(scan + 20, len(data) - 6, 37):
            with pytest.raises(ImageError, match="truncated"):
                decode_picture(data[:end], "x")

    def test_missing_scans_are_refused(self):
        """Cut between two scans of a progressive file, where nothing else is wrong."""
        data = jpeg(progressive=True)
        for match in list(re.finditer(rb"\xff\xda", data))[1:]:
            with pytest.raises(ImageError, match="truncated"):
                decode_picture(data[: match.start()], "x")


class TestCutBeforeEnd:
    """A file cut short behind which an EOI was put, as recovery tools and cameras do, also behind a fill."""

    @pytest.mark.parametrize("tail", [0, b"\0", b"\xff"])
    @pytest.mark.parametrize("options", [*KINDS, RESTARTS, {"optimize": True}])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_is_refused(self, options, tail, mode):
        if mode != "RGB":
            options = {key: value for key, value in options.items() if key != "subsampling"}
        image = Image.merge(mode, [*RGB.split(), RGB.convert("L")]) if mode == "CMYK" else RGB.convert(mode)
        data = jpeg(image, **options)
        scan = data.rindex(b"\xff\xda")
        for share in (0.3, 0.6, 0.9):
            end = scan + 14 + int(share * (len(data) - scan - 14))
            fill = tail * (len(data) - end) if tail else b""
            with pytest.raises(ImageError, match="damaged"):
                decode_picture(data[:end] + fill + b"\xff\xd9", "x")

    @pytest.mark.parametrize("options", [{"quality": 40}, {"quality": 95, "subsampling": 0}, {"optimize": True}])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_any_other_fill_is_refused_or_named(self, options, mode):
        """A fill has other units than the picture needs, but for one that ends with the last of them by chance."""
        if mode == "L":
            options = {key: value for key, value in options.items() if key != "subsampling"}
        data, random = jpeg(RGB.convert(mode), **options), np.random.default_rng(0)
        scan = data.rindex(b"\xff\xda") + 14
        unseen = 0
        for end in random.integers(scan, len(data) - 40, 12):
            for fill in (b"\x55" * (len(data) - end), random.bytes(len(data) - end).replace(b"\xff", b"\xfe")):
                with contextlib.suppress(ImageError):
                    unseen += not any("too many" in one for one in decode_picture(data[:end] + fill, "x").notices)
        assert unseen <= 3

    def test_missing_scans_are_named(self):
        """They may be left out (T.81, G): each pixel is there, but coarse."""
        data = jpeg(progressive=True)
        scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
        headers = [data.rindex(b"\xff\xc4", 0, scan) for scan in scans]
        for end in headers[3:]:
            assert "lacks its last scans" in decode_picture(data[:end] + b"\xff\xd9", "x").notices[0]
        assert decode_picture(data, "x").notices == ()

    @pytest.mark.parametrize("options", [{}, {"optimize": True}, {"quality": 99, "optimize": True}, {"quality": 20}])
    def test_zeros_that_the_pixels_need_were_not_written(self, options):
        """A cut file whose last units take one or two bytes of zeros; encoders pad with ones."""
        silent = 0
        for data in (jpeg(**options), jpeg(RGB.resize((24, 20)), **options)):
            begin, sound = data.rindex(b"\xff\xda") + 14, pixels(decode_picture(data, "x"))
            for end in range(max(begin, len(data) - 60), len(data) - 12):
                for zeros in (40, len(data) - 2 - end):
                    with contextlib.suppress(ImageError):
                        picture = decode_picture(data[:end] + bytes(zeros) + b"\xff\xd9", "x")
                        silent += not picture.notices and not np.array_equal(pixels(picture), sound)
        assert silent <= 1

    @pytest.mark.parametrize("level", ["white", "#777"])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    @pytest.mark.parametrize("restarts", [{}, {"restart_marker_blocks": 40}])
    def test_flat_pictures_with_tables_of_their_own(self, mode, level, restarts):
        """Zeros are all that their pixels need, and codes that are not valid give the same; with a bar, and without."""
        for size in ((360, 408), (328, 400), (200, 200), (64, 72), (120, 8)):
            image = Image.new(mode, size, level)
            for bar in (None, (0, 0, 40, 8), (8, size[1] - 8, 24, size[1])):
                if bar:
                    image.paste("black", bar)
                data = jpeg(image, quality=95, optimize=True, **restarts)
                assert decode_picture(data, "x").notices == ()
                if not restarts and size[0] > 100 and mode == "L":
                    scan = data.rindex(b"\xff\xda") + 10
                    with pytest.raises(ImageError, match="damaged"):
                        decode_picture(data[: (scan + len(data)) // 2] + b"\xff\xd9", "x")

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
    def test_flat_pictures_whose_pixels_are_zeros_are_taken(self, options, mode):
        for size in ((8, 8), (64, 64), (65, 66), (100, 9)):
            for level in (0, 77, 128, 255):
                data = jpeg(Image.new("L", size, level).convert(mode), **options)
                assert len(decode_picture(data, "x").notices) == (mode == "CMYK")

    def test_a_fill_behind_complete_pixels_is_taken(self):
        data = jpeg(quality=95, subsampling=0)
        for fill in (bytes(1), bytes(600), b"\xff" * 600):
            assert np.array_equal(pixels(decode_picture(data[:-2] + fill + b"\xff\xd9", "x")), expected(data))

    @pytest.mark.parametrize("options", [*KINDS, {"quality": 100}])
    def test_fill_bytes_and_zeros_before_the_end_are_no_surplus(self, options):
        data = jpeg(**options)
        for fill in (b"\xff", b"\xff" * 9, b"\0", bytes(9)):
            assert decode_picture(data[:-2] + fill + b"\xff\xd9", "x").notices == ()
        assert "too many" in decode_picture(data[:-2] + b"U" * 99 + b"\xff\xd9", "x").notices[0]

    @pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"optimize": True}, {"quality": 100}])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_a_surplus_of_few_bytes_is_named(self, mode, options):
        """The units of a sequential file are counted, of a flat picture too."""
        if mode != "RGB":
            options = {key: value for key, value in options.items() if key != "subsampling"}
        for image in (RGB, Image.new("RGB", RGB.size, "white")):
            for restarts in ({}, RESTARTS):
                data = jpeg(image.convert(mode), **options, **restarts)
                for tail, named in ((b"", False), (b"\x55", False), (b"\x55" * 4, True), (b"\0" * 5 + b"\x55", True)):
                    notices = decode_picture(data[:-2] + tail + b"\xff\xd9", "x").notices
                    assert any("too many bytes" in one for one in notices) == named

    @pytest.mark.parametrize("options", KINDS)
    def test_fill_bytes_before_restart_markers(self, options):
        data = jpeg(**options, **RESTARTS)
        filled = re.sub(rb"\xff(?=[\xd0-\xd7])", b"\xff" * 3, data)
        picture = decode_picture(filled, "x")
        assert np.array_equal(pixels(picture), expected(data))
        assert picture.notices == ()

    def test_a_small_face_takes_little_time(self):
        """Folders hold thousands: at most a few times what Pillow takes, without tables for each."""
        data = jpeg(RGB.resize((64, 64)), quality=90)

        def seconds(read):
            begin = time.process_time()
            for _ in range(10):
                read()
            return time.process_time() - begin

        plain = min(seconds(lambda: expected(data)) for _ in range(3))
        assert min(seconds(lambda: decode_picture(data, "x")) for _ in range(3)) < 20 * plain

    def test_lossless(self):
        """Its scans count no coefficients."""
        import imagecodecs

        picture = decode_picture(bytes(imagecodecs.jpeg8_encode(np.asarray(RGB), lossless=True)), "x")
        assert np.array_equal(pixels(picture), np.asarray(RGB))
        assert picture.notices == ()


class TestIllMetadata:
    @pytest.mark.parametrize(("marker", "content", "named"), [
        (0xE1, b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff", "EXIF"),
        (0xE1, b"Exif\0\0", "EXIF"),
        (0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff", "EXIF"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta", "XMP"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "XMP"),
        (0xE2, b"ICC_PROFILE\0\1\2" + PROFILE, "profile"),
        (0xE2, b"ICC_PROFILE\0\1\1" + PROFILE[:300], "profile"),
        (0xE2, b"ICC_PROFILE\0\1\1" + bytes(200), "profile"),
        (0xE2, b"MPF\0II*\0\xff\xff\xff\xff", "MPF"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\4abcd", "IPTC"),
        (0xE0, b"JFIF\0\1\1\1\0\0\0\x48\0\0", "dpi"),
    ])  # fmt: skip
    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    def test_is_named_and_costs_no_pixels(self, marker, content, named, options):
        data = jpeg(**options)
        picture = decode_picture(with_segment(data, marker, content), "x")
        assert np.array_equal(pixels(picture), expected(data))
        assert named in " ".join(picture.notices)
        for extension in ("png", "tif"):
            assert decode_picture(encode_picture(picture, extension), "again").notices == ()

    @pytest.mark.parametrize(("marker", "content"), [
        (0xE0, b"JFIF"), (0xE0, b""), (0xEE, b"Adobe"), (0xED, b"Photoshop 3.0\0 8BI"), (0xE2, b"MP"),
        (0xFE, b"\xff\xd9"), (0xE1, b""), (0xEF, b"\xff" * 100),
        (0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\xff\xff\xff\xff"),
    ])  # fmt: skip
    def test_short_segments(self, marker, content):
        data = jpeg()
        assert np.array_equal(pixels(decode_picture(with_segment(data, marker, content), "x")), expected(data))

    def test_orientation_of_a_block_that_is_damaged_elsewhere(self):
        """A sub-directory that lies outside the block costs the block, not the turn."""
        block = exif(">", [(0x112, 3, 6), (0x8769, 4, 5000)])
        data = with_segment(jpeg(), 0xE1, b"Exif\0\0" + block)
        assert decode_picture(data, "x").pixels.shape == (3, 45, 35)


class TestExif:
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("kind", [1, 3, 4, 8, 9])
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    @pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP"])
    def test_orientation_in_the_fields_own_type(self, order, kind, orientation, container):
        block = exif(order, [(0x10F, 4, 7), (0x112, kind, orientation), (0x11A, 5, (72, 1))])
        if container == "JPEG":
            data = with_segment(jpeg(), 0xE1, b"Exif\0\0" + block)
        else:
            buffer = io.BytesIO()
            RGB.save(buffer, container, exif=block, **({"lossless": True} if container == "WEBP" else {}))
            data = buffer.getvalue()
        picture = decode_picture(data, "x")
        assert picture.notices == ()
        turned = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
        upright = np.rot90(expected(data) if container == "JPEG" else np.asarray(RGB), turned)
        assert np.array_equal(pixels(picture), upright)
        assert picture.metadata.exif == exif(order, [(0x10F, 4, 7), (0x112, kind, 1), (0x11A, 5, (72, 1))])

    @pytest.mark.parametrize("kind", [5, 11])
    def test_orientation_that_is_no_whole_number_is_none(self, kind):
        """Its type cannot hold an orientation: obeyed but not reset, it would turn the result once more."""
        value = (6, 1) if kind == 5 else 6
        picture = decode_picture(with_segment(jpeg(), 0xE1, b"Exif\0\0" + exif("<", [(0x112, kind, value)])), "x")
        assert np.array_equal(pixels(picture), expected(jpeg()))
        again = decode_picture(encode_picture(picture, "png"), "x")
        assert np.array_equal(pixels(again), pixels(picture))

    @pytest.mark.parametrize("order", "<>")
    def test_thumbnail_is_dropped(self, order):
        thumbnail = jpeg(RGB.resize((16, 12)))
        fields = [(0x112, 3, 1), (0x11A, 5, (72, 1))]
        data = with_segment(jpeg(), 0xE1, b"Exif\0\0" + exif(order, fields, thumbnail=thumbnail))
        picture = decode_picture(data, "x")
        assert picture.metadata.exif == exif(order, fields)
        assert picture.notices == ()
        again = Image.open(io.BytesIO(encode_picture(picture, "png"))).getexif()
        assert not again.get_ifd(1)

    def test_thumbnail_before_other_values_is_blanked(self):
        thumbnail = jpeg(RGB.resize((16, 12)))
        block = exif("<", [(0x112, 3, 1)], thumbnail=thumbnail) + b"maker note"
        picture = decode_picture(with_segment(jpeg(), 0xE1, b"Exif\0\0" + block), "x")
        assert picture.metadata.exif.endswith(b"maker note")
        assert len(picture.metadata.exif) == len(block)
        assert thumbnail[:40] not in picture.metadata.exif
        assert np.frombuffer(picture.metadata.exif, np.uint8)[30:-10].max() == 0

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_resolution_turns_with_the_axes(self, orientation, order):
        block = exif(order, [(0x112, 3, orientation), (0x11A, 5, (72, 1)), (0x11B, 5, (144, 1)), (0x128, 3, 2)])
        across, down = (72, 144) if orientation < 5 else (144, 72)
        for data in (
            with_segment(jpeg(dpi=(72, 144)), 0xE1, b"Exif\0\0" + block),
            with_segment(jpeg(), 0xE1, b"Exif\0\0" + block),
        ):
            picture = decode_picture(data, "x")
            assert picture.metadata.dpi == (across, down)
            written = Image.Exif()
            written.load(picture.metadata.exif)
            assert (written[0x11A], written[0x11B]) == (across, down)

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("kind", [3, 4])
    @pytest.mark.parametrize("extension", ["png", "tif"])
    def test_size_is_that_of_the_pixels(self, order, kind, extension):
        """Beside the pixels' size in the directory of how they were taken, an image's in the first, as TIFF has it."""
        number = lambda value: struct.pack(order + {3: "HH", 4: "L"}[kind], *[value, 0][: 2 if kind == 3 else 1])  # noqa: E731
        mark = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
        first = struct.pack(order + "H", 3)
        for tag, value in ((256, number(45)), (257, number(35)), (34665, struct.pack(order + "L", 50))):
            first += struct.pack(order + "HHL", tag, 4 if tag == 34665 else kind, 1) + value
        taken = struct.pack(order + "H", 3)
        for tag, value in ((0xA002, number(45)), (0xA003, number(35)), (0x8827, struct.pack(order + "HH", 400, 0))):
            taken += struct.pack(order + "HHL", tag, 3 if tag == 0x8827 else kind, 1) + value
        block = mark + first + bytes(4) + taken + bytes(4)
        xmp = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:e="e" xmlns:exif="x" xmlns:tiff="t">'
               b'<e:a exif:PixelXDimension="45"/><tiff:ImageLength>35</tiff:ImageLength></x:xmpmeta>')  # fmt: skip
        data = with_segment(jpeg(), 0xE1, b"Exif\0\0" + block)
        picture = decode_picture(with_segment(data, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp), "x")
        large = replace(picture, pixels=picture.pixels.repeat(1, 2, 3))
        made = Image.open(io.BytesIO(encode_picture(large, extension)))
        fields = made.getexif().get_ifd(34665)
        assert (fields[0xA002], fields[0xA003], fields[0x8827]) == (135, 70, 400)
        if extension == "png":
            assert (made.getexif()[256], made.getexif()[257]) == (135, 70)
        packet = made.info.get("xmp") or made.info["XML:com.adobe.xmp"]
        packet = packet.encode() if isinstance(packet, str) else packet
        assert b'PixelXDimension="135"' in packet
        assert b"<tiff:ImageLength>70<" in packet

    def test_no_resolution_is_invented(self):
        for block in (exif("<", [(0x112, 3, 1)]), exif(">", [(0x112, 3, 1), (0x11A, 5, (72, 1))])):
            for data in (jpeg(), jpeg()[:2] + jpeg()[20:]):  # with JFIF, without
                picture = decode_picture(with_segment(data, 0xE1, b"Exif\0\0" + block), "x")
                assert picture.metadata.dpi is None
                assert "dpi" not in Image.open(io.BytesIO(encode_picture(picture, "png"))).info
                assert "dpi" not in Image.open(io.BytesIO(encode_picture(picture, "tif"))).info

    def test_shape_of_pixels_is_no_resolution(self):
        data = bytearray(jpeg(dpi=(72, 144)))
        data[13] = 0  # JFIF's unit
        assert decode_picture(bytes(data), "x").metadata.dpi is None


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_xmp_and_iptc_are_carried(extension):
    resources = b"8BIM\4\x0c\0\0\0\0\0\3abc\0" + b"8BIM\4\4\2ab\0" + struct.pack(">L", len(IPTC)) + IPTC + b"\0"
    data = with_segment(jpeg(), 0xED, b"Photoshop 3.0\0" + resources)
    data = with_segment(data, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    again = decode_picture(encode_picture(decode_picture(data, "x"), extension, {"Note": "n"}), "y")
    assert again.notices == ()
    assert again.metadata.xmp == XMP.replace(b'"6"', b'"1"')  # else a viewer turns it once more
    assert again.metadata.iptc == IPTC


def test_profile_in_parts():
    image = jpeg()
    half = len(PROFILE) // 2
    for number, part in ((2, PROFILE[half:]), (1, PROFILE[:half])):
        image = with_segment(image, 0xE2, b"ICC_PROFILE\0" + bytes([number, 2]) + part)
    assert decode_picture(image, "x").metadata.icc == PROFILE


@pytest.mark.parametrize(
    ("top", "left", "height", "width", "quality"), [(369, 359, 36, 76, 1), (160, 243, 85, 12, 2), (132, 7, 73, 9, 2)]
)
def test_a_last_restart_interval_that_changes_no_pixel_is_no_surplus(top, left, height, width, quality):
    crop = Image.fromarray(skimage.data.astronaut()[top : top + height, left : left + width])
    file = io.BytesIO()
    crop.save(file, "JPEG", quality=quality, progressive=True, restart_marker_blocks=2)
    assert not decode_picture(file.getvalue(), "x").notices


@pytest.mark.parametrize(("name", "top", "left", "height", "width", "options"), [
    ("astronaut", 200, 485, 4, 18, {"quality": 99, "subsampling": 2}),
    ("astronaut", 366, 488, 39, 17, {"quality": 95, "subsampling": 0, "restart_marker_blocks": 1}),
    ("astronaut", 449, 313, 10, 21, {"quality": 95, "subsampling": 1}),
    ("chelsea", 223, 316, 18, 33, {"quality": 99, "subsampling": 2}),
    ("rocket", 207, 236, 54, 49, {"quality": 100, "subsampling": 2}),
])  # fmt: skip
def test_last_bytes_that_change_no_pixel_are_no_surplus(name, top, left, height, width, options):
    """Their coefficients are so small that rounding hides them."""
    crop = getattr(skimage.data, name)()[top : top + height, left : left + width]
    assert decode_picture(jpeg(Image.fromarray(crop), optimize=True, **options), "x").notices == ()


@pytest.mark.parametrize("quality", [5, 25, 50, 75, 95])
def test_smooth_pictures_are_complete(quality):
    """Zeros may be all that their last scan needs, in progressive files too."""
    for width, height in ((50, 49), (64, 64), (90, 30), (160, 120)):
        ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
        for options in ({}, {"optimize": True}, {"progressive": True}):
            for subsampling in (0, 2):
                data = jpeg(Image.fromarray(ramp), quality=quality, subsampling=subsampling, **options)
                assert decode_picture(data, "x").notices == ()


@pytest.mark.parametrize("size", [(37, 76), (61, 39), (76, 37), (120, 50)])
def test_a_smooth_progressive_picture_has_no_surplus(size):
    """Its last bits are steps of one, which rounding hides."""
    ramp = np.broadcast_to(np.linspace(0, 255, size[0]).astype(np.uint8)[None, :, None], (size[1], size[0], 3))
    for quality in (97, 99, 100):
        for subsampling in (0, 2):
            data = jpeg(Image.fromarray(ramp), quality=quality, progressive=True, subsampling=subsampling)
            assert decode_picture(data, "x").notices == ()
            notices = decode_picture(data[:-2] + b"U" * 12 + b"\xff\xd9", "x").notices
            assert any("too many bytes" in one for one in notices)


def test_units_of_a_large_picture_are_not_counted(monkeypatch):
    """It would take seconds: its pixels tell whether bytes are too many."""
    monkeypatch.setattr(jpeg_module, "_MOST_COUNTED", 100)
    monkeypatch.setattr(jpeg_module, "bits_behind", None)
    data = jpeg(quality=99)
    assert decode_picture(data, "x").notices == ()
    assert "too many bytes" in decode_picture(data[:-2] + b"U" * 12 + b"\xff\xd9", "x").notices[0]
