"""What this program runs on: what a user pastes into a bug report (`zssr-gan info`)."""

import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from zssr_gan.devices import has_fast_bf16, resolve_device
from zssr_gan.weights import cache_folder

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?")


def describe_environment() -> list[tuple[str, str]]:
    """Facts as (name, value), in the order in which a person wants them."""
    return [
        ("zssr-gan", f"{importlib.metadata.version('zssr-gan')} ({Path(__file__).parent})"),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *_packages(),
        *_devices(),
        ("threads", f"{torch.get_num_threads()} used by default, {os.cpu_count()} logical processors"),
        ("bf16", _bf16()),
        ("caches", f"weights: {cache_folder()}; torch.compile's: {_compile_cache()}"),
    ]


def _packages() -> Iterator[tuple[str, str]]:
    """Versions of what zssr-gan requires, read from its own metadata so that the list is never out of date."""
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("zssr-gan") or []:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        if match["extra"]:
            extras.setdefault(match["extra"], []).append(match["name"])
        else:
            yield match["name"], _version(match["name"]) or "not installed"
    for extra, names in sorted(extras.items()):
        missing = [name for name in names if _version(name) is None]
        yield f"extra {extra}", f"missing {', '.join(missing)}" if missing else "installed"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[tuple[str, str]]:
    yield "device cpu", platform.processor() or platform.machine()
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield f"device cuda:{index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "device mps", "Apple GPU"
    if not torch.cuda.is_available():
        build = torch.version.cuda
        yield "cuda", f"torch is built for CUDA {build}, but sees no GPU" if build else "torch is a build without CUDA"


def _bf16() -> str:
    fast = has_fast_bf16(resolve_device("auto"))
    return "fast: --precision auto takes it" if fast else "not fast here: --precision auto takes fp32"


def _compile_cache() -> str:
    user = os.environ.get("USER") or os.environ.get("USERNAME") or "user"
    default = Path(tempfile.gettempdir(), f"torchinductor_{user}")
    return os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(default))
