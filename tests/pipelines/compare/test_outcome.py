import json

import pytest

from ratchet.pipelines.compare.outcome import (
    FORMAT,
    RunDone,
    RunFailed,
    read_outcome,
    status_of,
    write_outcome,
)
from ratchet.pipelines.errors import VersionError
from tests.pipelines.update.test_result import FULL


@pytest.mark.parametrize(
    ("outcome", "status", "keys"),
    [
        (RunDone(FULL), "done", ["format", "status", "result"]),
        (RunFailed("DataError", "no rows"), "failed", ["format", "status", "error"]),
    ],
)
def test_the_comparison_reads_what_its_run_wrote(tmp_path, outcome, status, keys):
    path = tmp_path / "result.json"
    write_outcome(path, outcome)
    assert read_outcome(path) == outcome
    assert status_of(outcome) == status
    assert list(json.loads(path.read_text(encoding="utf-8"))) == keys


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"format": FORMAT + 1, "status": "done"}, "has format 2 .*newer"),
        ({"format": FORMAT, "status": "done"}, "neither a result nor an error"),
        ({"format": FORMAT, "status": "failed", "error": {"type": "E"}}, "is broken: message: "),
    ],
)
def test_what_another_release_wrote_or_is_broken_is_refused(tmp_path, raw, words):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(VersionError, match=f"{words}.*remove the run's folder"):
        read_outcome(path)
