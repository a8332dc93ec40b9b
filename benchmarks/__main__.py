"""The figures of benchmarks/*.md that need no generator: python -m benchmarks DATA (or: make bench DATA=folder).

DATA holds `set5/` (the five truths) and `faces/` (truths of at least 64 px). Takes about two hours on two cores.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.speed_parts import SPEEDS


def main() -> int:
    """Run every benchmark in a process of its own, so that none warms or fills the memory of the next."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=["speed", "set5", "faces", "blind", "large"], help="one group of figures")
    args = parser.parse_args()
    set5, faces = str(args.data / "set5"), str(args.data / "faces")
    groups = {
        "speed": [
            [
                "benchmarks.gpu_table",
                "--device",
                "cpu",
                "--budget",
                "900",
                "--only",
                f"machine,{','.join(SPEEDS)},fleets,stage1",
            ],
            ["benchmarks.training_step"],
        ],
        "set5": [
            ["benchmarks.definitions", set5],
            ["benchmarks.quality", set5, "--preset", "fast", "--seeds", "0,1,2"],
            ["benchmarks.quality", set5, "--preset", "quality"],
            ["benchmarks.quality", set5, "--preset", "quality", "--images", "butterfly,woman", "--seeds", "0,1,2"],
            ["benchmarks.quality", set5, "--preset", "original"],
            ["benchmarks.quality", set5, "--preset", "paper"],
        ],
        "faces": [
            ["benchmarks.quality", faces, "--truth-side", "64", "--count", "100"],
            ["benchmarks.quality", faces, "--truth-side", "64", "--count", "20", "--seeds", "0,1,2"],
            ["benchmarks.quality", faces, "--truth-side", "64", "--shared", "--seeds", "0,1,2"],
        ],
        "blind": [
            ["benchmarks.blind", faces, "--size", "100"],
            ["benchmarks.blind", faces, "--size", "100", "--groups", "12", "--seed", "1", "--estimate-only"],
            ["benchmarks.blind", faces, "--sets", "shapes,three,motions"],
            ["benchmarks.blind", faces, "--sets", "plain,one", "--estimate-only"],
            ["benchmarks.blind", set5, "--sets", "photographs"],
            ["benchmarks.crops", str(args.data)],
            ["benchmarks.compressed", str(args.data)],
            ["benchmarks.compressed", str(args.data), "--groups", "V23I,V28I,V28P,HV28P,V33P"],
        ],
        "large": [["benchmarks.large_image"]],
    }
    failed = 0
    for name, commands in groups.items():
        if args.only in (None, name):
            for module, *arguments in commands:
                print(f"\n$ python -m {module} {' '.join(arguments)}", flush=True)
                failed |= subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
