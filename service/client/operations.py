"""Every operation of the client, written once as steps."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ratchet.service.client.asking import asked
from ratchet.service.client.failures import UnfinishedError
from ratchet.service.client.following import Ask, follow, job_path, read_job
from ratchet.service.client.patience import Patience
from ratchet.service.client.spec_data import local_data, make_absolute, place_model, read_spec
from ratchet.service.client.steps import Call, Emit, Pause, Query, Steps, Tell
from ratchet.service.schemas.audit import AuditEntryView
from ratchet.service.schemas.classify import ClassifyResponse, ModelList
from ratchet.service.schemas.jobs import (
    ENDED,
    EventView,
    JobView,
    Kind,
    LineageView,
    LogPage,
    Me,
    PromotionView,
    Status,
    VersionView,
)

if TYPE_CHECKING:
    from ratchet.pipelines.files.json_value import Json, JsonObject
    from ratchet.pipelines.spec.update_spec import UpdateSpec

PATHS: Mapping[Kind, str] = {"update": "/v1/updates", "study": "/v1/studies", "plan": "/v1/plans"}
LOG_POLL_SECONDS = 0.5
LARGEST_PAGE = 100
ANY: Literal["any"] = "any"


def submit(
    spec: str | Path | Mapping[str, Json] | UpdateSpec,
    *,
    kind: Kind = "update",
    upload: bool = True,
    priority: int = 0,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Steps[JobView]:
    """Hand in a job. Sent again after a lost answer, it is still one job.

    Args:
        spec: A spec file, its fields, or a spec object.
        kind: What shall be done: an update, a study of its settings, or a plan.
        upload: Whether data files of this machine are uploaded, each content once for all jobs;
            otherwise the service must see them under the same paths, below a folder that it allows.
        priority: Jobs of a higher priority start first.
        metadata: Pairs to find the job again by.
        idempotency_key: The same key and spec are the same job; by default a new one.

    Raises:
        SpecError: The spec cannot be read here, or a data file does not exist.
        ServiceError: The service refuses it, with everything that is wrong.
    """
    raw, folder = read_spec(spec)
    place_model(raw, folder)
    if upload:
        yield from _uploaded(raw, folder)
    else:
        make_absolute(raw, folder)
    body = {"spec": raw, "priority": priority, "metadata": dict(metadata or {})}
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    response = yield from asked(Call("POST", PATHS[kind], body=body, headers=headers))
    return JobView.model_validate_json(response.content)


def upload(path: str | Path) -> Steps[str]:
    """Upload a data file, and return the id that a spec names it by."""
    form = {"purpose": "fine-tune"}
    response = yield from asked(Call("POST", "/v1/files", file=Path(path), body=form))
    return response.json()["id"]


def get(job_id: str) -> Steps[JobView]:
    """A job as it is now."""
    return (yield from read_job(job_id))


def jobs(
    *,
    kind: Kind = "update",
    lineage: str | None = None,
    status: Status | None = None,
    limit: int = 20,
) -> Steps[list[JobView]]:
    """The latest jobs, newest first."""
    query = {"lineage": lineage, "status": status}
    pages = yield from _listed(PATHS[kind], query, limit)
    return [JobView.model_validate(content) for content in pages]


def cancel(job_id: str) -> Steps[JobView]:
    """Ask a job to end; one that runs ends a moment later."""
    return (yield from _told(job_id, "cancel"))


def pause(job_id: str) -> Steps[JobView]:
    """Ask a job to pause; one that runs pauses at a checkpoint."""
    return (yield from _told(job_id, "pause"))


def resume(job_id: str) -> Steps[JobView]:
    """Let a paused job go on."""
    return (yield from _told(job_id, "resume"))


def events(job_id: str, *, after: str | None = None) -> Steps[None]:
    """Iterate over the events of a job until it ends; each comes once, in order."""
    yield from follow(job_id, Emit, after)


def past_events(job_id: str) -> Steps[list[EventView]]:
    """The events of a job so far, oldest first."""
    pages = yield from _listed(f"{job_path(job_id)}/events", {}, None)
    return [EventView.model_validate(content) for content in pages]


def wait(
    job_id: str,
    *,
    timeout: float | None = None,
    on_event: Callable[[EventView], Any] | None = None,
) -> Steps[JobView]:
    """Wait until a job has ended, however it ends: see its `status` and `promotion`.

    Args:
        job_id: The job.
        timeout: Seconds to wait at most.
        on_event: Told of every event, the past ones too.

    Raises:
        UnfinishedError: The time is over; the job goes on.
    """
    until = None if timeout is None else time.monotonic() + timeout
    listener = on_event or _pass_over
    ended = yield from follow(job_id, lambda event: Tell(listener, event), until=until)
    job = yield from read_job(job_id)
    if not ended and job.status not in ENDED:
        raise UnfinishedError(
            f"{job_id} is {job.status} ({job.phase}) after {timeout:g} seconds; it goes on. "
            "Wait longer, or cancel it"
        )
    return job


def logs(job_id: str, *, attempt: int | None = None, follow: bool = False) -> Steps[None]:
    """Iterate over what a job printed, in pieces of text.

    With `follow`, a service that has answered once is waited for when it goes away.

    Args:
        job_id: The job.
        attempt: Which attempt; by default the latest, and with `follow` those after it too.
        follow: Whether to go on until the job, or the attempt, has ended.
    """
    current, offset = attempt, 0
    patient: Ask = Patience(job_path(job_id)).asked if follow else asked
    ask: Ask = asked
    while True:
        query = {"attempt": current, "offset": offset}
        job = yield from read_job(job_id, ask)
        response = yield from ask(Call("GET", f"{job_path(job_id)}/logs", query))
        page = LogPage.model_validate_json(response.content)
        ask = patient
        if page.text:
            yield Emit(page.text)
            current, offset = page.attempt, page.next_offset
            continue
        is_last = attempt is not None or job.status in ENDED
        if not follow or (page.ended and is_last):
            return
        if page.ended and job.attempt > page.attempt:
            current, offset = page.attempt + 1, 0
            continue
        yield Pause(LOG_POLL_SECONDS)


def lineages() -> Steps[list[LineageView]]:
    """Every lineage that the key may see."""
    pages = yield from _listed("/v1/lineages", {}, None)
    return [LineageView.model_validate(content) for content in pages]


def lineage(name: str) -> Steps[LineageView]:
    """A lineage: its champion, its challenger and the job that holds it."""
    response = yield from asked(Call("GET", f"/v1/lineages/{name}"))
    return LineageView.model_validate_json(response.content)


def versions(lineage: str) -> Steps[list[VersionView]]:
    """The versions of a lineage."""
    pages = yield from _listed("/v1/versions", {"lineage": lineage}, None)
    return [VersionView.model_validate(content) for content in pages]


def version(lineage: str, number: int) -> Steps[VersionView]:
    """A version: its tasks, methods and metrics."""
    response = yield from asked(Call("GET", f"/v1/versions/{lineage}/{number}"))
    return VersionView.model_validate_json(response.content)


def promotions(lineage: str) -> Steps[list[PromotionView]]:
    """Every decision about the champion of a lineage."""
    pages = yield from _listed("/v1/promotions", {"lineage": lineage}, None)
    return [PromotionView.model_validate(content) for content in pages]


def promote(
    lineage: str,
    version: int | None = None,
    *,
    expected_champion: int | Literal["any"] | None = ANY,
) -> Steps[PromotionView]:
    """Make a version the champion, whatever the gate said of it.

    Args:
        lineage: The lineage.
        version: The version's number; by default the challenger.
        expected_champion: The champion that you know of, None for none: if it is another by now,
            nothing is changed.

    Raises:
        StaleChampionError: The champion is another.
    """
    return _moved("/v1/promotions", expected_champion, lineage=lineage, version=version)


def rollback(
    lineage: str, *, expected_champion: int | Literal["any"] | None = ANY
) -> Steps[PromotionView]:
    """Make the champion before this one the champion again.

    Args:
        lineage: The lineage.
        expected_champion: The champion that is to go: if it went already, nothing is changed.

    Raises:
        StaleChampionError: The champion is another.
    """
    return _moved("/v1/rollbacks", expected_champion, lineage=lineage)


def _moved(
    path: str, expected_champion: int | Literal["any"] | None, **body: Any
) -> Steps[PromotionView]:
    """Ask for another champion."""
    if expected_champion != ANY:
        body["expected_champion"] = expected_champion
    response = yield from asked(Call("POST", path, body=body, repeatable=False))
    return PromotionView.model_validate_json(response.content)


def me() -> Steps[Me]:
    """What the key may do."""
    response = yield from asked(Call("GET", "/v1/me"))
    return Me.model_validate_json(response.content)


def audit(
    *,
    key: str | None = None,
    action: str | None = None,
    target: str | None = None,
    since: int | None = None,
    limit: int | None = 20,
) -> Steps[list[AuditEntryView]]:
    """Who did what, newest first; for an administrator's key.

    Args:
        key: Done by this key only; its prefix or its id.
        action: Only what is called so, as `update.create`.
        target: Done to this only: a job, a file, a key or a lineage.
        since: Not before this time, in Unix seconds.
        limit: How many at most; None for all.
    """
    query = {"key": key, "action": action, "target": target, "since": since}
    pages = yield from _listed("/v1/audit", query, limit)
    return [AuditEntryView.model_validate(content) for content in pages]


def predict(
    texts: str | Sequence[str], *, model: str = "auto", strict: bool = False
) -> Steps[ClassifyResponse]:
    """Ask the router.

    Args:
        texts: One text or several.
        model: A lineage, a task, `task@version`, `lineage/task`, or `auto`.
        strict: Whether a text that belongs to no task is an error.

    Raises:
        ServiceError: Nothing is served yet, or nothing by that name.
    """
    wanted = texts if isinstance(texts, str) else list(texts)
    body = {"model": model, "input": wanted, "strict": strict}
    response = yield from asked(Call("POST", "/v1/classify", body=body, server="router"))
    return ClassifyResponse.model_validate_json(response.content)


def models() -> Steps[ModelList]:
    """What the router can be asked for."""
    response = yield from asked(Call("GET", "/v1/models", server="router"))
    return ModelList.model_validate_json(response.content)


def _told(job_id: str, what: str) -> Steps[JobView]:
    call = Call("POST", f"{job_path(job_id)}/{what}", repeatable=False)
    response = yield from asked(call)
    return JobView.model_validate_json(response.content)


def _listed(path: str, query: Query, limit: int | None) -> Steps[list[Any]]:
    """The entries of a list, page after page, up to a limit."""
    found: list[Any] = []
    after = None
    while limit is None or len(found) < limit:
        size = LARGEST_PAGE if limit is None else min(LARGEST_PAGE, limit - len(found))
        response = yield from asked(Call("GET", path, {**query, "after": after, "limit": size}))
        page = response.json()
        found += page["data"]
        if not page.get("has_more"):
            break
        after = page["last_id"]
    return found


def _uploaded(raw: JsonObject, folder: Path) -> Steps[None]:
    """Put file ids in the place of local paths; a content that is there already is not sent."""
    ids: dict[tuple[str, str], str] = {}
    for place, path in local_data(raw, folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content = digest, path.suffix.lower()  # the suffix says how it is read
        if content not in ids:
            known = yield from _known_upload(*content)
            ids[content] = (yield from upload(path)) if known is None else known
        place.put(ids[content])


def _known_upload(sha256: str, suffix: str) -> Steps[str | None]:
    """The id of an upload of a content under a name with a suffix, or None."""
    response = yield from asked(Call("GET", "/v1/files", {"sha256": sha256}))
    for known in response.json()["data"]:
        is_same = known.get("sha256") == sha256  # an older service lists all that there is
        if is_same and Path(known["filename"]).suffix.lower() == suffix:
            return known["id"]
    return None


def _pass_over(_event: EventView) -> None:
    pass
