"""The environment that every page is made in: its own templates, the shared styles, the words."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ratchet.pipelines.pages import words


def page_environment(room: str) -> Environment:
    """An environment whose pages escape every text and know no undefined name.

    Args:
        room: The package that the templates lie in, such as `ratchet.pipelines.report`; the styles
            that all pages share (`page.css`, `charts.css`) are found beside its own files.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader(room, ""), PackageLoader("ratchet.pipelines.pages", "")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "hundredths": words.hundredths,
        "short_hundredths": words.short_hundredths,
        "percent": words.percent,
        "points": words.points,
        "figure": words.figure,
        "average": words.average,
        "count": words.count,
        "counted": words.counted,
        "perplexity": words.perplexity,
        "size": words.size,
        "duration": words.duration,
    }
    return environment
