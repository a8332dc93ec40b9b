"""Blur kernels: files, refusals, the convention (correlation, from the first pixel on), and the centre."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from torch import Tensor

from zssr_gan.degradation.blur_kernels import (
    centre_of_mass,
    centred_kernel,
    checked_kernel,
    kernel_symmetries,
    load_kernel,
)
from zssr_gan.degradation.operators import KernelDownscale
from zssr_gan.errors import SettingsError

# Without any symmetry; its centre of mass lies half a pixel beyond the middle, where a kernel for x2 has to have it.
CROOKED = np.zeros((5, 5))
CROOKED[0, 1], CROOKED[4, 0], CROOKED[3, 4], CROOKED[2, 3] = 1, 2, 3, 4


def savemat_73(path: Path, content: dict[str, object]) -> None:
    """As MATLAB lays version 7.3 out: HDF5 after a header of 512 bytes, axes reversed, cells and names in #refs#."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            if isinstance(value, dict):
                file.create_group(name).attrs["MATLAB_class"] = np.bytes_("struct")
                continue
            data = np.frombuffer(value.encode("utf-16-le"), np.uint16) if isinstance(value, str) else value
            data = np.atleast_2d(np.asarray(data))
            if np.iscomplexobj(data):
                pairs = np.zeros(data.shape, [("real", "f8"), ("imag", "f8")])
                pairs["real"], pairs["imag"] = data.real, data.imag
                data = pairs
            kind = "char" if isinstance(value, str) else {"float32": "single", "uint8": "uint8"}.get(str(data.dtype))
            file.create_dataset(name, data=data.T).attrs["MATLAB_class"] = np.bytes_(kind or "double")
        file.create_dataset("#refs#/a", data=CROOKED.T).attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM")


class TestFiles:
    @pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.uint8])
    def test_npy_and_mat_as_kernelgan_writes_it(self, tmp_path: Path, kind: type) -> None:
        (tmp_path / "k.NPY").touch()
        with (tmp_path / "k.NPY").open("wb") as file:
            np.save(file, CROOKED.astype(kind))
        savemat(tmp_path / "k.mat", {"Kernel": CROOKED.astype(kind)})
        for name in ("k.NPY", "k.mat"):
            kernel = load_kernel(tmp_path / name)
            assert kernel.dtype == torch.float64
            assert np.allclose(kernel.numpy(), CROOKED / CROOKED.sum(), atol=1e-15)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("gone/none.mat", None, "no such kernel file"),
            ("folder.mat", "folder", "Is a directory"),
            ("k.mat", b"1 2 3\n4 5 6\n", "the file holds text, not an array; write it again by MATLAB's save"),
            ("k.npy", b"[[1, 2], [3, 4]]", "the file holds text"),
            ("k.mat", b"MATLAB 5.0 MAT-file Platform: posix", "the file is cut short, damaged"),
            ("k.npy", b"PK\x03\x04\0\0", "cut short, damaged or of another kind"),
            ("k.mat", b"", "the file is empty"),
            ("k.npy", np.array([{"a": 1}], dtype=object), "holds Python objects; save an array of numbers"),
            ("none.npy", None, "no such kernel file"),
            ("k.png", b"", "a .mat file or a .npy array"),
            *(
                (name, content, "cannot be read as a kernel")
                for name in ("k.mat", "k.npy")
                for content in (b"", b"not a kernel", b"\x93NUMPY\x01\x00")
            ),
            ("k.npy", np.array([{"a": 1}], dtype=object), "cannot be read as a kernel"),  # pickles are not opened
            ("k.npy", np.zeros((3, 3)), "sum above zero"),
            ("k.mat", b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "cannot be read as a kernel"),
        ],
    )
    def test_refused_by_name(self, tmp_path: Path, name: str, content: object, words: str) -> None:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, np.ndarray):
            np.save(path, content, allow_pickle=True)
        elif content == "folder":
            path.mkdir()
        with pytest.raises(SettingsError) as caught:
            load_kernel(path)
        assert str(path) in str(caught.value)
        assert words in str(caught.value)

    @pytest.mark.parametrize("write", [savemat, partial(savemat, format="4"), savemat_73])
    @pytest.mark.parametrize("values", [CROOKED, CROOKED[:, :3], CROOKED.astype(np.float32), np.uint8(CROOKED)[:1]])
    @pytest.mark.parametrize(
        "beside", [{}, {"scale": 2.0, "name": "blur"}, {"k": np.zeros((3, 3, 2))}, {"sizes": np.array([[5.0, 5.0]])}]
    )
    def test_the_only_matrix_of_a_mat_file_whatever_its_name(
        self, tmp_path: Path, write: Callable[..., None], values: np.ndarray, beside: dict[str, object]
    ) -> None:
        if "sizes" in beside and len(values) == 1:
            return  # two rows: neither is plainly the kernel
        if getattr(write, "keywords", {}).get("format") == "4":
            beside = {name: value for name, value in beside.items() if np.ndim(value) < 3}
        write(tmp_path / "k.mat", {**beside, "ker": values})
        assert np.allclose(load_kernel(tmp_path / "k.mat").numpy(), values / values.sum(), atol=1e-7)
        write(tmp_path / "k.mat", {**beside, "ker": np.ones((4, 4)), "Kernel": values})
        assert np.allclose(load_kernel(tmp_path / "k.mat").numpy(), values / values.sum(), atol=1e-7)

    @pytest.mark.parametrize("write", [savemat, savemat_73])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ({"a": CROOKED, "b": CROOKED[:4]}, "several variables that may be the kernel"),
            ({"a": np.zeros((3, 3, 2)), "b": "text", "c": 1.0, "s": {"k": CROOKED}}, "holds no matrix of numbers"),
            ({"s": {"Kernel": CROOKED}}, "struct.*: save the matrix inside it as a variable 'Kernel'"),
            ({"Kernel": "text"}, "char.*: save the kernel as a matrix 'Kernel'"),
            ({}, "the file holds nothing"),
            ({"a": CROOKED * 1j}, "complex"),
        ],
    )
    def test_else_what_a_mat_file_holds_is_listed(
        self, tmp_path: Path, write: Callable[..., None], content: dict[str, object], words: str
    ) -> None:
        write(tmp_path / "k.mat", content)
        with pytest.raises(SettingsError, match=words) as caught:
            load_kernel(tmp_path / "k.mat")
        if len(content) > 1:
            assert "a (5x5 double), b (4x5 double)" in str(caught.value) or "a (3x3x2 double), b (" in str(caught.value)

    def test_cells_are_named(self, tmp_path: Path) -> None:
        cells = np.empty((1, 2), dtype=object)
        cells[0, 0] = cells[0, 1] = CROOKED
        savemat(tmp_path / "k.mat", {"kernels": cells})
        with pytest.raises(
            SettingsError, match=r"kernels \(1x2 cell\)\): save the matrix inside it as a variable 'Kernel'"
        ):
            load_kernel(tmp_path / "k.mat")

    @pytest.mark.parametrize("compressed", [False, True])
    def test_every_cut_of_a_file_is_one_sentence(self, tmp_path: Path, compressed: bool) -> None:
        savemat(tmp_path / "k.mat", {"Kernel": CROOKED}, do_compression=compressed)
        np.save(tmp_path / "k.npy", CROOKED)
        for name in ("k.mat", "k.npy"):
            data = (tmp_path / name).read_bytes()
            for end in range(9, len(data), 7):
                (tmp_path / name).write_bytes(data[:end])
                with pytest.raises(
                    SettingsError, match=r"cut short|holds no matrix of numbers \(the file holds nothing\)"
                ):
                    load_kernel(tmp_path / name)

    def test_the_working_directory_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SettingsError) as caught:
            load_kernel(Path("k.mat"))
        assert str(caught.value).startswith(f"k.mat: no such kernel file in the working directory {tmp_path}")

    def test_the_damaged_first_bytes_of_version_73_are_one_sentence(self, tmp_path: Path) -> None:
        savemat_73(tmp_path / "k.mat", {"Kernel": CROOKED})
        data = (tmp_path / "k.mat").read_bytes()
        for end in (530, 600, len(data) // 2):
            (tmp_path / "k.mat").write_bytes(data[:end])
            with pytest.raises(SettingsError, match=r"k\.mat: cannot be read as a kernel"):
                load_kernel(tmp_path / "k.mat")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((3, 3), np.nan), "NaN or infinity"),
        (np.array([[1, np.inf]]), "NaN or infinity"),
        (np.array([[1.0, -1.0]]), "sum above zero"),
        (-np.ones((3, 3)), "sum above zero"),
        (np.ones((3, 3, 1)), "two dimensions"),
        (np.ones(3), "two dimensions"),
        (np.ones((0, 3)), "two dimensions"),
        (np.ones((130, 1)), "at most 129"),
        ([[1, 2], [3]], "not an array of numbers"),
        ("blur", "not an array of numbers"),
    ],
)
def test_refused_in_one_sentence(values: object, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        checked_kernel(values)


def test_lists_negative_lobes_and_the_largest_are_taken() -> None:
    assert checked_kernel([[1, 2], [3, 4]]).tolist() == pytest.approx(np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert checked_kernel(np.ones((129, 129))).shape == (129, 129)
    assert float(checked_kernel([[-1, 4, -1]]).min()) == -0.5


class TestConvention:
    def test_correlated_not_convolved_then_every_second_pixel_from_the_first(self) -> None:
        """Against two loops, on a kernel that needs no move: LR pixel i is centred at HR 2 i + 0.5."""
        assert centre_of_mass(torch.from_numpy(CROOKED)) == pytest.approx((2.5, 2.5))
        image = np.random.default_rng(0).random((20, 24))
        padded = np.pad(image, 2, mode="edge")
        expected = np.zeros((10, 12))
        for i in range(10):
            for j in range(12):
                expected[i, j] = (padded[2 * i : 2 * i + 5, 2 * j : 2 * j + 5] * CROOKED).sum() / CROOKED.sum()
        out = KernelDownscale(torch.from_numpy(CROOKED), (2, 2))(torch.from_numpy(image)[None, None], (10, 12))[0, 0]
        assert np.allclose(out.numpy(), expected, atol=1e-9)

    @pytest.mark.parametrize("side", [3, 4, 9, 12])
    @pytest.mark.parametrize("scale", [1, 2, 3, 4])
    def test_a_delta_off_centre_does_not_move_the_image(self, side: int, scale: int, astronaut: Tensor) -> None:
        images = []
        for row, column in ((0, 0), (side - 1, 1), (side // 2, side // 2), (1, side - 1)):
            kernel = torch.zeros(side, side)
            kernel[row, column] = 1
            size = (-(-64 // scale),) * 2
            images.append(KernelDownscale(kernel, (scale, scale))(astronaut[None], size))
        # Half a pixel's move is interpolated by a spline whose tails the kernel's margin cuts: nearly the same then.
        tolerance = 1e-6 if scale % 2 else 0.02
        assert all(torch.allclose(image, images[0], atol=tolerance) for image in images)
        if scale % 2:  # the block's middle is a pixel, so that a delta takes just that
            first = (scale - 1) // 2
            expected = astronaut[None, :, first::scale, first::scale]
            inner = (..., slice(0, expected.shape[-2]), slice(0, expected.shape[-1]))
            assert torch.allclose(images[0][inner], expected, atol=1e-6)


class TestCentred:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        shape=st.tuples(st.integers(1, 13), st.integers(1, 13)),
        scale=st.tuples(st.integers(1, 8), st.integers(1, 8)),
        seed=st.integers(0, 99),
    )
    def test_odd_sides_sum_one_and_the_centre_of_the_block(
        self, shape: tuple[int, int], scale: tuple[int, int], seed: int
    ) -> None:
        kernel = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 2 + 1e-3
        out = centred_kernel(kernel, scale)
        assert all(side % 2 for side in out.shape)
        assert float(out.sum()) == pytest.approx(1)
        for mass, side, factor in zip(centre_of_mass(out), out.shape, scale, strict=True):
            assert mass == pytest.approx(side // 2 + (factor - 1) / 2, abs=0.1)

    def test_whole_moves_are_exact(self) -> None:
        """Moved by whole pixels, a kernel keeps its very numbers."""
        kernel = torch.zeros(7, 7, dtype=torch.float64)
        kernel[0:3, 1:4] = torch.tensor([[1.0, 2, 3], [4, 5, 4], [3, 2, 1]])
        out = centred_kernel(kernel, (1, 1))
        row, column = out.shape[0] // 2, out.shape[1] // 2
        kept = out[row - 1 : row + 2, column - 1 : column + 2]
        assert torch.allclose(kept, kernel[0:3, 1:4] / kernel.sum(), atol=1e-12)
        assert float(out.abs().sum()) == pytest.approx(1)

    def test_nothing_is_cut_off(self) -> None:
        """All weight at one corner of a large kernel."""
        kernel = torch.zeros(31, 31)
        kernel[30, 0] = 1
        out = centred_kernel(kernel, (1, 1))
        assert float(out[out.shape[0] // 2, out.shape[1] // 2]) == pytest.approx(1)


class TestSymmetries:
    """Which flips and turns a kernel bears: an image in any of the others was not blurred by it."""

    @staticmethod
    def gaussian(along: float, across: float, angle: float) -> torch.Tensor:
        rows, columns = torch.meshgrid(torch.arange(-6.0, 7), torch.arange(-6.0, 7), indexing="ij")
        turn = torch.tensor(angle)
        u, v = columns * turn.cos() + rows * turn.sin(), rows * turn.cos() - columns * turn.sin()
        return torch.exp(-(u**2) / (2 * along**2) - v**2 / (2 * across**2)).double()

    def test_round_upright_and_tilted(self) -> None:
        assert kernel_symmetries(self.gaussian(1.5, 1.5, 0)) == tuple(range(8))
        assert kernel_symmetries(self.gaussian(2.0, 1.0, 0)) == (0, 2, 4, 6)
        assert kernel_symmetries(self.gaussian(2.0, 1.0, 0.6)) == (0, 2)

    def test_none_but_the_first(self) -> None:
        assert kernel_symmetries(torch.tensor([[6.0, 2, 0], [2, 0, 0], [1, 0, 0]])) == (0,)
