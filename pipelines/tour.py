"""The page of zssr-gan on a case to try it with: python -m pipelines.tour (or: make web).

Makes the case in runs/tour unless it is there: faces of 25x25 px, a reduced photograph, and a clip of a face that
drifts, all from scikit-image. Then it is `zssr-gan web --cases runs/tour --open`, with what else is given.
"""

import sys
import tempfile
from pathlib import Path

from pipelines.demo import write_clip, write_inputs
from zssr_gan.cli.main import main as zssr_gan
from zssr_gan.web.case_folder import create_case, list_cases
from zssr_gan.web.site import account

CASES = Path("runs/tour")

_TITLE = "Tour: two faces, a photograph, a clip"


def make_case(cases: Path) -> None:
    """Make the case of the tour, unless it is there."""
    if any(case.facts.title == _TITLE for case in list_cases(cases)):
        return
    cases.mkdir(parents=True, exist_ok=True)
    case = create_case(cases, _TITLE, account())
    with tempfile.TemporaryDirectory(dir=cases, prefix=".") as folder:
        write_inputs(Path(folder))
        write_clip(Path(folder) / "clip.mkv")
        for path in sorted(Path(folder).iterdir()):
            case.add_original(path, path.name, account())


def main() -> int:
    """Make the case and serve the page; return the command's exit code."""
    make_case(CASES)
    return zssr_gan(["web", "--cases", str(CASES), "--open", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
