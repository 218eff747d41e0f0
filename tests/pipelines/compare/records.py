"""Records of runs with plain numbers."""


def record(method, seed=0, accuracy=0.8, **changes):
    """A run that is done, of two tasks."""
    return {
        "key": f"{method}.seed_{seed}",
        "method": method,
        "family": "replay",
        "seed": seed,
        "order": 0,
        "model": "small",
        "kind": "classifier",
        "status": "done",
        "error": None,
        "tasks": ["a", "b"],
        "accuracy_matrix": [[0.9, 0.1], [0.7, 0.9]],
        "metrics": {"average_accuracy": accuracy, "forgetting": 0.2, "learning_accuracy": 0.9},
        "with_task_id": None,
        "costs": {},
        "totals": {
            "seconds": 10.0,
            "peak_memory_bytes": 5e8,
            "parameters_added": 1000,
            "bytes_added": 4000,
        },
    } | changes


def failed(method, seed=0):
    """A run that failed."""
    error = {"type": "DivergedError", "message": "task 'a', step 3: the gradient is | not finite"}
    empty = {"metrics": {}, "totals": {}, "with_task_id": None}
    return record(method, seed, status="failed", error=error, **empty)
