"""Settings of the stages (prepare, synth, ...): one YAML file a run, as frozen pydantic models. They know no torch.

A stage's group is one model and one field of `RunSettings`. An unknown key is an error that names it, and so is a
value of the wrong kind: "1e-4" without a dot is text in YAML.
"""

from zssr_gan.stages.data import DataSettings, Kind, RoleSettings, SourceSettings
from zssr_gan.stages.evaluate import EvaluateSettings, SetSettings, TruthSettings
from zssr_gan.stages.pairs import AugmentSettings, PairDegradationSettings, PairedSettings, PatchSettings
from zssr_gan.stages.patience import PatienceSettings, PlateauSettings, StopSettings
from zssr_gan.stages.run import RunSettings, load_run
from zssr_gan.stages.synth import SynthSettings
from zssr_gan.stages.train import (
    IntervalSettings,
    LossSettings,
    MediatorSettings,
    NetworkSettings,
    OptimiserSettings,
    RealSettings,
    TrainSettings,
    TurnSettings,
    ValidationSettings,
)

__all__ = [
    "AugmentSettings",
    "DataSettings",
    "EvaluateSettings",
    "IntervalSettings",
    "Kind",
    "LossSettings",
    "MediatorSettings",
    "NetworkSettings",
    "OptimiserSettings",
    "PairDegradationSettings",
    "PairedSettings",
    "PatchSettings",
    "PatienceSettings",
    "PlateauSettings",
    "RealSettings",
    "RoleSettings",
    "RunSettings",
    "SetSettings",
    "SourceSettings",
    "StopSettings",
    "SynthSettings",
    "TrainSettings",
    "TruthSettings",
    "TurnSettings",
    "ValidationSettings",
    "load_run",
]
