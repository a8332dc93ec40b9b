"""The main job on pictures that scikit-image ships: python -m pipelines.demo (or: make demo); under 45 s on 2 cores.

Writes a colour photograph and real gray faces of 25x25 px to runs/demo/input, enhances them with the same command
that a user types, and names the contact sheet to open.
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
    """Run the demo; return the exit code of the command."""
    command = Path(sysconfig.get_path("scripts")) / "zssr-gan"
    sheet = RUN / "contact-sheet.png"
    write_inputs(RUN / "input")
    arguments = ["enhance", str(RUN / "input"), "-o", str(RUN / "output"), "--preset", "fast", "--evidence"]
    arguments += ["--compare", str(sheet), "--overwrite"]
    arguments += ["--threads", "1"]  # on images this small more do not help, and on a busy machine they wait
    print("$ zssr-gan " + shlex.join(arguments), flush=True)
    started = time.perf_counter()
    try:
        code = subprocess.run([command, *arguments], check=False).returncode
    except KeyboardInterrupt:  # the command got it too, and has said so
        return 130
    if code == 0:
        seconds = time.perf_counter() - started
        print(f"Done in {seconds:.0f} s. Results, evidence maps and records: {RUN / 'output'}")
        print(f"Input, bicubic, result and evidence map side by side: open {sheet}")
    return code


if __name__ == "__main__":
    sys.exit(main())
