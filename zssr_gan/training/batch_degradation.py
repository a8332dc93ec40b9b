"""The cameras of a batch's images as one: each image is shrunk, and captured, as its own camera does it.

Patches are flipped and turned, and a blur that is not alike in all directions did not turn with them: such patches are
turned back first. Shapes: B images, C channels, H W rows and columns.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zssr_gan.degradation.operators import Downscale, shrink
from zssr_gan.devices import upload
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Size
from zssr_gan.training.sampling import Batch


class BatchCameras:
    """Degrades images that belong to those of a batch, one by one in their order.

    Args:
        downscales: of the cameras that batches point to.
        batch: which camera each image has, how it is turned, and its seed.
    """

    def __init__(self, downscales: Sequence[Downscale], batch: Batch) -> None:
        self.batch = batch
        # Of all cameras: what of an image counts must not depend on which others are in its batch.
        self._reach = max(downscale.reach for downscale in downscales)
        self._groups: dict[tuple[Downscale, int], list[int]] = {}
        for place, (camera, k) in enumerate(zip(batch.cameras, batch.turned, strict=True)):
            turned = 0 if k in downscales[camera].symmetries else k
            self._groups.setdefault((downscales[camera], turned), []).append(place)

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Blur and shrink `B C H W` to `size` (rows, columns)."""

        def shrink_group(downscale: Downscale, upright: Tensor, _places: Sequence[int]) -> Tensor:
            return shrink(upright, downscale, size if upright.shape[-2:] == x.shape[-2:] else (size[1], size[0]))

        return self._each(x, shrink_group)

    def margin(self, scale: int, side: int) -> int:
        """Pixels at each border of a shrunk patch on which a camera saw more than the patch shows; 0 of whole images.

        Bicubic looks two of these pixels far, and a blur further. A quarter of `side`, the shrunk patch's shorter one,
        at the most, or nothing would be left of a small one.
        """
        return min(2 + math.ceil(self._reach / scale), side // 4) if self.batch.cut else 0

    def capture(self, x: Tensor) -> Tensor:
        """Noise and compression of shrunk images `B C H W`; the same for the same images of the same batch."""

        def capture(downscale: Downscale, upright: Tensor, places: Sequence[int]) -> Tensor:
            if not downscale.captures:
                return upright
            draws = [torch.Generator().manual_seed(self.batch.seeds[place]) for place in places]
            noise = torch.stack([torch.randn(upright.shape[1:], generator=one) for one in draws])
            return downscale.capture(upright, upload(noise, upright.device).to(upright.dtype))

        return self._each(x, capture)

    def _each(self, x: Tensor, do: Callable[[Downscale, Tensor, Sequence[int]], Tensor]) -> Tensor:
        (downscale, k), places = next(iter(self._groups.items()))
        if len(self._groups) == 1 and k == 0:
            return do(downscale, x, places)
        made: dict[int, Tensor] = {}
        images = x.unbind()  # an index from the host would make it wait for a GPU
        for (downscale, k), places in self._groups.items():
            group = torch.stack([images[place] for place in places])
            done = dihedral.transform(do(downscale, dihedral.inverse(group, k), places), k)
            made |= dict(zip(places, done, strict=True))
        return torch.stack([made[place] for place in range(len(x))])
