"""Read JPEG files: metadata and restart markers segment by segment here, pixels by Pillow (libjpeg).

Pillow gets the file without its metadata, so that what is ill there costs no pixels. Sources: ITU-T T.81, annex B; JFIF
1.02; CIPA DC-007 (MPO); ICC.1:2022, annex B.4; XMP part 3, section 1.1.3.
"""

import io
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from PIL import Image, ImageChops

from zssr_gan.errors import ImageError
from zssr_gan.imaging.directory import Block
from zssr_gan.imaging.formats import pillow_samples
from zssr_gan.imaging.huffman import Table, bits_behind, huffman_tables
from zssr_gan.imaging.metadata import iptc_of_photoshop
from zssr_gan.imaging.picture import Decoded, check_size

_SOI, _EOI, _SOS, _DQT, _DRI, _COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE, _ARITHMETIC = (0xC2, 0xC6, 0xCA, 0xCE), frozenset(range(0xC9, 0xD0))
_APP0, _APP1, _APP2, _APP13, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF

_XMP, _XMP_MORE = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _MPF = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0"

_NUMBER_OF_IMAGES = 0xB001

_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")  # with fill bytes
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # any marker but restarts; 0xFF 0 is a byte of pixels

_FILLER = bytes(range(254, 0, -1)) * 8  # entropy-coded noise: pixels of an incomplete scan change with it
_SURPLUS = 4  # bytes
_MOST_COUNTED = 2**18  # bytes: units are counted in a microsecond a code
_VISIBLE_STEP = 16
_SURELY_SURPLUS, _CODES = 8, (b"", b"\xa0" * 4, b"P" * 4)  # where units are not counted: fewer may change no pixel

_HUFFMAN, _HUFFMAN_FRAMES = 0xC4, (0xC0, 0xC1, 0xC2)

_INTERVALS, _MOST_BLOCKS = 4, 20_000  # at the begin of a scan, whose units are counted, and blocks of one of them


@dataclass(frozen=True, slots=True)
class _Scan:
    """A scan that brings coefficients first: `blocks` has the numbers of the DC and AC table of each block of a unit.

    `units` and `interval` count units, `huffman` are the contents of the DHT segments before it.
    """

    units: int
    interval: int
    blocks: list[tuple[int, int]]
    only_dc: bool
    huffman: bytes

    def tables(self) -> Mapping[int, Table] | None:
        """None where they are elsewhere, as those of a JPEG in a TIFF file."""
        needed = {dc for dc, _ in self.blocks} | {16 + ac for _, ac in self.blocks if not self.only_dc}
        tables = huffman_tables(self.huffman, frozenset(needed))
        return tables if needed <= tables.keys() else None

    def bits_behind(self, part: bytes, units: int, tables: Mapping[int, Table]) -> tuple[str, str] | None:
        """The bits behind so many units in a part of its data: those up to the byte's end, and whole bytes."""
        bits = bits_behind(part, units, self.blocks, tables, only_dc=self.only_dc)
        return None if bits is None else (bits[: len(bits) % 8], bits[len(bits) % 8 :])


@dataclass(slots=True)
class _Frame:
    """A JPEG's frame: its marker, size, sampling factors by component, the lowest bit seen of each coefficient.

    `last`: its last scan, where it is sequential and its units can be counted.
    """

    marker: int
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]
    missing: dict[int, list[int]] = field(default_factory=dict)
    last: _Scan | None = None

    def units(self, components: list[int]) -> int:
        """The number of minimum coded units of a scan (T.81, A.2)."""
        across, down = (max(factor[axis] for factor in self.sampling.values()) for axis in (0, 1))
        if len(components) == 1:  # a scan of one component ends with its last block, not with the last whole unit
            h, v = self.sampling[components[0]]
            return math.ceil(math.ceil(self.width * h / across) / 8) * math.ceil(math.ceil(self.height * v / down) / 8)
        return math.ceil(self.width / (8 * across)) * math.ceil(self.height / (8 * down))

    def take(self, components: list[int], first: int, last: int, low: int) -> None:
        """Note which bits of which coefficients a scan brings."""
        for component in components:
            bits = self.missing.setdefault(component, [13] * 64)
            bits[first : last + 1] = [low] * len(bits[first : last + 1])

    @property
    def complete(self) -> bool:
        """Whether the scans bring every bit of every component."""
        return all(not any(self.missing.get(one, [1])) for one in self.sampling)


def decode_jpeg(data: bytes, max_pixels: float) -> Decoded:
    """Take a JPEG file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    pixels, apps, ended, frame = _parts(data)
    image = _loaded(pixels, max_pixels)
    known = _metadata(apps)
    notices = list(known.notices)
    samples, icc, more = pillow_samples(image, known.icc)
    # The end of arithmetic coding may lack zeros, so that only a missing EOI makes it suspect.
    surplus = not (ended and frame.marker in _ARITHMETIC) and _has_surplus(pixels[:-2], image, frame.last)
    if not frame.complete:
        notices.append("The progressive JPEG file lacks its last scans: its pixels are coarser than they were.")
    if surplus:
        notices.append("The JPEG file holds too many bytes for its pixels: the last of them may be damaged.")
    if not ended:
        notices.append("The JPEG file ends without its last marker (EOI); its pixels are complete.")
    return Decoded(samples, known.exif, icc, known.dpi, (*notices, *more), known.xmp, known.iptc)


def _has_surplus(data: bytes, image: Image.Image, last: _Scan | None) -> bool:
    """Whether bytes other than zeros and fill bytes stand behind the pixels of the last scan, at the end of `data`.

    Raises ImageError where the scan does not bring all pixels, or some of them come from a zero-filled tail.
    """

    def unchanged(scan: bytes) -> bool:
        """Whether it gives the same pixels where noise follows, as a complete scan does."""
        return ImageChops.difference(image, _loaded(scan + _FILLER + b"\xff\xd9")).getbbox() is None

    def not_needed(count: int, scan: bytes, codes: tuple[bytes, ...] = _CODES) -> bool:
        """Whether the last bytes of a scan change nothing. Not every code is valid there, so that several are tried."""
        short = scan[:-count].rstrip(b"\xff")
        return len(short) >= begin and all(unchanged(short + code) for code in codes)

    begin = data.rindex(b"\xff\xda")
    begin += 2 + int.from_bytes(data[begin + 2 : begin + 4])
    scan = data.rstrip(b"\xff")  # fill bytes before a marker
    needed = scan.rstrip(b"\0")
    filled = needed + bytes(needed.endswith(b"\xff"))  # 0xFF 0 is one byte of pixels
    incomplete = ImageError.damaged("JPEG", "its pixels are not complete")
    many_zeros = len(scan) - len(filled) >= _SURPLUS
    if not unchanged(scan):
        raise incomplete
    if not many_zeros and len(needed) - begin > _SURPLUS and not not_needed(_SURPLUS, needed, (b"",)):
        return False
    *others, part = _RESTART.split(scan[begin:])
    if last is not None and len(part) <= _MOST_COUNTED and (tables := last.tables()) is not None:
        behind = last.bits_behind(part, last.units - last.interval * len(others), tables)
        if behind is None:
            raise incomplete
        padding, rest = behind
        unstuffed = part.replace(b"\xff\0", b"\xff")
        zeros = len(unstuffed) - len(unstuffed.rstrip(b"\0")) - len(rest) // 8  # those that the pixels need
        # Encoders pad with ones: zeros were not written as pixels.
        if (zeros > 0 and rest and "0" in padding) or (zeros > 2 and ("0" in padding or len(rest) >= 8 * _SURPLUS)):
            raise incomplete
        return len(rest.rstrip("0")) > 8 * (_SURPLUS - 1)
    data = _with_coarse_steps(data)
    image, scan, needed, filled = _loaded(data + b"\xff\xd9"), *(data[: len(one)] for one in (scan, needed, filled))
    # Zeros may be all that a flat picture needs, but then the last ones are needed too.
    if many_zeros and not unchanged(filled) and not_needed(_SURPLUS, scan):
        raise incomplete
    # A flat picture may need nothing but zeros, and the last restart interval may change no pixel. Where no code
    # changes anything, no byte is known to be too many.
    flat = needed[:-1].endswith(bytes(_SURPLUS)) or _RESTART.search(needed[-_SURELY_SURPLUS:]) is not None
    return not flat and not_needed(_SURELY_SURPLUS, needed) and not not_needed(len(needed) - begin, needed)


def _with_coarse_steps(data: bytes) -> bytes:
    """The file with such steps of quantisation that each coefficient shows: rounding hides changes of small ones."""
    out = [data[:2]]
    for marker, content, scan in _segments(data):
        if marker == _DQT:  # precision and number, then DC and 63 steps
            tables = re.findall(rb"[\0-\3].{64}|[\x10-\x13].{128}", content, re.DOTALL)
            content = b"".join(
                table[:2] + bytes(max(step, _VISIBLE_STEP) for step in table[2:]) if table[0] < 4 else table
                for table in tables
            )
        out.append(_segment(marker, content) + scan)
    return b"".join(out)


def _loaded(data: bytes, max_pixels: float = math.inf) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        check_size(*image.size, max_pixels)
        image.load()
        return image


def _parts(data: bytes) -> tuple[bytes, list[tuple[int, bytes]], bool, _Frame]:
    """The file without metadata, its application segments (marker and content), whether it had an end, its frame."""
    kept, apps, frame, interval, ended = [b"\xff\xd8"], list[tuple[int, bytes]](), None, 0, False
    tables = b""
    for marker, content, scan in _segments(data):
        if marker == _EOI:
            ended = True
            continue
        if _APP0 <= marker <= _APP15 or marker == _COM:
            apps.append((marker, content))
            colours = (marker == _APP0 and content[:5] == b"JFIF\0" and len(content) >= 14) or (
                marker == _APP14 and content[:5] == b"Adobe" and len(content) >= 12
            )
            if not colours:
                continue
        elif marker in _FRAMES:
            frame = _frame(marker, content)
        elif marker == _DRI:
            (interval,) = struct.unpack_from(">H", content)
        elif marker == _HUFFMAN:
            tables += content
        elif marker == _SOS and frame is not None:
            _check_scan(frame, content, scan, interval, tables)
        kept += [_segment(marker, content), scan]
    if frame is None:
        raise ImageError.damaged("JPEG", "it has no pixels")
    if not (frame.missing.keys() >= frame.sampling.keys() if ended else frame.complete):
        raise ImageError.damaged("JPEG", "its pixels are not complete")
    return b"".join([*kept, b"\xff\xd9"]), apps, ended, frame


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, content and, of a scan, entropy-coded data of each segment, up to the end of the first image."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        at += 1 if marker == 0xFF else 2
        if marker in (0, 1, 0xFF) or 0xD0 <= marker <= _SOI:
            continue
        if marker == _EOI:
            yield marker, b"", b""
            return
        (length,) = struct.unpack_from(">H", data, at)
        content, scan = data[at + 2 : at + length], b""
        if length < 2 or at + length > len(data):
            raise ImageError.damaged("JPEG", "a segment reaches beyond its end")
        at += length
        if marker == _SOS:
            end = match.start() if (match := _SCAN_END.search(data, at)) else len(data)
            scan, at = data[at:end], end
        yield marker, content, scan


def _frame(marker: int, content: bytes) -> _Frame:
    height, width, components = struct.unpack_from(">HHB", content, 1)
    parts = [content[at : at + 3] for at in range(6, 6 + 3 * components, 3)]
    return _Frame(marker, width, height, {part[0]: (max(part[1] >> 4, 1), max(part[1] & 15, 1)) for part in parts})


def _check_scan(frame: _Frame, content: bytes, scan: bytes, interval: int, huffman: bytes) -> None:
    """Refuse a scan whose restart markers are missing, out of order or misplaced: the pixels behind them are wrong."""
    components = list(content[1 : 1 + 2 * content[0] : 2])
    # Only progressive scans bring parts of coefficients; elsewhere encoders write what they like.
    first, last, bits = content[1 + 2 * content[0] :][:3] if frame.marker in _PROGRESSIVE else (0, 63, 0)
    frame.take(components, first, last, bits & 15)
    found = [mark[1] & 7 for mark in re.findall(rb"\xff[\xd0-\xd7]", scan)]
    expected = -(-frame.units(components) // interval) - 1 if interval else 0
    in_order = found == [number % 8 for number in range(len(found))]
    # Some encoders write one more behind the last interval.
    if not in_order or len(found) not in (expected, expected + bool(interval)):
        what = f"{len(found)} of {expected}" if in_order else "out of order"
        raise ImageError(f"the JPEG file is damaged (restart markers are missing or misordered: {what})")
    if frame.marker not in _HUFFMAN_FRAMES or first or bits >> 4:
        return
    alone = len(components) == 1  # its units are single blocks
    each = [1 if alone else math.prod(frame.sampling[one]) for one in components]
    numbers = [(tables_used >> 4, tables_used & 15) for tables_used in content[2 : 2 + 2 * content[0] : 2]]
    blocks = [number for number, count in zip(numbers, each, strict=True) for _ in range(count)]
    this = _Scan(frame.units(components), interval, blocks, not last, huffman)
    frame.last = None if frame.marker in _PROGRESSIVE else this
    if not found or interval * len(blocks) > _MOST_BLOCKS or (tables := this.tables()) is None:
        return
    for part in _RESTART.split(scan)[:-1][:_INTERVALS]:
        behind = this.bits_behind(part, interval, tables)
        if behind is None or len(set(behind[0])) > 1 or "1" in behind[1]:  # zeros are passed over
            raise ImageError(
                "the JPEG file is damaged (what stands between its restart markers is not one interval, DRI, of pixels)"
            )


def checked_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG that is a part of another file. Raises ImageError as `decode_jpeg` does."""
    frame = _parts(data)[3]
    return frame.width, frame.height


@dataclass(slots=True)
class _Known:
    """What the application segments hold."""

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: object = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    notices: list[str] = field(default_factory=list)


def _metadata(apps: list[tuple[int, bytes]]) -> _Known:
    known, profile, photoshop = _Known(), list[bytes](), b""
    for marker, content in apps:
        if marker == _APP0 and content[:5] == b"JFIF\0" and len(content) >= 12 and known.dpi is None:
            unit, x, y = struct.unpack_from(">BHH", content, 7)
            per_inch = {1: 1.0, 2: 2.54}.get(unit)  # without a unit they are the pixels' shape, not their size
            known.dpi = (x * per_inch, y * per_inch) if per_inch else None
        elif marker == _APP1 and content[:5] == b"Exif\0" and known.exif is None:
            known.exif = content[6:]
        elif marker == _APP1 and content.startswith(_XMP) and known.xmp is None:
            known.xmp = content[len(_XMP) :]
        elif marker == _APP1 and content.startswith(_XMP_MORE):
            known.notices.append("The second part of its XMP data, which one JPEG segment does not hold, was left out.")
        elif marker == _APP2 and content.startswith(_ICC):
            profile.append(content[len(_ICC) :])
        elif marker == _APP2 and content.startswith(_MPF):
            known.notices.append(_pictures(content[len(_MPF) :]))
        elif marker == _APP13 and content.startswith(_PHOTOSHOP):
            photoshop += content[len(_PHOTOSHOP) :]
    profile.sort(key=lambda part: part[:1])
    if profile and [part[:2] for part in profile] == [bytes([n + 1, len(profile)]) for n in range(len(profile))]:
        known.icc = b"".join(part[2:] for part in profile)
    elif profile:
        known.notices.append("Parts of its colour profile are missing, so it was left out.")
    if photoshop:
        known.iptc = iptc_of_photoshop(photoshop)
    known.notices = list(dict.fromkeys(known.notices))
    return known


def _pictures(index: bytes) -> str:
    """The sentence about a file that holds further pictures: phones append depth and gain maps in this way."""
    try:
        block = Block(index)
        count = int(block.numbers(block.directory(block.first).fields[_NUMBER_OF_IMAGES])[0])
    except Exception:  # damaged, which costs no pixels
        return "The index of further pictures in the JPEG file (MPF) could not be read."
    return f"The JPEG file holds {count} pictures (MPO): the first, which viewers show, was taken."
