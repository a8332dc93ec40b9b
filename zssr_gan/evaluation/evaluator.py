"""What all parts of an evaluation share."""

from functools import cached_property
from pathlib import Path

import torch

from zssr_gan.devices import Machine
from zssr_gan.evaluation.cache import Cache
from zssr_gan.evaluation.ground_truth import known_truths
from zssr_gan.evaluation.metrics.frechet import SetMetric, fid, frechet
from zssr_gan.evaluation.metrics.metric import Metric
from zssr_gan.evaluation.metrics.perceptual import lpips, perceptual
from zssr_gan.evaluation.run import Images, Run
from zssr_gan.networks.registry import mediator_options
from zssr_gan.progress import Bar
from zssr_gan.settings.run import RunSettings


class Evaluator(Run):
    """A run's folder, what is computed on and cached in, and what is read once for several parts."""

    def __init__(self, settings: RunSettings, config: Path, machine: Machine, bar: Bar) -> None:
        super().__init__(settings, config)
        self.machine, self.bar, self.cache = machine, bar, Cache(self.folder / "report" / "cache")

    @property
    def device(self) -> dict[str, object]:
        """What results and their time depend on."""
        device = self.machine.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        return {"device": name, "precision": self.machine.precision, "threads": self.machine.threads}

    @property
    def network(self) -> str:
        """Name of the run's generator in tables."""
        return self.generator.card.name.upper()

    @property
    def trains_on_truths(self) -> bool:
        """Whether a generator is trained on the LR images of the truths."""
        wanted = self.settings.evaluate.truth
        return wanted is not None and wanted.train and self.settings.train.pairs is None

    @cached_property
    def truths(self) -> tuple[Images, list[str]]:
        """Images of `evaluate.truth` that no compared generator was trained on, and notices on others, as sentences."""
        generators = [one for one in self.others.values() if not isinstance(one, str)]
        seen = {sha256 for one in generators for files in one.images.values() for sha256 in files.values()}
        images, notices = known_truths(self, seen)
        for notice in notices:
            self.bar.note(notice)
        return images, [f"{notice}." for notice in notices]

    @cached_property
    def network_metrics(self) -> tuple[list[Metric], list[SetMetric]]:
        """By the settings: perceptual distance and LPIPS, and of whole sets Frechet distance and FID."""
        wanted, seed = self.settings.evaluate, self.settings.seed
        options, weights = mediator_options(wanted.features, "evaluate.features"), wanted.features.weights
        of_sets = [frechet(options, weights, seed=seed), fid(_path(wanted.inception), device=self.machine.device)]
        return [perceptual(options, weights, seed=seed), lpips(_path(wanted.lpips))], of_sets


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
