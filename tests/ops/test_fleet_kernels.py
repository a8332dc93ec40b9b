"""The fleet's kernels as code of a Hopper GPU, compiled without one: its matrix units are used, and no register spills.

Triton comes with torch for CUDA. Where torch is a CPU build: pip install triton==3.6.0, and
python -m pytest -m slow tests/ops
"""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ops.test_chain import BETAS, chain_of
from zssr_gan.ops.chain import Adam

pytestmark = pytest.mark.slow

TYPES = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}


class Launch:
    """What a kernel would be launched with."""

    def __init__(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.kernel, self.options = kernel, {name: kwargs.pop(name) for name in ("num_warps", "num_stages")}
        self.given = dict(zip(kernel.arg_names, args, strict=False)) | kwargs

    @property
    def name(self) -> str:
        g = self.given
        kind = "transposed" if g.get("TRANSPOSED") else self.kernel.__name__
        return f"{kind} {g['IN']} to {g['OUT']}"

    def compile(self, folder: Path) -> tuple[str, str]:
        """Machine code for sm_90, and the resources that it takes."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        signature, constants, attributes = {}, {}, {}
        for number, name in enumerate(self.kernel.arg_names):
            value = self.given[name]
            whole = value.data_ptr() if isinstance(value, torch.Tensor) else value
            if isinstance(value, torch.Tensor):
                signature[name] = TYPES[value.dtype]
            elif name.isupper() or value is None:
                signature[name], constants[name] = "constexpr", value
                continue
            else:
                signature[name] = "i32"
            if whole % 16 == 0:
                attributes[number,] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, attributes)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=self.options)
        file = folder / "kernel.cubin"
        file.write_bytes(made.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        outputs = [
            subprocess.run([tool, what, file], capture_output=True, text=True, check=True).stdout
            for what in ("--dump-sass", "--dump-resource-usage")
        ]
        return outputs[0], outputs[1]


@pytest.fixture(scope="module")
def launched() -> dict[str, Launch]:
    """The kernels of an iteration of the `paper` preset's networks, 32 px in colour, by name."""
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter compiles nothing")
    from zssr_gan.ops import fleet_kernels

    found: dict[str, Launch] = {}

    class Recorder:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, _grid: object) -> Callable[..., None]:
            def record(*args: Any, **kwargs: Any) -> None:
                launch = Launch(self.kernel, args, kwargs)
                found[launch.name] = launch

            return record

    class Kernels:
        convolve, differentiate = Recorder(fleet_kernels.convolve), Recorder(fleet_kernels.differentiate)

    chain, parameters = chain_of([3, *[64] * 7, 3])
    chain.__dict__["kernels"] = Kernels
    packed = torch.zeros(2, parameters, requires_grad=True)
    state = [torch.zeros(2, parameters) for _ in range(2)]
    adam = Adam(packed.detach(), packed.detach().bfloat16(), *state, torch.ones(2), torch.ones(2), BETAS)
    chain(torch.zeros(2, 1, 32, 32, 3, dtype=torch.bfloat16), packed, adam).sum().backward()
    return found


NAMES = [
    f"{kind} {channels}" for kind in ("convolve", "differentiate") for channels in ("3 to 64", "64 to 64", "64 to 3")
]


@pytest.mark.parametrize("name", [*NAMES, "transposed 3 to 64", "transposed 64 to 64"])
def test_code_of_a_hopper_gpu(name: str, launched: dict[str, Launch], tmp_path: Path) -> None:
    code, resources = launched[name].compile(tmp_path)
    assert "STACK:0" in resources
    assert not re.search(r"\b(LDL|STL)\b", code), "registers spill"
    # A product with fewer than 64 rows, of the first layer's weights, is below the size of Hopper's unit.
    unit = "HMMA" if name == "differentiate 3 to 64" else "HGMMA"
    assert re.search(rf"\b{unit}", code)
    if "64 to 64" in name:  # memory is read while products are made
        assert re.search(r"\bLDGSTS", code)
