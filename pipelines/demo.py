"""Everything on pictures that scikit-image ships: python -m pipelines.demo (or: make demo); two minutes on 2 cores.

Writes a colour photograph, real gray faces of 25x25 px, and a short video to runs/demo. Enhances the images, follows a
face through the video and fuses its frames, with the commands that a user types; then prepares the 100 faces, makes
synthetic HR images of them, trains a small generator on these and makes the report, as `make prepare`, `make synth`,
`make train` and `make eval` do. Its last lines name what to open.
"""

import shlex
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import av
import numpy as np
from PIL import Image
from skimage import data

RUN = Path("runs/demo")

CONFIG = Path("configs/demo.yaml")  # its run's folder is RUN too

STAGES = ("prepare", "synth", "train", "evaluate")

FACE = "43,15,36,42"
"""Where it is in the middle frame of the video: left, top, width and height in pixels."""

FACES = (0, 5)  # of lfw_subset, whose first 100 are faces: any will do


def write_inputs(folder: Path) -> None:
    """Write astronaut.png (48x48 RGB, a reduced crop) and face-NNN.png (25x25 gray, at their native size)."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.png"):  # of an earlier version of this demo
        left.unlink()
    crop = Image.fromarray(data.astronaut()[0:240, 104:344])
    crop.resize((48, 48), Image.Resampling.BICUBIC).save(folder / "astronaut.png")
    faces = data.lfw_subset()
    for index in FACES:
        Image.fromarray(np.round(faces[index] * 255).astype(np.uint8)).save(folder / f"face-{index:03}.png")


def clip_box(number: int) -> tuple[float, float, float, float]:
    """The part of the photograph that a frame of the clip shows: left, top, right and bottom in its pixels."""
    left, top = 40 + 2.3 * number + 9 * np.sin(number), 8 + 1.1 * number + 6 * np.cos(1.7 * number)
    return left, top, left + 288, top + 240


def write_clip(path: Path) -> None:
    """Write 9 frames of 96x80 px: a face that drifts by fractions of a pixel, seen by a noisy camera."""
    photograph = Image.fromarray(data.astronaut())
    draws = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv444p"
        for number in range(9):
            seen = photograph.resize((96, 80), Image.Resampling.BICUBIC, box=clip_box(number))
            noisy = np.asarray(seen) + draws.normal(0, 3, (80, 96, 1))
            frame = av.VideoFrame.from_ndarray(noisy.round().clip(0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> int:
    """Run the demo; return the exit code of the first command that fails, or 0."""
    command = str(Path(sysconfig.get_path("scripts")) / "zssr-gan")
    sheet = RUN / "contact-sheet.png"
    write_inputs(RUN / "input")
    write_clip(RUN / "clip.mkv")
    enhance = ["enhance", str(RUN / "input"), "-o", str(RUN / "output"), "--preset", "fast", "--evidence"]
    enhance += ["--compare", str(sheet), "--overwrite"]
    track = ["video", "track", str(RUN / "clip.mkv"), "--region", FACE, "--frame", "4", "-o", str(RUN / "track.json")]
    fuse = ["fuse", str(RUN / "clip.mkv"), "--track", str(RUN / "track.json"), "-o", str(RUN / "fused.png")]
    commands = [("zssr-gan", [command, *words]) for words in (enhance, [*track, "--overwrite"], [*fuse, "--overwrite"])]
    # On images this small more threads do not help, and on a busy machine they wait.
    for stage in STAGES:
        module = ["-m", f"pipelines.{stage}", "--config", str(CONFIG)]
        commands.append(("python", [sys.executable, *module, *(["--threads", "1"] if stage != "prepare" else [])]))
    started = time.perf_counter()
    for name, words in commands:
        print(f"$ {name} {shlex.join(words[1:])}", flush=True)
        try:
            code = subprocess.run(words, check=False).returncode
        except KeyboardInterrupt:  # the command got it too, and has said so
            return 130
        if code:
            return code
    print(f"Done in {time.perf_counter() - started:.0f} s. Results, evidence maps and records: {RUN / 'output'}")
    print(f"100 faces and what was learnt from them together: open {RUN / 'synthetic/contact-sheet.png'}")
    samples = sorted((RUN / "train/samples").glob("*.png"))[-1]
    print(f"What a generator made of faces that it was not trained on: open {samples}")
    print(
        f"The frames of a face in a video, and what they make together: open {RUN / 'track.png'}, {RUN / 'fused.png'}"
    )
    print(f"Input, bicubic, result and evidence map side by side: open {sheet}")
    print(f"All of it measured, each method against truths, in one page: open {RUN / 'report/index.html'} in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
