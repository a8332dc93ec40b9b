"""Files that options name (a kernel, an estimate, a shared start, a generator), each with what a record says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.errors import SettingsError, WeightsError, ZssrGanError
from zssr_gan.files import canonical_sha256, relative_path, sha256_file
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.imaging.kernels import load_kernel
from zssr_gan.record import CaseFacts, DegradationFacts, KernelFacts, ModelFacts, TeacherImage
from zssr_gan.training.card import TrainedGenerator, load_generator
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
