"""The parts of a service: how each is started, and how one finds out that it works."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from ratchet.pipelines.processes.module_command import module_command
from ratchet.service.up.layout import HOST, MARK, Layout, free_port

PROBE_SECONDS = 3.0
SECRETS = frozenset({"RATCHET_DATABASE_URL", "RATCHET_API_KEY"})
"""For the API, the controller and people; what Ray has, every job has."""


TRAINING_NICENESS = 10
"""Of Ray, whose jobs train for hours, beside parts whose users wait for milliseconds."""


@dataclass(frozen=True)
class Part:
    """One process of the service, with whatever it starts itself.

    Attributes:
        name: What it is called.
        command: What is run.
        environment: The variables that it gets beside this process's own.
        is_ready: Whether it works, asked again and again until it does.
        needs: The parts that must work before it is started.
        url: Where it answers.
        hidden: Variables of this process that it has no business with.
        niceness: How far it lets the other parts go first, where all want the processor; 0 to 19.
        folder: Where it runs; None where this process does.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    needs: tuple[str, ...] = ()
    url: str | None = None
    hidden: frozenset[str] = frozenset()
    niceness: int = 0
    folder: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """Everything that it finds in its environment."""
        kept = {name: own for name, own in inherited().items() if name not in self.hidden}
        return {**kept, **self.environment}


def parts_of(layout: Layout) -> list[Part]:
    """The parts of a service, in the order in which they are shown."""
    own = _environment(layout)
    urls = layout.urls
    parts: list[Part] = []
    base: list[str] = []
    if layout.ray_port is not None:
        parts.append(_ray(layout, own))
        base.append("ray")
    if layout.mlflow_port is not None:
        parts.append(_mlflow(layout, own))
        base.append("mlflow")
    command = module_command("ratchet.service.api")
    parts.append(Part("api", command, own, _answers(f"{urls['api']}/healthz"), (), urls["api"]))
    command = module_command("ratchet.service.control")
    ready = _controller_holds_its_lease(f"{urls['api']}/readyz")
    parts.append(Part("controller", command, own, ready, (*base, "api")))
    if layout.router_port is not None:
        parts.append(_router(layout, own, layout.router_port))
    return parts


def _environment(layout: Layout) -> dict[str, str]:
    """What every part needs to know of the others."""
    found = {
        MARK: layout.mark,
        "RATCHET_HOME": str(layout.home),
        "RATCHET_API_HOST": HOST,
        "RATCHET_API_PORT": str(layout.api_port),
        "RATCHET_LAUNCHER": "process" if layout.ray_port is None else "ray",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(layout.ray_token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }
    urls = layout.urls
    if "ray" in urls:
        found["RATCHET_RAY_JOBS_URL"] = urls["ray"]
        found["RATCHET_RAY_ADDRESS"] = f"{HOST}:{layout.ray_port}"
    if layout.data_roots:
        found["RATCHET_DATA_ROOTS"] = ",".join(layout.data_roots)
    tracking_uri = urls.get("mlflow", layout.tracking_uri)
    if tracking_uri is not None:
        found["RATCHET_TRACKING_URI"] = _absolute(tracking_uri)
    if "router" in urls:
        found["RATCHET_ROUTER_URL"] = urls["router"]
    return found


def _absolute(tracking_uri: str) -> str:
    """A store that is the same wherever a part runs: a database's file may be named from here."""
    scheme, separator, path = tracking_uri.partition(":///")
    is_file = scheme == "sqlite" and separator and path
    return f"sqlite:///{Path(path).resolve()}" if is_file else tracking_uri


def _ray(layout: Layout, own: Mapping[str, str]) -> Part:
    """Ray's head. Its own ports listen at every address, and answer to the token alone."""
    options = {
        "--node-ip-address": HOST,
        "--port": layout.ray_port,
        "--dashboard-host": HOST,
        "--dashboard-port": layout.dashboard_port,
        # Fixed by default, so that a second Ray on the machine would lose its jobs agent.
        "--dashboard-agent-listen-port": free_port(),
        "--ray-client-server-port": free_port(),
        "--min-worker-port": 0,  # any that is free: the usual range holds ports one may ask for
        "--max-worker-port": 0,
        "--temp-dir": layout.ray_folder,
        "--num-cpus": layout.num_cpus,
    }
    words = [str(word) for pair in options.items() for word in pair]
    flags = ["--disable-usage-stats", "--no-monitor"]
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    url = layout.urls["ray"]
    is_ready = _ray_takes_jobs(url, layout)
    return Part(
        "ray",
        [*command, *words, *flags],
        own,
        is_ready,
        (),
        url,
        SECRETS,
        TRAINING_NICENESS,
        layout.folder,  # what Ray starts itself looks for modules where it runs
    )


def _mlflow(layout: Layout, own: Mapping[str, str]) -> Part:
    options = {
        "--host": HOST,
        "--port": layout.mlflow_port,
        "--backend-store-uri": f"sqlite:///{layout.home / 'mlflow.db'}",
        "--artifacts-destination": layout.home / "mlartifacts",
        "--workers": 1,
    }
    words = [str(word) for pair in options.items() for word in pair]
    environment = {
        **own,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # unused here, and 235 MB
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = module_command("mlflow", "server", *words)
    url = layout.urls["mlflow"]
    ready = _answers(f"{url}/health")
    # The server that it starts in turn looks for modules where it runs.
    return Part("mlflow", command, environment, ready, (), url, SECRETS, folder=layout.folder)


def _router(layout: Layout, own: Mapping[str, str], port: int) -> Part:
    place = ["--host", HOST, "--port", str(port)]
    command = module_command("ratchet.service.cli", "serve", "--all", *place)
    environment, needs = dict(own), ()
    if layout.ray_port is not None:
        environment["RAY_ADDRESS"] = f"{HOST}:{layout.ray_port}"
        needs = ("ray",)
    url = layout.urls["router"]
    return Part("router", command, environment, _answers(f"{url}/healthz"), needs, url, SECRETS)


def inherited() -> dict[str, str]:
    """This process's variables, without those that would send a part elsewhere."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def _answers(url: str) -> Callable[[], bool]:
    return lambda: _get(url) is not None


def _controller_holds_its_lease(url: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return bool(httpx.get(url, timeout=PROBE_SECONDS, trust_env=False).json()["controller"])
        except (httpx.TransportError, ValueError, KeyError):
            return False

    return ready


def _ray_takes_jobs(url: str, layout: Layout) -> Callable[[], bool]:
    """Whether the jobs port answers and a node is there to run them."""

    def ready() -> bool:
        token = layout.ray_token.read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}"}
        nodes = _get(f"{url}/nodes?view=summary", headers)
        return nodes is not None and _get(f"{url}/api/jobs/", headers) is not None

    return ready


def _get(url: str, headers: Mapping[str, str] | None = None) -> httpx.Response | None:
    try:
        found = httpx.get(url, headers=headers, timeout=PROBE_SECONDS, trust_env=False)
    except httpx.TransportError:
        return None
    return found if found.status_code == 200 else None
