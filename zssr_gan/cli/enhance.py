"""A run of `zssr-gan enhance` as a person sees it: what is learnt first, each image's line, and the end."""

import json
import traceback
from collections import Counter
from pathlib import Path

from zssr_gan.cli.degradation import show_step
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.model import degradation_of
from zssr_gan.errors import ZssrGanError
from zssr_gan.inference.batch import Outcome, run_plan
from zssr_gan.inference.case import with_degradation, with_shared_start
from zssr_gan.inference.compare import Comparison
from zssr_gan.inference.enhance import make_downscale
from zssr_gan.inference.outputs import Plan
from zssr_gan.inference.request import KeptGenerator, Request, named
from zssr_gan.progress import Display, Progress, printable
from zssr_gan.provenance import LABELS
from zssr_gan.signals import exit_code


def show_run(plan: Plan, request: Request, compare: Path | None, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Do a plan, show it, and return the exit code.

    Args:
        plan, request: what is to be done.
        compare: the sheet's file, if one is wanted.
        as_json: results as JSON on standard output.
        quiet: say failures only.
        verbose: tracebacks of failures too.
    """
    outcomes: list[Outcome] = []
    sheet = None if compare is None else Comparison(compare)
    with Display(len(plan.todo), quiet=quiet) as display:
        if plan.left_out and not quiet:
            display.note(f"left out {plan.left_out} results of earlier runs found in the folders")
        try:
            if request.estimates and plan.todo:
                request = _estimate_degradation(plan, request, display, quiet=quiet)
            if not quiet and request.degradation is not None and request.degradation.estimate is not None:
                _tell_degradation(request.degradation.estimate, display)
            if request.init == "shared" and request.shared is None and plan.todo:
                request = _learn_case(plan, request, display, quiet=quiet)
            if not quiet and request.model is not None:
                _tell_model(request, request.model, display)
            for outcome in run_plan(
                plan,
                request,
                on_start=lambda place, job: display.start(place, str(job.source)),
                on_progress=display.update,
                on_result=None if sheet is None else sheet.add,
            ):
                outcomes.append(outcome)
                _show(outcome, display, as_json=as_json, quiet=quiet, verbose=verbose)
            problem = None if sheet is None else _write_sheet(sheet, request, display, quiet=quiet or as_json)
        except ZssrGanError as error:  # of the case as a whole; an image's own is an outcome
            display.note(f"error: {printable(str(error))}", "red")
            return 1
        except KeyboardInterrupt as stop:
            display.note(_farewell(stop, outcomes, plan), "red")
            return exit_code(stop)
    return _summarise(outcomes, problem, display, quiet=quiet)


def _estimate_degradation(plan: Plan, request: Request, display: Display, *, quiet: bool) -> Request:
    display.start(0, f"{len(plan.todo) + len(plan.skipped)} images")
    request, said = with_degradation(plan, request, lambda what, done, total: show_step(display, what, done, total))
    if not quiet:
        for line in said:
            display.note(line)
    return request


def _tell_degradation(found: Estimate, display: Display) -> None:
    """What is assumed of the camera; loudly, where it is bicubic although it was estimated."""
    display.note(printable(f"degradation: {found.summary}"))
    display.note(printable(f"  {found.why}"), "bold yellow" if found.fallback else "")


def _tell_model(request: Request, kept: KeptGenerator, display: Display) -> None:
    """What the pixels will come from, what that means, and loudly what its card warns of."""
    card = kept.generator.card
    images = card.images.get("inputs")
    learnt = "" if images is None else f" on {images.count:,} images"
    trained = f"trained{learnt}, step {card.step:,} of {card.steps:,}" if card.origin is None else card.training
    display.note(printable(f"{kept.path}: {card.name}, {trained}"))
    display.note(f"  generative: {LABELS['generative']}")
    kernel = None if request.kernel is None else request.kernel.values
    camera = None if request.degradation is None else request.degradation.degradation
    used = degradation_of(make_downscale(kernel, request.scale, camera))
    if used not in kept.trained_for:
        known = card.origin is None
        trained = f"trained for {named(kept.trained_for)}" if known else "what it was trained for is not known"
        display.note(f"  {trained}; its outputs are held against the input by {named([used])}, as asked", "bold yellow")
    elif camera is not None:
        display.note(f"  its outputs are held against the input by {named([used])}, which it was trained for")
    for warning in card.warnings:
        display.note(printable(f"  WARNING: {warning}"), "bold yellow")


def _learn_case(plan: Plan, request: Request, display: Display, *, quiet: bool) -> Request:

    def tell(iteration: int, total: int, loss: float) -> None:
        display.update(Progress("learning on the case", iteration, total, loss, 0.0))

    display.start(0, f"{len(plan.todo) + len(plan.skipped)} images")
    request, said = with_shared_start(plan, request, tell)
    if not quiet:
        for line in said:
            display.note(line)
    return request


def _show(outcome: Outcome, display: Display, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Say what came of one image, as soon as it is known."""
    if as_json:
        display.result(json.dumps(outcome.as_json()))
    if outcome.status == "failed":
        display.note(f"failed: {printable(outcome.message)}", "red")
        if verbose and outcome.error is not None:
            for line in "".join(traceback.format_exception(outcome.error)).splitlines():
                display.note(printable(line))
        return
    if quiet:
        return
    for notice in outcome.notices:
        display.note(f"{printable(str(outcome.job.source))}: {notice}")
    if not as_json:
        display.result(printable(outcome.line()))


def _write_sheet(sheet: Comparison, request: Request, display: Display, *, quiet: bool) -> str | None:
    """Write the comparison sheet; returns what went wrong, if anything did."""
    try:
        written = sheet.write(overwrite=request.overwrite)
    except ZssrGanError as error:
        return str(error)
    if written and not quiet:
        more = f" (the first {len(sheet)} images)" if sheet.left_out else ""
        display.result(f"{sheet.path}: input, bicubic, result and evidence side by side{more}")
    return None


def _farewell(stop: KeyboardInterrupt, outcomes: list[Outcome], plan: Plan) -> str:
    reason = "Stopped by SIGTERM" if exit_code(stop) == 143 else "Stopped"
    done = sum(outcome.status == "done" for outcome in outcomes)
    return (
        f"{reason}: {done} of {len(plan.todo)} images are done and kept; the one in work left no file. "
        "The same command with --skip-existing goes on from there."
    )


def _summarise(outcomes: list[Outcome], problem: str | None, display: Display, *, quiet: bool) -> int:
    """The end of a run: counts where there were several images, and the failures last."""
    failures = [outcome.message for outcome in outcomes if outcome.status == "failed"]
    failures += [problem] if problem else []
    if len(outcomes) > 1 and not quiet:
        counts = Counter(outcome.status for outcome in outcomes)
        display.note(", ".join(f"{counts[word]} {word}" for word in ("done", "skipped", "failed") if counts[word]))
    if len(outcomes) > 1 or problem:
        for message in failures:
            display.note(f"  {message}", "red")
    return 1 if failures else 0
