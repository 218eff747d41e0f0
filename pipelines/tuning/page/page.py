"""A study as one self-contained HTML page: nothing loaded from elsewhere, readable unscripted."""

from __future__ import annotations

import base64
import hashlib
from statistics import median

from markupsafe import Markup

from ratchet.pipelines.pages.environment import page_environment
from ratchet.pipelines.pages.estimate import INTERVAL_WORDS
from ratchet.pipelines.pages.words import (
    counted,
    duration,
    hundredths,
    joined,
    listed,
    percent,
    whole_percent,
)
from ratchet.pipelines.report.scores import scale
from ratchet.pipelines.tuning.noise import by_noise
from ratchet.pipelines.tuning.page.details import details
from ratchet.pipelines.tuning.page.panels import panels
from ratchet.pipelines.tuning.page.scatter import scatter
from ratchet.pipelines.tuning.page.words import OBJECTIVE_WORDS, ending, measure_of, short_names
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.trial import Trial

SCRIPT = "study.js"


def html(study: Study) -> str:
    """The page as text; every text of the study is escaped."""
    environment = page_environment("ratchet.pipelines.tuning.page")
    assert environment.loader is not None, "page_environment() gives one"
    script = environment.loader.get_source(environment, SCRIPT)[0]
    return environment.get_template("study.html.j2").render(
        study=study,
        script=Markup(script),  # our own file: escaping would break it
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        headline=headline(study),
        looked_at=looked_at(study),
        cost=cost(study),
        chart=scatter(study),
        panels=panels(study),
        trials=details(study),
        parameters=short_names(list(study.tune.parameters)),
        columns=[OBJECTIVE_WORDS[name].measure for name in study.tune.objectives],
        corner=corner(study),
        unsure=unsure(study),
        failures=_endings(study, "failed"),
        stops=_endings(study, "stopped"),
        ended=ended(study),
        num_done=_count(study, "done"),
        num_failed=_count(study, "failed"),
        has_intervals=any(any(own.values()) for own in study.noise.intervals.values()),
        interval=INTERVAL_WORDS,
        scale=scale(),
    )


def headline(study: Study) -> str:
    """What the chosen trial does, in a sentence."""
    if study.chosen is None:
        return "No trial finished." if study.trials else "Nothing was tried."
    trial = study.chosen.trial
    learned = f"Trial {trial.number} learns {percent(trial.mean('learning_accuracy'))}"
    forgetting = trial.mean("forgetting")
    if forgetting is None:
        return f"{learned}."
    return f"{learned} and forgets {hundredths(forgetting)} points."


def ended(study: Study) -> str:
    """How many trials ended how."""
    words = {"done": "done", "stopped": "stopped early", "failed": "failed"}
    found = {word: _count(study, status) for status, word in words.items()}
    counts = [f"{number} {word}" for word, number in found.items() if number]
    return f"{', '.join(counts) or 'none'} of {counted(len(study.trials), 'trial')}"


def _count(study: Study, status: str) -> int:
    return sum(own.status == status for own in study.trials)


def _endings(study: Study, status: str) -> list[tuple[int, str]]:
    return [(own.number, ending(own)) for own in study.trials if own.status == status]


def looked_at(study: Study) -> str:
    """What data decided, in a few sentences."""
    seeds = [seed for own in study.trials for seed in own.seeds]
    if not seeds:
        return "No trial got as far as to look at data."
    seed = max(seeds, key=lambda own: len(own.tasks))  # stopped ones have seen fewer
    tasks = seed.tasks[seed.num_past :]
    whole = "the first" if study.tune.num_tasks else "all"
    which = f"{whole} {len(tasks)} tasks of the stream"
    which += f" ({listed(tasks)})" if len(tasks) <= 3 else ""
    if study.tune.strategy == "stability_decay":
        return (
            f"One trial learned {which} in order. Its rates and strengths were decided before each "
            "task on validation rows of that task alone. What is shown below decided nothing."
        )
    if seed.num_past:
        new = f"{which} in its order" if len(tasks) > 1 else f"one task ({listed(tasks)})"
        old = counted(seed.num_past, "task")
        return (
            f"Each trial learned {new} on top of the champion, which knows {old}. Objectives were "
            "measured on validation rows: learning accuracy on the new, forgetting on all, from "
            "what the champion knows on. Test rows are shown below and decided nothing."
        )
    if len(tasks) == 1:
        return (
            "Each trial learned one task, and its objectives were measured on that task's "
            "validation rows. Test rows are shown below and decided nothing."
        )
    return (
        f"Each trial learned {which} in its order. Objectives were measured on "
        "the validation rows of all of them, those of old tasks again after every later one: the "
        "choice used data of old tasks that a learner who meets them one by one may no longer "
        "have. Test rows are shown below and decided nothing."
    )


def cost(study: Study) -> str:
    """What the study took, and what sharing saved, in a few sentences."""
    own = [_seconds(trial) for trial in study.trials]
    done = [_seconds(trial) for trial in study.trials if trial.status == "done"]
    whole = f"The study took {duration(study.seconds)} for {counted(len(study.trials), 'trial')}."
    if not done:
        return whole
    spread = f"A trial took {duration(median(done))} by the median"
    spread += f", from {duration(min(done))} to {duration(max(done))}" if len(done) > 1 else ""
    saved = study.seconds_saved
    share = saved / (sum(own) + saved) if saved else 0.0
    sharing = (
        "Trials went on from a first task that another had taught, which saved "
        f"{duration(saved)}: {whole_percent(share)} of what the trials would have taken one by one."
        if saved
        else "No trial went on from a first task that another had taught."
    )
    return f"{whole} {spread}, {duration(sum(own))} in all. {sharing}"


def _seconds(trial: Trial) -> float:
    return sum(seed.seconds for seed in trial.seeds)


def corner(study: Study) -> str:
    """The corner of the hypervolume, in words."""
    pairs = zip(study.tune.objectives, study.corner, strict=True)
    return " and ".join(
        f"{OBJECTIVE_WORDS[name].measure.split(',')[0]} "
        f"{OBJECTIVE_WORDS[name].value(measure_of(name, value) + 0.0)}"
        for name, value in pairs
    )


def unsure(study: Study) -> str:
    """Which of the front's trials may be there by noise; empty where that is not known."""
    if study.noise.on_front is None:
        return ""
    numbers = [str(own) for own in by_noise(study.noise, [own.trial for own in study.front])]
    if not numbers:
        return "Every trial of the front is there in at least half of the resamples."
    who = f"Trial{'s' if len(numbers) > 1 else ''} {joined(numbers)}"
    return f"{who} may be there by noise: on the front in fewer than half of the resamples."
