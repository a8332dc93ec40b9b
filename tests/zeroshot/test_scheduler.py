"""Many works in shared fleets: what becomes of each is its own, whoever sits beside it, leaves, or comes later."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import DeviceError, ImageError, NumericalError
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZeroShotSettings, parse_settings
from zssr_gan.zeroshot.fleet import Fleet, Member, Training
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import Ended, Fit, Request, Tick, Work, run_fleet
from zssr_gan.zeroshot.upscale import SuperResolved, super_resolving

BICUBIC = BicubicDownscale()
INTERPOLATED = Training(Task((2.0, 2.0), (1, 1), BICUBIC), "fp32")
LR = Training(Task((2.0, 2.0), (2, 2), BICUBIC), "fp32")


def settings(**changes: object) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 3, "width": 4, "initial": "lecun"},
        "pairs": {"crop": 12, "batch": 2, "affine": 0.5, "noise": 0.01},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 50},
        "restarts": 0,
    }
    return parse_settings({**groups, **changes}, "test")


FIXED = {
    "adam": (settings(), INTERPOLATED),
    "muon": (
        settings(
            network={"depth": 4, "width": 4, "grid": "lr", "residual": True, "initial": "lecun", "bias": True},
            pairs={"crop": 12, "batch": 2, "phases": True, "affine": 0.5},
            optimiser={"kind": "muon", "average": 0.9, "clip": 1.0},
        ),
        LR,
    ),
}
SLOPE = {
    "kind": "slope",
    "window": 9,
    "record_every": 3,
    "check_every": 3,
    "iterations": 60,
    "lr": 0.03,
    "divide": 100.0,
}
SLOPING = settings(schedule=SLOPE, optimiser={"kind": "adam", "average": 0.9})


@pytest.fixture(scope="module")
def images(astronaut: Tensor) -> list[Tensor]:
    """Six parts of the astronaut, 3 16 16."""
    corners = [(y, x) for y in (0, 24, 48) for x in (8, 36)]
    return [astronaut[:, y : y + 16, x : x + 16].clone() for y, x in corners]


def request(image: Tensor, seed: int, chosen: ZeroShotSettings, training: Training, **more: Any) -> Request:
    return Request(image[None], [seed], chosen, training, **more)


def one_fit(image: Tensor, seed: int, chosen: ZeroShotSettings, training: Training, **more: Any) -> Work[Fit]:
    """The plainest work: one network."""
    return (yield request(image, seed, chosen, training, **more))


def fits(
    images: Iterable[tuple[int, Tensor]], chosen: ZeroShotSettings, training: Training, capacity: int, **more: Any
) -> dict[int, Fit]:
    """What comes of images, each with its number as its seed."""
    works = ((number, one_fit(image, number, chosen, training)) for number, image in images)
    return results(run_fleet(works, capacity, **more))


def results(ended: Iterator[Ended[Any, Any]]) -> dict[Any, Any]:
    found = {}
    for one in ended:
        assert one.key not in found
        assert one.error is None
        found[one.key] = one.result
    return found


def weights(fit: Fit) -> Tensor:
    return fit.network.weights_NP.detach()


def assert_equal(one: dict[Any, Fit], other: dict[Any, Fit], members: Iterable[int] | None = None) -> None:
    for n in one if members is None else members:
        assert torch.allclose(weights(one[n]), weights(other[n]), atol=1e-4)
        assert one[n].iterations == other[n].iterations
        assert one[n].loss == pytest.approx(other[n].loss, abs=1e-4)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many members were put into running fleets, and how many each `keep` left."""
    seen: dict[str, list[int]] = {"put": [], "keep": [], "fleets": []}
    put, keep, first = Fleet.put, Fleet.keep, Fleet.__init__

    def spy_put(self: Fleet, places: Tensor, members: list[Member]) -> None:
        seen["put"].append(len(members))
        put(self, places, members)

    def spy_keep(self: Fleet, places: Tensor) -> None:
        seen["keep"].append(len(places))
        keep(self, places)

    def spy_first(self: Fleet, members: list[Member], *others: Any) -> None:
        seen["fleets"].append(len(members))
        first(self, members, *others)

    monkeypatch.setattr(Fleet, "put", spy_put)
    monkeypatch.setattr(Fleet, "keep", spy_keep)
    monkeypatch.setattr(Fleet, "__init__", spy_first)
    return seen


@pytest.fixture(scope="module", params=FIXED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def alone(kind: str, images: list[Tensor]) -> dict[int, Fit]:
    """Each image's network with nobody beside it."""
    return fits(enumerate(images), *FIXED[kind], capacity=1)


class TestFixedSchedule:
    @pytest.mark.parametrize("capacity", [2, 3, 1000])
    def test_of_any_capacity(self, kind: str, capacity: int, images: list[Tensor], alone: dict[int, Fit]) -> None:
        assert_equal(fits(enumerate(images), *FIXED[kind], capacity=capacity), alone)

    def test_permuted_in_halves_and_among_strangers(
        self, kind: str, images: list[Tensor], alone: dict[int, Fit]
    ) -> None:
        numbered = list(enumerate(images))
        assert_equal(fits([numbered[n] for n in (3, 0, 2, 1)], *FIXED[kind], capacity=4), alone, range(4))
        for half in (numbered[:2], numbered[2:4]):
            assert_equal(fits(half, *FIXED[kind], capacity=4), alone, [n for n, _ in half])
        strangers = [(100 + n, 1 - image) for n, image in numbered[:3]]
        mixed = fits([strangers[0], numbered[2], *strangers[1:], numbered[0]], *FIXED[kind], capacity=5)
        assert_equal(mixed, alone, [0, 2])

    def test_the_images_and_seeds_do_matter(self, kind: str, images: list[Tensor], alone: dict[int, Fit]) -> None:
        """Else nothing above would mean anything."""
        assert not torch.allclose(weights(alone[0]), weights(alone[1]), atol=1e-2)
        (other,) = fits([(0, images[1])], *FIXED[kind], capacity=1).values()
        assert not torch.allclose(weights(alone[0]), weights(other), atol=1e-3)
        assert alone[0].iterations == [50]

    def test_the_images_are_left_as_they_are(self, kind: str, images: list[Tensor]) -> None:
        """A fleet of one looks at the image itself, not at a copy."""
        given = [image.clone() for image in images[:3]]
        fits(enumerate(given), *FIXED[kind], capacity=2)
        assert all(torch.equal(one, other) for one, other in zip(given, images, strict=False))


@pytest.fixture(scope="module")
def sloping(images: list[Tensor]) -> dict[int, Fit]:
    """The same with the slope test."""
    found = fits(enumerate(images), SLOPING, INTERPOLATED, capacity=1)
    assert len({fit.iterations[0] for fit in found.values()}) > 3, "the case is meant to stop at different times"
    return found


class TestStream:
    """Members that stop at different times, whose places others take."""

    @pytest.mark.parametrize("capacity", [2, 3, 1000])
    def test_joining_later_is_as_alone(
        self, capacity: int, images: list[Tensor], sloping: dict[int, Fit], spied: dict[str, list[int]]
    ) -> None:
        assert_equal(fits(enumerate(images), SLOPING, INTERPOLATED, capacity), sloping)
        assert bool(spied["put"]) == (capacity < len(images)), "places are taken by those that wait, if any do"
        assert spied["keep"], "in the end nobody waits, and those that have stopped leave"
        assert max(spied["fleets"]) == min(capacity, len(images))

    def test_the_last_loss_is_the_members_own(self, images: list[Tensor]) -> None:
        """Of fewer than 50 iterations the mean over all, whatever the one before in that place had."""
        short = settings(schedule={**SLOPE, "iterations": 30})
        one = fits(enumerate(images), short, INTERPOLATED, capacity=1)
        assert_equal(fits(enumerate(images), short, INTERPOLATED, capacity=3), one)

    def test_works_are_taken_as_places_become_free(self, images: list[Tensor]) -> None:
        """Thousands of images are not read before the first is made."""
        begun = 0

        def lazily() -> Iterator[tuple[int, Work[Fit]]]:
            nonlocal begun
            for n, image in enumerate(images):
                begun += 1
                yield n, one_fit(image, n, SLOPING, INTERPOLATED)

        ended = run_fleet(lazily(), 2)
        next(ended)
        assert begun <= 2 * 2 + 1
        assert len(list(ended)) == 5

    def test_ticks_add_up(self, images: list[Tensor]) -> None:
        told: list[Tick] = []
        for capacity in (1, 3):
            told.clear()
            found = fits(enumerate(images), SLOPING, INTERPOLATED, capacity, on_tick=told.append)
            iterations = sum(fit.iterations[0] for fit in found.values())
            assert sum(tick.steps for tick in told) == iterations
            network = found[0].network
            flop = 6 * network.multiply_adds_per_pixel * 2 * 12 * 12
            assert sum(tick.flop for tick in told) == pytest.approx(flop * iterations)
            assert max(tick.active for tick in told) == capacity
            assert told[-1].waiting == 0

    def test_capacity_is_not_exceeded(self, images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
        sizes, real = [], Fleet.advance

        def advance(self: Fleet) -> Tensor:
            sizes.append(self.members)
            return real(self)

        monkeypatch.setattr(Fleet, "advance", advance)
        fits(enumerate(images), SLOPING, INTERPOLATED, 3)
        assert max(sizes) == 3

    @pytest.mark.slow
    def test_whole_runs_are_as_good_as_alone(self, astronaut: Tensor) -> None:
        """With the slope test: each ends at its own iteration, and the results are those of N = 1."""
        chosen = settings(
            network={"depth": 4, "width": 8},
            pairs={"crop": 24, "batch": 1},
            schedule={"kind": "slope", "record_every": 10, "check_every": 12, "window": 60, "iterations": 700},
            restarts=3,
        )
        truths = [astronaut[:, y : y + 32, x : x + 32] for y in (0, 16, 32) for x in (0, 16, 32)]
        lows = [BICUBIC(truth[None], (16, 16))[0].clamp(0, 1) for truth in truths]

        def made(capacity: int) -> dict[int, SuperResolved]:
            works = (
                (n, super_resolving(low, (2.0, 2.0), chosen, BICUBIC, seed=0, precision="fp32", tile=512))
                for n, low in enumerate(lows)
            )
            return results(run_fleet(works, capacity))

        alone, stream = made(1), made(4)
        iterations = [stream[n].steps[0]["iterations"] for n in range(len(lows))]
        assert len({each[0] for each in iterations}) > 2
        quality = {}
        for name, done in (("alone", alone), ("stream", stream)):
            quality[name] = sum(psnr(done[n].image_CHW, truth) for n, truth in enumerate(truths)) / len(truths)
        assert abs(quality["alone"] - quality["stream"]) < 0.05
        apart = [psnr(alone[n].image_CHW, stream[n].image_CHW) for n in range(len(lows))]
        assert min(apart) >= 45


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(max(float((one - other).square().mean()), 1e-12))


SHORT = settings(schedule={"kind": "cosine", "lr": 0.003, "iterations": 6})


class TestWorks:
    def test_nothing_to_do(self) -> None:
        assert list(run_fleet([], 4)) == []

    def test_one_that_needs_no_training(self, images: list[Tensor]) -> None:
        def ready() -> Work[str]:
            return "ready"
            yield

        works: list[tuple[str, Work[Any]]] = [("a", ready()), ("b", one_fit(images[0], 0, SHORT, LR)), ("c", ready())]
        found = results(run_fleet(works, 1))
        assert found["a"] == found["c"] == "ready"
        assert found["b"].iterations == [6]

    def test_errors_end_their_own_work_alone(self, images: list[Tensor]) -> None:
        def unreadable() -> Work[Fit]:
            raise ImageError("cannot be read")
            yield

        def regretful() -> Work[Fit]:
            yield request(images[5], 5, SHORT, INTERPOLATED)
            raise ImageError("afterwards")

        good = fits([(0, images[0]), (3, images[3])], SHORT, INTERPOLATED, capacity=1)
        bad = images[1].clone()
        bad[0, 0, 0] = math.nan  # stands for whatever makes weights NaN

        works = [
            (0, one_fit(images[0], 0, SHORT, INTERPOLATED)),
            (1, one_fit(bad, 1, settings(restarts=1), INTERPOLATED)),
            (2, unreadable()),
            (3, one_fit(images[3], 3, SHORT, INTERPOLATED)),
            (4, regretful()),
        ]
        ended = {one.key: one for one in run_fleet(works, 4)}
        assert sorted(ended) == [0, 1, 2, 3, 4]
        assert isinstance(ended[1].error, NumericalError)
        assert "in each of 2 starts" in str(ended[1].error)
        assert str(ended[2].error) == "cannot be read"
        assert str(ended[4].error) == "afterwards"
        assert_equal(good, {n: ended[n].result for n in (0, 3)})  # type: ignore[misc]

    def test_a_work_may_survive_its_numerical_error(self, images: list[Tensor]) -> None:
        def stubborn() -> Work[str]:
            try:
                yield request(torch.full((3, 16, 16), math.nan), 0, SHORT, INTERPOLATED)
            except NumericalError:
                fit = yield request(images[0], 0, SHORT, INTERPOLATED)
                return f"after {fit.iterations[0]}"
            return "never"

        assert results(run_fleet([(0, stubborn())], 2)) == {0: "after 6"}

    def test_errors_that_are_bugs_are_raised(self) -> None:
        def buggy() -> Work[Fit]:
            raise ZeroDivisionError
            yield

        with pytest.raises(ZeroDivisionError):
            list(run_fleet([(0, buggy())], 2))

    def test_several_requests_sizes_and_kinds_in_one_run(self, images: list[Tensor], astronaut: Tensor) -> None:
        """Two steps, held-out folds with several networks, other sizes, gray beside colours, other settings."""
        several = settings(
            schedule={"kind": "cosine", "lr": 0.003, "iterations": 6},
            choice={"folds": 2, "block": 4, "max_pixels": 400},
            networks=2,
        )
        gradual = settings(
            schedule={"kind": "cosine", "lr": 0.003, "iterations": 6}, steps={"gradual": [[0.5, 0.5], [1, 1]]}
        )
        gray = astronaut[:1, 10:30, 10:26]
        kinds = [
            (images[0], 4.0, SHORT),
            (images[1], 4.0, several),
            (astronaut[:, :13, :18], 2.0, SHORT),
            (gray, 2.0, several),
            (images[2], 4.0, gradual),
            (images[3], 2.0, SHORT),
            (gray, 3.0, SHORT),
        ]

        def made(some: Iterable[int], capacity: int) -> dict[int, SuperResolved]:
            works = (
                (n, super_resolving(i, (s, s), c, BICUBIC, seed=n, precision="fp32", tile=512))
                for n, (i, s, c) in ((n, kinds[n]) for n in some)
            )
            return results(run_fleet(works, capacity))

        together = made(range(len(kinds)), 5)
        for n, (image, scale, _) in enumerate(kinds):
            assert together[n].image_CHW.shape == (len(image), *(round(scale * side) for side in image.shape[1:]))
            alone = made([n], 1)[n]
            assert torch.allclose(together[n].image_CHW, alone.image_CHW, atol=1e-3)
            assert together[n].choice["share"] == pytest.approx(alone.choice["share"], abs=1e-3)
            assert [s.get("seeds") for s in together[n].steps] == [s.get("seeds") for s in alone.steps]

    def test_networks_of_one_work_come_back_in_their_order(self, images: list[Tensor]) -> None:
        """Also where they stop at different times and do not fit in together."""

        def three() -> Work[Fit]:
            return (yield Request(torch.stack(images[:3]), [0, 1, 2], SLOPING, INTERPOLATED))

        alone = fits(enumerate(images[:3]), SLOPING, INTERPOLATED, capacity=1)
        (fit,) = results(run_fleet([(0, three())], 2)).values()
        for n in range(3):
            assert torch.allclose(weights(fit)[n], weights(alone[n])[0], atol=1e-4)
            assert fit.iterations[n] == alone[n].iterations[0]

    def test_fathers_masks_and_starts_go_with_their_member(self, images: list[Tensor]) -> None:
        """The parts of a request that only some works have, put into a running fleet."""
        first = fits([(0, images[0])], SHORT, INTERPOLATED, capacity=1)[0].network
        learn = [torch.ones(1, 16, 16) for _ in images]
        for n, mask in enumerate(learn):
            mask[:, : 2 + n] = 0
        larger = [resize(image, (20, 20))[None] for image in images]

        def works(some: Iterable[int]) -> Iterator[tuple[int, Work[Fit]]]:
            for n in some:
                more = {"fathers": [larger[n]], "learn_NHW": learn[n], "start": first}
                yield n, one_fit(images[n], n, SLOPING, INTERPOLATED, **more)

        alone = {n: results(run_fleet(works([n]), 1))[n] for n in range(6)}
        assert_equal(results(run_fleet(works(range(6)), 2)), alone)
        for less in ({"fathers": [larger[0]], "start": first}, {"learn_NHW": learn[0]}):
            (other,) = results(run_fleet([(0, one_fit(images[0], 0, SLOPING, INTERPOLATED, **less))], 1)).values()
            assert not torch.allclose(weights(other), weights(alone[0]), atol=1e-4), "each part counts"


class TestDeadStarts:
    LIVELY = settings(
        network={"depth": 4, "width": 8, "initial": "lecun"},
        schedule={"kind": "cosine", "lr": 0.005, "iterations": 40},
        pairs={"crop": 16, "batch": 2},
        restarts=2,
    )

    @pytest.fixture
    def dying(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Seeds that are even in their first draw start with all weights at zero."""
        real = ZSSR._first_weights

        def first_weights(self: ZSSR, generator: torch.Generator) -> Tensor:
            zero = generator.initial_seed() % 2 == 0
            out = real(self, generator)
            return torch.zeros_like(out) if zero else out

        monkeypatch.setattr(ZSSR, "_first_weights", first_weights)

    @pytest.mark.usefixtures("dying")
    def test_they_begin_again_whoever_is_there(self, images: list[Tensor]) -> None:
        alone = fits(enumerate(images), self.LIVELY, INTERPOLATED, capacity=1)
        restarts = [alone[n].restarts[0] for n in range(6)]
        assert len(set(restarts)) > 1, "the case is meant to have both kinds"
        stream = fits(enumerate(images), self.LIVELY, INTERPOLATED, capacity=4)
        assert_equal(stream, alone)
        assert [stream[n].restarts[0] for n in range(6)] == restarts
        assert [stream[n].dead for n in range(6)] == [alone[n].dead for n in range(6)]


class TestMemory:
    @pytest.fixture
    def room_for(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Makes memory run out where more members than that are trained, from so many iterations on, or are made."""

        def arrange(most: int, *, after: int = 0, at: str = "advance") -> None:
            real: Any = getattr(Fleet, at)

            def step(self: Fleet, *arguments: Any) -> Any:
                members = len(arguments[0]) if at == "__init__" else self.members
                if members > most and (at == "__init__" or self.clock >= after):
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return real(self, *arguments)

            monkeypatch.setattr(Fleet, at, step)

        return arrange

    @pytest.mark.parametrize("after", [0, 7])
    def test_halves_the_fleet_and_says_so(
        self, after: int, room_for: Callable[..., None], images: list[Tensor]
    ) -> None:
        expected = fits(enumerate(images), SLOPING, INTERPOLATED, capacity=1)
        room_for(2, after=after)
        said: list[str] = []
        assert_equal(fits(enumerate(images), SLOPING, INTERPOLATED, capacity=6, on_notice=said.append), expected)
        assert said == [
            "memory ran out with 6 networks side by side; going on with 3",
            "memory ran out with 3 networks side by side; going on with 1",
        ]

    def test_also_where_a_fleet_cannot_even_be_made(self, room_for: Callable[..., None], images: list[Tensor]) -> None:
        expected = fits(enumerate(images), SHORT, INTERPOLATED, capacity=1)
        room_for(2, at="__init__")
        said: list[str] = []
        assert_equal(fits(enumerate(images), SHORT, INTERPOLATED, capacity=6, on_notice=said.append), expected)
        assert len(said) == 2

    def test_a_step_half_done_is_not_done_twice(self, images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory may run out after the weights have moved: by the reconstruction error of a large image."""
        expected = fits(enumerate(images[:4]), SLOPING, INTERPOLATED, capacity=1)
        from zssr_gan.zeroshot import fleet

        real = fleet.reconstruction_error

        def error(network: ZSSR, *others: Any) -> Tensor:
            if network.members > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(network, *others)

        monkeypatch.setattr(fleet, "reconstruction_error", error)
        assert_equal(fits(enumerate(images[:4]), SLOPING, INTERPOLATED, capacity=4), expected)

    @pytest.mark.parametrize("at", ["advance", "__init__"])
    def test_too_little_for_one(self, at: str, room_for: Callable[..., None], images: list[Tensor]) -> None:
        room_for(0, at=at)
        works = ((n, one_fit(image, n, SHORT, INTERPOLATED)) for n, image in enumerate(images))
        ended = list(run_fleet(works, 3))
        assert len(ended) == len(images)
        for one in ended:
            assert isinstance(one.error, DeviceError)
            assert "too little memory to train a single network" in str(one.error)


def test_a_result_does_not_wait_for_the_others() -> None:
    """Works that train nothing are done one by one: of thousands, none lies in memory until the last is done."""
    begun = 0

    def plain() -> Work[int]:
        nonlocal begun
        begun += 1
        return begun
        yield  # a work is a generator

    ended = run_fleet(((number, plain()) for number in range(5)), 3)
    for number in range(5):
        one = next(ended)
        assert (one.result, begun) == (number + 1, number + 1)
