"""Covers, beside `registry`: `aliases`, `mlflow_mirror`, `home`."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ratchet.pipelines.errors import BusyError, NotFoundError, VersionError
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.tracking.mlflow_client import default_tracking_uri, mlflow_client

HOLDER = """
import sys, time
from pathlib import Path
from ratchet.pipelines.registry.registry import Registry
with Registry(Path(sys.argv[1])).update_lock("intents"):
    print("held", flush=True)
    time.sleep(60)
"""


def write_version(registry, lineage):
    number = registry.next_number(lineage)
    (registry.path(lineage, number) / "manifest.json").write_text("{}")
    return number


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path)


def test_numbers_count_from_one_and_are_never_given_twice(registry):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(registry.next_number, ["intents"] * 40))
    assert sorted(numbers) == list(range(1, 41))


def test_a_claimed_number_without_a_manifest_is_no_version(registry):
    assert registry.versions("intents") == []
    assert registry.next_number("intents") == 1
    assert registry.versions("intents") == []
    assert write_version(registry, "intents") == 2
    assert registry.versions("intents") == [2]


def test_versions_are_ordered_as_numbers(registry):
    for _ in range(11):
        write_version(registry, "intents")
    assert registry.versions("intents") == list(range(1, 12))


def test_a_version_waits_as_challenger_until_it_is_promoted(registry):
    number = write_version(registry, "intents")
    assert (registry.champion("intents"), registry.challenger("intents")) == (None, None)
    registry.register("intents", number, {"average_accuracy": 0.9, "forgetting": None})
    assert (registry.champion("intents"), registry.challenger("intents")) == (None, 1)
    registry.promote("intents", number)
    assert (registry.champion("intents"), registry.challenger("intents")) == (1, None)


def test_promoting_leaves_another_challenger_waiting(registry):
    for _ in range(3):
        registry.register("intents", write_version(registry, "intents"), {})
    registry.promote("intents", 1)
    assert (registry.champion("intents"), registry.challenger("intents")) == (1, 3)


def test_rollback_returns_to_the_champion_before(registry):
    for _ in range(2):
        number = write_version(registry, "intents")
        registry.register("intents", number, {})
        registry.promote("intents", number)
    assert registry.rollback("intents") == 1
    assert registry.champion("intents") == 1


def test_rollback_without_an_earlier_champion_says_so(registry):
    registry.register("intents", write_version(registry, "intents"), {})
    registry.promote("intents", 1)
    with pytest.raises(NotFoundError, match="no version was champion before version 1"):
        registry.rollback("intents")


def test_every_move_of_an_alias_stays_in_the_history(registry):
    for _ in range(2):
        registry.register("intents", write_version(registry, "intents"), {})
    registry.promote("intents", 2)
    registry.promote("intents", 2)
    moves = [(change.alias, change.number) for change in registry.aliases("intents").history]
    assert moves == [
        ("challenger", 1),
        ("challenger", 2),
        ("champion", 2),
        ("challenger", None),
    ]


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("intents", 1),
        ("intents@champion", 1),
        ("intents@challenger", 2),
        ("intents@1", 1),
        ("intents@2", 2),
    ],
)
def test_references_resolve_to_folders(registry, reference, number):
    for _ in range(2):
        registry.register("intents", write_version(registry, "intents"), {})
    registry.promote("intents", 1)
    assert registry.resolve(reference) == registry.path("intents", number)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("intent", "Did you mean intents?"),
        ("quite-other", "Lineages here: intents"),
        ("../intents", "there is no lineage '../intents'"),
        ("", "there is no lineage ''"),
        ("intents@7", "there is no version 7. Versions here: 1"),
        ("intents@best", "Use champion, challenger or a number: 1"),
        ("intents@champion", "the lineage has no champion. Versions here: 1"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(registry, reference, said):
    registry.register("intents", write_version(registry, "intents"), {})
    with pytest.raises(NotFoundError) as caught:
        registry.resolve(reference)
    assert said in str(caught.value)


@pytest.mark.parametrize("change", ["register", "promote"])
def test_an_unwritten_version_cannot_get_an_alias(registry, change):
    number = registry.next_number("intents")
    arguments = ({},) if change == "register" else ()
    with pytest.raises(NotFoundError, match=r"there is no version 1\. Versions here: none"):
        getattr(registry, change)("intents", number, *arguments)


def test_two_changes_at_once_are_both_kept(registry):
    numbers = [write_version(registry, "intents") for _ in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: registry.register("intents", number, {}), numbers))
    assert sorted(registry.aliases("intents").registered) == numbers


def test_readers_never_see_half_a_file(registry):
    number = write_version(registry, "intents")
    registry.register("intents", number, {"average_accuracy": 0.5})
    path = registry.folder / "intents" / "aliases.json"
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(
            lambda: [registry.register("intents", number, {}) for _ in range(100)]
        )
        while not writing.done():
            assert json.loads(path.read_text())["challenger"] == number
        writing.result()
    assert sorted(p.name for p in path.parent.iterdir() if p.name.startswith(".aliases.json")) == []


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', "[]", '{"format": 2, "champion": 1}'])
def test_a_broken_aliases_file_is_named(registry, text):
    write_version(registry, "intents")
    path = registry.folder / "intents" / "aliases.json"
    path.write_text(text)
    with pytest.raises(VersionError, match="not an aliases file of format 2"):
        registry.champion("intents")


def test_one_update_at_a_time_per_lineage(registry):
    with registry.update_lock("intents"):
        with pytest.raises(BusyError, match=rf"Lineage intents .* process {os.getpid()} on"):
            registry.update_lock("intents").__enter__()
        with registry.update_lock("topics"):
            pass
    with registry.update_lock("intents"):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(registry, tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid} on"):
            registry.update_lock("intents").__enter__()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with registry.update_lock("intents"):
            pass


def mirrored(uri, lineage):
    with mlflow_client(uri) as client:
        versions = client.search_model_versions(f"name = '{lineage}'")
        numbers = {version.version: version.tags["ratchet.version"] for version in versions}
        aliases = client.get_registered_model(lineage).aliases
        sources = {version.tags["ratchet.version"]: version.source for version in versions}
        tags = {version.tags["ratchet.version"]: version.tags for version in versions}
    return {alias: numbers[version] for alias, version in aliases.items()}, sources, tags


def test_mlflow_mirrors_versions_and_aliases(tmp_path):
    registry = Registry(tmp_path, default_tracking_uri(tmp_path))
    for _ in range(2):
        registry.next_number("intents")  # an update that failed: MLflow's numbers differ from ours
        number = write_version(registry, "intents")
        registry.register("intents", number, {"average_accuracy": 0.95, "forgetting": None})
    registry.promote("intents", 2)
    aliases, sources, tags = mirrored(registry.tracking_uri, "intents")
    assert aliases == {"champion": "2", "challenger": "4"}
    assert sources["2"] == registry.path("intents", 2).as_uri()
    assert tags["4"]["ratchet.average_accuracy"] == "0.95"
    assert "ratchet.forgetting" not in tags["4"]


def test_the_mirror_repairs_what_mlflow_missed(tmp_path, caplog):
    away = Registry(tmp_path, "http://127.0.0.1:9")
    number = write_version(away, "intents")
    away.register("intents", number, {})
    away.promote("intents", number)
    assert "not mirrored to MLflow yet" in caplog.text
    back = Registry(tmp_path, default_tracking_uri(tmp_path))
    assert back.champion("intents") == number
    for _ in range(2):
        back.mirror("intents")
    aliases, sources, _ = mirrored(back.tracking_uri, "intents")
    assert aliases == {"champion": "1"}
    assert len(sources) == 1


def test_what_a_person_answered_for_is_kept_with_the_promotion(registry):
    write_version(registry, "intents")
    registry.promote_by_hand("intents", 1, {"travel": 0.08}, "fewer routes", checked=True)
    assert registry.champion("intents") == 1
    noted = registry.aliases("intents").by_hand[1]
    assert (noted.accepted, noted.reason, noted.checked) == ({"travel": 0.08}, "fewer routes", True)
    with pytest.raises(NotFoundError):
        registry.promote_by_hand("intents", 7, {}, "", checked=False)
