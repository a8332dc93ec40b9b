"""Many images' work side by side: what each does on its own is written once, and its training shares a fleet.

A work is a generator: it yields a `Request` where it needs networks trained, is sent the `Fit`, and returns its result.
`run_fleet` lets many works run at once and puts the members of their requests into fleets. Members that have stopped
leave, and others take their places, so that the device stays full: a stream, not a barrier.

Shapes: N members, C channels, H W rows and columns.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from zssr_gan.errors import DeviceError, NumericalError, ZssrGanError, is_out_of_memory
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.fleet import Fleet, Member, OnIteration, Trained, Training

K = TypeVar("K")

R = TypeVar("R")

T = TypeVar("T")

_TICK = 10  # iterations between two reports

_LEAVE_SHARE = 0.25
"""Share of a fleet that must have stopped before the rest moves together, where nobody takes the places: each moving
copies all that is left."""


@dataclass(slots=True)
class Fit:
    """Trained networks and how they came about; lists have one entry a member."""

    network: ZSSR
    iterations: list[int]
    loss: list[float]
    """Mean absolute error over each member's last 50 iterations, [0, 1] units."""
    restarts: list[int]
    """Starts that died before the one that is used."""
    dead: list[bool]
    """Whether the start that is used died as well: its output is the interpolated image."""


@dataclass(slots=True, eq=False)
class Request:
    """Networks to be trained: one for each of `images_NCHW`, which know nothing of each other."""

    images_NCHW: Tensor
    """[0, 1]."""
    seeds: list[int]
    """One a member: all that its random draws depend on."""
    settings: ZeroShotSettings
    """Network, pairs, schedule, optimiser, restarts."""
    training: Training
    fathers: list[Tensor] = field(default_factory=list)
    """Further images `N C h w` to learn from (gradual steps)."""
    learn_NHW: Tensor | None = None
    """1 where a member may learn from a pixel, 0 where it is held out."""
    start: ZSSR | None = None
    """Members to go on from, else fresh weights."""
    on_iteration: OnIteration | None = None
    """Called after each iteration, where nobody shares the fleet."""

    def member(self, number: int) -> Member:
        """What the member of that number is trained on."""
        return Member(
            self.images_NCHW[number],
            self.seeds[number],
            [father[number] for father in self.fathers],
            None if self.learn_NHW is None else self.learn_NHW[number],
            None if self.start is None else self.start.weights_NP[number].detach(),
        )

    def fit(self, trained: list[Trained], restarts: list[int]) -> Fit:
        """The answer, out of what came of each member."""
        options = ZSSROptions(**self.settings.network.model_dump())
        weights_NP = torch.stack([each.weights_P for each in trained])
        network = ZSSR(options, self.images_NCHW.shape[1], self.training.task.factor, weights_NP)
        iterations, loss = [each.iterations for each in trained], [each.loss for each in trained]
        return Fit(network, iterations, loss, restarts, [each.dead for each in trained])


Work = Generator[Request, Fit, R]


@dataclass(frozen=True, slots=True)
class Ended(Generic[K, R]):
    """A work that has come to its end: its result, or the error that ended it."""

    key: K
    result: R | None
    error: ZssrGanError | None


@dataclass(frozen=True, slots=True)
class Tick:
    """Where a run of many stands."""

    active: int
    """Members in training now."""
    waiting: int
    """Members that wait for a place."""
    steps: int
    """Member-iterations since the last tick."""
    flop: float
    """Floating-point operations of these, 6 a multiply-add (forward, and twice that backward)."""


@dataclass(slots=True, eq=False)
class _Seat(Generic[K, R]):
    """A member's place in its request."""

    running: "_Running[K, R]"
    number: int
    member: Member
    attempt: int = 0


@dataclass(slots=True, eq=False)
class _Running(Generic[K, R]):
    """A work and the request that it waits for."""

    key: K
    work: Work[R]
    request: Request
    trained: dict[int, Trained] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)


def alone(work: Work[R]) -> R:
    """Run one work by itself and give its result.

    Raises what the work raises; DeviceError where the device has too little memory for a single member.
    """
    (ended,) = run_fleet([(0, work)], capacity=64)
    if ended.error is not None:
        raise ended.error
    assert ended.result is not None
    return ended.result


def train(request: Request) -> Fit:
    """Train the networks of one request by themselves; raises as `alone` does."""

    def work() -> Work[Fit]:
        return (yield request)

    return alone(work())


def run_fleet(
    works: Iterable[tuple[K, Work[R]]],
    capacity: int,
    *,
    on_tick: Callable[[Tick], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Iterator[Ended[K, R]]:
    """Run works side by side and yield each as it ends.

    What becomes of a work does not depend on the others, up to the last bits of floating-point sums.

    Args:
        works: a key and a work each; taken one by one as places become free.
        capacity: members in training at once. Halved where memory runs out, which `on_notice` is told.
        on_tick: called every few iterations.
        on_notice: called with a sentence for the log.

    Yields:
        One `Ended` a work, the first to end first. A work's own error ends that work alone, and so does a device that
        has too little memory for a single member of it.
    """
    yield from _Stream(iter(works), capacity, on_tick, on_notice).run()


class _Stream(Generic[K, R]):
    """State of `run_fleet`."""

    def __init__(
        self,
        works: Iterator[tuple[K, Work[R]]],
        capacity: int,
        on_tick: Callable[[Tick], None] | None,
        on_notice: Callable[[str], None] | None,
    ) -> None:
        self.works = works
        self.capacity = capacity
        self.capacities: dict[Hashable, int] = {}  # of forms for which memory ran out
        self.on_tick = on_tick
        self.on_notice = on_notice
        self.waiting: dict[Hashable, deque[_Seat[K, R]]] = {}
        self.ended: list[Ended[K, R]] = []

    def run(self) -> Iterator[Ended[K, R]]:
        """See `run_fleet`."""
        while True:
            self._admit(self.capacity)
            if self.ended:
                yield from self._flush()
                continue
            # The form that most members wait in: its fleet is the fullest.
            form = max(self.waiting, key=lambda form: len(self.waiting[form]), default=None)
            if form is None:
                return
            yield from self._sail(form)

    def _flush(self) -> Iterator[Ended[K, R]]:
        ended, self.ended = self.ended, []
        yield from ended

    def _sail(self, form: Hashable) -> Iterator[Ended[K, R]]:
        """One fleet, until nobody of its form waits and all its members have stopped."""
        seats = self._next_seats(form, self.capacities.get(form, self.capacity))
        request = seats[0].running.request
        members = [seat.member for seat in seats]
        fleet = self._try(form, seats, lambda: Fleet(members, request.settings, request.training))
        if fleet is None:
            return
        steps = 0
        while True:
            if not fleet.running_N.all():
                seats = self._change(form, fleet, seats)
                yield from self._flush()
            running = int(fleet.running_N.sum()) if seats else 0
            if self.on_tick is not None and (fleet.clock % _TICK == 0 or not seats):
                self.on_tick(Tick(running, sum(map(len, self.waiting.values())), steps, steps * fleet.flop_of_a_step))
                steps = 0
            if not seats:
                return
            losses = self._try(form, seats, fleet.advance)
            if losses is None:
                return
            steps += running
            self._tell(seats, fleet, losses)

    def _change(self, form: Hashable, fleet: Fleet, seats: list[_Seat[K, R]]) -> list[_Seat[K, R]]:
        """Let members that have stopped leave and others take their places; who sits in the fleet then."""
        free = (~fleet.running_N).nonzero()[:, 0]
        all_stopped = len(free) == len(seats)
        if not (all_stopped or fleet.may_put):
            return seats
        # No more than can sit down: what is taken here, no other process does.
        self._admit(len(free))
        if not (all_stopped or form in self.waiting or len(free) >= _LEAVE_SHARE * len(seats)):
            return seats
        outcomes = self._try(form, seats, lambda: fleet.results(free))
        if outcomes is None:
            return []
        for place, trained in zip(free.tolist(), outcomes, strict=True):
            self._finish(seats[place], trained)
        if all_stopped:
            return []  # a fleet of others is made anew
        fresh = self._next_seats(form, len(free))
        taken, left = free[: len(fresh)], set(free[len(fresh) :].tolist())
        for place, seat in zip(taken.tolist(), fresh, strict=True):
            seats[place] = seat
        stay = [place for place in range(len(seats)) if place not in left]
        seats = [seats[place] for place in stay]

        def move() -> bool:
            if fresh:
                fleet.put(taken, [seat.member for seat in fresh])
            if left:
                fleet.keep(torch.tensor(stay))
            return True

        return seats if self._try(form, seats, move) else []

    def _admit(self, wanted: int) -> None:
        """Begin works until so many members wait, a work has ended (its result shall not lie here), or none is left."""
        while sum(map(len, self.waiting.values())) < wanted and not self.ended:
            try:
                key, work = next(self.works)
            except StopIteration:
                return
            self._resume(key, work, None)

    def _resume(self, key: K, work: Work[R], answer: Fit | ZssrGanError | None) -> None:
        """Let a work go on to its next request or its end."""
        try:
            if answer is None:
                request = next(work)
            elif isinstance(answer, Fit):
                request = work.send(answer)
            else:
                request = work.throw(answer)
        except StopIteration as end:
            self.ended.append(Ended(key, end.value, None))
            return
        except ZssrGanError as error:
            self.ended.append(Ended(key, None, error))
            return
        running = _Running(key, work, request)
        for number in range(len(request.seeds)):
            self._wait(_Seat(running, number, request.member(number)))

    def _wait(self, seat: _Seat[K, R]) -> None:
        request = seat.running.request
        form = (seat.member.form, request.settings, request.training)
        self.waiting.setdefault(form, deque()).append(seat)

    def _next_seats(self, form: Hashable, count: int) -> list[_Seat[K, R]]:
        queue = self.waiting.get(form, deque())
        seats = [queue.popleft() for _ in range(min(count, len(queue)))]
        if not queue:
            self.waiting.pop(form, None)
        return seats

    def _finish(self, seat: _Seat[K, R], trained: Trained) -> None:
        """Take a member's outcome; begin it again where it died; answer its work where it was the last."""
        running, request = seat.running, seat.running.request
        if trained.dead and seat.attempt < request.settings.restarts:
            attempt = seat.attempt + 1
            again = request.member(seat.number).again(attempt)
            self._wait(_Seat(running, seat.number, again, attempt))
            return
        running.trained[seat.number] = trained
        running.restarts[seat.number] = seat.attempt
        if len(running.trained) < len(request.seeds):
            return
        numbers = range(len(request.seeds))
        fit = request.fit([running.trained[n] for n in numbers], [running.restarts[n] for n in numbers])
        answer: Fit | ZssrGanError = fit
        if not torch.isfinite(fit.network.weights_NP).all():
            answer = NumericalError(
                f"training gave NaN or infinity in each of {request.settings.restarts + 1} starts; "
                "try the precision fp32 or a lower learning rate"
            )
        self._resume(running.key, running.work, answer)

    def _try(self, form: Hashable, seats: list[_Seat[K, R]], act: Callable[[], T]) -> T | None:
        """What `act` gives; None where memory ran out, and then `seats` wait again for a smaller fleet."""
        try:
            return act()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._halve(form, seats, error)
            return None

    def _halve(self, form: Hashable, seats: list[_Seat[K, R]], error: Exception) -> None:
        """After memory ran out: smaller fleets from now on, and all members of this one from their beginning.

        An iteration may have been cut off anywhere, so nothing of the fleet can be gone on from. Mostly it was its
        first: later ones need no more.
        """
        torch.cuda.empty_cache()
        if len(seats) == 1:
            lacking = DeviceError(
                "the device has too little memory to train a single network on this image: use another device, "
                "or a preset with a smaller crop"
            )
            lacking.__cause__ = error
            (running,) = (seat.running for seat in seats)
            # The image's other members wait in vain.
            for key, queue in list(self.waiting.items()):
                self.waiting[key] = deque(seat for seat in queue if seat.running is not running)
                if not self.waiting[key]:
                    del self.waiting[key]
            self._resume(running.key, running.work, lacking)
            return
        # Of this form alone: others may have smaller images.
        self.capacities[form] = len(seats) // 2
        if self.on_notice is not None:
            self.on_notice(
                f"memory ran out with {len(seats)} networks side by side; going on with {self.capacities[form]}"
            )
        self.waiting.setdefault(form, deque()).extendleft(reversed(seats))

    def _tell(self, seats: list[_Seat[K, R]], fleet: Fleet, losses: Tensor) -> None:
        request = seats[0].running.request
        # Reading a loss makes the CPU wait for the device: on a GPU not at every iteration.
        due = losses.device.type == "cpu" or fleet.clock % _TICK == 0
        if request.on_iteration is not None and due and all(seat.running.request is request for seat in seats):
            rates = fleet.schedule.rates(fleet.iteration_N - 1)
            request.on_iteration(fleet.clock, float(losses.mean()), float(rates.max()))
