"""Covers, beside `lineages`: `promotions`.

Promotions, rollbacks, the mirror's list, and lineages that lie in a home already.
"""

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.service.errors import (
    InvalidTransitionError,
    LineageNotFoundError,
    StaleChampionError,
    VersionNotFoundError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.finishing import succeed
from ratchet.service.store.lineages import (
    adopt,
    get_lineage,
    get_version,
    list_lineages,
    list_promotions,
    list_versions,
    mark_mirrored,
    promote,
    promotions_of,
    rollback,
    unmirrored,
)
from ratchet.service.store.records import KnownVersion, NewJob, NewVersion
from ratchet.service.store.running_jobs import Limits, claim_next
from ratchet.service.store.submitting import create_job
from tests.service.store.samples import FACTS

KNOWN = [KnownVersion(number, number - 1 or None, FACTS, 5.0) for number in (1, 2, 3)]


def update_once(db, lease, number, decision="promoted", between=lambda: None):
    """An update that writes a version."""
    create_job(db, NewJob("update", {"n": number}, "a"))
    job = claim_next(db, lease, Limits(9))
    between()
    return succeed(db, lease, job, {}, NewVersion(number, job.parent, FACTS, decision, ["why"]))


def aliases(db):
    """Champion and challenger."""
    lineage = get_lineage(db, "a")
    return lineage.champion, lineage.challenger


def test_the_next_update_starts_from_a_champion_that_no_mirror_shows_yet(db, lease):
    update_once(db, lease, 1)
    assert [p.version for p in unmirrored(db)] == [1]
    create_job(db, NewJob("update", {}, "a"))
    assert claim_next(db, lease, Limits(9)).parent == 1


def test_a_refused_version_waits_as_challenger_until_it_is_promoted_by_hand(db, lease, key):
    update_once(db, lease, 1)
    job = update_once(db, lease, 2, "refused")
    assert job.status == "succeeded"
    decision = promotions_of(db, [job.id])[job.id]
    assert (decision.kind, decision.reasons) == ("refused", ["why"])
    assert aliases(db) == (1, 2)
    by_hand = promote(db, "a", key_id=key.id, expected_champion=1)
    assert (by_hand.kind, by_hand.version, by_hand.previous) == ("manual", 2, 1)
    assert by_hand.key_id == key.id
    assert aliases(db) == (2, None)


def test_a_passed_version_waits_when_the_champion_moved_while_it_was_made(db, lease):
    update_once(db, lease, 1)
    update_once(db, lease, 2)
    job = update_once(db, lease, 3, between=lambda: rollback(db, "a"))
    assert aliases(db) == (1, 3)
    decision = promotions_of(db, [job.id])[job.id]
    assert decision.kind == "refused"
    assert "the champion became 1" in decision.reasons[-1]


def test_a_rollback_goes_to_the_champion_before_and_again_back(db, lease):
    update_once(db, lease, 1)
    with pytest.raises(InvalidTransitionError, match="no version of a was champion before 1"):
        rollback(db, "a")
    update_once(db, lease, 2)
    update_once(db, lease, 3, "refused")
    assert rollback(db, "a").version == 1
    assert aliases(db) == (1, 3)
    assert rollback(db, "a").version == 2
    assert [p.kind for p in list_promotions(db, "a")] == [
        "rollback",
        "rollback",
        "refused",
        "promoted",
        "promoted",
    ]


def test_what_cannot_be_promoted_says_why(db, lease):
    with pytest.raises(LineageNotFoundError):
        promote(db, "a", 1)
    update_once(db, lease, 1)
    with pytest.raises(VersionNotFoundError):
        promote(db, "a", 9)
    with pytest.raises(InvalidTransitionError, match="no challenger"):
        promote(db, "a")
    with pytest.raises(InvalidTransitionError, match="champion already"):
        promote(db, "a", 1)
    with pytest.raises(StaleChampionError, match="has champion 1, not None"):
        promote(db, "a", 1, expected_champion=None)
    assert len(list_promotions(db, "a")) == 1


def test_the_mirror_gets_each_lineages_decisions_in_order_until_it_has_them(db, lease):
    for number in (1, 2):
        update_once(db, lease, number)
    first, second = unmirrored(db)
    assert (first.version, second.version) == (1, 2)
    mark_mirrored(db, first.id)
    assert unmirrored(db) == [second]
    mark_mirrored(db, first.id)
    mark_mirrored(db, second.id)
    assert unmirrored(db) == []


def test_a_lineage_whose_decisions_pile_up_holds_no_other_back(db):
    for name in ("a", "b"):
        adopt(db, name, None, KNOWN[:2], 2, None, former_champions=(1,))
    for _ in range(3):
        rollback(db, "a")
    rollback(db, "b")
    seen = [(found.lineage, found.version) for found in unmirrored(db, limit=2)]
    assert seen == [("a", 1), ("a", 2), ("b", 1)]


def test_a_lineage_of_the_home_is_taken_in_once_with_its_history(db):
    for _ in range(2):
        lineage = adopt(db, "a", {"name": "m"}, KNOWN, 2, 3, former_champions=(1,))
        assert (lineage.champion, lineage.challenger) == (2, 3)
    assert [v.number for v in list_versions(db, "a")] == [3, 2, 1]
    assert get_version(db, "a", 2).parent == 1
    assert [(p.kind, p.version, p.previous) for p in list_promotions(db, "a")] == [
        ("adopted", 2, 1),
        ("adopted", 1, None),
    ]
    assert unmirrored(db) == []
    assert rollback(db, "a").version == 1


def test_after_that_the_database_decides_and_only_new_versions_are_taken_in(db):
    adopt(db, "a", None, KNOWN[:2], 2, None)
    promote(db, "a", 1)
    adopt(db, "a", None, KNOWN, 2, 3)
    assert aliases(db) == (1, None)
    assert len(list_versions(db, "a")) == 3


@pytest.mark.parametrize("in_aliases", [None, 1])
def test_a_refusal_that_the_aliases_do_not_show_yet_is_not_taken_back(db, lease, in_aliases):
    update_once(db, lease, 1, "refused")
    update_once(db, lease, 2, "refused")
    adopt(db, "a", None, KNOWN[:2], None, in_aliases)
    assert aliases(db) == (None, 2)


def test_a_cancellation_right_before_the_end_promotes_nothing(db, lease):
    create_job(db, NewJob("update", {}, "a"))
    job = claim_next(db, lease, Limits(1))
    assert ask(db, job.id, "cancel").wanted == "cancel"
    succeed(db, lease, job, {}, NewVersion(1, None, FACTS, "promoted"))
    assert aliases(db) == (None, 1)
    (reason,) = promotions_of(db, [job.id])[job.id].reasons
    assert "cancelled" in reason


def test_a_version_that_a_running_job_wrote_but_has_not_reported_is_left_to_it(db, lease):
    adopt(db, "a", None, KNOWN[:1], 1, None)
    create_job(db, NewJob("update", {}, "a"))
    job = claim_next(db, lease, Limits(1))
    adopt(db, "a", None, KNOWN[:2], 1, None)
    assert [v.number for v in list_versions(db, "a")] == [1]
    succeed(db, lease, job, {}, NewVersion(2, 1, FACTS, "promoted"))
    assert get_version(db, "a", 2).job_id == job.id


def test_a_version_of_the_home_can_still_become_a_jobs_but_not_another_jobs(db, lease):
    adopt(db, "a", None, KNOWN, None, None)
    job = update_once(db, lease, 2)
    assert get_version(db, "a", 2).job_id == job.id
    with pytest.raises(VersionError, match="another job's"):
        update_once(db, lease, 2)


def test_an_alias_without_its_version_is_refused_and_changes_nothing(db):
    with pytest.raises(VersionNotFoundError):
        adopt(db, "a", None, KNOWN, 9, None)
    assert list_lineages(db) == []


def test_lists_are_paged(db):
    for name in ("a", "b", "c-1"):
        adopt(db, name, None, KNOWN, 1, None)
    assert [x.name for x in list_lineages(db, after="a", limit=1)] == ["b"]
    assert [x.name for x in list_lineages(db, globs=("c-*", "a"))] == ["a", "c-1"]
    assert [v.number for v in list_versions(db, "b", before=3, limit=1)] == [2]
    promote(db, "b", 2)
    assert [p.sequence for p in list_promotions(db, "b", before=2)] == [1]
