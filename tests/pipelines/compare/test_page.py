"""Covers, beside `page`: `charts`, `table`, `pages.labels`, `pages.scale`, `pages.environment`."""

import itertools
import re
from html.parser import HTMLParser

import pytest

from ratchet.pipelines.compare.charts import accuracy_against_cost
from ratchet.pipelines.compare.page import family_colours, html
from ratchet.pipelines.compare.summary import rows_of
from ratchet.pipelines.compare.table import sorted_rows
from ratchet.pipelines.pages.labels import place_labels
from ratchet.pipelines.pages.scale import Scale
from tests.pipelines.compare.records import failed, record

VOID = {"meta", "path", "circle"}


class Balance(HTMLParser):
    """Counts what is open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):  # noqa: ARG002
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def page_of(records, **changes):
    rows = sorted_rows(rows_of(records))
    found = {
        "spec": "somewhere/stream.yaml",
        "scenario": "class_incremental",
        "model": "models/small",
        "num_done": len(records),
        "num_runs": len(records),
        "design": {"num_seeds": 2},
    }
    return html(found | changes, rows, "stream", "All were trained alike.")


def test_the_page_is_whole_and_loads_nothing():
    page = page_of([record("ewc", 0), record("ewc", 1, 0.9), record("<b>", 0, 0.5), failed("si")])
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert not re.search(r"(?:src|href)=\"(?:http|//)|<script|@import|url\(", page)
    assert "&lt;b&gt;" in page
    assert "<b>: " not in page


def seeds_of(method, *accuracies):
    return [record(method, seed, accuracy) for seed, accuracy in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([("ewc", 0.7), ("replay", 0.9)], "replay is ahead with 90.0%, but one seed is no ground"),
        (
            [("ewc", 0.7), ("replay", 0.91, 0.89)],  # 12.7 * 0.01 on either side
            "replay is ahead with 90.0 ± 12.7%, but one seed is no ground",
        ),
        ([("replay", 0.9)], "Only replay is done, with 90.0%."),
        (
            [("si", 0.8, 0.8), ("ewc", 0.7, 0.7), ("replay", 0.91, 0.89), ("der", 0.9, 0.88)],
            "replay is ahead with 90.0 ± 12.7%, but its interval overlaps that of der, si: no",
        ),
        (
            [("ewc", 0.7, 0.7), ("replay", 0.91, 0.89), ("si", 0.5, 0.52)],
            "replay leads with 90.0 ± 12.7%.",
        ),
    ],
    ids=["one seed", "one of them has one seed", "alone", "overlap", "apart"],
)
def test_the_best_leads_where_intervals_say_so_and_the_upper_bound_never(records, says):
    every = [run for method, *seeds in records for run in seeds_of(method, *seeds)]
    page = page_of([*seeds_of("joint", 0.99, 0.99), *every])
    assert says in page


def test_a_page_of_nothing_done_yet_says_so():
    waiting = record("ewc", status="waiting", metrics={}, totals={})
    page = page_of([waiting], num_done=0)
    assert "Nothing is done yet." in page
    assert "0 of 1 runs done" in page
    assert "Accuracy against cost</h2>" not in page


@pytest.mark.parametrize("axis", ["order", "model"])
def test_a_further_axis_has_panels(axis):
    value = {"order": 1, "model": "large"}[axis]
    page = page_of([record("ewc"), record("ewc", 0, 0.6, **{axis: value})])
    assert ("Order of the tasks" in page) == (axis == "order")
    assert ("Base model</h2>" in page) == (axis == "model")


def test_a_family_keeps_its_colour_whatever_is_compared():
    few = rows_of([record("ewc", family="regularization")])
    many = rows_of([record("x", family="baseline"), record("ewc", family="regularization")])
    assert family_colours(few)["regularization"] == family_colours(many)["regularization"]


def test_the_front_passes_what_no_other_beats_in_both():
    totals = {"peak_memory_bytes": 1, "parameters_added": 1, "bytes_added": 1}
    records = [
        record(name, 0, accuracy, totals=totals | {"seconds": seconds})
        for name, accuracy, seconds in (("a", 0.5, 10), ("b", 0.4, 20), ("c", 0.9, 40))
    ]
    chart = accuracy_against_cost(rows_of(records), {"replay": 0})
    a, b, c = chart.marks
    assert chart.front == f"M{a.x:g},{a.y:g}H{c.x:g}V{c.y:g}"
    assert a.y < b.y
    assert c.y < a.y
    assert (b.x - a.x) == pytest.approx(c.x - b.x, abs=0.2)  # equal factors are equally far apart


def test_ticks_are_round_and_inside():
    scale = Scale.around([0.71, 0.94], 100, 0)
    ticks = scale.ticks(lambda value: f"{value:g}", number=6)
    assert [tick.label for tick in ticks] == ["0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    places = [tick.at for tick in ticks]
    assert places == sorted(places, reverse=True)
    assert all(0 <= place <= 100 for place in places)


def test_values_beyond_the_ends_lie_at_the_ends():
    scale = Scale(0.0, 1.0, 0.0, 10.0)
    assert [scale.place(value) for value in (-3.0, 0.5, 7.0)] == [0.0, 5.0, 10.0]


def test_one_value_alone_has_an_axis():
    scale = Scale.around([0.5], 0, 10)
    assert scale.low < 0.5 < scale.high


def test_names_of_points_that_lie_together_do_not_overlap():
    points = [(100.0, 100.0), (101.0, 100.0), (100.0, 102.0), (103.0, 99.0)]
    labels = place_labels(points, ["replay"] * 4, 400, 0, 300)
    lines = sorted((label.anchor, label.y) for label in labels)
    for (anchor, y), (other, below) in itertools.pairwise(lines):
        assert anchor != other or below - y >= 12


def test_a_name_at_the_edge_stays_inside():
    (label,) = place_labels([(395.0, 50.0)], ["a_long_name"], 400, 0, 300)
    assert label.anchor == "end"
