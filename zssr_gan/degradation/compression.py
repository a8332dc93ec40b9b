"""Find in pixels with which quality a crop was compressed by JPEG, at any phase of the grid and under a later save.

Each image is tested against every candidate table at the 64 phases of the grid (`lattice`); images that one table
explains are a group, so that crops of several photographs get each their own quality. Where a group's compression is
the file's own or begins in the corners of its images, it is a later save, and an earlier compression is looked for
under it.

Shapes: C images, T candidate tables, P phases (64).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from zssr_gan.degradation.encoder_tables import candidates
from zssr_gan.degradation.found_compression import Compression, CompressionGroup, Phase
from zssr_gan.degradation.lattice import (
    PHASES,
    ROUNDING,
    SmoothDensity,
    Tile,
    Windows,
    moved_by_saving,
    saved_again_scores,
    scores,
    steps_of,
    tiles_of,
    windows_of,
)
from zssr_gan.degradation.model import Jpeg
from zssr_gan.degradation.own_tables import find_own_tables

_LEAST_EVIDENCE = 30.0
"""Nats that a group must have in all."""

_SURE = 0.9
"""Least share of the likelihood that lies within 1 of the quality; else the quality is not known."""

_ALIKE = 0.01  # difference of such shares that says nothing

_TEMPERED = 0.5  # coefficients of one block are not independent: a nat counts half where qualities are compared

_FITS = 50  # iterations of the shares of a set's compressions

_COARSE = 3  # every third quality is tested at all phases, every one at the best
_BESTPHASES = 4
_COARSER = 5
"""Qualities that an earlier compression lies below the later one: of a finer one the later leaves nothing."""

_SIGMAS = torch.tensor([1.1 * ROUNDING, 1.6 * ROUNDING])[:, None, None]
"""Of the decoder's rounding; the larger where a decoder is inexact or an image was processed a little."""

_RESAVED = torch.tensor([1.0, 0.6])[:, None, None]
"""Of `moved_by_saving`: some blocks are moved less than others."""

_HIDDEN = math.log(0.5)
"""Share of images in which a later save hides an earlier one: in 15 of 64 phases the grids agree in an axis, and flat
places say nothing."""

_ALIGNED = math.log(0.1)  # share of images that are saved twice on one grid

_NEAREST = 3  # qualities that two compressions under a later save differ by, or they are taken for one

_AT_CORNER = 0.6
"""Share of a group's images with blocks from the corner on above which they were saved so after they were cut out."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What one image says of each table."""

    evidence: Tensor
    """`T` nats."""
    phases: Tensor
    """`T`: the likeliest phase."""


def find_compression(images: Sequence[Tensor], outer: Sequence[Jpeg | None] | None = None) -> Compression:
    """Find the JPEG compression that images went through, from their pixels.

    Args:
        images: `C H W` in [0, 1], as stored in 8 bit. Smaller than 8 pixels, an image says nothing.
        outer: what the files' own tables say, where they are JPEG: blocks begin in the corner.

    Returns:
        Groups of images. Takes 1.6 s of one core for 24 images of 32 pixels; of a large image parts are tested.
    """
    tables = [None] * len(images) if outer is None else list(outer)
    if len(tables) != len(images):
        raise ValueError("find_compression: outer has not one item for each image")
    tiles = [tiles_of(image) for image in images]
    plain = [number for number, table in enumerate(tables) if table is None]
    saves: list[tuple[CompressionGroup, bool]] = []
    groups: list[CompressionGroup] = []
    jpegs, reads = _with_own_tables({n: _read(tiles[n]) if tiles[n] else _nothing(0.0) for n in plain}, tiles)
    for group in _grouped(plain, reads, jpegs):
        at_corner = [phase == (0, 0) for phase in group.phases if phase is not None]
        if group.jpeg is None:
            groups.append(group)
        else:
            saves.append((group, sum(at_corner) > _AT_CORNER * len(at_corner)))
    for table in dict.fromkeys(table for table in tables if table is not None):
        members = tuple(number for number, one in enumerate(tables) if one == table)
        group = CompressionGroup(
            images=members,
            jpeg=table,
            outer=None,
            evidence=math.inf,
            phases=((0, 0),) * len(members),
            seen=len(members),
        )
        saves.append((group, True))
    groups += _earlier([group for group, cut in saves if cut], tiles, cut=True)
    groups += _earlier([group for group, cut in saves if not cut], tiles, cut=False)
    return Compression(groups=tuple(sorted(groups, key=lambda group: -len(group.images))))


def find_phase(image: Tensor, jpeg: Jpeg, expected: Phase | None = None) -> Phase | None:
    """Where the blocks of an image begin of which the compression is known.

    Args:
        image: `C H W` in [0, 1], as stored in 8 bit.
        jpeg: its compression.
        expected: returned unless another place is much likelier; None: unless any is likelier than no compression.
    """
    if not (tiles := tiles_of(image)):
        return expected
    windows = windows_of(tiles)
    nats = scores(windows, SmoothDensity.fit(windows), steps_of([jpeg.luma]), _SIGMAS)
    by_phase = torch.stack([_by_phase(windows, one) for one in nats]).logsumexp(0)[:, 0]
    best = int(by_phase.argmax())
    none = math.log(PHASES * len(_SIGMAS))
    least = none if expected is None else by_phase[8 * expected[0] + expected[1]] + _LEAST_EVIDENCE
    return divmod(best, 8) if float(by_phase[best]) > least else expected


def is_unlike(image: Tensor, found: Sequence[Jpeg]) -> bool:
    """Whether an image `C H W` is to be searched itself: the compressions `found` (none: no compression) do not explain
    it, or one of some other qualities does so better. Takes a fifth of the time of a search."""
    if not (tiles := tiles_of(image)):
        return False
    windows = windows_of(tiles)
    tables = torch.cat([steps_of([one.luma for one in found]) if found else _tables()[:0], _tables()[_coarse()[::4]]])
    nats = _by_phase(windows, scores(windows, SmoothDensity.fit(windows), tables, _SIGMAS[:1])[0])
    evidence = nats.logsumexp(0) - math.log(PHASES)
    best = float(evidence[: len(found)].max()) if found else 0.0
    return best < 0 or float(evidence[len(found) :].max()) > best + _LEAST_EVIDENCE


def _earlier(saves: Sequence[CompressionGroup], tiles: Sequence[list[Tile]], *, cut: bool) -> list[CompressionGroup]:
    """The groups divided by the compressions found under theirs; images without an earlier one as they are.

    Where images were `cut` out before that save, the earlier grid has any phase, else the same.
    """
    groups: list[CompressionGroup] = []
    alone: list[CompressionGroup] = []
    for save in saves:
        reads = {}
        for number, phase in zip(save.images, save.phases, strict=True):
            reads[number] = _read_under(tiles[number], save.jpeg, (0, 0) if cut else phase, cut=cut)
        for group in _grouped(save.images, reads, _known(), _NEAREST):
            if group.jpeg is None or save.jpeg is None or group.jpeg.quality > save.jpeg.quality - _COARSER:
                alone.append(_part(save, group.images))
            else:
                groups.append(group.model_copy(update={"outer": save.jpeg}))
    first = [group.jpeg for group in groups if group.jpeg is not None]
    for save in alone:
        # Some images of a set show the first compression alone, a little blurred by the second.
        near = [jpeg for jpeg in first if abs(jpeg.quality - (save.quality or 0)) < _NEAREST]
        groups.append(save.model_copy(update={"jpeg": near[0]}) if near and math.isfinite(save.evidence) else save)
    return groups


def _part(group: CompressionGroup, members: tuple[int, ...]) -> CompressionGroup:
    """The group with some of its images."""
    phases = tuple(group.phases[group.images.index(number)] for number in members)
    return group.model_copy(update={"images": members, "phases": phases, "seen": min(group.seen, len(members))})


def _read(tiles: list[Tile]) -> _Read:
    """The evidence of one image for each table, its phase and sigma averaged over."""
    windows = windows_of(tiles)
    return _searched(windows, SmoothDensity.fit(windows), _SIGMAS)


def _read_under(tiles: list[Tile], outer: Jpeg | None, grid: tuple[int, int] | None, *, cut: bool) -> _Read:
    """The same for a compression before `outer`, whose blocks begin at `grid`: on that grid or, `cut`, on any."""
    read = _nothing(_HIDDEN)
    if not tiles or outer is None or grid is None:
        return read
    windows = windows_of(tiles)
    on_grid = windows.phases == 8 * grid[0] + grid[1]
    blocks, others = windows.at(on_grid).distinct(), windows.at(~on_grid)
    if len(others.phases) == 0:
        return read
    density = SmoothDensity.fit(others)
    # A first save that was finer leaves too little to be sure of.
    coarser = _qualities(_known()) < outer.quality - 1
    again = torch.full_like(read.evidence, -math.inf)
    nats = saved_again_scores(blocks, density, _tables()[coarser], steps_of([outer.luma])[0])
    again[coarser] = nats.sum(0) + _rarer()[coarser] + _ALIGNED
    evidence, phases = again, torch.full_like(read.phases, 8 * grid[0] + grid[1])
    if cut:
        moved = moved_by_saving(tiles, outer.luma, density)
        found = _searched(others, density, _RESAVED * moved)
        phases = torch.where(again > found.evidence, phases, found.phases)
        evidence = torch.logaddexp(again, found.evidence)
    return _Read(torch.logaddexp(evidence, read.evidence), phases)


def _nothing(nats: float) -> _Read:
    return _Read(torch.full((len(_tables()),), nats), torch.zeros(len(_tables()), dtype=torch.long))


def _with_own_tables(reads: dict[int, _Read], tiles: Sequence[list[Tile]]) -> tuple[list[Jpeg], dict[int, _Read]]:
    """The candidates and the tables that none of them explains, and what each image says of all."""
    best = {n: int(read.evidence.argmax()) for n, read in reads.items() if tiles[n]}
    known = {n: (float(reads[n].evidence[table]), int(reads[n].phases[table])) for n, table in best.items()}
    jpegs = _known()
    for own in find_own_tables({n: tiles[n] for n in known}, known):
        jpegs = [*jpegs, own.jpeg]
        for number, read in reads.items():
            evidence = torch.tensor([own.evidence.get(number, -math.inf)])
            phase = torch.tensor([own.phases.get(number, 0)])
            reads[number] = _Read(torch.cat([read.evidence, evidence]), torch.cat([read.phases, phase]))
    return jpegs, reads


def _searched(windows: Windows, density: SmoothDensity, sigmas: Tensor) -> _Read:
    """Some tables at all phases, then all tables at the best."""
    coarse = _by_phase(windows, scores(windows, density, _tables()[_coarse()], sigmas[:1])[0])
    best = coarse.max(1).values.topk(_BESTPHASES).indices
    blocks = windows.at(torch.isin(windows.phases, best)).distinct()
    found = torch.stack([_by_phase(blocks, nats)[best] for nats in scores(blocks, density, _tables(), sigmas)], 1)
    evidence = found.logsumexp((0, 1)) - math.log(PHASES * len(sigmas)) + _rarer()
    return _Read(evidence, best[found.max(1).values.argmax(0)])


@cache
def _known() -> list[Jpeg]:
    return [one for one, _ in candidates()]


@cache
def _tables() -> Tensor:
    return steps_of([one.luma for one in _known()])


@cache
def _rarer() -> Tensor:
    return torch.tensor([rarer for _, rarer in candidates()])


def _qualities(jpegs: Sequence[Jpeg]) -> Tensor:
    return torch.tensor([one.quality for one in jpegs])


def _by_phase(windows: Windows, nats: Tensor) -> Tensor:
    """`P T` sums of `N T`."""
    found = torch.zeros(PHASES, nats.shape[1]).index_add_(0, windows.phases, nats)
    found[torch.bincount(windows.phases, minlength=PHASES) == 0] = -math.inf
    return found


@cache
def _coarse() -> Tensor:
    """Places of the candidates that are tested at all phases: every third quality, and some of other encoders'."""
    tested = candidates()
    common = [number for number, (_, rarer) in enumerate(tested) if not rarer]
    others = [number for number, (_, rarer) in enumerate(tested) if rarer]
    return torch.tensor(common[::_COARSE] + others[:: 4 * _COARSE])


def _grouped(
    images: Sequence[int], reads: dict[int, _Read], jpegs: Sequence[Jpeg], nearest: int = 1
) -> list[CompressionGroup]:
    """Images by the tables `jpegs` that explain them, added while each makes the whole likelier by enough."""
    if not images:
        return []
    evidence = torch.stack([reads[number].evidence for number in images])
    chosen: list[int] = []
    best = torch.zeros(len(images))
    qualities = _qualities(jpegs)
    while True:
        gains = (evidence - best[:, None]).clamp(min=0).sum(0)
        for number in chosen:
            gains[(qualities - qualities[number]).abs() < nearest] = 0
        if float(gains.max()) < _LEAST_EVIDENCE:
            break
        chosen.append(int(gains.argmax()))
        best = torch.maximum(best, evidence[:, chosen[-1]])
    belongs = _assigned(evidence, chosen)
    groups = []
    for place in range(-1, len(chosen)):
        members = (belongs == place).nonzero()[:, 0].tolist()
        some = [images[member] for member in members]
        if members:
            groups.append(_none(some) if place < 0 else _group(some, evidence[members], reads, jpegs))
    return groups


def _assigned(evidence: Tensor, chosen: list[int]) -> Tensor:
    """Each image's table by its place in `chosen`, -1 for none; commoner tables are likelier, by their expectation."""
    options = torch.cat([torch.zeros(len(evidence), 1), evidence[:, chosen]], 1)
    shares = torch.full((options.shape[1],), 1 / options.shape[1])
    for _ in range(_FITS):
        belongs = torch.softmax(options + shares.log(), 1)
        shares = (belongs.sum(0) + 0.1) / (belongs + 0.1 / len(belongs)).sum()
    return (options + shares.log()).argmax(1) - 1


def _none(images: list[int]) -> CompressionGroup:
    """Images of which no table explains the pixels."""
    return CompressionGroup(
        images=tuple(images), jpeg=None, outer=None, evidence=0.0, phases=(None,) * len(images), seen=0
    )


def _group(images: list[int], evidence: Tensor, reads: dict[int, _Read], jpegs: Sequence[Jpeg]) -> CompressionGroup:
    """What the members of a group say together of the tables `jpegs`."""
    pooled = evidence.sum(0)
    qualities = _qualities(jpegs)
    share = torch.softmax(_TEMPERED * pooled, 0)
    # Tables of neighbouring qualities differ by little: the middle of three that are alike is the least wrong.
    within_1 = ((qualities[:, None] - qualities).abs() <= 1).float() @ share
    centre = qualities[(within_1 > within_1.max() - _ALIKE)][share[within_1 > within_1.max() - _ALIKE].argmax()]
    best = int(pooled.where(qualities == centre, -math.inf).argmax())
    says = (evidence[:, best] > 0).tolist()
    phases = [divmod(int(reads[number].phases[best]), 8) for number in images]
    return CompressionGroup(
        images=tuple(images),
        jpeg=jpegs[best] if float(within_1[best]) >= _SURE else None,
        outer=None,
        evidence=float(pooled[best]),
        phases=tuple(phase if said else None for phase, said in zip(phases, says, strict=True)),
        seen=int((evidence[:, best] > _LEAST_EVIDENCE).sum()),
    )
