"""The command that starts a process of ours, whatever lies in the folder where it is started."""

from __future__ import annotations

import sys


def module_command(module: str, *words: str) -> list[str]:
    """The command that runs an installed module with this very Python.

    `-m` alone looks for modules in the current folder first, which is the user's and may hold a
    `service/` or a `queue.py` of its own; `-P` leaves that folder out.

    Args:
        module: Its full name.
        *words: What it is told.
    """
    return [sys.executable, "-P", "-m", module, *words]
