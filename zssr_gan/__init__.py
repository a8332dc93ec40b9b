"""zssr-gan: unpaired, zero-shot super-resolution for images that exist only in low resolution.

from zssr_gan import enhance
large = enhance(small, scale=2, preset="fast")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zssr_gan.inference.arrays import enhance
    from zssr_gan.provenance import VERSION as __version__
    from zssr_gan.training.model_card import load_generator
    from zssr_gan.video.fuse import fuse


__all__ = ["__version__", "enhance", "fuse", "load_generator"]


def __getattr__(name: str) -> Any:
    """The functions, imported when first asked for: torch takes seconds to import, and `--version` needs none."""
    if name == "__version__":
        from zssr_gan.provenance import VERSION

        return VERSION
    if name == "enhance":
        from zssr_gan.inference.arrays import enhance

        return enhance
    if name == "fuse":
        from zssr_gan.video.fuse import fuse

        return fuse
    if name == "load_generator":
        from zssr_gan.training.model_card import load_generator

        return load_generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
