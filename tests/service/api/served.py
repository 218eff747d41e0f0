"""A job API over a database, with keys of every role, and jobs that can be moved on by hand."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi.testclient import TestClient

from ratchet.service.api.app import create_app
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database
from ratchet.service.store.finishing import succeed
from ratchet.service.store.keys import create_key
from ratchet.service.store.leases import acquire
from ratchet.service.store.records import NewEvent, NewVersion
from ratchet.service.store.running_jobs import Limits, claim_next, record_events
from tests.service.store.samples import FACTS

ROWS = b'{"text": "my card is lost", "label": "card"}\n{"text": "rates today", "label": "rates"}\n'
KEYS = {
    "viewer": ("viewer", ["intents*"]),
    "submitter": ("submitter", ["intents*"]),
    "promoter": ("promoter", ["intents*"]),
    "stranger": ("promoter", ["other"]),
    "admin": ("admin", ["*"]),
}


@dataclass
class Served:
    """An app, what lies behind it, and a client a key."""

    settings: Settings
    db: Database
    app: object
    secrets: dict

    def client(self, role="submitter", **options):
        headers = {"Authorization": f"Bearer {self.secrets[role]}"}
        return TestClient(self.app, headers=headers, **options)

    def upload(self, role="submitter", name="banking.train.jsonl", content=ROWS):
        form = {"purpose": "fine-tune"}
        with self.client(role) as client:
            response = client.post("/v1/files", files={"file": (name, content)}, data=form)
        assert response.status_code == 200, response.text
        return response.json()["id"]

    def spec(self, **changes):
        train = changes.pop("train", None) or self.upload()
        spec = {
            "lineage": "intents",
            "model": {"name": "minilm"},
            "tasks": [{"name": "banking", "train": train}],
            "methods": [{"type": "ewc"}],
        }
        return {**spec, **changes}

    def submit(self, role="submitter", path="/v1/updates", **changes):
        with self.client(role) as client:
            response = client.post(path, json={"spec": self.spec(**changes)})
        assert response.status_code == 202, response.text
        return response.json()["id"]

    def claim(self):
        """Start the job whose turn it is, as the controller does."""
        self.lease = acquire(self.db, "controller", "test", 60.0)
        return claim_next(self.db, self.lease, Limits(max_running_jobs=50))

    def tell(self, job, *messages, **options):
        told = [NewEvent(m) if isinstance(m, str) else m for m in messages]
        start = job.events_offset
        return record_events(
            self.db, self.lease, job.id, job.attempt, told, start, start + 1, **options
        )

    def teach(self, number=1, decision="promoted", reasons=(), **changes):
        """A job that has ended with a version."""
        job_id = self.submit(role="admin", **changes)
        job = self.claim()
        assert job.id == job_id
        version = NewVersion(
            number=number,
            parent=job.parent,
            manifest=FACTS,
            decision=decision,
            reasons=reasons,
            base={"name": "minilm", "kind": "classifier"},
        )
        succeed(self.db, self.lease, job, {"version": number}, version)
        return job_id


def serve(home, url=None, **settings):
    """An app with keys; the caller disposes of the database."""
    known = {"home": home, "requests_per_minute": 60_000, **settings}
    if url is not None:
        known["database_url"] = url
    made = Settings(**known)
    db = Database(made.database_url)
    db.migrate()
    secrets = {name: create_key(db, name, role, globs)[1] for name, (role, globs) in KEYS.items()}
    return Served(made, db, create_app(made, db), secrets)


@contextmanager
def listening(app, **options):
    """The app behind a real server on a free port; gives its address."""
    own = {"port": 0, "log_level": "error", "timeout_graceful_shutdown": 2}
    config = uvicorn.Config(app, **own, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
