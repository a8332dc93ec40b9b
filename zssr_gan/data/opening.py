"""From settings to sources: the one place that knows which class reads which kind."""

from pathlib import Path

from zssr_gan.data.photographs import Photographs
from zssr_gan.data.qmul import SurvFace, TinyFace
from zssr_gan.data.readers import Folder, Lfw, Source
from zssr_gan.stages import DataSettings, SourceSettings


def open_sources(settings: DataSettings) -> tuple[Source, ...]:
    """A source for each of `settings.sources`, in their order. Nothing is read yet."""
    return tuple(_open(source) for source in settings.sources)


def _open(settings: SourceSettings) -> Source:
    if settings.kind == "photographs":
        return Photographs(settings.label)
    if settings.kind == "lfw" or settings.root is None:
        return Lfw(settings.label)
    root = Path(settings.root).expanduser()
    if settings.kind == "tinyface":
        return TinyFace(settings.label, root)
    if settings.kind == "survface":
        return SurvFace(settings.label, root)
    return Folder(settings.label, root)
