"""Options as a user gives them, on the command line or from Python, resolved into a request."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from zssr_gan.degradation.blur_kernels import checked_kernel, load_kernel
from zssr_gan.degradation.estimate import read_estimate
from zssr_gan.degradation.model import Degradation, KernelBlur, Noise, degradation_of
from zssr_gan.devices import RunOptions, resolve_device
from zssr_gan.errors import SettingsError, WeightsError, ZssrGanError
from zssr_gan.imaging.resize import Scale
from zssr_gan.inference.generator import own_scale
from zssr_gan.inference.record import DegradationFacts, OptionFile
from zssr_gan.inference.region import checked_region
from zssr_gan.inference.request import PresetSettings, Request, learnt_for, named, preset_settings
from zssr_gan.provenance import MAX_MEGAPIXELS, scale_text
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    PRESETS,
    ZeroShotSettings,
    parse_settings,
)
from zssr_gan.training.model_card import CameraCard, TrainedGenerator, load_generator
from zssr_gan.zeroshot.shared import SharedModel, read_shared


def make_request(
    scale: object = None,
    preset: str | None = None,
    *,
    model: Path | TrainedGenerator | None = None,
    region: object = None,
    seed: int = 0,
    noise: float | None = None,
    kernel: Path | NDArray[Any] | Sequence[Sequence[float]] | None = None,
    degradation: Degradation | Path | Literal["bicubic", "estimate"] | None = None,
    init: Literal["scratch", "shared"] | None = None,
    init_from: Path | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen, so that one default serves all calls
    max_megapixels: float = MAX_MEGAPIXELS,
    overwrite: bool = False,
    prefix: str = "--",
) -> Request:
    """Resolve what a user asked for, and find now what would fail for every image.

    Args:
        scale: a number, or two as (y, x); None: 2, or the generator's.
        preset: None: the first of those for the way that is asked for.
        model: a trained generator, or its file; None: networks are learnt.
        region: the part that the result shows, as (x, y, width, height) in pixels of the upright picture.
        noise: standard deviation of the camera's noise, [0, 1] units; 0: it has none. None: not known.
        kernel: a blur kernel in pixels of the result, or its file.
        degradation: given, or the file of an estimate, or a word; None: what several images show together, unless each
            is to be learnt from alone, or what each shows.
        init: None: what suits the images of the run.
        seed, init_from, options, max_megapixels, overwrite: as the command has them.
        prefix: what error messages put before an option's name.

    Raises:
        SettingsError: a value out of range or not readable, or two options that contradict each other.
        WeightsError: the generator's file is none.
        DeviceError: a device that is not there.
    """
    files: dict[Any, OptionFile] = {}
    generator: TrainedGenerator | None
    if isinstance(model, Path):
        generator = _load("model", model, prefix)
        files["model"] = OptionFile(path=str(model), sha256=generator.sha256)
    else:
        generator = model
    if generator is not None:
        _refuse_beside(f"{prefix}model", "has learnt already", prefix, init=init, init_from=init_from, noise=noise)
    if kernel is not None and degradation is not None:
        raise SettingsError(f"{prefix}kernel and {prefix}degradation both say how the image was blurred: leave one out")
    if noise is not None:
        if degradation not in (None, "bicubic"):
            raise SettingsError(f"the degradation has its own noise: leave {prefix}noise out")
        noise = _standard_deviation(noise, prefix)
    own = (2.0, 2.0) if generator is None else own_scale(generator)
    factors = own if scale is None else _factors(scale)
    if generator is not None and factors != own:
        asked, alone = scale_text(factors), scale_text(own)
        raise SettingsError(f"{prefix}scale {asked}: the generator enlarges by {alone} alone: leave {prefix}scale out")
    request = Request(
        ZeroShotSettings(),
        factors,
        region=None if region is None else checked_region(region),
        seed=seed,
        model=generator,
        files=files,
        options=options,
        max_megapixels=max_megapixels,
        overwrite=overwrite,
    )
    request = _with_degradation(request, degradation, kernel, noise, prefix)
    files, shared = dict(request.files), None
    settings: PresetSettings
    if init_from is not None:
        if init == "scratch":
            raise SettingsError(f"{prefix}init-from is a shared model: leave {prefix}init scratch out")
        _refuse_beside(
            f"{prefix}init-from", "brings the settings that it was learnt with", prefix, preset=preset, noise=noise
        )
        shared = _load("init-from", init_from, prefix)
        files["init-from"] = OptionFile(path=str(init_from), sha256=shared.sha256)
        # What it was learnt with is what it is used with.
        settings, preset = parse_settings(shared.facts.settings, str(init_from)), init_from.name
        sentence = f"{prefix}init-from {init_from}"
        request = replace(request, degradation=_camera_of_shared(shared, request, sentence, prefix))
    else:
        built_in: Sequence[str] = GENERATOR_PRESETS if generator is not None else PRESETS
        preset = preset or ("generator" if generator is not None else "quality")
        settings = preset_settings(preset, generator=generator is not None, shared=init == "shared")
        if preset not in built_in:
            files["preset"] = OptionFile.read(Path(preset))
    if generator is not None and request.degradation.source == "default" and not request.to_estimate:
        request = replace(request, degradation=learnt_for(generator, prefix))
    resolve_device(options.device)
    if request.degradation.source == "default" and generator is None and shared is None and init != "scratch":
        request = replace(request, to_estimate=request.to_estimate or "auto")
    way = "scratch" if generator is not None else "shared" if shared is not None else init or "auto"
    return replace(request, settings=settings, preset=preset, shared=shared, init=way, files=files)


def degradation_option(text: str) -> Path | Literal["bicubic", "estimate"] | None:
    """The value of --degradation: one of its words, of which `auto` is None, or a file; such a name is "./bicubic"."""
    if text == "auto":
        return None
    return "bicubic" if text == "bicubic" else "estimate" if text == "estimate" else Path(text)


def _refuse_beside(option: str, why: str, prefix: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise SettingsError(f"{option} {why}: leave {prefix}{name.replace('_', '-')} out")


def _factors(scale: object) -> Scale:
    try:
        y, x = scale if isinstance(scale, tuple | list) else (scale, scale)
        return float(y), float(x)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the scale is a number, or two as (y, x), not {scale!r}") from error


def _standard_deviation(noise: object, prefix: str) -> float:
    """The noise that was asked for. SettingsError where it is no number from 0 to 0.5."""
    try:
        value = float(noise)  # type: ignore[arg-type]  # what is no number is refused here
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 0.5:
        raise SettingsError(
            f"{prefix}noise is a standard deviation from 0 to 0.5, where 1 is white, not {noise!r}: "
            "for noise of 10 levels of 255, give 0.04"
        )
    return value


def _with_degradation(request: Request, given: object, kernel: object, noise: float | None, prefix: str) -> Request:
    """The request with what the camera did, where that is asked for; see `make_request`."""
    files: dict[Any, OptionFile] = dict(request.files)
    added = Noise(sigma=noise) if noise else None
    if kernel is not None:
        y, x = request.scale
        if (y, x) != (int(y), int(x)):
            raise SettingsError(
                f"with a {prefix}kernel the {prefix}scale must be in whole numbers: a kernel belongs to one scale"
            )
        values = load_kernel(kernel) if isinstance(kernel, Path) else checked_kernel(kernel)
        if isinstance(kernel, Path):
            files["kernel"] = OptionFile.read(kernel)
        blur = KernelBlur(values=tuple(map(tuple, values.tolist())), scale=(int(y), int(x)))
        why = "the kernel was given" if noise is None else "the kernel and the noise were given"
        facts = DegradationFacts.of(Degradation(blur=blur, noise=added), "given", why)
        return replace(request, degradation=facts, files=files)
    if noise is not None:
        facts = DegradationFacts.of(Degradation(noise=added), "given", "the noise was given")
        return replace(request, degradation=facts)
    if given is None:
        return request
    if given == "estimate":
        return replace(request, to_estimate="asked")
    if given == "bicubic":
        return replace(request, degradation=DegradationFacts.of(Degradation(), "bicubic", "bicubic was asked for"))
    if isinstance(given, Degradation):
        facts = DegradationFacts.of(given, "given", "the degradation was given")
        return replace(request, degradation=facts)
    assert isinstance(given, Path)
    return with_estimate(request, given)


def with_estimate(request: Request, path: Path) -> Request:
    """The request with the degradation in an estimate's file. Raises SettingsError where it is none."""
    found = read_estimate(path)
    files = {**request.files, "degradation": OptionFile.read(path)}
    degradation = DegradationFacts.estimated(found)
    return replace(request, degradation=degradation, estimate=found, to_estimate=None, files=files)


def _camera_of_shared(shared: SharedModel, request: Request, sentence: str, prefix: str) -> DegradationFacts:
    """The degradation that a shared model is used with: what it was learnt for, which must be what is asked for."""
    learnt = shared.facts.learnt_for
    sentence = f"{sentence} was learnt for {named([_short(one) for one in learnt])}"
    asked = request.degradation
    if request.to_estimate:
        raise SettingsError(f"{sentence}: leave {prefix}degradation estimate out")
    if asked.source != "default":
        if degradation_of(asked.values.downscale) in learnt:
            return asked
        option = "kernel" if "kernel" in request.files else "degradation"
        raise SettingsError(
            f"{sentence}, and {prefix}{option} asks for {CameraCard.of(asked.values).name}: leave it out"
        )
    if len(learnt) > 1:
        raise SettingsError(f"{sentence}: say which by {prefix}degradation FILE")
    if not shared.facts.cameras:
        return asked
    return DegradationFacts.of(shared.facts.cameras[0], "shared", "the shared model was learnt for it")


def _short(degradation: str) -> str:
    name, _, digest = degradation.partition(" ")
    return f"{name} {digest[:12]}".strip()


def _load(option: Literal["model", "init-from"], path: Path, prefix: str) -> Any:
    """Read the network that an option names; SettingsError where the file is one for the other option."""
    readers = {
        "model": (load_generator, "a trained generator", "init-from"),
        "init-from": (read_shared, "a shared model", "model"),
    }
    read, what, other = readers[option]
    try:
        return read(path)
    except (SettingsError, WeightsError) as error:
        try:
            readers[other][0](path)
        except ZssrGanError:
            raise error from None
        raise SettingsError(
            f"{prefix}{option} {path}: is {readers[other][1]}, not {what}: give it as {prefix}{other}"
        ) from error
