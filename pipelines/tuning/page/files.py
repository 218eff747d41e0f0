"""The three files that tell of a study."""

from __future__ import annotations

import json
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.formats import FORMAT_KEY
from ratchet.pipelines.tuning.study import Study

FORMAT = 1
"""Of `study.json`."""

STUDY_FILE, PAGE_FILE, PICTURE_FILE = "study.json", "study.html", "front.png"


def write_study(study: Study, folder: Path) -> Path:
    """Write `study.json`, `study.html` and `front.png`, each in one step.

    Args:
        study: The study.
        folder: Where they go; made when missing.

    Returns:
        The page's path.
    """
    # The page needs a template engine, the picture matplotlib: who only reads names needs neither.
    from ratchet.pipelines.tuning.page.page import html
    from ratchet.pipelines.tuning.page.picture import write_picture

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({FORMAT_KEY: FORMAT, **study.as_dict()}, indent=1, ensure_ascii=False)
    write_atomically(folder / STUDY_FILE, text + "\n")
    write_picture(study, folder / PICTURE_FILE)
    write_atomically(folder / PAGE_FILE, html(study))
    return folder / PAGE_FILE
