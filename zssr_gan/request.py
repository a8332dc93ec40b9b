"""What a run asks of every image: read from a user's words, and refused at once where it would fail for all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from zssr_gan.config import PRESETS, ZeroShotSettings, load_preset, parse_settings
from zssr_gan.enhancement import RunOptions, check_scale, resolve_device
from zssr_gan.errors import SettingsError
from zssr_gan.files import relative_path
from zssr_gan.generative import own_scale
from zssr_gan.generator_settings import GENERATOR_PRESETS, GeneratorSettings, load_generator_preset
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.kept import (
    KeptDegradation,
    KeptGenerator,
    KeptStart,
    Kernel,
    degradation_of_model,
    is_told_bicubic,
    read_degradation,
    read_kernel,
    read_model,
    read_start,
)
from zssr_gan.naming import Scale, parse_scale
from zssr_gan.record import (
    MAX_MEGAPIXELS,
    Arguments,
    scale_text,
)
from zssr_gan.zeroshot.shared import SharedStart, degradation_of


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
