"""Covers `gating`, `acceptance`."""

import json

import pytest

from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.errors import DataError, RatchetError, SpecError, VersionError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.update.acceptance import check_accepted, check_loads
from ratchet.pipelines.update.gating import read_gate_record
from ratchet.pipelines.version import MATRIX_FILE, WEIGHTS_FILE
from tests.tiny import teach, tiny_spec

HEADS = {"routing": {"answer_by": "heads"}, "training": {"num_epochs": 12}}
STRICT = HEADS | {"gate": {"max_forgetting": 1.0, "max_served_loss": 0.05}}


def spec_for(model, folder, *tasks, methods=(), **sections):
    data = folder / "rows" / "_".join(tasks)
    return tiny_spec(model, data, "tiny", list(tasks), list(methods), **(STRICT | sections))


def registry_of(folder):
    return Home(folder / "home", None).registry


@pytest.fixture(scope="module")
def refused(tiny_model, tmp_path_factory):
    """A lineage whose second version forgot the first task, as served: its folder and result."""
    folder = tmp_path_factory.mktemp("refused")
    teach(folder / "home", spec_for(tiny_model, folder, "banking"))
    return folder, teach(folder / "home", spec_for(tiny_model, folder, "home"))


def test_a_version_keeps_its_answers_and_its_anchors(refused):
    folder, result = refused
    first, second = (read_gate_record(registry_of(folder).path("tiny", n)) for n in (1, 2))
    assert set(first.anchors) == {"banking"}
    assert first.anchors["banking"].outcomes == first.answers["banking"]
    assert set(second.anchors) == {"banking", "home"}
    assert second.anchors["banking"] == first.anchors["banking"], "nothing lowers an anchor"
    assert second.anchors["home"].version == 2
    assert second.answers["banking"] != first.answers["banking"]
    assert not result["promoted"]
    (lost, new) = result["gate"]["comparisons"]
    assert (lost["against"], lost["served"]["outcome"], new["against"]) == ("anchor", "lost", None)
    kept = registry_of(folder).path("tiny", 2) / "verdict.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == result["gate"]


def test_tasks_of_one_update_are_held_to_what_they_were_right_after_it(tiny_model, tmp_path):
    result = teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "banking", "home"))
    assert not result["promoted"]
    (lost, new) = result["gate"]["comparisons"]
    assert (lost["against"], lost["served"]["version"], new["against"]) == ("learned", None, None)
    assert lost["served"]["lost"] > 0
    assert sum(lost["served_loss"].values()) == lost["served"]["lost"]
    assert lost["served_loss"]["other_task"] > lost["served_loss"]["rejected"]
    assert result["gate"]["headline"].startswith("Served worse: banking")


def test_the_same_version_answered_by_its_statistics_is_promoted_and_the_page_says_so(
    tiny_model, tmp_path
):
    answered, limits = {"answer_by": "prototypes"}, {"max_forgetting": 1.0}
    spec = spec_for(tiny_model, tmp_path, "banking", "home", routing=answered, gate=limits)
    result = teach(tmp_path / "home", spec)
    assert result["promoted"], result["gate"]["reasons"]
    page = (tmp_path / "home" / "versions" / "tiny" / "1" / "report.html").read_text()
    assert "What was taught adds nothing to these statistics here." in page


def test_a_lineage_sinks_no_further_than_its_limit_in_several_updates(tiny_model, tmp_path):
    """Each update may lose the limit against the champion, and the anchor is what counts."""
    loose = {"gate": {"max_forgetting": 1.0, "max_served_loss": 1.0}}
    teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "banking", **loose))
    second = teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "home", **loose))
    assert second["promoted"]
    third = teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "kitchen"))
    assert not third["promoted"]
    banking = third["gate"]["comparisons"][0]
    assert banking["task"] == "banking"
    assert banking["served"]["version"] == 1, "held to the first version, not to the champion"
    assert banking["champion_served"]["loss"] < banking["served"]["loss"]


def test_an_accepted_loss_must_cover_what_was_lost_and_name_every_task(refused):
    folder, result = refused
    version = registry_of(folder).path("tiny", 2)
    loss = result["gate"]["comparisons"][0]["served"]["loss"]
    with pytest.raises(SpecError, match=r"accept-loss banking: more was lost: banking, as `auto`"):
        check_accepted(version, {"banking": loss - 0.01})
    with pytest.raises(SpecError, match=r"banking: .*Accept its loss too"):
        check_accepted(version, {"home": 0.5})
    with pytest.raises(SpecError, match=r"unknown task; allowed: banking, home.*Did you mean"):
        check_accepted(version, {"bankin": 0.5})
    check_accepted(version, {"banking": loss})


def test_an_accepted_loss_moves_the_anchor_and_nothing_else_does(tiny_model, tmp_path):
    teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "banking"))
    teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "home"))
    registry = registry_of(tmp_path)
    registry.promote("tiny", 2)
    plain = spec_for(tiny_model, tmp_path, "kitchen")
    held = teach(tmp_path / "home", plain)["gate"]["comparisons"][0]
    assert (held["task"], held["served"]["version"], held["passed"]) == ("banking", 1, False)
    registry.promote_by_hand("tiny", 2, {"banking": 1.0}, "the branch was closed", checked=True)
    again = teach(tmp_path / "home", plain.model_copy(update={"lineage": "tiny"}))
    moved = again["gate"]["comparisons"][0]
    assert moved["served"]["version"] == 2
    (answered,) = registry.aliases("tiny").by_hand.values()
    assert (answered.accepted, answered.reason) == ({"banking": 1.0}, "the branch was closed")


def test_a_broken_record_is_refused(refused, tmp_path):
    copy = tmp_path / "1"
    copy.mkdir()
    matrix = json.dumps({"gate": {"answers": {"banking": {"rows": "x", "own": "9:ff"}}}})
    (copy / MATRIX_FILE).write_text(matrix, encoding="utf-8")
    with pytest.raises(VersionError, match=r"is broken: gate\.answers\.banking"):
        read_gate_record(copy)


def test_what_is_promoted_by_hand_is_loaded_first(refused, tmp_path):
    folder, _ = refused
    version = registry_of(folder).path("tiny", 1)
    check_loads(version)
    whole = (version / WEIGHTS_FILE).read_bytes()
    (version / WEIGHTS_FILE).write_bytes(b"nothing")
    try:
        with pytest.raises(RatchetError, match=WEIGHTS_FILE):
            check_loads(version)
    finally:
        (version / WEIGHTS_FILE).write_bytes(whole)


def write_foreign(folder):
    path = folder / "foreign.jsonl"
    texts = [f"zebra number {place} in the sea" for place in range(20)]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return str(path)


def test_text_of_no_task_is_judged_and_kept_for_later_updates(tiny_model, tmp_path):
    loose = {"max_forgetting": 1.0, "max_served_loss": 1.0}
    foreign = write_foreign(tmp_path)
    first = teach(
        tmp_path / "home",
        spec_for(tiny_model, tmp_path, "banking", routing={"out_of_scope": foreign}, gate=loose),
    )
    found = first["gate"]["out_of_scope"]
    assert found["num_rows"] == 20
    assert first["as_served"]["out_of_scope"]["num_accepted"] == found["num_accepted"]
    lines = (tmp_path / "foreign.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line)["text"] for line in lines]
    rejected = sum(own.abstained for own in predict(tmp_path / "home", "tiny@1", asked))
    assert found["num_accepted"] == 20 - rejected
    assert found["told"] in first["gate"]["reasons"]
    page = (registry_of(tmp_path).path("tiny", 1) / "report.html").read_text(encoding="utf-8")
    assert "texts that belong to no task are answered as if they did" in page
    (tmp_path / "foreign.jsonl").unlink()
    strict = loose | {"max_accepted_out_of_scope": 0.0}
    second = teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "home", gate=strict))
    kept = second["gate"]["out_of_scope"]
    assert kept["num_rows"] == 20
    if kept["num_accepted"]:
        assert not second["promoted"]
        assert second["gate"]["headline"] == kept["told"]


def test_text_of_no_task_that_cannot_be_read_is_said_before_training(tiny_model, tmp_path):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "wrong.jsonl").write_text('{"words": "x"}\n', encoding="utf-8")
    for name, words in (("empty.jsonl", "empty|holds no text"), ("wrong.jsonl", "text")):
        routing = {"out_of_scope": str(tmp_path / name)}
        with pytest.raises(DataError, match=words):
            teach(tmp_path / "home", spec_for(tiny_model, tmp_path, "banking", routing=routing))
    assert registry_of(tmp_path).versions("tiny") == []
