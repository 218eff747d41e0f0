"""Runs one attempt of a job: `python -m ratchet.service.driver JOB_FOLDER ATTEMPT [--with-parent]`.

Ends with 0 when the attempt's end is in the job's folder (a result, a failure, or a line that says
that it was stopped), and with 1 where it could not even be written there.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.driver.failure import failure_of
from ratchet.service.driver.job_folder import Assignment, DriverProcess, FenceLostError, JobFolder
from ratchet.service.driver.journal import Journal
from ratchet.service.driver.kinds import Work, run_work
from ratchet.service.driver.watch import Watch, end_children

CPU_SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}


def main() -> None:
    """Run the attempt that the command line names."""
    parser = argparse.ArgumentParser(prog="ratchet.service.driver")
    parser.add_argument("folder", type=Path)
    parser.add_argument("attempt", type=int)
    parser.add_argument("--with-parent", action="store_true")
    options = parser.parse_args()
    folder, attempt = JobFolder(options.folder.resolve()), options.attempt
    _print_to(folder.log(attempt))
    for name, value in CPU_SETTINGS.items():
        os.environ.setdefault(name, value)
    own = psutil.Process()
    folder.write_driver(attempt, DriverProcess(own.pid, own.create_time(), socket.gethostname()))
    journal = Journal(folder.events, attempt, sys.stderr)

    def say_why(reason: str) -> None:
        journal.end(f"attempt {attempt} ends: {reason}")

    watch = Watch(folder, attempt, options.with_parent, say_why)
    sys.excepthook = _keeping_failure(folder, attempt)
    watch.check_fence()
    watch.start()
    _run(folder, attempt, journal, watch)
    _end(0)


def _run(folder: JobFolder, attempt: int, journal: Journal, watch: Watch) -> None:
    """Do the work, unless an earlier attempt did."""
    assignment = _assignment(folder)
    if folder.read_result() is not None:
        return
    phase = "starting" if attempt == 1 else "recovering"
    journal.write(f"attempt {attempt} has started", type="status", phase=phase)
    result = run_work(Work(assignment, folder, journal, watch.check_fence))
    watch.check_fence()
    folder.write_result(result)


def _assignment(folder: JobFolder) -> Assignment:
    assignment = folder.read_assignment()
    if assignment is None:
        raise SpecError([Problem(str(folder.path), "there is no job.json", hint="Submit anew")])
    return assignment


def _keeping_failure(
    folder: JobFolder, attempt: int
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """What to do with an error that nothing caught: keep it in the job's folder, and end."""

    def keep(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        if not isinstance(error, FenceLostError):
            folder.write_failure(attempt, failure_of(error))
        _end(0)

    return keep


def _print_to(path: Path) -> None:
    """Send what this process and its libraries print to a file that outlives the cluster."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _end(code: int) -> None:
    """End without the libraries' own farewells, which may wait for a cluster that is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    end_children()
    os._exit(code)


if __name__ == "__main__":
    main()
