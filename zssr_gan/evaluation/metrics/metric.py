"""What a figure is: a value under the name of its definition, or the reason why there is none.

Tables are made of these, so that no cell is blank or made up, and no column holds figures of two definitions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from torch import Tensor

from zssr_gan.errors import FigureError
from zssr_gan.evaluation.metrics.planes import rounded

Need = Literal["truth", "lr"]

Answer = tuple[float | None, str]
"""A value and a remark on it (mostly empty), or None and why."""

_MISSING = {
    "truth": "no truth of this image is known (unpaired)",
    "lr": "the LR image that it was made from is not at hand",
}

_PACKAGES = {"skimage": "scikit-image", "torchmetrics": "torchmetrics"}
"""Modules of the extra `eval`, and their packages."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell. `why`: the reason for a value of None, or else a remark on the value, mostly empty."""

    name: str
    """Of the definition."""
    value: float | None
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse a cell that says nothing, and values that have no mean."""
        if self.value is None and not self.why:
            raise ValueError(f"{self.name}: a figure without a value says why")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.name}: {self.value} is no figure")

    def number(self) -> float:
        """The value; FigureError where there is none."""
        if self.value is None:
            raise FigureError(f"{self.name}: {self.why}.")
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image's parts, each `C H W`, C = 1 gray or 3 RGB, [0, 1]."""

    result: Tensor
    truth: Tensor | None = None
    lr: Tensor | None = None
    camera: int = 0
    """Index into the downscales that a metric was made with."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a figure measures: the head of its column, and the note below the table."""

    name: str
    """Unique among definitions."""
    meaning: str
    """How it is computed, and after whom: a sentence without its full stop."""
    unit: str
    """Empty where there is none."""
    higher_is_better: bool | None
    """None: neither is."""
    needs: tuple[Need, ...] = ()
    """Parts of a sample beside the result."""
    smallest: int = 1
    """Shortest side of a result, pixels."""
    package: str | None = None
    """Module of the extra `eval` that computes it."""

    @property
    def missing(self) -> str | None:
        """Why no image at all can have this figure on this machine; None where it can be computed."""
        if self.package is None or find_spec(self.package) is not None:
            return None
        return f"the package {_PACKAGES[self.package]} is missing: pip install 'zssr-gan[eval]'"

    def none(self, why: str) -> Figure:
        """A cell that says why it has no value."""
        return Figure(self.name, None, why)


@dataclass(frozen=True, slots=True)
class Metric:
    """A definition, and the function that computes one image's figure from what the definition needs."""

    definition: Definition
    compute: Callable[[Sample], Answer]

    def __call__(self, sample: Sample) -> Figure:
        """The figure of one image; result and truth are first put on 8-bit levels, as a file holds them.

        Raises:
            ValueError: a part is not `C H W` of 1 or 3 channels.
        """
        if why := self.definition.missing or self._refusal(sample):
            return self.definition.none(why)
        truth = None if sample.truth is None else rounded(sample.truth)
        return Figure(self.definition.name, *self.compute(replace(sample, result=rounded(sample.result), truth=truth)))

    def _refusal(self, sample: Sample) -> str:
        """Why a sample has no figure; empty where it has one."""
        needs, result, truth = self.definition.needs, sample.result, sample.truth
        for name, image in (("result", result), ("truth", truth), ("lr", sample.lr)):
            if image is None:
                if name in needs:
                    return _MISSING[name]
                continue
            if image.dim() != 3 or image.shape[0] not in (1, 3):
                raise ValueError(f"the {name} must be C H W with 1 or 3 channels, and is {tuple(image.shape)}")
            if name in ("result", *needs) and not image.isfinite().all():
                return f"the {name} holds NaN or infinity"
        if min(result.shape[-2:]) < self.definition.smallest:
            return f"needs {self.definition.smallest} pixels a side, and the result is {size_text(result)}"
        if "truth" in needs and truth is not None and truth.shape[1:] != result.shape[1:]:
            return f"the result is {size_text(result)}, its truth {size_text(truth)}"
        return ""


def size_text(image: Tensor) -> str:
    """Width and height, "64x48"."""
    return f"{image.shape[-1]}x{image.shape[-2]}"
