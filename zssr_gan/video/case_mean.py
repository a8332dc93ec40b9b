"""Where the learnt mean of a fused image comes from: this track's frames, other tracks of the case, or a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from zssr_gan.degradation.model import Degradation
from zssr_gan.devices import RunOptions, machine
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging.io import decode_picture, read_image_bytes
from zssr_gan.imaging.picture import seen_colours
from zssr_gan.inference.outputs import collect_sources
from zssr_gan.provenance import CaseImage
from zssr_gan.video.coding import Coding, coding_of
from zssr_gan.video.folder import TABLE, still_frames
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.holdout import FEWEST
from zssr_gan.video.learnt import FusedTrack, check_mean, learn_mean
from zssr_gan.zeroshot.shared import SharedModel, read_shared

MeanKind = Literal["none", "own", "shared"]

OnProgress = Callable[[str, int, int], None]
"""Called with the stage, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class MeanOption:
    """Which learnt mean a fused image is pulled to.

    Args:
        kind: "none"; "own": learnt on this track's frames; "shared": on the case.
        init_from: of "shared": a model's file, or a folder whose folders hold the frames of one track each.
    """

    kind: MeanKind = "none"
    init_from: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("none", "own", "shared"):
            raise SettingsError(f"the mean is none, own or shared, not {self.kind!r}")
        if (self.kind == "shared") != (self.init_from is not None):
            raise SettingsError(
                "--mean shared takes --init-from: a folder with a folder of frames for each track of the case, or the "
                "file of a model that such a run has written"
                if self.kind == "shared"
                else "--init-from is what --mean shared is learnt from: add that, or leave it out"
            )

    def model_in_file(self) -> SharedModel | None:
        """The model in the file that was named; None where there is none. Raises SettingsError."""
        if self.init_from is None or self.init_from.is_dir():
            return None
        return read_shared(self.init_from)


def mean_model(
    option: MeanOption,
    track: FusedTrack,
    degradation: Degradation,
    scale: int,
    *,
    affine: bool,
    on_progress: OnProgress | None = None,
) -> SharedModel:
    """The model of a mean that is wanted, read or learnt on one thread (for the same bytes).

    Raises:
        ImageError: frames too small to learn from, or no track in the folder.
        SettingsError: a model of another camera or scale, or none.
        NumericalError: NaN or infinity came out of learning.
    """
    if (model := option.model_in_file()) is not None:
        check_mean(model, degradation, scale)
        return model
    with machine(RunOptions("cpu", threads=1)) as used:
        tracks = [track]
        if option.init_from is not None:
            tracks += _other_tracks(option.init_from, track, degradation, scale, affine=affine, on_progress=on_progress)
        return learn_mean(tracks, degradation, scale, machine=used, on_progress=on_progress)


def _other_tracks(
    folder: Path, own: FusedTrack, degradation: Degradation, scale: int, *, affine: bool, on_progress: OnProgress | None
) -> list[FusedTrack]:
    """The tracks in a folder's folders, fused about their first frames, but the one whose frames are `own`."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    known, tracks = {image.sha256 for image in own.images}, []
    for place, one in enumerate(folders, 1):
        paths, _ = collect_sources([one])
        images, pixels = _read(paths)
        if len(images) >= FEWEST and not known & {image.sha256 for image in images}:
            coding = _coding(one, images)
            fused = fuse_burst(torch.stack(pixels), degradation, scale, affine=affine, coding=coding)
            if sum(frame.rejected is None for frame in fused.frames) >= FEWEST:
                tracks.append(FusedTrack(images, fused))
        if on_progress is not None:
            on_progress("fusing the case's tracks", place, len(folders))
    if not tracks:
        raise ImageError(f"{folder}: none of its folders holds a further track of {FEWEST} frames or more of one scene")
    return tracks


def _coding(folder: Path, images: Sequence[CaseImage]) -> Coding | None:
    """What a video's compression did to the stills of a folder, by its table; None where it has none, or not of all."""
    table = still_frames(folder) if (folder / TABLE).is_file() else {}
    frames = [table[image.sha256] for image in images if image.sha256 in table]
    return coding_of(frames, [(0, 0)] * len(frames), None) if len(frames) == len(images) else None


def _read(paths: Sequence[Path]) -> tuple[tuple[CaseImage, ...], list[torch.Tensor]]:
    """The images of a track's frames and their luma and colours, alike in size and channels."""
    images: list[CaseImage] = []
    pixels: list[torch.Tensor] = []
    for path in paths:
        data = read_image_bytes(path)
        seen = seen_colours(decode_picture(data, str(path)))
        if pixels and seen.shape[1:] != pixels[0].shape[1:]:
            raise ImageError(f"{path}: the frames of a track have one size, and this one has another")
        images.append(CaseImage(name=f"{path.parent.name}/{path.name}", sha256=sha256_bytes(data)))
        pixels.append(seen)
    channels = max(map(len, pixels), default=1)
    return tuple(images), [one.expand(channels, -1, -1) for one in pixels]
