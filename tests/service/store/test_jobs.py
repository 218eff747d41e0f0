from service.store.events import list_events
from service.store.jobs import create_job, get_job, list_jobs
from service.store.lineages import get_lineage, list_promotions
from service.store.records import NewEvent, NewJob, NewVersion
from service.store.success import succeed
from service.store.work import Limits, claim_next, record_events, requeue


def test_an_update_goes_from_the_queue_over_a_lost_attempt_to_its_promotion(db, lease, key):
    made = create_job(db, NewJob("update", {"lineage": "a"}, "a", key_id=key.id)).job
    first = claim_next(db, lease, Limits(2))
    assert (first.id, first.status, first.attempt, first.parent) == (made.id, "running", 1, None)
    assert first.submission == f"{made.id}-1"
    told = [NewEvent("step 1", type="metrics", data={"loss": float("nan")})]
    record_events(db, lease, first.id, 1, told, 0, 10, "training", {"seconds_left": 5})
    requeue(db, lease, first, {"message": "the node died"}, 0.0)
    assert get_lineage(db, "a").active_job == made.id
    second = claim_next(db, lease, Limits(2))
    assert (second.attempt, second.num_lost) == (2, 1)
    version = NewVersion(1, None, {}, "promoted", base={"name": "m"})
    done = succeed(db, lease, second, {"ok": 1}, version)
    lineage = get_lineage(db, "a")
    assert (lineage.champion, lineage.challenger, lineage.active_job) == (1, None, None)
    assert [event.message for event in list_events(db, made.id)] == [
        "Accepted, waits in the queue",
        "Attempt 1 starts from the base model",
        "step 1",
        "Attempt 1 was lost: the node died",
        "Attempt 2 starts from the base model",
        "Succeeded: version 1 was promoted",
    ]
    assert [event.sequence for event in list_events(db, made.id)] == list(range(1, 7))
    assert [p.kind for p in list_promotions(db, "a")] == ["promoted"]
    assert list_jobs(db) == [get_job(db, made.id)] == [done]
