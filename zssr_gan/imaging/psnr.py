"""PSNR out of a mean squared error, as every figure of ours states it."""

import math

HIGHEST_DB = 100.0
"""What an exact agreement counts as: infinity has no mean, and JSON no word for it."""


def psnr_db(mean_squared_error: float) -> float:
    """PSNR in dB of an error in [0, 1] units squared, at most 100."""
    return min(HIGHEST_DB, -10 * math.log10(max(mean_squared_error, 1e-10)))
