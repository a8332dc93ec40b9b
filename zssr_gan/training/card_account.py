"""What a generator's card says, in lines for a person: the command prints them, the report has them."""

from collections.abc import Mapping

from zssr_gan.training.card import ImageList, TrainedGenerator

_PURPOSES = {
    "inputs": ("inputs", "LR images that the generator learnt from"),
    "reals": ("reals", "synthetic HR images that the discriminator was shown"),
    "held_out": ("held out", "images for validation, not trained on"),
}
_PURPOSES_OF_PAIRS = {**_PURPOSES, "inputs": ("truths", "HR images that it learnt from, with LR images made of them")}


def account(generator: TrainedGenerator) -> list[tuple[str, str]]:
    """What each line is about, in a word or two, and what it says. The card's warnings are not among them."""
    found = generator.card
    return [
        ("label", f"{found.label}: its detail can come from other images"),
        ("network", f"{found.name}, " + ", ".join(f"{name} {value}" for name, value in found.options.items())),
        *(_images(found.images, truths=found.truths) if found.origin is None else {"inputs": "not known"}).items(),
        ("cameras", ", ".join(camera.name for camera in found.cameras) + (" (assumed)" if found.origin else "")),
        ("training", found.training),
        (
            "figures",
            ", ".join(f"{name} {value:.3g}" for name, value in found.metrics.items() if isinstance(value, float)),
        ),
        ("sha256", generator.sha256),
    ]


def _images(lists: Mapping[str, ImageList], *, truths: bool) -> dict[str, str]:
    """A row each, which says where two lists are the same images."""
    rows, seen = {}, dict[str, str]()
    purposes = _PURPOSES_OF_PAIRS if truths else _PURPOSES
    for purpose, images in lists.items():
        name, what = purposes[purpose]
        same = f" (of the same images as {seen[images.sha256]})" if images.sha256 in seen else ""
        rows[name] = f"{images.count:,} {what}{same}"
        seen.setdefault(images.sha256, name)
    return rows
