"""Learning rates: the slope test to the letter, when it lowers and when it ends, and the cosine."""

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.settings.zeroshot import CosineSchedule, SlopeSchedule, load_preset
from zssr_gan.zeroshot.fleet import Cosine, Slope, fit_slope, make_schedule

ORIGINAL = load_preset("original").schedule
PAPER = load_preset("paper").schedule
AT = [50, 100, 150, 200, 250]


def noisy(points: int, members: int = 3) -> torch.Tensor:
    return torch.rand(points, members, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class TestFitSlope:
    @pytest.mark.parametrize("points", [5, 6, 12])
    def test_unbiased_is_todays_numpy(self, points: int) -> None:
        at, errors = [50 * n for n in range(points)], noisy(points)
        slope, deviation = fit_slope(errors, 50, "unbiased")
        for member in range(3):
            line, covariance = np.polyfit(at, errors[:, member].numpy(), 1, cov=True)
            assert float(slope[member]) == pytest.approx(line[0], rel=1e-9)
            assert float(deviation[member]) == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-9)

    @pytest.mark.parametrize("points", [5, 6, 12])
    def test_numpy_1_15_divided_by_less(self, points: int) -> None:
        """Its polyfit: residuals / (len(x) - order - 2.0) times the inverse normal matrix, with order = 2."""
        at, errors = [50 * n for n in range(points)], noisy(points)
        slope, deviation = fit_slope(errors, 50, "numpy-1.15")
        design = np.vander(np.array(at, float), 2)
        for member in range(3):
            line, residuals, *_ = np.linalg.lstsq(design, errors[:, member].numpy(), rcond=None)
            covariance = np.linalg.inv(design.T @ design) * residuals / (points - 2 - 2.0)
            assert float(slope[member]) == pytest.approx(line[0], rel=1e-9)
            assert float(deviation[member]) == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-9)

    @pytest.mark.parametrize("covariance", ["unbiased", "numpy-1.15"])
    def test_a_line_has_no_deviation(self, covariance: str) -> None:
        errors = (3 - 0.01 * torch.tensor(AT, dtype=torch.float64))[:, None]
        slope, deviation = fit_slope(errors, 50, covariance)
        assert float(slope) == pytest.approx(-0.01)
        assert float(deviation) == pytest.approx(0, abs=1e-12)


def at(iteration: int, members: int = 1) -> Tensor:
    """`N`: members that all began together."""
    return torch.full((members,), iteration)


def run(settings: SlopeSchedule, errors, iterations: int = 3000) -> list[float]:
    """The rates of one member whose reconstruction error after iteration t is `errors(t)`."""
    schedule = Slope(settings, 1)
    rates = []
    for t in range(iterations):
        rates.append(float(schedule.rates(at(t))))
        schedule.observe(at(t), torch.tensor([errors(t)]) if schedule.wants_error(at(t)) else None)
        if schedule.stopped.all():
            break
    return rates


def changes(rates: list[float]) -> list[int]:
    """Iterations after which the rate was another."""
    return [t for t in range(len(rates) - 1) if rates[t] != rates[t + 1]]


def flat(t: int) -> float:
    """No progress: up and down about one value."""
    return 0.01 + 0.001 * ((t // 50) % 2)


class TestSlope:
    def test_records_every_50(self) -> None:
        schedule = Slope(ORIGINAL, 1)
        assert [t for t in range(200) if schedule.wants_error(at(t))] == [0, 50, 100, 150]

    @pytest.mark.parametrize(("settings", "falls", "last"), [(ORIGINAL, 3, 1e-5), (PAPER, 3, 1e-5)])
    def test_without_progress_it_falls_as_soon_as_it_may(
        self, settings: SlopeSchedule, falls: int, last: float
    ) -> None:
        """Tests come after iterations 59, 119, ...; more than 256 must have passed since the last change: 299, 599.

        1e-3, 1e-4, 1e-5 are trained with; at 1e-6 both end, the paper at exactly its limit.
        """
        rates = run(settings, flat)
        assert changes(rates) == [299, 599]
        assert len(rates) == 900
        assert rates[0] == 1e-3
        assert rates[300] == pytest.approx(1e-4)
        assert rates[-1] == pytest.approx(last)
        assert len({round(np.log10(rate)) for rate in rates}) == falls

    def test_after_the_end_the_rate_is_zero(self) -> None:
        schedule = Slope(PAPER, 2)
        for t in range(900):
            schedule.observe(at(t, 2), torch.tensor([flat(t), 1 - t * 1e-4]) if t % 50 == 0 else None)
        assert schedule.stopped.tolist() == [True, False]
        assert schedule.rates(at(900, 2)).tolist() == [0, 1e-3]

    @pytest.mark.parametrize("settings", [ORIGINAL, PAPER])
    def test_while_the_error_falls_it_stays(self, settings: SlopeSchedule) -> None:
        rates = run(settings, lambda t: 1 - t * 1e-4)
        assert set(rates) == {1e-3}
        assert len(rates) == 3000

    def test_a_rising_error_lowers_it(self) -> None:
        assert changes(run(ORIGINAL, lambda t: t * 1e-4))[0] == 299

    @pytest.mark.parametrize(("slope", "falls"), [(-1.2, True), (-1.4, True), (-1.6, False)])
    def test_the_ratio_decides(self, slope: float, falls: bool) -> None:
        """Errors with a known slope and deviation: the rate falls where ratio * (-slope) < deviation."""
        wave = torch.tensor([1.0, -2, 0, 2, -1], dtype=torch.float64)  # no slope of its own
        _, deviation = fit_slope(wave[:, None], 50, "unbiased")
        settings = SlopeSchedule(ratio=1 / 1.5, covariance="unbiased", window=250, stop_lr=1e-9)
        rates = run(settings, lambda t: float(wave[(t // 50 - 1) % 5] + slope * deviation * t), iterations=302)
        assert (changes(rates) == [299]) == falls

    def test_the_readings_differ(self) -> None:
        """The same errors: the original's normalisation sees a deviation sqrt(3) times that of the unbiased one."""
        errors = noisy(5, 1)
        (_, unbiased), (_, old) = fit_slope(errors, 50, "unbiased"), fit_slope(errors, 50, "numpy-1.15")
        assert float(old / unbiased) == pytest.approx(3**0.5)

    def test_only_the_last_window_counts(self) -> None:
        """A fast start long ago does not hold a rate up that has stopped helping."""
        rates = run(ORIGINAL, lambda t: 1 - t / 400 if t < 400 else flat(t))
        assert changes(rates)[0] == 659  # the test after 599 still sees the records of 350 and 400

    def test_members_are_apart(self) -> None:
        schedule = Slope(ORIGINAL, 2)
        for t in range(301):
            schedule.observe(at(t, 2), torch.tensor([1 - t * 1e-4, flat(t)]) if t % 50 == 0 else None)
        assert schedule.rates(at(301, 2)).tolist() == pytest.approx([1e-3, 1e-4])


class TestCosine:
    def test_rises_then_falls_to_nothing(self) -> None:
        schedule = Cosine(CosineSchedule(lr=2e-3, warm_up=0.1, iterations=100))
        rates = torch.stack([schedule.rates(at(t, 2)) for t in range(100)])
        assert rates.shape == (100, 2)
        assert torch.equal(rates[:, 0], rates[:, 1])
        one = rates[:, 0]
        assert (one[1:11] > one[:10]).all()
        assert (one[11:] < one[10:-1]).all()
        assert 0 < float(one[0]) < 3e-4
        assert 1.9e-3 < float(one.max()) <= 2e-3
        assert 0 < float(one[-1]) < 2e-6

    def test_without_warm_up_it_is_half_a_cosine(self) -> None:
        schedule = Cosine(CosineSchedule(lr=1.0, warm_up=0, iterations=4))
        expected = [1, 0.5 + 0.5 * 0.5**0.5, 0.5, 0.5 - 0.5 * 0.5**0.5]
        assert [float(schedule.rates(at(t))) for t in range(4)] == pytest.approx(expected)

    def test_asks_for_nothing_and_stops_after_its_iterations(self) -> None:
        schedule = Cosine(CosineSchedule(iterations=3))
        schedule.observe(at(0), None)
        assert not schedule.wants_error(at(0))
        assert (schedule.rates(torch.tensor([0, 2, 3, 4])) > 0).tolist() == [True, True, False, False]

    def test_one_iteration_is_not_lost(self) -> None:
        assert float(Cosine(CosineSchedule(iterations=1)).rates(at(0))) > 0


def test_make_schedule() -> None:
    assert isinstance(make_schedule(SlopeSchedule(), 1), Slope)
    assert isinstance(make_schedule(CosineSchedule(), 1), Cosine)


class TestComingAndGoing:
    """A member that begins later, in another's place, is lowered at the iterations at which it would be alone."""

    SETTINGS = SlopeSchedule(window=12, record_every=3, check_every=4, divide=2, stop_lr=1e-9, iterations=200)

    def error(self, member: int, iteration: int) -> float:
        return (0.0 if iteration < 20 * member else 0.01) + 0.1 / (1 + iteration) + 0.001 * (iteration * member % 7)

    def alone(self, member: int, iterations: int) -> list[float]:
        schedule, rates = Slope(self.SETTINGS, 1), []
        for t in range(iterations):
            rates.append(float(schedule.rates(at(t))))
            error = torch.tensor([self.error(member, t)]) if schedule.wants_error(at(t)) else None
            schedule.observe(at(t), error)
        return rates

    @pytest.mark.parametrize("begin", [3, 27, 60])
    def test_put(self, begin: int) -> None:
        assert begin % Slope(self.SETTINGS, 1).stride == 0
        schedule = Slope(self.SETTINGS, 3)
        members, iteration_N = [0, 1, 2], torch.zeros(3, dtype=torch.int64)
        rates: dict[int, list[float]] = {n: [] for n in range(4)}
        for t in range(120):
            if t == begin:
                schedule.put(torch.tensor([1]))
                members[1], iteration_N[1] = 3, 0
            for member, rate in zip(members, schedule.rates(iteration_N).tolist(), strict=True):
                rates[member].append(rate)
            errors = [self.error(m, int(i)) for m, i in zip(members, iteration_N, strict=True)]
            schedule.observe(iteration_N, torch.tensor(errors) if schedule.wants_error(iteration_N) else None)
            iteration_N += 1
        for member, found in rates.items():
            assert found == self.alone(member, len(found))
        assert all(len(set(rates[member])) > 2 for member in (2, 3)), "the case is meant to lower rates"

    def test_keep(self) -> None:
        schedule = Slope(self.SETTINGS, 3)
        members = [0, 1, 2]
        rates: dict[int, list[float]] = {n: [] for n in range(3)}
        for t in range(100):
            if t == 31:
                schedule.keep(torch.tensor([2, 0]))
                members = [2, 0]
            for member, rate in zip(members, schedule.rates(at(t, len(members))).tolist(), strict=True):
                rates[member].append(rate)
            wanted = schedule.wants_error(at(t, len(members)))
            schedule.observe(at(t, len(members)), torch.tensor([self.error(m, t) for m in members]) if wanted else None)
        for member, found in rates.items():
            assert found == self.alone(member, len(found))
