"""Covers `auditing`, `jobs`, `keys`, `service_access`, `service_versions`, `submitting`,
`watching`.
"""

import io
import json

import pytest
import yaml
from rich.console import Console

from ratchet.service.cli.session import Session
from ratchet.service.cli.submitting import ending_code, say_job
from ratchet.service.schemas.jobs import Decision, JobView
from ratchet.service.terminal.job_lines import progress_words, share_done
from tests.service.api.served import ROWS, listening, serve
from tests.service.cli.test_updates import call
from tests.service.client.scripted import JOB


@pytest.fixture
def served(tmp_path):
    made = serve(tmp_path / "home")
    yield made
    made.db.dispose()


@pytest.fixture
def ask(served, monkeypatch, tmp_path):
    """Calls a verb against a service, whose home is not the one here."""
    with listening(served.app) as url:
        monkeypatch.setenv("RATCHET_URL", url)
        monkeypatch.setenv("RATCHET_API_KEY", served.secrets["promoter"])
        monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "elsewhere"))
        yield call


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(ROWS)
    task = {"name": "banking", "train": "train.jsonl"}
    content = {"lineage": "intents", "model": {"name": "minilm"}, "tasks": [task]}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({**content, "methods": [{"type": "ewc"}]}), encoding="utf-8")
    return path


def answer(done, code=0):
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_job_goes_through_all_verbs(ask, spec):
    job = answer(
        ask("submit", spec, "--metadata", "team=blue", "--set", "training.seed=7", "--json")
    )
    assert (job["status"], job["metadata"]) == ("queued", {"team": "blue"})
    assert job["spec"]["training"]["seed"] == 7
    assert [own["id"] for own in answer(ask("list", "--json"))["jobs"]] == [job["id"]]
    assert job["id"] in ask("list").stdout
    assert answer(ask("get", job["id"], "--json"))["id"] == job["id"]
    assert answer(ask("pause", job["id"], "--json"))["status"] == "paused"
    assert answer(ask("resume", job["id"], "--json"))["status"] == "queued"
    unfinished = ask("wait", job["id"], "--timeout", "0.5", "--json")
    assert unfinished.exit_code == 6
    assert "UnfinishedError" in unfinished.stderr
    assert "is cancelled" in ask("cancel", job["id"]).stdout
    assert answer(ask("wait", job["id"], "--json"), 5)["status"] == "cancelled"
    events = answer(ask("events", job["id"], "--json"))["events"]
    lines = ask("events", job["id"], "-f", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event["id"] for event in events]
    assert len(lines) >= 4
    assert len(ask("events", job["id"]).stdout.splitlines()) == len(lines)


@pytest.mark.slow
def test_a_plan_is_handed_in_and_listed_apart(ask, spec):
    made = answer(ask("submit", spec, "--plan", "--json"))
    assert made["object"] == "plan"
    assert [own["id"] for own in answer(ask("list", "--kind", "plan", "--json"))["jobs"]] == [
        made["id"]
    ]
    assert answer(ask("list", "--json"))["jobs"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "words"), [("pause", "pause"), ("cancel", "be cancelled")])
def test_what_a_running_job_was_asked_is_said(served, ask, spec, verb, words):
    job = answer(ask("submit", spec, "--json"))
    served.claim()
    assert f"is running (starting), and is about to {words}\n" in ask(verb, job["id"]).stdout


@pytest.mark.slow
@pytest.mark.parametrize(("decision", "code"), [("promoted", 0), ("refused", 4)])
def test_waiting_ends_with_what_the_gate_said(served, ask, decision, code):
    reasons = ["banking lost 0.1"] if decision == "refused" else []
    job_id = served.teach(decision=decision, reasons=reasons)
    done = ask("wait", job_id)
    assert done.exit_code == code
    assert ("banking lost 0.1" in done.stdout) == (decision == "refused")


@pytest.mark.slow
def test_logs_are_printed_as_they_are(served, ask, spec):
    job = answer(ask("submit", spec, "--json"))
    served.claim()
    folder = served.settings.home / "jobs" / job["id"]
    folder.mkdir(parents=True)
    (folder / "driver-1.log").write_text("[bold]not markup[/]\nsecond\n", encoding="utf-8")
    assert ask("logs", job["id"]).stdout == "[bold]not markup[/]\nsecond\n"
    assert answer(ask("logs", job["id"], "--json"))["text"] == "[bold]not markup[/]\nsecond\n"


@pytest.mark.slow
def test_versions_are_promoted_through_the_service(served, ask):
    served.teach(1)
    served.teach(2, decision="refused")
    listed = answer(ask("versions", "intents", "--json"))
    assert [(row["version"], row["aliases"]) for row in listed["versions"]] == [
        (1, ["champion"]),
        (2, ["challenger"]),
    ]
    assert answer(ask("versions", "--json"))["lineages"] == [
        {"lineage": "intents", "versions": [1, 2], "champion": 1, "challenger": 2}
    ]
    promoted = answer(ask("promote", "intents@2", "--json"))
    assert promoted == {"lineage": "intents", "champion": 2, "previous": 1}
    assert (
        "Version 1 of intents is champion (it was version 2)." in ask("rollback", "intents").stdout
    )


@pytest.mark.slow
def test_the_audit_trail_is_listed_for_an_administrator(served, ask, monkeypatch, spec):
    job = answer(ask("submit", spec, "--json"))
    refused = ask("audit")
    assert (refused.exit_code, "this needs admin" in refused.stderr) == (1, True)
    monkeypatch.setenv("RATCHET_API_KEY", served.secrets["admin"])
    (made,) = answer(ask("audit", job["id"], "--json"))["audit"]
    assert (made["action"], made["target"]) == ("update.create", job["id"])
    assert len(answer(ask("audit", "--limit", "3", "--json"))["audit"]) == 3
    every = answer(ask("audit", "--limit", "3", "--all", "--json"))["audit"]
    assert [one["action"] for one in every] == ["update.create", "file.create"] + ["key.create"] * 5
    own = answer(ask("audit", "--key", made["key_prefix"], "--action", "file.create", "--json"))
    assert own["audit"] == [every[1]]
    assert answer(ask("audit", "--since", "2100-01-01", "--json"))["audit"] == []
    assert len(answer(ask("audit", "--since", "2000-01-01T10:00:00", "--json"))["audit"]) == 7
    shown = ask("audit", job["id"]).stdout
    assert made["key_prefix"] in shown
    assert "127.0.0.1 " in shown
    assert ask("audit", "nothing").stdout == "Nothing of that was done.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["get", "ftjob-" + "0" * 24], 3, "ftjob-"),
        (["versions", "nothing"], 3, "nothing"),
        (["promote", "intents@last"], 2, "must be a number"),
        (["submit", "missing.yaml"], 2, "missing.yaml"),
        (["list", "--status", "asleep"], 2, "asleep"),
    ],
)
def test_refusals_end_with_the_code_that_stands_for_them(ask, arguments, code, said):
    done = ask(*arguments)
    assert done.exit_code == code
    assert said in done.stderr


@pytest.mark.slow
def test_a_bad_spec_is_refused_with_every_problem(ask, spec):
    done = ask("submit", spec, "--set", "training.num_epochs=-1", "--set", "lineages=x", "--json")
    assert done.exit_code == 2
    problems = json.loads(done.stderr)["error"]["problems"]
    assert {"spec.training.num_epochs", "spec.lineages"} <= {
        problem["where"] for problem in problems
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--timeout", "5"], "--wait"),
        (["--plan", "--study"], "not both"),
    ],
)
def test_options_that_would_do_nothing_are_refused(spec, options, said):
    done = call("submit", spec, *options)
    assert done.exit_code == 2
    assert options[0] in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "is running (training)"),
        ({"pause_requested": True}, "is running (training), and is about to pause"),
        ({"cancel_requested": True}, "is running (training), and is about to be cancelled"),
        ({"status": "cancelled", "cancel_requested": True}, "is cancelled (training)"),
    ],
)
def test_a_job_is_told_with_what_it_was_asked(tmp_path, changes, words):
    console = Console(file=io.StringIO(), width=100)
    session = Session(tmp_path, None, False, False, console, console)
    say_job(session, JobView.model_validate({**JOB, **changes}))
    assert console.file.getvalue() == f"{JOB['id']} {words}\n"


def test_without_a_service_it_is_said_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_URL", "http://127.0.0.1:9")
    done = call("list", "--home", tmp_path)
    assert done.exit_code == 1
    assert "ratchet up" in done.stderr


def test_keys_are_shown_once_listed_and_revoked(tmp_path):
    made = answer(
        call(
            "keys",
            "create",
            "ci",
            "--role",
            "viewer",
            "--lineage",
            "a*",
            "--home",
            tmp_path,
            "--json",
        )
    )
    assert made["secret"].startswith(f"rk_{made['key']['prefix']}_")
    assert (made["key"]["role"], made["key"]["lineages"]) == ("viewer", ["a*"])
    shown = call("keys", "create", "person", "--home", tmp_path)
    assert len(shown.stdout.splitlines()) == 1
    listed = call("keys", "list", "--home", tmp_path)
    assert made["key"]["prefix"] in listed.stdout
    assert made["secret"] not in listed.stdout
    prefix = made["key"]["prefix"]
    revoked = answer(call("keys", "revoke", prefix, "--home", tmp_path, "--json"))
    assert revoked["key"]["revoked_at"] is not None
    assert call("keys", "revoke", "00000000", "--home", tmp_path).exit_code == 3


@pytest.mark.parametrize("sign", ["ratchet.db", "service", "jobs"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "spec.yaml"],
        ["tune", "spec.yaml", "--promote"],
        ["promote", "a@1"],
        ["rollback", "a"],
    ],
)
def test_a_home_of_a_service_is_not_changed_behind_its_back(tmp_path, sign, arguments):
    (tmp_path / sign).mkdir()
    done = call(*arguments, "--home", tmp_path)
    assert done.exit_code == 1
    assert "belongs to a service" in done.stderr
    assert "ratchet up" in done.stderr


@pytest.mark.parametrize(
    ("status", "decision", "code"),
    [
        ("succeeded", "promoted", 0),
        ("succeeded", "none", 0),
        ("succeeded", None, 0),
        ("succeeded", "refused", 4),
        ("failed", None, 1),
        ("cancelled", None, 5),
    ],
)
def test_each_end_has_its_exit_code(status, decision, code):
    promotion = None if decision is None else Decision(decision=decision, version=1)
    job = JobView.model_validate({**JOB, "status": status, "promotion": promotion})
    assert ending_code(job) == code


@pytest.mark.parametrize(
    ("changes", "words", "share"),
    [
        ({}, "training", 0.0),
        ({"status": "queued", "phase": "waiting"}, "queued", 0.0),
        (
            {
                "progress": {
                    "task": "home",
                    "index": 2,
                    "num_tasks": 4,
                    "step": 5,
                    "num_steps": 10,
                    "seconds_left": 125,
                }
            },
            "training · task 2/4 home · step 5/10 · 2 min 05 s left",
            0.375,
        ),
        ({"status": "succeeded", "phase": "done"}, "succeeded", 1.0),
    ],
)
def test_progress_is_said_in_a_line(changes, words, share):
    job = JobView.model_validate({**JOB, **changes})
    assert (progress_words(job), share_done(job)) == (words, share)
