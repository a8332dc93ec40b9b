"""The group `evaluate`: what the tables and figures are made of."""

from typing import Annotated, Literal

from pydantic import Field

from zssr_gan.settings.base import Settings
from zssr_gan.settings.data import Kind, SourceSettings
from zssr_gan.settings.train import MediatorSettings


class SetSettings(SourceSettings):
    """A set of images, and how the zero-shot way enlarges them."""

    kind: Kind = "folder"
    """As a source's."""
    preset: str = "quality"
    """Zero-shot settings of the network that is learnt on all LR images together; of `sets`, on each."""


class TruthSettings(SetSettings):
    """Images of high resolution, which are made small: what methods make of these is compared with them."""

    side: int = Field(64, ge=16, le=1024)
    """Truths are resized to this side in pixels; a multiple of the scale."""
    alone: str | None = None
    """Zero-shot settings of a network of each small image's own, the slowest of the methods; null: there is none."""
    train: bool = True
    """Whether a generator is trained, by the run's group `train`, on the small images and nothing else: the whole
    unpaired way, as where no truth is known."""
    models: Literal["beside"] | Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Other generators that stand in the table too, by their files or by the names of runs beside this one; `beside`:
    of all runs beside this one that enlarge by as much, so that the table depends on what lies there. None of them sees
    a truth that it was trained on."""
    blind: int = Field(0, ge=0, le=100)
    """So many groups of these images (of 100 each, where there are as many) are blurred, made noisy and compressed too,
    each in a way of its own that no method knows; 0: none."""
    tracks: int = Field(0, ge=0)
    """At most so many of these images are also seen in nine moved, noisy and compressed frames each, which are fused;
    0: none."""


class EvaluateSettings(Settings):
    """What the tables and figures are made of."""

    most: int | None = Field(1000, ge=1)
    """At most so many images of a role are measured, drawn by the run's seed; null: all."""
    features: MediatorSettings = MediatorSettings()
    """What perceptual and Frechet distance look through."""
    lpips: str | None = None
    """A file of AlexNet's or VGG16's weights with those of LPIPS (`lin.0` ...), .pth or .safetensors; null: AlexNet's
    by the package `lpips`, where it is installed and its network's weights are on this machine."""
    inception: str | None = None
    """A file of FID's Inception, the port of the graph of 2015-12-05, .pth or .safetensors; null: there is no FID."""
    truth: TruthSettings | None = None
    """Where truths are known; null: nowhere."""
    sets: Annotated[tuple[SetSettings, ...], Field(strict=False)] = ()
    """Where truths are known at their own sizes; `name: Set5` puts what was published on it beside."""
    native: Annotated[tuple[SetSettings, ...], Field(strict=False)] = ()
    """LR images that nothing was made of before, to look at: of them no truth is known."""
