"""Methods that enlarge LR images, each with what its pixels were learnt from: what the tables compare.

Shapes: images are `C H W`, [0, 1]; results are on 8-bit levels, as a file holds them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale, Downscale, back_project
from zssr_gan.devices import Machine
from zssr_gan.evaluation.cache import Results
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.resize import Scale, enlarged_size, resize
from zssr_gan.inference.generator import generate, images_together, own_scale
from zssr_gan.progress import Progress
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.zeroshot import load_generator_preset, load_preset
from zssr_gan.training.model_card import TrainedGenerator
from zssr_gan.zeroshot.case import learn_case, read_lr
from zssr_gan.zeroshot.scheduler import run_fleet
from zssr_gan.zeroshot.steps import fleet_capacity
from zssr_gan.zeroshot.upscale import super_resolve, super_resolving

BACK_PROJECTIONS = 10

OnImage = Callable[[int, int], None]
"""Called with the number of images done and of all."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """LR images, and how each came out of a larger one."""

    images: tuple[Tensor, ...]
    downscales: tuple[Downscale, ...]

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def by_bicubic(cls, images: tuple[Tensor, ...]) -> "Inputs":
        """Images that were shrunk by bicubic, or are assumed to be."""
        return cls(images, (BicubicDownscale(),) * len(images))

    def part(self, first: int, end: int) -> "Inputs":
        """Those from `first` to before `end`."""
        return Inputs(self.images[first:end], self.downscales[first:end])


def interpolated(name: str, inputs: Inputs, scale: Scale, on_image: OnImage) -> Results:
    """`nearest`, `bicubic`, `lanczos`, or `back-projected` (bicubic, made consistent with the input)."""
    began, made = time.perf_counter(), []
    for number, (lr, downscale) in enumerate(zip(inputs.images, inputs.downscales, strict=True)):
        size = enlarged_size((lr.shape[-2], lr.shape[-1]), scale)
        if name == "nearest":
            enlarged = torch.nn.functional.interpolate(lr[None], size, mode="nearest-exact")[0]
        elif name == "lanczos":
            enlarged = _lanczos(lr, size)
        else:
            enlarged = resize(lr, size).clamp(0, 1)
            if name == "back-projected":
                enlarged = back_project(enlarged[None], lr[None], downscale, BACK_PROJECTIONS)[0]
        made.append(rounded(enlarged))
        on_image(number + 1, len(inputs))
    return Results(tuple(made), (time.perf_counter() - began) / len(inputs))


def generated(preset: str, inputs: Inputs, generator: TrainedGenerator, used: Machine, on_image: OnImage) -> Results:
    """By a trained generator, with the preset `raw` (its output) or `generator` (ensemble and back-projection)."""
    settings, scale = load_generator_preset(preset), own_scale(generator)
    began, made, apart = time.perf_counter(), list[Tensor](), list[Tensor]()
    pairs = list(zip(inputs.images, inputs.downscales, strict=True))
    # Neighbours of one shape and camera share a pass, where the device takes several.
    for (shape, _), group in groupby(pairs, key=lambda pair: (pair[0].shape, id(pair[1]))):
        its = list(group)
        together = images_together(used.device, (shape[-2], shape[-1]))
        for at in range(0, len(its), together):
            some = its[at : at + together]
            lr = [image.to(used.device) for image, _ in some]
            done = generate(lr, scale, settings, some[0][1], generator, used)
            made += [rounded(one.image_CHW.cpu()) for one in done]
            apart += [one.disagreement_HW.float().cpu() for one in done if one.views > 1]
            on_image(len(made), len(pairs))
    return Results(tuple(made), (time.perf_counter() - began) / len(pairs), tuple(apart))


def learnt_together(
    preset: str, inputs: Inputs, scale: Scale, seed: int, used: Machine, on_progress: Callable[[Progress], None]
) -> Results:
    """By one zero-shot network that is learnt on all the LR images, and nothing else; the learning's time is shared."""
    settings = load_preset(preset).for_case()
    began = time.perf_counter()
    case = learn_case(
        [read_lr(CaseImage(name=str(n), sha256=""), image, None) for n, image in enumerate(inputs.images)],
        seed=seed,
        degradations=inputs.downscales,
        settings=settings,
        scale=scale,
        machine=used,
        on_progress=on_progress,
    )
    made, apart = [], []
    for image, downscale in zip(inputs.images, inputs.downscales, strict=True):
        done = super_resolve(
            image.to(used.device),
            scale,
            settings,
            downscale,
            seed=seed,
            precision=used.precision,
            tile=used.tile,
            shared=case.shared,
        )
        made.append(rounded(done.image_CHW.cpu()))
        if done.views > 1:
            apart.append(done.disagreement_HW.float().cpu())
    return Results(tuple(made), (time.perf_counter() - began) / len(inputs), tuple(apart))


def learnt_alone(preset: str, inputs: Inputs, scale: Scale, seed: int, used: Machine, on_image: OnImage) -> Results:
    """By a zero-shot network of its own for each image, learnt on that image alone; many side by side.

    Raises:
        ZssrGanError: one of them failed.
    """
    settings, began = load_preset(preset), time.perf_counter()
    first = inputs.images[0]
    sized = settings.for_size(first[0].numel())
    capacity = min(len(inputs), fleet_capacity(used.device, sized, (first.shape[-2], first.shape[-1])))
    works = (
        (
            n,
            super_resolving(
                lr.to(used.device),
                scale,
                settings.for_size(lr[0].numel()),
                downscale,
                seed=seed,
                precision=used.precision,
                tile=used.tile,
            ),
        )
        for n, (lr, downscale) in enumerate(zip(inputs.images, inputs.downscales, strict=True))
    )
    made: dict[int, Tensor] = {}
    apart: dict[int, Tensor] = {}
    for ended in run_fleet(works, capacity):
        if ended.error is not None:
            raise ended.error
        assert ended.result is not None
        made[ended.key] = rounded(ended.result.image_CHW.cpu())
        if ended.result.views > 1:
            apart[ended.key] = ended.result.disagreement_HW.float().cpu()
        on_image(len(made), len(inputs))
    order = range(len(inputs))
    seconds = (time.perf_counter() - began) / len(inputs)
    return Results(tuple(made[n] for n in order), seconds, tuple(apart[n] for n in order if n in apart))


def _lanczos(lr: Tensor, size: tuple[int, int]) -> Tensor:
    planes = [
        np.asarray(Image.fromarray(plane.numpy(), "F").resize((size[1], size[0]), Image.Resampling.LANCZOS))
        for plane in lr
    ]
    return torch.from_numpy(np.stack(planes))
