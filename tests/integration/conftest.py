import logging

import pytest


@pytest.fixture(scope="session")
def cluster():
    """One small Ray for all tests here; ended with the session."""
    import ray

    ray.init(
        num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING
    )
    yield
    ray.shutdown()
