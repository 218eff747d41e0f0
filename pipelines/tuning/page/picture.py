"""The front as a PNG for papers."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.tuning.front import front, placed
from ratchet.pipelines.tuning.page.scatter import axes
from ratchet.pipelines.tuning.page.words import OBJECTIVE_WORDS, measure_of
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRONT, BEATEN, CHOSEN = "#0f6f66", "#8a9490", "#d9480f"
SHARES = ("plasticity", "stability")


def write_picture(study: Study, path: Path) -> None:
    """Write the finished trials in the plane of two objectives, with the front as steps.

    Args:
        study: The study. Where nothing finished, the picture says so.
        path: The PNG file, replaced in one step.
    """
    # Matplotlib takes a second to import, and plain figures touch none of its global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.add_subplot(), study)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        figure.savefig(draft, format="png", dpi=220, metadata={"Title": f"Front of {study.name}"})
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _draw(plane: Axes, study: Study) -> None:
    upward, across = axes(study.tune.objectives)
    found = placed(study.trials, tuple(dict.fromkeys((*study.tune.objectives, upward, across))))
    plane.set_xlabel(_label(across, "lower"))
    plane.set_ylabel(_label(upward, "higher" if upward == "plasticity" else "lower"))
    plane.spines[["top", "right"]].set_visible(False)
    plane.grid(color="#e2e6e3", linewidth=0.6)
    plane.set_axisbelow(True)
    if not found:
        plane.text(0.5, 0.5, "no trial finished", ha="center", transform=plane.transAxes)
        return
    members = {own.trial.number for own in study.front}
    trials = [own.trial for own in found]
    _draw_steps(plane, study, trials, (across, upward))
    beaten = [trial for trial in trials if trial.number not in members]
    _draw_trials(plane, study, beaten, (across, upward), BEATEN, "beaten")
    on_it = [trial for trial in trials if trial.number in members]
    _draw_trials(plane, study, on_it, (across, upward), FRONT, "on the front")
    _draw_marked(plane, study, (across, upward))
    if upward != "plasticity":
        plane.invert_yaxis()
    plane.legend(frameon=False, fontsize=8)


def _draw_trials(
    plane: Axes,
    study: Study,
    trials: list[Trial],
    names: tuple[str, str],
    colour: str,
    label: str,
) -> None:
    if not trials:
        return
    xs, ys = ([_shown(trial, name) for trial in trials] for name in names)
    plane.scatter(xs, ys, s=22, color=colour, label=label, zorder=3)
    if colour != FRONT:
        return
    for trial, x, y in zip(trials, xs, ys, strict=True):
        intervals = study.noise.intervals[trial.number]
        widths = [_half_width(intervals.get(name), name) for name in names]
        if all(widths):
            plane.errorbar(x, y, widths[1], widths[0], color=colour, alpha=0.45, linewidth=0.9)


def _draw_steps(plane: Axes, study: Study, trials: list[Trial], names: tuple[str, str]) -> None:
    if not set(names) <= set(study.tune.objectives):
        return
    best = [own.trial for own in front(trials, names)]
    corners = sorted((_shown(trial, names[0]), _shown(trial, names[1])) for trial in best)
    plane.step(*zip(*corners, strict=True), where="post", color=FRONT, linewidth=1, linestyle="--")


def _draw_marked(plane: Axes, study: Study, names: tuple[str, str]) -> None:
    chosen = None if study.chosen is None else study.chosen.trial
    for trial, marker, label in ((study.knee, "D", "knee"), (chosen, "o", "chosen")):
        if trial is not None:
            x, y = (_shown(trial, name) for name in names)
            plane.scatter(
                [x], [y], s=90, marker=marker, facecolors="none", edgecolors=CHOSEN,
                linewidths=1.4, label=label, zorder=4,
            )  # fmt: skip


def _label(objective: str, better: str) -> str:
    return f"{OBJECTIVE_WORDS[objective].measure} ({better} is better)".replace(
        "time of a run", "seconds of a run"
    )


def _shown(trial: Trial, objective: str) -> float:
    value = trial.objective(objective)
    assert value is not None, "only trials that have every objective are drawn"
    return measure_of(objective, value) * (100 if objective in SHARES else 1)


def _half_width(interval: tuple[float, float] | None, objective: str) -> float | None:
    if interval is None:
        return None
    return (interval[1] - interval[0]) / 2 * (100 if objective in SHARES else 1)
