"""Steps: how many, how far, and that the last has the size that was asked for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zssr_gan.imaging.resize import enlarged_size
from zssr_gan.settings.zeroshot import StepSettings, ZeroShotSettings, parse_settings
from zssr_gan.zeroshot.steps import fleet_capacity, plan_steps

PLAIN = StepSettings()
TWICE = StepSettings(gradual=((1, 1), (1, 1)))
SLOW = StepSettings(gradual=((0, 0.5), (0.5, 0), (0.5, 0.5), (0.5, 1), (1, 0.5), (1, 1)))


@pytest.mark.parametrize(
    ("scale", "count"), [(1, 1), (1.02, 1), (1.5, 1), (2, 1), (2.01, 2), (3, 2), (4, 2), (4.5, 3), (8, 3)]
)
def test_no_step_is_larger_than_2(scale: float, count: int) -> None:
    steps = plan_steps((100, 80), (scale, scale), PLAIN, single_step=False)
    assert len(steps) == count
    assert all(max(step.scales[-1]) <= 2 + 0.02 for step in steps)
    assert steps[-1].sizes[-1] == enlarged_size((100, 80), (scale, scale))


def test_the_originals_gradual_scales() -> None:
    """(1, 1.5) (1.5, 1) (1.5, 1.5) (1.5, 2) (2, 1.5) (2, 2)."""
    (step,) = plan_steps((20, 30), (2, 2), SLOW, single_step=False)
    assert step.scales == ((1, 1.5), (1.5, 1), (1.5, 1.5), (1.5, 2), (2, 1.5), (2, 2))
    assert step.sizes == ((20, 45), (30, 30), (30, 45), (30, 60), (40, 45), (40, 60))


def test_odd_sizes() -> None:
    (step,) = plan_steps((25, 13), (1.5, 1.5), PLAIN, single_step=False)
    assert step.sizes == ((38, 20),)
    assert step.scales[0] == pytest.approx((38 / 25, 20 / 13))  # the true scale, not the asked one


@pytest.mark.parametrize("scale", [(2, 2), (8, 8), (3, 4)])
def test_a_kernel_takes_the_whole_way_at_once(scale: tuple[int, int]) -> None:
    (step,) = plan_steps((33, 40), scale, SLOW, single_step=True)
    assert step.scales == (scale,)
    assert step.sizes == ((33 * scale[0], 40 * scale[1]),)


@settings(deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(8, 300), st.integers(8, 300)),
    scale=st.tuples(st.floats(1, 8), st.floats(1, 8)),
    steps=st.sampled_from([PLAIN, TWICE, SLOW]),
)
def test_ends_where_it_should_and_never_shrinks(
    size: tuple[int, int], scale: tuple[float, float], steps: StepSettings
) -> None:
    plan = plan_steps(size, scale, steps, single_step=False)
    assert plan[-1].sizes[-1] == enlarged_size(size, scale)
    assert len(plan) == max(1, math.ceil(math.log2(max(scale)) - 1e-9))
    at = size
    for step in plan:
        assert len(step.sizes) == len(step.scales) == len(steps.gradual)
        for sub, to in zip(step.scales, step.sizes, strict=True):
            assert all(1 <= s <= 2.2 for s in sub)
            assert to == enlarged_size(at, sub)
        at = step.sizes[-1]


class TestFleetCapacity:
    """As many networks side by side as a CPU's cache or a GPU's memory holds."""

    def asked(self, **changes: dict[str, object]) -> ZeroShotSettings:
        return parse_settings({"pairs": {"crop": 32, "batch": 1}, **changes}, "test")

    @pytest.mark.parametrize(
        ("crop", "batch", "grid", "size", "networks"),
        [
            (32, 1, "interpolated", (32, 32), 8),
            (32, 1, "interpolated", (16, 16), 32),
            (32, 1, "lr", (32, 32), 32),
            (32, 2, "interpolated", (32, 32), 4),
            (32, 1, "interpolated", (32, 500), 8),  # the crop's pixels, not the image's
            (128, 8, "interpolated", (500, 500), 4),  # neither too few nor too many
            (8, 1, "interpolated", (8, 8), 32),
        ],
    )
    def test_on_a_cpu_by_the_pixels_of_a_step(
        self, crop: int, batch: int, grid: str, size: tuple[int, int], networks: int
    ) -> None:
        asked = self.asked(pairs={"crop": crop, "batch": batch}, network={"grid": grid})
        assert fleet_capacity(torch.device("cpu"), asked, size) == networks

    def test_on_a_gpu_by_its_free_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        free = 80 * 2**30
        cached = {"memory_reserved": 0, "memory_allocated": 0}
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 2 * free))
        for name in cached:
            monkeypatch.setattr(torch.cuda, name, lambda _device, name=name: cached[name])
        cuda = torch.device("cuda")
        large = self.asked(pairs={"crop": 64, "batch": 8})
        whole = fleet_capacity(cuda, large, (64, 64))
        free //= 2
        assert whole // 2 - 1 <= fleet_capacity(cuda, large, (64, 64)) <= whole // 2 + 1
        assert fleet_capacity(cuda, self.asked(pairs={"crop": 32, "batch": 8}), (64, 64)) > 2 * (whole // 2)
        free = 0
        assert fleet_capacity(cuda, large, (64, 64)) == 1
        # What torch holds for later is as good as free; what tensors have of it is not.
        cached |= {"memory_reserved": 50 * 2**30, "memory_allocated": 10 * 2**30}
        assert whole // 2 - 1 <= fleet_capacity(cuda, large, (64, 64)) <= whole // 2 + 1
        free = 2**50
        assert fleet_capacity(cuda, large, (64, 64)) == 1024
