"""Tensors of N independent networks, of which some stop while others take their places."""

from typing import Any, Self

import torch
from torch import Tensor


class PerNetwork:
    """A state of N networks whose tensors all have the networks as first dimension.

    Attributes are tensors, lists of them, states like this one, or values that all networks share.
    """

    @torch.no_grad()
    def select(self, places: Tensor) -> None:
        """Keep only the networks at `places` (int64), in that order."""
        for name, value in vars(self).items():
            setattr(self, name, _selected(value, places))

    @torch.no_grad()
    def assign(self, places: Tensor, other: Self) -> None:
        """Replace the networks at `places` by all networks of `other`, in order."""
        for name, value in vars(self).items():
            _assign(value, places, getattr(other, name))


def _selected(value: Any, places: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[places]
    if isinstance(value, PerNetwork):
        value.select(places)
    return [_selected(each, places) for each in value] if isinstance(value, list) else value


def _assign(value: Any, places: Tensor, other: Any) -> None:
    if isinstance(value, Tensor):
        value[places] = other
    elif isinstance(value, PerNetwork):
        value.assign(places, other)
    elif isinstance(value, list):
        for mine, theirs in zip(value, other, strict=True):
            _assign(mine, places, theirs)
