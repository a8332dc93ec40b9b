"""Estimate the quantisation table of an encoder that no candidate table explains, from the pixels themselves.

Each frequency has a step of its own, so its likelihood is that of 63 independent lattices; the phase and a prior about
libjpeg's tables are common. Integrated over the steps, it says whether a table that is not known explains an image
better than each that is; images that one such table explains give it together.

Shapes: P phases (64), Q steps, B tables that the prior is centred on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from zssr_gan.degradation.encoder_tables import HIGHEST
from zssr_gan.degradation.jpeg import nearest_quality, tables_of
from zssr_gan.degradation.lattice import PHASES, ROUNDING, SmoothDensity, Tile, step_scores, steps_of, windows_of
from zssr_gan.degradation.model import Jpeg

_STEPS = torch.arange(1, 129).float()
_SEARCHED = torch.tensor([*range(1, 17), *range(18, 33, 2), *range(36, 65, 4)]).float()
"""Steps that tell the phase."""

_SIGMA = 1.1 * ROUNDING

_QUALITIES = range(20, 97, 6)
"""Of libjpeg's tables that the prior is centred on."""

_SPREAD = 0.35
"""Mean absolute logarithm of a step over that of such a table: those of MPEG, mozjpeg and Photoshop have 0.1 to 0.4."""

_LEAST_EVIDENCE = 30.0
"""Nats of a candidate from which on its phase is taken."""

_LEAST_GAIN = 10.0
"""Nats by which a table of its own must explain an image better than every candidate."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What one image says of tables that are not known."""

    phase: int
    """The likeliest, 8 x row + column."""
    nats: Tensor
    """`63 Q` of each step at each frequency, at that phase."""
    evidence: float
    """Nats of any table against no compression."""


@dataclass(frozen=True, slots=True)
class OwnTable:
    """A table that was estimated, and how well it explains which images."""

    jpeg: Jpeg
    evidence: Mapping[int, float]
    """Of each image, nats against no compression; what the freedom of the steps costs is divided among them."""
    phases: Mapping[int, int]
    """Of each image, 8 x row + column."""


def find_own_tables(tiles: Mapping[int, Sequence[Tile]], known: Mapping[int, tuple[float, int]]) -> list[OwnTable]:
    """Tables of encoders that no candidate explains.

    Args:
        tiles: of each image.
        known: of each image, the evidence in nats for the candidate that explains it best, and its phase.

    Returns:
        One for each encoder, with the images that it explains clearly better than a candidate; none finer than those.
    """
    found = dict[int, _Read]()
    for number, parts in tiles.items():
        evidence, phase = known[number]
        # A candidate that explains an image badly is found at the right phase all the same.
        read = _read(parts, phase if evidence > _LEAST_EVIDENCE else None)
        if read.evidence > max(0.0, evidence) + _LEAST_GAIN:
            found[number] = read
    groups: list[tuple[Tensor, list[int]]] = []
    for number in sorted(found, key=lambda one: -found[one].evidence):
        nats = found[number].nats
        gains = [_evidence(pooled + nats) - _evidence(pooled) - _evidence(nats) for pooled, _ in groups]
        if gains and max(gains) > 0:
            place = gains.index(max(gains))
            groups[place] = groups[place][0] + nats, [*groups[place][1], number]
        else:
            groups.append((nats, [number]))
    tables = [_table(pooled, {number: found[number] for number in members}) for pooled, members in groups]
    return [one for one in tables if one.jpeg.quality <= HIGHEST]


def _read(tiles: Sequence[Tile], phase: int | None) -> _Read:
    windows = windows_of(tiles)
    density = SmoothDensity.fit(windows)
    if phase is None:
        searched = step_scores(windows.at(~windows.clipped), density, _SEARCHED, _SIGMA) - _SEARCHED.log()
        phase = int(searched.logsumexp(-1).sum(-1).argmax())
    blocks = windows.at(windows.phases == phase).distinct()
    reads = []
    # Blocks with clipped pixels may have lost their lattice, or be nearly all that there are.
    for some in (blocks, blocks.at(~blocks.clipped)):
        nats = step_scores(some, density, _STEPS, _SIGMA)[phase]
        reads.append(_Read(phase, nats, _evidence(nats) - math.log(2 * PHASES)))
    return max(reads, key=lambda read: read.evidence)


def _evidence(nats: Tensor) -> float:
    """Nats of a table of which no step is known, from those `63 Q` of each step."""
    return float((nats + _prior()).logsumexp(-1).sum(-1).logsumexp(0)) - math.log(len(_QUALITIES))


def _table(pooled: Tensor, reads: Mapping[int, _Read]) -> OwnTable:
    """The likeliest table of images by what they say together."""
    logs = pooled + _prior()
    likeliest = logs[logs.logsumexp(-1).sum(-1).argmax()].argmax(-1)
    steps = _STEPS[likeliest].int().tolist()
    quality = nearest_quality((steps[0], *steps))
    luma, chroma = tables_of(quality)
    each = {number: float(one.nats.gather(-1, likeliest[:, None]).sum()) for number, one in reads.items()}
    cost = (sum(each.values()) - _evidence(pooled)) / len(each) + math.log(PHASES)
    return OwnTable(
        jpeg=Jpeg(quality=quality, luma=(luma[0], *steps), chroma=chroma),
        evidence={number: one - cost for number, one in each.items()},
        phases={number: one.phase for number, one in reads.items()},
    )


@cache
def _prior() -> Tensor:
    """`B 63 Q`: logarithm of how likely a step is where a table is like one of libjpeg's."""
    centres = steps_of([tables_of(quality)[0] for quality in _QUALITIES]).clamp(max=float(_STEPS[-1]))
    logs = -(_STEPS.log() - centres.log()[..., None]).abs() / _SPREAD
    return logs - logs.logsumexp(-1, keepdim=True)
