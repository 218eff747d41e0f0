"""What holds something up, logged once for as long as it is the same."""

from __future__ import annotations

import logging
from collections.abc import Collection


class LogOnce:
    """Keeps a controller that looks twice a second from saying the same twice a second.

    Args:
        log: Where complaints go.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, str] = {}

    def say(self, about: str, message: str) -> None:
        """Log what is wrong with something, unless that was said last."""
        if self._said.get(about) != message:
            self._said[about] = message
            self._log.warning("%s: %s", about, message)

    def settle(self, about: str) -> None:
        """Forget a complaint: nothing is wrong any more."""
        self._said.pop(about, None)

    def keep_only(self, alive: Collection[str]) -> None:
        """Forget what is about anything else."""
        self._said = {about: said for about, said in self._said.items() if about in alive}
