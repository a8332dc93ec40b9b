"""Stage 1: what one LR image teaches. Pairs out of the image, schedules, training, ensemble, and the choice."""
