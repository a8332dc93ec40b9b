"""When a training has waited long enough for its loss to gain: settings of falling rates and of early stopping."""

from typing import Literal

from pydantic import Field

from zssr_gan.stages.base import Settings


class PatienceSettings(Settings):
    """A loss is looked at when an epoch of the generator ends."""

    of: Literal["validation", "training"] = "validation"
    """Which: the weighted content losses on the images held out, or the mean of the generator's loss over the epoch."""
    patience: int = Field(10, ge=1)
    """Epochs in a row without a gain."""
    gain: float = Field(0.0, ge=0, lt=1)
    """The loss must fall below the best one by more than this share of it to count as a gain."""


class PlateauSettings(PatienceSettings):
    """When rates fall, with `schedule: plateau`."""

    factor: float = Field(0.5, gt=0, lt=1)
    """Rates of both networks are then multiplied by this."""


class StopSettings(PatienceSettings):
    """When the training ends before its last epoch; waiting begins with the last phase."""

    patience: int = Field(20, ge=1)
    """Epochs in a row without a gain."""
