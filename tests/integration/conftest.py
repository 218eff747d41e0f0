import logging
import os

import pytest

from ratchet.pipelines.tuning.search.study_run import ZERO_COPY


@pytest.fixture(scope="session")
def cluster():
    """One small Ray for all tests here; ended with the session."""
    import ray

    os.environ[ZERO_COPY] = "1"  # as a study starts its own
    ray.init(
        num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING
    )
    yield
    ray.shutdown()
