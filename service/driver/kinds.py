"""What each kind of job is: an update, a study, a plan. What learns is loaded only here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.driver.job_folder import Assignment, JobFolder
from ratchet.service.driver.journal import Journal
from ratchet.service.driver.progress import Progress

SUBMITTED = "spec.yaml"
"""What a study calls the spec in the commands of its page: the file that the client submitted."""


@dataclass(frozen=True)
class Work:
    """A task with what its driver gives it.

    Attributes:
        task: What is to be done.
        folder: The job's folder.
        journal: Where it says what happens.
        check_fence: Raises where this attempt may act no more.
    """

    assignment: Assignment
    folder: JobFolder
    journal: Journal
    check_fence: Callable[[], None]


def run_name(job_id: str, parent: int | None) -> str:
    """The name of an update's run: a retry from the same version goes on with it."""
    return f"{job_id}-from-{'base' if parent is None else parent}"


def run_work(work: Work) -> dict[str, Any]:
    """Do what a job asks for, and return what it gave.

    Raises:
        RatchetError: Whatever is wrong.
    """
    kinds = {"update": _update, "study": _study, "plan": _plan}
    run = kinds.get(work.assignment.kind)
    if run is None:
        raise SpecError([Problem("kind", f"one of {', '.join(kinds)}", work.assignment.kind)])
    return run(work)


def _update(work: Work) -> dict[str, Any]:
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.spec.reading import parse_spec
    from ratchet.pipelines.update.ending import HandOver
    from ratchet.pipelines.update.ray_session import ray_session

    assignment = work.assignment
    spec = parse_spec(assignment.spec, work.folder.path)
    work.journal.write("checking the data", type="status", phase="checking_data")
    libraries = ("ratchet.pipelines.update.run", "ray.train.torch")
    with ray_session(spec.scaling, assignment.address, preload=libraries):
        from ratchet.pipelines.registry.home import Home
        from ratchet.pipelines.update.run import run_update

        quiet_libraries()
        result = run_update(
            spec,
            Home(Path(assignment.home).resolve(), assignment.tracking_uri),
            Progress(work.journal),
            address=assignment.address,
            hand_over=HandOver(
                run_name(assignment.job, assignment.parent), assignment.parent, work.check_fence
            ),
        )
        return result.to_json()


def _study(work: Work) -> dict[str, Any]:
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.tuning.search.space import RawSpec
    from ratchet.pipelines.tuning.search.study_run import Request
    from ratchet.pipelines.tuning.tuning import run_study

    assignment = work.assignment
    work.journal.write("checking the data and the space", type="status", phase="checking_data")
    quiet_libraries()
    home = Home(Path(assignment.home).resolve(), assignment.tracking_uri)
    source = RawSpec(assignment.spec, work.folder.path)
    request = Request(source, SUBMITTED, home, assignment.address, verb="submit")

    def say(line: str) -> None:
        work.journal.write(line, phase="training")

    study, folder = run_study(request, say)
    return study.as_dict() | {"page": str(folder / "study.html")}


def _plan(work: Work) -> dict[str, Any]:
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.registry.registry import Registry
    from ratchet.pipelines.spec.reading import parse_spec
    from ratchet.pipelines.update.describe import describe_update

    assignment = work.assignment
    work.journal.write("checking the data", type="status", phase="checking_data")
    spec = parse_spec(assignment.spec, work.folder.path)
    quiet_libraries()
    return {**describe_update(spec, Registry(Path(assignment.home)))}
