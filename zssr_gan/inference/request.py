"""What a run asks of every image: read from a user's words, and refused at once where it would fail for all."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.degradation.blur_kernels import load_kernel
from zssr_gan.degradation.estimate import Estimate, read_estimate
from zssr_gan.degradation.model import Degradation, degradation_of
from zssr_gan.devices import RunOptions, resolve_device
from zssr_gan.errors import SettingsError, WeightsError, ZssrGanError
from zssr_gan.files import canonical_sha256, relative_path, sha256_file
from zssr_gan.inference.enhance import check_scale
from zssr_gan.inference.generator import own_scale
from zssr_gan.inference.outputs import Scale, parse_scale
from zssr_gan.inference.record import Arguments, CaseFacts, DegradationFacts, KernelFacts, ModelFacts, TeacherImage
from zssr_gan.provenance import MAX_MEGAPIXELS, scale_text
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    PRESETS,
    GeneratorSettings,
    ZeroShotSettings,
    load_generator_preset,
    load_preset,
    parse_settings,
)
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.zeroshot.shared import SharedStart, read_shared

# Files that options name (a kernel, an estimate, a shared start, a generator), each with what a record says of it.


@dataclass(frozen=True, slots=True)
class Kernel:
    """A blur kernel (`k l` float64) and the file it came from."""

    values: Tensor
    facts: KernelFacts
    path: Path


@dataclass(frozen=True, slots=True)
class KeptStart:
    """A shared start and the file it is kept in."""

    start: SharedStart
    path: Path

    def facts(self, folder: Path) -> CaseFacts:
        """What a record in `folder` says of it."""
        images = tuple(TeacherImage(name=one.name, sha256=one.sha256) for one in self.start.facts.images)
        return CaseFacts(path=relative_path(self.path, folder), sha256=self.start.sha256, images=images)


@dataclass(frozen=True, slots=True)
class KeptGenerator:
    """A trained generator and the file it is kept in."""

    generator: TrainedGenerator
    path: Path

    @property
    def trained_for(self) -> list[str]:
        """Each camera's degradation, as `degradation_of` names it."""
        return [degradation_of(camera.values.downscale) for camera in self.generator.card.cameras]

    def facts(self, folder: Path, image_sha256: str) -> ModelFacts:
        """What a record in `folder` says of it, of an image with this hash."""
        return model_facts(self.generator, relative_path(self.path, folder), image_sha256)


@dataclass(frozen=True, slots=True)
class KeptDegradation:
    """What the camera is taken to do, and where that is known from."""

    degradation: Degradation
    estimate: Estimate | None = None
    """None, like path and hash: a shared start or a generator brought the degradation along."""
    path: Path | None = None
    sha256: str | None = None
    """Of the file."""
    why: str = "the shared start was learnt for it"
    """Where there is no estimate that says it."""

    def facts(self, folder: Path, case: CaseFacts | None) -> DegradationFacts:
        """What a record in `folder` says of it; images that `case` lists already are not listed twice."""
        found = self.estimate
        images = () if found is None else tuple(TeacherImage(name=i.name, sha256=i.sha256) for i in found.images)
        return DegradationFacts(
            name=None if self.path is None else self.path.name,
            path=None if self.path is None else relative_path(self.path, folder),
            sha256=self.sha256,
            values=self.degradation,
            values_sha256=self.degradation.sha256,
            images=None if case is not None and images == case.images else images,
            image_count=len(images),
            fallback=found is not None and found.fallback,
            why=self.why if found is None else found.why,
        )


def read_model(path: Path) -> KeptGenerator:
    """Read a trained generator.

    Raises:
        SettingsError: it is a shared start.
        WeightsError: it is no generator, or not readable.
    """
    try:
        return KeptGenerator(load_generator(path), path)
    except WeightsError as error:
        if _is_read_by(read_shared, path):
            raise SettingsError(
                f"--model {path}: is a shared start, not a trained generator: give it as --init-from"
            ) from error
        raise


def read_start(path: Path) -> KeptStart:
    """Read a shared start.

    Raises:
        SettingsError: it is none, or a trained generator, or not readable.
    """
    try:
        return KeptStart(read_shared(path), path)
    except SettingsError as error:
        if _is_read_by(load_generator, path):
            raise SettingsError(
                f"--init-from {path}: is a trained generator, not a shared start: give it as --model"
            ) from error
        raise


def _is_read_by(reader: Callable[[Path], object], path: Path) -> bool:
    try:
        reader(path)
    except ZssrGanError:
        return False
    return True


def model_facts(generator: TrainedGenerator, path: str, image_sha256: str) -> ModelFacts:
    """What a record says of a generator whose file lies at `path`, seen from the record's folder, and of its image."""
    return ModelFacts(
        path=path,
        sha256=generator.sha256,
        card=generator.card.model_dump(mode="json"),
        input_was=generator.purposes_of(image_sha256),
    )


def degradation_of_model(generator: TrainedGenerator) -> KeptDegradation | None:
    """What a generator was trained for, which it is used with where nothing else is asked for; None is bicubic.

    Raises SettingsError where it was trained for several cameras.
    """
    own = generator.degradation
    return None if own is None else KeptDegradation(own, why="the generator was trained for it")


def is_told_bicubic(generator: TrainedGenerator | None, kernel: object | None, degradation: object | None) -> bool:
    """Whether bicubic was asked for in place of what a generator was trained for: the command must then say so."""
    if generator is None or kernel is not None or degradation is not None:
        return False
    return [camera.values for camera in generator.card.cameras] != [Degradation()]


def read_degradation(path: Path) -> KeptDegradation:
    """Read an estimate's file with what a record says of it.

    Raises:
        SettingsError: not an estimate, or not readable.
    """
    found = read_estimate(path)
    return KeptDegradation(found.degradation, found, path, sha256_file(path))


def read_kernel(path: Path) -> Kernel:
    """Read a blur kernel with what a record says of it.

    Raises:
        SettingsError: not a kernel, or not readable.
    """
    values = load_kernel(path)
    return Kernel(values, kernel_facts(path.name, sha256_file(path), values), path)


def kernel_facts(name: str, sha256: str, values: Tensor) -> KernelFacts:
    """What a record says of a kernel."""
    nested: list[JsonValue] = values.tolist()
    return KernelFacts(name=name, sha256=sha256, values=values.tolist(), values_sha256=canonical_sha256(nested))


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of every image of a run."""

    settings: ZeroShotSettings | GeneratorSettings
    preset: str = "quality"
    scale: Scale = (2.0, 2.0)
    noise: float | None = None
    seed: int = 0
    kernel: Kernel | None = None
    estimates: bool = False
    """Whether the degradation is estimated from the images of the run."""
    degradation: KeptDegradation | None = None
    """None: bicubic, or the kernel; or, where it is estimated, not done yet."""
    init: Literal["scratch", "shared"] = "scratch"
    shared: KeptStart | None = None
    """With `shared`: the network learnt on the case; None until that is done."""
    model: KeptGenerator | None = None
    """A trained generator, in place of all learning; `settings` are then of that way."""
    options: RunOptions = field(default_factory=RunOptions)
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False

    def settings_for(self, pixels: int) -> ZeroShotSettings | GeneratorSettings:
        """The settings for an image of so many pixels."""
        if isinstance(self.settings, GeneratorSettings) or self.init == "shared":
            return self.settings
        return self.settings.for_size(pixels)

    @property
    def arguments(self) -> Arguments:
        """The request as a record holds it."""
        bicubic = is_told_bicubic(None if self.model is None else self.model.generator, self.kernel, self.degradation)
        own_word = "bicubic" if bicubic else None
        return Arguments(
            scale=self.scale,
            preset=self.preset,
            seed=self.seed,
            noise=self.noise,
            kernel=None if self.kernel is None else self.kernel.facts.name,
            degradation=own_word if (kept := self.degradation) is None or kept.path is None else kept.path.name,
            device=self.options.device,
            precision=self.options.precision,
            threads=self.options.threads,
            tile=self.options.tile,
            max_megapixels=self.max_megapixels,
        )

    def option_files(self, folder: Path) -> dict[str, str]:
        """Where the files that options named lie, as seen from `folder`."""
        # A shared start brings its settings along.
        built_in = self.preset in (*PRESETS, *GENERATOR_PRESETS)
        named = {} if built_in or self.shared is not None else {"preset": Path(self.preset)}
        if self.kernel is not None:
            named["kernel"] = self.kernel.path
        if self.degradation is not None and self.degradation.path is not None:
            named["degradation"] = self.degradation.path
        if self.shared is not None:
            named["init-from"] = self.shared.path
        if self.model is not None:
            named["model"] = self.model.path
        return {option: relative_path(path, folder) for option, path in named.items()}


def make_request(
    scale: str | None = None,
    preset: str | None = None,
    *,
    model: Path | None = None,
    seed: int = 0,
    noise: float | None = None,
    kernel: Path | None = None,
    degradation: str | None = None,
    init: Literal["scratch", "shared"] | None = None,
    init_from: Path | None = None,
    options: RunOptions | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    overwrite: bool = False,
) -> Request:
    """Read what a user asked for, and find now what would fail for every image.

    Args:
        scale: None: 2, or the generator's.
        preset: None: the first of those for the way that is asked for.
        model: file of a trained generator; None: networks are learnt.
        seed, noise, kernel, degradation, init, init_from, options, max_megapixels, overwrite: as the command has them.

    Raises:
        SettingsError: the scale, preset, noise, seed, limit, kernel or degradation, or two that contradict each other.
        WeightsError: the generator's file is none.
        DeviceError: a device that is not there.
    """
    kept = None
    if model is not None:
        learning = {"--init": init, "--init-from": init_from, "--noise": noise}
        given = [option for option, value in learning.items() if value is not None]
        if given:
            raise SettingsError(f"{given[0]} is about learning, and --model has learnt already: leave one out")
        kept = read_model(model)
    own = (2.0, 2.0) if kept is None else own_scale(kept.generator)
    factors = own if scale is None else parse_scale(scale)
    if kept is not None and factors != own:
        raise SettingsError(f"--scale {scale}: the generator enlarges by {scale_text(own)} alone: leave --scale out")
    if not 0 < max_megapixels < math.inf:
        raise SettingsError(f"--max-megapixels {max_megapixels:g} is not a number above 0")
    if not 0 <= seed < 2**63:
        raise SettingsError(f"--seed {seed} is out of range: it lies from 0 to 2^63 - 1")
    if kernel is not None and any(factor != int(factor) for factor in factors):
        raise SettingsError(f"--kernel needs a scale in whole numbers, not {scale}: a kernel belongs to one scale")
    camera = _camera(degradation, factors, kernel=kernel, noise=noise)
    request = Request(
        settings=ZeroShotSettings(),
        scale=factors,
        seed=seed,
        estimates=degradation == "estimate",
        degradation=camera,
        options=options or RunOptions(),
        max_megapixels=max_megapixels,
        overwrite=overwrite,
    )
    if kept is None:
        request = _learning(request, preset, noise, init, init_from, degradation, kernel)
    else:
        preset = preset or GENERATOR_PRESETS[0]
        request = replace(request, settings=load_generator_preset(preset), preset=preset, model=kept)
        if degradation is None and kernel is None:
            request = replace(request, degradation=_camera_of_model(kept))
    resolve_device(request.options.device)
    return request if kernel is None else replace(request, kernel=read_kernel(kernel))


def _learning(
    request: Request,
    preset: str | None,
    noise: float | None,
    init: Literal["scratch", "shared"] | None,
    init_from: Path | None,
    degradation: str | None,
    kernel: Path | None,
) -> Request:
    """The request with what is learnt, and how; see `make_request`."""
    settings = load_preset(preset or "quality")
    if noise is not None:
        settings = settings.with_noise(noise, "--noise")
    if degradation not in (None, "bicubic") and init_from is None and settings.has_noise:
        raise SettingsError(
            f"--preset {preset} has a training noise of its own, and noise is part of --degradation {degradation}: "
            "set it to 0 there, or leave --degradation out"
        )
    if init == "scratch" and init_from is not None:
        raise SettingsError("--init-from is a shared start: leave --init scratch out")
    if init == "shared" or init_from is not None:
        settings, init = settings.for_case(), "shared"
    shared = None
    if init_from is not None:
        given = [option for option, value in (("--preset", preset), ("--noise", noise)) if value is not None]
        if given:
            raise SettingsError(f"--init-from brings the settings that it was learnt with: leave {given[0]} out")
        shared = read_start(init_from)
        # What it was learnt with is what it is used with.
        camera = _camera_of(shared.start, init_from, degradation, request.degradation, kernel=kernel)
        request = replace(request, degradation=camera)
        settings = parse_settings(shared.start.facts.settings, str(init_from))
    return replace(
        request,
        settings=settings,
        preset=preset or ("quality" if init_from is None else init_from.name),
        noise=noise,
        init=init or "scratch",
        shared=shared,
    )


def _camera(
    degradation: str | None, scale: Scale, *, kernel: Path | None, noise: float | None
) -> KeptDegradation | None:
    """What --degradation names, where that is a file."""
    if degradation is None:
        return None
    if kernel is not None:
        raise SettingsError("--kernel and --degradation both say how the images were blurred: leave one out")
    if degradation == "bicubic":
        return None
    if noise is not None:
        raise SettingsError(f"--degradation {degradation} has its own noise: leave --noise out")
    if degradation == "estimate":
        return None
    kept = read_degradation(Path(degradation))
    check_scale(kept.degradation, scale)
    return kept


def _camera_of(
    start: SharedStart, path: Path, asked: str | None, camera: KeptDegradation | None, *, kernel: Path | None
) -> KeptDegradation | None:
    """The degradation that a kept start is used with: what it was learnt for, which must be what is asked for."""
    learnt = start.facts.learnt_for
    said = f"--init-from {path} was learnt for {named(learnt)}"
    if asked == "estimate":
        raise SettingsError(f"{said}: leave --degradation estimate out")
    if kernel is not None and start.facts.cameras:
        raise SettingsError(f"{said}: leave --kernel out")
    if asked is None and len(learnt) > 1:
        raise SettingsError(f"{said}: say which by --degradation FILE")
    if asked is None:
        return KeptDegradation(start.facts.cameras[0]) if start.facts.cameras else None
    given = degradation_of((Degradation() if camera is None else camera.degradation).downscale)
    if given not in learnt:
        what = given if camera is None else f"{asked} ({named([given])})"
        raise SettingsError(f"{said}, and --degradation asks for {what}")
    return camera


def _camera_of_model(kept: KeptGenerator) -> KeptDegradation | None:
    """The degradation that a generator is used with where none is asked for: what it was trained for."""
    cameras = kept.trained_for
    if len(cameras) > 1:
        raise SettingsError(f"{kept.path} was trained for {named(cameras)}: say which by --degradation FILE")
    return degradation_of_model(kept.generator)


def named(degradations: Sequence[str]) -> str:
    """Degradations in a word or two each: their kind, and the first of their hashes."""
    shown = [
        name if not digest else f"{name} {digest[:12]}" for name, _, digest in (d.partition(" ") for d in degradations)
    ]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return " or ".join(shown[:3]) + more
