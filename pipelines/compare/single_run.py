"""One run of a comparison: `python -m ratchet.pipelines.compare.single_run FOLDER`.

The folder holds `spec.json`; `result.json` is written at the end. Events of the stages go to
stdout, a JSON line each. The process ends when its standard input does, so that none is left over
when the comparison's own process is killed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

from ratchet.pipelines.compare.outcome import RunDone, RunFailed, write_outcome
from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.events import Resumed, RunEvent, StageDone, event_to_json

SPEC_FILE = "spec.json"
RESULT_FILE = "result.json"
HOME_FOLDER = "home"
ORPHANED = 75


def main(folder: Path, keep_version: bool) -> None:
    """Run the update of a folder and write its result, or its error.

    Args:
        folder: Where `spec.json` lies.
        keep_version: Whether the version's files stay; otherwise only its report does.
    """
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.update.run import run_update

    quiet_libraries()
    spec = UpdateSpec.model_validate_json((folder / SPEC_FILE).read_text(encoding="utf-8"))
    home = folder / HOME_FOLDER
    try:
        result = run_update(spec, Home(home.resolve(), None), _show)
    except RatchetError as error:
        write_outcome(folder / RESULT_FILE, RunFailed(type(error).__name__, str(error)))
        return
    report = folder / "report.html"
    shutil.copyfile(result.report, report)
    write_outcome(folder / RESULT_FILE, RunDone(replace(result, report=report.name)))
    if not keep_version:
        shutil.rmtree(home)


def _show(event: RunEvent) -> None:
    if isinstance(event, StageDone | Resumed):
        sys.stdout.write(json.dumps(event_to_json(event)) + "\n")
        sys.stdout.flush()


def _end_with_the_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: the interpreter can still end while it waits
    os._exit(ORPHANED)


if __name__ == "__main__":
    main(Path(sys.argv[1]), keep_version="--keep-version" in sys.argv[2:])
