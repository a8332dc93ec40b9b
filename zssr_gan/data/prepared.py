"""The images of a split as tensors, each checked against its hash before it is used."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from zssr_gan.data.qmul import Qmul
from zssr_gan.data.sources import BuiltIn, Content, Folder, OnImages, Source
from zssr_gan.data.split import Member, Role, Split, make_split, read_split, split_bytes
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import atomic_write
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.settings.data import DataSettings, SourceSettings
from zssr_gan.settings.run import RunSettings
from zssr_gan.signals import uninterrupted

_SOURCES: Mapping[str, Callable[[SourceSettings], Source]] = {
    "folder": Folder,
    "tinyface": Qmul,
    "survface": Qmul,
    "lfw": BuiltIn,
    "photographs": BuiltIn,
}


def open_sources(settings: DataSettings) -> tuple[Source, ...]:
    """A source for each of `settings.sources`, in their order. Nothing is read yet."""
    return tuple(_SOURCES[source.kind](source) for source in settings.sources)


def prepare(
    settings: RunSettings, config: Path, *, overwrite: bool = False, on_images: OnImages = lambda *_: None
) -> Split:
    """Open every image of the sources once, deal out parts and roles, and write split.json and config.yaml.

    Args:
        settings, config: of the run.
        overwrite: whether to replace a split.json that is another one.
        on_images: called often.

    Raises:
        SettingsError: a set is not there or has too few images; another split.json is there and `overwrite` is not set.
        OutputError: the disk refuses.
    """
    path = settings.folder(config) / "split.json"

    def refuse(what: str) -> SettingsError:
        return SettingsError(
            f"{path}: holds another split ({what} differs), which later stages may depend on: give another run_dir, "
            "or allow --overwrite."
        )

    if path.exists() and not overwrite:
        there = read_split(path)  # before minutes are spent on one that could not be written
        if changed := there.other_setting(settings.data) or ("seed" if there.seed != settings.seed else None):
            raise refuse(changed)
    split = make_split(settings.data, open_sources(settings.data), settings.seed, on_images)
    with uninterrupted():
        if not path.exists() or overwrite:
            atomic_write(path, split_bytes(split), overwrite=overwrite)
        elif path.read_bytes() != split_bytes(split):
            raise refuse("what the images' folders hold")
        atomic_write(path.with_name("config.yaml"), settings.as_yaml(config).encode(), overwrite=True)
    return split


class Prepared:
    """Images of a split, in the order of their ids. Cheap to pickle: no file stays open.

    Args:
        split: as read from split.json.
        settings: the run's, which say where the files lie.
        roles: which images; default: all that have a role.

    Raises:
        SettingsError: the settings are not those that the split was made with.
    """

    def __init__(self, split: Split, settings: DataSettings, roles: Collection[Role] | None = None) -> None:
        if (different := split.other_setting(settings)) is not None:
            raise SettingsError(f"{different}: is not what split.json was made with: prepare again.")
        self._size = settings.size
        self._sources = {source.name: source for source in open_sources(settings)}
        self._members = tuple(
            member for member in split.entries if member.role is not None and (roles is None or member.role in roles)
        )
        self._places = {member.id: place for place, member in enumerate(self._members)}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, sorted."""
        return tuple(self._places)

    def index(self, name: str) -> int:
        """The place of an id. Raises KeyError."""
        return self._places[name]

    def member(self, i: int) -> Member:
        """What the split says of an image."""
        return self._members[i]

    def camera(self, i: int) -> str | None:
        """Which camera of its source took an image, where that is known."""
        member = self._members[i]
        return self._sources[member.source].camera(member.path)

    def size(self, i: int) -> Size:
        """Rows and columns of an image, without reading it."""
        member = self._members[i]
        return (member.height, member.width) if self._size is None else (self._size, self._size)

    def levels(self, i: int) -> Tensor:
        """C H W uint8, the 8-bit levels themselves; see `read`."""
        return to_levels(self.image(i))

    def image(self, i: int) -> Tensor:
        """C H W float32 in [0, 1] on 8-bit levels; see `read`."""
        return self.read(i).picture.pixels

    def read(self, i: int) -> Content:
        """Read an image, and resize it if the settings ask for it.

        Returns:
            Its picture of 8 bits, without alpha; its file where the pixels are those that lie there: not resized,
            nothing rounded off.

        Raises:
            ImageError: it cannot be read, or is not the one that was prepared.
        """
        member = self._members[i]
        content = self._sources[member.source].read(member.path)
        if content.sha256 != member.sha256:
            raise ImageError(f"{member.id}: has changed since it was prepared: put it back, or prepare again.")
        picture, pixels, notices = content.picture, content.picture.pixels, list(content.picture.notices)
        if picture.alpha is not None:
            notices.append("Its alpha channel was left out.")
        if picture.bits > 8:
            notices.append(f"Its {picture.bits} bits were reduced to 8.")
        own = picture.bits == 8 and pixels.shape[-2:] == self.size(i)
        if self._size is not None:
            pixels = resize(pixels, self.size(i))
        # Bicubic overshoots, and the networks learn from the same 8-bit levels that the store holds.
        levels = from_levels(to_levels(pixels))
        picture = replace(picture, pixels=levels, alpha=None, bits=8, notices=tuple(notices))
        return replace(content, picture=picture, file=content.file if own else None)
