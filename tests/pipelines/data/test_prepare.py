import pickle
import subprocess
import sys

import pytest

from ratchet.pipelines.data.blocks import BlockTexts, Layout, Recent, write_texts
from ratchet.pipelines.data.prepare import estimated_bytes, fitting_layout
from ratchet.pipelines.data.rows import JoinedTexts, TakenTexts

NUM_ROWS = 237
TEXTS = [" ".join(f"word{i + j}" for j in range(1 + (i * 5) % 11)) for i in range(NUM_ROWS)]
TINY = Layout(rows_per_block=4, blocks_per_file=10, blocks_per_group=5)


def test_the_values_asked_for_last_are_kept():
    made = []
    recent = Recent(2, lambda key: made.append(key) or -key)
    assert [recent[key] for key in (1, 2, 1, 3, 1, 2)] == [-1, -2, -1, -3, -1, -2]
    assert made == [1, 2, 3, 2]


def test_lazy_texts_are_estimated_without_reading_them(tmp_path):
    texts = write_texts(iter(TEXTS), tmp_path, TINY)
    assert list(texts) == TEXTS
    near = estimated_bytes(TEXTS)
    assert near <= estimated_bytes(texts) < 1.5 * near
    taken = texts[10:60]
    assert isinstance(taken, TakenTexts)
    assert list(taken) == TEXTS[10:60]
    assert taken[3] == TEXTS[13]
    assert abs(estimated_bytes(taken) - estimated_bytes(texts) * 50 / NUM_ROWS) < 100
    joined = JoinedTexts([texts, taken])
    assert list(joined) == TEXTS + TEXTS[10:60]
    assert [joined[row] for row in (0, 236, 237, -1)] == [TEXTS[row] for row in (0, 236, 10, 59)]
    assert estimated_bytes(joined) == estimated_bytes(texts) + estimated_bytes(taken)
    assert isinstance(pickle.loads(pickle.dumps(texts)), BlockTexts)


@pytest.mark.parametrize(
    ("bytes_per_row", "budget", "rows_per_block"),
    [(100, 4e9, 1024), (100_000, 4e9, 153), (100_000, 1e6, 64)],
)
def test_blocks_fit_half_the_budget(bytes_per_row, budget, rows_per_block):
    layout = fitting_layout(bytes_per_row, budget)
    assert layout.rows_per_block == rows_per_block
    assert layout.blocks_in_memory == 130


def test_rows_in_memory_import_no_ray():
    code = """
import sys
from pathlib import Path
from ratchet.pipelines.data import prepare, prepared, stream
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
prepare.prepare_rows(["a"], [0], [0], tokenizer, 4, memory_budget_mb=1, folder=Path("none"))
sys.exit("ray" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
