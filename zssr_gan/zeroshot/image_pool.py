"""Batches of pairs out of all images of a case, for its shared model.

Shapes: B crops, C channels, H W rows and columns of an image.
"""

from bisect import bisect_left, bisect_right

import torch
from torch import Tensor

from zssr_gan.devices import upload
from zssr_gan.seeds import normal, uniform
from zssr_gan.settings.zeroshot import ZeroShotSettings
from zssr_gan.zeroshot.pairs import PairSource, Task, group_alike

_VARIETY = 4  # a batch is drawn from at least so many times its number of images, where there are as many


class ImagePool:
    """Draws batches of pairs from all images of a case, for a fleet of one.

    A batch is of many images, also where all sizes differ: the side of an image, drawn evenly, is the crops'; they are
    cut of images of that side and, where these are few, of the next larger.

    Args:
        images: `C H W` each.
        results: enlarged images to learn from too, one for each, or none.
        tasks: one for each image.
        settings: of the pairs.
        seed: all draws depend on it.
    """

    def __init__(
        self, images: list[Tensor], results: list[Tensor], tasks: list[Task], settings: ZeroShotSettings, seed: int
    ) -> None:
        self.seed_1, self.device = torch.tensor([seed]), images[0].device
        self.batch = settings.pairs.batch
        self.sources = []
        places: list[tuple[int, int, int]] = []  # side of a crop, source, place in it
        for number, (task, group) in enumerate(group_alike(images, tasks)):
            stacks = [torch.stack([part[n] for n in group]) for part in ((images, results) if results else (images,))]
            self.sources.append(PairSource(settings.pairs, stacks, None, task))
            places += [(self.sources[-1].side, number, place) for place in range(len(group))]
        self.images = sorted(places)
        self.sides = [side for side, _, _ in self.images]

    def sample(self, iteration_1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of pairs `1 B ...`."""
        # On the CPU, so that it does not wait for a GPU to say which images these are.
        anchor, *numbers = uniform(self.seed_1 + 1, iteration_1, 1 + self.batch)[0].tolist()
        side = self.sides[int(anchor * len(self.images))]
        first, end = bisect_left(self.sides, side), bisect_right(self.sides, side)
        end = min(len(self.images), max(end, first + _VARIETY * self.batch))
        drawn = [self.images[first + int(number * (end - first))] for number in numbers]
        draws_SD = uniform(self.seed_1 + 2, iteration_1, self.batch * PairSource.DRAWS).reshape(self.batch, -1)
        # A camera without noise and compression takes no draws; all others take as many.
        noise_SE = torch.empty(self.batch, 0, device=self.device)
        if count := max(source.noise_count(side) for source in self.sources):
            place_12 = upload(torch.stack([self.seed_1 + 3, iteration_1], 1), self.device)
            noise_SE = normal(place_12[:, 0], place_12[:, 1], self.batch * count).reshape(self.batch, count)
        parts, order = [], []
        for number in sorted({number for _, number, _ in drawn}):
            samples = [sample for sample, (_, its, _) in enumerate(drawn) if its == number]
            order += samples
            image_S, at = torch.tensor([drawn[sample][2] for sample in samples]), torch.tensor(samples)
            noise = noise_SE[upload(at, self.device)] if count else noise_SE[:0]
            parts.append(self.sources[number].take(image_S, draws_SD[at], noise, side))
        if len(parts) == 1:
            x, y, mask = (tensor[None] for tensor in parts[0])
            return x, y, mask
        back = upload(torch.tensor(order).argsort(), self.device)
        x, y, mask = (torch.cat(tensors)[back][None] for tensors in zip(*parts, strict=True))
        return x, y, mask
