"""Small images: several are learnt from at once, each on one thread of its own."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from zssr_gan.devices import ONE_THREAD_PIXELS, RunOptions, machine
from zssr_gan.errors import ImageError
from zssr_gan.imaging import preview
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import Scale, enlarged_size, resize
from zssr_gan.inference.enhance import Enhanced, OnProgress
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.result import Result
from zssr_gan.inference.stream import at_once

OnResult = Callable[[ImageTask, Enhanced], None]


def is_small(path: Path) -> bool:
    """Whether the header of a file says that its image is learnt from on one thread."""
    size = size_in_header(path)
    return size is not None and size[0] * size[1] <= ONE_THREAD_PIXELS


def size_in_header(path: Path) -> tuple[int, int] | None:
    """Width and height that the header of an image file says; None where it cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return image.size
    except Exception:  # damaged headers raise anything, and their image has its own error when its turn comes
        return None


def plain_enlargement(path: Path, scale: Scale) -> Tensor:
    """The bicubic enlargement of an image, `C H W`, before anything is known of it, for a preview.

    Raises ImageError: it cannot be read, or is too large for a preview.
    """
    size = size_in_header(path)
    if size is None or math.prod(size) > preview.LARGEST_SHOWN:
        raise ImageError(f"{path}: has no preview")
    with machine(RunOptions("cpu", threads=1)):  # what several threads have computed makes learning on one slow
        pixels = read_picture(path).pixels
        return resize(pixels, enlarged_size((pixels.shape[-2], pixels.shape[-1]), scale))


def run_small(
    jobs: Sequence[ImageTask],
    threads: int,
    run_job: Callable[[ImageTask, OnProgress, OnResult], Result],
    on_start: Callable[[ImageTask], None],
    on_progress: OnProgress | None,
    on_result: OnResult | None,
) -> Iterator[Result]:
    """Do the jobs of small images, several at once, and yield their results in their order.

    The files are those of one after another. Arguments are as of `at_once`; `on_result` too is called in order.
    """

    def work(job: ImageTask, step: OnProgress) -> tuple[Result, list[Enhanced]]:
        made: list[Enhanced] = []
        preview.works_on(job.source)
        return run_job(job, step, lambda _, enhanced: made.append(enhanced)), made

    def start(job: ImageTask) -> None:
        preview.bring_to_front(job.source)
        on_start(job)

    # Around all of them: torch's threads are a setting of the process, which none may put back before the others end.
    with machine(RunOptions("cpu", threads=1)):
        for result, made in at_once(jobs, threads, work, on_start=start, on_progress=on_progress):
            if on_result is not None and made:
                on_result(result.job, made[0])
            yield result
    preview.bring_to_front(None)
