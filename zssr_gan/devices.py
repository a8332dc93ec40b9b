"""What a run computes on: the device, the precision of products, the threads."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zssr_gan.errors import DeviceError, SettingsError

PRECISIONS = ("auto", "fp32", "bf16")

MOST_THREADS = 1024
"""No machine gains by more, and torch takes no number of them."""

ONE_THREAD_PIXELS = 128 * 128
"""Of an image that is learnt from on one thread unless threads are said. Its layers are so small that two threads gain
little, and lose much beside other programs, where each of thousands of products waits for the slower thread."""

_DEFAULT_TILES = {"cpu": 512, "cuda": 2048, "mps": 1024}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """On what to compute. None of it changes what is learnt from; all of it may change last bits."""

    device: str = "auto"
    """`auto` (CUDA where it is, else the CPU), `cpu`, `cuda`, `cuda:1`, or `mps` (Apple's GPU, not tried yet)."""
    precision: str = "auto"
    """`fp32`, `bf16` (products in bfloat16), or `auto`: bf16 where the device has matrix units for it."""
    threads: int | None = None
    """CPU threads; None leaves torch's, and takes one for a small image (`for_image`)."""
    tile: int | None = None
    """Side of a tile in output pixels; None takes what suits the device."""

    def for_image(self, pixels: int) -> "RunOptions":
        """Those for learning from an image of so many pixels: one thread for a small one, unless threads are said.

        They depend on its size alone, never on the machine's load, so that its bytes repeat.
        """
        return replace(self, threads=1) if self.threads is None and pixels <= ONE_THREAD_PIXELS else self

    @property
    def small_images_at_once(self) -> int:
        """How many small images are learnt from at once: one for each thread of torch's on a CPU, else one."""
        on_cpu = self.device == "cpu" or (self.device == "auto" and not torch.cuda.is_available())
        return torch.get_num_threads() if on_cpu and self.threads is None else 1


@dataclass(frozen=True, slots=True)
class Machine:
    """Options resolved: what is really used, and what a record holds."""

    device: torch.device
    precision: str
    threads: int
    tile: int


def resolve_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        DeviceError: unknown, or not on this machine.
    """
    if name == "auto":
        # Apple's GPU is taken when it is asked for: nobody has run this there yet.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"no device is called {name!r}: use auto, cpu, cuda or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if device.type not in there:
        raise DeviceError(f"no device is called {name!r}: use auto, cpu, cuda or mps")
    if not there[device.type]:
        build = f" (torch is built for CUDA {torch.version.cuda})" if torch.version.cuda else " (torch has no CUDA)"
        raise DeviceError(f"this machine has no device {name!r}{build}: use the device cpu")
    return device


def device_name(device: torch.device) -> str:
    """The GPU's name, or the kind of CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return f"{capabilities.get('cpu_name', 'CPU')} ({platform.machine()})"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are several times faster than float32 ones on a device (CUDA, or a CPU with AMX)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # get_capabilities is younger than the oldest torch that we take.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("amx_bf16"))


@contextmanager
def machine(options: RunOptions) -> Iterator[Machine]:
    """Set up what the options ask for, and put torch's global settings back afterwards.

    Raises:
        DeviceError: no such device.
        SettingsError: an unknown precision, too few or too many threads, or too small a tile.
    """
    device = resolve_device(options.device)
    if options.precision not in PRECISIONS:
        raise SettingsError(f"no precision is called {options.precision!r}: use {', '.join(PRECISIONS)}")
    if options.precision == "bf16" and device.type == "mps":
        raise SettingsError("bf16 is not available on Apple's GPU here: use the precision fp32")
    if options.threads is not None and options.threads < 1:
        raise SettingsError(f"{options.threads} threads cannot compute: use 1 or more")
    if options.threads is not None and options.threads > MOST_THREADS:
        raise SettingsError(f"{options.threads} threads are too many: use at most {MOST_THREADS}")
    if options.tile is not None and options.tile < 16:
        raise SettingsError(f"tiles of {options.tile} pixels are too small: use 16 or more")
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "fp32"
    threads, flags = torch.get_num_threads(), _flags()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    # The same bytes on the same machine are worth more here than the fastest of several algorithms; and fp32 is fp32:
    # TF32, cuDNN's default, is off by 3e-4, as much as the residuals that are reported.
    _set_flags((True, False, False, False))
    try:
        yield Machine(device, precision, torch.get_num_threads(), options.tile or _DEFAULT_TILES[device.type])
    finally:
        torch.set_num_threads(threads)
        _set_flags(flags)


_Flags = tuple[bool, bool, bool, bool]
"""cuDNN's determinism and search for algorithms; TF32 in its convolutions and in matrix products."""


def _flags() -> _Flags:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def _set_flags(flags: _Flags) -> None:
    cudnn = torch.backends.cudnn
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device; the host does not wait for a GPU, as it does for memory that is not pinned. A
    tensor that is there is returned as it is."""
    if tensor.device.type == device.type:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def download(*tensors: Tensor) -> list[Tensor]:
    """Copies on the CPU; the host waits for a GPU once for all of them. A tensor that is there is returned as it is."""
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    if any(tensor.is_cuda for tensor in tensors):
        torch.cuda.synchronize(tensors[0].device)
    return copies
