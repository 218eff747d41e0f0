"""The whole of a comparison: plan, run, and write what is known after every run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ratchet.pipelines.compare.contender import contenders
from ratchet.pipelines.compare.design import Design, PlannedRun, plan_runs
from ratchet.pipelines.compare.outcome import RunFailed, RunOutcome
from ratchet.pipelines.compare.page import html
from ratchet.pipelines.compare.record import Comparison, add_intransigence, record_of
from ratchet.pipelines.compare.runner import Machine, Runner, Say
from ratchet.pipelines.compare.summary import Row, rows_of
from ratchet.pipelines.compare.table import markdown, sorted_rows
from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.lock import exclusive
from ratchet.pipelines.pages.estimate import INTERVAL_WORDS
from ratchet.pipelines.pages.words import percent

LOCK_FILE = ".comparing"


@dataclass(frozen=True)
class Options:
    """How a comparison is run.

    Attributes:
        num_jobs: Runs at a time; None lets the CPUs decide.
        keep_versions: Whether the versions stay on disk, not only results and reports.
        retry: Whether runs that failed before are tried again.
    """

    num_jobs: int | None = None
    keep_versions: bool = False
    retry: bool = False


def compare(
    path: Path, methods: Sequence[str], design: Design, folder: Path, options: Options, say: Say
) -> Comparison:
    """Run every contender over the stream of a spec and write table, page and figures.

    Nothing outside `folder` is touched. Interrupted, the same call goes on; runs that ended are not
    repeated.

    Args:
        path: The spec's file.
        methods: Names of presets or methods, or files of stacks.
        design: Seeds, orders, models.
        folder: Where everything goes.
        options: How it is run.
        say: Told of progress, a line each.

    Returns:
        What `comparison.json` holds.

    Raises:
        SpecError: The spec or a name is wrong, or no contender can be run with the spec.
        BusyError: Another process works in the folder.
    """
    runs = plan_runs(path, contenders(methods), design)
    runnable = [run for run in runs if run.spec is not None]
    if not runnable:
        raise SpecError("; ".join(dict.fromkeys(run.problem or "" for run in runs)))
    spec = runnable[0].spec
    assert spec is not None, "it was chosen for having one"
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine.for_runs(len(runnable), spec.scaling, options.num_jobs)
    say(_plan_words(len(runs), machine))
    outcomes: dict[str, RunOutcome] = {}
    found: Comparison | None = None
    with exclusive(folder / LOCK_FILE, f"the comparison in {folder}"):
        runner = Runner(folder, machine, say, options.keep_versions, options.retry)
        for run, outcome in runner.run(runs):
            outcomes[run.key] = outcome
            found = _write(folder, path, runs, outcomes, design)
            say(_outcome_words(run, outcome, f"{len(outcomes)} of {len(runs)}"))
    assert found is not None, "there is a run, and each has an outcome"
    return found


def failures(found: Comparison) -> list[str]:
    """Keys of the runs of a comparison that failed."""
    return [run["key"] for run in found["runs"] if run["status"] == "failed"]


def _write(
    folder: Path,
    path: Path,
    runs: Sequence[PlannedRun],
    outcomes: dict[str, RunOutcome],
    design: Design,
) -> Comparison:
    """Write `comparison.json`, `.md` and `.html` of what is known so far."""
    records = [record_of(run, outcomes.get(run.key)) for run in runs]
    add_intransigence(records)
    rows = sorted_rows(rows_of(records))
    spec = next(run.spec for run in runs if run.spec is not None)
    found = Comparison(
        spec=str(path),
        scenario=spec.scenario,
        model=spec.model.name,
        design=asdict(design),
        interval=INTERVAL_WORDS,
        num_runs=len(runs),
        num_done=len(outcomes),
        rows=[row.as_dict() for row in rows],
        runs=records,
    )
    title = f"{path.stem}: {len({run.method for run in runs})} methods"
    notes = [
        f"{spec.scenario.replace('_', '-')}, {Path(spec.model.name).name}; "
        f"{len(outcomes)} of {len(runs)} runs are done. {_training_words(design, rows)}"
    ]
    write_atomically(folder / "comparison.json", json.dumps(found, indent=1))
    write_atomically(folder / "comparison.md", markdown(rows, title, notes))
    page = html(found, rows, path.stem, _training_words(design, rows))
    write_atomically(folder / "comparison.html", page)
    return found


SERVED_WORDS = (
    " Average accuracy is a method's own: over the heads of all tasks where the scenario gives no "
    "task. As served is what requests without a task get, by heads and router statistics together."
)


def _training_words(design: Design, rows: Sequence[Row]) -> str:
    words = "Each preset was trained with its own settings, over the spec's."
    if design.same_training:
        words = "All were trained with the spec's settings."
    served = any(row.metrics["average_accuracy_as_served"] for row in rows)
    return words + SERVED_WORDS if served else words


def _plan_words(num_runs: int, machine: Machine) -> str:
    return f"{num_runs} runs, {machine.num_jobs} at a time, {machine.num_threads} threads each"


def _outcome_words(run: PlannedRun, outcome: RunOutcome, place: str) -> str:
    if isinstance(outcome, RunFailed):
        return f"{run.key}: failed ({place}). {outcome.type}: {outcome.message}"
    accuracy = outcome.result.metrics["average_accuracy"]
    words = "not measured" if accuracy is None else percent(accuracy)
    return f"{run.key}: done ({place}), average accuracy {words}"
