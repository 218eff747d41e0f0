import json
import os
import subprocess
import sys
import threading

import pytest

from ratchet.pipelines.errors import BusyError
from ratchet.pipelines.files.lock import exclusive, waiting

HOLDER = """
import sys, time
from pathlib import Path
from ratchet.pipelines.files.lock import exclusive
with exclusive(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock, and its lock file."""
    path = tmp_path / "a.lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process, path
        process.kill()


def test_what_another_process_holds_is_refused_and_its_holder_named(holder):
    process, path = holder
    with (
        pytest.raises(BusyError, match=rf"the lineage is .* process {process.pid} on"),
        exclusive(path, "the lineage"),
    ):
        pass


def test_a_killed_holder_leaves_nothing_locked(holder):
    process, path = holder
    process.kill()
    process.wait()
    with exclusive(path, "the lineage"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_is_given_back_where_the_block_fails(tmp_path):
    path = tmp_path / "a.lock"
    with pytest.raises(ValueError, match="inside"), exclusive(path, "it"):
        raise ValueError("inside")
    with exclusive(path, "it"):
        pass


def test_this_process_excludes_itself_too(tmp_path):
    path = tmp_path / "a.lock"
    with exclusive(path, "it"), pytest.raises(BusyError), exclusive(path, "it"):
        pass


def test_a_holder_that_has_not_written_its_name_yet_is_another_process(tmp_path):
    path = tmp_path / "a.lock"
    with waiting(path), pytest.raises(BusyError, match="by another process"), exclusive(path, "it"):
        pass


def test_who_waits_enters_once_the_other_has_left(tmp_path):
    path, order = tmp_path / "a.lock", []

    def enter():
        with waiting(path):
            order.append("second")

    with waiting(path):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(timeout=0.1)
        assert thread.is_alive()
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]
