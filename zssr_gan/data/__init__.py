"""Sets of low-resolution images: readers, their split into parts and roles, and the pixels of what was split."""
