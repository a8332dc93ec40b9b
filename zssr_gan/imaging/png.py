"""Read and write PNG: checksums and metadata chunk by chunk here, pixels by libpng (imagecodecs), in 8 and 16 bits.

Source: PNG specification, third edition (W3C, 2025), sections 5 and 11.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

import imagecodecs
import numpy as np

from zssr_gan.errors import ImageError
from zssr_gan.imaging.coding import is_footage
from zssr_gan.imaging.metadata import iptc_of_photoshop, text_of
from zssr_gan.imaging.picture import Decoded, Metadata, Samples, check_size
from zssr_gan.imaging.profiles import SIGNALS

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature 8, then IHDR: length 4, type 4, content 13, checksum 4
_INCH = 0.0254  # metres
_LEVEL = 4  # of 9: 48 megapixels in some 4 s; 6 takes four times as long for a file 2 % smaller

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples a pixel, by colour type
_PALETTE = 3
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_LENGTHS = {"cICP": 4, "mDCV": 24, "cLLI": 8, "sRGB": 1, "gAMA": 4, "cHRM": 32, "pHYs": 9}

_LARGEST_TEXT, _LARGEST_BLOCK = 2**20, 2**24  # bytes, unpacked

_XMP_KEY = "XML:com.adobe.xmp"
_RAW_KEYS = {"Raw profile type exif": "exif", "Raw profile type APP1": "exif", "Raw profile type iptc": "iptc",
             "Raw profile type xmp": "xmp"}  # fmt: skip

_NAMES = re.compile(
    rb"PLTE|IDAT|IEND|tRNS|gAMA|cHRM|sRGB|iCCP|cICP|mDCV|cLLI|pHYs|eXIf|tEXt|zTXt|iTXt|sBIT|bKGD|hIST|sPLT|tIME"
)

Chunk = tuple[bytes, bytes]


def decode_png(data: bytes, max_pixels: float) -> Decoded:
    """Take a PNG file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    chunks, pieces, notices = _chunks(data)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ImageError.damaged("PNG", "it does not begin with its header")
    width, height, *_ = header = struct.unpack(">LLBBBBB", chunks[0][1])
    check_size(width, height, max_pixels)
    first: dict[bytes, bytes] = {}
    for kind, content in chunks:
        first.setdefault(kind, content)
    frames = int.from_bytes(first.get(b"acTL", b"")[:4])
    if frames > 1:
        raise ImageError(f"is animated, with {frames} pages, and only single images are read; split it first")
    known = _Metadata(notices)
    for kind, content in chunks:
        known.take(kind.decode("ascii"), content)
    samples = np.asarray(imagecodecs.png_decode(_pixels_alone(pieces, first, header, notices)))
    if samples.ndim == 2:
        samples = samples[:, :, np.newaxis]
    if b"sBIT" in first:
        notices.append("Its number of significant bits (sBIT) was left out: all bits of a result are.")
    background = _background(first[b"bKGD"], header, first.get(b"PLTE", b"")) if b"bKGD" in first else None
    if b"bKGD" in first and background is None:
        notices.append("A damaged chunk (bKGD) was left out.")
    blocks = known.blocks
    # What a result of ours says of itself is not said of what is made of it.
    texts = {key: text for key, text in known.texts.items() if key.isprintable() and not key.startswith("zssr-gan:")}
    return Decoded(
        samples, blocks.get("exif"), blocks.get("icc"), known.dpi, tuple(dict.fromkeys(notices)),
        blocks.get("xmp"), blocks.get("iptc"), known.colour, texts,
        background=background, footage=is_footage(known.texts),
    )  # fmt: skip


def _background(content: bytes, header: tuple[int, ...], palette: bytes) -> bytes | None:
    """The colour to show behind transparent pixels, as a PNG of the result's depth has it; None for a damaged chunk."""
    depth, colour = header[2:4]
    if colour == _PALETTE:
        entry = palette[3 * content[0] :][:3] if len(content) == 1 else b""
        return struct.pack(">3H", *entry) if len(entry) == 3 else None
    if len(content) != (2 if colour in (0, 4) else 6):
        return None
    values = struct.unpack(f">{len(content) // 2}H", content)
    if max(values) >= 2**depth:
        return None
    return struct.pack(f">{len(values)}H", *(value * 255 // (2**depth - 1) if depth < 8 else value for value in values))


def png_colour(data: bytes) -> dict[str, bytes]:
    """The chunks of colour signalling of a PNG file. Raises ImageError where a critical chunk is damaged."""
    known = _Metadata([])
    for kind, content in _chunks(data)[0]:
        known.take(kind.decode("ascii"), content)
    return known.colour


def png_texts(data: bytes) -> dict[str, str]:
    """Keyword and text of the text chunks of a PNG file. Raises ImageError where a critical chunk is damaged."""
    known = _Metadata([])
    for kind, content in _chunks(data)[0]:
        known.take(kind.decode("ascii"), content)
    return known.texts


def _chunks(data: bytes) -> tuple[list[Chunk], list[memoryview], list[str]]:
    """Type and content of every sound chunk up to IEND, of IDAT the contents, and notices of unsound ancillary ones.

    A damaged IEND has nothing to lose. Raises ImageError where another critical chunk is cut short or has a wrong
    checksum.
    """
    chunks: list[Chunk] = []
    pieces: list[memoryview] = []
    notices: list[str] = []
    at, view = len(SIGNATURE), memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        end = at + 12 + length
        name = kind.decode("latin-1")
        critical = not kind[0] & 0x20
        if not _is_sound(view, at):
            if kind == b"IEND" or len(data) - at == 12:  # no content: a damaged IEND, whichever of its bytes is wrong
                notices.append("The PNG file's last chunk (IEND) is damaged; its pixels are complete.")
                return chunks, pieces, notices
            if critical or not kind.isalpha():
                what = "is cut short" if end > len(data) else "has a wrong checksum"
                raise ImageError.damaged("PNG", f"its chunk {name!r} {what}")
            notices.append(f"A damaged chunk ({name}: its checksum is wrong) was left out.")
            following = _next_sound(view, at + 8)
            if _is_intact(view[at + 4 : following]) or not _NAMES.fullmatch(view[end + 4 : end + 8]):
                end = following  # its length is what is wrong
        elif kind == b"IEND":
            return chunks, pieces, notices
        elif critical and kind not in (b"IHDR", b"PLTE", b"IDAT"):
            raise ImageError(f"holds a critical PNG chunk that is not known ({name!r})")
        else:
            content = view[at + 8 : end - 4]
            if kind == b"IDAT":
                pieces.append(content)  # not copied: it may be half a gigabyte
            else:
                chunks.append((kind, bytes(content)))
        at = end
    notices.append("The PNG file ends without its last chunk (IEND); its pixels are complete.")
    return chunks, pieces, notices


def _is_sound(view: memoryview, at: int) -> bool:
    (length,) = struct.unpack_from(">L", view, at)
    end = at + 12 + length
    return end <= len(view) and _is_intact(view[at + 4 : end])


def _is_intact(chunk: memoryview) -> bool:
    """Whether the checksum at the end of a chunk, which begins with its type here, is that of the rest."""
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:])


def _next_sound(view: memoryview, at: int) -> int:
    """Where the next sound chunk of a known type begins, or the end: found by name, behind a damaged chunk."""
    for number, match in enumerate(_NAMES.finditer(view, at)):
        if number < 32 and _is_sound(view, match.start() - 4):  # few: a hostile file could hold millions
            return match.start() - 4
    return len(view)


def _pixels_alone(
    compressed: Sequence[memoryview], first: Mapping[bytes, bytes], header: tuple[int, ...], notices: list[str]
) -> bytes:
    """The file without metadata, its pixels unpacked once: libpng does not read on to the checksum (Adler-32)."""
    width, height, depth, colour, *_, interlaced = header
    pixel_bits = depth * _CHANNELS.get(colour, 4)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        expected += rows * (1 + (columns * pixel_bits + 7) // 8) if rows > 0 and columns > 0 else 0
    pieces: Sequence[bytes | memoryview] = compressed
    stream, size = zlib.decompressobj(), 0
    for piece in pieces:
        rest: bytes | memoryview = piece
        while rest and not stream.eof and size <= expected + 2**20:
            size += len(stream.decompress(rest, 2**20))
            rest = stream.unconsumed_tail
    if size < expected or not stream.eof:
        raise ImageError.damaged("PNG", "its pixels are not complete")
    if size > expected or stream.unused_data:  # libpng would write a warning to the terminal
        pieces = [zlib.compress(zlib.decompressobj().decompress(b"".join(pieces), expected), 1)]
    palette = first.get(b"PLTE", b"")[: 3 << min(depth, 8)]
    parts: list[bytes | memoryview] = [SIGNATURE, _chunk(b"IHDR", first[b"IHDR"])]
    if colour == _PALETTE:
        if not palette or len(palette) % 3:
            raise ImageError("the PNG file is damaged (it has a palette image without a sound palette)")
        parts.append(_chunk(b"PLTE", palette.ljust(3 << depth, b"\0")))
    transparent = first.get(b"tRNS")
    if transparent is not None:
        fits = 0 < len(transparent) <= len(palette) // 3 if colour == _PALETTE else False
        if fits or (colour, len(transparent)) in ((0, 2), (2, 6)):
            parts.append(_chunk(b"tRNS", transparent))
        else:
            notices.append("A damaged chunk (tRNS, transparency) was left out.")
    for piece in pieces:  # not by _chunk, which copies what may be half a gigabyte
        parts += [struct.pack(">L", len(piece)), b"IDAT", piece, zlib.crc32(piece, zlib.crc32(b"IDAT")).to_bytes(4)]
    return b"".join([*parts, _chunk(b"IEND", b"")])


class _Metadata:
    """What the ancillary chunks say; what is ill goes to `notices`."""

    def __init__(self, notices: list[str]) -> None:
        self.notices = notices
        self.blocks: dict[str, bytes] = {}
        self.colour: dict[str, bytes] = {}
        self.texts: dict[str, str] = {}
        self.dpi: object = None

    def take(self, name: str, content: bytes) -> None:
        """Take a chunk in; of two of a kind the first counts."""
        if name in _LENGTHS and (len(content) != _LENGTHS[name] or not _makes_sense(name, content)):
            self.notices.append(f"A damaged chunk ({name}) was left out.")
        elif name in SIGNALS:
            self.colour.setdefault(name, content)
        elif name == "pHYs":
            x, y, unit = struct.unpack(">LLB", content)
            if unit == 1 and self.dpi is None:  # else it is the pixels' shape, not their size
                self.dpi = (x * _INCH, y * _INCH)
        elif name == "eXIf":
            self.blocks.setdefault("exif", content)
        elif name == "iCCP":
            profile = _unpacked(content.partition(b"\0")[2][1:], _LARGEST_BLOCK)
            if profile is None:
                self.notices.append("A damaged colour profile (iCCP) was left out.")
            else:
                self.blocks.setdefault("icc", profile)
        elif name in ("tEXt", "zTXt", "iTXt"):
            self._take_text(name, content)

    def _take_text(self, name: str, content: bytes) -> None:
        raw_key, found, value = content.partition(b"\0")
        key = raw_key.decode("latin-1")
        text: bytes | None = value
        packed = name == "zTXt" or (name == "iTXt" and value[:1] == b"\1")
        if name == "iTXt":  # two bytes of compression, then language and translated key, each with a zero at its end
            parts = value[2:].split(b"\0", 2)
            text = parts[2] if len(parts) == 3 else None
        elif packed:
            text = value[1:]
        limit = _LARGEST_BLOCK if key == _XMP_KEY or key in _RAW_KEYS else _LARGEST_TEXT
        if packed and text is not None:
            text = _unpacked(text, limit)
        if text is None or len(text) > limit or not found or not 1 <= len(key) <= 79:
            self.notices.append(
                f"A text ({name} {key[:79]!r}) was left out: it is damaged or longer than {limit >> 20} MiB."
            )
        elif key == _XMP_KEY:
            self.blocks.setdefault("xmp", text)
        elif key in _RAW_KEYS:
            try:  # ImageMagick's way: a line of name, a line of length, hexadecimal digits
                block = bytes.fromhex("".join(text.decode("ascii").split()[2:]))
            except ValueError:
                self.notices.append(f"A text ({name} {key!r}) was left out: it is damaged.")
            else:
                where = _RAW_KEYS[key]
                self.blocks.setdefault(where, iptc_of_photoshop(block) or block if where == "iptc" else block)
        else:
            self.texts.setdefault(key, text_of(text))


def _makes_sense(name: str, content: bytes) -> bool:
    match name:
        case "gAMA":
            return any(content)
        case "sRGB":
            return content[0] <= 3
        case "cHRM":
            return all(struct.unpack(">8L", content)[1::2])  # each y divides
    return True


def _unpacked(packed: bytes, limit: int) -> bytes | None:
    """Unpack a zlib stream; None where it is damaged or holds more than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, limit)
    except zlib.error:
        return None
    return content if stream.eof else None


def encode_png(samples: Samples, metadata: Metadata, text: Mapping[str, str]) -> bytes:
    """A PNG file of `samples` (`H W C`); `text` goes into tEXt chunks, or iTXt where Latin-1 does not hold it.

    Raises ValueError where a key is not 1 to 79 Latin-1 characters.
    """
    plain = samples[:, :, 0] if samples.shape[2] == 1 else samples
    # Room for pixels that do not compress: imagecodecs' own estimate is too small for a narrow picture of noise.
    room = samples.nbytes + samples.nbytes // 64 + 8 * len(samples) + 4096
    pixels = imagecodecs.png_encode(plain, _LEVEL, out=room)
    return b"".join([pixels[:_HEADER_END], *_ancillary(metadata, text), memoryview(pixels)[_HEADER_END:]])


def _ancillary(metadata: Metadata, text: Mapping[str, str]) -> Iterator[bytes]:
    colour = dict(metadata.colour)
    if metadata.icc is not None:
        colour.pop("sRGB", None)  # never beside a profile, which has precedence
    for name in SIGNALS[:3]:
        if name in colour:
            yield _chunk(name.encode(), colour[name])
    if metadata.icc is not None:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    for name in SIGNALS[3:]:
        if name in colour:
            yield _chunk(name.encode(), colour[name])
    if metadata.background is not None:
        yield _chunk(b"bKGD", metadata.background)
    if metadata.dpi is not None:
        x, y = (round(dpi / _INCH) for dpi in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">LLB", x, y, 1))
    if metadata.exif is not None:
        yield _chunk(b"eXIf", metadata.exif)
    for key, value in text.items():
        if not (1 <= len(key) <= 79 and key.isprintable() and max(key) <= "\xff"):
            raise ValueError(f"a PNG text key is 1 to 79 Latin-1 characters, not {key!r}")
        yield _text_chunk(key, value)
    for key, value in metadata.texts:
        if key not in text:
            yield _text_chunk(key, value)
    if metadata.xmp is not None:
        yield _chunk(b"iTXt", _XMP_KEY.encode() + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc is not None:  # as ImageMagick and ExifTool put it there: PNG has no chunk for it
        block = b"8BIM\4\4\0\0" + struct.pack(">L", len(metadata.iptc)) + metadata.iptc
        block += bytes(len(block) % 2)
        profile = f"\niptc\n{len(block):8}\n{block.hex()}\n"
        yield _chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(profile.encode()))


def _text_chunk(key: str, value: str) -> bytes:
    keyword = key.encode("latin-1")
    try:
        return _chunk(b"tEXt", keyword + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        # The zeros: end of the key, not compressed (two), no language, no translated key.
        return _chunk(b"iTXt", keyword + b"\0\0\0\0\0" + value.encode())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))
