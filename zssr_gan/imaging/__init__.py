"""Pixels: files in and out, resampling and blur kernels, the eight symmetries, tiles, and sheets for the eye."""
