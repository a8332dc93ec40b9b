"""What the names of images and videos end in, in lower case."""

IMAGE_EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".avif", ".heic", ".heif", ".hif"}
)
"""Of images that can be read."""

VIDEO_EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".asf", ".flv",
    ".3gp", ".vob", ".ogv", ".mxf", ".nut", ".dav", ".h264", ".264", ".h265", ".265", ".hevc",
)  # fmt: skip
"""Of videos; whether one can be read is the decoder's to say."""

READ_KINDS = ("PNG", "JPEG", "TIFF", "BMP", "WebP", "AVIF", "HEIC")
"""Kinds of image files that are read, as people call them; HEIC by the extra `heif`."""
