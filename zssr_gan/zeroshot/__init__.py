"""Stage 1, zero-shot super-resolution: networks trained on LR images alone, each on its own image or one for all."""
