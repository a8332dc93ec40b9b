"""How the frame was coded that a still of a video shows, as a text of its PNG file.

Whether a codec changed the pixels can be guessed from them alone, and a program that decodes the video knows it.
"""

import json
from collections.abc import Mapping

_KEY = "zssr-gan:coding"


def coding_text(codec: str, pixel_format: str, colour_range: str, *, lossless: bool) -> dict[str, str]:
    """The text, with its keyword: JSON, names as libav has them, and whether decoding gave back what was encoded."""
    facts = {"codec": codec, "pixel_format": pixel_format, "colour_range": colour_range, "lossless": lossless}
    return {_KEY: json.dumps(facts)}


def is_footage(texts: Mapping[str, str]) -> bool | None:
    """Whether the texts of a file say that a video's codec changed its pixels; None where they do not say."""
    try:
        facts = json.loads(texts.get(_KEY, "null"))
    except ValueError:
        return None
    lossless = facts.get("lossless") if isinstance(facts, dict) else None
    return not lossless if isinstance(lossless, bool) else None
