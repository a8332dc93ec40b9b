"""Stage 1 on a GPU: the CPU's draws and results, the same bytes again, no waits, and what happens without memory."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.gpu.conftest import STANDIN, UNORDERED
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, back_project
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.zssr import ZSSR, Batched, Grouped
from zssr_gan.ops.chain import kernels_match_torch
from zssr_gan.provenance import CaseImage
from zssr_gan.seeds import normal, uniform
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset, parse_settings
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest, make_network
from zssr_gan.zeroshot.image_pool import ImagePool
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.shared import SharedModel, learn_shared
from zssr_gan.zeroshot.upscale import upscale

BICUBIC = BicubicDownscale()
BLUR = Degradation(
    blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.01)
).downscale
JPEG = Degradation(noise=Noise(sigma=0.01), jpeg=Jpeg.of_quality(75)).downscale
NoWait = Callable[[], AbstractContextManager[None]]


def images(count: int, side: int = 16) -> list[Tensor]:
    small = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    return list(resize(small, (side, side)).clamp(0, 1))


def settings(**changes: object) -> ZeroShotSettings:
    groups: dict[str, object] = {
        "network": {"depth": 4, "width": 8, "grid": "lr", "initial": "lecun"},
        "pairs": {"crop": 16, "batch": 2, "affine": 0.5},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 12},
        "optimiser": {"kind": "muon", "average": 0.9, "clip": 1.0},
    }
    return parse_settings({**groups, **changes}, "test")


def fleet_on(used: Machine, chosen: ZeroShotSettings, downscale: Downscale = BICUBIC, members: int = 3) -> Fleet:
    task = Task.of((2.0, 2.0), chosen.network.grid, downscale, used.precision)
    requests = [TrainRequest(image.to(used.device), [n], chosen, task) for n, image in enumerate(images(members))]
    return Fleet.of([Member(request, 0) for request in requests])


def relative(there: Tensor, here: Tensor) -> float:
    return float((there.cpu().double() - here.double()).norm() / here.double().norm())


class TestPrecision:
    def test_draws_are_the_cpus_bits(self, cuda: Machine) -> None:
        seed, place = torch.tensor([5, 2**62 + 1]), torch.tensor([3, 2999])
        there, here = seed.to(cuda.device), place.to(cuda.device)
        assert torch.equal(uniform(there, here, 1000).cpu(), uniform(seed, place, 1000))
        assert float((normal(there, here, 999).cpu() - normal(seed, place, 999)).abs().max()) < 1e-5

    def test_fp32_is_fp32(self, cuda: Machine) -> None:
        """TF32 would be off by 3e-4: as much as the residuals that are reported."""
        draws = torch.Generator().manual_seed(0)
        x, w = torch.randn(3, 2, 64, 16, 16, generator=draws), torch.randn(3, 64, 64, 3, 3, generator=draws) / 24
        exact = torch.stack([torch.conv2d(a.double(), b.double(), padding=1) for a, b in zip(x, w, strict=True)])
        there_x, there_w = x.to(cuda.device), w.to(cuda.device)
        for way in (Grouped(3), Batched()):
            assert relative(way.leave(way.convolve(way.enter(there_x), there_w, None)), exact) < 1e-6
        assert relative(torch.conv2d(there_x[0], there_w[0], padding=1), exact[0]) < 1e-6
        rows = x[0, 0].flatten(1)
        assert relative(there_x[0, 0].flatten(1) @ rows.T.to(cuda.device), rows.double() @ rows.T.double()) < 1e-6

    @pytest.mark.parametrize(("precision", "most"), [("fp32", 2e-3), ("bf16", 0.05)])
    def test_a_fleet_learns_as_on_the_cpu(self, precision: str, most: float) -> None:
        losses = {}
        for device in ("cpu", "cuda"):
            with machine(RunOptions(device, precision, threads=1)) as used:
                fleet = fleet_on(used, settings())
                losses[device] = torch.stack([fleet.advance() for _ in range(12)]).cpu()
        assert relative(losses["cuda"], losses["cpu"]) < most


@pytest.mark.skipif(STANDIN is not None, reason="Triton compiles for a GPU; its interpreter: tests/ops")
class TestKernels:
    def test_they_are_used_and_agree(self, cuda: Machine) -> None:
        pytest.importorskip("triton")
        assert kernels_match_torch(cuda.device, torch.bfloat16)
        with machine(RunOptions("cuda", "bf16")) as used:
            assert fleet_on(used, load_preset("paper").for_size(256)).optimiser.packed_NP is not None

    def test_a_fleet_learns_as_by_plain_products(self, monkeypatch: pytest.MonkeyPatch) -> None:
        losses = {}
        with machine(RunOptions("cuda", "bf16")) as used:
            for product in ("batched", "triton"):
                monkeypatch.setattr(ZSSR, "product", product)
                fleet = fleet_on(used, load_preset("paper").for_size(256), members=20)
                losses[product] = torch.stack([fleet.advance() for _ in range(12)])
        assert relative(losses["triton"], losses["batched"].cpu()) < 0.05


class TestRepeats:
    def test_a_fleet(self, cuda: Machine) -> None:
        weights = []
        for _ in range(2):
            fleet = fleet_on(cuda, settings(), JPEG)
            for _ in range(5):
                fleet.advance()
            weights.append(fleet.optimiser.result().cpu())
        assert torch.equal(*weights)

    @pytest.mark.parametrize("side", [16, 64])
    @pytest.mark.parametrize("downscale", [BICUBIC, BLUR], ids=["bicubic", "blur"])
    def test_back_projection(self, downscale: Downscale, side: int, cuda: Machine) -> None:
        lr = torch.stack(images(2, side)).to(cuda.device)
        made = [back_project(resize(lr, (2 * side, 2 * side)), lr, downscale, 10).cpu() for _ in range(3)]
        assert torch.equal(made[0], made[1])
        assert torch.equal(made[0], made[2])
        here = back_project(resize(lr.cpu(), (2 * side, 2 * side)), lr.cpu(), downscale, 10)
        assert float((made[0] - here).abs().max()) * 255 < 0.01

    @pytest.mark.parametrize("side", [16, 64, 300])
    def test_back_projection_adds_in_a_fixed_order(
        self, side: int, launches: Callable[..., list[str]], cuda: Machine
    ) -> None:
        """CUDA adds the gradients of interpolation and of padding by atomics, in any order."""
        lr = torch.stack(images(1, side)).to(cuda.device)
        called = [
            name
            for downscale in (BICUBIC, BLUR)
            for name in launches(partial(back_project, resize(lr, (2 * side, 2 * side)), lr, downscale, 4))
        ]
        assert called
        assert not [name for name in called if "backward" in name or UNORDERED.fullmatch(name)]

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_learning_leaves_the_precision_alone(self, precision: str) -> None:
        with machine(RunOptions("cuda", precision, threads=1)) as used:
            fleet_on(used, settings()).advance()
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32


def case(count: int = 6) -> list[tuple[CaseImage, Tensor]]:
    return [(CaseImage(name=str(n), sha256=f"{n:064}"), image) for n, image in enumerate(images(count))]


def shared_model(used: Machine, downscale: Downscale = BICUBIC) -> SharedModel:
    return learn_shared(case(), settings(), (2.0, 2.0), downscale, seed=0, machine=used)


def pool_fleet(used: Machine, chosen: ZeroShotSettings, downscale: Downscale) -> Fleet:
    """A shared model's, of images of two sizes."""
    task = Task.of((2.0, 2.0), chosen.network.grid, downscale, used.precision)
    there = [image.to(used.device) for image in (*images(4), *images(2, 20))]
    pool = ImagePool(there, [], [task] * 6, chosen, 0)
    return Fleet(make_network(chosen, 3, task.factor, [0]).to(used.device), pool, chosen, task)


class TestWaits:
    @pytest.mark.parametrize("replayed", [False, True])
    @pytest.mark.parametrize("downscale", [BICUBIC, BLUR, JPEG], ids=["bicubic", "blur", "jpeg"])
    @pytest.mark.parametrize("preset", ["fast", "paper"])
    def test_none_in_an_iteration(
        self, preset: str, downscale: Downscale, replayed: bool, cuda: Machine, no_wait: NoWait
    ) -> None:
        fleet = fleet_on(cuda, load_preset(preset).for_size(256), downscale)
        for _ in range(3 if replayed else 1):  # tables and matrices are made once
            fleet.advance()
        fleet.clock = 1
        with no_wait():
            fleet.advance()

    @pytest.mark.parametrize("downscale", [BICUBIC, BLUR, JPEG], ids=["bicubic", "blur", "jpeg"])
    def test_none_in_a_step_of_a_shared_model(self, downscale: Downscale, cuda: Machine, no_wait: NoWait) -> None:
        fleet = pool_fleet(cuda, load_preset("quality").for_case(), downscale)
        fleet.advance()
        fleet.clock = 1
        with no_wait():
            fleet.advance()


class TestReplays:
    """Iterations of few networks are CUDA graphs from the third on."""

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("kind", ["slope", "cosine", "shared"])
    def test_are_the_launched_iterations(self, kind: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when networks have left a fleet, and when others have taken their places; by kernels where they run."""
        with machine(RunOptions("cuda", precision, threads=1)) as used:
            self.check(kind, used, monkeypatch)

    def check(self, kind: str, cuda: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        ended, replays = [], []
        replay = torch.cuda.CUDAGraph.replay
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))[1])
        for most in (0, 16):
            monkeypatch.setattr("zssr_gan.zeroshot.fleet._MOST_REPLAYED", most)
            slope = {"schedule": {"kind": "slope", "iterations": 99}, "optimiser": {"kind": "adam"}}
            chosen = settings(**slope) if kind == "slope" else settings()
            fleet = (pool_fleet if kind == "shared" else fleet_on)(cuda, chosen, BLUR)
            losses = [fleet.advance() for _ in range(5)]
            if kind != "shared":
                fleet.assign(torch.tensor([1]), fleet_on(cuda, chosen, BLUR, 1))
                losses += [fleet.advance() for _ in range(2)]
                fleet.select(torch.tensor([0, 2]))
            losses += [fleet.advance() for _ in range(5)]
            weights = fleet.optimiser.result(torch.arange(fleet.network.members, device=cuda.device))
            ended.append([weights.cpu(), *(one.cpu() for one in losses)])
            assert bool(replays) == bool(most)
        assert len(set(map(id, replays))) == (1 if kind == "shared" else 2)
        assert all(map(torch.equal, *ended))

    @pytest.mark.parametrize(("kind", "most"), [("paper", 150), ("fast", 250), ("shared", 250)])
    def test_launches(self, kind: str, most: int, launches: Callable[..., list[str]], cuda: Machine) -> None:
        chosen = load_preset("quality").for_case() if kind == "shared" else load_preset(kind).for_size(256)
        fleet = (pool_fleet if kind == "shared" else fleet_on)(cuda, chosen, BICUBIC)
        for _ in range(3):
            fleet.advance()
        fleet.clock = 1
        counted = [launches(fleet.advance) for _ in range(2)]
        assert max(map(len, counted)) <= most
        assert all(one.count("graph") == 1 for one in counted)
        if kind == "paper":  # where all crops are made alike
            assert counted[0] == counted[1]


@pytest.mark.skipif(STANDIN is None, reason="a GPU does not count launches: pytest -p tests.gpu.standin")
class TestManyImages:
    """What 64 images take that are finished together, beside iterations."""

    COUNT = 64

    def count(
        self, used: Machine, chosen: ZeroShotSettings, downscale: Downscale, model: SharedModel | None = None
    ) -> tuple[int, int]:
        """Launches and waits."""
        assert STANDIN is not None
        log = STANDIN.log
        for _ in range(2):  # matrices are made once
            log.reset()
            jobs = (
                (n, upscale(image, (2.0, 2.0), chosen, downscale, used, seed=0, shared=model))
                for n, image in enumerate(images(self.COUNT, 12))
            )
            ended = list(run_jobs(jobs, self.COUNT * chosen.networks))
            assert [one.error for one in ended] == [None] * self.COUNT
        return len(log.launches), log.waits.total()

    @pytest.mark.parametrize("downscale", [BICUBIC, JPEG], ids=["bicubic", "jpeg"])
    def test_of_a_shared_model(self, downscale: Downscale, cuda: Machine) -> None:
        launches, waits = self.count(cuda, settings(), downscale, shared_model(cuda, downscale))
        assert launches <= 20 * self.COUNT
        assert waits <= 1

    def test_with_networks_of_their_own(self, cuda: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        assert STANDIN is not None
        log, real = STANDIN.log, Fleet.advance

        def advance(fleet: Fleet) -> Tensor:
            before = list(log.launches), log.waits.copy()
            losses = real(fleet)
            log.launches, log.waits = before
            return losses

        monkeypatch.setattr(Fleet, "advance", advance)
        chosen = settings(choice={"folds": 2}, networks=2, schedule={"kind": "cosine", "iterations": 2})
        launches, waits = self.count(cuda, chosen, BLUR)
        assert launches <= 20 * self.COUNT
        assert waits <= 4  # of a fleet: its masks and first weights there, what came of its networks, its images


class TestMemory:
    def test_fewer_networks_where_it_runs_out(self, cuda: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        advance, notices = Fleet.advance, list[str]()

        def scarce(fleet: Fleet) -> Tensor:
            if fleet.network.members > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return advance(fleet)

        monkeypatch.setattr(Fleet, "advance", scarce)
        there = [image.to(cuda.device) for image in images(8, 12)]
        quick = settings(schedule={"kind": "cosine", "iterations": 3})
        jobs = ((n, upscale(lr, (2.0, 2.0), quick, BICUBIC, cuda, seed=0)) for n, lr in enumerate(there))
        ended = list(run_jobs(jobs, 8, on_notice=notices.append))
        assert [one.error for one in ended] == [None] * 8
        assert sorted(one.key for one in ended) == list(range(8))
        assert len(notices) == 2


def test_a_shared_model_and_its_images() -> None:
    """As on the CPU, up to what sums differ by."""
    made = {}
    for device in ("cpu", "cuda"):
        with machine(RunOptions(device, "fp32", threads=1)) as used:
            model = shared_model(used, BLUR)
            jobs = (
                (n, upscale(image.to(used.device), (2.0, 2.0), settings(), BLUR, used, seed=0, shared=model))
                for n, image in enumerate(images(2))
            )
            ended: list[Any] = list(run_jobs(jobs, 8))
        assert [one.error for one in ended] == [None, None]
        assert json.dumps(model.facts.model_dump(mode="json"))
        made[device] = torch.stack([one.result.image_CHW.cpu() for one in sorted(ended, key=lambda one: one.key)])
    error_db = -10 * torch.log10((made["cpu"] - made["cuda"]).square().mean() + 1e-20)
    assert error_db > 60
