"""Pictures in, one picture out: stills of one scene fused, judged, and written with a record of every frame."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.estimate import read_estimate
from zssr_gan.degradation.estimator import Evidence, estimate_degradation
from zssr_gan.degradation.model import Degradation, Jpeg
from zssr_gan.degradation.noise import picture_noise
from zssr_gan.devices import RunOptions, machine
from zssr_gan.errors import ImageError, SettingsError, ZssrGanError
from zssr_gan.files import relative_path, sha256_bytes, sha256_file, why_unreadable, write_together
from zssr_gan.imaging.convert import like, picture_of
from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.picture import Metadata, Picture, quantise, seen_colours
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.batch import written_file
from zssr_gan.inference.outputs import check_new_files
from zssr_gan.inference.record import DegradationFacts, RecordError, encode_json, versions
from zssr_gan.inference.request import find_file
from zssr_gan.inference.verify import Check, Verification, check_file, check_label
from zssr_gan.provenance import LABELS, STATEMENT, CaseImage, label_of, provenance_text
from zssr_gan.video.fusion import Fused, fuse_burst
from zssr_gan.video.holdout import Verdict, judge_fusion

Camera = Degradation | DegradationFacts | Path | Literal["bicubic"] | None
"""A degradation, what a record says of one, the file of an estimate, or a word; None: estimated from the frames."""

_METHOD = (
    "registration: Lucas and Kanade 1981, Baker and Matthews 2004",
    "camera at sub-pixel places: Elad and Feuer 1997",
    "robust maximum a posteriori: Farsiu et al. 2004; like patches: Buades et al. 2005",
    "compression: Gunturk et al. 2004",
    "refined motion: Hardie et al. 1997",
    "frames held out: Stone 1974",
)


@dataclass(frozen=True, slots=True)
class Still:
    """A frame that came from a file, or from memory."""

    picture: Picture
    name: str
    sha256: str
    """Of the file, or of the pixels where they came from none."""
    jpeg: Jpeg | None = None
    """How its file was compressed."""


@dataclass(frozen=True, slots=True)
class FusedStills:
    """A result and what it rests on."""

    picture: Picture
    """Fused, or the reference frame restored alone where fusing does not pay."""
    plain: Picture
    """The reference frame enlarged by bicubic."""
    fused: Fused
    verdict: Verdict
    degradation: DegradationFacts


def fuse(
    images: Sequence[NDArray[Any] | Image.Image],
    scale: int = 2,
    *,
    reference: int = 0,
    degradation: Degradation | str | Path | None = None,
    affine: bool = True,
) -> Any:
    """Fuse frames of one scene into one image, by arithmetic alone: arrays in, array out; PIL in, PIL out.

    Args:
        images: at least two frames of one size, as `enhance` takes one, cut alike from one scene.
        scale: per side, 1 to 4; 1 restores without enlarging.
        reference: the frame whose moment and place the result shows.
        degradation: the camera's, or the file of an estimate; "bicubic"; None: estimated from the frames.
        affine: whether frames may turn and change size; else they shift alone.

    Returns:
        The image, of the kind of the reference frame, without alpha. Where frames that are held out say that fusing
        does not pay, it is the reference frame restored alone.

    Raises:
        ImageError: fewer than two frames, of several sizes, too small, or holding NaN or infinity.
        SettingsError: a scale or reference out of range, or a degradation that is none.
    """
    pictures = [picture_of(image) for image in images]
    stills = [Still(one, str(place), sha256_bytes(one.pixels.numpy().tobytes())) for place, one in enumerate(pictures)]
    camera = degradation if degradation is None or isinstance(degradation, Degradation) else camera_option(degradation)
    done = fuse_stills(stills, scale, reference, camera, affine=affine)
    return like(images[reference], done.picture)


def camera_option(text: str | Path) -> Camera:
    """The value of --degradation: `auto`, `bicubic`, or the file of an estimate."""
    return None if text == "auto" else "bicubic" if text == "bicubic" else Path(text)


def fuse_stills(
    stills: Sequence[Still], scale: int = 2, reference: int = 0, camera: Camera = None, *, affine: bool = True
) -> FusedStills:
    """Fuse stills, and judge by frames that are held out whether that pays (see `fuse`)."""
    if len(stills) < 2:
        raise ImageError("one image alone cannot be fused: zssr-gan enhance enlarges it")
    if not 0 <= reference < len(stills):
        raise SettingsError(f"the reference is one of the frames 0 to {len(stills) - 1}, not {reference}")
    first, source = stills[0].picture.pixels.shape[1:], stills[reference].picture
    for still in stills:
        if still.picture.pixels.shape[1:] != first:
            sizes = " and ".join(f"{w}x{h}" for h, w in (first, still.picture.pixels.shape[1:]))
            raise ImageError(f"frames to be fused have one size, and {stills[0].name} and {still.name} have {sizes}")
    frames = _frames(stills)
    known = _camera(stills, frames, camera)
    fused = fuse_burst(frames, known.values, scale, reference, affine=affine)
    verdict = judge_fusion(frames, known.values, fused, scale, affine=affine)
    image = fused.image if verdict.fuse else fuse_burst(frames[[reference]], known.values, scale).image
    plain = resize(source.pixels, (image.shape[1], image.shape[2])).clamp_(0, 1)
    return FusedStills(_like(source, image), _like(source, plain), fused, verdict, known)


def _frames(stills: Sequence[Still]) -> Tensor:
    """`F C H W`, gray where no frame has colours."""
    seen = [seen_colours(still.picture) for still in stills]
    channels = max(len(one) for one in seen)
    return torch.stack([one.expand(channels, -1, -1) for one in seen])


def _like(source: Picture, pixels: Tensor) -> Picture:
    """A picture without alpha, rounded, with the channels of its source."""
    return quantise(replace(source, pixels=pixels.expand(len(source.pixels), -1, -1), alpha=None, notices=()))


def _camera(stills: Sequence[Still], frames: Tensor, camera: Camera) -> DegradationFacts:
    if camera == "bicubic":
        return DegradationFacts.of(Degradation(), "bicubic", "bicubic is assumed, as asked for")
    if isinstance(camera, DegradationFacts):
        return camera
    if isinstance(camera, Degradation):
        return DegradationFacts.of(camera, "given", "given")
    if isinstance(camera, Path):
        return DegradationFacts.estimated(read_estimate(camera))
    evidence = [
        Evidence(CaseImage(name=still.name, sha256=still.sha256), pixels, still.jpeg)
        for still, pixels in zip(stills, frames, strict=True)
    ]
    facts = DegradationFacts.estimated(estimate_degradation(evidence))
    if facts.values.noise is None and facts.values.jpeg is None and (shown := picture_noise(frames[0])) is not None:
        values = facts.values.model_copy(update={"noise": shown.noise})
        facts = facts.model_copy(update={"values": values, "sha256": values.sha256})
    return facts


def fuse_files(
    paths: Sequence[Path],
    output: Path,
    scale: int = 2,
    reference: int = 0,
    camera: Camera = None,
    *,
    affine: bool = True,
    overwrite: bool = False,
) -> FusedStills:
    """Fuse the stills in files, and write the result, the reference frame enlarged plainly, and a record beside it.

    Args:
        paths: in the order of time.
        output: a .png or .tif; `NAME_bicubic` and `NAME.json` come beside it.
        scale, reference, camera, affine: see `fuse`.
        overwrite: replace files that exist.

    Raises:
        ImageError: a file cannot be read or was changed meanwhile; and as `fuse`.
        SettingsError: as `fuse`.
        OutputError: a file exists, or cannot be written.
    """
    if output.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise SettingsError(f"-o {output}: the result is a .png or .tif file, with its record beside it")
    check_new_files(_outputs(output), paths, overwrite=overwrite)
    done, contents = _made(paths, output, scale, reference, camera, affine=affine)
    write_together(contents, replaceable=list(contents) if overwrite else [])
    return done


def _outputs(output: Path) -> tuple[Path, Path, Path]:
    """Result, plain enlargement and record."""
    return output, output.with_name(f"{output.stem}_bicubic{output.suffix}"), output.with_suffix(".json")


def _made(
    paths: Sequence[Path], output: Path, scale: int, reference: int, camera: Camera, *, affine: bool
) -> tuple[FusedStills, dict[Path, bytes]]:
    """A result, and the files that are written of it."""
    _, plain, record = _outputs(output)
    stills = [_read(path) for path in paths]
    with machine(RunOptions("cpu", threads=1)):  # sums in one order, for the same bytes
        done = fuse_stills(stills, scale, reference, camera, affine=affine)
    hashes = [still.sha256 for still in stills]
    label = label_of(hashes[reference], done.degradation.learnt_from, frames=hashes)
    facts = {"reference": stills[reference].name, "frames": str(len(stills)), "scale": str(scale)}
    contents = {
        path: encode_picture(
            replace(picture, metadata=Metadata()),
            path.suffix,
            provenance_text(kind=kind, version=versions()["zssr-gan"], label=label, facts=facts),
        )
        for path, kind, picture in ((output, "result", done.picture), (plain, "plain enlargement", done.plain))
    }
    for path, still in zip(paths, stills, strict=True):
        if sha256_file(path) != still.sha256:
            raise ImageError(f"{path}: the file was changed while it was worked on: run it again")
    contents[record] = encode_json(
        {
            "fusion_version": 1,
            "tool": {"name": "zssr-gan", "version": versions()["zssr-gan"]},
            "versions": dict(versions()),
            "label": label,
            "label_means": LABELS[label],
            "statement": STATEMENT,
            "method": list(_METHOD),
            "scale": scale,
            "affine": affine,
            "reference": reference,
            "degradation": done.degradation.model_dump(mode="json"),
            "verdict": _json(done.verdict),
            "phases": list(done.fused.phases),
            "support": {"mean": float(done.fused.support.mean()), "least": float(done.fused.support.min())},
            "frames": [
                {"path": relative_path(path, output.parent), "sha256": still.sha256, **_json(fact)}
                for path, still, fact in zip(paths, stills, done.fused.frames, strict=True)
            ],
            "output": written_file(output, contents).model_dump(mode="json"),
            "plain": written_file(plain, contents).model_dump(mode="json"),
        }
    )
    return done, contents


def is_fusion(path: Path) -> bool:
    """Whether a file is the record of fused stills."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "fusion_version" in content


def verify_fusion(path: Path, *, rerun: bool = False) -> Verification:
    """Compare the frames and files of a fusion with its record; with `rerun`, fuse again and compare the bytes.

    Raises:
        RecordError: a broken record, or one of another version.
    """
    try:
        record = json.loads(path.read_bytes())
        if record["fusion_version"] != 1:
            raise RecordError(f"{path}: a record of fusion {record['fusion_version']}; this program reads version 1")
        folder = path.absolute().parent
        frames = [find_file(frame["path"], folder) for frame in record["frames"]]
        output = folder / Path(record["output"]["name"]).name
        checks = [
            check_file("frame", file, frame["sha256"]) for file, frame in zip(frames, record["frames"], strict=True)
        ]
        checks += [check_file("output", output, record["output"]["sha256"])]
        checks += [check_file("plain", folder / Path(record["plain"]["name"]).name, record["plain"]["sha256"])]
        camera = DegradationFacts.model_validate(record["degradation"])
        hashes = [frame["sha256"] for frame in record["frames"]]
        least = label_of(hashes[record["reference"]], camera.learnt_from, frames=hashes)
        checks.append(check_label(record["label"], least, output))
        if rerun:
            try:
                _, made = _made(frames, output, record["scale"], record["reference"], camera, affine=record["affine"])
                same = sha256_bytes(made[output]) == record["output"]["sha256"]
                text = "fused again from the record: " + ("the same bytes" if same else "other bytes")
                checks.append(Check("rerun", same, text))
            except ZssrGanError as error:
                checks.append(Check("rerun", False, f"not made: {error}"))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RecordError(f"{path}: a broken record: {type(error).__name__}: {error}") from error
    return Verification(path, tuple(checks))


def _json(facts: Any) -> dict[str, JsonValue]:
    return dict(asdict(facts))


def _read(path: Path) -> Still:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {why_unreadable(path, error)}") from error
    return Still(decode_picture(data, str(path)), path.name, sha256_bytes(data), jpeg_of(data))
