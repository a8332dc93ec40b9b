"""Everything on pictures that scikit-image ships: python -m pipelines.demo (or: make demo); two minutes on 2 cores.

Writes a colour photograph and real gray faces of 25x25 px to runs/demo/input and enhances them with the same command
that a user types; then prepares the 100 faces, makes synthetic HR images of them, trains a small generator on
these and makes the report, as `make prepare`, `make synth`, `make train` and `make eval` do. Its last lines
name what to open.
"""

import shlex
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

RUN = Path("runs/demo")

CONFIG = Path("configs/demo.yaml")  # its run's folder is RUN too

STAGES = ("prepare", "synth", "train", "evaluate")

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


def main() -> int:
    """Run the demo; return the exit code of the first command that fails, or 0."""
    command = str(Path(sysconfig.get_path("scripts")) / "zssr-gan")
    sheet = RUN / "contact-sheet.png"
    write_inputs(RUN / "input")
    enhance = ["enhance", str(RUN / "input"), "-o", str(RUN / "output"), "--preset", "fast", "--evidence"]
    enhance += ["--compare", str(sheet), "--overwrite"]
    commands = [("zssr-gan", [command, *enhance])]
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
    print(f"Input, bicubic, result and evidence map side by side: open {sheet}")
    print(f"All of it measured, each method against truths, in one page: open {RUN / 'report/index.html'} in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
