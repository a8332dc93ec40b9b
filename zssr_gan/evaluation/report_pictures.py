"""Pictures and scenes as a report's page shows them: PNG inside the page, with the size that they are laid out by."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from zssr_gan.evaluation.parts import Scene, View
from zssr_gan.record import Label


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture as an `img` takes it."""

    source: str
    """A data URI."""
    width: int
    """Pixels."""
    height: int


@dataclass(frozen=True, slots=True)
class ShownView:
    """A view of a scene."""

    name: str
    label: Label | None
    picture: ShownPicture


@dataclass(frozen=True, slots=True)
class ShownScene:
    """A scene, and which of its views are laid over each other first."""

    key: str
    caption: str
    views: tuple[ShownView, ...]
    left: int
    right: int
    maps: tuple[tuple[str, ShownPicture], ...]
    """Captions and pictures."""


def shown_picture(png: bytes) -> ShownPicture:
    """A PNG for the page. Raises OSError where it is none."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        width, height = picture.size
    return ShownPicture(f"data:image/png;base64,{base64.b64encode(png).decode()}", width, height)


def shown_scene(key: str, scene: Scene) -> ShownScene:
    """A scene for the page; `key` is an id that no other scene has.

    Left is bicubic, right the last result: a view without a label (the truth, the LR image) is none.
    """
    results = [number for number, view in enumerate(scene.views) if view.label is not None]
    bicubic = [number for number, view in enumerate(scene.views) if view.name == "bicubic"]
    return ShownScene(
        key,
        scene.caption,
        tuple(_view(view) for view in scene.views),
        left=next(iter(bicubic or results), 0),
        right=results[-1] if results else len(scene.views) - 1,
        maps=tuple((one.caption, shown_picture(one.png)) for one in scene.maps),
    )


def _view(view: View) -> ShownView:
    return ShownView(view.name, view.label, shown_picture(view.png))
