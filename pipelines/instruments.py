"""What the instruments of an update found, as metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def instrument_metrics(outcome: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics of METHODS.md that come from instruments; None where one was not asked for.

    Args:
        outcome: What the workers wrote, `instruments` among it.
    """
    probes = outcome["instruments"].get("probe")
    return {"probe_accuracy": None if not probes else float(np.mean(list(probes.values())))}
