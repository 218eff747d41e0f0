"""The accuracy matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ratchet.pipelines.pages.words import hundredths


def write_heatmap(
    matrix: Sequence[Sequence[float | None]],
    tasks: Sequence[str],
    path: Path,
    scores: Sequence[str] = ("accuracy",),
) -> None:
    """Write an accuracy matrix as a PNG heat map with a number in each cell.

    Args:
        matrix: Accuracies, [stages, tasks]; None or NaN where not evaluated, which stay empty.
        tasks: Names of the columns.
        path: The PNG file.
        scores: Names of the scores that stand for accuracy; the title names each once.
    """
    # Matplotlib takes a second to import, and plain figures touch none of its global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = np.array(matrix, dtype=np.float64)
    rows, columns = values.shape
    size = (2.2 + 0.62 * columns, 1.6 + 0.42 * rows)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(values, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(columns), [_short(task) for task in tasks], rotation=40, ha="right")
    axes.set_yticks(range(rows), [f"after {row + 1}" for row in range(rows)])
    title = _title(scores)
    axes.set_title(title, fontsize=10, wrap=True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        color = "white" if value > 0.6 else "#1c2733"
        text = hundredths(float(value))
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Title": title})


def _title(scores: Sequence[str]) -> str:
    named = [score.replace("_", " ") for score in dict.fromkeys(scores)]
    return f"{' or '.join(named).capitalize()} on each task (%)"


def _short(name: str) -> str:
    """A name that leaves room for the picture; `$` would start a formula."""
    name = name if len(name) <= 18 else f"{name[:17]}…"
    return name.replace("$", r"\$")
