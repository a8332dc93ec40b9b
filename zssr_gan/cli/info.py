"""`zssr-gan info`: what this program runs on, for a bug report."""

import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zssr_gan.cli.exit_codes import running
from zssr_gan.provenance import VERSION

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?")


def info() -> None:
    """Show versions, devices and caches: what belongs into a bug report."""
    with running() as bar:
        facts = [
            ("zssr-gan", f"{VERSION} ({Path(__file__).parents[1]})"),
            ("python", f"{platform.python_version()} ({sys.executable})"),
            ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
            *_packages(),
            *_machine(),
        ]
        width = max(len(name) for name, _ in facts)
        for name, value in facts:
            bar.result(f"{name:{width}}  {value}")


def _packages() -> Iterator[tuple[str, str]]:
    """Versions of what zssr-gan requires, read from its own metadata so that the list is never out of date."""
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("zssr-gan") or []:
        if (match := _REQUIREMENT.match(requirement)) is None:
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


def _machine() -> Iterator[tuple[str, str]]:
    import torch

    from zssr_gan.devices import has_fast_bf16, resolve_device
    from zssr_gan.networks.pretrained import cache_folder

    yield "device cpu", platform.processor() or platform.machine()
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield f"device cuda:{index}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "device mps", "Apple GPU"
    if not torch.cuda.is_available():
        build = torch.version.cuda
        yield "cuda", f"torch is built for CUDA {build}, but sees no GPU" if build else "torch is a build without CUDA"
    yield "threads", f"{torch.get_num_threads()} used by default, {os.cpu_count()} logical processors"
    fast = has_fast_bf16(resolve_device("auto"))
    yield "bf16", "fast: --precision auto takes it" if fast else "not fast here: --precision auto takes fp32"
    user = os.environ.get("USER") or os.environ.get("USERNAME") or "user"
    compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR", Path(tempfile.gettempdir(), f"torchinductor_{user}"))
    yield "caches", f"weights: {cache_folder()}; torch.compile's: {compiled}"
