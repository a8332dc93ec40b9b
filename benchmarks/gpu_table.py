"""What a GPU machine shows in five minutes: is it right, does it repeat, what waits, how fast is it.

    python3 benchmarks/gpu_table.py [--budget 300] [--only right,fleets]    # or: make gpu-table
    python3 benchmarks/gpu_table.py --tiny --device cpu                     # to try the script without a GPU
    python -m benchmarks.gpu_table --device cpu --threads 1 --only steps,back,fleets,stage1,metrics --budget 900

A part that fails says so, and the next one runs; a part for which the budget has no time left is named. The rows go to
the screen as they come, and after each part as JSON to gpu_table.json in the working folder, or in $OUT. docs/gpu.md
says how to run it from a checkout on a machine without network.
"""

import argparse
import contextlib
import sys
import traceback
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # run as a script, from a checkout that is not installed
    sys.path.insert(0, str(ROOT))

# What is imported below (noqa: E402) is found by that path alone.
from benchmarks.gpu_parts import PARTS  # noqa: E402
from benchmarks.gpu_rows import Table  # noqa: E402
from benchmarks.speed_parts import SPEEDS  # noqa: E402


def main() -> None:
    """Run the parts, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=300, help="seconds after which no part begins")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, also {', '.join(SPEEDS)}; separated by commas")
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("torch sees no GPU; to try the script without one: --tiny --device cpu")
    table, names = Table(args.device, args.budget, args.tiny, args.threads), args.only.split(",")
    parts = PARTS | SPEEDS
    if unknown := set(names) - set(parts):
        parser.error(f"--only: there is no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    for name in names:
        table.part = name
        if table.seconds > table.budget:
            table.add("left out, no time", None)
            table.write()
            continue
        try:
            parts[name](table)
        except Exception as error:  # one part shall not cost the others, on a machine that is lent for minutes
            traceback.print_exc()
            table.add("failed", f"{type(error).__name__}: {str(error)[:200]}")
        out = table.write()
        if table.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # of a device that an error has left unusable
                torch.cuda.empty_cache()
    print(f"{table.seconds:.0f} s in all; {out}")


if __name__ == "__main__":
    main()
