"""The methods that the page offers."""

from dataclasses import dataclass
from typing import Literal, get_args

from zssr_gan.provenance import Label

Preset = Literal["fast", "quality"]
Fusion = Literal["fuse", "fuse-own"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

LEAD = "An investigative lead, not an identification."


@dataclass(frozen=True, slots=True)
class Method:
    """A card on the page."""

    id: Preset | Fusion
    title: str
    label: Label
    may: str
    """What a result may be used for."""
    text: str
    kinds: tuple[str, ...]
    default: bool = False


METHODS = (
    Method(
        "fast", "Fast", "internal", LEAD,
        "A network learns on this picture or video alone (or on all that are chosen, where they are many and tiny), "
        "in a quarter of the time, at little loss.",
        ("image", "folder", "video"), default=True,
    ),
    Method(
        "quality", "Thorough", "internal", LEAD,
        "The same with larger networks, learnt three times. The best figures that we know.",
        ("image", "folder", "video"),
    ),
    Method(
        "fuse", "Fuse", "fused", LEAD,
        "Frames of one scene become one picture by arithmetic, without a network. Frames that show something else are "
        "left out and named; where fusing does not pay, the result is one frame, and says so.",
        ("track",), default=True,
    ),
    Method(
        "fuse-own", "Fuse and learn", "internal", LEAD,
        "The same, pulled to what a small network learns on these frames alone.",
        ("track",),
    ),
)  # fmt: skip
