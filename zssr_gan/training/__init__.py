"""Stage 2: learning one generator for all images, from low-resolution images and synthetic high-resolution ones."""
