"""Whether two commits give the same numbers, to the last digit, and the same JSON.

    python -m tests.benchmarks.same_numbers write BEFORE.json --checkout OLD --command "python -m M"
    python -m tests.benchmarks.same_numbers write AFTER.json --checkout NEW --command "python -m M"
    python -m tests.benchmarks.same_numbers compare BEFORE.json AFTER.json

`write` drives the command line of a checkout, and knows no module of it but the command's M and
`tests.tiny_lm`. It runs the quickstart's two specs as they are; three lineages of two updates (full
fine-tuning with replay and EWC on two Ray Train workers, an adapter a task and columns without
Ray); an update of a tiny language model; a study of four trials; and the verbs that train nothing.
It keeps every answer and exit code, and of every version the manifest, the hash of each tensor and
of each table, and what MLflow was told.

`compare` lists every leaf that differs, is missing or new, also where the keys of a mapping or the
length of a list changed, and then exits 1. `MAY_DIFFER` says which values need not be equal, and
why; they still have to be there, and of the same type. Both files have to come from one machine,
one environment and the same `--folder`: kernels differ with the processor, and specs hold absolute
paths.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

Json = Any
"""What `json.loads` gives."""
Answers = dict[str, Json]
"""What a scenario found, by the name of the call."""

DONE, USAGE, NOT_FOUND, REFUSED = 0, 2, 3, 4
SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_AUTH_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
}
LIMIT_SECONDS = 1800
ATTEMPTS = 3
RAY_LATE = "timed out during startup"
"""What Ray says on a machine so busy that its processes need more than 30 seconds to start."""
LIBRARIES = ("torch", "transformers", "peft", "ray", "numpy", "optuna")
SPLITS = ("train", "validation", "test")

MAY_DIFFER: Mapping[str, str] = {
    "*/seconds": "a measured time",
    "*/seconds/*": "a measured time",
    "*/seconds_saved": "a measured time",
    "*/shared_seconds": "a measured time: of the trial that taught what others share",
    "*/latest_metrics/rows_per_second": "a measured speed",
    "*/peak_memory_bytes": "what a process took from the system",
    "*/created": "a date",
    "*/aliases/*/time": "a date",
    "*/registered/*/run": "an id that MLflow draws",
    "*/manifest/files/report.html": "the hash of a page with measured times",
}
"""Leaves that may differ, as patterns, and why."""

TEXTS = (
    "My laptop says the password has expired and now I am locked out",
    "How many vacation days do I have left this year?",
    "When will the supplier get paid, the bill is from last month",
    "Which planet has the most moons?",
)
"""The last is out of scope."""

TRAINING = {"num_epochs": 2, "batch_size": 16, "max_length": 32, "seed": 0}
STACKS: Mapping[str, Mapping[str, Json]] = {
    "replay_ewc": {
        "methods": [{"type": "replay", "capacity": 40}, {"type": "ewc", "strength": 1000}],
        "training": TRAINING | {"learning_rate": 2e-4, "head_learning_rate": 5e-3},
        "scaling": {"num_workers": 2},
    },
    "lora_tasks": {
        "methods": [{"type": "lora", "rank": 4, "per_task": True}],
        "training": TRAINING | {"learning_rate": 2e-3, "head_learning_rate": 1e-2},
    },
    "columns": {
        "methods": [{"type": "columns", "max_laterals": 1}],
        "training": TRAINING | {"learning_rate": 1e-3, "head_learning_rate": 5e-3},
    },
}

DECODER = """
import json, sys
from pathlib import Path
from tests.tiny_lm import save_tiny_decoder, write_closed_task
folder = Path(sys.argv[1])
save_tiny_decoder(folder / "decoder")
print(json.dumps(write_closed_task(folder / "rows", "banking", ["balance", "transfer"])))
"""
"""Writes a model and a task into a folder and prints the task's part of a spec."""


@dataclass(frozen=True)
class Place:
    """Where a scenario runs, and with what code.

    Attributes:
        checkout: The repository's root, at the commit that is looked at.
        command: What starts its command line.
        folder: The scenario's own: its home, specs, rows and Ray's files lie below it.
    """

    checkout: Path
    command: tuple[str, ...]
    folder: Path

    @property
    def home(self) -> Path:
        """Where the command line keeps its state."""
        return self.folder / "home"

    def started(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command on the checkout's code to its end."""
        own = ("RATCHET_", "RAY_", "MLFLOW_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        places = {"RATCHET_HOME": self.home, "RAY_TMPDIR": self.folder / "ray"}
        places["PYTHONPATH"] = self.checkout
        return subprocess.run(
            command,
            cwd=self.checkout,
            env=kept | SETTINGS | {name: str(path) for name, path in places.items()},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )

    def python(self, code: str, argument: str) -> str:
        """What a few lines of Python print.

        Raises:
            RuntimeError: They failed.
        """
        done = self.started([sys.executable, "-c", code, argument])
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def call(self, *arguments: str, codes: Sequence[int] = (DONE,)) -> Answers:
        """Call the command line; the exit code comes back, and the answer: JSON or lines.

        Raises:
            RuntimeError: It ended with none of the expected codes: then nothing was measured.
        """
        for _ in range(ATTEMPTS):
            done = self.started([*self.command, *arguments])
            if done.returncode in codes or RAY_LATE not in done.stderr:
                break
        if done.returncode not in codes:
            raise RuntimeError(f"{arguments}: exit code {done.returncode}\n{done.stderr[-4000:]}")
        said = done.stdout or done.stderr.strip().rpartition("\n")[2]  # of a failure: its JSON
        try:
            return {"exit": done.returncode, "answer": json.loads(said)}
        except ValueError:
            return {"exit": done.returncode, "answer": said.splitlines()}

    def write_spec(self, name: str, spec: Mapping[str, Json]) -> str:
        """Write a spec into the folder and return its path."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(spec), sort_keys=False), encoding="utf-8")
        return str(path)


def quickstart(name: str, place: Place) -> Answers:
    """A spec of the quickstart, taught, and asked where it was promoted."""
    shutil.copytree(place.checkout / "configs" / "quickstart", place.folder / "specs")
    spec = str(place.folder / "specs" / f"{name}.yaml")
    found = {"run": place.call("run", spec, "--json", codes=(DONE, REFUSED))}
    if found["run"]["exit"] == DONE:
        lineage = found["run"]["answer"]["lineage"]
        found["predict"] = place.call("predict", lineage, *TEXTS, "--json")
    return found


def small_spec(place: Place, name: str, tasks: Sequence[str], **own: Json) -> dict[str, Json]:
    """A spec over departments of the quickstart, every third row of each."""
    data = place.checkout / "configs" / "quickstart" / "data"
    (place.folder / "rows").mkdir(exist_ok=True)
    for file in (f"{task}.{split}.jsonl" for task in tasks for split in SPLITS):
        rows = (data / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (place.folder / "rows" / file).write_text("".join(rows[::3]), encoding="utf-8")
    return {
        "lineage": name,
        "model": {"name": "minilm"},
        "scenario": "class_incremental",
        "tasks": [
            {"name": task, **{split: f"rows/{task}.{split}.jsonl" for split in SPLITS}}
            for task in tasks
        ],
        "training": TRAINING,
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
        **own,
    }


def lineage(name: str, place: Place) -> Answers:
    """Two updates with a stack of methods, and the verbs about versions."""
    two = small_spec(place, name, ["it_support", "finance"], **STACKS[name])
    first = place.write_spec("first", two)
    second = place.write_spec("second", small_spec(place, name, ["travel"], **STACKS[name]))
    return {
        "first": place.call("run", first, "--json"),
        "plan": place.call("plan", second, "--json"),
        "second": place.call("run", second, "--json"),
        "versions": place.call("versions", name, "--json"),
        "evaluate": place.call("evaluate", f"{name}@2", first, "--json"),
        "predict": place.call("predict", name, *TEXTS, "--task", "finance", "--json"),
        "rollback": place.call("rollback", name, "--json"),
        "lineages": place.call("versions", "--json"),
    }


def language(place: Place) -> Answers:
    """An update of a tiny decoder: a task of closed answers, and one of open ones."""
    banking = json.loads(place.python(DECODER, str(place.folder)))
    units: dict[str, str] = {"name": "units"}
    for split in SPLITS:
        rows = place.checkout / "configs" / "language" / "data" / f"units.{split}.jsonl"
        units[split] = str(shutil.copy(rows, place.folder / "rows"))
    spec = {
        "lineage": "words",
        "model": {"name": str(place.folder / "decoder"), "kind": "causal_lm"},
        "scenario": "class_incremental",
        "tasks": [banking, units],
        "methods": [{"type": "lora", "rank": 4}, {"type": "replay", "capacity": 16}],
        "training": TRAINING | {"num_epochs": 8, "learning_rate": 1e-2, "max_length": 64},
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
    }
    path = place.write_spec("words", spec)
    texts = ("please send money to my account =", "Convert 9 h to min. Answer:")
    return {
        "plan": place.call("plan", path, "--json"),
        "run": place.call("run", path, "--json"),
        "evaluate": place.call("evaluate", "words", path, "--json"),
        "predict": place.call("predict", "words", *texts, "--json"),
    }


def study(place: Place) -> Answers:
    """Four trials, two at a time; on a grid no trial depends on which one ended first."""
    parameters = {
        "training.learning_rate": {"log": [3e-4, 3e-3], "points": 2},
        "methods.ewc.strength": {"log": [1, 1e4], "points": 2},
    }
    spec = small_spec(
        place,
        "tuned",
        ["it_support", "finance"],
        methods=[{"type": "lora", "rank": 4}, {"type": "ewc", "strength": 100}],
        tune={"parameters": parameters, "algorithm": "grid", "num_parallel": 2},
    )
    best = place.folder / "best.yaml"
    path = place.write_spec("tuned", spec)
    found = place.call("tune", path, "--write", str(best), "--json")
    return {"tune": found, "best": best.read_text(encoding="utf-8").splitlines()}


def explained(place: Place) -> Answers:
    """The verbs that explain, and calls that fail."""
    bare = small_spec(place, "wrong", ["travel"])
    fine = place.write_spec("fine", bare)
    wrong = place.write_spec("wrong", bare | {"methods": [{"type": "replay", "size": 4}]})
    absent = bare | {"tasks": [{"name": "travel", "train": "rows/none.jsonl"}]}
    no_data = place.write_spec("no_data", absent)
    unknown = partial(place.call, codes=(NOT_FOUND,))
    refused = partial(place.call, codes=(USAGE,))
    return {
        "methods": place.call("methods", "--json"),
        "method": place.call("methods", "ewc", "--json"),
        "method_for_people": place.call("methods", "columns"),
        "preset": place.call("methods", "lora_replay_ewc", "--json"),
        "schema": place.call("schema"),
        "example": place.call("schema", "--example"),
        "no_method": unknown("methods", "ewk", "--json"),
        "no_lineage": unknown("versions", "none", "--json"),
        "no_version": unknown("predict", "none@3", "text", "--json"),
        "no_study": refused("tune", fine, "--json"),
        "no_data": refused("run", no_data, "--json"),
        "wrong_spec": refused("run", wrong, "--json"),
    }


SCENARIOS: Mapping[str, Callable[[Place], Answers]] = {
    **{name: partial(quickstart, name) for name in ("plain", "protected")},
    **{name: partial(lineage, name) for name in STACKS},
    "study": study,
    "language": language,
    "explained": explained,
}


def kept(home: Path) -> dict[str, Json]:
    """What lies in a home: versions, aliases, names of runs and studies, what MLflow was told."""
    versions = [path.parent for path in sorted(home.glob("versions/*/*/manifest.json"))]
    aliases = sorted(home.glob("versions/*/aliases.json"))
    folders = [*home.glob("runs/*/*"), *home.glob("studies/*/*")]
    return {
        "versions": {f"{path.parent.name}@{path.name}": version(path) for path in versions},
        "aliases": {path.parent.name: contents(path) for path in aliases},
        "folders": sorted(str(path.relative_to(home)) for path in folders if path.is_dir()),
        "tracked": tracked(home / "mlflow.db"),
    }


def version(folder: Path) -> dict[str, Json]:
    """What a version holds: its manifest, with the hash of every file, and what is in the files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    inside = {path.relative_to(folder).as_posix(): contents(path) for path in files}
    return {"manifest": inside.pop("manifest.json"), "contents": inside}


def contents(path: Path) -> Json:
    """A file as JSON: hashes of tensors, the hash of a table, text as it is; None for a page."""
    if path.suffix == ".safetensors":
        return tensors(path.read_bytes())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        rows = hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()
        return {"columns": table.column_names, "num_rows": table.num_rows, "sha256": rows}
    if path.suffix == ".json":
        return json.loads(path.read_bytes())
    return None if path.suffix == ".html" else path.read_text(encoding="utf-8").splitlines()


def tensors(data: bytes) -> dict[str, str]:
    """Type, shape and SHA-256 of each tensor of a file in the format of safetensors."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    found = {}
    for name in sorted(header.keys() - {"__metadata__"}):
        begin, end = (start + offset for offset in header[name]["data_offsets"])
        digest = hashlib.sha256(data[begin:end]).hexdigest()
        found[name] = f"{header[name]['dtype']} {header[name]['shape']} {digest}"
    return found


def tracked(database: Path) -> dict[str, Json]:
    """The parameters and the latest metrics of every run that MLflow knows, by names alone."""
    found: dict[str, dict[str, Json]] = {}
    if not database.is_file():
        return found
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        names = dict(store.execute("SELECT run_uuid, name FROM runs"))
        parents = "SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'"
        above = {run: f"{names[parent]}/" for run, parent in store.execute(parents)}
        for table in ("latest_metrics", "params"):
            for run, key, value in store.execute(f"SELECT run_uuid, key, value FROM {table}"):
                own = found.setdefault(above.get(run, "") + names[run], {})
                own.setdefault(table, {})[key] = value
    return json.loads(json.dumps(found, sort_keys=True))


def check_code(place: Place) -> None:
    """Make sure that it is the checkout's code that runs.

    Raises:
        RuntimeError: The module of the command comes from elsewhere.
    """
    if "-m" not in place.command:
        return
    module = place.command[place.command.index("-m") + 1]
    code = "import importlib, sys; print(importlib.import_module(sys.argv[1]).__file__)"
    path = Path(place.python(code, module).strip()).resolve()
    if not path.is_relative_to(place.checkout):
        raise RuntimeError(f"{module} is {path}, which does not lie below {place.checkout}")


def about(place: Place) -> dict[str, str]:
    """What was run where: told beside the differences, as what may explain them."""
    git = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {
        "commit": subprocess.check_output(git, cwd=place.checkout, text=True).strip(),
        "folder": str(place.folder.parent),
        "processor": next(line for line in lines if line.startswith("model name")),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def measured(name: str, place: Place) -> dict[str, Json]:
    """A scenario's answers and what it left in its home."""
    started = time.monotonic()
    place.folder.mkdir()
    answers = SCENARIOS[name](place)
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return {"calls": answers, "kept": kept(place.home)}


def write(given: argparse.Namespace) -> None:
    """Run scenarios and write what was found, beside what the file has of others of this commit."""
    words = shlex.split(given.command)
    command = (sys.executable, *words[1:]) if words[0] == "python" else tuple(words)
    checkout, folder = given.checkout.resolve(), given.folder.resolve()
    places = {name: Place(checkout, command, folder / name) for name in given.only}
    check_code(next(iter(places.values())))
    now = about(next(iter(places.values())))
    folder.mkdir(parents=True)  # fails where another one is running
    try:
        with ThreadPoolExecutor(given.parallel) as pool:
            begun = {name: pool.submit(measured, name, place) for name, place in places.items()}
        failed = {name: error for name, run in begun.items() if (error := run.exception())}
        found = {name: run.result() for name, run in begun.items() if name not in failed}
    finally:
        shutil.rmtree(folder)
    earlier = json.loads(given.out.read_bytes()) if given.out.is_file() else {}
    if earlier.get("about") == now:
        found = earlier["scenarios"] | found
    text = json.dumps({"about": now, "scenarios": found}, indent=1, ensure_ascii=False)
    given.out.write_text(text + "\n", encoding="utf-8")
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def leaves(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every value by its path; of a mapping also its keys in their order, of a list its length."""
    if isinstance(value, dict):
        yield f"{path} (keys)", list(value)
        for key, own in value.items():
            yield from leaves(own, f"{path}/{key}")
    elif isinstance(value, list):
        yield f"{path} (length)", len(value)
        for place, own in enumerate(value):
            yield from leaves(own, f"{path}/{place}")
    else:
        yield path, value


def reason(path: str, before: Json, after: Json) -> str | None:
    """Why two values of a leaf may differ; None where they may not."""
    both = isinstance(before, int | float) and isinstance(after, int | float)
    if path.endswith(")") or not (both or type(before) is type(after)):
        return None
    return next((why for how, why in MAY_DIFFER.items() if fnmatchcase(path, how)), None)


def compare(given: argparse.Namespace) -> None:
    """Print every leaf that differs and exit 1 where there is one."""
    before, after = (json.loads(path.read_bytes()) for path in (given.before, given.after))
    for name, value in before["about"].items():
        if value != after["about"][name]:
            print(f"about {name}: {value} -> {after['about'][name]}")
    mine, theirs = before["scenarios"], after["scenarios"]
    alone = sorted(mine.keys() ^ theirs.keys())
    for name in alone:
        print(f"{name} is in one of the files only: `write` that with --only {name}")
    both = [name for name in mine if name in theirs]
    old, new = (
        {path: own for name in both for path, own in leaves(found[name], name)}
        for found in (mine, theirs)
    )
    may: Counter[str] = Counter()
    must = len(alone)
    for path in dict.fromkeys([*old, *new]):
        pair = [repr(found[path]) if path in found else "missing" for found in (old, new)]
        if pair[0] == pair[1]:
            continue
        why = reason(path, old[path], new[path]) if "missing" not in pair else None
        if why is not None:
            may[why] += 1
            continue
        must += 1
        print(f"{path}: {pair[0]} -> {pair[1]}")
    for why, count in may.items():
        print(f"{count} leaves differ and may: {why}")
    print(f"{len(old)} leaves before, {len(new)} after, {must} differences that must not be")
    sys.exit(1 if must else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    writing = verbs.add_parser("write", help="run every scenario on a checkout")
    writing.set_defaults(verb=write)
    writing.add_argument("out", type=Path)
    writing.add_argument("--checkout", type=Path, required=True, help="root of the repository")
    writing.add_argument("--command", required=True, help="`python` stands for this Python")
    writing.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "same-numbers"))
    writing.add_argument("--parallel", type=int, default=2, help="scenarios at a time")
    writing.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    comparing = verbs.add_parser("compare", help="list what differs")
    comparing.set_defaults(verb=compare)
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args()
    given.verb(given)


if __name__ == "__main__":
    main()
