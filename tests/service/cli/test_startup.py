import json
import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "ray", "transformers", "mlflow", "numpy", "pandas", "fastapi", "sqlalchemy"}

PROBE = """
import json, resource, sys
sys.argv = ["ratchet", *json.loads(sys.argv[1])]
from ratchet.service.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
spent = resource.getrusage(resource.RUSAGE_SELF)
json.dump([sorted(sys.modules), spent.ru_utime + spent.ru_stime], sys.stderr)
"""


def started(*arguments):
    """The modules that a call of the command line leaves imported, and the CPU seconds it took."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    modules, seconds = json.loads(done.stderr.splitlines()[-1])
    return set(modules), seconds


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["versions", "--json"]],
)
def test_light_verbs_import_nothing_heavy(arguments, monkeypatch, tmp_path):
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    modules, _ = started(*arguments)
    assert not HEAVY & modules


def test_help_takes_less_than_half_a_second_of_cpu():
    # The least of some calls: what a busy machine adds is not ours.
    assert min(started("--help")[1] for _ in range(4)) < 0.5


def test_settings_that_libraries_read_at_import_are_in_place_before_any_is():
    script = (
        "import os, sys; sys.argv = ['ratchet', '--version']\n"
        "from ratchet.service.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "PASSIVE False"
