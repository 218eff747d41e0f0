"""The ids of uploads, by which a spec tells them from paths and URIs."""

from __future__ import annotations

import re

FILE_KIND = "file"
FILE_PREFIX = f"{FILE_KIND}-"
"""What begins so is never looked up as a path."""

_FILE_ID = re.compile(FILE_PREFIX + "[0-9a-f]{24}")


def is_file_id(text: str) -> bool:
    """Whether a text has the form of an upload's id."""
    return _FILE_ID.fullmatch(text) is not None
