"""What changes is told to open pages as server-sent events: `job` with the job, `case` with the case's id."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from zssr_gan.web.queue import Job, Queue

HEARTBEAT_S = 15.0
_POLL_S = 0.2
_LONGEST_QUEUE = 1000

JobFacts = Callable[[Job], dict[str, object]]
Sees = Callable[[str], bool]


@dataclass(eq=False)
class _Page:
    """An open page: of one person, in one event loop."""

    sees: Sees
    loop: asyncio.AbstractEventLoop
    waiting: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_LONGEST_QUEUE))

    def tell(self, message: bytes | None) -> None:
        """Runs in the page's own loop."""
        if self.waiting.full():  # it does not read: it ends, and loads everything when it comes again
            self.waiting.get_nowait()
            message = None
        self.waiting.put_nowait(message)


class Events:
    """Open pages and what they are told.

    Args:
        queue: whose jobs are watched while any page is open.
        facts: of a job, as pages get them.
    """

    def __init__(self, queue: Queue, facts: JobFacts) -> None:
        self._queue, self._facts = queue, facts
        self._pages: set[_Page] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False

    def changed(self, case: str, change: Callable[[], None] = lambda: None) -> None:
        """Make a change in a case, and tell those who saw the case before it; from any thread."""
        pages = [page for page in list(self._pages) if page.sees(case)]
        change()
        for page in pages:
            page.loop.call_soon_threadsafe(page.tell, _event("case", {"id": case}))

    async def listen(self, sees: Sees, is_admitted: Callable[[], bool] = lambda: True) -> AsyncIterator[bytes]:
        """The events of one page, as they are sent.

        Args:
            sees: whether its person sees a case (may read files).
            is_admitted: whether the person is still signed in; else the events end.
        """
        page = _Page(sees, asyncio.get_running_loop())
        self._pages.add(page)
        if self._watcher is None or self._watcher.done():
            since, _ = self._queue.changes(1 << 62)  # before the page asks for what is there
            self._watcher = asyncio.create_task(self._watch(since))
        try:
            yield b": hello\n\n"
            while not self._closed:
                try:
                    message = await asyncio.wait_for(page.waiting.get(), HEARTBEAT_S)
                except TimeoutError:
                    message = b": still here\n\n"
                if message is None or not is_admitted():
                    return
                yield message
        finally:
            self._pages.discard(page)

    def close(self) -> None:
        """End all pages' streams, so that the server can stop."""
        self._closed = True
        for page in list(self._pages):
            page.loop.call_soon_threadsafe(page.tell, None)

    async def _watch(self, since: int) -> None:
        while self._pages:
            await asyncio.sleep(_POLL_S)
            since, jobs = await asyncio.to_thread(self._queue.changes, since)
            for job in jobs:
                changed = _event("job", self._facts(job))
                if job.state not in ("queued", "running"):
                    changed += _event("case", {"id": job.case})
                for page in list(self._pages):
                    if page.sees(job.case):
                        page.tell(changed)


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
