"""Settings of how a case's degradation is estimated. They know no torch."""

from pydantic import Field

from zssr_gan.config import StrictSettings


class EstimationSettings(StrictSettings):
    """How the degradation of a case is estimated from its LR images."""

    tiles: int = Field(200, ge=8)
    """At most so many parts of images are looked at, evenly chosen."""
    tile: int = Field(64, ge=16, le=512)
    """Largest side of a tile in pixels; larger images are cut into tiles."""
    window_step: int = Field(2, ge=1, le=8)
    """Pixels between two windows of 8x8."""
    survival_weight: float = Field(0.2, ge=0)
    """Of JPEG files: weight of how often coefficients survive, the power spectrum's being 1."""
    quiet_share: float = Field(0.2, gt=0, le=1)
    """Share of the windows, those with the least at low frequencies, that tell compressed images' noise."""
    colours_trusted: float = Field(1.5, ge=1)
    """Noise that is read from what colours do not share is believed where freeing it does not make the misfit smaller
    by this factor."""
    noise_tolerance: float = Field(1.02, ge=1)
    """Of compressed images: the least noise is taken whose misfit is within this factor of the best."""
    trials: int = Field(150, ge=20)
    """Blurs tried in one search, at most."""
    tolerance: float = Field(0.005, gt=0)
    """A search ends where its blurs differ by less, in pixels of the LR image."""
    parts: int = Field(5, ge=2, le=32)
    """The set is dealt into so many parts; how their estimates differ tells how sure the whole is."""
    fewest: int = Field(10, ge=2)
    """Tiles that an estimate needs."""
    certainty: float = Field(2.0, gt=0)
    """The estimate is used where it is further from bicubic than its own uncertainty by this factor ..."""
    recurrence: float = Field(8.0, ge=1)
    """... and the images recur under it so much better than under bicubic: the ratio of the misfits. No scene recurs
    exactly, so that images that were not blurred have a ratio of 1 to 6 and seem blurred by 0.3 LR pixels."""
