"""How far each search algorithm gets with how many trials, on a stream that costs a second a trial.

    python -m tests.benchmarks.search_quality --trials 24 --seeds 0 1 2 3 4

Taught in this process, without Ray: two layers of width 32, three small tasks with the task id,
EWC over learning rate, epochs and strength. Prints the hypervolume (from plasticity 0 and
stability -1) after 6, 12, 18 and 24 trials for each seed of the search, then medians. Whether a
search reaches with half its trials what random search reaches with all is the last line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.front import front, hypervolume
from ratchet.pipelines.tuning.search.sampler import Sampler
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.trial_run import TrialBase, data_key, taught_trial
from ratchet.pipelines.tuning.trial import Trial
from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start
from tests.tiny import TASKS, save_tiny_model, write_task

PARAMETERS = {
    "training.learning_rate": {"log": [1e-4, 3e-2]},
    "training.num_epochs": {"int": [2, 8]},
    "methods.ewc.strength": {"log": [1, 1e6]},
}
CORNER = (0.0, -1.0)


def base_of(folder: Path) -> TrialBase:
    save_tiny_model(folder / "model")
    raw = {
        "lineage": "cheap",
        "model": {"name": str(folder / "model")},
        "scenario": "task_incremental",
        "tasks": [write_task(folder / "rows", name, labels) for name, labels in TASKS.items()],
        "methods": [{"type": "ewc"}],
        "training": {"batch_size": 16, "max_length": 24, "precision": "fp32"},
    }
    source = RawSpec(raw, folder)
    spec = source.with_settings({})
    plan = make_plan(spec, open_start(None), load_tokenizer(spec.model), folder / "plan")
    return TrialBase(source, plan.job, plan.data, data_key(spec), folder, 1, None, False)


class Cheap:
    """Trials of the stream; the same settings are taught once."""

    def __init__(self, folder: Path) -> None:
        self.base = base_of(folder)
        self.known: dict[str, Trial] = {}

    def trial(self, number: int, settings: dict[str, Any]) -> Trial:
        key = json.dumps(settings, sort_keys=True)
        if key not in self.known:
            place = len(self.known)
            self.known[key] = taught_trial(place, settings, self.base, lambda *_: None)
        found = self.known[key]
        return Trial(number, settings, found.status, found.seeds, found.error)


def volumes(cheap: Cheap, algorithm: str, seed: int, num_trials: int) -> list[float]:
    """The hypervolume after each trial of a search."""
    raw = {"parameters": PARAMETERS, "algorithm": algorithm, "num_trials": num_trials, "seed": seed}
    tune = TuneSpec.model_validate(raw)
    sampler, trials, found = Sampler(tune), [], []
    for number in range(num_trials):
        settings = sampler.ask()
        assert settings is not None, "the space is continuous"
        trials.append(cheap.trial(number, settings))
        sampler.tell(trials[-1])
        points = [own.point for own in front(trials, tune.objectives)]
        found.append(hypervolume(points, CORNER))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--algorithms", nargs="+", default=["random", "gp", "tpe", "nsga2"])
    given = parser.parse_args()
    marks = [given.trials * share // 4 for share in (1, 2, 3, 4)]
    medians: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory(prefix="search_quality_") as folder:
        cheap = Cheap(Path(folder))
        for algorithm in given.algorithms:
            runs = []
            for seed in given.seeds:
                found = volumes(cheap, algorithm, seed, given.trials)
                runs.append({mark: round(found[mark - 1], 4) for mark in marks})
                print(json.dumps({"algorithm": algorithm, "seed": seed, **runs[-1]}), flush=True)
            medians[algorithm] = {m: statistics.median(run[m] for run in runs) for m in marks}
            print(json.dumps({"algorithm": algorithm, "median": medians[algorithm]}), flush=True)
    whole = medians["random"][marks[-1]]
    for algorithm in given.algorithms[1:]:
        half = medians[algorithm][marks[1]]
        said = f"{algorithm} at {marks[1]} trials {half}, random at {marks[-1]} {whole}"
        print(f"{said}: {half >= whole}")


if __name__ == "__main__":
    main()
