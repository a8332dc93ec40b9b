"""Count the minimum coded units of JPEG's entropy-coded data. Source: ITU-T T.81, annexes C and F.2."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

Table = list[int]
"""Length of the code (times 256) and value, for each 16 bits that begin with it; 0 where no code begins so."""


@lru_cache(maxsize=8)  # most files have the same tables (T.81, K.3)
def huffman_tables(content: bytes, numbers: frozenset[int]) -> dict[int, Table]:
    """The tables of these numbers (of DC, and 16 more of AC) in the contents of DHT segments; of two alike the last."""
    found: dict[int, tuple[list[int], bytes]] = {}
    at = 0
    while at + 17 <= len(content):
        lengths = [length for length, count in enumerate(content[at + 1 : at + 17], 1) for _ in range(count)]
        found[content[at]] = lengths, content[at + 17 : at + 17 + len(lengths)]
        at += 17 + len(lengths)
    tables: dict[int, Table] = {}
    for number in numbers & found.keys():
        lengths, values = found[number]
        # Codes are dealt out in order, the short ones first: each takes the next part of all 16 bits.
        parts = [1 << 16 - length for length in lengths]
        if len(values) == len(lengths) and sum(parts) <= 65536:
            entries = [length << 8 | value for length, value in zip(lengths, values, strict=True)]
            tables[number] = [*np.repeat(entries, parts).tolist(), *[0] * (65536 - sum(parts))]
    return tables


def bits_behind(
    part: bytes, units: int, blocks: Sequence[tuple[int, int]], tables: Mapping[int, Table], *, only_dc: bool
) -> str | None:
    """The bits behind these units in the data between two restart markers; None where there are fewer units.

    Args:
        part: entropy-coded data, of the scan that brings the DC coefficients first.
        units: how many minimum coded units.
        blocks: numbers of the DC and the AC table of each block of a unit.
        tables: by class and number.
        only_dc: of a progressive JPEG.
    """
    raw = part.replace(b"\xff\0", b"\xff")
    bits = f"{int.from_bytes(raw):0{8 * len(raw)}b}"
    end = len(bits)
    bits += "1" * 16
    at = 0

    def take(table: Table) -> int:
        """Pass a code and the bits that its value asks for."""
        nonlocal at
        entry = table[int(bits[at : at + 16], 2)]
        at = at + (entry >> 8) + (entry & 15) if entry else end + 1
        return entry & 255

    for _ in range(units):
        for dc, ac in blocks:
            take(tables[dc])
            place = 64 if only_dc else 1
            while place < 64 and at <= end:
                value = take(tables[16 + ac])
                place += 64 if value == 0 else 1 + (value >> 4)
            if at > end:
                return None
    return bits[at:end]
