"""Covers, beside `lineage`: `watcher`."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from ratchet.pipelines.answering.answer import Query, answer
from ratchet.pipelines.answering.frozen_base import BaseShelf
from ratchet.pipelines.answering.served_version import load_served_version
from ratchet.pipelines.errors import NotFoundError, VersionError
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.errors import OverloadedError, UnavailableError
from ratchet.service.serving import lineage as served_lineage
from ratchet.service.serving.lineage import open_lineage
from ratchet.service.serving.watcher import Watcher

CPU = torch.device("cpu")
WEIGHTS = "weights.safetensors"


@pytest.fixture
def home(lineages, tmp_path):
    """A copy of the lineage `columns`, at version 1 of 2."""
    shutil.copytree(lineages / "versions" / "columns", tmp_path / "versions" / "columns")
    Registry(tmp_path).promote("columns", 1)
    return tmp_path


@pytest.fixture
def columns(home):
    return open_lineage(Registry(home), "columns", BaseShelf(CPU))


@contextmanager
def lease(lineage, number=None):
    version = lineage.take(number)
    try:
        yield version
    finally:
        lineage.give_back(version)


def flip_a_byte(home, number, name=WEIGHTS):
    path = home / "versions" / "columns" / str(number) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def copy_version(home, source, number):
    """A further version with the content of another."""
    folder = home / "versions" / "columns"
    shutil.copytree(folder / str(source), folder / str(number))
    manifest = folder / str(number) / "manifest.json"
    text = manifest.read_text().replace(f'"version": {source}', f'"version": {number}')
    manifest.write_text(text)


def test_a_promotion_is_taken_over_and_the_old_version_freed(home, columns):
    assert (columns.serving, columns.resident()) == (1, {1: 0})
    Registry(home).promote("columns", 2)
    columns.refresh()
    assert (columns.serving, columns.resident()) == (2, {2: 0})
    assert columns.view().tasks[2] == ["banking", "home", "kitchen"]


def test_the_old_version_stays_until_its_last_request_is_out(home, columns):
    old = columns.take(None)
    bank = old.base.bank
    Registry(home).promote("columns", 2)
    columns.refresh()
    assert (columns.serving, columns.resident()) == (2, {1: 1, 2: 0})
    assert answer([Query("send money", old, 0)])[0].version == 1
    columns.give_back(old)
    assert (columns.resident(), bank.num_used) == ({2: 0}, 3)


def test_a_rollback_goes_live_like_any_promotion(home, columns):
    registry = Registry(home)
    registry.promote("columns", 2)
    columns.refresh()
    registry.rollback("columns")
    columns.refresh()
    assert (columns.serving, columns.resident()) == (1, {1: 0})


@pytest.mark.parametrize(
    "name", [WEIGHTS, "router.safetensors", "adapters/task_002/adapter_model.safetensors"]
)
def test_a_version_with_a_flipped_byte_is_refused_and_the_old_one_answers(home, columns, name):
    flip_a_byte(home, 2, name)
    Registry(home).promote("columns", 2)
    columns.refresh()
    assert (columns.serving, columns.champion) == (1, 2)
    assert name in columns.refused[2].reason
    with lease(columns) as version:
        assert answer([Query("send money", version, 0)])[0].version == 1
        assert version.base.bank.num_used == 2


def test_a_refused_version_is_not_read_again_and_again(home, columns, monkeypatch):
    flip_a_byte(home, 2)
    Registry(home).promote("columns", 2)
    columns.refresh()
    first = columns.refused[2]
    columns.refresh()
    assert columns.refused[2] is first
    monkeypatch.setattr(served_lineage, "RETRY_SECONDS", 0.0)
    flip_a_byte(home, 2)
    columns.refresh()
    assert (columns.serving, columns.refused) == (2, {})


def test_a_version_whose_files_agree_but_whose_answers_do_not_is_refused(home, registry):
    def forgetful(folder):
        version = load_served_version(folder, shelf, "fp32")
        if folder.name == "2":
            layer = next(iter(version.base.bank._layers.values()))
            layer.write(version.slots[2], None)
        return version

    shelf = BaseShelf(CPU)
    columns = served_lineage.ServedLineage(Registry(home), "columns", forgetful)
    Registry(home).promote("columns", 2)
    columns.refresh()
    assert columns.serving == 1
    assert "differ" in columns.refused[2].reason


def test_a_version_in_the_folder_of_another_number_is_refused(home, columns):
    shutil.copytree(home / "versions" / "columns" / "2", home / "versions" / "columns" / "5")
    Registry(home).promote("columns", 5)
    columns.refresh()
    assert columns.serving == 1
    assert "holds columns@2" in columns.refused[5].reason


def test_a_version_whose_routes_are_not_finite_is_refused(home):
    def unfit(folder):
        version = load_served_version(folder, shelf, "fp32")
        if folder.name == "2":
            version.router.whitening.fill_(float("nan"))
        return version

    shelf = BaseShelf(CPU)
    columns = served_lineage.ServedLineage(Registry(home), "columns", unfit)
    Registry(home).promote("columns", 2)
    columns.refresh()
    assert columns.serving == 1
    assert "not finite" in columns.refused[2].reason


def test_a_broken_aliases_file_leaves_everything_as_it_is(home, columns):
    (home / "versions" / "columns" / "aliases.json").write_text("{")
    columns.refresh()
    assert (columns.serving, columns.champion) == (1, None)


def test_a_start_with_a_broken_champion_falls_back_to_the_one_before(home):
    Registry(home).promote("columns", 2)
    flip_a_byte(home, 2)
    columns = open_lineage(Registry(home), "columns", BaseShelf(CPU))
    assert (columns.serving, columns.champion) == (1, 2)
    assert list(columns.refused) == [2]


def test_a_start_without_any_sound_champion_says_why(home):
    for number in (1, 2):
        flip_a_byte(home, number)
    with pytest.raises(VersionError, match=f"no champion can be loaded.*{WEIGHTS}"):
        open_lineage(Registry(home), "columns", BaseShelf(CPU))


def test_a_lineage_that_does_not_exist_or_has_no_champion_is_refused(home):
    with pytest.raises(NotFoundError, match="Did you mean columns"):
        open_lineage(Registry(home), "column", BaseShelf(CPU))
    (home / "versions" / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no champion"):
        open_lineage(Registry(home), "empty", BaseShelf(CPU))


def test_other_versions_are_loaded_on_demand_and_leave_when_idle(home):
    for number in (3, 4):
        copy_version(home, 2, number)
    columns = open_lineage(Registry(home), "columns", BaseShelf(CPU))
    for number in (2, 3, 4):
        with lease(columns, number) as version:
            assert version.number == number
    assert columns.resident() == {1: 0, 3: 0, 4: 0}


def test_a_version_in_use_never_makes_room_for_another(home):
    for number in (3, 4):
        copy_version(home, 2, number)
    columns = open_lineage(Registry(home), "columns", BaseShelf(CPU))
    with lease(columns, 2), lease(columns, 3):
        with pytest.raises(OverloadedError, match="try again"), lease(columns, 4):
            pass
        assert columns.resident() == {1: 0, 2: 1, 3: 1}


def test_a_broken_version_that_is_asked_for_is_unavailable(home, columns):
    flip_a_byte(home, 2)
    for _ in range(2):
        with pytest.raises(UnavailableError, match=WEIGHTS), lease(columns, 2):
            pass
    assert columns.resident() == {1: 0}


def test_versions_change_under_load_without_a_wrong_or_failed_answer(home, columns):
    registry, stop = Registry(home), threading.Event()

    def ask():
        seen = set()
        while not stop.is_set():
            with lease(columns) as version:
                found = answer([Query("send money", version, 0)] * 4)
                assert {row.version for row in found} == {version.number}
                assert len({tuple(row.probs) for row in found}) == 1
                seen.add(version.number)
        return seen

    watcher = Watcher(columns, poll_seconds=0.02)
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for number in (2, 1, 2):
            registry.promote("columns", number)
            deadline = time.monotonic() + 20
            while columns.serving != number and time.monotonic() < deadline:
                time.sleep(0.02)
            assert columns.serving == number
        stop.set()
        seen = set().union(*(done.result() for done in asking))
    watcher.stop()
    assert seen == {1, 2}
    assert columns.resident() == {2: 0}
    assert not watcher.is_watching
