"""Synthetic HR images of prepared LR ones: many images' zero-shot work in one fleet, and what the store keeps of each.

Shapes: C channels, H W rows and columns.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zssr_gan.config import ZeroShotSettings
from zssr_gan.data.cameras import Camera, Cameras
from zssr_gan.data.prepared import Prepared, PreparedImage
from zssr_gan.data.shard import StoredImage
from zssr_gan.devices import Machine
from zssr_gan.errors import DeviceError, ImageError, ZssrGanError, is_out_of_memory
from zssr_gan.imaging.codecs import Metadata
from zssr_gan.imaging.picture import Picture, quantise, to_samples
from zssr_gan.imaging.psnr import psnr_db
from zssr_gan.imaging.resampling import Scale
from zssr_gan.record import finite_json
from zssr_gan.zeroshot.fleet import Tick, Work, run_fleet
from zssr_gan.zeroshot.plan import SMALLEST_SIDE
from zssr_gan.zeroshot.shared import SharedStart
from zssr_gan.zeroshot.superresolve import SuperResolved, super_resolving


@dataclass(frozen=True, slots=True)
class Failed:
    """An image that could not be made, and why, in one sentence."""

    id: str
    why: str


@dataclass(frozen=True)
class Synthesiser:
    """Makes synthetic HR images.

    Args:
        images: the LR images.
        settings: zero-shot settings; those for a case where there is a shared start.
        scale: (y, x).
        seed: the run's.
        machine: what it runs on.
        shared: the network learnt on the case, else each image has its own.
        cameras: how each LR image came out of an HR one.
    """

    images: Prepared
    settings: ZeroShotSettings
    scale: Scale
    seed: int
    machine: Machine
    shared: SharedStart | None = None
    cameras: Cameras = field(default_factory=Cameras)

    def run(
        self,
        numbers: Iterable[int],
        capacity: int,
        *,
        on_tick: Callable[[Tick], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Iterator[StoredImage | Failed]:
        """Make the images of these numbers, taken one by one as places in the fleet become free.

        Args:
            numbers: places in `images`.
            capacity: networks in training side by side.
            on_tick, on_notice: see `run_fleet`.
        """
        works = ((number, self._work(number, capacity)) for number in numbers)
        for ended in run_fleet(works, capacity, on_tick=on_tick, on_notice=on_notice):
            if ended.error is not None:
                yield Failed(self.images.member(ended.key).id, str(ended.error))
            else:
                assert ended.result is not None
                yield ended.result

    def _work(self, number: int, capacity: int) -> Work[StoredImage]:
        image = self.images.read(number)
        height, width = image.pixels.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            name = self.images.member(number).id
            raise ImageError(f"{name}: is {width}x{height} pixels; zero-shot learning needs {SMALLEST_SIDE} a side.")
        camera = self.cameras.of(self.images, number)
        lr_CHW = image.pixels.to(self.machine.device)
        settings = self.settings if self.shared is not None else self.settings.for_size(lr_CHW[0].numel())
        try:
            done = yield from super_resolving(
                lr_CHW,
                self.scale,
                settings,
                camera.downscale,
                seed=self.seed,
                precision=self.machine.precision,
                tile=self.machine.tile,
                shared=self.shared,
            )
        except ZssrGanError as error:
            raise type(error)(f"{self.images.member(number).id}: {error}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            name = self.images.member(number).id
            raise DeviceError(f"{name}: the device has too little memory to apply its networks.") from error
        return self._stored(number, image, camera, done, capacity)

    def _stored(
        self, number: int, image: PreparedImage, camera: Camera, done: SuperResolved, capacity: int
    ) -> StoredImage:
        member = self.images.member(number)
        result = _eight_bits(done.image_CHW)
        again = camera.downscale(result.pixels[None], (image.pixels.shape[-2], image.pixels.shape[-1]))[0]
        error = float((again - image.pixels).square().mean())
        trainings = [step for step in done.steps if "iterations" in step]
        figures: dict[str, Any] = {
            # Of others there is the shared network, and the degradation, where that was estimated from more than this.
            "label": "internal" if self.shared is None and camera.learnt_from <= {member.sha256} else "case",
            "role": member.role,
            "source": member.source,
            "source_sha256": member.sha256,
            "degradation": {"group": camera.group, "sha256": camera.sha256},
            "seeds": [seed for step in trainings for seed in step["seeds"]],
            "iterations": sum(sum(step["iterations"]) for step in trainings),
            # A shared network's loss is the case's, not this image's.
            "loss": trainings[-1]["last_loss"][0] if any(trainings[-1]["iterations"]) else None,
            "restarts": sum(sum(step["restarts"]) for step in trainings),
            "residual_db": round(psnr_db(error), 3),
            "choice": done.choice,
            "notices": [*image.notices, *done.notices],
            "device": str(self.machine.device),
            "precision": self.machine.precision,
            "threads": self.machine.threads,
            "fleet": capacity if any(any(step["iterations"]) for step in trainings) else None,
            "torch": torch.__version__,
        }
        kept = finite_json(figures)
        assert isinstance(kept, dict)
        return StoredImage(member.id, _samples(_eight_bits(image.pixels)), _samples(result), kept)


def _eight_bits(pixels: Tensor) -> Picture:
    return quantise(Picture(pixels.detach().cpu(), None, 8, Metadata()))


def _samples(picture: Picture) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return to_samples(picture).astype(np.uint8, copy=False)
