# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnnecessaryComparison=false
"""Drivers as Ray jobs, over the REST interface of Ray's Jobs API.

Not through Ray's own client: that waits for ever on a head that hangs, and brings all of Ray along.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import httpx
from pydantic import SecretStr

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.service.control.launcher import Attempt, LauncherError, Standing, driver_entrypoint
from ratchet.service.control.local_process import end_local_driver

TIMEOUT_SECONDS = 5.0
SUBMIT_TIMEOUT_SECONDS = 30.0
_RUNNING = frozenset({"PENDING", "RUNNING"})


class RayJobs:
    """A launcher over a Ray head.

    Args:
        url: Where its dashboard answers.
        token: Ray's token, or None where it asks for none.
        transport: How requests travel; None for the network.
    """

    def __init__(
        self,
        url: str,
        token: SecretStr | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        # Never through a proxy of the surroundings: the head is private.
        self._client = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            transport=transport,
        )

    def submit(self, attempt: Attempt) -> None:
        """Start an attempt's driver; Ray refuses a second one under the same id.

        Raises:
            LauncherError: Ray did not take it, or nobody knows.
        """
        body: JsonObject = {
            "entrypoint": driver_entrypoint(attempt),
            "submission_id": attempt.submission,
            "metadata": {"job": attempt.job},
        }
        resources = {"entrypoint_num_cpus": attempt.num_cpus}
        resources["entrypoint_num_gpus"] = attempt.num_gpus
        body |= {name: amount for name, amount in resources.items() if amount}
        answer = self._ask("POST", "/api/jobs/", json=body, timeout=SUBMIT_TIMEOUT_SECONDS)
        if answer.is_success or "already exists" in answer.text:
            return
        raise LauncherError(f"Ray did not take {attempt.submission}: {_said(answer)}")

    def look(self, attempt: Attempt) -> Standing:
        """What Ray says of an attempt."""
        try:
            answer = self._ask("GET", f"/api/jobs/{attempt.submission}")
        except LauncherError:
            return "unknown"
        if answer.status_code == httpx.codes.NOT_FOUND:
            return "gone"
        status = _field(answer, "status") if answer.is_success else None
        if status is None:
            return "unknown"
        return "running" if status in _RUNNING else "ended"

    def stop(self, attempt: Attempt) -> None:
        """Ask Ray to stop it (SIGTERM, then SIGKILL), and see to it where Ray has forgotten it."""
        with suppress(LauncherError):  # without Ray, the fence and what is on this machine are left
            self._ask("POST", f"/api/jobs/{attempt.submission}/stop")
        end_local_driver(attempt)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, method: Literal["GET", "POST"], path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            name = type(error).__name__
            raise LauncherError(f"Ray's Jobs API does not answer ({name}: {error})") from error
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise LauncherError(
                f"Ray refuses the token ({answer.status_code}). Set RAY_AUTH_TOKEN to the cluster's"
            )
        return answer


def _field(answer: httpx.Response, name: str) -> Any:
    try:
        content = answer.json()
    except ValueError:
        return None
    return content.get(name) if isinstance(content, dict) else None


def _said(answer: httpx.Response) -> str:
    """The end of what Ray said, which is where a traceback says what it is about."""
    return f"{answer.status_code} {answer.text.strip()[-300:]}"
