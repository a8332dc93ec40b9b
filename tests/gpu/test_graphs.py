"""What is replayed as a CUDA graph does what it did when it was called."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from tests.gpu.conftest import STANDIN
from zssr_gan.ops import graphs
from zssr_gan.ops.graphs import Graphed

Step = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def training_step(device: str) -> tuple[nn.Module, Step]:
    """Forward, backward and Adam of a small network."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PReLU(4), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3)).to(
        device
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-2, fused=True, capturable=device == "cuda")

    def step(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        optimiser.zero_grad()
        out = network(inputs["x"])
        loss = (out - inputs["x"][..., 1:-1, 1:-1]).square().mean()
        loss.backward()
        optimiser.step()
        return {"loss": loss.detach(), "out": out.detach()}

    return network, step


def batches(device: str) -> list[dict[str, Tensor]]:
    draws = torch.Generator().manual_seed(1)
    return [{"x": torch.rand(2, 1, 6, 6, generator=draws).to(device)} for _ in range(8)]


def test_a_replayed_step_is_the_called_one() -> None:
    results = []
    for graphed in (False, True):
        network, step = training_step("cuda")
        call = Graphed(step, torch.device("cuda")) if graphed else step
        losses = [{name: x.cpu() for name, x in call(batch).items()} for batch in batches("cuda")]
        results.append((losses, [x.cpu() for x in network.state_dict().values()]))
    (losses, weights), (others, other_weights) = results
    assert all(torch.equal(one[name], other[name]) for one, other in zip(losses, others, strict=True) for name in one)
    assert all(map(torch.equal, weights, other_weights))
    assert len({float(one["loss"]) for one in losses}) == len(losses)


def test_a_replay_is_one_launch(launches: Callable[[Callable[[], object]], list[str]]) -> None:
    _, step = training_step("cuda")
    call = Graphed(step, torch.device("cuda"))
    counts = [launches(lambda batch=batch: call(batch)) for batch in batches("cuda")]  # type: ignore[misc]
    assert len(counts[0]) > len(counts[1]) > 10  # the first makes the state of Adam
    assert counts[-1] == ["copy_", "graph"]


@pytest.mark.skipif(STANDIN is None, reason="a GPU does not count them")
def test_a_step_that_is_not_captured_waits_for_the_stream_before_and_is_waited_for() -> None:
    assert STANDIN is not None
    _, step = training_step("cuda")
    call, before = Graphed(step, torch.device("cuda")), STANDIN._Stream.waits
    call(batches("cuda")[0])
    assert STANDIN._Stream.waits == before + 2


@pytest.mark.parametrize("fault", ["value", "from the host", "to the host"])
def test_what_cannot_be_captured_is_called(fault: str) -> None:
    """It goes on with a notice, and learns the same."""
    if STANDIN is None and fault != "value":
        pytest.skip("CUDA does not refuse it: only the stand-in does")
    faults: dict[str, Callable[[Tensor], object]] = {
        "value": lambda x: x.sum().item(),
        "from the host": lambda _: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
        "to the host": lambda x: x.to("cpu", non_blocking=True),
    }
    results = []
    for planted in (False, True):
        network, step = training_step("cuda")

        def faulty(inputs: Mapping[str, Tensor], step: Step = step) -> dict[str, Tensor]:
            faults[fault](inputs["x"])
            return step(inputs)

        notices: list[str] = []
        call = Graphed(faulty if planted else step, torch.device("cuda"), notices.append)
        for batch in batches("cuda"):
            call(batch)
        assert len(notices) == planted
        results.append([x.cpu() for x in network.state_dict().values()])
    assert all(map(torch.equal, *results))


def test_after_a_failed_capture_none_is_begun() -> None:
    """The allocator of torch would still take part in the one that failed."""
    calls, notices = [0], list[str]()

    def waits(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        calls[0] += 1
        return {"loss": inputs["x"] * float(inputs["x"].sum())}

    for _ in range(2):
        call = Graphed(waits, torch.device("cuda"), notices.append)
        for batch in batches("cuda"):
            call(batch)
    assert len(notices) == 1
    assert calls[0] == 2 * len(batches("cuda")) + 1  # each batch, and the capture that failed


@pytest.mark.skipif(STANDIN is None, reason="a GPU ends its captures itself")
def test_a_capture_whose_end_fails_gives_back_its_stream_and_its_pool() -> None:
    """torch leaves both to the caller then; its private functions must still be there."""
    before, pool, notices, done = torch.cuda.current_stream(), (7, 0), list[str](), list[tuple[object, ...]]()

    @contextmanager
    def capture(_graph: object, **options: object) -> Iterator[None]:
        assert options["pool"] == pool
        yield
        raise RuntimeError("operation failed due to a previous error during capture")

    def noted(name: str) -> Callable[..., None]:
        def note(*given: object) -> None:
            done.append((name, *given))

        return note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "graph", capture)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: pool)
        patch.setattr(torch.cuda, "current_stream", lambda *_: before)
        patch.setattr(torch.cuda, "set_stream", noted("set_stream"))
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            patch.setattr(torch._C, name, noted(name))
        call = Graphed(lambda inputs: {"y": inputs["x"] * 2}, torch.device("cuda"), notices.append)
        outputs = [call(batch)["y"].cpu() for batch in batches("cuda")]
    assert done == [("set_stream", before), ("_cuda_endAllocateToPool", 0, pool), ("_cuda_releasePool", 0, pool)]
    assert len(notices) == 1
    assert all(torch.equal(y, batch["x"] * 2) for y, batch in zip(outputs, batches("cpu"), strict=True))


@pytest.mark.skipif(STANDIN is None, reason="a GPU has memory enough")
def test_without_memory_for_a_capture_it_is_called() -> None:
    """What the capture held is given back first."""
    assert STANDIN is not None
    held, notices = list[weakref.ref[Tensor]](), list[str]()

    def works(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        activation = inputs["x"] * 2
        if STANDIN.Graph.capturing is not None:
            held.append(weakref.ref(activation))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"loss": activation}

    def empty_cache() -> None:
        assert held[0]() is None

    call = Graphed(works, torch.device("cuda"), notices.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "empty_cache", empty_cache)
        losses = [call(batch)["loss"].cpu() for batch in batches("cuda")]
    assert all(torch.equal(loss, batch["x"] * 2) for loss, batch in zip(losses, batches("cpu"), strict=True))
    assert len(notices) == len(held) == 1
    assert not graphs._failed  # others, whose work is smaller, may be captured


def test_elsewhere_it_is_called() -> None:
    _, step = training_step("cpu")
    calls = []
    call = Graphed(lambda inputs: (calls.append(1), step(inputs))[1], torch.device("cpu"))
    for batch in batches("cpu"):
        call(batch)
    assert len(calls) == len(batches("cpu"))
