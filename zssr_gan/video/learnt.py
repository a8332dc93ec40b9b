"""What fusing leaves wrong, learnt from fused images alone: the mean that a fused image is pulled towards.

Fused images of a track, or of a case's tracks, are shrunk to half their size, seen again by the same camera under other
motion, coded again where they are of a video, and fused again. A small network learns the way back (pairs across
scales, as Shocher et al. 2018 draw them of one image); applied to a fused image it gives what it expects of the scene
(learnt proximal step, Zhang et al. 2017).

Shapes: F frames, C channels, H W rows and columns of a frame, sH sW of a fused image, B images, P parameters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.jpeg import compress
from zssr_gan.degradation.model import Degradation, degradation_of
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, NumericalError, SettingsError
from zssr_gan.files import canonical_sha256
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.seeds import derive_seed, generator, uniform
from zssr_gan.settings.zeroshot import (
    CosineSchedule,
    OptimiserSettings,
    PairSettings,
    ZeroShotSettings,
    ZSSRSettings,
)
from zssr_gan.video.camera import BORDER, camera_matrix
from zssr_gan.video.fusion import Fused, fuse_burst
from zssr_gan.video.recoding import coded_again
from zssr_gan.video.registration import SMALLEST_SIDE, Motion
from zssr_gan.video.solver import luma_planes
from zssr_gan.zeroshot.fleet import Fleet, make_network
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.shared import SharedFacts, SharedModel, make_shared

PULL = 200.0
"""How strongly the result is pulled (see `fuse_burst`)."""

LEAST_SIDE = 2 * SMALLEST_SIDE
"""Pixels a side of a frame: half of it must still be registered."""

CASE_SETTINGS = ZeroShotSettings(
    network=ZSSRSettings(depth=6, width=32, bias=True, initial="lecun"),
    pairs=PairSettings(crop=32, batch=8),
    schedule=CosineSchedule(lr=2e-3, iterations=400),
    optimiser=OptimiserSettings(average=0.99, clip=1.0),
)
"""Of several tracks."""

OWN_SETTINGS = CASE_SETTINGS.model_copy(
    update={
        "network": ZSSRSettings(depth=3, width=8, bias=True, initial="lecun"),
        "schedule": CosineSchedule(lr=2e-3, iterations=200),
    }
)
"""Of few: a larger network learns one face by heart."""

_SEVERAL = 10  # tracks

_BURSTS = 48  # that are seen and fused again, of all tracks together
_LEAST_BURSTS, _MOST_BURSTS = 2, 24  # of each track
_JITTER = 0.5  # pixels of a frame that each shift is moved by, at most: places between pixels are drawn anew


@dataclass(frozen=True, slots=True)
class FusedTrack:
    """A fused burst, and the frames that it was fused from."""

    images: tuple[CaseImage, ...]
    fused: Fused


def learn_mean(
    tracks: Sequence[FusedTrack],
    degradation: Degradation,
    scale: int,
    *,
    seed: int = 0,
    machine: Machine,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> SharedModel:
    """Train a network on fused images, from what fusing makes of them when they are seen again at half their size.

    Args:
        tracks: fused at `scale` with this degradation, frames of 24 pixels a side or more.
        degradation: of the camera.
        scale: per side.
        seed: the run's.
        machine: what the network is trained on.
        on_progress: called with the stage, how much is done, and how much there is.

    Raises:
        ImageError: no track, or frames that are too small.
        NumericalError: NaN or infinity came out.
    """
    if not tracks:
        raise ImageError("there is no track to learn from")
    pairs: list[tuple[Tensor, Tensor]] = []
    each = min(_MOST_BURSTS, max(_LEAST_BURSTS, math.ceil(_BURSTS / len(tracks))))
    settings = CASE_SETTINGS if len(tracks) >= _SEVERAL else OWN_SETTINGS
    for place, track in enumerate(tracks):
        pairs += _pairs(track.fused, degradation, scale, each, derive_seed("fusion", seed, place))
        if on_progress is not None:
            on_progress("seeing and fusing again", place + 1, len(tracks))
    task = Task((float(scale), float(scale)), (1, 1), degradation.downscale, "fp32")
    network = make_network(settings, 1, (1, 1), [derive_seed("fusion", seed)]).to(machine.device)
    fleet = Fleet(network, _Pairs(pairs, settings.pairs, derive_seed("pairs", seed)), settings, task)
    total = settings.schedule.iterations
    while fleet.running_N.any():
        fleet.advance()
        if on_progress is not None:
            on_progress("learning", int(fleet.iteration_N[0]), total)
    (weights_P,) = fleet.optimiser.result().detach()
    if fleet.iteration_N[0] < total or not weights_P.isfinite().all():
        raise NumericalError("learning what fusing leaves wrong gave NaN or infinity: use --mean none")
    values = settings.model_dump(mode="json")
    images = {image.sha256: image for track in tracks for image in track.images}
    coder = {"av": metadata.version("av")} if any(track.fused.coding for track in tracks) else {}
    facts = SharedFacts(
        network=settings.network,
        channels=1,
        factor=(1, 1),
        scale=(float(scale), float(scale)),
        learnt_for=(_learnt_for(degradation),),
        cameras=(degradation,),
        settings=values,
        settings_sha256=canonical_sha256(values),
        seed=seed,
        precision="fp32",
        threads=machine.threads,
        device=str(machine.device),
        iterations=total,
        loss=float(fleet.recent_losses(torch.tensor([0]))[0]),
        images=tuple(images[sha256] for sha256 in sorted(images)),
        versions={"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__, **coder},
    )
    return make_shared(weights_P, facts)


def check_mean(model: SharedModel, degradation: Degradation, scale: int) -> None:
    """Check that a model was learnt on fused images of this camera and scale.

    Raises:
        SettingsError: it was not, and what to do.
    """
    (learnt_for, *_), facts = model.facts.learnt_for, model.facts
    if not learnt_for.startswith("fusion "):
        raise SettingsError("this shared model was learnt for single images: give one that `fuse --mean shared` wrote")
    if facts.scale != (float(scale), float(scale)):
        raise SettingsError(f"the model was learnt at scale {facts.scale[0]:g}, not {scale}")
    if learnt_for != _learnt_for(degradation):
        raise SettingsError(
            "the model was learnt for another degradation: leave --degradation out, and the model's is taken"
        )


def _learnt_for(degradation: Degradation) -> str:
    return f"fusion {degradation_of(degradation.downscale)}"


@torch.no_grad()
def mean_of(model: SharedModel, image: Tensor) -> Tensor:
    """What a model expects of a fused image `C sH sW`: its luma changed, its colours as they are."""
    network = model.network()
    luma = luma_planes(image[None])[:, :1]
    around = network.radius
    seen = F.pad(luma, (around,) * 4, mode="replicate")
    views = [network(turned[None])[0] for turned in (seen, seen.flip(2, 3))]
    change = (views[0] + views[1].flip(2, 3)) / 2 - seen
    expected: Tensor = image + change[0, :, around:-around, around:-around]
    return expected.clamp(0, 1)


def pulled(frames: Tensor, degradation: Degradation, fused: Fused, model: SharedModel, scale: int) -> Fused:
    """The burst fused once more, with the same motion and weights found anew, pulled to what a model expects."""
    used = [f for f, fact in enumerate(fused.frames) if fact.rejected is None]
    return fuse_burst(
        frames[used],
        degradation,
        scale,
        used.index(fused.reference),
        motion=fused.motion[used],
        mean=mean_of(model, fused.image),
        pull=PULL,
        coding=fused.coding and fused.coding[used],
    )


def _pairs(fused: Fused, degradation: Degradation, scale: int, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Fused again and as it was, both `1 h w`: of a fused image at half its size, `count` times."""
    sides = [side // (2 * scale) * scale for side in fused.image.shape[1:]]
    if min(sides) // scale < SMALLEST_SIDE:
        raise ImageError(f"frames have at least {LEAST_SIDE} pixels a side where a mean is learnt: use --mean none")
    luma = luma_planes(fused.image[None])[0, :1]
    scene = resize(luma[None, :, : 2 * sides[0], : 2 * sides[1]], (sides[0], sides[1]))[0].clamp(0, 1)
    used = [f for f, fact in enumerate(fused.frames) if fact.rejected is None]
    motion, reference, coding, pairs = fused.motion[used], used.index(fused.reference), None, []
    for number in range(count):
        draws = uniform(torch.tensor([derive_seed(seed, number)]), torch.tensor([0]), 2 * len(used))[0]
        jitter = (2 * draws.double() - 1).reshape(-1, 2) * _JITTER
        jitter[reference] = 0
        moved = replace(motion, shift=motion.shift / 2 + jitter)
        frames = _seen(scene, degradation, scale, moved, generator("noise", derive_seed(seed, number)))
        if fused.coding is not None:
            frames, coding = coded_again(frames, fused.coding[used])
        again = fuse_burst(frames, degradation, scale, reference, motion=moved, coding=coding).image
        pairs.append((again, scene))
    return pairs


def _seen(scene: Tensor, degradation: Degradation, scale: int, motion: Motion, rng: torch.Generator) -> Tensor:
    """Frames `F 1 h w` of a scene `1 sh sw`, as it stores them; beyond its border the scene repeats it."""
    size = (scene.shape[1] // scale, scene.shape[2] // scale)
    extended = F.pad(scene[None], (scale * BORDER,) * 4, mode="replicate")[0, 0].numpy()
    rows = camera_matrix(degradation, scale, motion, size)
    pixels = torch.from_numpy((rows @ extended.ravel()).reshape(len(motion), 1, *size))
    beyond = torch.from_numpy(np.asarray(rows.sum(1)).reshape(pixels.shape) == 0)
    pixels = torch.where(beyond, pixels.mean(), pixels)  # of no use, and no edge in a block
    pixels = motion.gain.float()[:, None, None, None] * pixels + motion.bias.float()[:, None, None, None]
    if degradation.noise is not None:
        deviation = degradation.noise.deviation(pixels)
        pixels = pixels + deviation * torch.randn(pixels.shape, generator=rng)
    if degradation.jpeg is not None:
        pixels = compress(pixels.clamp(0, 1), degradation.jpeg.luma, degradation.jpeg.chroma)
    return (pixels.clamp(0, 1) * 255).round() / 255


class _Pairs:
    """Draws batches of pairs for a fleet of one: crops at one place of both, half of them turned by half a turn."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], settings: PairSettings, seed: int) -> None:
        self.pairs, self.batch, self.seed_1 = pairs, settings.batch, torch.tensor([seed])
        self.side = min(settings.crop, *(min(image.shape[1:]) for image, _ in pairs))

    def sample(self, iteration_1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A batch `1 B 1 K K` of inputs, targets and masks."""
        batch, side = self.batch, self.side
        x: list[Tensor] = []
        y: list[Tensor] = []
        for which, top, left, turn in uniform(self.seed_1, iteration_1, 4 * batch)[0].reshape(batch, 4).tolist():
            again, image = self.pairs[int(which * len(self.pairs))]
            rows, columns = (int(at * (n - side + 1)) for at, n in zip((top, left), image.shape[1:], strict=True))
            for out, one in ((x, again), (y, image)):
                crop = one[:, rows : rows + side, columns : columns + side]
                out.append(crop.flip(1, 2) if turn < 0.5 else crop)
        seen, wanted = torch.stack(x)[None], torch.stack(y)[None]
        return seen, wanted, torch.ones_like(wanted)
