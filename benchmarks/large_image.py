"""Memory and time of a 12-megapixel photograph, x2, through the real command: python -m benchmarks.large_image

The photograph is made: scikit-image's colour pictures, enlarged and tiled to 4000x3000 with a little noise, so that
neither the content nor the file compresses to nothing. The figure is the peak resident memory of the whole process.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from benchmarks.protocol import parsed


def write_photograph(path: Path, width: int = 4000, height: int = 3000) -> None:
    """A made RGB photograph of that size."""
    parts = [Image.fromarray(picture).resize((2000, 1500)) for picture in (data.astronaut(), data.coffee())]
    sheet = Image.new("RGB", (4000, 3000))
    for place, part in zip(((0, 0), (2000, 0), (0, 1500), (2000, 1500)), parts * 2, strict=True):
        sheet.paste(part, place)
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    pixels = np.asarray(sheet.resize((width, height)), dtype=np.float64) + noise
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(path)


def main() -> int:
    """Enhance it; print peak memory and seconds."""
    args = parsed(__doc__, preset="fast", arguments="--device cpu")  # further arguments of zssr-gan enhance
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "photograph.png")
        write_photograph(source)
        command = [sys.executable, "-m", "zssr_gan", "enhance", str(source), "--preset", args.preset, "-q"]
        began = time.perf_counter()
        code = subprocess.run([*command, *args.arguments.split()], check=False).returncode
        seconds = time.perf_counter() - began
        sizes = [f"{Image.open(path).size}" for path in Path(folder).glob("*_x2.png")]
    gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"12 MP x2, {args.preset}: exit {code}, result {sizes}, {seconds:.0f} s, peak {gib:.2f} GiB of process memory"
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
