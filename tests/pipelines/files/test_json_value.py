import json
import subprocess
import sys

from ratchet.pipelines.files import json_value


def test_the_aliases_are_words_for_the_type_checker_and_load_nothing_heavy():
    assert {"Json", "JsonObject"} <= set(vars(json_value))
    code = (
        "import sys, ratchet.pipelines.files.json_value, json;"
        "print(json.dumps([name for name in ('torch', 'ray', 'pydantic') if name in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(found.stdout) == []
