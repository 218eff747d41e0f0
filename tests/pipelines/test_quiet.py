import subprocess
import sys

CODE = """
import logging, os, warnings
from ratchet.pipelines.quiet import quiet_libraries
assert "transformers" not in __import__("sys").modules, "nothing is loaded at import"
quiet_libraries()
from transformers.utils import logging as own
assert own.get_verbosity() == logging.ERROR
assert not own.is_progress_bar_enabled()
assert os.environ["TOKENIZERS_PARALLELISM"] == {parallelism!r}
assert logging.getLogger("mlflow").level == logging.WARNING
warnings.warn("soon", FutureWarning)
warnings.warn("now", UserWarning)
"""


def run(environment, parallelism):
    command = [sys.executable, "-c", CODE.format(parallelism=parallelism)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_libraries_are_quiet_and_other_warnings_are_still_heard(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    done = run(None, "false")
    assert done.returncode == 0, done.stderr
    assert "now" in done.stderr
    assert "soon" not in done.stderr


def test_what_a_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    done = run(None, "true")
    assert done.returncode == 0, done.stderr
