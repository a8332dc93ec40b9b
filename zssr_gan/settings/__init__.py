"""Settings of the stages (prepare, synth, ...): one YAML file a run, as frozen pydantic models. They know no torch.

A stage's group is one model and one field of `RunSettings`. An unknown key is an error that names it, and so is a
value of the wrong kind: "1e-4" without a dot is text in YAML.
"""

from zssr_gan.settings.data import DataSettings, Kind, RoleSettings, SourceSettings
from zssr_gan.settings.evaluate import EvaluateSettings, SetSettings, TruthSettings
from zssr_gan.settings.run import RunSettings, load_run
from zssr_gan.settings.synth import SynthSettings
from zssr_gan.settings.train import (
    AugmentSettings,
    IntervalSettings,
    LossSettings,
    MediatorSettings,
    NetworkSettings,
    OptimiserSettings,
    PairDegradationSettings,
    PairedSettings,
    PatchSettings,
    PatienceSettings,
    PlateauSettings,
    RealSettings,
    StopSettings,
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
