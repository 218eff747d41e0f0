"""Covers, beside `run`: `events`, `history`, `report_input`, `result`, `writing`, `stale`,
`ray_session`, `training.checkpoint`, `training.stream`, `training.stage_context`,
`training.loading`.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ratchet.pipelines.errors import BusyError, DataError, DivergedError, RatchetError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from ratchet.pipelines.training.events import Resumed, Warned
from ratchet.pipelines.training.loop import StageLoop
from ratchet.pipelines.update.kept_result import DONE_FILE, RESULT_FILE
from ratchet.pipelines.update.result import FORMAT
from ratchet.pipelines.version import load_version, read_held_out, read_states
from tests.conformance.streams import Interruption, differences
from tests.tiny import TASKS, run_update, tiny_spec, write_task

REPLAY = [{"type": "replay", "capacity": 12, "fraction": 0.5}, {"type": "ewc"}]


def home_in(folder):
    return Home(folder / "home", None)


def spec_for(model, folder, task, methods=REPLAY, **sections):
    return tiny_spec(model, folder / f"rows_{task}", "tiny", [task], methods, **sections)


def weights_of(home, number):
    found = load_version(home.registry.path("tiny", number))
    return found.model.state_dict()


def two_updates(model, folder, **second):
    """A lineage taught in two updates, the second when the first's data is long gone."""
    home = home_in(folder)
    first = run_update(spec_for(model, folder, "banking"), home)
    shutil.rmtree(folder / "rows_banking")
    after = run_update(spec_for(model, folder, "home", **second), home)
    return home, first, after


def test_a_second_update_goes_on_from_the_champion_without_the_old_data(tiny_model, tmp_path):
    home, first, second = two_updates(tiny_model, tmp_path)
    assert (first["version"], second["version"]) == (1, 2)
    assert second["promoted"]
    assert home.registry.champion("tiny") == 2
    assert second["tasks"] == ["banking", "home"]
    assert len(second["accuracy_matrix"]) == 2
    assert second["accuracy_matrix"][0][0] == first["accuracy_matrix"][0][0]
    manifest = json.loads((home.registry.path("tiny", 2) / "manifest.json").read_text())
    assert manifest["parent"] == 1
    assert [task["stage"] for task in manifest["tasks"]] == [0, 1]
    assert manifest["labels"][:2] == sorted(TASKS["banking"])


def test_memory_and_importances_are_carried_into_the_next_update(tiny_model, tmp_path):
    home, _, _ = two_updates(tiny_model, tmp_path)
    before, after = (read_states(home.registry.path("tiny", number)) for number in (1, 2))
    assert before["replay"].values["num_seen"] == 24
    assert after["replay"].values["num_seen"] == 48
    assert len(before["replay"].rows) == len(after["replay"].rows) == 12
    tasks = [row.task_id for row in after["replay"].rows]
    assert set(tasks) == {0, 1}
    old = {row.text for row in after["replay"].rows if row.task_id == 0}
    assert old <= {row.text for row in before["replay"].rows}
    name = "importance/backbone.encoder.layer.0.output.dense.weight"
    assert bool((after["ewc"].tensors[name] >= before["ewc"].tensors[name]).all())
    assert float(before["ewc"].tensors[name].sum()) > 0


def test_held_out_rows_of_old_tasks_are_carried(tiny_model, tmp_path):
    home, _, _ = two_updates(tiny_model, tmp_path)
    paths = [home.registry.path("tiny", number) for number in (1, 2)]
    assert read_held_out(paths[0], 0) == read_held_out(paths[1], 0)
    assert len(read_held_out(paths[1], 0).test) == 12


def test_two_updates_teach_what_one_with_both_tasks_teaches(tiny_model, tmp_path):
    """Between updates nothing is lost but what a checkpoint between stages would lose too."""
    home, _, second = two_updates(tiny_model, tmp_path / "apart")
    both = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], REPLAY)
    whole = run_update(both, home_in(tmp_path / "once"))
    assert whole["accuracy_matrix"] == second["accuracy_matrix"]
    wanted, found = weights_of(home_in(tmp_path / "once"), 1), weights_of(home, 2)
    assert differences(wanted, found) == []


def test_an_update_that_forgets_too_much_is_refused_and_the_champion_stays(tiny_model, tmp_path):
    home = home_in(tmp_path)
    options = {
        "methods": [],
        "training": {"num_epochs": 12},
        "gate": {"max_forgetting": 1.0, "max_served_loss": 0.05},
        "routing": {"answer_by": "heads"},
    }
    run_update(spec_for(tiny_model, tmp_path, "banking", **options), home)
    second = run_update(spec_for(tiny_model, tmp_path, "home", **options), home)
    assert not second["promoted"]
    (held, _) = second["gate"]["comparisons"]
    assert (held["against"], held["served"]["version"]) == ("anchor", 1)
    assert held["served"]["loss"] > 0.05
    assert held["served_loss"]["other_task"] > 0
    (reason,) = second["gate"]["reasons"]
    assert reason.startswith("banking, as `auto` answers it, fell by")
    assert "answered with another task's label" in reason
    assert second["gate"]["headline"].startswith("Served worse: banking")
    assert home.registry.champion("tiny") == 1
    assert home.registry.versions("tiny") == [1, 2]
    third = run_update(spec_for(tiny_model, tmp_path, "kitchen", **options), home)
    assert third["tasks"] == ["banking", "kitchen"]  # grown from the champion, not from the refused


def test_a_task_that_was_taught_already_is_refused_before_anything_is_written(tiny_model, tmp_path):
    home = home_in(tmp_path)
    run_update(spec_for(tiny_model, tmp_path, "banking"), home)
    with pytest.raises(DataError, match="banking"):
        run_update(spec_for(tiny_model, tmp_path, "banking"), home)
    assert home.registry.versions("tiny") == [1]


def test_a_lineage_is_changed_by_one_update_at_a_time(tiny_model, tmp_path):
    home = home_in(tmp_path)
    with home.registry.update_lock("tiny"), pytest.raises(BusyError):
        run_update(spec_for(tiny_model, tmp_path, "banking"), home)


def interrupted(spec, home, monkeypatch, number):
    """A run that ends with its `number`-th checkpoint."""
    left = [number]
    save = FolderCheckpoints.save

    def save_and_end(self, name, write):
        save(self, name, write)
        left[0] -= 1
        if left[0] == 0:
            raise Interruption(name)

    with monkeypatch.context() as patched:
        patched.setattr(FolderCheckpoints, "save", save_and_end)
        with pytest.raises(Interruption):
            run_update(spec, home)


@pytest.mark.parametrize("number", [2, 5])
def test_the_same_call_goes_on_where_it_was_interrupted(tiny_model, tmp_path, monkeypatch, number):
    training = {"checkpoint_every_steps": 2}
    spec = tiny_spec(
        tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], REPLAY, training=training
    )
    wanted = run_update(spec, home_in(tmp_path / "whole"))
    home = home_in(tmp_path / "cut")
    interrupted(spec, home, monkeypatch, number)
    assert home.registry.versions("tiny") == []
    events = []
    found = run_update(spec, home, events.append)
    assert Resumed in map(type, events)
    assert found["accuracy_matrix"] == wanted["accuracy_matrix"]
    assert found["metrics"] == wanted["metrics"]
    assert differences(weights_of(home_in(tmp_path / "whole"), 1), weights_of(home, 1)) == []
    whole, cut = (
        read_states(h.registry.path("tiny", 1)) for h in (home_in(tmp_path / "whole"), home)
    )
    assert whole["replay"].rows == cut["replay"].rows
    assert differences(whole["ewc"].tensors, cut["ewc"].tensors) == []


def test_what_was_about_to_be_registered_goes_when_the_data_has_changed(
    tiny_model, tmp_path, monkeypatch
):
    spec, home = spec_for(tiny_model, tmp_path, "banking"), home_in(tmp_path)

    def cut(*_args, **_named):
        raise Interruption("register")

    with monkeypatch.context() as patched:
        patched.setattr("ratchet.pipelines.update.ending.Registering.make_known", cut)
        with pytest.raises(Interruption):
            run_update(spec, home)
    (kept,) = (home.folder / "runs").rglob(RESULT_FILE)
    train = Path(spec.tasks[0].train)
    train.write_text("".join(train.read_text().splitlines(keepends=True)[1:]))
    with monkeypatch.context() as patched:
        patched.setattr("ratchet.pipelines.update.run._teach", cut)
        with pytest.raises(Interruption):
            run_update(spec, home)
    assert not kept.exists()
    home.registry.promote("tiny", 1)  # of the old data, by hand
    with pytest.raises(DataError, match="learned a task of this name already"):
        run_update(spec, home)


def test_an_interrupted_run_starts_afresh_when_its_data_has_changed(
    tiny_model, tmp_path, monkeypatch
):
    spec, home = spec_for(tiny_model, tmp_path, "banking"), home_in(tmp_path)
    interrupted(spec, home, monkeypatch, 1)
    path = tmp_path / "rows_banking" / "banking.train.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[1:]) + "\n")
    events = []
    found = run_update(spec, home, events.append)
    assert any("data has changed" in e.message for e in events if isinstance(e, Warned))
    assert Resumed not in map(type, events)
    assert found["version"] == 1
    fresh = run_update(spec, home_in(tmp_path / "fresh"))
    assert found["accuracy_matrix"] == fresh["accuracy_matrix"]


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tiny_model, tmp_path, monkeypatch):
    training = {"checkpoint_every_steps": 2}
    spec = spec_for(tiny_model, tmp_path, "banking", training=training)
    home, step = home_in(tmp_path), StageLoop.step

    def poisoned(self, batch):
        if self.ctx.step == 3:
            weight = self.model.heads.blocks["task_000"].weight
            hook = weight.register_hook(lambda gradient: gradient * torch.nan)
            try:
                return step(self, batch)
            finally:
                hook.remove()
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(StageLoop, "step", poisoned)
        with pytest.raises(DivergedError, match="task 'banking', step 4: the gradient is not fini"):
            run_update(spec, home)
    events = []
    found = run_update(spec, home, events.append)
    resumed = [event for event in events if isinstance(event, Resumed)]
    assert [event.step_in_epoch + 2 * event.epoch for event in resumed] == [2]
    whole = run_update(spec, home_in(tmp_path / "whole"))
    assert found["metrics"] == whole["metrics"]
    assert differences(weights_of(home, 1), weights_of(home_in(tmp_path / "whole"), 1)) == []


@pytest.mark.parametrize(
    "step",
    [
        "ratchet.pipelines.update.writing.write_manifest",
        "ratchet.pipelines.update.run.write_draft",
        "ratchet.pipelines.update.writing.report_data",
    ],
)
def test_an_interruption_while_the_version_is_written_leaves_none(
    tiny_model, tmp_path, monkeypatch, step
):
    spec, home = spec_for(tiny_model, tmp_path, "banking"), home_in(tmp_path)

    def cut(*_args, **_named):
        raise Interruption(step)

    with monkeypatch.context() as patched:
        patched.setattr(step, cut)
        with pytest.raises(Interruption):
            run_update(spec, home)
    assert home.registry.versions("tiny") == []
    assert home.registry.champion("tiny") is None
    assert run_update(spec, home)["version"] == 1


@pytest.mark.parametrize("step", ["register", "promote_over"])
def test_an_interruption_while_a_version_is_registered_is_finished_by_the_next_call(
    tiny_model, tmp_path, monkeypatch, step
):
    from ratchet.pipelines.registry.registry import Registry

    spec, home = spec_for(tiny_model, tmp_path, "banking"), home_in(tmp_path)

    def cut(*_args, **_named):
        raise Interruption(step)

    with monkeypatch.context() as patched:
        patched.setattr(Registry, step, cut)
        with pytest.raises(Interruption):
            run_update(spec, home)
    found = run_update(spec, home)
    assert home.registry.versions("tiny") == [1]
    assert home.registry.champion("tiny") == found["version"] == 1
    load_version(home.registry.path("tiny", 1))


@pytest.mark.parametrize(
    "step", ["ratchet.pipelines.update.ending.track_result", "ratchet.pipelines.update.run.end_run"]
)
@pytest.mark.parametrize("parents", [0, 1])
def test_an_interruption_after_the_promotion_gives_the_result_the_next_time(
    tiny_model, tmp_path, monkeypatch, step, parents
):
    home = home_in(tmp_path)
    for name in ["kitchen"][:parents]:
        run_update(spec_for(tiny_model, tmp_path, name), home)
    spec = spec_for(tiny_model, tmp_path, "banking")

    def cut(*_args, **_named):
        raise Interruption(step)

    with monkeypatch.context() as patched:
        patched.setattr(step, cut)
        with pytest.raises(Interruption):
            run_update(spec, home)
    number = parents + 1
    assert home.registry.champion("tiny") == number
    history = home.registry.aliases("tiny").history
    events = []
    found = run_update(spec, home, events.append)
    assert found["version"] == number
    assert found["promoted"] is True
    assert found["tasks"][-1] == "banking"
    assert list(map(type, events)) == [Warned]
    aliases = home.registry.aliases("tiny")
    assert (aliases.champion, aliases.challenger) == (number, None)
    assert aliases.history == history
    assert home.registry.versions("tiny") == [*range(1, number + 1)]
    (done,) = [
        p
        for p in (home.folder / "runs").rglob(DONE_FILE)
        if json.loads(p.read_text()) == {"format": FORMAT, **found}
    ]
    assert not (done.parent / "checkpoints").exists()
    with pytest.raises(DataError, match="learned a task of this name already"):
        run_update(spec, home)  # it has ended: from here on it is another update


def test_a_finished_run_leaves_its_result_and_no_checkpoints(tiny_model, tmp_path):
    home = home_in(tmp_path)
    found = run_update(spec_for(tiny_model, tmp_path, "banking"), home)
    (done,) = (home.folder / "runs").rglob(DONE_FILE)
    assert json.loads(done.read_text()) == {"format": FORMAT, **found}
    assert not (done.parent / "checkpoints").exists()


def test_the_result_has_metrics_with_and_without_the_task_id_under_their_own_names(
    tiny_model, tmp_path
):
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], [])
    found = run_update(spec, home_in(tmp_path))
    final = found["accuracy_matrix"][-1]
    with_id = found["with_task_id"]["accuracy_matrix"][-1]
    assert found["metrics"]["average_accuracy"] == pytest.approx(sum(final) / 2)
    assert found["with_task_id"]["metrics"]["average_accuracy"] == pytest.approx(sum(with_id) / 2)
    assert all(own >= everything for own, everything in zip(with_id, final, strict=True))
    given = tiny_spec(
        tiny_model, tmp_path / "rows", "given", ["banking", "home"], [], scenario="task_incremental"
    )
    assert "with_task_id" not in run_update(given, home_in(tmp_path))


def test_errors_on_purpose_are_ratchet_errors(tiny_model, tmp_path):
    spec = spec_for(tiny_model, tmp_path, "banking")
    (tmp_path / "rows_banking" / "banking.test.jsonl").write_text("{broken\n")
    with pytest.raises(RatchetError, match=r"banking\.test\.jsonl"):
        run_update(spec, home_in(tmp_path))


def test_costs_are_told_by_task(tiny_model, tmp_path):
    spec = tiny_spec(
        tiny_model,
        tmp_path / "rows",
        "tiny",
        ["banking", "home"],
        [{"type": "lora", "per_task": True, "rank": 4}],
    )
    home = home_in(tmp_path)
    first, second = run_update(spec, home)["costs"].values()
    assert {"train", "evaluate"} <= second["seconds"].keys()
    assert second["trainable_parameters"] == second["parameters_added"] == first["parameters_added"]
    router = 8 * (2 * 32 + 2)  # class sums and counts of two classes, in float64
    adapter = 4 * second["parameters_added"]
    assert adapter <= second["bytes_added"] <= adapter + 3 * router
    assert second["peak_memory_bytes"] > 1e7


@pytest.mark.parametrize(
    "methods", [[], [{"type": "lora", "per_task": True}], [{"type": "analytic", "width": 64}]]
)
def test_a_probe_tells_what_the_features_still_know(tiny_model, tmp_path, methods):
    options = {"evaluation": {"probe": True}, "training": {"num_epochs": 8}}
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], methods, **options)
    found = run_update(spec, home_in(tmp_path))
    with_task_id = found["with_task_id"]["metrics"]["average_accuracy"]
    assert 0.8 <= found["metrics"]["probe_accuracy"] <= 1.0
    assert found["metrics"]["probe_accuracy"] >= with_task_id - 0.2
    assert found["costs"]["banking"]["seconds"]["instruments"] > 0


def test_a_probe_that_nobody_asked_for_is_not_measured(tiny_model, tmp_path):
    found = run_update(spec_for(tiny_model, tmp_path, "banking"), home_in(tmp_path))
    assert found["metrics"]["probe_accuracy"] is None
    assert found["metrics"]["forgetting_events"] is None
    assert found["metrics"]["negative_flip_rate"] is None  # nothing was known before


def test_instruments_go_on_after_an_interruption(tiny_model, tmp_path, monkeypatch):
    options = {"evaluation": {"forgetting_events": True, "probe": True}}
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], [], **options)
    wanted = run_update(spec, home_in(tmp_path / "whole"))
    home = home_in(tmp_path / "cut")
    training = {"training": {"checkpoint_every_steps": 1}}
    cut = tiny_spec(
        tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], [], **options, **training
    )
    interrupted(cut, home, monkeypatch, 12)
    found = run_update(cut, home)
    assert found["instruments"] == wanted["instruments"]
    assert found["metrics"] == wanted["metrics"]
    events = found["instruments"]["forgetting_events"]
    assert set(events["by_task"]) == {"banking", "home"}
    assert len(events["most_forgotten"]) == 20
    counts = [example["events"] for example in events["most_forgotten"]]
    assert counts == sorted(counts, reverse=True)
    for example in events["most_forgotten"]:  # looked at after 4 epochs, and again after `home`
        looks = {"banking": 5, "home": 4}[example["task"]]
        assert (example["events"] == looks) == example["never_learned"]
        assert example["label"] in TASKS[example["task"]]
    assert 0 < found["metrics"]["forgetting_events"] < 5
    assert events["most_forgotten"][0]["text"] in Path(found["report"]).read_text()
    assert found["metrics"]["negative_flip_rate"] > 0


def test_a_second_update_is_held_against_the_champions_answers(tiny_model, tmp_path):
    options = {"methods": [], "training": {"num_epochs": 8}}
    home = home_in(tmp_path)
    run_update(spec_for(tiny_model, tmp_path, "banking", **options), home)
    found = run_update(spec_for(tiny_model, tmp_path, "home", **options), home)
    before, after = (row[0] for row in found["accuracy_matrix"])
    rate = found["metrics"]["negative_flip_rate"]
    assert rate >= before - after > 0
    assert found["instruments"]["negative_flip_rate_by_stage"] == [rate]


def test_intransigence_is_what_learning_at_once_would_have_reached(tiny_model, tmp_path):
    home = home_in(tmp_path)
    rows = tmp_path / "rows"
    names = ["banking", "home"]
    joint = run_update(tiny_spec(tiny_model, rows, "joint", names, [], joint=True), home)
    asked = {"evaluation": {"joint": "joint"}}
    found = run_update(tiny_spec(tiny_model, rows, "tiny", names, [], **asked), home)
    for one, other in ((found, joint), (found["with_task_id"], joint["with_task_id"])):
        learned = [row[i] for i, row in enumerate(one["accuracy_matrix"])]
        pairs = zip(other["accuracy_matrix"][-1], learned, strict=True)
        wanted = sum(bound - own for bound, own in pairs) / 2
        assert one["metrics"]["intransigence"] == pytest.approx(wanted, abs=1e-5)
    assert joint["metrics"]["intransigence"] is None


def test_a_joint_run_that_does_not_exist_is_told_before_anything_is_taught(tiny_model, tmp_path):
    spec = spec_for(tiny_model, tmp_path, "banking", evaluation={"joint": "nowhere"})
    with pytest.raises(RatchetError, match="nowhere"):
        run_update(spec, home_in(tmp_path))
    assert not list((tmp_path / "home").rglob("events.jsonl"))


@pytest.mark.parametrize(
    ("methods", "is_kept"), [([{"type": "analytic", "width": 64}], True), ([], False)]
)
def test_retention_is_a_probe_on_general_rows(tiny_model, tmp_path, methods, is_kept):
    general = write_task(tmp_path / "general", "general", ["positive", "negative", "film"])
    options = {
        "evaluation": {"retention": {"train": general["train"], "test": general["test"]}},
        "training": {"num_epochs": 8, "learning_rate": 1e-2},
    }
    found = run_update(
        spec_for(tiny_model, tmp_path, "banking", methods, **options), home_in(tmp_path)
    )
    before, after = (found["metrics"][name] for name in ("retention_before", "retention"))
    assert found["instruments"]["retention"] == {"before": before, "after": after}
    assert before > 0.5
    assert (before == after) == is_kept


def test_general_rows_need_training_rows(tiny_model, tmp_path):
    options = {"evaluation": {"retention": {"test": "x.jsonl"}}}
    with pytest.raises(RatchetError, match=r"evaluation\.retention\.train"):
        run_update(spec_for(tiny_model, tmp_path, "banking", **options), home_in(tmp_path))
