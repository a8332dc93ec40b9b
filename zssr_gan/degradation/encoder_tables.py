"""Quantisation tables of encoders in use, beside libjpeg's qualities.

mozjpeg scales another table as libjpeg does (its default since 2014: N. Robidoux's, published in ImageMagick's forum;
mozilla/mozjpeg, jcparam.c). FFmpeg's MJPEG scales MPEG-1's default matrix of intra blocks (ISO/IEC 11172-2, 2.4.3.2) by
an eighth of its quantiser, 2 to 31 (ffmpeg, mpegvideo_enc.c). Photoshop has a table for each of its settings, of which
Pillow ships eight (PIL.JpegPresets). In a picture that was turned by a quarter rows and columns of these tables are
swapped.
"""

import io
from functools import cache

from PIL import Image
from PIL.JpegPresets import presets

from zssr_gan.degradation.jpeg import Table, nearest_quality, quality_of, read_tables, transposed
from zssr_gan.degradation.model import Jpeg
from zssr_gan.imaging.metadata import ORIENTATION, TRANSPOSED

_ROBIDOUX = (
    *(16, 16, 16, 18, 25, 37, 56, 85),
    *(16, 17, 20, 27, 34, 40, 53, 75),
    *(16, 20, 24, 31, 43, 62, 91, 135),
    *(18, 27, 31, 40, 53, 74, 106, 156),
    *(25, 34, 43, 53, 69, 94, 131, 189),
    *(37, 40, 62, 74, 94, 124, 169, 238),
    *(56, 53, 91, 106, 131, 169, 226, 311),
    *(85, 75, 135, 156, 189, 238, 311, 418),
)

_MPEG_1 = (
    *(8, 16, 19, 22, 26, 27, 29, 34),
    *(16, 16, 22, 24, 27, 29, 34, 37),
    *(19, 22, 26, 27, 29, 34, 34, 38),
    *(22, 22, 26, 27, 29, 34, 37, 40),
    *(22, 26, 27, 29, 32, 35, 40, 48),
    *(26, 27, 29, 32, 35, 40, 48, 58),
    *(26, 27, 29, 34, 38, 46, 56, 69),
    *(27, 29, 35, 38, 46, 56, 69, 83),
)

LOWEST, HIGHEST = 20, 97  # qualities; above, every step is 1 or 2 and rounding to levels hides the lattice

_RARER = -6.0  # nats


def mozjpeg_table(quality: int) -> Table:
    """mozjpeg's table, of luma and chroma alike, for a quality of 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (step * percent + 50) // 100)) for step in _ROBIDOUX)


def mjpeg_table(quantiser: int) -> Table:
    """The table of FFmpeg's MJPEG, of luma and chroma alike, for a quantiser (`-q:v`) of 2 to 31."""
    return (_MPEG_1[0], *(min(255, max(1, step * quantiser // 8)) for step in _MPEG_1[1:]))


def jpeg_of(data: bytes) -> Jpeg | None:
    """How a file was compressed, by the tables in its header, turned as EXIF turns the picture; None: it is no JPEG."""
    found = read_tables(data)
    if found is None:
        return None
    luma, chroma, halved = found
    jpeg = Jpeg(quality=quality_of(luma) or nearest_quality(luma), luma=luma, chroma=chroma, halved=halved)
    return turned(jpeg) if _is_turned(data) else jpeg


def turned(jpeg: Jpeg) -> Jpeg:
    """The same compression of a picture that was turned by a quarter afterwards."""
    luma, chroma = (transposed(table) for table in (jpeg.luma, jpeg.chroma))
    return jpeg.model_copy(update={"luma": luma, "chroma": chroma})


def _is_turned(data: bytes) -> bool:
    """Whether a JPEG file's EXIF swaps rows and columns of its pixels."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return image.getexif().get(ORIENTATION) in TRANSPOSED
    except Exception:  # a damaged EXIF block turns nothing; its parser raises anything
        return False


@cache
def candidates() -> tuple[tuple[Jpeg, float], ...]:
    """Each compression that pixels are tested for, and how much rarer than libjpeg's it is taken to be, in nats.

    Luma is what they are told by; colour is taken to be stored at half the size.
    """
    found = [(Jpeg.of_quality(quality), 0.0) for quality in range(LOWEST, HIGHEST + 1)]
    taken = {one.luma for one, _ in found}
    others = [(mozjpeg_table(quality),) * 2 for quality in range(LOWEST, HIGHEST + 1)]
    others += [(mjpeg_table(quantiser),) * 2 for quantiser in range(2, 32)]
    for preset in presets.values():
        luma, chroma = preset["quantization"][:2]  # type: ignore[index]
        others.append((tuple(luma), tuple(chroma)))
    others += [(transposed(one.luma), transposed(one.chroma)) for one, _ in found]
    for luma, chroma in others:
        quality = nearest_quality(luma)
        if luma not in taken and LOWEST <= quality <= HIGHEST:
            taken.add(luma)
            found.append((Jpeg(quality=quality, luma=luma, chroma=chroma), _RARER))
    return tuple(found)
