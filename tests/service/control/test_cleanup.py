import logging

import pytest

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.attachment import attach_object_store
from ratchet.pipelines.registry.s3.runs import open_run
from ratchet.service.control.cleanup import clear_leftovers
from tests.service.control.stage import Stage

pytestmark = pytest.mark.slow
DATA = "a" * 64


@pytest.fixture
def ended(db, settings, bucket, tmp_path):
    """A home on a store, and a job with a checkpoint there from each of two attempts."""
    attach_object_store(settings.home, f"s3://{bucket}/team")
    stage = Stage(db, settings)
    job = stage.job(stage.ask("tiny"))
    registry = Registry(settings.home)
    checkpoint = tmp_path / "stage_001_step_0004"
    checkpoint.mkdir()
    (checkpoint / "model").write_bytes(b"weights")
    for run in (f"{job.id}-from-base", f"{job.id}-from-3", "other-from-base"):
        (settings.home / "runs" / "tiny" / run / "checkpoints").mkdir(parents=True)
        open_run(registry.run_address("tiny", run, DATA)).upload_checkpoint(checkpoint)
    return settings.home, registry, job


def kept(s3, bucket):
    found = s3.list_objects_v2(Bucket=bucket, Prefix="team/runs/").get("Contents", [])
    return {entry["Key"].split("/")[3] for entry in found}


def test_what_a_job_leaves_behind_goes_here_and_in_the_store(ended, s3, bucket):
    home, registry, job = ended
    assert len(kept(s3, bucket)) == 3
    thread = clear_leftovers(home, registry, job)
    thread.join(60)
    assert kept(s3, bucket) == {"other-from-base"}
    left = [path.parent.name for path in (home / "runs" / "tiny").glob("*/checkpoints")]
    assert left == ["other-from-base"]


def test_a_store_that_refuses_is_told_of_and_harms_nobody(ended, s3, bucket, monkeypatch, caplog):
    home, registry, job = ended
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with caplog.at_level(logging.WARNING):
        clear_leftovers(home, registry, job).join(60)
    assert caplog.text.count("the store keeps what is left of it") == 2
