"""Decisions about a lineage's champion, each numbered and chained to the champion before it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, insert, select

from ratchet.service.store.database import Transaction
from ratchet.service.store.records import Lineage, Promotion, PromotionKind
from ratchet.service.store.rows import LineageChange, change_lineage, record
from ratchet.service.store.tables import promotions


def decide(
    tx: Transaction,
    lineage: Lineage,
    number: int,
    kind: PromotionKind,
    *,
    job_id: str | None = None,
    key_id: str | None = None,
    reasons: Sequence[str] = (),
    is_mirrored: bool = False,
    release: bool = False,
) -> Promotion:
    """Write a decision and move the lineage's aliases with it.

    A refused version becomes the challenger; every other kind makes its version the champion.

    Args:
        tx: The transaction.
        lineage: The lineage, locked by it.
        number: The version that is decided about.
        kind: The decision.
        job_id: The job that made the version, if that decides.
        key_id: Who decides, if a person does.
        reasons: Why.
        is_mirrored: Whether the registry's aliases show it already.
        release: Whether the job that holds the lineage is done with it.

    Raises:
        InvalidTransitionError: The lineage changed since it was read.
    """
    change_lineage(tx, lineage, _aliases(lineage, number, kind, job_id) | _released(release))
    now = tx.now()
    last = select(func.coalesce(func.max(promotions.c.sequence), 0)).where(
        promotions.c.lineage == lineage.name
    )
    values = {
        "lineage": lineage.name,
        "sequence": tx.value(last) + 1,
        "kind": kind,
        "version": number,
        "previous": lineage.champion,
        "job_id": job_id,
        "key_id": key_id,
        "reasons": list(reasons),
        "created_at": now,
        "mirrored_at": now if is_mirrored else None,
    }
    row = tx.one(insert(promotions).values(**values).returning(promotions))
    assert row is not None  # RETURNING gives what was inserted
    return record(Promotion, row)


def champion_before(tx: Transaction, lineage: str) -> int | None:
    """The champion that the present one took the place of, or None."""
    return tx.value(
        select(promotions.c.previous)
        .where(promotions.c.lineage == lineage, promotions.c.kind != "refused")
        .order_by(promotions.c.sequence.desc())
        .limit(1)
    )


def _aliases(
    lineage: Lineage, number: int, kind: PromotionKind, job_id: str | None
) -> LineageChange:
    if kind == "refused":
        return {"challenger": number}
    # A new version replaces whichever waited; an older one only stops waiting itself.
    waits_no_longer = job_id is not None or lineage.challenger == number
    champion: LineageChange = {"champion": number}
    return {**champion, "challenger": None} if waits_no_longer else champion


def _released(release: bool) -> LineageChange:
    return {"active_job": None} if release else {}
