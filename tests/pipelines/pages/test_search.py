"""Covers `search`, `search_record`."""

import re

from ratchet.pipelines.pages.search import search_rows, setting_words
from ratchet.pipelines.report.page import html

TITLE = "What each task was taught with"


def test_what_was_taken_is_marked_and_the_rest_is_there(report, search):
    first, second = search_rows(search)
    tries = [(one.setting, one.score, one.is_taken) for one in first.rates]
    assert tries == [
        ("0.0001", "50.0%", False),
        ("0.001", "90.0%", True),
        ("0.01", "diverged", False),
    ]
    assert [(one.setting, one.is_taken) for one in first.strengths] == [
        ("ewc 1e+05", False),
        ("ewc 5e+04", True),
    ]
    assert (first.reached, first.needed, first.seconds) == ("90.0%", "72.0%", 105.0)
    assert first.decided == "learning rate 0.001, ewc 5e+04"
    assert (first.is_enough, second.is_enough) == (True, False)


def test_the_page_has_the_table_only_where_something_was_searched(report, search):
    assert TITLE not in html(report(2))
    page = html(report(2, search=search))
    table = page.split(f"<h2>{TITLE}</h2>")[1].split("</section>")[0]
    text = " ".join(re.sub(r"<[^>]+>", " ", table).split())
    assert "0.0001: 50.0% ; 0.001: 90.0% ; 0.01: diverged" in text
    assert text.count("not enough: the last attempt was taken") == 1


def test_a_setting_in_words():
    assert setting_words(3e-5, None) == "learning rate 3e-05"
    assert setting_words(0.01, {"ewc": 1562.5, "lwf": 0.25}) == (
        "learning rate 0.01, ewc 1562, lwf 0.25"
    )
