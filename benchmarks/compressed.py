"""Protocol `crops`: what a shared model makes of faces cut out of compressed photographs and of video frames.

    python -m benchmarks.compressed DATA
    python -m benchmarks.compressed DATA --groups A75,V28P --faces 64 --seeds 0,1,2 --preset fast
    python -m benchmarks.compressed DATA --today OTHER_CHECKOUT

Faces of DATA/faces at 64 px are pasted at even places into a scene of 928 px, made of DATA/set5 and scikit-image's
photographs; the scene is blurred, halved, given noise and compressed as a whole (Pillow's JPEG, 4:2:0; or x264 by
PyAV, panned by half an LR pixel a frame), and the faces are cut out again and stored as PNG. Groups that are saved
again are stored as JPEG. The blur is in HR pixels. The groups of frames (F...) differ in the codec, in how colours are
enlarged when a frame is written as PNG, and in what lies beside them.

Each method is the command `zssr-gan enhance FACES --init shared`, with what it assumes of the camera: bicubic, the
estimate of this checkout, that of another one (`--today`), or what is true (`oracle`: blur, noise and the first JPEG
quality; video has none). The preset `proxy` is `fast` with a network of depth 6 and 200 iterations in place of 16 and
500. `--gray`: scenes and files have no colours. Prints PSNR-Y (protocol.py), means of all faces and seeds, and 95 %
intervals of the differences over faces, with the difference of the worst face.
"""

import argparse
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage import data
from torch import Tensor

from benchmarks.protocol import parsed, score, show_row
from zssr_gan.degradation.estimate import encode_estimate, given_estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.coding import coding_text
from zssr_gan.imaging.colour import luma_of, to_levels
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.video.io import open_video
from zssr_gan.video.pixels import picture_of_frame

FRAMES = 8


@dataclass(frozen=True, slots=True)
class Group:
    """What one group of faces went through."""

    blur: tuple[float, float, float]
    """Widths in HR pixels, and degrees."""
    noise: float
    """Levels."""
    quality: int | None = None
    again: int | None = None
    """Quality of the file that a crop is stored in; None: PNG."""
    crf: int | None = None
    predicted: bool = False
    """Whether the frame is the eighth, a P frame; else the first, an I frame."""
    codec: str = "libx264"
    quantiser: int | None = None
    """Of MPEG-4, in place of a crf."""
    pixel_format: str = "yuv420p"
    interlaced: bool = False
    """Whether the frames are coded as two fields each."""
    written: Literal["repeated", "linear", "own"] = "repeated"
    """How colours become as large as luma: FFmpeg's default, its linear filter, or as `zssr-gan video frames` does."""
    told: bool = False
    """Whether the files say how the video was coded, as stills of `zssr-gan video frames` do."""
    photograph: bool = False
    """Whether the last face is no frame but cut out of a photograph of JPEG 80, and stored so."""
    size: Size = (32, 32)

    @property
    def is_video(self) -> bool:
        """Whether it is frames, of which no true degradation is known."""
        return self.crf is not None or self.quantiser is not None or self.codec == "ffv1"

    def degradation(self) -> Degradation:
        """What is true; without a video's compression."""
        major, minor, angle = self.blur
        blur = GaussianBlur(sigma_major=major / 2, sigma_minor=minor / 2, angle_degrees=angle)
        jpeg = None if self.quality is None else Jpeg.of_quality(self.quality)
        return Degradation(blur=blur, noise=Noise(sigma=self.noise / 255), jpeg=jpeg)


GROUPS = {
    "A85": Group((0.9, 0.7, 150), 3, quality=85),
    "A75": Group((1.1, 0.8, 30), 2, quality=75),
    "A60": Group((1.2, 0.9, 100), 1, quality=60),
    "N75": Group((1.1, 0.8, 30), 1.5, quality=75, size=(16, 20)),
    "B75": Group((1.0, 0.8, 60), 2, quality=75, again=90),
    "H70": Group((1.1, 0.7, 120), 2, quality=70),
    "HB60": Group((1.0, 0.9, 15), 1.5, quality=60, again=90),
    "V23I": Group((1.1, 0.8, 30), 1, crf=23),
    "V28I": Group((1.1, 0.8, 30), 1, crf=28),
    "V28P": Group((1.1, 0.8, 30), 1, crf=28, predicted=True),
    "HV28P": Group((1.0, 0.7, 120), 1.5, crf=28, predicted=True),
    "V33I": Group((0.9, 0.7, 150), 1, crf=33),
    "V33P": Group((0.9, 0.7, 150), 1, crf=33, predicted=True),
    # No limit of the rule for video was read from these two.
    "XV25P": Group((1.3, 0.9, 70), 2, crf=25, predicted=True),
    "XV30I": Group((1.0, 0.7, 45), 1.5, crf=30),
    "F28P": Group((1.1, 0.8, 30), 1, crf=28, predicted=True, written="own"),
    "F28P-linear": Group((1.1, 0.8, 30), 1, crf=28, predicted=True, written="linear"),
    "F28P-mixed": Group((1.1, 0.8, 30), 1, crf=28, predicted=True, written="own", photograph=True),
    "F28P-422": Group((1.1, 0.8, 30), 1, crf=28, predicted=True, pixel_format="yuv422p"),
    "F28P-fields": Group((1.1, 0.8, 30), 1, crf=28, predicted=True, interlaced=True),
    "FMPEG4-I": Group((1.1, 0.8, 30), 1, codec="mpeg4", quantiser=6, written="own"),
    "FMPEG4": Group((1.1, 0.8, 30), 1, codec="mpeg4", quantiser=6, predicted=True, written="own"),
    "FFFV1": Group((1.1, 0.8, 30), 1, codec="ffv1", written="own"),
    "FFFV1-told": Group((1.1, 0.8, 30), 1, codec="ffv1", written="own", told=True),
}
JPEG = "A85,A75,A60,N75,B75,H70,HB60"


class Crops:
    """The faces of a group: truths `3 2h 2w`, and their LR files in a folder."""

    def __init__(self, folder: Path, group: Group, count: int, seed: int, out: Path, gray: bool = False) -> None:
        self.draws, self.gray = np.random.default_rng(seed), gray
        scene = self._shown(_mosaic(folder / "set5", self.draws))
        paths = sorted((folder / "faces").glob("*.png"))
        faces = [paths[n] for n in self.draws.permutation(len(paths))[:count]]
        cells = self.draws.permutation(64)[:count]
        corners = [
            (116 * (cell // 8) + 2 * int(self.draws.integers(26)), 116 * (cell % 8) + 2 * int(self.draws.integers(26)))
            for cell in cells.tolist()
        ]
        rows, columns = (2 * side for side in group.size)
        self.truths = []
        out.mkdir()
        for path, (top, left) in zip(faces, corners, strict=True):
            face = self._shown(rounded(resize(read_picture(path).pixels, (64, 64))))
            scene[:, top : top + 64, left : left + 64] = face
            y, x = (64 - rows) // 2, (64 - columns) // 2
            self.truths.append(face[:, y : y + rows, x : x + columns])
        whole = self._captured(scene, group)
        photograph = self._photographed(scene, group, 80) if group.photograph else None
        told = PngInfo()
        lossless = group.codec == "ffv1"
        for key, text in coding_text(group.codec, group.pixel_format, "limited", lossless=lossless).items():
            told.add_text(key, text)
        for number, (top, left) in enumerate(corners):
            y, x = ((corner + (64 - side) // 2) // 2 for corner, side in ((top, rows), (left, columns)))
            box = (x, y, x + group.size[1], y + group.size[0])
            if photograph is not None and number == count - 1:
                photograph.crop(box).save(out / f"{number:03d}.jpg", quality=80)
                continue
            crop = whole.crop(box).convert("L") if gray else whole.crop(box)
            if group.again is None:
                crop.save(out / f"{number:03d}.png", pnginfo=told if group.told else None)
            else:
                crop.save(out / f"{number:03d}.jpg", quality=group.again)

    def _shown(self, pixels: Tensor) -> Tensor:
        """`3 H W`, without colours where the scene has none."""
        return rounded(luma_of(pixels)).repeat(3, 1, 1) if self.gray else pixels

    def _captured(self, scene: Tensor, group: Group) -> Image.Image:
        """The LR scene as it is read from its file, or from its video."""
        if not group.is_video:
            assert group.quality is not None
            return self._photographed(scene, group, group.quality)
        # The camera pans by half an LR pixel a frame, and the frame that is taken shows the scene where it was.
        taken = FRAMES - 1 if group.predicted else 0
        frames = [self._shrunk(scene.roll(number - taken, -1), group) for number in range(taken + 1)]
        return _through_video(frames, group)

    def _photographed(self, scene: Tensor, group: Group, quality: int) -> Image.Image:
        file = io.BytesIO()
        self._shrunk(scene, group).save(file, "JPEG", quality=quality)
        return Image.open(io.BytesIO(file.getvalue())).convert("RGB")

    def _shrunk(self, scene: Tensor, group: Group) -> Image.Image:
        small = group.degradation().downscale(scene[None], (scene.shape[1] // 2, scene.shape[2] // 2))[0]
        shape = (1, *small.shape[1:]) if self.gray else small.shape
        noise = torch.from_numpy(self.draws.normal(0, group.noise / 255, shape)).float()
        return Image.fromarray(to_levels(small + noise).permute(1, 2, 0).numpy())


def _mosaic(set5: Path, draws: np.random.Generator) -> Tensor:
    """`3 928 928` of four photographs."""
    photographs = [read_picture(path).pixels for path in sorted(set5.glob("*.png"))]
    photographs += [
        torch.from_numpy(image).permute(2, 0, 1).float() / 255
        for image in (data.astronaut(), data.chelsea(), data.coffee())
    ]
    chosen = [photographs[n] for n in draws.permutation(len(photographs))[:4]]
    parts = [rounded(resize(one.expand(3, -1, -1), (464, 464))) for one in chosen]
    return torch.cat([torch.cat(parts[:2], 2), torch.cat(parts[2:], 2)], 1)


def _through_video(frames: list[Image.Image], group: Group) -> Image.Image:
    """The last frame as it is decoded from a file without B frames and written."""
    import av  # the extra `bench`

    options = {"bf": "0"}
    if group.codec == "libx264":
        options |= {"crf": str(group.crf), "x264-params": f"scenecut=0:threads=1:interlaced={int(group.interlaced)}"}
    if group.quantiser is not None:
        options |= {"qmin": str(group.quantiser), "qmax": str(group.quantiser), "threads": "1"}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        with av.open(str(path), "w") as video:
            stream: Any = video.add_stream(
                group.codec, rate=Fraction(25), options={} if group.codec == "ffv1" else options
            )
            stream.width, stream.height = frames[0].size
            stream.pix_fmt = group.pixel_format
            for frame in frames:
                video.mux(stream.encode(av.VideoFrame.from_image(frame)))
            video.mux(stream.encode())
        with open_video(path) as opened:
            *_, ours = opened.frames
        assert ours.picture_type == ("P" if group.predicted else "I")
        if group.written == "own":
            return Image.fromarray(to_levels(picture_of_frame(ours).pixels.expand(3, -1, -1)).permute(1, 2, 0).numpy())
        with av.open(str(path)) as video:
            *_, last = video.decode(video=0)
    if group.written == "linear":
        last = last.reformat(format="yuv444p", interpolation="BILINEAR")
    return Image.fromarray(last.to_ndarray(format="rgb24"))


def enhanced(tree: Path, faces: Path, out: Path, camera: str, args: argparse.Namespace, seed: int) -> list[Tensor]:
    """Results of the command of a checkout, in the order of the faces."""
    preset = _proxy(tree, out / "proxy.yaml") if args.preset == "proxy" else args.preset
    command = [sys.executable, "-m", "zssr_gan", "enhance", str(faces), "-o", str(out), "--init", "shared"]
    command += ["--degradation", camera, "--preset", preset, "--seed", str(seed), "--quiet"]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    subprocess.run(command, cwd=tree, check=True)
    return [read_picture(path).pixels for path in sorted(out.glob("*_x2.png"))]


def assumed(out: Path) -> str:
    """What the estimate beside the results says, in one line."""
    (path,) = out.glob("degradation-*.json")
    read = json.loads(path.read_text())
    return f"{read['degradation']['jpeg'] and read['degradation']['jpeg']['quality']}: {read['why']}"


def measured(name: str, seed: int, args: argparse.Namespace) -> dict[str, NDArray[np.float64]]:
    """PSNR-Y of each face by each method."""
    group, here = GROUPS[name], Path(__file__).parents[1]
    with TemporaryDirectory() as folder:
        faces = Path(folder) / "faces"
        crops = Crops(args.folder, group, args.faces, seed, faces, args.gray)
        results = {}
        lr = [read_picture(path).pixels for path in sorted(faces.iterdir())]
        results["bicubic"] = [resize(one, (2 * one.shape[1], 2 * one.shape[2])) for one in lr]
        trees = {"shared, bicubic": here, "today": args.today, "estimate": here, "oracle": here}
        cameras = {"shared, bicubic": "bicubic", "today": "estimate", "estimate": "estimate"}
        if not group.is_video:
            truth = Path(folder) / "truth.json"
            truth.write_bytes(encode_estimate(given_estimate(group.degradation(), "the protocol's own")))
            cameras["oracle"] = str(truth)
        for method, camera in cameras.items():
            if trees[method] is None or method not in args.methods.split(";"):
                continue
            out = Path(folder) / method.replace(", ", "-")
            out.mkdir()
            results[method] = enhanced(trees[method], faces, out, camera, args, seed)
            if camera == "estimate":
                print(f"{name}, seed {seed}, {method}: {assumed(out)}", flush=True)
        return {
            method: np.array([score(one, truth).psnr for one, truth in zip(images, crops.truths, strict=True)])
            for method, images in results.items()
        }


def main() -> None:
    """Print a row for each group."""
    args = parsed(
        __doc__,
        "folder",
        preset="proxy",
        groups=JPEG,
        faces=24,
        seeds="0",
        today="",
        gray=False,
        methods="shared, bicubic;today;estimate;oracle",
    )
    args.folder, args.today = args.folder.resolve(), Path(args.today).resolve() if args.today else None
    columns = ("bicubic", "shared, bicubic", "today", "estimate", "oracle")
    others = [one for one in columns if one != "estimate"]
    show_row("group", *columns, *(f"estimate - {one} (worst)" for one in others))
    show_row(*["---"] * 10)
    for name in args.groups.split(","):
        seeds = [measured(name, int(seed), args) for seed in args.seeds.split(",")]
        psnr = {method: np.concatenate([one[method] for one in seeds]) for method in seeds[0]}
        cells = [f"{psnr[one].mean():.2f}" if one in psnr else "-" for one in columns]
        cells += [_difference(psnr, one) for one in others]
        show_row(name, *cells)


def _difference(psnr: dict[str, NDArray[np.float64]], other: str) -> str:
    """Mean of the estimate's gain over another method, with its 95 % interval and that of the worst face."""
    if other not in psnr or "estimate" not in psnr:
        return "-"
    gain = psnr["estimate"] - psnr[other]
    return f"{gain.mean():+.2f} +- {1.96 * gain.std(ddof=1) / len(gain) ** 0.5:.2f} ({gain.min():+.2f})"


def _proxy(tree: Path, path: Path) -> str:
    """Write the checkout's `fast` with a smaller network and a shorter training."""
    (fast,) = (tree / "zssr_gan").rglob("presets/fast.yaml")
    text = fast.read_text()
    for long, short in (("depth: 16", "depth: 6"), ("iterations: 500", "iterations: 200")):
        assert text.count(long) == 1, long
        text = text.replace(long, short)
    path.write_text(text)
    return str(path)


if __name__ == "__main__":
    main()
