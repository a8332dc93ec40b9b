"""Images that are learnt from on one thread each, several at once."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zssr_gan.devices import ONE_THREAD_PIXELS, RunOptions, machine
from zssr_gan.imaging import preview
from zssr_gan.imaging.io import size_in_header
from zssr_gan.inference.enhance import Enhanced
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.record import Record
from zssr_gan.inference.result import Result
from zssr_gan.inference.stream import at_once
from zssr_gan.progress import OnProgress

OnResult = Callable[[ImageTask, Enhanced, Record], None]


def fits_one_thread(path: Path) -> bool:
    """Whether the header of a file says that its image is learnt from on one thread."""
    size = size_in_header(path)
    return size is not None and size[0] * size[1] <= ONE_THREAD_PIXELS


def run_small(
    tasks: Sequence[ImageTask],
    threads: int,
    run_task: Callable[[ImageTask, OnProgress, OnResult], Result],
    on_start: Callable[[ImageTask], None],
    on_progress: OnProgress | None,
    on_result: OnResult | None,
) -> Iterator[Result]:
    """Do the tasks of small images, several at once, and yield their results in their order.

    The files are those of one after another. Arguments are as of `at_once`; `on_result` too is called in order.
    """

    def work(task: ImageTask, step: OnProgress) -> tuple[Result, list[tuple[Enhanced, Record]]]:
        made: list[tuple[Enhanced, Record]] = []
        preview.works_on(task.source)
        return run_task(task, step, lambda _, *results: made.append(results)), made

    def start(task: ImageTask) -> None:
        preview.bring_to_front(task.source)
        on_start(task)

    # Around all of them: torch's threads are a setting of the process, which none may put back before the others end.
    with machine(RunOptions("cpu", threads=1)):
        for result, made in at_once(tasks, threads, work, on_start=start, on_progress=on_progress):
            if on_result is not None and made:
                on_result(result.task, *made[0])
            yield result
    preview.bring_to_front(None)
