"""What a figure is: a value under the name of its definition, or the reason why there is none.

A table is made of these, so that a cell is never blank, zero or made up for want of a value, and so that what was
measured by two definitions cannot end in one column (`zssr_gan.evaluation.summary` refuses it).
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
"""A value and what must be said beside it (mostly nothing), or None and why."""

_LACKING = {
    "truth": "no truth of this image is known (unpaired)",
    "lr": "the LR image that it was made from is not at hand",
}

_PACKAGES = {"skimage": "scikit-image", "torchmetrics": "torchmetrics"}
"""Of each module of the extra `eval`, its package."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell. `why`: of a value that is None the reason; else what must be said beside it, mostly nothing."""

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
        """The value, for who cannot do without; FigureError where there is none."""
        if self.value is None:
            raise FigureError(f"{self.name}: {self.why}.")
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What there is of one image; each part `C H W`, C = 1 gray or 3 RGB, [0, 1]."""

    result: Tensor
    truth: Tensor | None = None
    lr: Tensor | None = None
    camera: int = 0
    """Its place among the cameras whose degradations a metric was given."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a figure is of: the head of its column, and the line below the table."""

    name: str
    """Unlike that of every other definition."""
    meaning: str
    """How it is computed, and after whom: a sentence without its full stop."""
    unit: str
    """Empty where there is none."""
    higher_is_better: bool | None
    """None: neither is."""
    needs: tuple[Need, ...] = ()
    """Beside the result."""
    smallest: int = 1
    """Shortest side of a result, pixels."""
    package: str | None = None
    """A module of the extra `eval` that it is computed with."""

    @property
    def needs_truth(self) -> bool:
        """Whether unpaired images have no such figure."""
        return "truth" in self.needs

    @property
    def requirements(self) -> str:
        """What must be there, for a person."""
        parts = [{"truth": "a truth", "lr": "the LR image"}[need] for need in self.needs]
        if self.smallest > 1:
            parts.append(f"{self.smallest} pixels a side")
        if self.package is not None:
            parts.append(f"the package {_PACKAGES[self.package]}")
        return ", ".join(parts) or "the result alone"

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
    """A definition, and how one image's figure is computed."""

    definition: Definition
    compute: Callable[[Sample], Answer]
    """Is given what the definition asks for, and no other."""

    def __call__(self, sample: Sample) -> Figure:
        """The figure of one image; result and truth are first put on 8-bit levels, as a file holds them.

        Raises:
            ValueError: something else than `C H W` of 1 or 3 channels.
        """
        if (why := self.definition.missing or _lacking(self.definition, sample)) is not None:
            return self.definition.none(why)
        truth = None if sample.truth is None else rounded(sample.truth)
        value, said = self.compute(replace(sample, result=rounded(sample.result), truth=truth))
        return Figure(self.definition.name, value, said)


def absent(definition: Definition, why: str) -> Metric:
    """A column that no image can have a figure in, such as one for want of weights: it says so in every cell."""
    return Metric(definition, lambda _: (None, why))


def told_size(image: Tensor) -> str:
    """Width and height, for a person."""
    return f"{image.shape[-1]}x{image.shape[-2]}"


def _lacking(definition: Definition, sample: Sample) -> str | None:
    parts = {"result": sample.result, "truth": sample.truth, "lr": sample.lr}
    for name, image in parts.items():
        if image is None:
            if name in definition.needs:
                return _LACKING[name]
            continue
        if image.dim() != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"the {name} must be C H W with 1 or 3 channels, and is {tuple(image.shape)}")
        if (name == "result" or name in definition.needs) and not bool(image.isfinite().all()):
            return f"the {name} holds NaN or infinity"
    if min(sample.result.shape[-2:]) < definition.smallest:
        return f"needs {definition.smallest} pixels a side, and the result is {told_size(sample.result)}"
    if definition.needs_truth and sample.truth is not None and sample.truth.shape[1:] != sample.result.shape[1:]:
        return f"the result is {told_size(sample.result)}, its truth {told_size(sample.truth)}"
    return None
