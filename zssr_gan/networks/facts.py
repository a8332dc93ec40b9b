"""What every network declares of itself, and the refusal of an image that does not fit. One test holds all to it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from zssr_gan.errors import ImageError


@dataclass(frozen=True, slots=True)
class Facts:
    """What a caller must know to feed a network, to cut images into tiles for it, and to say what came out."""

    name: str
    """As a sentence calls it: `generator`."""
    scale: tuple[int, int] | None
    """Output pixels for one input pixel, (y, x); None where no image comes out."""
    channels: tuple[int, ...]
    """Channel counts that it takes; an image that comes out has as many."""
    smallest: int
    """Shortest side of an input, pixels."""
    receptive_field: int | None
    """Side, in input pixels, of the square on which the outputs at one place depend, of a trained network (batch
    normalisation with its kept statistics); None: on the whole image. A network that enlarges has `scale` outputs a
    side at the place of each input pixel. With a `grid`, it is that of the place that looks furthest."""
    largest: int | None = None
    """Longest side of an input, pixels; None: any."""
    grid: int = 1
    """Side, in input pixels, of the squares that are worked on as a whole, counted from the first row and column: only
    at multiples of it may an image be cut without a change of what comes out."""

    @property
    def radius(self) -> int:
        """Input pixels that are looked at beyond the own one, on each side: the overlap that tiles need."""
        if self.receptive_field is None:
            raise ValueError(f"the {self.name} looks at the whole image")
        return self.receptive_field // 2

    def check(self, x: Tensor) -> None:
        """Raise ImageError where images `... C H W` have other channels or sizes than the network takes."""
        channels, rows, columns = x.shape[-3:]
        if channels not in self.channels:
            wanted = " or ".join(map(str, self.channels))
            raise ImageError(f"the {self.name} takes images of {wanted} channels, not of {channels}.")
        size = f"not {columns}x{rows} (width x height)"
        if self.largest == self.smallest and not rows == columns == self.smallest:
            raise ImageError(f"the {self.name} takes images of {self.smallest}x{self.smallest} pixels alone, {size}.")
        if min(rows, columns) < self.smallest:
            raise ImageError(f"the {self.name} takes images of {self.smallest} pixels a side or more, {size}.")
        if self.largest is not None and max(rows, columns) > self.largest:
            raise ImageError(f"the {self.name} takes images of {self.largest} pixels a side or fewer, {size}.")


class Network(Protocol):
    """A module that declares its facts, and refuses by them in its forward pass."""

    @property
    def facts(self) -> Facts:
        """See `Facts`."""
