"""Updates in processes of their own, so that they can be killed; and how to find what to kill."""

import contextlib
import glob
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.events import event_from_json, event_to_json
from ratchet.pipelines.version import load_version, read_matrix, read_states
from tests.tiny import run_update

ROOT = Path(__file__).parents[2]


def start_driver(spec, home):
    """Begin an update in another process; its working folder is the checkout."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "spec.json"
    path.write_text(spec.model_dump_json(), encoding="utf-8")
    with (home / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.integration.drivers", str(path), str(home)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def main():
    """Run the update of a spec file; its events go to `seen.jsonl` below the home."""
    path, home = Path(sys.argv[1]), Path(sys.argv[2])
    spec = UpdateSpec.model_validate_json(path.read_text(encoding="utf-8"))
    with (home / "seen.jsonl").open("a", encoding="utf-8") as seen:

        def on_event(event):
            seen.write(json.dumps(event_to_json(event)) + "\n")
            seen.flush()

        run_update(spec, Home(home.resolve(), None), on_event)


def events_seen(home):
    """What the drivers below a home told, one after another."""
    lines = (home / "seen.jsonl").read_text(encoding="utf-8").splitlines()
    return [event_from_json(json.loads(line)) for line in lines]


def found_below(folder, pattern):
    """Paths below a folder in which others may vanish meanwhile, which `rglob` does not bear."""
    return [
        Path(path) for path in glob.glob(f"{glob.escape(str(folder))}/**/{pattern}", recursive=True)
    ]


def far_inside_second_task(home):
    """Whether several checkpoints were written there: the group counts them a little later."""
    return found_below(home / "runs", "stage_001_step_00000[2-4][0-9]/*.json")


def train_workers():
    """The processes of the worker group, by what Ray calls them."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "TrainWorker" in " ".join([child.name(), *child.cmdline()]):
                found.append(child.pid)
    return found


def kill_with_children(process):
    """End a driver and all that it started at once, as when its machine is lost."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    process.wait()


def outcome_of(home, number=1):
    """Weights, method states and matrix of a version."""
    folder = Home(home.resolve(), None).registry.path("tiny", number)
    states = read_states(folder)
    found = {f"model/{name}": t for name, t in load_version(folder).model.state_dict().items()}
    for kind, state in states.items():
        found |= {f"{kind}/{name}": tensor for name, tensor in state.tensors.items()}
        found[f"{kind}/rows"] = state.rows
        found[f"{kind}/values"] = state.values
    matrix = read_matrix(folder)
    return found | {"rows": matrix["rows"], "baseline": matrix["baseline"]}


if __name__ == "__main__":
    main()
