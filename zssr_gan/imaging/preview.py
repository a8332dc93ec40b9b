"""A picture of the image in work, for a program that shows it: `ZSSR_GAN_PREVIEW=FILE.png` in the environment.

The file is replaced whole, at most once a second, and what networks are put to for it takes at most a fiftieth of the
time. Pixels of results do not depend on it.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from zssr_gan.devices import RunOptions, machine
from zssr_gan.errors import ImageError, ZssrGanError
from zssr_gan.imaging.colour import to_levels
from zssr_gan.imaging.io import read_picture, size_in_header
from zssr_gan.imaging.resize import Scale, enlarged_size, resize

_SECONDS_BETWEEN = 1.0
_TIMES_ITS_COST = 50
LARGEST = 512 * 512
"""Pixels of an image that goes through its network for a preview."""
LARGEST_SHOWN = 2**20
"""Pixels of an input of which there are previews at all: making them of a photograph takes seconds."""

_lock = threading.Lock()  # small images are worked on in several threads
_thread = threading.local()
_front: object = None
_shown, _cost = float("-inf"), 0.0  # when the last one was made, and the seconds that it took


def works_on(image: object) -> None:
    """Say what this thread works on from now on, where several threads do: what is in front alone is shown."""
    _thread.image = image


def bring_to_front(image: object) -> None:
    """Say which image is shown; None: whatever is worked on."""
    global _front
    _front = image


@torch.no_grad()
def show(make: Callable[[], Tensor], *, now: bool = False) -> None:
    """Write a preview, where one is asked for and due.

    Args:
        make: gives `C H W`, [0, 1]; called only then.
        now: an image has begun or is done, so however long the last one took to make.
    """
    global _shown, _cost
    if _front is not None and getattr(_thread, "image", None) != _front:
        return
    path, rest = os.environ.get("ZSSR_GAN_PREVIEW"), _SECONDS_BETWEEN if now else _TIMES_ITS_COST * _cost
    if not path or time.monotonic() < _shown + max(_SECONDS_BETWEEN, rest) or not _lock.acquire(blocking=False):
        return
    try:
        began = time.monotonic()
        with contextlib.suppress(OSError, ZssrGanError):  # a preview is worth no failure
            levels = to_levels(make()).cpu()
            picture = Image.fromarray(levels[0].numpy() if len(levels) == 1 else levels[:3].permute(1, 2, 0).numpy())
            temporary = Path(f"{path}.{os.getpid()}.tmp")
            picture.save(temporary, "PNG", compress_level=1)
            temporary.replace(path)
        _shown = time.monotonic()
        if not now:
            _cost = _shown - began
    finally:
        _lock.release()


def plain_enlargement(path: Path, scale: Scale) -> Tensor:
    """The bicubic enlargement of an image, `C H W`, before anything is known of it, for a preview.

    Raises ImageError: it cannot be read, or is too large for a preview.
    """
    size = size_in_header(path)
    if size is None or math.prod(size) > LARGEST_SHOWN:
        raise ImageError(f"{path}: has no preview")
    with machine(RunOptions("cpu", threads=1)):  # what several threads have computed makes learning on one slow
        pixels = read_picture(path).pixels
        return resize(pixels, enlarged_size((pixels.shape[-2], pixels.shape[-1]), scale))
