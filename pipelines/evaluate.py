"""Tables, figures and the report of a run: python -m pipelines.evaluate --config FILE (or: make eval).

Reads what the stages before left in the run's folder, and writes report/ there (`zssr_gan.evaluation.runner`). The same
command computes nothing twice, and resumes a run that was stopped.
Exit codes: 0 done, 1 an image failed or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import sys
from collections.abc import Sequence

from pipelines.arguments import run_stage, stage_arguments
from zssr_gan.devices import RunOptions, machine
from zssr_gan.evaluation.runner import PARTS, choose, evaluate
from zssr_gan.progress import Bar
from zssr_gan.settings.run import load_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = stage_arguments("evaluate", __doc__, "evaluate.most=100")
    parser.add_argument("--only", default=None, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    options = parser.parse_args(arguments)

    def work(bar: Bar) -> int:
        choose(options.only, PARTS, "part")
        settings = load_run(options.config, options.set, small=options.small)
        with machine(RunOptions(options.device, options.precision, options.threads)) as used:
            report, failures = evaluate(settings, options.config, used, bar, options.only)
        if report is not None:
            print(report)
        if failures:
            raise failures[0]
        return 0

    return run_stage(work, "Stopped: results so far are saved; run the same command again to resume.")


if __name__ == "__main__":
    sys.exit(main())
