"""Networks that others trained, as judges of results against truths: per image, and of a whole set at once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from pipelines.evaluation.kept import Figures, Kept, Made, hash_of
from zssr_gan.evaluation.features import Frechet, Seen, lpips, perceptual
from zssr_gan.evaluation.fid import FID
from zssr_gan.evaluation.metric import Definition, Metric
from zssr_gan.networks.vgg import VGGOptions
from zssr_gan.stages import EvaluateSettings
from zssr_gan.training.models import mediator_options


class Judges:
    """Those that the settings name; each is read once, when it is first asked.

    Args:
        settings: the group `evaluate`.
        seed: of random weights.
        device: of Inception.
        kept: where distances are kept.
    """

    def __init__(self, settings: EvaluateSettings, seed: int, device: torch.device, kept: Kept) -> None:
        self._settings, self._seed, self._device, self._kept = settings, seed, device, kept
        self._looked: dict[tuple[str, str], Seen] = {}

    @cached_property
    def metrics(self) -> tuple[Metric, Metric]:
        """Perceptual distance and LPIPS."""
        wanted = self._settings.lpips
        features = perceptual(self._options, self._settings.features.weights, seed=self._seed)
        return features, lpips(_path(wanted.weights), wanted.net)

    @property
    def distances(self) -> list[Definition]:
        """Of whole sets."""
        return [one for judge in self._of_sets for one in judge.definitions.values()]

    @cached_property
    def _of_sets(self) -> tuple[Frechet, FID]:
        frechet = Frechet(self._options, self._settings.features.weights, seed=self._seed)
        return frechet, FID(_path(self._settings.inception), device=self._device)

    @property
    def _options(self) -> VGGOptions:
        return mediator_options(self._settings.features, "evaluate.features")

    def between(self, made: Made, truths: Sequence[Tensor]) -> Figures:
        """Distances of the whole set of results to the whole set of truths; kept."""
        figures: Figures = {}
        for judge in self._of_sets:
            figures |= self._distance(judge, made, truths)
        return figures

    def _distance(self, judge: Frechet | FID, made: Made, truths: Sequence[Tensor]) -> Figures:
        facts: dict[str, JsonValue] = {
            "images": made.sha256,
            "truths": hash_of(truths),
            "names": [*sorted(one.name for one in judge.definitions.values())],
        }

        def look() -> Figures:
            key = (type(judge).__name__, str(facts["truths"]))
            if key not in self._looked:  # at a set once, however many methods are held against it
                self._looked[key] = judge.look(truths)
            figures = judge.figures(judge.look(made.images), self._looked[key])
            return {figure.name: [figure] for figure in figures.values()}

        return self._kept.figures("distances", facts, look)


def _path(named: str | None) -> Path | None:
    return None if named is None else Path(named).expanduser()
