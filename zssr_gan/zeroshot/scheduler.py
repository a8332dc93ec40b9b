"""Train the networks of many images in few batches (continuous batching).

A job is a generator: it yields a `TrainRequest`, receives a `TrainResult`, and returns its result. Networks that stop
free their slots in the fleet for the next ones, so that the device stays full.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

from zssr_gan.errors import DeviceError, NumericalError, ZssrGanError, is_out_of_memory
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.zeroshot.fleet import RESTARTS, Fleet, Member, Trained, TrainRequest, make_network

K = TypeVar("K")

R = TypeVar("R")

T = TypeVar("T")

_TICK = 10  # iterations between two reports

_LEAVE_SHARE = 0.25
"""Share of a fleet that must have stopped before the others move together, where no network waits for the slots: each
move copies all that is left."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainResult:
    """Trained networks and how they came about; lists have one entry a network."""

    network: ZSSR
    iterations: list[int]
    loss: list[float]
    """Mean absolute error over each network's last 50 iterations, [0, 1] units."""
    restarts: list[int]
    """Initialisations that died before the one that is used."""
    dead: list[bool]
    """Whether the initialisation that is used died as well: its output equals bicubic."""


Job = Generator[TrainRequest, TrainResult, R]


@dataclass(frozen=True, slots=True)
class Finished(Generic[K, R]):
    """A job at its end: its result, or the error that ended it."""

    key: K
    result: R | None
    error: ZssrGanError | None


@dataclass(frozen=True, slots=True)
class Tick:
    """How far the jobs are."""

    active: int
    """Networks in training now."""
    waiting: int
    """Networks that wait for a slot."""
    steps: int
    """Iterations of all networks since the last tick."""
    flop: float
    """Floating-point operations of these, 6 a multiply-add (forward, and twice that backward)."""


@dataclass(slots=True, eq=False)
class _JobState(Generic[K, R]):
    """A job that waits for the networks of its request; `done` has each with its restarts, by number."""

    key: K
    job: Job[R]
    done: dict[int, tuple[Trained, int]] = field(default_factory=dict)


def run_single(job: Job[R]) -> R:
    """Run one job and return its result.

    Raises what the job raises; DeviceError if the device has too little memory for a single network.
    """
    (finished,) = run_jobs([(0, job)], capacity=64)
    if finished.error is not None:
        raise finished.error
    assert finished.result is not None
    return finished.result


def run_jobs(
    jobs: Iterable[tuple[K, Job[R]]],
    capacity: int,
    *,
    on_tick: Callable[[Tick], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Iterator[Finished[K, R]]:
    """Run jobs side by side and yield each as it ends.

    A job's result does not depend on the others, up to the last bits of floating-point sums.

    Args:
        jobs: a key and a job each; taken one by one as slots become free.
        capacity: networks trained as one batch, at most. Halved if memory runs out, which `on_notice` reports.
        on_tick: called every few iterations.
        on_notice: called with a sentence for the log.

    Yields:
        One `Finished` a job, the first to end first. An error of a job ends that job alone, and so does a device that
        has too little memory for a single network of it.
    """
    return _Scheduler(iter(jobs), capacity, on_tick, on_notice).run()


class _Scheduler(Generic[K, R]):
    """State of `run_jobs`."""

    def __init__(
        self,
        jobs: Iterator[tuple[K, Job[R]]],
        capacity: int,
        on_tick: Callable[[Tick], None] | None,
        on_notice: Callable[[str], None] | None,
    ) -> None:
        self.jobs, self.capacity, self.on_tick, self.on_notice = jobs, capacity, on_tick, on_notice
        self.smaller: dict[Hashable, int] = {}  # capacities by batch key, where memory ran out
        self.running: dict[TrainRequest, _JobState[K, R]] = {}
        self.waiting: dict[Hashable, deque[Member]] = {}
        self.finished: list[Finished[K, R]] = []

    @property
    def waiting_count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def run(self) -> Iterator[Finished[K, R]]:
        """See `run_jobs`."""
        while True:
            self._start_jobs(self.capacity)
            if self.finished:
                yield from self._flush()
            elif self.waiting:
                # The key for which most networks wait: its fleet is the fullest.
                yield from self._run_batch(max(self.waiting, key=lambda key: len(self.waiting[key])))
            else:
                return

    def _flush(self) -> Iterator[Finished[K, R]]:
        finished, self.finished = self.finished, []
        yield from finished

    def _run_batch(self, key: Hashable) -> Iterator[Finished[K, R]]:
        """Train one fleet until no network of its key waits and all of its networks have stopped."""
        slots = self._next(key, self.smaller.get(key, self.capacity))
        fleet = self._attempt(key, slots, lambda: Fleet.of(slots))
        steps = 0
        while fleet is not None:
            if not fleet.running_N.all():
                slots = self._refill(key, fleet, slots)
                yield from self._flush()
            active = int(fleet.running_N.sum()) if slots else 0
            if self.on_tick is not None and (fleet.clock % _TICK == 0 or not slots):
                self.on_tick(Tick(active, self.waiting_count, steps, steps * fleet.flop_of_a_step))
                steps = 0
            if not slots:
                return
            losses = self._attempt(key, slots, fleet.advance)
            if losses is None:
                return
            steps += active
            on_iteration = slots[0].request.on_iteration
            # Reading a loss makes the CPU wait for the device: on a GPU not at every iteration.
            due = losses.device.type == "cpu" or fleet.clock % _TICK == 0
            if on_iteration is not None and due and all(member.request is slots[0].request for member in slots):
                rates = fleet.schedule.rates(fleet.iteration_N - 1)
                on_iteration(fleet.clock, float(losses.mean()), float(rates.max()))

    def _refill(self, key: Hashable, fleet: Fleet, slots: list[Member]) -> list[Member]:
        """Remove networks that have stopped and put waiting ones into their slots; the fleet's networks then."""
        free = (~fleet.running_N).nonzero()[:, 0]
        all_stopped = len(free) == len(slots)
        if not (all_stopped or fleet.may_assign):
            return slots
        # No more than there are slots for: what is taken here, no other process does.
        self._start_jobs(len(free))
        if not (all_stopped or key in self.waiting or len(free) >= _LEAVE_SHARE * len(slots)):
            return slots
        trained = self._attempt(key, slots, lambda: fleet.results(free))
        if trained is None:
            return []
        for place, one in zip(free.tolist(), trained, strict=True):
            self._finish(slots[place], one)
        if all_stopped:
            return []  # a fleet of others starts from nothing
        fresh = self._next(key, len(free))
        left = set(free[len(fresh) :].tolist())
        slots = list(slots)
        for place, member in zip(free.tolist(), fresh, strict=False):
            slots[place] = member
        stay = [place for place in range(len(slots)) if place not in left]
        slots = [slots[place] for place in stay]

        def move() -> bool:
            if fresh:
                fleet.assign(free[: len(fresh)], Fleet.of(fresh))
            if left:
                fleet.select(torch.tensor(stay))
            return True

        return slots if self._attempt(key, slots, move) else []

    def _start_jobs(self, wanted: int) -> None:
        """Start jobs until so many networks wait, a job has ended (its result shall not lie here), or none is left."""
        while self.waiting_count < wanted and not self.finished:
            try:
                key, job = next(self.jobs)
            except StopIteration:
                return
            self._resume(_JobState(key, job), None)

    def _resume(self, state: _JobState[K, R], answer: TrainResult | ZssrGanError | None) -> None:
        """Let a job go on to its next request or its end."""
        try:
            if answer is None:
                request = next(state.job)
            elif isinstance(answer, TrainResult):
                request = state.job.send(answer)
            else:
                request = state.job.throw(answer)
        except StopIteration as end:
            self.finished.append(Finished(state.key, end.value, None))
        except ZssrGanError as error:
            self.finished.append(Finished(state.key, None, error))
        else:
            self.running[request] = _JobState(state.key, state.job)
            for number in range(len(request.seeds)):
                self._wait(Member(request, number))

    def _wait(self, member: Member) -> None:
        self.waiting.setdefault(member.request.batch_key, deque()).append(member)

    def _next(self, key: Hashable, count: int) -> list[Member]:
        queue = self.waiting.get(key, deque())
        members = [queue.popleft() for _ in range(min(count, len(queue)))]
        if not queue:
            self.waiting.pop(key, None)
        return members

    def _finish(self, member: Member, trained: Trained) -> None:
        """Restart a network that died; else resume its job if it was the request's last."""
        if trained.dead and member.restarts < RESTARTS:
            self._wait(Member(member.request, member.number, member.restarts + 1))
            return
        request, state = member.request, self.running[member.request]
        state.done[member.number] = trained, member.restarts
        if len(state.done) < len(request.seeds):
            return
        del self.running[request]
        networks, restarts = zip(*(state.done[number] for number in range(len(request.seeds))), strict=True)
        weights_NP = torch.stack([one.weights_P for one in networks])
        answer: TrainResult | ZssrGanError = TrainResult(
            make_network(request.settings, len(request.image_CHW), request.task.factor, weights_NP),
            [one.iterations for one in networks],
            [one.loss for one in networks],
            list(restarts),
            [one.dead for one in networks],
        )
        if not torch.isfinite(weights_NP).all():
            answer = NumericalError(
                f"training gave NaN or infinity in each of {RESTARTS + 1} starts; try the precision fp32 or a lower "
                "learning rate"
            )
        self._resume(state, answer)

    def _attempt(self, key: Hashable, slots: list[Member], act: Callable[[], T]) -> T | None:
        """What `act` returns; None if memory ran out: `slots` then wait again, for a smaller fleet.

        An iteration may have been cut off anywhere, so they train from their beginning.
        """
        try:
            return act()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            if len(slots) == 1:
                self._give_up(slots[0].request, error)
                return None
            self.smaller[key] = len(slots) // 2  # of this key alone: others may have smaller images
            if self.on_notice is not None:
                self.on_notice(
                    f"memory ran out with {len(slots)} networks side by side; going on with {self.smaller[key]}"
                )
            self.waiting.setdefault(key, deque()).extendleft(reversed(slots))
            return None

    def _give_up(self, request: TrainRequest, error: Exception) -> None:
        """End a job, a single network of which does not fit into memory, with its other networks."""
        lacking = DeviceError(
            "the device has too little memory to train a single network on this image: use another device, or a preset "
            "with a smaller crop"
        )
        lacking.__cause__ = error
        for key, queue in list(self.waiting.items()):
            self.waiting[key] = deque(member for member in queue if member.request is not request)
            if not self.waiting[key]:
                del self.waiting[key]
        self._resume(self.running.pop(request), lacking)
