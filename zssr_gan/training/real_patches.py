"""What the discriminator takes for real."""

from collections.abc import Callable, Mapping

from torch import Tensor

from zssr_gan.errors import SettingsError
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.imaging.resize import reduced_size, resize
from zssr_gan.networks.base import Facts
from zssr_gan.settings.train import RealSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.sampling import Batch, Images, Sampler

_OF_LR = ("lr", "shrunk")
"""Kinds that are patches of LR images; the others are HR images, synthetic ones or truths."""


class RealPatches:
    """Batches of what the discriminator takes for real, by kind: synthetic HR images, truths, patches of LR images.

    Synthetic images are only as sharp as stage 1. How sharp an edge is pixel by pixel, the LR images show themselves:
    as they are (`lr`), and shrunk by bicubic (`shrunk`), which halves the blur and takes much of the noise. The faces
    in such patches are too small, so a discriminator should look at few pixels at once. A kind's patches have a size of
    their own, so each kind goes through the discriminator by itself: batch normalisation never mixes kinds.

    Args:
        settings: the group `train.reals`.
        data: what is learnt from.
        patch: side of LR patches, pixels; None: whole images. Shrunk images are cut to as much of the scene.
        sampler: makes one of images, with `stream` and `patch`.
    """

    weights: Mapping[str, float]
    """Of each kind that is drawn, by name; they sum to 1."""

    def __init__(
        self, settings: RealSettings, data: TrainingData, patch: int | None, sampler: Callable[..., Sampler]
    ) -> None:
        total = sum(settings.weights.values())
        self.weights = {kind: weight / total for kind, weight in settings.weights.items() if weight}
        self.scale, self._samplers = data.scale, dict[str, Sampler]()
        for kind in self.weights:
            if kind == "shrunk":
                small = None if patch is None else patch // data.scale
                images = shrunk(lr_images(data), data.scale)
                self._samplers[kind] = sampler(images, stream="reals, shrunk", patch=small)
            elif kind == "lr":
                self._samplers[kind] = sampler(lr_images(data), stream="reals, lr", patch=patch)
            else:
                self._samplers[kind] = sampler(data.reals, stream="reals", patch=patch)

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number` of each kind, `B C H W` in [0, 1]: this process's part of it."""
        drawn = {kind: sampler.batch(number) for kind, sampler in self._samplers.items()}
        return {kind: one.lr if one.hr is None else one.hr for kind, one in drawn.items()}

    def beside(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """What the generator's outputs on `batch` are compared with: its own HR images where all that is real are such
        ones, else batch `number` of each kind."""
        kind, *others = self.weights
        if batch.hr is not None and not others and kind not in _OF_LR:
            return {kind: batch.hr}
        return self.batch(number)

    def check(self, facts: Facts) -> list[str]:
        """Return what a user should know of a discriminator with these facts, a sentence each.

        Raises SettingsError where it does not take all kinds.
        """
        warnings = []
        for kind in filter(self.weights.get, _OF_LR):
            if facts.largest is not None and self.scale > 1:
                raise SettingsError(
                    f"train.reals.{kind}: its patches are smaller than synthetic HR images, and the discriminator "
                    "takes one size alone: set train.discriminator.options.head to patch."
                )
            sampler, field = self._samplers[kind], facts.receptive_field
            side = sampler.patch or min(sampler.images.size(0))
            # It learns all the same, so this is no error: but what it learns is no longer edges alone.
            if field is None or field > side:
                sees = "the whole image" if field is None else f"{field} pixels"
                warnings.append(
                    f"the discriminator looks at {sees} at once, and train.reals.{kind} gives patches of {side}: it "
                    "can tell them by what they show, not by their edges alone; take train.discriminator.options.head "
                    "patch, and fewer of its blocks"
                )
        return warnings


def lr_images(data: TrainingData) -> Images:
    """All LR images that a run trains on, the generator's and those that have a synthetic HR, each once."""
    found = {
        name: (lr, camera)
        for images in (data.inputs, data.reals)
        if isinstance(images, Images)
        for name, lr, camera in zip(images.ids, images.lr, images.cameras, strict=True)
    }
    lrs, cameras = zip(*found.values(), strict=True)
    return Images(tuple(found), lrs, None, cameras)


def shrunk(images: Images, scale: int) -> Images:
    """LR images made smaller by bicubic alone: what blur they have shrinks with them. On 8-bit levels."""
    sizes = [reduced_size((lr.shape[-2], lr.shape[-1]), (scale, scale)) for lr in images.lr]
    small = [to_levels(resize(from_levels(lr), size)) for lr, size in zip(images.lr, sizes, strict=True)]
    return Images(images.ids, tuple(small), None, images.cameras)
