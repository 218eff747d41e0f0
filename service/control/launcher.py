"""What a controller needs of whatever runs drivers: submit, look, stop."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.processes.module_command import module_command
from ratchet.service.driver.job_folder import JobFolder

Standing = Literal["running", "ended", "gone", "unknown"]
"""A hint about an attempt. `ended` was known once, `gone` is not known (any more), `unknown` means
that nobody could be asked."""


class LauncherError(RatchetError, ConnectionError):
    """A launcher that cannot be reached, or did not take an attempt."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a job.

    Attributes:
        job: The job's id.
        number: Which attempt, from 1.
        folder: The job's folder.
        num_cpus: CPUs that its driver computes with; 0 where workers do.
        num_gpus: GPUs, likewise.
    """

    job: str
    number: int
    folder: JobFolder
    num_cpus: float = 0.0
    num_gpus: float = 0.0

    @property
    def submission(self) -> str:
        """The id under which a launcher knows it."""
        return f"{self.job}-{self.number}"


class Launcher(Protocol):
    """Runs drivers. None of its answers is more than a hint: the job's folder has the truth."""

    def submit(self, attempt: Attempt) -> None:
        """Start an attempt's driver; one that was submitted already is left as it is.

        Raises:
            LauncherError: It was not taken, or nobody knows.
        """
        ...

    def look(self, attempt: Attempt) -> Standing:
        """What is known of an attempt."""
        ...

    def stop(self, attempt: Attempt) -> None:
        """Ask an attempt's driver to end; again, with more force, once it has had time to."""
        ...


def driver_command(attempt: Attempt, *options: str) -> list[str]:
    """The command that runs an attempt; nothing of it comes from a client."""
    place = [str(attempt.folder.path), str(attempt.number)]
    return module_command("ratchet.service.driver", *place, *options)


def driver_entrypoint(attempt: Attempt) -> str:
    """The same as a line for a shell that gives its place to the driver."""
    return f"exec {shlex.join(driver_command(attempt, '--with-parent'))}"


def auth_token(environment: dict[str, str], user_home: Path) -> str | None:
    """Ray's token, from where Ray itself looks for it; None where Ray asks for none.

    Args:
        environment: Variables of this process.
        user_home: The user's own folder.
    """
    if environment.get("RAY_AUTH_MODE", "token") != "token":
        return None
    if environment.get("RAY_AUTH_TOKEN"):
        return environment["RAY_AUTH_TOKEN"].strip()
    place = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(place) if place else user_home / ".ray" / "auth_token"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
