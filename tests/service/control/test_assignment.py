"""Data and models are looked at again when a job begins, not only when it came in."""

import pytest

from tests.service.control.stage import Stage


@pytest.fixture
def root(tmp_path):
    """A data root with two files, beside a folder that nobody may read."""
    for name in ("root/a.jsonl", "root/more/b.jsonl", "outside/c.jsonl", "root/model/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "a", "label": "b"}\n')
    return tmp_path / "root"


@pytest.fixture
def stage(db, settings, root):
    made = Stage(db, settings.model_copy(update={"data_roots": (str(root), "s3://bucket/data")}))
    yield made
    made.close()


def ask(stage, root, train, model="m"):
    task = {"name": "t", "train": train.format(root=root)}
    raw = {"lineage": "tiny", "model": {"name": model.format(root=root)}, "tasks": [task]}
    return stage.ask(spec=raw)


@pytest.mark.parametrize(
    ("train", "model"),
    [
        ("{root}/a.jsonl", "m"),
        ("{root}/*.jsonl", "{root}/model"),
        ("{root}/more", "m"),
        ("s3://bucket/data/a.jsonl", "someone/some-model"),
    ],
)
def test_a_driver_is_told_what_still_lies_under_the_roots(stage, root, train, model):
    job_id = ask(stage, root, train, model)
    stage.turn()
    told = stage.folder(job_id).read_assignment().spec
    assert told["tasks"][0]["train"] == train.format(root=root)
    assert told["model"]["name"] == model.format(root=root)


@pytest.mark.parametrize(
    ("train", "link", "target"),
    [
        ("{root}/a.jsonl", "a.jsonl", "outside/c.jsonl"),
        ("{root}/*.jsonl", "z.jsonl", "outside/c.jsonl"),
        ("{root}/more", "more/z.jsonl", "outside/c.jsonl"),
        ("{root}/later/c.jsonl", "later", "outside"),
        ("s3://other/a.jsonl", "unused", "outside"),
    ],
)
def test_a_link_laid_after_the_submission_ends_the_job_for_good(stage, root, train, link, target):
    job_id = ask(stage, root, train)
    (root / link).unlink(missing_ok=True)
    (root / link).symlink_to(root.parent / target)
    stage.turn()
    job = stage.job(job_id)
    assert (job.status, job.attempt, stage.drivers.submitted) == ("failed", 1, [])
    assert job.error.code == "data"
    assert job.error.problems[0].where == "tasks[0].train"
    assert stage.folder(job_id).path.exists() is False


def test_a_model_that_became_a_link_to_elsewhere_is_not_loaded(stage, root):
    job_id = ask(stage, root, "{root}/a.jsonl", "{root}/model")
    (root / "model").rename(root / "before")
    (root / "model").symlink_to(root.parent / "outside")
    stage.turn()
    assert stage.job(job_id).error.problems[0].where == "model.name"
    assert stage.drivers.submitted == []


def test_a_model_with_a_file_that_became_a_link_to_elsewhere_is_not_loaded(stage, root):
    job_id = ask(stage, root, "{root}/a.jsonl", "{root}/model")
    (root / "model" / "x").unlink()
    (root / "model" / "x").symlink_to(root.parent / "outside" / "c.jsonl")
    stage.turn()
    assert stage.job(job_id).error.problems[0].where == "model.name"
    assert stage.drivers.submitted == []


@pytest.mark.parametrize(
    "train",
    ["{root}/**/*.jsonl", "s3://bucket/data/**/*.parquet", "s3://bucket/data/state/a.parquet"],
)
def test_what_could_reach_the_home_or_the_store_is_not_handed_to_a_driver(
    db, settings, root, train
):
    near = {"home": root / "state", "store": "s3://bucket/data/state"}
    stage = Stage(
        db, settings.model_copy(update={**near, "data_roots": (str(root), "s3://bucket/data")})
    )
    job_id = ask(stage, root, train)
    stage.turn()
    assert stage.job(job_id).error.problems[0].where == "tasks[0].train"
    stage.close()
