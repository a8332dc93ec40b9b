"""Synthetic HR images of the split's LR images: python -m pipelines.synth --config FILE (or: make synth).

Reads split.json from the run's folder, writes synthetic/ there: shards (HDF5), shared.safetensors where one network is
learnt on the case, gains.png and contact-sheet.png; and beside split.json, where the degradation is not bicubic,
degradation.json and degradation.png. The same command resumes a run that was stopped.
Many devices and hosts: torchrun --nproc-per-node 8 --max-restarts 3 -m pipelines.synth --config FILE
Exit codes: 0 done, 1 some images failed or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import sys
from collections.abc import Sequence

from pipelines.arguments import run_stage, stage_arguments
from zssr_gan.data.export import draw_pictures
from zssr_gan.data.synthesis import synthesise
from zssr_gan.devices import RunOptions, machine
from zssr_gan.distributed import join
from zssr_gan.errors import SettingsError
from zssr_gan.progress import Bar
from zssr_gan.settings.run import load_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = stage_arguments("synth", __doc__, "synth.init=scratch")
    parser.add_argument("--fleet", type=int, default=None, metavar="N", help="networks in training side by side")
    options = parser.parse_args(arguments)

    def work(bar: Bar) -> int:
        if options.fleet is not None and options.fleet < 1:
            raise SettingsError(f"--fleet {options.fleet}: at least one network is trained at a time.")
        settings = load_run(options.config, options.set, small=options.small)
        ranks = join()
        run = RunOptions(ranks.own_device(options.device), options.precision, options.threads)
        with machine(run) as used:
            failures = synthesise(settings, options.config, ranks=ranks, machine=used, bar=bar, fleet=options.fleet)
        if ranks.rank == 0:
            store = settings.folder(options.config) / "synthetic"
            print(*draw_pictures(store), store, sep="\n")
        for failure in failures:
            bar.note(f"failed: {failure}", "red")
        return 1 if failures else 0

    return run_stage(work, "Stopped: finished shards are on the disk; run the same command again to resume.")


if __name__ == "__main__":
    sys.exit(main())
