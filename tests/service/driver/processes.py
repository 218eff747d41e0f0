"""Drivers in processes of their own, over job folders of tiny jobs."""

import json
import os
import subprocess
import sys

from ratchet.service.driver.job_folder import Assignment, JobFolder
from ratchet.service.driver.journal import Line
from tests.tiny import tiny_spec


def tiny_assignment(
    model, home, job="ftjob-1", kind="update", parent=None, address=None, **sections
):
    """The task of a small job, and its folder, ready to be driven."""
    tasks = sections.pop("tasks", ["banking"])
    spec = tiny_spec(model, home / f"rows_{job}", "tiny", tasks, [], **sections)
    raw = {k: v for k, v in spec.model_dump(mode="json").items() if v is not None}
    task = Assignment(job, kind, raw, str(home), None, address, parent)
    folder = JobFolder.of(home, job)
    folder.write_assignment(task)
    folder.write_fence(1)
    return task, folder


def start(folder, attempt=1, *options, env=None):
    """Start a driver; its output goes to the job's folder."""
    command = [
        sys.executable,
        "-m",
        "ratchet.service.driver",
        str(folder.path),
        str(attempt),
        *options,
    ]
    return subprocess.Popen(command, env=os.environ | (env or {}))


def lines_of(folder):
    """Every line of a journal that is one."""
    if not folder.events.exists():
        return []
    found = [Line.parse(text) for text in folder.events.read_bytes().splitlines()]
    return [line for line in found if line is not None]


def kept(folder, name):
    """A file of the folder as plain values."""
    return json.loads((folder.path / name).read_text(encoding="utf-8"))
