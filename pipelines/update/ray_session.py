"""A Ray to run an update on: one for the whole update, started while the heavy libraries load."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ratchet.pipelines.spec.update_spec import ScalingSpec


@contextmanager
def ray_session(
    scaling: ScalingSpec, address: str | None, preload: tuple[str, ...] = ()
) -> Iterator[None]:
    """The Ray at an address, the one already attached, or one of this process; none for no workers.

    Args:
        scaling: The workers; the Ray of this process gets a CPU for each of theirs and one more.
        address: A cluster's address, or None.
        preload: Modules to import in a thread while Ray's processes start: that is mostly waiting.
    """
    if scaling.num_workers == 0:
        yield
        return
    import ray

    from ratchet.pipelines.processes.ray_job import InstalledCode

    if ray.is_initialized():
        yield
        return
    loading = threading.Thread(target=_import_all, args=(preload,), name="ratchet-imports")
    loading.start()  # after `import ray`, so that the two imports do not meet half-way
    os.environ.setdefault("RAY_AUTH_MODE", "disabled" if address is None else "token")
    cpus = max(1, round(scaling.num_workers * scaling.cpus_per_worker + 1))
    local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.WARNING,
            job_config=InstalledCode(),
            **(local if address is None else {}),
        )
        loading.join()
        yield
    finally:
        ray.shutdown()


def _import_all(names: tuple[str, ...]) -> None:
    for name in names:
        importlib.import_module(name)
