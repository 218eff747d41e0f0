"""What a warm worker keeps, and does not keep, from one trial to the next."""

import gc
import shutil

import pytest

from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.trial_run import (
    TrialBase,
    data_key,
    read_trial,
    seeds_so_far,
    taught_trial,
    trial_folder,
    write_trial,
)
from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start
from tests.tiny import TASKS, write_task


@pytest.fixture
def base(tiny_model, tmp_path):
    raw = {
        "lineage": "tiny",
        "model": {"name": str(tiny_model)},
        "tasks": [write_task(tmp_path / "rows", name, labels) for name, labels in TASKS.items()],
        "methods": [{"type": "ewc"}],
        "training": {"num_epochs": 1, "batch_size": 16, "max_length": 24, "precision": "fp32"},
    }
    source = RawSpec(raw, tmp_path)
    spec = source.with_settings({})
    plan = make_plan(spec, open_start(None), load_tokenizer(spec.model), tmp_path / "plan")
    return TrialBase(source, plan.job, plan.data, data_key(spec), tmp_path, 1, None, False)


def taught_models():
    return [own for own in gc.get_objects() if issubclass(type(own), TaughtModel)]


@pytest.mark.parametrize(("rate", "status"), [(1e-3, "done"), (1e30, "failed")])
def test_a_trial_leaves_no_model_behind_in_its_worker(base, rate, status):
    gc.collect()
    before = len(taught_models())
    gc.disable()  # else it may happen to look at the right moment
    try:
        trial = taught_trial(0, {"training.learning_rate": rate}, base, lambda *_: None)
        assert (trial.status, len(taught_models())) == (status, before)
    finally:
        gc.enable()


def test_a_worker_that_dies_while_checkpoints_go_has_lost_nothing(base, monkeypatch):
    remove = shutil.rmtree

    def dies(folder, **how):
        """Remove the half of a checkpoint, and go no further."""
        if folder.name == "checkpoints":
            next(folder.glob("*/rank_00000.json")).unlink()
            raise KeyboardInterrupt
        remove(folder, **how)

    monkeypatch.setattr("ratchet.pipelines.tuning.search.trial_run.shutil.rmtree", dies)
    with pytest.raises(KeyboardInterrupt):
        taught_trial(0, {}, base, lambda *_: None)
    monkeypatch.undo()
    monkeypatch.setattr(
        "ratchet.pipelines.tuning.search.trial_run.teach_seed", None
    )  # nothing is taught again
    trial = taught_trial(0, {}, base, lambda *_: None)
    assert (trial.status, trial.error) == ("done", None)
    assert not list(base.folder.glob("trials/0000/seed_0/checkpoints"))


def test_a_trial_keeps_what_was_decided_task_by_task(base):
    settings = {
        "training.learning_rate": "auto",
        "methods.ewc.strength": "auto",
        "stability_decay.learning_rates": [1e-3, 1e-2],
        "stability_decay.start.ewc": 100.0,
    }
    trial = taught_trial(0, settings, base, lambda *_: None)
    assert trial.error is None
    search = trial.seeds[0].search
    assert list(search) == list(trial.seeds[0].tasks)
    assert all(own.decided.learning_rate in (1e-3, 1e-2) for own in search.values())
    write_trial(base.folder / "kept", trial)
    assert read_trial(base.folder / "kept") == trial


class Stopped(SystemExit):
    """What Ray Tune raises in a trial that it stops, inside the report."""


def test_a_trial_that_is_stopped_leaves_the_rows_that_it_has(base):
    folder = trial_folder(base.folder, 0)

    def report(num_done, _):
        if num_done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        taught_trial(0, {}, base, report)
    (partial,) = seeds_so_far(folder)
    assert len(partial.accuracy_matrix) == len(partial.tasks) == 2
    whole = taught_trial(0, {}, base, lambda *_: None)  # from its checkpoint
    tasks = whole.seeds[0].tasks
    assert partial.tasks == tasks[:2]
    rows = [row[:2] for row in whole.seeds[0].accuracy_matrix[:2]]
    assert [tuple(row) for row in rows] == list(partial.accuracy_matrix)
    assert partial.metrics.keys() == whole.seeds[0].metrics.keys()
    assert 0 < partial.seconds < whole.seeds[0].seconds
    assert seeds_so_far(folder) == whole.seeds  # what has ended counts


def test_a_trial_leaves_a_gpu_alone_that_it_was_not_given(base, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    trial = taught_trial(0, {}, base, lambda *_: None)
    assert (trial.status, trial.error) == ("done", None)


def test_a_trial_that_goes_on_reports_what_it_was_taught_before_first(base):
    told, cut = [], []
    whole = taught_trial(0, {}, base, lambda *own: told.append(own))
    assert [num_done for num_done, _ in told] == [1, 2, 3]

    def interrupts(*own):
        cut.append(own)
        if len(cut) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taught_trial(1, {}, base, interrupts)
    again = []
    gone_on = taught_trial(1, {}, base, lambda *own: again.append(own))
    assert again == [(num_done, pytest.approx(accuracy)) for num_done, accuracy in told]
    assert gone_on.seeds[0].accuracy_matrix == whole.seeds[0].accuracy_matrix
