"""What is asked of every image of a run: resolved once, stored in each record, and read back from it for a rerun."""

import operator
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.model import Degradation, KernelBlur
from zssr_gan.devices import Machine, RunOptions
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.files import canonical_sha256, relative_path
from zssr_gan.imaging.resize import Scale
from zssr_gan.inference.generator import own_scale
from zssr_gan.inference.record import (
    DegradationFacts,
    ModelFacts,
    OptionFile,
    Record,
    RecordError,
    RequestFacts,
)
from zssr_gan.inference.region import Region, checked_region, region_text
from zssr_gan.provenance import MAX_MEGAPIXELS, VERSION, scale_text
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    PRESETS,
    GeneratorSettings,
    ZeroShotSettings,
    load_generator_preset,
    load_preset,
    parse_generator_settings,
    parse_settings,
)
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.zeroshot.shared import SharedModel, read_shared
from zssr_gan.zeroshot.steps import LARGEST_SCALE

PresetSettings = ZeroShotSettings | GeneratorSettings
Files = Mapping[Literal["preset", "kernel", "degradation", "init-from", "model"], OptionFile]


_AS_THEY_ARE = ("preset", "scale", "region", "seed", "degradation", "max_megapixels")
"""Fields of a request that a record stores as they are."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of every image.

    Raises:
        SettingsError: a value out of range, or a kernel of another scale.
    """

    settings: PresetSettings
    """Of zero-shot learning, or, with `model`, of that way."""
    scale: Scale = (2.0, 2.0)
    """(y, x), 1 to 8 each; a model's own."""
    region: Region | None = None
    """The part of the picture that the result shows; the whole is learnt from."""
    _: KW_ONLY
    seed: int = 0
    """All random draws derive from it and from the image's content; the least is 0, the largest 2^63 - 1."""
    preset: str = ""
    degradation: DegradationFacts = field(default_factory=DegradationFacts)
    estimate: Estimate | None = None
    """That `degradation` comes from, where it was read or made in this run."""
    to_estimate: Literal["auto", "asked"] | None = None
    """Why the degradation is still to be estimated from the images of the run; None: it is not. Only where it was asked
    for is a single image enough."""
    init: Literal["auto", "scratch", "shared"] = "scratch"
    """Whether each image has a network of its own, or all images of the run a shared one; `auto`: the images say it."""
    shared: SharedModel | None = None
    """The network learnt on the case; `settings` are then those for a case (`ZeroShotSettings.for_case`)."""
    model: TrainedGenerator | None = None
    """A trained generator, in place of all learning."""
    files: Files = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what would fail for every image."""
        y, x = self.scale
        if not (1 <= y <= LARGEST_SCALE and 1 <= x <= LARGEST_SCALE):
            raise SettingsError(f"the scale must lie between 1 and {LARGEST_SCALE:g} a side, not {y:g} x {x:g}")
        if self.region is not None:
            checked_region(self.region)
        if self.model is not None and self.model.facts.scale != self.scale:
            own = scale_text(own_scale(self.model))
            raise SettingsError(f"the generator enlarges by {own} alone, not by {scale_text(self.scale)}")
        blur = self.degradation.values.blur
        if isinstance(blur, KernelBlur) and blur.scale != self.scale:
            rows, columns = blur.scale
            raise SettingsError(
                f"the degradation's kernel belongs to the scale {rows} x {columns} (y, x), and to no other"
            )
        if not 0 < self.max_megapixels < float("inf"):
            raise SettingsError(f"a limit of {self.max_megapixels:g} megapixels is not a number above 0")
        try:
            seed = operator.index(self.seed)
        except TypeError:
            seed = -1
        if not 0 <= seed < 2**63:
            raise SettingsError(f"the seed is a whole number from 0 to 2^63 - 1, not {self.seed!r}")

    @property
    def to_learn(self) -> bool:
        """Whether the shared model is still to be learnt on the images of the run."""
        return self.init == "shared" and self.shared is None

    def degradation_of(self, image_sha256: str) -> DegradationFacts:
        """What the camera did to the image with this hash: its own compression, where the estimate has one for it."""
        if self.estimate is None:
            return self.degradation
        return DegradationFacts.estimated(self.estimate, image_sha256)

    def settings_for(self, pixels: int) -> PresetSettings:
        """The settings for an image of so many pixels, where `init` is decided."""
        assert self.init != "auto", "the settings depend on whether one network is learnt on all images"
        if isinstance(self.settings, GeneratorSettings) or self.to_learn or self.shared is not None:
            return self.settings
        return self.settings.for_size(pixels)

    def facts(self, settings: PresetSettings, used: Machine, image_sha256: str, folder: Path) -> RequestFacts:
        """The request as a record in `folder` stores it, of an image with this hash.

        Args:
            settings: for the image's size.
            used: device, precision, threads and tile as they came out.
            image_sha256: of the input.
            folder: of the record.
        """
        values = settings.model_dump(mode="json")
        return RequestFacts(
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
            settings=values,
            settings_sha256=canonical_sha256(values),
            case=None if self.shared is None else self.shared.facts.images,
            model=None if self.model is None else model_facts(self.model, image_sha256),
            files={option: file.seen_from(folder) for option, file in self.files.items()},
            device=str(used.device),
            precision=used.precision,
            threads=used.threads,
            tile=used.tile,
        )

    def command_line(self, source: Path, output: str, used: Machine) -> str:
        """The command as another analyst would type it in the input's folder, with what "auto" came to here."""
        files = {option: relative_path(Path(file.path), source.parent) for option, file in self.files.items()}
        brought = "init-from" in files  # a shared model brings its settings along
        options = {
            "scale": scale_text(self.scale),
            "region": None if self.region is None else region_text(self.region),
            "preset": None if brought else files.get("preset", self.preset),
            "init-from": files.get("init-from"),
            "model": files.get("model"),
            "seed": self.seed,
            "noise": self.noise,
            "kernel": files.get("kernel"),
            "degradation": files.get("degradation", "bicubic" if self.degradation.source == "bicubic" else None),
            "device": used.device,
            "precision": used.precision,
            "threads": used.threads,
            "tile": used.tile,
            "max-megapixels": None if self.max_megapixels == MAX_MEGAPIXELS else self.max_megapixels,
        }
        # Another name than the result's: that may lie in this folder, and is there to be compared with.
        again = f"{Path(output).stem}_again{Path(output).suffix}"
        # A name that begins with a dash would be read as an option.
        typed = [f"./{name}" if name.startswith("-") else name for name in (source.name, again)]
        words = ["zssr-gan", "enhance", typed[0], "-o", typed[1]]
        for option, value in options.items():
            words += [] if value is None else [f"--{option}", str(value)]
        return shlex.join(words)

    @property
    def noise(self) -> float | None:
        """The noise that was given as a number; None where it was not."""
        if self.degradation.source != "given" or "degradation" in self.files:
            return None
        given = self.degradation.values.noise
        return given.sigma if given is not None else None if "kernel" in self.files else 0.0

    @classmethod
    def from_record(cls, record: Record, folder: Path) -> "Request":
        """The request that a record in `folder` stores.

        Raises:
            RecordError: the settings are not those of the preset that the record names.
            SettingsError, WeightsError: a network's file is missing, or not the recorded one.
        """
        pixels = record.input.width * record.input.height
        return cls.from_facts(record.request, folder, record.tool.version, pixels)

    @classmethod
    def from_facts(cls, recorded: RequestFacts, folder: Path, version: str, pixels: int) -> "Request":
        """The request that `facts` stored in `folder`, of the program of a version and of an image of so many pixels.

        Raises as `from_record`.
        """
        model = shared = None
        if (file := recorded.files.get("model")) is not None:
            model = load_generator(path := find_file(file.path, folder))
            if model.sha256 != file.sha256:
                raise WeightsError(f"{path} is not the recorded generator: put the one of SHA-256 {file.sha256} there")
        if (file := recorded.files.get("init-from")) is not None:
            shared = read_shared(path := find_file(file.path, folder))
            if shared.sha256 != file.sha256:
                raise WeightsError(f"{path} is not the recorded network: put the one of SHA-256 {file.sha256} there")
        read = parse_settings if model is None else parse_generator_settings
        settings: PresetSettings = read(recorded.settings, "the record's settings")
        _check_preset(recorded, settings, version, pixels, shared=shared is not None)
        files = {
            option: OptionFile(path=str(folder / file.path), sha256=file.sha256)
            for option, file in recorded.files.items()
        }
        options = RunOptions(recorded.device, recorded.precision, recorded.threads, recorded.tile)
        values: dict[str, Any] = {name: getattr(recorded, name) for name in _AS_THEY_ARE}
        if recorded.degradation.source == "model" and model is not None:
            values["degradation"] = learnt_for(model, "")
        return cls(settings, **values, shared=shared, model=model, files=files, options=options)


def preset_settings(preset: str, *, generator: bool, shared: bool) -> PresetSettings:
    """The settings of a preset's name, or its file; `shared`: those for a case."""
    if generator:
        return load_generator_preset(preset)
    settings = load_preset(preset)
    return settings.for_case() if shared else settings


def _check_preset(request: RequestFacts, settings: PresetSettings, version: str, pixels: int, *, shared: bool) -> None:
    """Whether the settings are those of the named preset; another version's may differ."""
    generator = isinstance(settings, GeneratorSettings)
    if request.preset not in (GENERATOR_PRESETS if generator else PRESETS) or version != VERSION:
        return
    known = preset_settings(request.preset, generator=generator, shared=shared)
    if isinstance(known, ZeroShotSettings) and not shared:
        known = known.for_size(pixels)
    if known != settings:
        raise RecordError(f"the record names the preset {request.preset}, and its settings are others")


def find_file(path: str, folder: Path) -> Path:
    """A file where a record in `folder` says, or beside the record, whither it may have been copied."""
    there, beside = folder / path, folder / Path(path).name
    return beside if beside.is_file() and not there.is_file() else there


def model_facts(model: TrainedGenerator, image_sha256: str) -> ModelFacts:
    """What a record says of a generator, and of its image."""
    return ModelFacts(card=model.card.model_dump(mode="json"), input_was=model.purposes_of(image_sha256))


def learnt_for(model: TrainedGenerator, prefix: str) -> DegradationFacts:
    """The degradation that a generator is used with where none is asked for: what it was trained for."""
    cameras = model.card.cameras
    if len(cameras) > 1:
        names = named([camera.name for camera in cameras])
        raise SettingsError(
            f"the generator was trained for {len(cameras)} cameras ({names}): say which by {prefix}degradation FILE"
        )
    if cameras[0].values == Degradation():
        return DegradationFacts()
    return DegradationFacts.of(cameras[0].values, "model", "the generator was trained for it")


def named(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return " or ".join(names[:3]) + more
