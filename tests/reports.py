"""A report of everything that one can hold, made by hand: real faces, figures that were made up, and hostile names."""

from pathlib import Path

import numpy as np
from skimage import data

from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.part import Illustration, Part, Scene
from zssr_gan.evaluation.report import Report, Section, render
from zssr_gan.evaluation.tables import Measured, Table, compared
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, from_samples
from zssr_gan.provenance import Label

HOSTILE = "$\\frac$ <script>alert('x')</script>\" onload=alert(1) {{ 7*7 }}"
PSNR = Definition("PSNR-Y, border 0", "how close", "dB", higher_is_better=True)
FAR = Definition("distance", "how far", "", higher_is_better=False)
SHARP = Definition("sharpness", "how sharp", "", higher_is_better=None)
VIF = Definition("VIF", "how faithful", "", higher_is_better=True)
WHY = "needs 41 pixels a side, and the result is 24x24"
_LABELS: dict[str, Label] = {"bicubic": "internal", "ZSSR, case": "case", "SRGAN": "generative", HOSTILE: "generative"}


def png(number: int, side: int = 25) -> bytes:
    """A face as PNG, enlarged by repeating its pixels."""
    face = np.round(data.lfw_subset()[number] * 255).astype(np.uint8)
    face = np.kron(face, np.ones((side // 25, side // 25), np.uint8))
    return encode_picture(from_samples(np.repeat(face[..., None], 3, 2), Metadata()), "png")


def rows(*names: str) -> list[Measured]:
    """Of each figures of four images: the later a method, the better."""
    return [
        Measured(
            (name,),
            {
                PSNR.name: [Figure(PSNR.name, 25.0 + place + n / 4) for n in range(4)],
                FAR.name: [Figure(FAR.name, 9.0 - place - n / 8) for n in range(4)],
                SHARP.name: [Figure(SHARP.name, 1.0 + n) for n in range(4)],
                VIF.name: [VIF.none(WHY)] * 4,
            },
            _LABELS[name],
        )
        for place, name in enumerate(names)
    ]


def tables(*names: str) -> tuple[Table, Table]:
    """Of means, and of differences to the first method."""
    title, remarks = f"Four faces, {len(names)} methods", ("All of it was made up",)
    columns = (PSNR, FAR, SHARP, VIF)
    return compared(title, columns, rows(*names), gains="Differences to bicubic", remarks=remarks)


def views() -> tuple[Illustration, ...]:
    """A face by several methods; every picture is another face, so that a test can tell them apart."""
    shown: tuple[tuple[str, Label | None], ...] = (("LR", None), *_LABELS.items(), ("truth", None))
    return tuple(Illustration(name, png(number, 50), label) for number, (name, label) in enumerate(shown))


def whole_report() -> Report:
    """With all that a report can hold."""
    scenes = tuple(
        Scene(f"face {number}", views(), (Illustration("where the methods disagree", png(9, 50)),))
        for number in range(4)
    )
    return Report(
        title=f"A report & {HOSTILE}",
        run="mine",
        description="of faces",
        parts={
            "truth": Part("truth", "Truth known", ("Read this first.",), tables(*_LABELS), (), scenes),
            "figures": None,
            "more": Part("more", HOSTILE, illustrations=(Illustration(HOSTILE, png(3, 400)),)),
        },
        warnings=("vgg16 has RANDOM weights.",),
        cameras=(Section("lfw", (("blur", "0.90 along"), ("confidence", HOSTILE)), png(4, 100)),),
        facts=(Section("SHA-256", (("generator", "0" * 64),)),),
        settings=f"description: {HOSTILE}\nseed: 0\n",
        files=frozenset(("truth.csv", "truth.md", "truth.tex", "more.txt")),
    )


def written_report(folder: Path) -> Path:
    """The whole report as a file."""
    path = folder / "index.html"
    path.write_bytes(render(whole_report()))
    return path
