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

from pipelines.kept_results import Made
from zssr_gan.config import load_preset
from zssr_gan.devices import Machine
from zssr_gan.evaluation.planes import rounded
from zssr_gan.generative import generate, images_together, own_scale
from zssr_gan.generator_settings import load_generator_preset
from zssr_gan.imaging.resampling import Downscale, Scale, back_project, enlarged_size, resize
from zssr_gan.training.card import TrainedGenerator
from zssr_gan.zeroshot.case import OnLearning
from zssr_gan.zeroshot.shared import CaseImage, learn_shared
from zssr_gan.zeroshot.superresolve import super_resolve

BACK_PROJECTIONS = 10
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Inputs:
    """LR images, and how each came out of a larger one."""

    images: tuple[Tensor, ...]
    downscales: tuple[Downscale, ...]

    def __len__(self) -> int:
        return len(self.images)


def interpolated(name: str, inputs: Inputs, scale: Scale, on_image: Told) -> Made:
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
    return Made(tuple(made), (time.perf_counter() - began) / len(inputs))


def generated(preset: str, inputs: Inputs, generator: TrainedGenerator, used: Machine, on_image: Told) -> Made:
    """By a trained generator, with the preset `raw` (its output) or `generator` (ensemble and back-projection)."""
    settings, scale = load_generator_preset(preset), own_scale(generator)
    began, made = time.perf_counter(), []
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
            on_image(len(made), len(pairs))
    return Made(tuple(made), (time.perf_counter() - began) / len(pairs))


def learnt_together(
    preset: str, inputs: Inputs, scale: Scale, seed: int, used: Machine, on_learning: OnLearning
) -> Made:
    """By one zero-shot network that is learnt on all the LR images, and nothing else; the learning's time is shared."""
    settings = load_preset(preset).for_case()
    began = time.perf_counter()
    images = [(CaseImage(name=str(n), sha256=""), image) for n, image in enumerate(inputs.images)]
    start = learn_shared(
        images, settings, scale, list(inputs.downscales), seed=seed, machine=used, on_learning=on_learning
    )
    made = []
    for image, downscale in zip(inputs.images, inputs.downscales, strict=True):
        done = super_resolve(
            image.to(used.device),
            scale,
            settings,
            downscale,
            seed=seed,
            precision=used.precision,
            tile=used.tile,
            shared=start,
        )
        made.append(rounded(done.image_CHW.cpu()))
    return Made(tuple(made), (time.perf_counter() - began) / len(inputs))


def _lanczos(lr: Tensor, size: tuple[int, int]) -> Tensor:
    planes = [
        np.asarray(Image.fromarray(plane.numpy(), "F").resize((size[1], size[0]), Image.Resampling.LANCZOS))
        for plane in lr
    ]
    return torch.from_numpy(np.stack(planes))
