"""Lineages, their versions and the decisions about their champions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from sqlalchemy import Column, ColumnElement, func, select, update

from ratchet.service.errors import InvalidTransitionError, StaleChampionError, VersionNotFoundError
from ratchet.service.store.audit import add as add_to_trail
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.filters import matches_any
from ratchet.service.store.promotions import champion_before, decide
from ratchet.service.store.records import KnownVersion, Lineage, Promotion, Version
from ratchet.service.store.rows import R, change_lineage, find_lineage, record
from ratchet.service.store.tables import lineages, promotions, versions


class Anything:
    """The type of ANY."""


ANY: Final = Anything()
"""No expectation about the present champion; None expects that there is none."""


def get_lineage(db: Database, name: str) -> Lineage:
    """A lineage by its name.

    Raises:
        LineageNotFoundError: There is no such lineage.
    """
    with db.reading() as tx:
        return find_lineage(tx, name)


def list_lineages(
    db: Database, globs: tuple[str, ...] = ("*",), after: str | None = None, limit: int = 100
) -> list[Lineage]:
    """Lineages that one of the globs matches, by name; `after` is the last of the page before."""
    with db.reading() as tx:
        query = select(lineages).where(matches_any(tx, lineages.c.name, globs))
        if after is not None:
            query = query.where(lineages.c.name > after)
        return [
            record(Lineage, row) for row in tx.all(query.order_by(lineages.c.name).limit(limit))
        ]


def get_version(db: Database, lineage: str, number: int) -> Version:
    """A version of a lineage.

    Raises:
        VersionNotFoundError: There is no such version.
    """
    with db.reading() as tx:
        return _find_version(tx, lineage, number)


def list_versions(
    db: Database, lineage: str, before: int | None = None, limit: int = 100
) -> list[Version]:
    """Versions of a lineage, newest first; `before` is the last number of the page before."""
    return _newest_first(
        db, Version, versions.c.lineage == lineage, versions.c.number, before, limit
    )


def list_all_versions(
    db: Database, globs: tuple[str, ...] = ("*",), limit: int = 1000
) -> list[Version]:
    """The newest versions of all lineages that one of the globs matches, newest first."""
    with db.reading() as tx:
        query = select(versions).where(matches_any(tx, versions.c.lineage, globs))
        newest_first = query.order_by(versions.c.created_at.desc(), versions.c.lineage)
        return [record(Version, row) for row in tx.all(newest_first.limit(limit))]


def list_promotions(
    db: Database, lineage: str, before: int | None = None, limit: int = 100
) -> list[Promotion]:
    """Decisions about a lineage, newest first; `before` is the last sequence of the page before."""
    of_lineage = promotions.c.lineage == lineage
    return _newest_first(db, Promotion, of_lineage, promotions.c.sequence, before, limit)


def promotions_of(db: Database, job_ids: Sequence[str]) -> dict[str, Promotion]:
    """What became of jobs' versions, by job; jobs that made none are left out."""
    if not job_ids:
        return {}
    query = select(promotions).where(
        promotions.c.job_id.in_(job_ids), promotions.c.kind.in_(("promoted", "refused"))
    )
    with db.reading() as tx:
        return {row["job_id"]: record(Promotion, row) for row in tx.all(query)}


def promote(
    db: Database,
    lineage: str,
    number: int | None = None,
    key_id: str | None = None,
    expected_champion: int | None | Anything = ANY,
    address: str | None = None,
) -> Promotion:
    """Make a version the champion by hand.

    Args:
        db: The database.
        lineage: The lineage.
        number: The version, or None for the challenger.
        key_id: Who does it.
        expected_champion: The champion that the caller saw; another one now is an error.
        address: From where; given, the audit trail tells of it in the same transaction.

    Raises:
        LineageNotFoundError: There is no such lineage.
        VersionNotFoundError: There is no such version.
        StaleChampionError: The champion is not the expected one.
        InvalidTransitionError: No version waits, or the version is champion already.
    """
    with db.writing() as tx:
        current = find_lineage(tx, lineage, locked=True)
        _check_expected(current, expected_champion)
        wanted = current.challenger if number is None else number
        if wanted is None:
            raise InvalidTransitionError(
                f"version: {lineage} has no challenger. Name the version", param="version"
            )
        _find_version(tx, lineage, wanted)
        if wanted == current.champion:
            raise InvalidTransitionError(
                f"version: {lineage}@{wanted} is the champion already", param="version"
            )
        return _decided_by_hand(tx, current, wanted, "manual", key_id, address)


def rollback(
    db: Database,
    lineage: str,
    key_id: str | None = None,
    expected_champion: int | None | Anything = ANY,
    address: str | None = None,
) -> Promotion:
    """Make the champion before the present one the champion again.

    Doing it twice leads back, as with the registry's aliases: the history only grows. Whoever says
    which champion is expected cannot do it twice by mistake.

    Args:
        db: The database.
        lineage: The lineage.
        key_id: Who does it.
        expected_champion: The champion that the caller saw; another one now is an error.
        address: From where; given, the audit trail tells of it in the same transaction.

    Raises:
        LineageNotFoundError: There is no such lineage.
        StaleChampionError: The champion is not the expected one.
        InvalidTransitionError: There was no champion before this one.
    """
    with db.writing() as tx:
        current = find_lineage(tx, lineage, locked=True)
        _check_expected(current, expected_champion)
        former = champion_before(tx, lineage)
        if former is None:
            raise InvalidTransitionError(
                f"lineage: no version of {lineage} was champion before {current.champion}",
                param="lineage",
            )
        return _decided_by_hand(tx, current, former, "rollback", key_id, address)


def unmirrored(db: Database, limit: int = 100) -> list[Promotion]:
    """Decisions that the registry's aliases do not show yet, each lineage's oldest first.

    Args:
        db: The database.
        limit: How many of one lineage, so that one that is stuck holds no other back.
    """
    turn = func.row_number().over(partition_by=promotions.c.lineage, order_by=promotions.c.sequence)
    waiting = select(promotions.c.id, turn.label("turn")).where(promotions.c.mirrored_at.is_(None))
    ranked = waiting.subquery()
    query = (
        select(promotions)
        .join(ranked, ranked.c.id == promotions.c.id)
        .where(ranked.c.turn <= limit)
        .order_by(promotions.c.lineage, promotions.c.sequence)
    )
    with db.reading() as tx:
        return [record(Promotion, row) for row in tx.all(query)]


def mark_mirrored(db: Database, promotion_id: int) -> None:
    """Note that the registry's aliases show a decision; the first time counts."""
    with db.writing() as tx:
        tx.change(
            update(promotions)
            .where(promotions.c.id == promotion_id, promotions.c.mirrored_at.is_(None))
            .values(mirrored_at=tx.now())
        )


def adopt(
    db: Database,
    lineage: str,
    base: Mapping[str, str] | None,
    known: Sequence[KnownVersion],
    champion: int | None,
    challenger: int | None,
    former_champions: Sequence[int] = (),
) -> Lineage:
    """Take in what lies in a home already; again, it takes in versions that were added since.

    The aliases count only for a lineage about which nothing was ever decided here: after that the
    database is the truth, and the aliases are its mirror. A lineage that a job holds is left alone,
    because the job may have written a version that it has not reported yet.

    Args:
        db: The database.
        lineage: Its name.
        base: What is known of the base model.
        known: Every version in the home.
        champion: The version that answers.
        challenger: The version that waits.
        former_champions: Those before the champion, oldest first, so that a rollback finds them.

    Raises:
        VersionNotFoundError: An alias names a version that is not among the known ones.
    """
    with db.writing() as tx:
        fresh = {"name": lineage, "base": base, "revision": 1, "created_at": tx.now()}
        tx.insert_if_absent(lineages, fresh)
        current = find_lineage(tx, lineage, locked=True)
        if current.active_job is not None:
            return current
        _add_versions(tx, lineage, known)
        if tx.one(select(promotions.c.id).where(promotions.c.lineage == lineage).limit(1)):
            return current
        for number in (*former_champions, *([] if champion is None else [champion])):
            _find_version(tx, lineage, number)
            decide(tx, find_lineage(tx, lineage), number, "adopted", is_mirrored=True)
        if challenger is not None:
            _find_version(tx, lineage, challenger)
        adopted = find_lineage(tx, lineage)
        if adopted.challenger == challenger:
            return adopted
        return change_lineage(tx, adopted, {"challenger": challenger})


def _check_expected(lineage: Lineage, expected_champion: int | None | Anything) -> None:
    if not isinstance(expected_champion, Anything) and lineage.champion != expected_champion:
        raise StaleChampionError(
            f"expected_champion: {lineage.name} has champion {lineage.champion}, not "
            f"{expected_champion}. Look at it again, then decide",
            param="expected_champion",
        )


def _decided_by_hand(
    tx: Transaction,
    lineage: Lineage,
    number: int,
    kind: Literal["manual", "rollback"],
    key_id: str | None,
    address: str | None,
) -> Promotion:
    """Decide, and tell the audit trail of it where it is known from where it came."""
    made = decide(tx, lineage, number, kind, key_id=key_id)
    if address is not None:
        action = "lineage.promote" if kind == "manual" else "lineage.rollback"
        detail = {"version": number}
        add_to_trail(tx, action, lineage.name, key_id=key_id, detail=detail, address=address)
    return made


def _newest_first(
    db: Database,
    kind: type[R],
    condition: ColumnElement[bool],
    number: Column[int],
    before: int | None,
    limit: int,
) -> list[R]:
    """A page of records, by falling number."""
    query = select(number.table).where(condition)
    if before is not None:
        query = query.where(number < before)
    with db.reading() as tx:
        return [record(kind, row) for row in tx.all(query.order_by(number.desc()).limit(limit))]


def _add_versions(tx: Transaction, lineage: str, known: Sequence[KnownVersion]) -> None:
    for version in known:
        values = {
            "lineage": lineage,
            "number": version.number,
            "parent": version.parent,
            "manifest": version.manifest,
            "created_at": version.created_at,
        }
        tx.insert_if_absent(versions, values)


def _find_version(tx: Transaction, lineage: str, number: int) -> Version:
    row = tx.one(select(versions).where(versions.c.lineage == lineage, versions.c.number == number))
    if row is None:
        raise VersionNotFoundError(f"version: there is no {lineage}@{number}", param="version")
    return record(Version, row)
