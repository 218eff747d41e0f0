"""What `ratchet up` starts and where each part listens: values only, nothing is started."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.errors import Problem, SpecError

HOST = "127.0.0.1"
MARK = "RATCHET_UP"
"""Every process of a service, and every process that one starts, has this variable."""


@dataclass(frozen=True)
class Layout:
    """A service of one home.

    Attributes:
        home: The folder that keeps all state.
        api_port: Of the job API.
        router_port: Of the router; None leaves it out.
        mlflow_port: Of the MLflow server; None tracks into the home's own database.
        ray_port: Of Ray's head; None runs jobs as plain processes.
        dashboard_port: Of Ray's dashboard, which is also its jobs port.
        num_cpus: CPUs that Ray may give away.
        tracking_uri: The MLflow store in the place of one of its own, or None.
        data_roots: Folders and prefixes of URIs that specs may name data and models under; none
            leaves what the settings say.
    """

    home: Path
    api_port: int = 8080
    router_port: int | None = 8000
    mlflow_port: int | None = 5000
    ray_port: int | None = 6379
    dashboard_port: int = 8265
    num_cpus: int = 2
    tracking_uri: str | None = None
    data_roots: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the service keeps its own files."""
        return self.home / "service"

    @property
    def logs(self) -> Path:
        """A log file for each part."""
        return self.folder / "logs"

    @property
    def record(self) -> Path:
        """What was started last, for clients and for whoever cleans up."""
        return self.folder / "up.json"

    @property
    def lock(self) -> Path:
        """Held as long as the service runs."""
        return self.folder / "up.lock"

    @property
    def admin_key(self) -> Path:
        """The administrator's key."""
        return self.folder / "admin.key"

    @property
    def ray_token(self) -> Path:
        """What everything that speaks to this Ray must show."""
        return self.folder / "ray.token"

    @property
    def mark(self) -> str:
        """Tells the processes of this home's service from all others."""
        return hashlib.sha256(f"{os.getuid()} {self.home}".encode()).hexdigest()[:16]

    @property
    def ray_folder(self) -> Path:
        """Where Ray keeps its sessions; its sockets need a short path."""
        return Path(tempfile.gettempdir()) / f"ratchet-ray-{self.mark}"

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each part that has one."""
        ports = {"api": self.api_port, "router": self.router_port, "mlflow": self.mlflow_port}
        if self.ray_port is not None:
            ports["ray"] = self.dashboard_port
        return {part: f"http://{HOST}:{port}" for part, port in ports.items() if port is not None}

    @property
    def ports(self) -> dict[str, int]:
        """The port of each option that is in use."""
        ports = {
            "--api-port": self.api_port,
            "--router-port": self.router_port,
            "--mlflow-port": self.mlflow_port,
            "--ray-port": self.ray_port,
            "--dashboard-port": None if self.ray_port is None else self.dashboard_port,
        }
        return {option: port for option, port in ports.items() if port is not None}


def check_ports(layout: Layout) -> None:
    """Make sure that every port is free, before anything is started.

    Raises:
        SpecError: All that are taken, and those given twice.
    """
    problems: list[Problem] = []
    seen: dict[int, str] = {}
    for option, port in layout.ports.items():
        if port in seen:
            problems.append(Problem(option, f"the same as {seen[port]}", port, "Give another"))
        elif not _is_free(port):
            problems.append(Problem(option, "another program listens there", port, "Give another"))
        seen[port] = option
    if problems:
        raise SpecError(problems)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
