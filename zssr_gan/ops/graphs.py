"""CUDA graphs: one call of the host launches all kernels of a step again."""

import contextlib
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from zssr_gan.errors import is_out_of_memory

Tensors = Mapping[str, Tensor]

_failed: dict[torch.device, torch.cuda.CUDAGraph] = {}
"""The capture that failed on a device: none is begun there after it, as torch's allocator still refers to it."""

_PLAIN_CALLS = 2  # before the capture: libraries choose algorithms, and optimisers make their state, at the first


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: torch keeps memory of its own for each stream."""
    return torch.cuda.Stream(device)


class Graphed:
    """A function of tensors by name, replayed as one CUDA graph from its third call on; on other devices just called.

    Inputs are copied. Outputs are the same tensors at each call, which the next call overwrites. Where CUDA refuses to
    capture it, it is called as before, and so are all later ones unless memory was short; `notice` gets a sentence.

    Args:
        work: launches the same kernels at each call, whatever its inputs hold; it neither waits for the device nor
            copies to or from the host, and what it updates, it updates in place.
        device: of its tensors.
    """

    def __init__(
        self, work: Callable[[Tensors], Tensors], device: torch.device, notice: Callable[[str], None] | None = None
    ) -> None:
        self._work, self._device, self._notice = work, device, notice
        self._plain_calls = _PLAIN_CALLS if device.type == "cuda" else -1
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}
        self._outputs: Tensors = {}

    def __call__(self, inputs: Tensors) -> Tensors:
        """Outputs of the function."""
        if self._graph is not None:
            for name, x in inputs.items():
                self._inputs[name].copy_(x)
        elif self._plain_calls < 0 or self._device in _failed:
            return self._work(inputs)
        elif self._plain_calls > 0:
            self._plain_calls -= 1
            return self._call_beside(inputs)
        elif not self._capture(inputs):
            return self._work(inputs)
        assert self._graph is not None
        self._graph.replay()
        return self._outputs

    def _call_beside(self, inputs: Tensors) -> Tensors:
        """Call it on another stream, as torch's notes on CUDA graphs ask before a capture."""
        with torch.cuda.device(self._device):
            side, current = _side_stream(self._device), torch.cuda.current_stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                outputs = self._work(inputs)
            current.wait_stream(side)
        return outputs

    def _capture(self, inputs: Tensors) -> bool:
        self._inputs = {name: x.clone() for name, x in inputs.items()}
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        pool, why, full = torch.cuda.graph_pool_handle(), "", False
        try:
            # Other threads may use the device: the next batch is drawn there.
            with (
                torch.cuda.device(self._device),
                torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
            ):
                self._outputs = self._work(self._inputs)
        except RuntimeError as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            full = is_out_of_memory(error)
        if not why:
            self._graph = graph
            return True
        # Out of the handler, whose traceback holds the step's tensors.
        self._inputs, self._plain_calls = {}, -1
        torch.cuda.set_stream(current)  # torch stays on the capture's stream where the end of the capture fails
        if not full:
            _failed[self._device] = graph
            with torch.cuda.device(self._device), contextlib.suppress(AttributeError, RuntimeError):
                # torch before 2.12 goes on to allocate for the capture.
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
                torch._C._cuda_releasePool(torch.cuda.current_device(), pool)
        graph.reset()
        torch.cuda.empty_cache()  # a graph's memory is its own: launched, the same steps may fit
        if self._notice is not None:
            self._notice(f"CUDA cannot replay these steps as a graph ({why}): each kernel is launched by itself")
        return False
