"""The shape of measurements: by task and name, or one measure as a matrix."""

from __future__ import annotations

from collections.abc import Mapping

Scores = Mapping[str, Mapping[str, int | float | None]]
"""Measures of each task by its name; counts of rows among them."""

Matrix = list[list[float | None]]
"""One measure, [stages, tasks]; None where it was not taken."""
