"""How many modules of the package take part in one `zssr-gan enhance face.png --preset fast`.

    python -m benchmarks.rooms

A module takes part if one of its functions runs. What imports run does not count: the command runs once before it is
traced. The image is one of scikit-image's faces, 25 x 25 pixels. Commit a063965 had 40 modules, 330 functions.
"""

import contextlib
import inspect
import runpy
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from PIL import Image
from skimage import data


def run(image: str) -> None:
    """Run the command on `image` in this process."""
    sys.argv = ["zssr-gan", "enhance", image, "--preset", "fast", "--threads", "1", "-q", "--overwrite"]
    with contextlib.suppress(SystemExit):
        runpy.run_module("zssr_gan", run_name="__main__")


def functions_of_a_run(image: str) -> set[tuple[str, str]]:
    """Module and qualified name of each of the package's functions that runs."""
    found: set[tuple[str, str]] = set()

    def on_event(frame: FrameType, event: str, _: object) -> None:
        name = str(frame.f_globals.get("__name__", ""))
        if event == "call" and name.startswith("zssr_gan") and frame.f_code.co_flags & inspect.CO_NEWLOCALS:
            found.add((name, frame.f_code.co_qualname))

    sys.setprofile(on_event)
    run(image)
    sys.setprofile(None)
    return found


def main() -> None:
    """Print each module with the number of its functions that ran, and the sums."""
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder, "face.png"))
        Image.fromarray((data.lfw_subset()[0] * 255).round().astype("uint8")).save(image)
        run(image)
        functions = functions_of_a_run(image)
    for name, count in sorted((modules := Counter(module for module, _ in functions)).items()):
        print(f"{name:45} {count:4}")
    print(f"{len(modules)} modules, {len(functions)} functions")


if __name__ == "__main__":
    main()
