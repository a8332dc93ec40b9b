"""Directories (IFDs) of TIFF files and EXIF blocks: find fields, read and change numbers, all else left in its place.

Sources: TIFF 6.0 (Adobe, 1992), section 2; BigTIFF (libtiff); EXIF 2.32 (JEITA CP-3451E), section 4.6.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

KINDS: Final = {
    1: "B", 2: "s", 3: "H", 4: "L", 5: "LL", 6: "b", 7: "s", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d",
    13: "L", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
"""Of each field type, its values as `struct` names them; rationals are two numbers."""

WHOLE_NUMBERS = "BHLbhlQq"

_INTEROP = 0xA005  # a pointer to a further directory, which is not carried

_CLASSIC = range(1, 14)  # types of classic TIFF, the only ones of EXIF


@dataclass(frozen=True, slots=True)
class Entry:
    """A field: its type, its number of values, and where the entry and the values' bytes begin."""

    kind: int
    count: int
    at: int
    values_at: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Fields by tag (the first of a tag), tags whose values lie outside the block, place of the next directory or 0."""

    fields: dict[int, Entry]
    ill: tuple[int, ...]
    following: int
    end: int


class Block:
    """A TIFF file or an EXIF block, from its byte order mark on. Raises struct.error or KeyError on a damaged one."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
        self.big = self._unpack("H", 2)[0] == 43
        self._offset, self._count = ("Q", "Q") if self.big else ("L", "H")
        self.first: int = self._unpack(self._offset, 8 if self.big else 4)[0]

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.data, at)

    def directory(self, at: int) -> Directory:
        """The directory at byte `at`."""
        (count,) = self._unpack(self._count, at)
        width, step = struct.calcsize("=" + self._offset), struct.calcsize("=HH" + 2 * self._offset)
        at += struct.calcsize("=" + self._count)
        if at + step * count > len(self.data):
            raise struct.error("a directory reaches beyond the end")
        fields: dict[int, Entry] = {}
        ill = []
        for place in range(at, at + step * count, step):
            tag, kind, values = self._unpack("HH" + self._offset, place)
            size = values * struct.calcsize("=" + KINDS.get(kind, "s"))
            values_at = place + step - width
            if size > width:
                (values_at,) = self._unpack(self._offset, values_at)
            if values_at + size > len(self.data):
                ill.append(tag)
            else:
                fields.setdefault(tag, Entry(kind, values, place, values_at))
        end = at + step * count
        following = self._unpack(self._offset, end)[0] if end + width <= len(self.data) else 0
        return Directory(fields, tuple(ill), following, end + width)

    def numbers(self, entry: Entry | None) -> tuple[float, ...]:
        """Values of a field as numbers, rationals as their quotient; none for text or where there is no field."""
        form = KINDS.get(entry.kind, "s") if entry else "s"
        if entry is None or form == "s":
            return ()
        values = self._unpack(form * entry.count, entry.values_at)
        if len(form) == 2:
            return tuple(a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True))
        return values

    def raw(self, entry: Entry | None) -> bytes | None:
        """The bytes of a field's values."""
        if entry is None:
            return None
        size = entry.count * struct.calcsize("=" + KINDS.get(entry.kind, "s"))
        return bytes(self.data[entry.values_at : entry.values_at + size])

    def set_number(self, entry: Entry, value: int) -> None:
        """Write the first value of a field of whole numbers in the field's own type. The data are a bytearray."""
        assert isinstance(self.data, bytearray)
        if (form := KINDS.get(entry.kind, "s")) in WHOLE_NUMBERS:
            struct.pack_into(self.order + form, self.data, entry.values_at, value)

    def set_long(self, entry: Entry, value: int) -> None:
        """Make a field one LONG, which fits into every entry. The data are a bytearray."""
        assert isinstance(self.data, bytearray)
        self.data[entry.at + 2 : entry.at + 12] = struct.pack(self.order + "HLL", 4, 1, value)

    def entry(self, tag: int, kind: int, count: int, offset: int) -> bytes:
        """The bytes of an entry whose values lie at `offset`."""
        return struct.pack(self.order + "HH" + 2 * self._offset, tag, kind, count, offset)

    def copied_entry(self, entry: Entry) -> bytes:
        """The bytes of an entry, to be put into another directory of the same file."""
        return bytes(self.data[entry.at : entry.at + struct.calcsize("=HH" + 2 * self._offset)])

    def with_directory(self, entries: list[bytes]) -> bytes:
        """The file with one more directory of `entries` at its end, which becomes the first and only one."""
        padding = bytes(len(self.data) % 2)
        at = len(self.data) + len(padding)
        head = struct.pack(self.order + self._offset, at)
        place = 8 if self.big else 4
        count = struct.pack(self.order + self._count, len(entries))
        tail = [padding, count, *entries, bytes(struct.calcsize("=" + self._offset))]
        view = memoryview(self.data)
        return b"".join([view[:place], head, view[place + len(head) :], *tail])


def exif_of(block: Block, fields: Mapping[int, Entry], directories: Mapping[int, Directory]) -> bytes:
    """An EXIF block of fields of a TIFF file and of directories (by the tag that points at one), in its byte order."""
    mark = b"II*\0" if block.order == "<" else b"MM\0*"
    out = bytearray(mark + bytes(4))
    own = {tag: (entry.kind, entry.count, block.raw(entry) or b"") for tag, entry in fields.items()}
    for tag, directory in directories.items():
        known = {n: entry for n, entry in directory.fields.items() if entry.kind in _CLASSIC and n != _INTEROP}
        at = _append(out, block.order, {n: (e.kind, e.count, block.raw(e) or b"") for n, e in known.items()})
        own[tag] = (4, 1, struct.pack(block.order + "L", at))
    struct.pack_into(block.order + "L", out, 4, _append(out, block.order, own))
    return bytes(out)


def tiff_file(order: str, fields: Mapping[int, tuple[int, int, bytes]], parts: Iterable[bytes]) -> bytes:
    """A TIFF file of one directory, of (type, number of values, bytes) by tag, with `parts` as its strips or tiles."""
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    places, sizes = list[int](), list[int]()
    for part in parts:
        places.append(len(out))
        sizes.append(len(part))
        out += part
    offsets, lengths = (324, 325) if 324 in fields else (273, 279)
    numbers = {offsets: places, lengths: sizes}
    own = {tag: (4, len(values), struct.pack(f"{order}{len(values)}L", *values)) for tag, values in numbers.items()}
    struct.pack_into(order + "L", out, 4, _append(out, order, {**fields, **own}))
    return bytes(out)


def _append(out: bytearray, order: str, fields: Mapping[int, tuple[int, int, bytes]]) -> int:
    """Append a directory of (type, number of values, bytes) by tag and give its place: both begin at even bytes."""
    rows = b""
    for tag, (kind, count, raw) in sorted(fields.items()):
        out += bytes(len(out) % 2)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "L", len(out))
        out += raw if len(raw) > 4 else b""
        rows += struct.pack(order + "HHL", tag, kind, count) + place
    out += bytes(len(out) % 2)
    at = len(out)
    out += struct.pack(order + "H", len(fields)) + rows + bytes(4)
    return at
