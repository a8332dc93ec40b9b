"""A job of the page against the command itself: python -m benchmarks.web_jobs preview|overhead FACES [--count N]

`preview`: seconds from the click (the job is queued) to the first preview, to the page being told of it, and to the
second one, for faces of FACES made 32 pixels wide, `fast`; the worker is warm. `overhead`: CPU seconds of `fast` on
--count such faces (default 100), by the command and by a job with progress, previews, log and hashes, in turn; both are
forked from one process, so that neither imports anything. CPU seconds, as a clock tells little on a busy machine.
"""

import argparse
import importlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from zssr_gan.cli.main import main as command
from zssr_gan.web import worker
from zssr_gan.web.case_folder import SERVER_FOLDER, Case, create_case
from zssr_gan.web.child import Child
from zssr_gan.web.commands import queue_job
from zssr_gan.web.plans import Body
from zssr_gan.web.queue import Job, Queue

_SIDE = 32
_PREVIEWS = 5


def preview(case: Case, queue: Queue) -> None:
    """See the module."""
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(case.folder.parent,))
    process.start()
    _finish(queue, _enhance(case, queue, ["1"]))
    for number in range(2, 2 + _PREVIEWS):
        clicked, job = time.monotonic(), _enhance(case, queue, [str(number)])
        file = worker.preview_of(case.folder.parent, job.id)
        _wait(file.exists)
        first, changed = time.monotonic(), file.stat().st_mtime_ns
        _wait(lambda at=job.id: (queue.job(at).progress or {}).get("preview"))
        told = time.monotonic()
        _wait(lambda at=file, old=changed: not at.exists() or at.stat().st_mtime_ns != old)
        times = (first - clicked, told - clicked, time.monotonic() - clicked)
        print("first preview {:.2f} s, told {:.2f} s, second preview {:.2f} s".format(*times))
        _finish(queue, job)
    process.terminate()
    process.join()


def overhead(case: Case, queue: Queue) -> None:
    """See the module."""
    for module in worker._IMPORTED:
        importlib.import_module(module)
    runner = worker._Worker(case.folder.parent, "cpu", command)
    ids, paths = zip(*((one.id, one.path) for one in case.originals()), strict=True)
    for turn in range(2):
        began = _cpu()
        argv = ["enhance", *paths, "-o", f"alone{turn}/", "--preset", "fast", "-s", "2", "--evidence"]
        child = Child(command, argv, case.folder, {"CUDA_VISIBLE_DEVICES": ""})
        while not child.ended:
            child.read(1)
        assert child.code() == 0
        alone, began = _cpu() - began, _cpu()
        job = _enhance(case, queue, ids)
        claimed = queue.claim("cpu")
        assert claimed is not None
        runner._do(claimed)
        assert queue.job(job.id).state == "done"
        page = _cpu() - began
        print(f"command {alone:.1f} s, job {page:.1f} s of CPU: {page / alone - 1:+.1%}")


def _work(cases: Path) -> None:
    worker.run(cases, "cpu", command)


def _enhance(case: Case, queue: Queue, ids: Sequence[str]) -> Job:
    body = Body(kind="enhance", originals=list(ids), options={"method": "fast"})
    return queue_job(case, queue, body, "benchmark", {})


def _finish(queue: Queue, job: Job) -> None:
    _wait(lambda: queue.job(job.id).state == "done")


def _wait(condition: "object") -> None:
    assert callable(condition)
    while not condition():
        time.sleep(0.005)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Make the case, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("preview", "overhead"))
    parser.add_argument("faces", type=Path)
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = create_case(Path(folder), "Benchmark", "benchmark")
        files = sorted(given.faces.glob("*.png"))[: 1 + _PREVIEWS if given.what == "preview" else given.count]
        for path in files:
            with Image.open(path) as picture:
                picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(f"{folder}/upload.png")
            case.add_original(Path(folder, "upload.png"), path.name, "benchmark")
        queue = Queue(Path(folder) / SERVER_FOLDER / "queue.sqlite")
        (preview if given.what == "preview" else overhead)(case, queue)


if __name__ == "__main__":
    main()
