"""The Python API: arrays and PIL images in, the same enlarged out, without a file."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from PIL import Image

from zssr_gan.degradation.model import Degradation
from zssr_gan.devices import RunOptions
from zssr_gan.errors import ResultWarning, SettingsError
from zssr_gan.imaging.convert import like, picture_of
from zssr_gan.imaging.resize import Scale
from zssr_gan.inference.case import learn_from_pictures
from zssr_gan.inference.enhance import enhance_picture
from zssr_gan.inference.options import degradation_option, make_request
from zssr_gan.inference.region import Region
from zssr_gan.progress import OnProgress
from zssr_gan.training.model_card import TrainedGenerator

Pixels = NDArray[Any] | Image.Image


def enhance(
    image: Pixels | list[Pixels],
    scale: float | Scale | None = None,
    preset: str | None = None,
    *,
    init: Literal["auto", "scratch", "shared"] = "auto",
    model: str | Path | TrainedGenerator | None = None,
    region: Region | None = None,
    seed: int = 0,
    noise: float | None = None,
    kernel: NDArray[Any] | Sequence[Sequence[float]] | None = None,
    degradation: Degradation | str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    tile: int | None = None,
    on_progress: OnProgress | None = None,
) -> Any:
    """Enlarge an image, or a list of images, by what they teach: array in, array out; PIL in, PIL out; list, list.

    Args:
        image: an array `H W` (gray), `H W 2` (gray and alpha), `H W 3` (RGB) or `H W 4` (RGB and alpha; straight, not
            premultiplied) of uint8, uint16 (0 to full range) or floating point ([0, 1]); or a PIL image of mode L,
            LA, RGB, RGBA, P, I;16 or I;16B. Or a list of such, of which one that fails ends the call.
        scale: factor per side, 1 to 8; or (y, x). None: 2, or the generator's.
        preset: `quality`, `fast`, `original`, `paper`, or a YAML file of the same form; with a generator `generator` or
            `raw`, or a YAML file of that form. None: the first of these.
        init: of a list: `scratch`, a network for each image from it alone; `shared`, one network learnt on all; `auto`:
            one for all where enough are small, as the command decides it.
        model: a trained generator as `make train` writes it, or as `load_generator` gives it. Results are then
            `generative`: their detail may stem from other people's images.
        region: the part that the result shows, as (x, y, width, height) in pixels of the upright image, from its top
            left corner. The whole is learnt from, and the pixels are those of the whole result.
        seed: from 0 to 2^63 - 1; the same seed, image and machine give the same pixels.
        noise: standard deviation of the camera's noise, [0, 1] units; 0: none. None: what is seen in the picture where
            nothing else is known of the camera.
        kernel: blur of the image in pixels of the result, an array or nested lists of two dimensions; the scale is
            then in whole numbers.
        degradation: how the image came out of the scene, or the file of an estimate as `zssr-gan degradation estimate`
            writes it; "bicubic"; "auto" or None: the kernel, or what the generator was trained for, or, with
            several images and not `init="scratch"`, what is estimated of their camera from all, or the compression or
            noise that an image shows, or bicubic. It has its own noise, so `noise` has no place beside it.
        device, precision, threads, tile: see `RunOptions`.
        on_progress: called with a `Progress` after every iteration.

    Returns:
        The enlarged image: dtype, channels and kind as given.

    Raises:
        ZssrGanError: one of its kinds, see `enhance_pictures`.
        TypeError: not an array or image of the kinds above.

    Warns:
        ResultWarning: a generator's output is of one colour or far from the image; or the transparent level of a PIL
            image is that of none of its pixels.
    """
    request = make_request(
        scale,
        preset,
        model=Path(model) if isinstance(model, str) else model,
        region=region,
        seed=seed,
        noise=noise,
        kernel=kernel,
        degradation=degradation_option(degradation) if isinstance(degradation, str) else degradation,
        init=None if init == "auto" else init,
        options=RunOptions(device, precision, threads, tile),
        prefix="",
    )
    images = image if isinstance(image, list) else [image]
    if request.to_estimate == "asked" and len(images) == 1:
        raise SettingsError("degradation: one image tells too little of its camera: give a list, or an estimate's file")
    pictures = [picture_of(one) for one in images]
    requests = learn_from_pictures(pictures, request, on_progress)
    made = []
    for one, picture, its in zip(images, pictures, requests, strict=True):
        enhanced = enhance_picture(picture, its, on_progress)
        for warning in enhanced.work.warnings:
            warnings.warn(warning, ResultWarning, stacklevel=2)
        made.append(like(one, enhanced.picture))
    return made if isinstance(image, list) else made[0]
