"""Parts of images that stand for the whole."""

from torch import Tensor


def middle_of(image: Tensor, side: int, step: int = 1) -> Tensor:
    """The middle of `C H W`, at most `side` pixels a side, as a view; the image itself where it is no larger.

    Args:
        image: any number of channels.
        side: pixels.
        step: the part begins at a whole multiple of so many pixels, so that JPEG's blocks stay whole.
    """
    if max(image.shape[-2:]) <= side:
        return image
    top, left = (max(0, length - side) // 2 // step * step for length in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def copied_middle_of(image: Tensor, side: int, step: int = 1) -> Tensor:
    """`middle_of`, a copy where the image is larger: the rest of it can then leave the memory."""
    middle = middle_of(image, side, step)
    return image if middle is image else middle.clone()
