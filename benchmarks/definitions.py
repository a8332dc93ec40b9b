"""Bicubic x2 on a folder of truths: our figures beside a computation that shares no code with them.

    python -m benchmarks.definitions DATA/set5

The other way: MATLAB's imresize (Keys' kernel, a = -0.5, widened when shrinking) as a matrix of NumPy, Y as MATLAB's
rgb2ycbcr, PSNR and SSIM by scikit-image. Says where they are further apart than 0.05 dB or 0.002, and then ends with 1.
The last column is SSIM as the seed paper read it.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.protocol import bicubic, make_case, parsed, score, show_row
from zssr_gan.evaluation.metrics.full_reference import ssim_pil
from zssr_gan.evaluation.metrics.metric import Sample

Array = NDArray[np.float64]
BORDER = 2
NEAR_DB, NEAR_SSIM = 0.05, 0.002


def keys(x: Array) -> Array:
    """Keys' kernel, a = -0.5."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def resizing(size: int, new: int) -> Array:
    """`new size`: the matrix that resizes a row; beyond the border the image is mirrored, as imresize does."""
    scale = new / size
    wide = min(scale, 1.0)
    matrix = np.zeros((new, size))
    reach = int(np.ceil(2 / wide)) + 1
    for row in range(new):
        centre = (row + 0.5) / scale - 0.5
        places = np.arange(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1)
        weights = keys(np.asarray((places - centre) * wide, dtype=np.float64))
        mirrored = np.mod(places, 2 * size)
        np.add.at(matrix[row], np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored), weights / weights.sum())
    return matrix


def resized(image: Array, height: int, width: int) -> Array:
    """`H W 3` in levels to another size, as an 8-bit file holds it."""
    rows, columns = resizing(image.shape[0], height), resizing(image.shape[1], width)
    out: Array = np.einsum("ih,hwc,jw->ijc", rows, image, columns, optimize=True)
    return np.clip(np.floor(out + 0.5), 0, 255)


def figures(result: Array, truth: Array) -> tuple[float, float]:
    """PSNR and SSIM on Y of images `H W 3` in levels."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    a, b = ((16 + image @ weights)[BORDER:-BORDER, BORDER:-BORDER] for image in (result, truth))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return peak_signal_noise_ratio(b, a, data_range=255), structural_similarity(a, b, data_range=255, **wang)


def main() -> int:
    """Print a row for each image, and the means."""
    args = parsed(__doc__, "folder")
    files, rows = sorted(args.folder.glob("*.png")), []
    show_row("image", "PSNR-Y, SSIM-Y: ours", "independent", "SSIM as SSIM-PIL")
    for file in files:
        case = make_case(file)
        ours = score(bicubic(case), case.truth)
        with Image.open(file) as opened:
            truth = np.asarray(opened.convert("RGB"), dtype=np.float64)
        height, width = (side // 2 * 2 for side in truth.shape[:2])
        truth = truth[:height, :width]
        result = resized(resized(truth, height // 2, width // 2), height, width)
        tiles = ssim_pil()(Sample(bicubic(case), case.truth)).number()
        rows.append((ours.psnr, ours.ssim, *figures(result, truth), tiles))
    means = tuple(float(mean) for mean in np.mean(rows, 0))
    for name, (a, b, c, d, tiles) in zip([*(file.stem for file in files), "mean"], [*rows, means], strict=True):
        show_row(name, f"{a:.3f} dB, {b:.4f}", f"{c:.3f} dB, {d:.4f}", f"{tiles:.4f}")
    far = [row for row in [*rows, means] if abs(row[0] - row[2]) > NEAR_DB or abs(row[1] - row[3]) > NEAR_SSIM]
    if far:
        print(f"{len(far)} rows are further apart than {NEAR_DB} dB or {NEAR_SSIM}")
    return int(bool(far))


if __name__ == "__main__":
    sys.exit(main())
