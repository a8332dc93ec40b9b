"""What a run asks of every image: read from a user's words, and refused at once where it would fail for all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.config import PRESETS, ZeroShotSettings, load_preset, parse_settings
from zssr_gan.enhancement import RunOptions, check_scale, resolve_device
from zssr_gan.errors import SettingsError
from zssr_gan.files import canonical_sha256, sha256_file
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.imaging.kernels import load_kernel
from zssr_gan.naming import Scale, parse_scale
from zssr_gan.record import (
    MAX_MEGAPIXELS,
    Arguments,
    CaseFacts,
    DegradationFacts,
    KernelFacts,
    TeacherImage,
    relative_path,
)
from zssr_gan.zeroshot.degradation_estimate import Estimate, read_estimate
from zssr_gan.zeroshot.shared import SharedStart, degradation_of, read_shared


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
class KeptDegradation:
    """What the camera is taken to do, and where that is known from."""

    degradation: Degradation
    estimate: Estimate | None = None
    """None, like the rest: a shared start brought the degradation along."""
    path: Path | None = None
    sha256: str | None = None
    """Of the file."""

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
            why="the shared start was learnt for it" if found is None else found.why,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of every image of a run."""

    settings: ZeroShotSettings
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
    options: RunOptions = field(default_factory=RunOptions)
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False

    @property
    def arguments(self) -> Arguments:
        """The request as a record holds it."""
        return Arguments(
            scale=self.scale,
            preset=self.preset,
            seed=self.seed,
            noise=self.noise,
            kernel=None if self.kernel is None else self.kernel.facts.name,
            degradation=None if (kept := self.degradation) is None or kept.path is None else kept.path.name,
            device=self.options.device,
            precision=self.options.precision,
            threads=self.options.threads,
            tile=self.options.tile,
            max_megapixels=self.max_megapixels,
        )

    def option_files(self, folder: Path) -> dict[str, str]:
        """Where the files that options named lie, as seen from `folder`."""
        # A shared start brings its settings along.
        named = {} if self.preset in PRESETS or self.shared is not None else {"preset": Path(self.preset)}
        if self.kernel is not None:
            named["kernel"] = self.kernel.path
        if self.degradation is not None and self.degradation.path is not None:
            named["degradation"] = self.degradation.path
        if self.shared is not None:
            named["init-from"] = self.shared.path
        return {option: relative_path(path, folder) for option, path in named.items()}


def make_request(
    scale: str,
    preset: str | None = None,
    *,
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

    Raises:
        SettingsError: the scale, preset, noise, seed, limit, kernel or degradation, or two that contradict each other.
        DeviceError: a device that is not there.
    """
    factors = parse_scale(scale)
    if not 0 < max_megapixels < math.inf:
        raise SettingsError(f"--max-megapixels {max_megapixels:g} is not a number above 0")
    if not 0 <= seed < 2**63:
        raise SettingsError(f"--seed {seed} is out of range: it lies from 0 to 2^63 - 1")
    if kernel is not None and any(factor != int(factor) for factor in factors):
        raise SettingsError(f"--kernel needs a scale in whole numbers, not {scale}: a kernel belongs to one scale")
    camera = _camera(degradation, factors, kernel=kernel, noise=noise)
    options = options or RunOptions()
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
        start = read_shared(init_from)
        # What it was learnt with is what it is used with.
        camera = _camera_of(start, init_from, degradation, camera, kernel=kernel)
        shared, settings = KeptStart(start, init_from), parse_settings(start.facts.settings, str(init_from))
    resolve_device(options.device)
    return Request(
        settings=settings,
        preset=preset or ("quality" if init_from is None else init_from.name),
        scale=factors,
        noise=noise,
        seed=seed,
        kernel=None if kernel is None else read_kernel(kernel),
        estimates=degradation == "estimate",
        degradation=camera,
        init=init or "scratch",
        shared=shared,
        options=options,
        max_megapixels=max_megapixels,
        overwrite=overwrite,
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
    said = f"--init-from {path} was learnt for {_named(learnt)}"
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
        what = given if camera is None else f"{asked} ({_named([given])})"
        raise SettingsError(f"{said}, and --degradation asks for {what}")
    return camera


def _named(degradations: Sequence[str]) -> str:
    """Degradations in a word or two each: their kind, and the first of their hashes."""
    shown = [
        name if not digest else f"{name} {digest[:12]}" for name, _, digest in (d.partition(" ") for d in degradations)
    ]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return " or ".join(shown[:3]) + more


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
