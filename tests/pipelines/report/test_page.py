"""Covers, beside `page`: `costs`, `data`, `headline`, `language`, `scores`, `served`."""

import re
from html.parser import HTMLParser

import pytest

from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.metrics import summarize
from ratchet.pipelines.report.page import html, render
from ratchet.pipelines.spec.update_spec import GateSpec
from ratchet.pipelines.update.report_input import verdict_report
from tests.pipelines.evaluation.outcomes import right

VOID = {"meta", "path", "circle", "br", "link"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects the text of headings and cells."""

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.texts = {}
        self.attributes = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(" ".join(data.split()))


def section(page, title):
    return next(part for part in page.split("<section") if f"<h2>{title}</h2>" in part)


@pytest.mark.parametrize("num_tasks", [1, 2, 5, 15])
def test_the_page_nests_and_has_no_empty_values(report, num_tasks):
    page = html(report(num_tasks))
    outline = Outline(page)
    assert not re.search(r"\b(None|nan|inf)\b", page.split("</style>")[1])
    assert f"{num_tasks} task" in " ".join(outline.texts["span"])


def test_the_page_leads_with_what_is_served_and_says_what_answers(report):
    page = html(report(3))
    assert page.index("<h2>As served</h2>") < page.index("<h2>Average accuracy</h2>")
    served = section(page, "What is served")
    assert "answered by heads and router statistics, weighed" in served
    assert "On 600 validation rows" in served
    assert "90.0%" in served
    assert "62.0% by one softmax over the heads of all tasks" in served
    assert "adds nothing" not in served


@pytest.mark.parametrize(("by", "mixture"), [("prototypes", 0.86), ("mixture", 0.87)])
def test_the_page_says_where_training_adds_nothing_to_the_statistics(report, by, mixture):
    data = report(3)
    accuracy = {**data["as_served"]["accuracy"], "mixture": mixture}
    data["as_served"] |= {"answer_by": by, "accuracy": accuracy}
    assert "What was taught adds nothing" in section(html(data), "What is served")


def test_a_language_model_has_nothing_served_without_a_task(report):
    data = report(3)
    del data["as_served"]
    assert "<h2>As served</h2>" not in html(data)


@pytest.mark.parametrize("num_tasks", [1, 2, 15])
def test_nothing_is_loaded_from_elsewhere(report, num_tasks):
    outline = Outline(html(report(num_tasks)))
    names = {name for _, name, _ in outline.attributes}
    assert names.isdisjoint({"src", "href", "xlink:href", "onclick", "onload"})
    tags = {tag for tag, _, _ in outline.attributes}
    assert tags.isdisjoint({"script", "link", "img", "iframe"})
    assert "url(" not in html(report(num_tasks))
    assert "@import" not in html(report(num_tasks))


def test_every_text_of_the_user_is_escaped(report):
    hostile = "<script>alert('&')</script>"
    data = report(3, lineage=hostile, warnings=[hostile], spec_yaml=hostile, methods=[hostile])
    data["base_model"] = hostile
    data["tasks"][0]["name"] = hostile
    data["tasks"][0]["seconds"] = {hostile: 1.0}
    data["seconds"] = {hostile: 1.0}
    data["verdict"]["reasons"] = (hostile,)
    data["verdict"]["comparisons"][0]["task"] = hostile
    page = html(data)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;") >= 10
    Outline(page)


def test_the_file_is_written_where_asked(report, tmp_path):
    path = render(report(2), tmp_path / "new")
    assert path == tmp_path / "new" / "report.html"
    assert path.read_text(encoding="utf-8") == html(report(2))
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_the_heat_map_has_every_measured_number_and_frames_what_was_learned(report):
    page = section(html(report(3, accuracy_matrix_with_task_id=None)), "What was kept")
    cells = re.findall(r'<td class="(\w+) \w+"[^>]*>([\d.]+)</td>', page)
    assert cells == [
        ("learned", "96.0"),
        ("after", "94.0"),
        ("learned", "95.6"),
        ("after", "92.0"),
        ("after", "93.0"),
        ("learned", "95.2"),
    ]
    assert page.count('class="empty"') == 3


def test_with_and_without_the_task_id_are_two_titled_matrices(report):
    page = section(html(report(3)), "What was kept")
    assert page.index("The model finds the task itself") < page.index("The request names the task")
    assert page.count('<table class="heat') == 2
    alone = html(report(3, accuracy_matrix_with_task_id=None, metrics_with_task_id=None))
    assert "The request names the task" not in alone
    assert "task named" not in alone


def test_a_refusal_says_why_and_how_many_more(report):
    page = html(report(15, loss=0.03))
    verdict = section(page, "The gate's verdict")
    assert "✕ not promoted" in page
    assert verdict.count("</li>") == 6
    assert verdict.count("fell by") == 5
    assert re.search(r"And \d+ more; the table has every task\.", page)


def test_a_promotion_says_what_held(report):
    page = html(report(3, loss=0.0))
    assert "✓ promoted to champion" in page
    assert "Closest of 2 tasks: banking is even on 200 rows" in page
    assert 'loss -1.9 to 1.9: <b class="up">held</b>' in page


@pytest.mark.parametrize(
    ("options", "learned", "verdict"),
    [
        (
            {"num_tasks": 1},
            "Learned banking.",
            "The first version of the lineage: there is nothing yet to hold.",
        ),
        (
            {"num_tasks": 3, "loss": 0.0},
            "Learned banking, travel and work.",
            "Held everything it knew: a loss is at most 1.9 points on travel among its own labels "
            "and 1.9 points on travel as auto answers it (95 % confidence).",
        ),
        (
            {"num_tasks": 2, "loss": 0.1},
            "Learned banking and travel.",
            "Forgot: banking fell by 20 of 200 rows (10.0 points; 95 % interval 6.6 to 14.9).",
        ),
    ],
)
def test_the_headline_says_what_became_of_the_tasks(report, options, learned, verdict):
    page = html(report(**options))
    assert f"<h1>{learned}</h1>" in page
    assert f'<p class="verdict">{verdict}</p>' in page


def test_an_update_of_a_lineage_tells_new_tasks_from_old(report):
    data = report(3, loss=0.0)
    for task in data["tasks"][:2]:
        task.update(is_new=False, seconds={}, peak_memory_bytes=None, num_train=None)
    page = html(data)
    assert "<h1>Learned work.</h1>" in page
    assert section(page, "Task by task").count('<i class="new">new</i>') == 1
    assert re.findall(r'<th scope="row">(\w+)</th>', section(page, "What it cost")) == ["work"]


def test_joint_training_has_one_row_and_no_curves(report):
    matrix = [[0.9, 0.8, 0.7]]
    verdict = decide(
        {name: right(9, of=10, served=9) for name in ("banking", "travel", "work")},
        None,
        {},
        GateSpec(),
    )
    data = report(
        3,
        accuracy_matrix=matrix,
        accuracy_matrix_with_task_id=None,
        metrics=summarize(matrix),
        metrics_with_task_id=None,
        verdict=verdict_report(verdict),
    )
    for task in data["tasks"]:
        task["stage"] = 0
    page = html(data)
    assert "Forgetting curves" not in page
    assert "<i>1</i>3 tasks" in page
    assert "nothing could be forgotten yet" in page


def test_what_was_not_measured_is_a_dash(report):
    data = report(2)
    data["tasks"][0].update(peak_memory_bytes=None, bytes_added=None)
    page = html(data)
    assert section(page, "What it cost").count(">–</td>") == 2


def test_rejection_is_told_task_by_task(report):
    routed = {
        "banking": {"num_rows": 8, "num_accepted": 7, "num_own_task": 8},
        "<b>": {"num_rows": 1200, "num_accepted": 1140, "num_own_task": 600},
    }
    found = {"threshold": -41.37, "accept_fraction": 0.95, "routed": routed}
    part = section(html(report(2, out_of_scope=found)), "Requests that belong to no task")
    words = " ".join(re.sub(r"<[^>]+>", " ", part).split())
    assert "its best score is below −41.37: a limit set so that 95.0% of validation text" in words
    assert "banking 8 87.5% 100.0% &lt;b&gt; 1 200 95.0% 50.0%" in words


def language(report, num_tasks=3, **changes):
    """A language model's report: a closed, an open and a raw task."""
    matrices = {
        "perplexity": [[2.0, None, None], [4.0, 123456.0, None], [8.0, 1234.5, 1.5]],
        "token_accuracy": [[0.91, None, None], [0.5, 0.4, None], [0.51, 0.42, 0.73]],
        "exact_match": [[None] * 3, [None, 0.25, None], [None, 0.125, None]],
    }
    scores = ["accuracy", "exact_match", "token_accuracy"]
    parts = {"main_scores": scores, "matrices": matrices}
    return report(num_tasks, language=parts, **changes)


def cells(part):
    """The shade and the text of each measured cell."""
    found = re.findall(r'style="--v:(\d+)%">([^<]+)</td>', part)
    return [(int(shade), text) for shade, text in found]


def test_a_language_models_matrix_says_which_score_it_holds(report):
    page = html(language(report))
    Outline(page)
    kept = section(page, "What was kept")
    assert "Score in percent" in kept
    assert "of banking whether the right answer is the likeliest" in kept
    assert "of travel whether what is generated is the answer" in kept
    assert "of work the share of tokens" in kept
    assert "<h2>Average score</h2>" in page
    assert "Accuracy stands for the score" in section(page, "All metrics")


def test_perplexities_are_darkest_where_they_are_lowest(report):
    part = section(html(language(report)), "Perplexity")
    assert cells(part) == [
        (100, "2.00"),
        (50, "4.00"),
        (1, "1e5"),
        (25, "8.00"),
        (100, "1\u202f234"),
        (100, "1.50"),
    ]
    assert part.count('class="learned') == 3


def test_each_measure_of_text_is_shown_as_learned_and_now(report):
    part = section(html(language(report)), "Perplexity")
    words = re.sub(r"<[^>]+>|\s+", " ", part.split("<h3>")[1])
    words = " ".join(words.split())
    assert "Perplexity Token accuracy Exact match banking accuracy 2.00 → 8.00" in words
    assert "91.0% → 51.0% – travel exact match 1e5 → 1 234" in words
    assert "40.0% → 42.0% 25.0% → 12.5% work token accuracy 1.50 → 1.50" in words
    assert "ROUGE-L" not in words


def test_general_perplexity_stands_beside_that_of_the_base(report):
    kept = {**summarize([[0.9, 0.1, 0.1], [0.8, 0.9, 0.1], [0.7, 0.8, 0.9]])}
    kept |= {"retention": 12.345, "retention_before": 10.0}
    page = html(language(report, metrics=kept))
    assert "it is 12.35, and 10.00 of the untouched base" in page.replace("12.34,", "12.35,")
    assert "lower is better" in section(page, "All metrics")
    plain = html(report(3, metrics=kept | {"retention": 0.5}))
    assert "Perplexity" not in plain
    assert "50.0%" in section(plain, "All metrics")


def test_columns_are_counted_task_by_task(report):
    columns = {
        "banking": {"total": 30, "own": 20, "from_base": 10, "from_tasks": {}},
        "<b>": {"total": 12_345, "own": 12_000, "from_base": 300, "from_tasks": {"banking": 45}},
    }
    part = section(html(report(3, columns=columns)), "Columns")
    words = " ".join(re.sub(r"<[^>]+>", " ", part).split())
    assert "banking 30 20 10 0 the base alone" in words
    assert "&lt;b&gt; 12 345 12 000 300 45 banking" in words
    assert "<h2>Columns</h2>" not in html(report(3, columns={}))
