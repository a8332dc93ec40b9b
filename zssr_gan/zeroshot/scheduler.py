"""Train the networks of many images in few batches (continuous batching).

A job is a generator: it yields a `TrainRequest`, receives a `TrainResult`, and returns its result. Networks that stop
free their slots in the fleet for the next ones, so that the device stays full. A job may also yield a `ApplyRequest`:
networks that stop together are applied to their images together.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from zssr_gan.errors import DeviceError, NumericalError, ZssrGanError, is_out_of_memory
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.zeroshot.apply import ApplyRequest, ApplyResult, apply_networks
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


TrainJob = Generator[TrainRequest | ApplyRequest, Any, R]
"""Receives a `TrainResult` for a `TrainRequest`, and a `ApplyResult` for a `ApplyRequest`."""


@dataclass(frozen=True, slots=True)
class JobResult(Generic[K, R]):
    """A job at its end: its result, or the error that ended it."""

    key: K
    result: R | None
    error: ZssrGanError | None

    def unwrap(self) -> R:
        """The result. Raises the error that ended the job."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


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


def run_single(job: TrainJob[R]) -> R:
    """Run one job and return its result.

    Raises what the job raises; DeviceError if the device has too little memory for a single network.
    """
    (finished,) = run_jobs([(0, job)], capacity=64)
    return finished.unwrap()


def run_jobs(
    jobs: Iterable[tuple[K, TrainJob[R]]],
    capacity: int,
    *,
    exact: bool = False,
    on_tick: Callable[[Tick], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Iterator[JobResult[K, R]]:
    """Run jobs side by side and yield each as it ends.

    A job's result does not depend on the others, up to the last bits of floating-point sums.

    Args:
        jobs: a key and a job each; taken one by one as slots become free.
        capacity: networks trained as one batch, at most. Halved if memory runs out, which `on_notice` reports.
        exact: train just so many at once, copies where fewer wait, from their beginning to their end. As all sums then
            have one shape, a job's result does not depend on the others to the last bit on a GPU either.
        on_tick: called every few iterations.
        on_notice: called with a sentence for the log.

    Yields:
        One `JobResult` a job, the first to end first. An error of a job ends that job alone, and so does a device that
        has too little memory for a single network of it.
    """
    return _Scheduler(iter(jobs), capacity, exact, on_tick, on_notice).run()


class _Scheduler(Generic[K, R]):
    """State of `run_jobs`."""

    def __init__(
        self,
        jobs: Iterator[tuple[K, TrainJob[R]]],
        capacity: int,
        exact: bool,
        on_tick: Callable[[Tick], None] | None,
        on_notice: Callable[[str], None] | None,
    ) -> None:
        self.jobs, self.capacity, self.exact, self.on_tick, self.on_notice = jobs, capacity, exact, on_tick, on_notice
        self.smaller: dict[Hashable, int] = {}  # capacities by batch key, where memory ran out
        self.running: dict[TrainRequest, tuple[K, TrainJob[R]]] = {}
        self.trained: dict[TrainRequest, dict[int, tuple[Trained, int]]] = {}  # networks with their restarts, by number
        self.waiting: dict[Hashable, deque[Member]] = {}
        self.to_apply: list[tuple[ApplyRequest, K, TrainJob[R]]] = []
        self.ended: deque[JobResult[K, R]] = deque()
        self.slots: list[Member] = []  # of the fleet, in its order

    @property
    def waiting_count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def run(self) -> Iterator[JobResult[K, R]]:
        """See `run_jobs`."""
        while True:
            self._start_jobs(self.capacity)
            if self.ended:
                yield self.ended.popleft()
            elif self.to_apply:
                self._apply_networks()
            elif self.waiting:
                # The key for which most networks wait: its fleet is the fullest.
                yield from self._run_batch(max(self.waiting, key=lambda key: len(self.waiting[key])))
            else:
                return

    def _run_batch(self, key: Hashable) -> Iterator[JobResult[K, R]]:
        """Train one fleet until no network of its key waits and all of its networks have stopped."""
        size = self.smaller.get(key, self.capacity)
        self.slots = self._next(key, size)
        copies = self.slots[-1:] * (size - len(self.slots)) if self.exact else []
        fleet = self._attempt(lambda: Fleet.of([*self.slots, *copies]))
        steps = 0
        if fleet is not None:
            fleet.on_notice = self.on_notice
        while fleet is not None and self.slots:
            if not fleet.running_N.all():
                self._refill(key, fleet)
                while self.ended:
                    yield self.ended.popleft()
            active = int(fleet.running_N.sum()) if self.slots else 0
            if self.on_tick is not None and (fleet.clock % _TICK == 0 or not self.slots):
                self.on_tick(Tick(active, self.waiting_count, steps, steps * fleet.flop_of_a_step))
                steps = 0
            losses = self._attempt(fleet.advance) if self.slots else None
            if losses is None:
                return
            steps += active
            request, others = self.slots[0].request, {one.request for one in self.slots[1:]} - {self.slots[0].request}
            # Reading a loss makes the CPU wait for the device: on a GPU not at every iteration.
            due = losses.device.type == "cpu" or fleet.clock % _TICK == 0
            if request.on_iteration is not None and due and not any(one.on_iteration for one in others):
                rates = fleet.schedule.rates(fleet.iteration_N - 1)
                request.on_iteration(fleet.clock, float(losses.mean()), float(rates.max()))
                if request.on_network is not None and not others:
                    request.on_network(fleet.network)

    def _refill(self, key: Hashable, fleet: Fleet) -> None:
        """Remove networks that have stopped, and put waiting ones into their slots."""
        free = (~fleet.running_N).nonzero()[:, 0]
        all_stopped = len(free) == fleet.network.members
        if not (all_stopped or (fleet.may_assign and not self.exact)):
            return
        free = free[: len(self.slots)]  # without copies
        # No more than there are slots for: what is taken here, no other process does.
        self._start_jobs(len(free))
        if not (all_stopped or key in self.waiting or len(free) >= _LEAVE_SHARE * len(self.slots)):
            return
        trained = self._attempt(lambda: fleet.results(free))
        if trained is None:
            return
        for place, one in zip(free.tolist(), trained, strict=True):
            self._take_trained(self.slots[place], one)
        self._apply_networks()
        if all_stopped:
            self.slots = []  # a fleet of others starts from nothing
            return
        fresh = self._next(key, len(free))
        filled, left = free[: len(fresh)], set(free[len(fresh) :].tolist())
        for place, member in zip(filled.tolist(), fresh, strict=True):
            self.slots[place] = member
        stay = [place for place in range(len(self.slots)) if place not in left]
        self.slots = [self.slots[place] for place in stay]

        def move() -> None:
            if fresh:
                fleet.assign(filled, Fleet.of(fresh))
            if left:
                fleet.select(torch.tensor(stay))

        self._attempt(move)

    def _start_jobs(self, wanted: int) -> None:
        """Start jobs until so many networks wait, a job has ended (its result shall not lie here), or none is left."""
        while self.waiting_count < wanted and not self.ended and (started := next(self.jobs, None)) is not None:
            self._resume(*started)

    def _resume(self, key: K, job: TrainJob[R], answer: TrainResult | ApplyResult | Exception | None = None) -> None:
        """Let a job go on to its next request or its end."""
        try:
            if isinstance(answer, Exception):
                request = job.throw(answer)
            else:
                request = next(job) if answer is None else job.send(answer)
        except StopIteration as end:
            self.ended.append(JobResult(key, end.value, None))
        except ZssrGanError as error:
            self.ended.append(JobResult(key, None, error))
        else:
            if isinstance(request, ApplyRequest):
                self.to_apply.append((request, key, job))
                if len(self.to_apply) >= request.places:
                    self._apply_networks()
                return
            self.running[request], self.trained[request] = (key, job), {}
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

    def _take_trained(self, member: Member, one: Trained) -> None:
        """Restart a network that died; else resume its job if it was the request's last."""
        if one.dead and member.restarts < RESTARTS:
            self._wait(Member(member.request, member.number, member.restarts + 1))
            return
        request, trained = member.request, self.trained[member.request]
        trained[member.number] = one, member.restarts
        if len(trained) < len(request.seeds):
            return
        networks, restarts = zip(*(trained[number] for number in range(len(request.seeds))), strict=True)
        weights_NP = torch.stack([each.weights_P for each in networks])
        answer: TrainResult | ZssrGanError = TrainResult(
            make_network(request.settings, len(request.image_CHW), request.task.factor, weights_NP),
            [each.iterations for each in networks],
            [each.loss for each in networks],
            list(restarts),
            [each.dead for each in networks],
        )
        if not all(each.finite for each in networks):
            answer = NumericalError(
                f"training gave NaN or infinity in each of {RESTARTS + 1} starts; try the precision fp32 or a lower "
                "learning rate"
            )
        self._answer(request, answer)

    def _apply_networks(self) -> None:
        """Apply the networks that wait for it to their images, those of one size together."""
        while self.to_apply:
            request = self.to_apply[0][0]
            alike = [one for one in self.to_apply if one[0].batch_key == request.batch_key][: request.places]
            self.to_apply = [one for one in self.to_apply if one not in alike]
            for (_, key, job), made in zip(alike, _applied([one for one, *_ in alike], request.places), strict=True):
                self._resume(key, job, made)

    def _answer(self, request: TrainRequest, answer: TrainResult | ZssrGanError) -> None:
        del self.trained[request]
        self._resume(*self.running.pop(request), answer)

    def _attempt(self, act: Callable[[], T]) -> T | None:
        """What `act` returns; None if memory ran out: the fleet's networks then wait again, for a smaller one.

        An iteration may have been cut off anywhere, so they train from their beginning.
        """
        try:
            return act()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            slots, self.slots = self.slots, []
            request = slots[0].request
            key = request.batch_key
            size = self.smaller.get(key, self.capacity) if self.exact else len(slots)
            if size == 1:
                self._give_up(request, error)
                return None
            self.smaller[key] = size // 2  # of this key alone: others may have smaller images
            if self.on_notice is not None:
                self.on_notice(f"memory ran out with {size} networks side by side; going on with {self.smaller[key]}")
            self.waiting.setdefault(key, deque()).extendleft(reversed(slots))
            return None

    def _give_up(self, request: TrainRequest, error: Exception) -> None:
        """End a job, a single network of which does not fit into memory, with its other networks."""
        others = {
            key: deque(member for member in queue if member.request is not request)
            for key, queue in self.waiting.items()
        }
        self.waiting = {key: queue for key, queue in others.items() if queue}
        lacking = DeviceError(
            "the device has too little memory to train a single network on this image: use another device, or a preset "
            "with a smaller crop"
        )
        lacking.__cause__ = error
        self._answer(request, lacking)


def _applied(requests: list[ApplyRequest], places: int) -> Sequence[ApplyResult | Exception]:
    """Results, or errors: where there is too little memory for all at once, each by itself."""
    try:
        return apply_networks(requests, places)
    except (ZssrGanError, RuntimeError, MemoryError) as error:
        if not isinstance(error, DeviceError) and not is_out_of_memory(error):
            raise
        torch.cuda.empty_cache()
        if places == 1:
            return [error]
    return [made for one in requests for made in _applied([one], 1)]
