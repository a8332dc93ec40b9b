"""Many jobs in shared fleets: each result is the job's own, whoever shares its fleet, leaves, or comes later."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, Noise
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import Machine
from zssr_gan.errors import DeviceError, ImageError, NumericalError
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot import fleet, optimiser, scheduler
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import JobResult, Tick, TrainJob, TrainResult, run_jobs
from zssr_gan.zeroshot.upscale import SuperResolved, upscale

BICUBIC = BicubicDownscale()
INTERPOLATED = Task((2.0, 2.0), (1, 1), BICUBIC)
LR = Task((2.0, 2.0), (2, 2), BICUBIC)
NOISY = Task((2.0, 2.0), (1, 1), Degradation(noise=Noise(sigma=0.01)).downscale)
MACHINE = Machine(torch.device("cpu"), "fp32", 1, 512)
pytestmark = pytest.mark.usefixtures("single_start")


def settings(**changes: object) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 3, "width": 4, "initial": "lecun"},
        "pairs": {"crop": 12, "batch": 2, "affine": 0.5},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 12},
    }
    return parse_settings({**groups, **changes}, "test")


SLOPING = settings(schedule={"kind": "slope", "iterations": 45, "lr": 0.03}, optimiser={"kind": "adam", "average": 0.9})
MUON = settings(
    network={"depth": 4, "width": 4, "grid": "lr", "residual": True, "initial": "lecun", "bias": True},
    pairs={"crop": 12, "batch": 2, "phases": True, "affine": 0.5},
    optimiser={"kind": "muon", "average": 0.9, "clip": 1.0},
)
SHORT = settings(schedule={"kind": "cosine", "lr": 0.003, "iterations": 6})
KINDS = {"adam": (settings(), INTERPOLATED), "muon": (MUON, LR), "slope": (SLOPING, NOISY)}


@pytest.fixture(scope="module", autouse=True)
def _quick_slope_test() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RECORD_EVERY": 3, "CHECK_EVERY": 3, "WINDOW": 9, "DIVIDE": 100.0}.items():
            patch.setattr(optimiser, name, value)
        yield


@pytest.fixture(scope="module")
def images(astronaut: Tensor) -> list[Tensor]:
    """Six parts of the astronaut, 3 16 16."""
    corners = [(y, x) for y in (0, 24, 48) for x in (8, 36)]
    return [astronaut[:, y : y + 16, x : x + 16].clone() for y, x in corners]


def job(
    image: Tensor, seed: int, chosen: ZeroShotSettings, task: Task = INTERPOLATED, **more: Any
) -> TrainJob[TrainResult]:
    """The plainest job: one network."""
    return (yield TrainRequest(image, [seed], chosen, task, **more))


def results(finished: Iterator[JobResult[Any, Any]]) -> dict[Any, Any]:
    found = {}
    for one in finished:
        assert one.key not in found
        assert one.error is None
        found[one.key] = one.result
    return found


def train(
    images: Iterable[tuple[int, Tensor]],
    chosen: ZeroShotSettings,
    task: Task = INTERPOLATED,
    capacity: int = 1,
    **more: Any,
) -> dict[int, TrainResult]:
    """A network for each image, with its number as its seed."""
    return results(run_jobs(((number, job(image, number, chosen, task)) for number, image in images), capacity, **more))


def weights(result: TrainResult) -> Tensor:
    return result.network.weights_NP.detach()


def assert_equal(one: dict[Any, TrainResult], other: dict[Any, TrainResult], keys: Iterable[int] | None = None) -> None:
    for n in one if keys is None else keys:
        assert torch.allclose(weights(one[n]), weights(other[n]), atol=1e-4)
        assert one[n].iterations == other[n].iterations
        assert one[n].loss == pytest.approx(other[n].loss, abs=1e-4)


@pytest.fixture(scope="module")
def alone(images: list[Tensor]) -> Callable[[str], dict[int, TrainResult]]:
    """Each image's network in a fleet of one, made once a kind."""

    @functools.cache
    def made(kind: str) -> dict[int, TrainResult]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "RESTARTS", 0)
            return train(enumerate(images), *KINDS[kind])

    return made


Alone = Callable[[str], dict[int, TrainResult]]


@pytest.mark.parametrize("kind", KINDS)
class TestAnyFleet:
    @pytest.mark.parametrize("capacity", [2, 1000])
    def test_of_any_capacity(
        self, kind: str, capacity: int, images: list[Tensor], alone: Alone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the slope test networks stop at different times, and waiting ones take their slots."""
        seen: dict[str, list[int]] = {"assign": [], "select": [], "advance": []}
        for name, count in seen.items():
            real = getattr(Fleet, name)

            def spy(self: Fleet, *given: Any, real: Any = real, count: list[int] = count) -> Any:
                count.append(self.network.members)
                return real(self, *given)

            monkeypatch.setattr(Fleet, name, spy)
        assert_equal(train(enumerate(images), *KINDS[kind], capacity), alone(kind))
        assert max(seen["advance"]) == min(capacity, len(images))
        if kind == "slope":
            assert len({result.iterations[0] for result in alone(kind).values()}) > 3
            assert bool(seen["assign"]) == (capacity < len(images))
            assert seen["select"], "in the end no network waits, and those that have stopped leave"

    def test_permuted_and_among_strangers(self, kind: str, images: list[Tensor], alone: Alone) -> None:
        """In another order, with others between them; and an image is left as it is."""
        numbered = [(n, image.clone()) for n, image in enumerate(images)]
        strangers = [(100 + n, 1 - image) for n, image in numbered[:3]]
        some = [strangers[0], numbered[3], *strangers[1:], *(numbered[n] for n in (0, 2, 1))]
        assert_equal(train(some, *KINDS[kind], 4), alone(kind), range(4))
        assert all(torch.equal(image, images[n]) for n, image in numbered)

    def test_image_and_seed_decide(self, kind: str, images: list[Tensor], alone: Alone) -> None:
        """To the bit."""
        first, second = (weights(alone(kind)[n]) for n in (0, 1))
        assert torch.equal(weights(train([(1, images[1])], *KINDS[kind])[1]), second)
        assert not torch.allclose(first, second, atol=1e-2)
        assert not torch.allclose(first, weights(train([(0, images[1])], *KINDS[kind])[0]), atol=1e-3)


class TestStream:
    def test_jobs_are_started_as_slots_become_free(self, images: list[Tensor]) -> None:
        """Thousands of images are not read before the first is made."""
        begun = 0

        def lazily() -> Iterator[tuple[int, TrainJob[TrainResult]]]:
            nonlocal begun
            for n, image in enumerate(images):
                begun += 1
                yield n, job(image, n, SLOPING)

        finished = run_jobs(lazily(), 2)
        next(finished)
        assert begun <= 2 * 2 + 1
        assert len(list(finished)) == 5

    def test_ticks_add_up(self, images: list[Tensor]) -> None:
        seen: list[Tick] = []
        found = train(enumerate(images), SLOPING, capacity=3, on_tick=seen.append)
        iterations = sum(result.iterations[0] for result in found.values())
        assert sum(tick.steps for tick in seen) == iterations
        flop = 6 * found[0].network.multiply_adds_per_pixel * 2 * 12 * 12
        assert sum(tick.flop for tick in seen) == pytest.approx(flop * iterations)
        assert (max(tick.active for tick in seen), seen[-1].waiting) == (3, 0)


class TestJobs:
    def test_a_result_does_not_wait_for_the_others(self, images: list[Tensor]) -> None:
        """Jobs that train nothing are done one by one: of thousands, none lies in memory until the last is done."""
        begun = 0

        def plain() -> TrainJob[int]:
            nonlocal begun
            begun += 1
            return begun
            yield

        finished = run_jobs(((number, plain()) for number in range(5)), 3)
        for number in range(5):
            assert (next(finished).result, begun) == (number + 1, number + 1)
        assert list(run_jobs([], 4)) == []
        jobs: list[tuple[str, TrainJob[Any]]] = [("a", plain()), ("b", job(images[0], 0, SHORT)), ("c", plain())]
        assert results(run_jobs(jobs, 1))["b"].iterations == [6]

    def test_errors_end_their_own_job_alone(self, images: list[Tensor]) -> None:
        def unreadable() -> TrainJob[TrainResult]:
            raise ImageError("cannot be read")
            yield

        def regretful() -> TrainJob[TrainResult]:
            yield TrainRequest(images[5], [5], SHORT, INTERPOLATED)
            raise ImageError("afterwards")

        def stubborn() -> TrainJob[TrainResult]:
            with pytest.raises(NumericalError):
                yield TrainRequest(bad, [0], SHORT, INTERPOLATED)
            return (yield TrainRequest(images[1], [1], SHORT, INTERPOLATED))

        bad = images[1].clone()
        bad[0, 0, 0] = math.nan  # stands for whatever makes weights NaN
        jobs = [
            (0, job(images[0], 0, SHORT)),
            (1, stubborn()),
            (2, unreadable()),
            (3, job(bad, 1, settings())),
            (4, regretful()),
        ]
        ended = {one.key: one for one in run_jobs(jobs, 4)}
        assert sorted(ended) == [0, 1, 2, 3, 4]
        assert isinstance(ended[3].error, NumericalError)
        assert [str(ended[n].error) for n in (2, 4)] == ["cannot be read", "afterwards"]
        assert_equal(train(enumerate(images[:2]), SHORT), {n: ended[n].result for n in (0, 1)})  # type: ignore[misc]

    def test_errors_that_are_bugs_are_raised(self) -> None:
        def buggy() -> TrainJob[TrainResult]:
            raise ZeroDivisionError
            yield

        with pytest.raises(ZeroDivisionError):
            list(run_jobs([(0, buggy())], 2))

    def test_several_requests_sizes_and_kinds_in_one_run(self, images: list[Tensor], astronaut: Tensor) -> None:
        """Two steps, held-out folds with several networks, other sizes, gray beside colours, other settings."""
        brief = {"kind": "cosine", "lr": 0.003, "iterations": 6}
        several = settings(schedule=brief, choice={"folds": 2}, networks=2)
        gradual = settings(schedule=brief, steps={"gradual": [[0.5, 0.5], [1, 1]]})
        gray = astronaut[:1, 10:30, 10:26]
        kinds = [
            (images[0], 4.0, SHORT),
            (images[1], 4.0, several),
            (astronaut[:, :13, :18], 2.0, SHORT),
            (gray, 2.0, several),
            (images[2], 4.0, gradual),
            (gray, 3.0, SHORT),
        ]

        def made(some: Iterable[int], capacity: int) -> dict[int, SuperResolved]:
            jobs = (
                (n, upscale(image, (scale, scale), chosen, BICUBIC, MACHINE, seed=n))
                for n, (image, scale, chosen) in ((n, kinds[n]) for n in some)
            )
            return results(run_jobs(jobs, capacity))

        together = made(range(len(kinds)), 5)
        for n, (image, scale, _) in enumerate(kinds):
            assert together[n].image_CHW.shape == (len(image), *(round(scale * side) for side in image.shape[1:]))
            alone = made([n], 1)[n]
            assert torch.allclose(together[n].image_CHW, alone.image_CHW, atol=1e-3)
            assert together[n].selection.share == pytest.approx(alone.selection.share, abs=1e-3)
            assert [s.get("seeds") for s in together[n].steps] == [s.get("seeds") for s in alone.steps]

    def test_networks_of_one_job_come_back_in_their_order(self, images: list[Tensor]) -> None:
        """Also where they stop at different times and do not fit in together."""

        def three() -> TrainJob[TrainResult]:
            return (yield TrainRequest(images[0], [0, 1, 2], SLOPING, INTERPOLATED))

        (found,) = results(run_jobs([(0, three())], 2)).values()
        for n in range(3):
            (alone,) = train([(n, images[0])], SLOPING).values()
            assert torch.allclose(weights(found)[n], weights(alone)[0], atol=1e-4)
            assert found.iterations[n] == alone.iterations[0]

    def test_every_part_of_a_request_goes_with_its_network(self, images: list[Tensor]) -> None:
        """Further images, masks and initial weights, put into a running fleet."""
        first = weights(train([(0, images[0])], SHORT)[0])
        learn = [torch.ones(1, 16, 16) for _ in images]
        for n, mask in enumerate(learn):
            mask[:, : 2 + n] = 0
        larger = [resize(image, (20, 20)) for image in images]

        def jobs(some: Iterable[int]) -> Iterator[tuple[int, TrainJob[TrainResult]]]:
            for n in some:
                yield n, job(images[n], n, SLOPING, others=[larger[n]], learn_NHW=learn[n], initial_NP=first)

        alone = {n: results(run_jobs(jobs([n]), 1))[n] for n in range(3)}
        assert_equal(results(run_jobs(jobs(range(3)), 2)), alone)
        for less in ({"others": [larger[0]], "initial_NP": first}, {"learn_NHW": learn[0]}):
            (other,) = results(run_jobs([(0, job(images[0], 0, SLOPING, **less))], 1)).values()
            assert not torch.allclose(weights(other), weights(alone[0]), atol=1e-4), "each part counts"


def test_restarts_do_not_depend_on_who_shares_the_fleet(images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds that are even in their first draw begin with all weights at zero, and die."""
    real = ZSSR._first_weights

    def first_weights(self: ZSSR, generator: torch.Generator) -> Tensor:
        out = real(self, generator)
        return torch.zeros_like(out) if generator.initial_seed() % 2 == 0 else out

    monkeypatch.setattr(ZSSR, "_first_weights", first_weights)
    monkeypatch.setattr(scheduler, "RESTARTS", 2)
    lively = settings(
        network={"depth": 4, "width": 8, "initial": "lecun"},
        schedule={"kind": "cosine", "lr": 0.005, "iterations": 40},
        pairs={"crop": 16, "batch": 2},
    )
    alone, stream = (train(enumerate(images), lively, capacity=capacity) for capacity in (1, 4))
    assert len({result.restarts[0] for result in alone.values()}) > 1, "the case is meant to have both kinds"
    assert_equal(stream, alone)
    assert [stream[n].restarts for n in range(6)] == [alone[n].restarts for n in range(6)]


class TestTooLittleMemory:
    @pytest.fixture
    def room_for(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """A device on which only so many networks fit at once, from a call of `at` on."""

        def arrange(members: int, at: str = "advance", after: int = 0) -> None:
            real, calls = getattr(Fleet, at), 0

            def act(self: Fleet, *given: Any) -> Any:
                nonlocal calls
                calls += 1
                network = given[0] if at == "__init__" else self.network
                if network.members > members and calls > after:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return real(self, *given)

            monkeypatch.setattr(Fleet, at, act)

        return arrange

    @pytest.mark.parametrize(("at", "after"), [("advance", 7), ("__init__", 0)])
    def test_halves_the_fleet_and_says_so(
        self, at: str, after: int, room_for: Callable[..., None], images: list[Tensor], alone: Alone
    ) -> None:
        expected, said = alone("slope"), list[str]()
        room_for(2, at, after)
        assert_equal(train(enumerate(images), *KINDS["slope"], capacity=6, on_notice=said.append), expected)
        assert said == [
            "memory ran out with 6 networks side by side; going on with 3",
            "memory ran out with 3 networks side by side; going on with 1",
        ]

    def test_a_step_half_done_is_not_done_twice(
        self, images: list[Tensor], alone: Alone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Memory may run out after the weights have moved: by the reconstruction error of a large image."""
        expected, real = alone("slope"), fleet.reconstruction_error

        def error(network: ZSSR, *others: Any) -> Tensor:
            if network.members > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(network, *others)

        monkeypatch.setattr(fleet, "reconstruction_error", error)
        assert_equal(train(enumerate(images[:4]), *KINDS["slope"], capacity=4), expected, range(4))

    @pytest.mark.parametrize("at", ["advance", "__init__"])
    def test_too_little_for_one(self, at: str, room_for: Callable[..., None], images: list[Tensor]) -> None:
        room_for(0, at)
        ended = list(run_jobs(((n, job(image, n, SHORT)) for n, image in enumerate(images)), 3))
        assert len(ended) == len(images)
        for one in ended:
            assert isinstance(one.error, DeviceError)
            assert "too little memory to train a single network" in str(one.error)


def test_exact_fleets_have_copies_in_the_places_that_are_left(
    images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, real = list[int](), Fleet.of.__func__  # type: ignore[attr-defined]

    def of(kind: type[Fleet], members: list[Member]) -> Fleet:
        sizes.append(len(members))
        return real(kind, members)  # type: ignore[no-any-return]

    monkeypatch.setattr(Fleet, "of", classmethod(of))

    def made(numbers: list[int]) -> dict[int, TrainResult]:
        return results(run_jobs(((n, job(images[n], n, SHORT)) for n in numbers), 3, exact=True))

    together = made([0, 1, 2, 3])
    assert sizes == [3, 3]
    for number, one in together.items():
        (alone,) = made([number]).values()
        assert torch.equal(alone.network.weights_NP, one.network.weights_NP)
        assert alone.iterations == one.iterations == [6]
    assert set(sizes) == {3}
