"""Reports of made-up updates."""

import numpy as np

from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.metrics import summarize
from ratchet.pipelines.spec.update_spec import GateSpec
from ratchet.pipelines.update.report_input import verdict_report
from tests.pipelines.evaluation.outcomes import right

NAMES = (
    "banking",
    "travel",
    "work",
    "small_talk",
    "home",
    "auto_and_commute",
    "credit_cards",
    "kitchen_and_dining",
    "utility",
    "meta",
    "health",
    "insurance",
    "legal",
    "logistics",
    "payroll",
)


SPEC = """\
lineage: helpdesk
model: {name: minilm}
methods:
- {type: replay, capacity: 1000}
- {type: ewc, strength: 1000}
"""


def stairs(count, learned, loss):
    """Accuracies that start at `learned` and fall by about `loss` a stage."""
    rows = []
    for stage in range(count):
        cells = [
            max(learned - 0.004 * task - loss * (stage - task) * (1 + 0.3 * (task % 3)), 0.02)
            for task in range(stage + 1)
        ]
        rows.append([*cells, *[None] * (count - stage - 1)])
    return rows


def task_report(index, name, stage, is_new=True):
    phases = {"reading": 0.4, "training": 12.0 + index % 4, "importances": 2.2, "evaluation": 1.1}
    return {
        "name": name,
        "stage": stage,
        "is_new": is_new,
        "num_labels": 10,
        "num_train": 1000,
        "num_validation": 200,
        "num_test": 300 if is_new else None,
        "seconds": phases if is_new else {},
        "peak_memory_bytes": 812_000_000 if is_new else None,
        "bytes_added": 1_310_000 if is_new else None,
        "trainable_parameters": 298_752 if is_new else None,
    }


def answers(row):
    """Validation rows of each task: so many right by `auto`, three points more by its own heads."""
    return {
        name: right(round(200 * min(value + 0.03, 1.0)), served=round(200 * value))
        for name, value in zip(NAMES, row, strict=False)
        if value is not None
    }


def make_report(num_tasks=5, loss=0.02, learned=0.96, **changes):
    matrix = stairs(num_tasks, learned, loss)
    named = stairs(num_tasks, min(learned + 0.02, 1.0), loss / 4)
    now = answers(matrix[-1])
    learned = answers(np.diag(np.array(matrix, dtype=float))[:-1])
    verdict = decide(now, None, {}, GateSpec(), learned)
    data = {
        "lineage": "helpdesk",
        "version": 3,
        "parent": 2,
        "created": "2026-03-01T12:34:56+00:00",
        "base_model": "minilm",
        "scenario": "class_incremental",
        "promoted": verdict.promoted,
        "verdict": verdict_report(verdict),
        "tasks": [task_report(i, NAMES[i], i) for i in range(num_tasks)],
        "accuracy_matrix": matrix,
        "accuracy_matrix_with_task_id": named,
        "metrics": summarize(matrix),
        "metrics_with_task_id": summarize(named),
        "warnings": [
            "banking.train.jsonl: 3 rows also stand in banking.test.jsonl; the first is line 17."
        ],
        "spec_yaml": SPEC,
        "methods": ["replay 1000", "ewc"],
        "seconds": {"starting": 6.2, "learning": 71.0, "evaluating": 9.5, "writing": 1.4},
        "as_served": {
            "average_accuracy": 0.843,
            "tasks": {
                name: {
                    "accuracy": round(0.84 - 0.01 * i, 6),
                    "other_task": round(0.05 + 0.01 * i, 6),
                    "rejected": 0.05,
                    "within_task": 0.06,
                    "num_rows": 300,
                }
                for i, name in enumerate(NAMES[:num_tasks])
            },
            "answer_by": "mixture",
            "accuracy": {"mixture": 0.9, "prototypes": 0.87, "routed": 0.81, "heads": 0.62},
            "num_rows": 200 * num_tasks,
        },
        "out_of_scope": {
            "threshold": -41.37,
            "accept_fraction": 0.95,
            "routed": {
                name: {"num_rows": 1000, "num_accepted": 948 + i, "num_own_task": 973 - i}
                for i, name in enumerate(NAMES[:num_tasks])
            },
        },
    }
    return {**data, **changes}
