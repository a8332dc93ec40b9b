"""How coarsely a lossy WebP file is quantised, as the header of its VP8 frame says (RFC 6386, sections 7, 9, 14.1)."""

import struct
from statistics import fmean

_START = b"\x9d\x01\x2a"  # of a key frame, behind its tag

_AC_STEPS = (
    *range(4, 59), *range(60, 118, 2), *range(119, 174, 3), *range(177, 230, 4),
    234, 239, 245, 249, *range(254, 285, 5),
)  # fmt: skip
"""Of the 128 indices, as coefficients are scaled, twice those of an orthonormal transform."""

_TO_LEVELS = 0.5 * 255 / 219  # luma is stored in 220 levels


class _Bits:
    """Bits of an arithmetic code, all with a probability of one half (section 7)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value, self._at, self._range, self._shifts = int.from_bytes(data[:2], "big"), 2, 255, 0

    def flag(self) -> bool:
        split = 1 + ((self._range - 1) * 128 >> 8)
        found = self._value >= split << 8
        self._range, self._value = (self._range - split, self._value - (split << 8)) if found else (split, self._value)
        while self._range < 128:
            self._range, self._value, self._shifts = self._range << 1, self._value << 1, self._shifts + 1
            if self._shifts == 8:
                self._shifts, self._value, self._at = 0, self._value | self._data[self._at], self._at + 1
        return found

    def number(self, bits: int) -> int:
        found = 0
        for _ in range(bits):
            found = found << 1 | self.flag()
        return found

    def signed(self, bits: int) -> int:
        """0 where a flag says that there is none."""
        if not self.flag():
            return 0
        size = self.number(bits)
        return -size if self.flag() else size


def luma_step(frame: bytes) -> float | None:
    """The mean step by which luma's coefficients are quantised, of an orthonormal transform in levels of 255.

    `frame` is what a `VP8 ` chunk holds; None where its header is damaged or cut short. Of the (up to four) segments
    that a frame may have, each counts once.
    """
    if frame[3:6] != _START:
        return None
    try:
        indices = _indices(_Bits(frame[10:]))
    except IndexError:
        return None
    return _TO_LEVELS * fmean(_AC_STEPS[min(127, max(0, index))] for index in indices)


def frame_of(file: bytes) -> bytes | None:
    """The content of the `VP8 ` chunk of a WebP file; None where there is none: it is lossless, or animated."""
    at = 12
    while at + 8 <= len(file):
        kind, size = struct.unpack_from("<4sL", file, at)
        if kind == b"VP8 ":
            return file[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return None


def _indices(bits: _Bits) -> list[int]:
    """The quantiser's index of each segment (section 9)."""
    bits.number(2)  # colour space, clamping
    segments, absolute = [0], False
    if bits.flag():
        has_map = bits.flag()
        if bits.flag():
            absolute = bits.flag()
            segments = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)  # loop filter
        for _ in range(3 * has_map):
            if bits.flag():
                bits.number(8)
    bits.number(10)  # the loop filter's kind, level and sharpness
    if bits.flag() and bits.flag():
        for _ in range(8):
            bits.signed(6)
    bits.number(2)  # partitions
    base = bits.number(7)
    return segments if absolute else [base + one for one in segments]
