"""Covers, beside `page`: `details`, `panels`, `scatter`, `words`."""

import base64
import hashlib
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ratchet.pipelines.spec.changes import parse_changes
from ratchet.pipelines.tuning.page.details import details
from ratchet.pipelines.tuning.page.page import cost, html, looked_at
from ratchet.pipelines.tuning.page.words import command, ending, setting, short_names
from tests.pipelines.tuning.trials import RATE, STRENGTH, failed, measured, study, trial

VOID = {"meta", "path", "circle"}
ORDER = "methods.replay.selection"


class Reader(HTMLParser):
    """What is open, the ids, the links, and the texts of scripts."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.script = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    return reader


def at(number, plasticity, forgetting, rate=1e-3, strength=10.0, **changes):
    settings = {RATE: rate, STRENGTH: strength}
    return trial(number, plasticity, forgetting, settings=settings, **changes)


MANY = [
    *(at(n, 0.5 + 0.05 * n, 0.04 * n, 10.0 ** (n - 6), seconds=10 + n) for n in range(6)),
    at(6, 0.6, 0.3),
    at(7, 0.9, 0.0, status="stopped", error={"type": "EarlyStopping", "message": "was behind"}),
    failed(8, "the loss is not finite"),
]


@pytest.mark.parametrize(
    "found",
    [
        study(MANY),
        study(MANY, objectives=["plasticity", "stability", "cost"]),
        study(MANY, objectives=["stability", "cost"]),
        study(MANY, objectives=["cost"]),
        study([at(0, [0.9, 0.8, 0.7], [0.1, 0.2, 0.1]), at(1, [0.7, 0.8, 0.9], [0.0] * 3)]),
        study([at(0, 0.9, 0.1)]),
        study([at(0, 0.9, 0.1), at(1, 0.9, 0.1)]),
        study([trial(0, 0.9, None, average=0.9)], objectives=["plasticity"]),
        study([failed(0), at(1, 0.4, 0.1, status="stopped")]),
        study([]),
    ],
)
def test_the_page_is_whole_loads_nothing_and_its_links_lead_somewhere(found):
    page = html(found)
    reader = read(page)
    assert not re.search(r"(?:src|href)=\"(?!#)|@import|url\(|\son\w+=", page)
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    for own in found.trials:
        assert f"trial-{own.number}" in reader.ids


def test_only_the_pages_own_script_may_run():
    page = html(study(MANY))
    digest = base64.b64encode(hashlib.sha256(read(page).script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in (
        page.replace("&#39;", "'")
    )
    assert page.count("<script") == 1


def test_what_a_spec_says_stays_text():
    evil = "</script><script>alert('x')</script>\"'<b>"
    seeds = (replace(measured(0, 0.9, 0.1), tasks=(evil, evil)),)
    found = study(
        [
            trial(0, 0.9, 0.1, settings={ORDER: evil}, seeds=seeds),
            replace(failed(1, evil), settings={ORDER: evil}),
        ],
        parameters={ORDER: {"choice": [evil, "fifo"]}},
    )
    page = html(replace(found, name=evil, lineage=evil, spec=evil, warnings=(evil,)))
    read(page)
    assert page.count("<script") == 1
    assert '<b>"' not in page
    assert "'<b>" not in page


def test_every_finished_trial_is_a_point_and_those_on_the_front_are_marked():
    page = html(study(MANY))
    points = re.findall(r'<a class="point( member)?" href="#trial-(\d+)"', page)
    assert sorted(int(number) for _, number in points) == [0, 1, 2, 3, 4, 5, 6]
    assert [int(number) for member, number in points if member] == [0, 1, 2, 3, 4, 5]
    assert page.count('class="chosen"') == 2  # the legend and the point
    assert 'class="step" d="M' in page


def test_the_table_has_the_front_first_and_failures_last():
    page = html(study(MANY))
    rows = [int(number) for number in re.findall(r'<tr data-trial="(\d+)"', page)]
    assert rows == [5, 4, 3, 2, 1, 0, 6, 7, 8]


def test_what_did_not_finish_is_said_with_the_reason():
    page = html(study(MANY))
    assert "DivergedError: the loss is not finite" in page
    assert "</b>: was behind</li>" in page
    assert "7 done, 1 stopped early, 1 failed of 9 trials" in page


def test_whiskers_are_drawn_where_there_are_several_seeds():
    several = study([at(0, [0.9, 0.8, 0.7], [0.1, 0.2, 0.1])])
    assert "95 % interval" in html(several)
    assert 'class="whisker"' in html(several)
    assert 'class="whisker"' not in html(study([at(0, 0.9, 0.1)]))


def test_a_study_without_a_finished_trial_says_so():
    assert "<h1>No trial finished.</h1>" in html(study([failed(0)]))
    assert "<h1>Nothing was tried.</h1>" in html(study([]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Each trial learned all 2 tasks of the stream (travel and work) in its order."),
        ({"num_tasks": 2}, "the first 2 tasks of the stream"),
    ],
)
def test_the_data_looked_at_is_said(changes, words):
    said = looked_at(study(MANY, **changes))
    assert words in said
    assert "Test rows are shown below and decided nothing." in said


def test_the_cost_is_said_with_what_was_saved():
    first = replace(measured(0, 0.9, 0.1), seconds=30.0, shared_seconds=10.0)
    found = [at(0, 0.9, 0.1, seeds=(first,)), at(1, 0.9, 0.1, seconds=20.0)]
    said = cost(study(found))
    assert said == (
        "The study took 5 min 00 s for 2 trials. A trial took 25.0 s by the median, from 20.0 s to "
        "30.0 s, 50.0 s in all. Trials went on from a first task that another had taught, "
        "which saved 10.0 s: 17% of what the trials would have taken one by one."
    )
    assert "No trial went on from" in cost(study([at(0, 0.9, 0.1)]))


def test_what_was_learned_on_top_of_a_champion_is_said():
    seed = replace(measured(0, 0.9, 0.1), num_past=1)
    said = looked_at(study([at(0, 0.9, 0.1, seeds=(seed,))]))
    assert "learned one task (work) on top of the champion, which knows 1 task." in said
    (row, _) = details(study([at(0, 0.9, 0.1, seeds=(seed,))]))[0].heat
    assert row.after == "the champion"
    assert "Each trial learned all 2 tasks" in looked_at(study(MANY))


def test_a_trial_that_was_stopped_says_nothing_of_the_whole_stream():
    part = replace(measured(0, 0.3, 0.0), tasks=("travel",), accuracy_matrix=((0.3,),))
    stopped = at(0, 0.3, 0.0, seeds=(part,), status="stopped", seconds=1.0)
    found = study([stopped, at(1, 0.9, 0.1), at(2, 0.8, 0.2)])
    assert "Each trial learned all 2 tasks" in looked_at(found)
    assert "A trial took 10.0 s by the median, from 10.0 s to 10.0 s, 30.0 s in all." in cost(found)
    last = details(found)[-1]
    assert (last.objectives, last.average) == (("–", "–"), "–")
    assert [row.after for row in last.heat] == ["travel"]


def test_what_was_decided_task_by_task_is_shown(search):
    seed = replace(measured(0, 0.9, 0.1), search=search)
    found = study([at(0, 0.9, 0.1, seeds=(seed,))], strategy="stability_decay")
    page = html(found)
    assert "decided before each task on validation rows of that task alone" in looked_at(found)
    read(page)
    assert page.count("What each task was taught with") == 1
    assert "learning rate 0.001, ewc 5e+04" in page
    assert "not enough: the last attempt was taken" in page
    assert "<span>stability decay</span>" in page
    assert "What each task was taught with" not in html(study(MANY))


def test_a_service_runs_what_its_studies_found():
    found = replace(study([at(0, 0.9, 0.1)]), verb="submit")
    assert details(found)[0].command.startswith("ratchet submit intents.yaml --set ")
    assert "Ratchet · ratchet submit intents.yaml --study<" in html(found)
    assert "Ratchet · ratchet tune intents.yaml<" in html(study([]))


@pytest.mark.parametrize(
    "value",
    [
        1.25e-05,
        0.1,
        64008.35907126269,
        12,
        True,
        None,
        "fifo",
        "1e-5",
        "no",
        "a b: 'c' #\"$x",
        [1, "x"],
    ],
)
def test_the_command_reads_back_what_was_tried(value):
    parts = shlex.split(command("my spec.yaml", {RATE: value, STRENGTH: 1.0}))
    assert parts[:4] == ["ratchet", "run", "my spec.yaml", "--set"]
    changes = parse_changes([parts[4], parts[6]])
    assert changes[0].value == value
    assert type(changes[0].value) is type(value)
    assert changes[0].path == ("training", "learning_rate")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123456, "0.00123"), (64008.3, "64000"), (1.25e-5, "1.25e-5"), (7, "7"), ("fifo", "fifo")],
)
def test_settings_are_short(value, text):
    assert setting(value) == text


def test_names_are_shortened_only_while_they_differ():
    assert short_names([RATE, STRENGTH]) == {RATE: "learning_rate", STRENGTH: "ewc.strength"}
    apart = ["training.rank", "methods.rank", "gate.rank"]
    assert short_names(apart) == dict(zip(apart, [*apart[:2], "gate.rank"], strict=True))


def test_a_failure_without_words_is_still_a_failure():
    assert ending(replace(failed(0), error=None)) == "failed"


def test_metrics_are_written_as_what_they_are():
    found = measured(0, 0.9, 0.125)
    own = {"forgetting_events": 1.25, "retention": 23.456, "backward_transfer": -0.125}
    one = at(0, 0.9, 0.1, seeds=(replace(found, metrics={**found.metrics, **own}),))
    lines = {line.name: line.validation for line in details(study([one]))[0].metrics}
    assert lines == {
        "Average accuracy": "83.8%",
        "Learning accuracy": "90.0%",
        "Forgetting": "12.5",
        "Forgetting events": "1.25",
        "Retention": "23.46",
        "Backward transfer": "−12.5",
    }
