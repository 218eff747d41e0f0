"""What a study costs beside its trainings: wall time and memory of a trial, in a study and alone.

    python -m tests.benchmarks.study_overhead FOLDER --tasks 4 --trials 4

CLINC150 cut to 20 training rows a class, by domains; MiniLM, one shared adapter and EWC. Each
update is first taught alone in this process, then the same updates as trials of a study, one at a
time and two at a time, no first task shared. A trial's wall time is what lies between the ends of
two trials of one worker, so everything between them counts; the first trial, in which a worker
starts, is left out, and so is the first update alone. Memory is the proportional set size (a page
shared by n processes counts a n-th in each) of the processes that teach, at its highest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.tuning.search.seed_run import cut_to, teach_seed
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.study_run import Request
from ratchet.pipelines.tuning.tuning import run_study
from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start
from tests.benchmarks.standard_streams import DATA, cut, read, write

ROWS = {"train": 20, "validation": 5, "test": 10}
TRIAL_TITLE = "ray::ImplicitFunc"
"""What Ray calls a process while it runs a trial."""
FILES = {"train": "train", "validation": "val", "test": "test"}


def raw_spec(folder: Path, num_epochs: int) -> dict[str, Any]:
    """The update that is tuned, over rows cut into a folder."""
    splits = {
        split: write(
            folder / f"{split}.jsonl",
            cut(read(DATA / "clinc150" / f"{FILES[split]}.jsonl"), size, 0),
        )
        for split, size in ROWS.items()
    }
    return {
        "lineage": "clinc",
        "model": {"name": "minilm"},
        "scenario": "task_incremental",
        "stream": {**splits, "by": "domain"},
        "methods": [{"type": "lora", "rank": 8}, {"type": "ewc"}],
        "training": {"num_epochs": num_epochs, "batch_size": 16, "max_length": 48},
    }


def tune_of(given: argparse.Namespace, num_parallel: int) -> dict[str, Any]:
    """The same trials for every study here."""
    rates = [round(1e-4 * (1 + place / 10), 6) for place in range(given.trials)]
    return {
        "parameters": {"training.learning_rate": {"choice": rates}},
        "algorithm": "grid",
        "num_trials": given.trials,
        "num_parallel": num_parallel,
        "num_tasks": given.tasks,
        "share_prefixes": False,
        "seed": num_parallel,  # studies that differ in nothing else would be one
    }


def write_specs(folder: Path) -> None:
    """The specs of the two studies that docs/results.md tells of."""
    raw = raw_spec(folder, 3)
    parameters = {
        "training.learning_rate": {"log": [1e-4, 3e-3], "points": 4},
        "methods.ewc.strength": {"log": [1, 1e6], "points": 6},
    }
    tunes = {
        "grid": {"algorithm": "grid", "num_trials": 24},
        "decay": {"strategy": "stability_decay"},
    }
    for name, tune in tunes.items():
        spec = raw | {"lineage": name, "tune": {"parameters": parameters, **tune}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


@contextmanager
def watched(memory: dict[int, tuple[float, float]]) -> Iterator[None]:
    """Note the highest proportional and resident set of this process and of those that teach."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
                try:
                    if process.pid != os.getpid() and TRIAL_TITLE not in _title(process):
                        continue
                    found = process.memory_full_info()
                except psutil.Error:
                    continue
                before = memory.get(process.pid, (0.0, 0.0))
                memory[process.pid] = (max(before[0], found.pss), max(before[1], found.rss))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def alone(raw: dict[str, Any], folder: Path, given: argparse.Namespace) -> list[float]:
    """Seconds of each update, taught one after the other in this process."""
    source = RawSpec(raw, folder)
    spec = source.with_settings({})
    plan = make_plan(spec, open_start(None), load_tokenizer(spec.model), folder / "plan")
    seconds = []
    for place, rate in enumerate(
        tune_of(given, 1)["parameters"]["training.learning_rate"]["choice"]
    ):
        own = source.with_settings({"training.learning_rate": rate})
        job = replace(cut_to(plan.job, given.tasks), spec=own, folder=folder / f"alone_{place}")
        job.folder.mkdir()
        started = time.perf_counter()
        teach_seed(job, plan.data, None, lambda *_: None)
        seconds.append(time.perf_counter() - started)
    return seconds


def in_study(raw: dict[str, Any], folder: Path, given: argparse.Namespace, num: int) -> list[float]:
    """Seconds from one trial's end to the next one's of the same worker."""
    tuned = raw | {"tune": tune_of(given, num)}
    home = Home(folder / f"home_{num}", None)
    _, place = run_study(Request(RawSpec(tuned, folder), "spec.yaml", home), print)
    ends = sorted(path.stat().st_mtime for path in place.glob("trials/*/trial.json"))
    # With n workers in step, the k-th end of a worker is every n-th end of all.
    return [later - earlier for earlier, later in zip(ends, ends[num:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only-write", action="store_true", help="the specs of docs/results.md")
    given = parser.parse_args()
    quiet_libraries()
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    if given.only_write:
        write_specs(folder)
        return
    raw = raw_spec(folder, given.epochs)
    memory: dict[int, tuple[float, float]] = {}
    with watched(memory):
        bare = alone(raw, folder, given)[1:]
    report("alone", bare, bare, memory)
    for num in given.parallel:
        memory.clear()
        with watched(memory):
            found = in_study(raw, folder, given, num)
        memory.pop(os.getpid(), None)
        report(f"study, {num} at a time", found, bare, memory)


def report(
    name: str, seconds: list[float], bare: list[float], memory: dict[int, tuple[float, float]]
) -> None:
    ratio = statistics.median(seconds) / statistics.median(bare)
    mebibytes = [[round(own / 2**20) for own in found] for found in memory.values()]
    found = {
        "what": name,
        "seconds": [round(own, 1) for own in seconds],
        "ratio_of_medians": round(ratio, 3),
        "pss_and_rss_mib": mebibytes,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
