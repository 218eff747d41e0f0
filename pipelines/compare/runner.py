"""Runs the updates of a comparison in processes of their own, several at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ratchet.pipelines.compare.design import PlannedRun
from ratchet.pipelines.compare.outcome import RunFailed, RunOutcome, read_outcome, status_of
from ratchet.pipelines.compare.single_run import HOME_FOLDER, RESULT_FILE, SPEC_FILE
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.processes.module_command import module_command
from ratchet.pipelines.spec.update_spec import ScalingSpec
from ratchet.pipelines.training.events import Resumed, StageDone, event_from_json

LOG_FILE = "log.txt"
RUNS_FOLDER = "runs"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Machine:
    """How the runs share the machine.

    Attributes:
        num_jobs: Runs at a time.
        num_threads: OpenMP threads of each.
    """

    num_jobs: int
    num_threads: int

    @staticmethod
    def for_runs(num_runs: int, scaling: ScalingSpec, num_jobs: int | None = None) -> Machine:
        """As many runs at a time as there are CPUs for, unless the number is given.

        One thread a run: several runs of one thread were measured as fast as one of several.
        """
        num_cpus = len(os.sched_getaffinity(0))
        wanted = max(1.0, scaling.num_workers * scaling.cpus_per_worker)
        fitting = num_jobs or max(1, int(num_cpus // wanted))
        used = max(1, min(fitting, num_runs))
        return Machine(used, max(1, num_cpus // used))


class Runner:
    """Runs what is not done yet and hands out outcomes as they come.

    A run that ended is not repeated: its outcome lies in its folder, with the spec that it is of.
    One that was interrupted goes on from its last checkpoint.

    Args:
        folder: The comparison's folder.
        machine: How many runs at a time.
        say: Told of progress, a line each.
        keep_versions: Whether the versions stay on disk, not only results and reports.
        retry: Whether runs that failed are tried again.
    """

    def __init__(
        self,
        folder: Path,
        machine: Machine,
        say: Say,
        keep_versions: bool = False,
        retry: bool = False,
    ) -> None:
        self.folder = folder
        self.machine = machine
        self.say = say
        self.keep_versions = keep_versions
        self.retry = retry
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopping = threading.Event()

    def run(self, runs: Sequence[PlannedRun]) -> Iterator[tuple[PlannedRun, RunOutcome]]:
        """Yield each run with its outcome: those that are known first, then as they end."""
        left = []
        for run in runs:
            known = self._known(run)
            if known is None:
                left.append(run)
            else:
                yield run, known
        try:
            yield from self._in_parallel(left)
        finally:
            self._stopping.set()
            for process in list(self._processes):
                process.terminate()

    def _in_parallel(self, runs: Sequence[PlannedRun]) -> Iterator[tuple[PlannedRun, RunOutcome]]:
        pool = ThreadPoolExecutor(self.machine.num_jobs, thread_name_prefix="ratchet-compare")
        waiting = {pool.submit(self._run, run): run for run in runs}
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _known(self, run: PlannedRun) -> RunOutcome | None:
        """The outcome of a run that ended, or cannot begin; None where it must still be run."""
        if run.spec is None:
            return RunFailed("SpecError", run.problem or "")
        folder = self._folder(run)
        path = folder / RESULT_FILE
        if not path.is_file():
            return None
        if (folder / SPEC_FILE).read_text(encoding="utf-8") != run.spec.model_dump_json():
            self.say(f"{run.key}: its settings have changed, it starts afresh")
            shutil.rmtree(folder)
            return None
        outcome = read_outcome(path)
        if isinstance(outcome, RunFailed) and self.retry:
            path.unlink()
            return None
        self.say(f"{run.key}: {status_of(outcome)} before, not repeated")
        return outcome

    def _run(self, run: PlannedRun) -> RunOutcome:
        assert run.spec is not None, "runs without a spec are known"
        folder = self._folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / SPEC_FILE, run.spec.model_dump_json())
        self.say(f"{run.key}: goes on" if (folder / HOME_FOLDER).exists() else f"{run.key}: starts")
        with (folder / LOG_FILE).open("ab") as log:
            code = self._follow(run, log)
        path = folder / RESULT_FILE
        if path.is_file():
            return read_outcome(path)
        return RunFailed("Crash", f"the process ended with {code}: {_last_line(folder / LOG_FILE)}")

    def _follow(self, run: PlannedRun, log: Any) -> int:
        """Start a run's process and pass on its lines until it ends; returns its exit code."""
        if self._stopping.is_set():
            return -1
        options = ["--keep-version"] if self.keep_versions else []
        threads = str(self.machine.num_threads)
        with subprocess.Popen(
            module_command(
                "ratchet.pipelines.compare.single_run", str(self._folder(run)), *options
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"},
            text=True,
        ) as process:
            self._processes.add(process)
            assert process.stdout is not None, "a pipe was asked for"
            for line in process.stdout:
                self.say(f"{run.key}: {_words(line)}")
        self._processes.discard(process)
        return process.returncode

    def _folder(self, run: PlannedRun) -> Path:
        return self.folder / RUNS_FOLDER / run.key


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _words(line: str) -> str:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError:
        return line.rstrip()  # a library's own word
    match event_from_json(raw):
        case Resumed(stages_done=done):
            return f"goes on after {done} stages"
        case StageDone(tasks=names):
            return f"learned {', '.join(names)}"
        case other:
            raise TypeError(f"a run says nothing of {other}")
