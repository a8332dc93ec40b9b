"""Blur kernels from files, and where their centre must lie.

Conventions (Shocher et al., ZSSR; Bell-Kligler et al., KernelGAN): a kernel is given in pixels of the larger image
and is correlated with it, not convolved; the LR image is every s-th pixel of the outcome, from the first on.
"""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.errors import SettingsError
from zssr_gan.files import why_unreadable
from zssr_gan.imaging.dihedral import ALL, transform

_MAX_SIDE = 129

_HDF5 = b"\x89HDF\r\n\x1a\n"

_NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
"""MATLAB's classes of numbers."""


def load_kernel(path: Path) -> Tensor:
    """Read a blur kernel from a `.mat` file (up to version 7.3) or a `.npy` array.

    Of a `.mat` file the variable `Kernel` is taken, as KernelGAN writes it, else the only matrix of numbers.

    Returns:
        `k l` float64, normalised to sum 1, as it lies in the file (not flipped, not shifted).

    Raises:
        SettingsError: not readable, not two-dimensional, NaN or infinite, sum not above zero, or too large.
    """
    if path.suffix.lower() not in (".mat", ".npy"):
        raise SettingsError(f"{path}: a kernel is a .mat file or a .npy array")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {why_unreadable(path, error, 'kernel file')}") from error
    try:
        values = _from_mat(data) if path.suffix.lower() == ".mat" else np.load(io.BytesIO(data), allow_pickle=False)
        return checked_kernel(values)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    except Exception as error:  # scipy and numpy raise many kinds on a damaged file; all mean the same to a user
        raise SettingsError(f"{path}: cannot be read as a kernel: {_why_ill(data)}") from error


def _why_ill(data: bytes) -> str:
    """What is wrong with a .mat or .npy file that cannot be taken apart, and the mend."""
    again = "write it again by MATLAB's save or by numpy.save"
    if data.isascii() and b"\0" not in data and not data.startswith((b"MATLAB", b"\x93NUMPY")):
        return f"the file {'holds text' if data else 'is empty'}, not an array; {again}"
    if b"dtype('O')" in data[:128] or b"'|O'" in data[:128]:
        return "it holds Python objects; save an array of numbers"
    return f"the file is cut short, damaged or of another kind; copy it again, or {again}"


def _from_mat(data: bytes) -> NDArray[Any]:
    """The kernel's variable of a MATLAB file. Raises SettingsError where none is plainly the kernel."""
    file = io.BytesIO(data)
    if _HDF5 in (data[:8], data[512:520]):  # version 7.3, after MATLAB's own header
        import h5py  # see below

        with h5py.File(file, "r") as content:
            variables = {name: _class_and_shape(item) for name, item in content.items() if name[0] != "#"}
            values = np.asarray(content[_kernel_variable(variables)]).T  # HDF5 has the axes in C's order
            return values["real"] + 1j * values["imag"] if values.dtype.names == ("real", "imag") else values
    from scipy.io import loadmat, whosmat  # half a second to import, and few runs have a kernel

    variables = {name: (kind, shape) for name, shape, kind in whosmat(file)}
    name = _kernel_variable(variables)
    return np.asarray(loadmat(io.BytesIO(data), variable_names=[name])[name])


def _class_and_shape(item: Any) -> tuple[str, tuple[int, ...]]:
    """MATLAB's class and size of a variable that lies in HDF5."""
    kind = item.attrs.get("MATLAB_class", b"")
    if not hasattr(item, "shape"):  # a group
        return "struct", (1, 1)
    if item.attrs.get("MATLAB_empty", 0):
        return "empty", (0, 0)
    plain = {"f": "double", "i": "int64", "u": "uint64", "b": "logical"}.get(item.dtype.kind, "unknown")
    return (kind.decode() if isinstance(kind, bytes) and kind else plain), item.shape[::-1]


def _kernel_variable(variables: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    """The name of the variable, among those with these classes and sizes, that is the kernel; see `load_kernel`."""
    numbers = {name: shape for name, (kind, shape) in variables.items() if kind in _NUMBERS}
    if "Kernel" in numbers:
        return "Kernel"
    two_dimensional = {name: shape for name, shape in numbers.items() if len(shape) == 2 and 0 not in shape}
    # A matrix before a row or column, which may be a kernel too; MATLAB's scalars are 1x1.
    for smallest in (2, 1):
        found = [n for n, shape in two_dimensional.items() if min(shape) >= smallest and max(shape) > 1]
        if len(found) == 1:
            return found[0]
        if found:
            break
    held = ", ".join(f"{name} ({'x'.join(map(str, shape))} {kind})" for name, (kind, shape) in variables.items())
    if found:
        raise SettingsError(f"holds several variables that may be the kernel ({held}): name the kernel's 'Kernel'")
    inside = any(kind in ("struct", "cell", "object") for kind, _ in variables.values())
    mend = "save the matrix inside it as a variable 'Kernel'" if inside else "save the kernel as a matrix 'Kernel'"
    raise SettingsError(f"holds no matrix of numbers ({held or 'the file holds nothing'}): {mend}")


def checked_kernel(values: object) -> Tensor:
    """Normalise a kernel given as an array or nested lists.

    Returns:
        `k l` float64 of sum 1.

    Raises:
        SettingsError: not two-dimensional, NaN or infinite, sum not above zero, or a side above 129.
    """
    try:
        given = np.asarray(values)
        if np.iscomplexobj(given):
            raise SettingsError("the kernel holds complex numbers")
        kernel = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise SettingsError("the kernel is not an array of numbers") from error
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise SettingsError(f"a kernel has two dimensions, this one has the shape {kernel.shape}")
    if max(kernel.shape) > _MAX_SIDE:
        raise SettingsError(f"a kernel has at most {_MAX_SIDE} pixels a side, this one is {kernel.shape}")
    if not np.isfinite(kernel).all():
        raise SettingsError("the kernel holds NaN or infinity")
    if kernel.sum() <= 1e-8 * np.abs(kernel).sum() or not np.abs(kernel).sum():
        raise SettingsError(f"the kernel must have a sum above zero, this one sums to {kernel.sum():g}")
    return torch.from_numpy(kernel / kernel.sum())


def centre_of_mass(kernel: Tensor) -> tuple[float, float]:
    """Centre of mass of `k l` in pixels (row, column), the first pixel's centre being 0."""
    rows = (kernel.sum(1) * torch.arange(kernel.shape[0])).sum() / kernel.sum()
    columns = (kernel.sum(0) * torch.arange(kernel.shape[1])).sum() / kernel.sum()
    return float(rows), float(columns)


def centred_kernel(kernel: Tensor, scale: tuple[int, int]) -> Tensor:
    """Move a kernel so that taking every s-th pixel, from the first on, does not move the image.

    The LR pixel i covers the HR pixels s*i to s*i + s - 1, whose centre lies (s - 1) / 2 beyond the first. The
    kernel's centre of mass is moved there, by cubic interpolation where the way is not a whole number of pixels.

    Returns:
        `m n` float64, both odd, sum 1, centre of mass at (m // 2 + (sy - 1) / 2, n // 2 + (sx - 1) / 2).
    """
    from scipy.ndimage import shift  # see load_kernel

    way = []
    pad = []
    for axis, mass in enumerate(centre_of_mass(kernel)):
        side = kernel.shape[axis]
        target = (scale[axis] - 1) / 2
        # Room for the move on both sides, and an odd side at the end so that the middle pixel is the centre.
        # ... and 4 for the tails of the interpolation.
        margin = math.ceil(abs(mass - (side - 1) / 2) + target) + 4
        pad.append((margin, margin + (side + 1) % 2))
        way.append((side + 2 * margin + (side + 1) % 2) // 2 + target - (margin + mass))
    values = np.pad(kernel.double().numpy(), pad)
    # A twentieth of a pixel is the noise of estimation; moving that little would only blur the kernel.
    if max(abs(w) for w in way) > 0.05:
        whole = [round(w) if abs(w - round(w)) <= 0.05 else w for w in way]
        values = shift(values, whole, order=3 if any(w != round(w) for w in whole) else 0, mode="constant")
    return torch.from_numpy(values / values.sum())


def kernel_symmetries(kernel: Tensor) -> tuple[int, ...]:
    """The flips and turns (`imaging.symmetries`) that leave a kernel as it is, but for a tenth of its weight.

    Every kernel has the first, a tilted Gaussian the half turn too, a round one all eight.
    """
    centred = centred_kernel(kernel, (1, 1))
    side = max(centred.shape)
    rows, columns = ((side - n) // 2 for n in centred.shape)  # both sides are odd, so their difference is even
    square = torch.nn.functional.pad(centred, (columns, columns, rows, rows))
    weight = square.abs().sum()
    return tuple(k for k in ALL if (transform(square, k) - square).abs().sum() / 2 <= 0.1 * weight)
