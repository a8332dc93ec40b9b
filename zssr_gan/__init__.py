"""zssr-gan: unpaired, zero-shot super-resolution for images that exist only in low resolution.

from zssr_gan import enhance
large = enhance(small, scale=2, preset="fast")
"""

from importlib import metadata

from zssr_gan.enhancement import enhance

__version__ = metadata.version("zssr-gan")
__all__ = ["__version__", "enhance"]
