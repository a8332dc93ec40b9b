"""A stand-in for a GPU: tensors that say they are on cuda:0 and hold their values on the CPU.

`pytest -m gpu -p tests.gpu.standin` runs the GPU tests with it where there is no GPU. Mixing devices raises as CUDA
does; each kernel launch, the bytes it moves and each wait of the host for the device is counted by the line that
caused it. It shows placement, launches and waits. It cannot show what a CUDA kernel refuses, how cuDNN rounds, nor real
memory or speed.

It has to be imported before torch: a shared library, compiled with g++ once into the folder for temporary files,
registers the CUDA backend that a CPU build lacks.
"""

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("standin.cpp")
ROOT = Path(__file__).parents[2]


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError("torch is not installed")
    return Path(spec.origin).parent


def build() -> Path:
    """Compile the backend, or find it compiled: its name holds the hash of the source and torch's version.

    Raises:
        RuntimeError: no g++, or it fails.
    """
    torch_folder = _torch_folder()
    key = hashlib.sha256(SOURCE.read_bytes() + (torch_folder / "version.py").read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"zssr-gan-standin-{os.getuid()}-{key}.so"
    if library.exists():
        return library
    compiler = shutil.which("g++")
    if compiler is None:
        raise RuntimeError("the GPU stand-in needs g++")
    made = library.with_suffix(f".{os.getpid()}.so")
    command = [compiler, "-O1", "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}", str(SOURCE)]
    command += ["-o", str(made), f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the GPU stand-in does not compile: {done.stderr[-2000:]}")
    made.replace(library)
    return library


if "torch" in sys.modules:
    raise RuntimeError("import tests.gpu.standin before torch: python -m pytest -m gpu -p tests.gpu.standin")
ctypes.CDLL(str(_torch_folder() / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
ctypes.CDLL(str(build()), mode=ctypes.RTLD_GLOBAL)

import torch  # noqa: E402 - after the backend is registered
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map  # noqa: E402

CUDA = torch.device("cuda:0")

_NO_LAUNCH = re.compile(
    "view|permute|t|expand|slice|select|unsqueeze|transpose|as_strided|detach|alias|split|split_with_sizes|unbind|unfold|"
    "squeeze|_unsafe_view|lift_fresh|_reshape_alias|unsafe_split|diagonal|empty|empty_like|empty_strided|new_empty|"
    "new_empty_strided|movedim|narrow|chunk|unflatten|_local_scalar_dense|is_same_size|sym_size|sym_stride|"
    "_has_same_storage_numel|set_|real"
)
"""Operators that launch no kernel: they make views, or memory without content."""

_INDEXING = re.compile("(_unsafe)?_?index(_put)?(_impl)?_?")
"""Operators that take index tensors from the CPU too."""

_COPYING = ("_to_copy", "copy_")

_READ_BACK = re.compile(
    "nonzero|masked_select|unique_dim|_unique2|unique_consecutive|bincount|_?linalg_eigh|_linalg_svd|linalg_qr|"
    "linalg_inv_ex|_linalg_check_errors"
)
"""Operators for which the host reads a size or an error code back."""


class Log:
    """What the device was asked to do since the last `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.launches: list[str] = []
        """The operators that launch a kernel, in order."""
        self.waits: Counter[tuple[str, str]] = Counter()
        """By reason and line: where the host waits for the device. Copies marked non-blocking do not count."""
        self.bytes = 0
        """Read and written by all launches, as if no cache held anything."""

    def wait(self, reason: str) -> None:
        """Count a wait of the host; in a capture, CUDA refuses it."""
        if _captured() is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing ({reason}, {_line()})")
        self.waits[reason, _line()] += 1


log = Log()


def _line() -> str:
    """The innermost line of the project on the stack, as `zssr_gan/x.py:12`; tests count where nothing else does."""
    frame, test = sys._getframe(1), ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(f"{ROOT}/") and file != __file__ and ".venv" not in file:
            place = f"{Path(file).relative_to(ROOT)}:{frame.f_lineno}"
            if not place.startswith("tests/"):
                return place
            test = test or place
        frame = frame.f_back  # type: ignore[assignment]
    return test or "torch's autograd"


class Standin(torch.Tensor):
    """A tensor that says it is on cuda:0; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Standin":
        made: Standin = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=CUDA,
            requires_grad=False,
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Standin({self.held})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        log.wait("numpy")
        return self.held.detach().numpy()

    def __array__(self, *_args: object, **_options: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        log.wait("tolist")
        return self.held.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    @property
    def data(self) -> torch.Tensor:
        return torch.Tensor.detach(self)

    @data.setter
    def data(self, new: "Standin") -> None:
        with torch.no_grad():
            torch.Tensor.data.__set__(self, new.detach())  # type: ignore[attr-defined]
        self.held = new.held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Graph:
    """Stands for torch.cuda.CUDAGraph: the operators of a capture, done again on the same memory.

    CUDA only records what is captured; here it is done at once, and the first replay does nothing.
    """

    capturing: "Graph | None" = None

    def __init__(self) -> None:
        self.operators: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []  # with what each made
        self.thread, self.replays = threading.current_thread(), 0

    def reset(self) -> None:
        """Forget what was captured."""
        self.operators = []

    @torch.no_grad()
    def replay(self) -> None:
        """Do all operators again: one launch of the host."""
        log.launches.append("graph")
        self.replays += 1
        for func, args, kwargs, made in self.operators if self.replays > 1 else ():
            new = tree_flatten(func(*args, **kwargs))[0]
            for old, now in zip(made, (x for x in new if isinstance(x, torch.Tensor)), strict=True):
                if old.data_ptr() != now.data_ptr():
                    old.copy_(now)


def _captured() -> Graph | None:
    """The graph that the running thread's operators belong to; autograd's own threads work for whoever called them."""
    graph, thread = Graph.capturing, threading.current_thread()
    mine = graph is not None and (thread is graph.thread or isinstance(thread, threading._DummyThread))
    return graph if mine else None


@contextmanager
def _capture(graph: Graph, **_options: object) -> Iterator[None]:
    log.wait("synchronize")
    Graph.capturing = graph
    try:
        yield
    finally:
        Graph.capturing = None


class _Stream:
    """All work is done in order, so streams have nothing to do but to be waited for."""

    waits = 0

    def __init__(self, _device: object = None) -> None:
        pass

    def wait_stream(self, _other: "_Stream") -> None:
        _Stream.waits += 1


_arriving: list[tuple[torch.Tensor, torch.Tensor]] = []
"""Copies to the host that nobody waited for yet, and what they will hold."""


def _arrive(*_: object) -> None:
    log.wait("synchronize")
    while _arriving:
        there, values = _arriving.pop()
        there.copy_(values)


def _says_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _traffic(tensor: torch.Tensor) -> int:
    """Bytes of a tensor; a view of overlapping memory is read once."""
    if not tensor.numel():
        return 0
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return min(tensor.numel(), span) * tensor.element_size()


def _check_devices(name: str, args: Any, here: list[Any]) -> None:
    """Raise what CUDA raises where devices are mixed: scalars, indices and copies may be."""
    if _INDEXING.fullmatch(name):
        if not isinstance(args[0], Standin):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        values = args[2] if name != "index" and len(args) > 2 else None
        if isinstance(values, torch.Tensor) and not isinstance(values, Standin) and values.dim():
            raise RuntimeError(f"Expected all tensors to be on the same device (index_put's values, {_line()})")
    elif name not in _COPYING and (name in ("cat", "stack") or any(t.dim() for t in here)):
        found = "but found at least two devices, cuda:0 and cpu!"
        raise RuntimeError(f"Expected all tensors to be on the same device, {found} ({name}, {_line()})")


def _count_waits(name: str, args: Any, kwargs: Any, there: list[Any], here: list[Any]) -> None:
    """Count what makes the host wait: values, sizes and pageable memory."""
    non_blocking = bool(kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
    device = kwargs.get("device")
    if name == "_to_copy" and there and device is not None and not _says_cuda(device) and not non_blocking:
        log.wait("copy to the host")
    elif name == "_to_copy" and not there and _says_cuda(device) and not non_blocking:
        log.wait("copy to the device")
    elif name == "copy_" and there and here:
        if not isinstance(args[0], Standin):
            log.wait("copy to the host")
        elif not non_blocking and args[1].dim():
            log.wait("copy to the device")
    elif name == "_local_scalar_dense" and there:
        log.wait("value")
    elif there and _READ_BACK.fullmatch(name):
        log.wait(name)
    elif there and _INDEXING.fullmatch(name):
        if any(t.dtype in (torch.int64, torch.bool) for t in here):
            log.wait("index from the host")
        if any(t.dtype == torch.bool for t in (*there, *here) if t is not args[0]):
            log.wait("boolean index")


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Do what an operator asks on the values held, and count it."""
    name = func.overloadpacket.__name__
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, Standin)]
    here = [x for x in tensors if not isinstance(x, Standin)]
    device = kwargs.get("device")
    onto = _says_cuda(device) if device is not None else bool(there)
    if there and here:
        _check_devices(name, args, here)
    _count_waits(name, args, kwargs, there, here)
    plain = dict(kwargs)
    if _says_cuda(device):
        plain["device"] = torch.device("cpu")
    if plain.get("pin_memory"):
        plain["pin_memory"] = None
    out = func(*tree_map(_held, args), **tree_map(_held, plain))
    made = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
    if (graph := _captured()) is not None:
        if name in _COPYING and ((there and here) or bool(there) != onto):
            raise RuntimeError(f"a copy between host and device in a capture reads freed memory later ({_line()})")
        if (there or onto) and not _NO_LAUNCH.fullmatch(name):
            # What is held, as a tensor with its history would keep autograd's graph alive.
            graph.operators.append((func, tree_map(_held, args), tree_map(_held, plain), made))
    elif (there or onto) and not _NO_LAUNCH.fullmatch(name) and any(t.numel() for t in made or tensors):
        log.launches.append(name)
        log.bytes += sum(map(_traffic, tensors)) + sum(t.numel() * t.element_size() for t in made)
    if name == "_to_copy" and there and not onto and kwargs.get("non_blocking"):
        _arriving.append((out, out.clone()))
        out.zero_()
    if name == "_local_scalar_dense" or not onto:
        return out
    wrapped = tree_map(lambda x: Standin(x) if isinstance(x, torch.Tensor) and not isinstance(x, Standin) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Standin) else x


class _Everywhere(TorchDispatchMode):
    """Sends what makes tensors on cuda, or takes one, to the stand-in."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _says_cuda(kwargs.get("device")) or any(isinstance(x, Standin) for x in tree_flatten((args, kwargs))[0]):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def install(free: int = 139 * 2**30) -> None:
    """Let this process see one GPU with so many bytes of memory, for good."""
    import torch.cuda.amp.common as amp
    import torch.nn.utils.clip_grad as clip
    import torch.optim.optimizer as optimizer
    import torch.utils._foreach_utils as foreach

    replaced: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda **_: True,
        "mem_get_info": lambda *_: (free, free),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "get_device_name": lambda *_: "stand-in",
        "synchronize": _arrive,
        "empty_cache": lambda: None,
        "is_current_stream_capturing": lambda: False,
        "_lazy_init": lambda: None,
        "CUDAGraph": Graph,
        "graph_pool_handle": lambda: (0, 0),
        "graph": _capture,
        "Stream": _Stream,
        "current_stream": lambda *_: _Stream(),
        "stream": nullcontext,
        "set_stream": lambda _: None,
        "device": nullcontext,
    }
    for name, function in replaced.items():
        setattr(torch.cuda, name, function)
    torch._C._cuda_isCurrentStreamCapturing = lambda: False  # type: ignore[attr-defined]
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign,assignment]
    for module in (optimizer, foreach):
        supported = getattr(module, "_foreach_supported_types", None)
        if supported is not None and Standin not in supported:
            supported.append(Standin)
    foreach._has_foreach_support = clip._has_foreach_support = lambda *_: True  # type: ignore[assignment,attr-defined]
    amp.amp_definitely_not_available = lambda: False
    torch._C._set_only_lift_cpu_tensors(True)  # type: ignore[attr-defined]
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    _Everywhere().__enter__()
    run = threading.Thread.run

    def run_with_mode(thread: threading.Thread) -> None:
        with _Everywhere():
            run(thread)

    threading.Thread.run = run_with_mode  # type: ignore[method-assign]


install()
